"""What a first plan costs Python, stage by stage, in the page's own Pyodide: no device and no engine takes part.

    python3 serve.py bench --compiling mobilenet-v2,roberta-base
    python3 serve.py bench --compiling all --device wasm --rounds 5

Each model is read, bound to its shapes and compiled by the page's compiler, for a GPU as `H200` describes it or for
WebAssembly; caches of kernels and of decisions are emptied before each round. Stages are those of the first round, for
which a visitor waits who has had the page open for two seconds; the least of all rounds is what the code costs.
Milliseconds; code: what writing kernels took of it; slowest: the one that took longest; gc: the
garbage collector.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.models import catalogue
from tests.support.browser import Lab, started

MODELS = ("mobilenet-v2", "resnet-50", "roberta-base", "t5-small", "bart-base", "gpt2")
H200: dict[str, Any] = {
    "vendor": "nvidia",
    "architecture": "",
    "features": [
        "core-features-and-limits", "chromium-experimental-subgroup-matrix", "subgroups", "shader-f16",
        "timestamp-query",
    ],
    "limits": {
        "minStorageBufferOffsetAlignment": 256, "maxStorageBufferBindingSize": 2147483644, "maxBufferSize": 4294967292,
        "maxStorageBuffersPerShaderStage": 16, "maxComputeWorkgroupStorageSize": 49152,
        "maxComputeInvocationsPerWorkgroup": 1024, "maxComputeWorkgroupSizeX": 1024, "maxComputeWorkgroupSizeY": 1024,
        "maxComputeWorkgroupSizeZ": 64, "maxComputeWorkgroupsPerDimension": 65535,
    },
    "subgroup": 32,
    "subgroupMax": 32,
    "invocations": 16384,
    "matrices": [["f16", "f32", 16, 16, 16], ["i8", "i32", 16, 16, 32]],
}  # fmt: skip
"""What Chromium says of an H200, as far as schedules depend on it."""
STAGES = ("read", "bind", "lower", "link", "answer")
WARMING_MS = 2000
"""In which the compiler has tried itself out (runtime/warming.py)."""
INSIDE = Path(__file__).with_name("compiling_inside.py")


class Compiling:
    """A page whose compiler is asked; `device` is "webgpu" or "wasm"."""

    def __init__(self, lab: Lab, device: str, threads: int) -> None:
        self.lab, self.device, self.threads = lab, device, threads
        self.page: Page = lab.page()
        self.page.set_default_timeout(0)
        self.page.evaluate("async () => { window.nnjit = await import('/nnjit.js'); await nnjit.ready; }")
        self.page.wait_for_timeout(WARMING_MS)
        self._python(INSIDE.read_text())

    def _python(self, code: str) -> Any:
        return self.page.evaluate("(code) => nnjit.python(code)", code)

    def rounds(
        self, name: str, batch: int, rounds: int, profile: bool = False, calls: bool = False
    ) -> list[dict[str, Any]]:
        """Milliseconds by stage, counts, and with profile a table of functions, of each round. calls: those of one more
        round, counted in the first."""
        model = catalogue.MODELS[name]
        path = model.path()
        url = self.lab.server.url.rstrip("/") + self.lab.site.mount(f"m/{name}", path.parent) + path.name
        feeds = model.make(batch, *model.shapes[0][1:], seed=1000)
        job = {
            "url": url,
            "shapes": {n: list(v.shape) for n, v in feeds.items()},
            "gpu": H200 if self.device == "webgpu" else None,
            "threads": self.threads,
            "rounds": rounds,
            "profile": profile,
            "calls": calls,
        }
        return list(json.loads(self._python(f"await measured({json.dumps(json.dumps(job))})")))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench --compiling", description=__doc__.splitlines()[0])
    parser.add_argument(
        "models", nargs="?", default="all", help="names separated by commas; default %(default)s"
    )
    parser.add_argument("--device", default="webgpu", choices=("webgpu", "wasm"))
    parser.add_argument("--batch", default="1", help="batch sizes; default %(default)s")
    parser.add_argument(
        "--rounds", type=int, default=3, help="how often each is compiled; default %(default)s"
    )
    parser.add_argument(
        "--profile", action="store_true", help="the functions that take longest, of each round"
    )
    parser.add_argument(
        "--calls", action="store_true", help="also how many calls of Python functions that is, on any machine"
    )
    args = parser.parse_args(argv)
    with started() as lab:
        show(Compiling(lab, args.device, 2), args)
    return 0


def show(compiling: Compiling, args: argparse.Namespace) -> None:
    """The table, a row as soon as it is there."""
    last = f"least of {args.rounds}"
    head = [f"{args.device}: model", *STAGES, "all", last, "kernels", "steps", "code", "slowest", "gc"]
    head += ["calls"] if args.calls else []
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for name in MODELS if args.models == "all" else args.models.split(","):
        for batch in map(int, args.batch.split(",")):
            found = compiling.rounds(name, batch, args.rounds, args.profile, args.calls)
            first = found[0]
            total = [sum(one[s] for s in STAGES) for one in found]
            cells = [f"{first[s]:.0f}" for s in STAGES]
            label = name if batch == 1 else f"{name} x{batch}"
            ends = [f"{total[0]:.0f}", f"{min(total):.0f}", *(str(first[n]) for n in ("kernels", "steps"))]
            made = [f"{first[n]:.0f}" for n in ("emitted", "slowest", "collector")]
            made += [str(first["calls"])] if args.calls else []
            print(f"| {label} | {' | '.join([*cells, *ends, *made])} |", flush=True)
            for one in found:
                print(one.get("table", ""), end="")
