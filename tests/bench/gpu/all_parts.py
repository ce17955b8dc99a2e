"""Every WebGPU bench in a good order, for a machine whose GPU is there for half an hour. Each part is a process of its
own with a limit of its own; its record lies in tests/bench/results as soon as it ends, and the next part comes whatever
became of it.

    python3 serve.py bench --gpu all                                      30 minutes at most
    python3 serve.py bench --gpu all --minutes 9 --archive gpu.tar.gz     ends by itself, and says how to go on
    python3 serve.py bench --gpu all --parts models,first
    python3 serve.py bench --gpu all --small                              least sizes: does each part work at all

A part that is killed at its limit leaves what it had measured by then. Records are gpu-DATE-PART.json, and
gpu-DATE-all.json says what became of each part. `python3 -m tests.bench.gpu.tables RECORD...` makes tables of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
RESULTS = Path(__file__).parents[1] / "results"
LEAST = 1 / 3
"""Of a part's limit: with less time left it is not begun, because it would hardly get through."""
SMALL_S = 240
"""The limit of each part at least sizes: how long one takes depends on what else the machine does."""
GRACE_S = 5
"""Between asking a part to end and ending it."""


@dataclass(frozen=True, slots=True)
class Part:
    """A module of tests/ with its arguments; `small` replaces `usual`. {out}: the folder for its records."""

    name: str
    seconds: int
    module: str
    usual: str
    small: str


def _bench(name: str, seconds: int, usual: str = "", small: str = "") -> Part:
    before, after = f"--gpu {name} --out {{out}}", "--repeats 1"
    return Part(name, seconds, "tests.bench.run", f"{before} {usual}", f"{before} {after} {small}")


def _claim(name: str, seconds: int, usual: str, small: str) -> Part:
    before = f"--claims {name}"
    return Part(name, seconds, "tests.bench.run", f"{before} {usual}", f"{before} {small}")


TINY = "--shapes 64x64x64,1x64x96,130x48x64 --candidates 2 --no-peers"
USES = "backend=webgpu"
PARTS = (
    Part("suite", 300, "tests.bench.gpu.suite", "{out}", "{out} tests/device/test_limits.py"),
    _bench("cublas", 90, "--vector 4096x4096,4096x11008,11008x4096", TINY),
    _bench("products", 180, "", TINY),
    _bench("bytes", 60, "", TINY),
    _bench("vectors", 120, "--vector 4096x4096,4096x11008,11008x4096 --vectors 6",
           "--vector 256x128 --vectors 2 --listed 2 --cold 1"),
    _bench("attention", 90, "", "--heads 2x64x16 --candidates 2 --no-peers"),
    _bench("dispatch", 60, "", "--models= --runs 2"),
    _bench("models", 300, "--batch 1,8 --stays", "--models magika --stays"),
    Part("first", 450, "tests.bench.run", "--first --batch 1,8 --repeats 3 --out {out}",
         "--first mobilenet-v2 --repeats 1 --out {out} --no-peers"),
    _bench("decode", 120, "", "--layers 1 --vocabulary 997 --prompt 4 --tokens 5 --no-peers"),
    _bench("readback", 90, "--repeats 5", "--outputs 9"),
    Part("tune", 150, "tests.bench.tune",
         "mobilenet-v2 resnet-50 roberta-base bart-base --backend webgpu --gap -1 --seconds 25 --out {out}",
         "several-forms --backend webgpu --gap -1 --seconds 5 --out {out}"),
    _claim("live", 90, f"mobilenet-v2 {USES} start=drawn gapMs=20 tuneMs=14000 afterMs=2000",
           f"silero-vad {USES} tuneMs=1500 afterMs=500 gapMs=20"),
    _claim("overhead", 90, f"mobilenet-v2 {USES} way=stream beforeMs=3000 tuneMs=6000 afterMs=3000",
           f"silero-vad {USES} way=stream beforeMs=500 tuneMs=1000 afterMs=500"),
    _claim("p99", 120, f"mobilenet-v2 {USES} blocks=4 mostMs=60000",
           f"silero-vad {USES} blockMs=500 blocks=1 runs=10 mostMs=8000"),
    Part("spaces", 150, "tests.bench.tune", "--backend webgpu --sample 60 --seconds 120 --out {out}",
         "rows --backend webgpu --sample 2 --seconds 1 --out {out}"),
    _bench("choices", 120, "--models resnet-50,roberta-base --batch 8 --candidates 6",
           "--models silero-vad --candidates 1"),
    _bench("tiles", 120, "", "--grid 1x1 --sums 32,32,32 --tiles 2"),
)  # fmt: skip

Say = Callable[[str], None]


def run_part(part: Part, small: bool, out: Path, limit: float, log: Path) -> tuple[str, float]:
    """Runs it and all that it starts, for `limit` seconds at most: what became of it, and how long it took."""
    words = (part.small if small else part.usual).format(out=out).split()
    search = os.pathsep.join(filter(None, [str(ROOT / "py"), os.environ.get("PYTHONPATH", "")]))
    variables = {**os.environ, "PYTHONPATH": search, "PYTHONUNBUFFERED": "1", "NNJIT_CLAIMS": str(out)}
    start = time.monotonic()
    with log.open("wb") as file, _told():
        child = subprocess.Popen(
            [sys.executable, "-m", part.module, *words], cwd=ROOT, env=variables, stdin=subprocess.DEVNULL,
            stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code = child.wait(limit)
            status = "done" if code == 0 else f"failed with {code}"
        except subprocess.TimeoutExpired:
            status = f"stopped after {limit:.0f} s"
        finally:
            _end(child)
    return status, time.monotonic() - start


@contextmanager
def _told() -> Iterator[None]:
    """Signals that end this process are SystemExit meanwhile: they do not reach the part, which is to end first."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    signs = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) == signal.SIG_DFL]
    for sign in signs:
        signal.signal(sign, leave)
    try:
        yield
    finally:
        for sign in signs:
            signal.signal(sign, signal.SIG_DFL)


def _end(child: subprocess.Popen[bytes]) -> None:
    """The process and its browser, which are a group of their own; nothing where all of them have gone."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_S)


def whole(path: Path) -> bool:
    """Whether a record can be read. What a part was writing when it was ended cannot; of lines, those before it can."""
    text = path.read_text(errors="replace")
    if path.suffix == ".jsonl":
        kept = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        path.write_text("".join(kept))
        return bool(kept)
    with suppress(ValueError):
        return json.loads(text) is not None
    return False


def collected(part: str, made: Path, stamp: str, out: Path) -> list[Path]:
    """The records of a part under their names in `out`."""
    found = sorted(p for p in made.iterdir() if p.suffix in (".json", ".jsonl") and whole(p))
    moved = []
    for path in found:
        own = f"-{path.stem}" if len(found) > 1 else ""
        to = out / f"gpu-{stamp}-{part}{own}{path.suffix}"
        shutil.copyfile(path, to)
        moved.append(to)
    return moved


def said(path: Path, what: str) -> list[str]:
    """What a record says of parts that `stopped` or were `left out`: the bench ends with a record in any case."""
    if path.suffix != ".json":
        return []
    record: Any = json.loads(path.read_text())
    results = record.get("results", {}) if isinstance(record, dict) else {}
    return [f"{name}: {why}" for name, why in results.items() if name.endswith(f" {what}")]


def wanted(names: str, less: str = "") -> list[Part]:
    """In their order; SystemExit for one that there is not."""
    known = {p.name: p for p in PARTS}
    asked, left_out = (set(filter(None, text.split(","))) for text in (names, less))
    if unknown := (asked | left_out) - known.keys():
        raise SystemExit(f"no part {', '.join(sorted(unknown))}: there are {', '.join(known)}")
    return [p for p in PARTS if (p.name in asked or not asked) and p.name not in left_out]


def main(arguments: list[str], say: Say = lambda text: print(text, flush=True)) -> int:
    parser = argparse.ArgumentParser(
        prog="bench --gpu all", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="for all of them; default %(default)s")
    parser.add_argument("--parts", default="", help="these alone: " + ",".join(p.name for p in PARTS))
    parser.add_argument("--without", default="", help="all but these")
    parser.add_argument("--small", action="store_true", help="least sizes, which a software adapter can do")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument(
        "--archive", type=Path, help="also all records and logs in a .tar.gz, after each part"
    )
    options = parser.parse_args(arguments)
    parts, stamp = wanted(options.parts, options.without), time.strftime("%Y%m%d-%H%M%S")
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.minutes
    index: dict[str, Any] = {"date": time.strftime("%Y-%m-%dT%H:%M:%S"), "small": options.small, "parts": []}
    records: list[Path] = []
    with tempfile.TemporaryDirectory() as scratch:
        logs: list[Path] = []
        for part in parts:
            left = end - time.monotonic()
            limit = SMALL_S if options.small else part.seconds
            if left < LEAST * limit:
                index["parts"].append(
                    {"name": part.name, "status": "no time left", "seconds": 0.0, "files": []}
                )
                continue
            made, log = Path(scratch, part.name), Path(scratch, f"{part.name}.log")
            made.mkdir()
            try:
                status, seconds = run_part(part, options.small, made, min(limit, left), log)
            except BaseException:  # this process is to end
                collected(part.name, made, stamp, out)
                raise
            files = collected(part.name, made, stamp, out)
            wrong, missed = (
                [line for path in files for line in said(path, how)] for how in ("stopped", "left out")
            )
            if status == "done" and (wrong or not files):
                status = "; ".join(wrong)[:400] or "no record"
            records, logs = [*records, *files], [*logs, log]
            names = [path.name for path in files]
            index["parts"].append(
                {"name": part.name, "status": status, "seconds": round(seconds, 1), "files": names}
            )
            say(f"{part.name:10s} {seconds:6.1f} s  {status}  {' '.join([*names, *missed])}")
            if status != "done":
                say("".join(f"    {line}\n" for line in log.read_text(errors="replace").splitlines()[-12:]))
            summary = out / f"gpu-{stamp}-all.json"
            summary.write_text(json.dumps(index, indent=1) + "\n")
            if options.archive:
                _packed(options.archive, [summary, *records, *logs])
    missing = [p["name"] for p in index["parts"] if p["status"] != "done"]
    if records:
        from tests.bench.gpu.tables import tables

        say("\n" + tables(records)["bars"])
    if missing:
        say(f"\nnot done: --parts {','.join(missing)}")
    return 1 if missing else 0


def _packed(to: Path, paths: list[Path]) -> None:
    """Written anew each time, and put in place whole."""
    part = to.with_name(f"{to.name}.part")
    with tarfile.open(part, "w:gz") as archive:
        for path in paths:
            archive.add(path, path.name)
    part.replace(to)
