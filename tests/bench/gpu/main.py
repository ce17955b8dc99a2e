"""WebGPU side by side, in one page: shaders by timestamp queries, peers and models by the wall clock.

    python3 serve.py bench --gpu all                 everything, part by part in half an hour (all_parts.py)
    python3 serve.py bench --gpu                     the usual parts in one page
    python3 serve.py bench --gpu products,models     parts: products, bytes, vectors, attention, dispatch, models ...
    python3 serve.py bench --gpu models --models resnet-50,gpt2
    python3 serve.py bench --gpu choices --models resnet-50 --batch 8    the rules' choices beside others

The browser and the adapter that is expected come from NNJIT_DEVICE_* (tests/device/conftest.py). Writes
tests/bench/results/gpu-DATE.json with adapter, browser and flags; for every shape all candidates that were timed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.bench.gpu import (
    all_parts,
    choices,
    decode,
    dispatch,
    heads,
    models,
    products,
    readback,
    tiles,
    vectors,
)
from tests.bench.gpu.page import Bench, Say
from tests.device.conftest import ADAPTER, executable, flags, vendor
from tests.support import decoder_models
from tests.support.browser import Lab

RESULTS = Path(__file__).parents[1] / "results"
MODELS = ("mobilenet-v2", "resnet-50", "t5-small", "gpt2", "roberta-base", "bart-base")


PARTS: dict[str, Callable[[Bench], None]] = {
    "cublas": products.cublas,
    "products": products.products,
    "bytes": products.in_bytes,
    "vectors": vectors.vectors,
    "attention": heads.attention,
    "dispatch": dispatch.dispatch,
    "models": models.models,
    "decode": decode.decode,
    "readback": readback.readback,
}
MORE: dict[str, Callable[[Bench], None]] = {
    "choices": choices.choices,
    "tiles": tiles.tiles,
    "half-sums": products.half_sums,
}
"""Parts that run only if they are named."""


def main(arguments: list[str], say: Say = print) -> int:
    if arguments[:1] == ["all"]:
        return all_parts.main(arguments[1:])
    parser = argparse.ArgumentParser(prog="bench --gpu", description=__doc__)
    parser.add_argument("parts", nargs="?", default=",".join(PARTS))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument(
        "--candidates", type=int, default=12, help="schedules timed a shape; default %(default)s"
    )
    parser.add_argument("--shapes", default="", help="products instead of the usual ones: 3072x768x768,...")
    parser.add_argument("--heads", default="", help="attention instead of the usual: 12x1024x64,...")
    parser.add_argument("--vectors", type=int, default=12, help="the same of a row by a matrix")
    parser.add_argument(
        "--listed", type=int, default=24, help="the same of the tuner's list, of weights of few bits"
    )
    parser.add_argument("--types", default="f32,f16,4 bits,8 bits", help="of a row's matrices")
    parser.add_argument(
        "--vector", default="4096x4096", help="rows and columns of that matrix, or of several"
    )
    parser.add_argument("--cold", type=int, default=1024, help="MiB of matrices read in turn")
    parser.add_argument("--outputs", default=",".join(map(str, readback.SIZES)), help="MB read back")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--batch", default="1", help="how many inputs a run of a model takes: 1, or 1,8")
    parser.add_argument("--queued", type=int, default=100, help="runs of a model that dispatch queues")
    parser.add_argument("--runs", type=int, default=dispatch.RUNS, help="the same of its chain of steps")
    parser.add_argument("--vocabulary", type=int, default=decoder_models.GPT2.vocabulary)
    parser.add_argument("--layers", type=int, default=decoder_models.GPT2.layers, help="of the decoder")
    parser.add_argument("--prompt", type=int, default=100, help="tokens before the first one that is decoded")
    parser.add_argument("--tokens", type=int, default=40, help="tokens decoded; default %(default)s")
    parser.add_argument("--grid", default="12x11", help="tiles down and across that give each processor one")
    parser.add_argument(
        "--sums", default="768,1536,3072", help="elements of a sum in f32, f16 and i8, for tiles"
    )
    parser.add_argument("--new", action="store_true", help="tiles that the tables have no times of")
    parser.add_argument("--tiles", type=int, default=999, help="of each type, at most")
    parser.add_argument("--stays", action="store_true", help="models also with outputs left on the GPU")
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    every = PARTS | MORE
    if unknown := set(options.parts.split(",")) - every.keys():
        raise SystemExit(f"no part {', '.join(sorted(unknown))}: there are {', '.join(every)}")
    from nnjit.devtools.cli import Project
    from nnjit.devtools.httpd import Server

    project = Project()
    project.vendor.ensure("runtime", "bench-gpu")
    project.dist.refresh()
    server = Server(project.site())
    server.start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=flags())
        lab = Lab(server, browser)
        page = lab.page()
        page.set_default_timeout(0)
        adapter = page.evaluate(ADAPTER)
        if vendor() not in adapter.lower():
            raise SystemExit(f"the adapter is {adapter!r}; {vendor()!r} is expected")
        page.evaluate("import('/t/bench/gpu/main.js').then(() => true)")
        bench = Bench(page, lab, options, say)
        record = {"date": time.strftime("%Y-%m-%dT%H:%M:%S"), "adapter": adapter, "browser": browser.version,
                  "flags": flags(), "facts": bench.facts, "results": bench.result}  # fmt: skip
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / f"gpu-{time.strftime('%Y%m%d-%H%M%S')}.json"

        def save() -> None:
            path.write_text(json.dumps(record, indent=1))

        bench.save = save
        for part in options.parts.split(","):
            try:
                every[part](bench)
            except Exception as error:
                say(f"{part} stopped: {error}")
                bench.result[f"{part} stopped"] = str(error)
            save()  # what is measured is kept, whatever comes after
        say(str(path))
        browser.close()
    server.shutdown()
    server.server_close()
    return 0
