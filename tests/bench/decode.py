"""Inputs whose lengths change with every run, nnjit and onnxruntime-web in turn in one page.

    python3 serve.py bench --decode                          a decoder of GPT-2's size, and sentences to MiniLM
    python3 serve.py bench --decode sentences --threads 2
    python3 serve.py bench --decode audio,batches --threads 2 [--exact]
    python3 serve.py bench --decode tokens --layers 4 --prompt 20 --tokens 40

*tokens*: a prompt, then one token a run, which is fed the keys and values of the runs before; the same tokens to
both. *sentences*: lengths drawn from 5 to 120. *audio*: half a second to three, to a small recogniser built like
wav2vec 2. *batches*: one to eight sentences at a time. With --exact each shape has a plan of its own. Times are ms of
run() with whatever it waits for, such as a plan; *in engine*: median of what kernels take, *beside it*: of the rest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page

from tests.models import catalogue, inputs
from tests.support import audio_models, decoder_models
from tests.support.browser import Lab, started
from tests.support.codec import Packer, bundle

LIBRARIES = ("nnjit", "onnxruntime-web")
FIRST = 3
"""Runs that are not judged by the median: the prompt, and the two that show how lengths change."""
SHORTEST, LONGEST, SENTENCES = 5, 120, 30
BATCH = 8
SAMPLES = (8000, 48000)
"""Of sound, at 16 kHz."""


def model_file(size: decoder_models.Size) -> Path:
    """The decoder's file."""
    return kept_model("decoder", decoder_models, size, decoder_models.decoder)


def kept_model(name: str, builder: Any, size: Any, build: Callable[[Any], bytes]) -> Path:
    """A model's file, kept until the module that builds it changes."""
    recipe = Path(builder.__file__).read_bytes() + repr(size).encode()
    stem = f"{name}-{size.layers}x{size.hidden}"
    path: Path = catalogue.CACHE / f"{stem}-{zlib.crc32(recipe):08x}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(f"{stem}-????????.onnx"):
            old.unlink()
        path.write_bytes(build(size))
    return path


def tokens(page: Page, lab: Lab, options: argparse.Namespace) -> dict[str, Any]:
    size = replace(decoder_models.GPT2, layers=options.layers)
    path = model_file(size)
    url = lab.site.mount("decode", path.parent) + path.name
    count = options.prompt + options.tokens
    ids = np.random.default_rng(3).integers(0, size.vocabulary, count).tolist()
    shape = {"layers": size.layers, "heads": size.heads, "depth": size.depth}
    found: dict[str, Any] = page.evaluate("(a) => bench.tokens(...a)", [url, shape, ids, options.prompt])
    return {"size": asdict(size), "prompt": options.prompt, "times": found}


def sentences(page: Page, lab: Lab, options: argparse.Namespace, most: int = 1) -> dict[str, Any]:
    """most: sentences at a time."""
    model = catalogue.MODELS["minilm"]
    url = lab.site.mount("m/minilm", model.path().parent) + model.path().name
    rng = np.random.default_rng(11)
    lengths = rng.integers(SHORTEST, LONGEST + 1, SENTENCES).tolist()
    batches = rng.integers(1, most + 1, SENTENCES).tolist()
    feeds = [inputs.minilm(b, n, seed=n) for b, n in zip(batches, lengths, strict=True)]
    output = next(iter(model.expected(0)))
    return {"lengths": lengths, "batches": batches, "times": series(page, lab, url, feeds, output)}


def batches(page: Page, lab: Lab, options: argparse.Namespace) -> dict[str, Any]:
    return sentences(page, lab, options, BATCH)


def audio(page: Page, lab: Lab, options: argparse.Namespace) -> dict[str, Any]:
    path = kept_model("recogniser", audio_models, audio_models.Size(), audio_models.recogniser)
    url = lab.site.mount("decode", path.parent) + path.name
    rng = np.random.default_rng(12)
    lengths = rng.integers(SAMPLES[0], SAMPLES[1] + 1, SENTENCES).tolist()
    feeds = [{"input_values": rng.normal(0, 1, (1, n)).astype(np.float32)} for n in lengths]
    return {"lengths": lengths, "times": series(page, lab, url, feeds, "")}


def series(page: Page, lab: Lab, url: str, feeds: list[dict[str, Any]], output: str) -> dict[str, Any]:
    """Each library's times of a run for each feeds. output: the one that is compared; the first if ''."""
    packer = Packer()
    packed = [{name: packer.add(value) for name, value in each.items()} for each in feeds]
    data = lab.site.put("decode/series.bin", bundle({"inputs": packed, "output": output}, packer.blob))
    found: dict[str, Any] = page.evaluate("(a) => bench.series(...a)", [url, data])
    return found


def line(name: str, times: dict[str, Any]) -> str:
    """A row: the first run, the median of those judged, the worst of them that waited for no plan, and of all."""
    ms, cold = times["ms"], set(times["cold"])
    later = ms[FIRST:]
    warm = [value for at, value in enumerate(ms) if at >= FIRST and at not in cold]
    cells = [ms[0], statistics.median(later), max(warm, default=float("nan")), max(later), sum(ms)]
    if times["engineMs"]:
        engine = times["engineMs"]
        cells.append(statistics.median(engine[FIRST:]))
        cells.append(statistics.median([a - b for a, b in zip(ms[FIRST:], engine[FIRST:], strict=True)]))
    waited = f"{len(cold)} of {len(ms)} waited{f', the last {max(cold)}' if cold else ''}"
    plans = f"{times['plans']} plans, {waited}; room for {sizes(times['keys'])}" if times["plans"] else ""
    return (
        f"{name:>18s}" + "".join(f"{value:12.1f}" for value in cells) + f"   off {times['off']:.1g}   {plans}"
    )


def sizes(keys: list[str]) -> str:
    """The capacities of the plans that served, as they came."""
    found = [key.split("n<=")[1].split("|")[0] for key in keys if "n<=" in key]
    return ", ".join(dict.fromkeys(found)) or "no other shape"


STUDIES = {"tokens": tokens, "sentences": sentences, "audio": audio, "batches": batches}
HEAD = f"{'ms':>18s}" + "".join(
    f"{name:>12s}"
    for name in ("first run", "median", "worst warm", "worst", "all runs", "in engine", "beside it")
)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="bench --decode", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="?", default="tokens,sentences", help=f"of {', '.join(STUDIES)}")
    parser.add_argument("--exact", action="store_true", help="nnjit without plans with room")
    parser.add_argument("--threads", default="1,2", help="default %(default)s")
    parser.add_argument("--layers", type=int, default=decoder_models.GPT2.layers)
    parser.add_argument("--prompt", type=int, default=100, help="its length; default %(default)s")
    parser.add_argument("--tokens", type=int, default=64, help="after the prompt; default %(default)s")
    parser.add_argument(
        "--pause",
        type=int,
        default=3000,
        help="ms after the sessions were made, while the models' bytes are put away; default %(default)s",
    )
    parser.add_argument("--backend", default="wasm", choices=("wasm", "webgpu"))
    parser.add_argument("--libraries", default=",".join(LIBRARIES))
    parser.add_argument("--out", type=Path, help="a folder for decode-DATE.json")
    options = parser.parse_args(arguments)
    record: dict[str, Any] = {"date": time.strftime("%Y-%m-%dT%H:%M:%S"), "rows": []}
    with started() as lab:
        for threads in map(int, options.threads.split(",")):
            for study in options.studies.split(","):
                page = lab.page()
                page.set_default_timeout(0)
                page.evaluate(
                    """async (how) => {
                      window.bench = await import('/t/bench/decode.js');
                      await bench.start(...how);
                    }""",
                    [options.libraries.split(","), threads, options.backend, options.pause, options.exact],
                )
                found = STUDIES[study](page, lab, options)
                page.context.close()
                record["rows"].append({"study": study, "threads": threads, **found})
                print(f"\n{study}, {threads} thread(s)\n{HEAD}")
                for name, times in found["times"].items():
                    print(line(name, times), flush=True)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / f"decode-{time.strftime('%Y%m%d-%H%M%S')}.json"
        path.write_text(json.dumps(record, indent=1) + "\n")
        print(path)
    return 0
