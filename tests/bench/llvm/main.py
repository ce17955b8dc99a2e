"""The same loop nests through LLVM: what a candidate costs to compile, and which code is faster.

    python3 serve.py bench --llvm            some two minutes, after the compilers are there
    python3 serve.py bench --llvm --docs     and the table in docs/benchmarks.md

Every candidate (a spec and a schedule) is made three ways: bytes written directly by nnjit in the browser's Python,
then WebAssembly.compile; C with intrinsics by emcc -O3; the same C by clang -O3 and wasm-ld. The direct code and
clang's, as it is and without loop strength reduction (which costs LLVM the constant offsets of loads), then run in one
page in turn, on one memory; their outputs must agree, and the faster of clang's two is the opponent. Wants Debian's
packages emscripten, clang-19 and lld-19 (clang 14, which emcc drives there, knows relaxed SIMD by other numbers, so its
code is timed in the making only); as root they are installed when they are not there.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import exp, log
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.steps import describe
from nnjit.codegen.wasm.target import Target
from nnjit.tune import schedules
from nnjit.tune.space_wasm import space_of
from tests.bench.llvm.print_c import print_c
from tests.bench.llvm.specs import SPECS
from tests.bench.tables.report import write_section
from tests.support.browser import Lab

PACKAGES = ("emscripten", "clang-19", "lld-19")
FILE = Path(__file__).parents[1] / "results" / "llvm.json"
PER_SPEC = 3
TIMES = 3
HOW = {"warmMs": 90, "rounds": 9, "sampleMs": 4}
TOLERANCE = 1e-4
C_FLAGS = ("-O3", "-msimd128", "-mrelaxed-simd")
NO_LSR = ("-mllvm", "-disable-lsr")
EMCC = ("--no-entry", "-sEXPORTED_FUNCTIONS=_kernel", "-sIMPORTED_MEMORY=1")
LD = ("--no-entry", "--import-memory", "--export=kernel", "--stack-first", "-z", "stack-size=32768")
EMIT = """
import json, time
import numpy as np
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.wasm.emit import emit_module
from nnjit.codegen.wasm.target import Target
from nnjit.tune import schedules
def emit_candidate(name, text):
    global took
    schedule = schedules.from_json(json.loads(text))
    start = time.perf_counter()
    made = emit_module(apply(SPECS[name], schedule), Target())
    took = 1e3 * (time.perf_counter() - start)
    return np.frombuffer(made, np.uint8)
"""
DIRECT = """async ([name, schedule]) => {
  const bytes = await nnjit.python(`emit_candidate(${JSON.stringify(name)}, ${JSON.stringify(schedule)})`);
  window.direct[name + schedule] = new Uint8Array(await bytes.getData());
  return nnjit.python('took');
}"""
DUEL = """async ([name, schedule, times, clang, operands, tiles, how]) => {
  const { compileMs, duel } = await import('/t/bench/llvm/main.js');
  const direct = window.direct[name + schedule];
  const theirs = clang.map((text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
  const found = await duel([direct, ...theirs], operands, tiles, how);
  return { ...found, compileMs: await compileMs(direct, times), bytes: direct.length };
}"""


@dataclass
class Row:
    """One candidate. Times in ms: direct = emission in Pyodide and WebAssembly.compile; emcc and clang = processes.
    The emission is the candidate's first and only one, after as many others: as a tuner has it."""

    spec: str
    schedule: str
    emit_ms: float
    compile_ms: float
    emcc_ms: float
    clang_ms: float
    direct_kernel_ms: float
    clang_kernel_ms: float
    no_lsr_kernel_ms: float
    direct_bytes: int
    clang_bytes: int
    error: float

    @property
    def direct_ms(self) -> float:
        return self.emit_ms + self.compile_ms

    @property
    def ratio(self) -> float:
        """Time of the faster of LLVM's codes over that of the direct one: above 1 the direct code is faster."""
        return min(self.clang_kernel_ms, self.no_lsr_kernel_ms) / self.direct_kernel_ms


def tools() -> str:
    """ "" when the compilers are there (installed now, as root on Debian), else what to do."""

    def missing() -> list[str]:
        return [t for t in ("emcc", "clang-19", "wasm-ld-19") if shutil.which(t) is None]

    if missing() and shutil.which("apt-get") and os.geteuid() == 0:
        print(f"install {', '.join(PACKAGES)}", flush=True)
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-q"], ["install", "-qy", "--no-install-recommends", *PACKAGES]):
            subprocess.run(["apt-get", *command], env=env, capture_output=True, check=False)
    if missing():
        return f"no {', '.join(missing())}; sudo apt-get install {' '.join(PACKAGES)}"
    return ""


def candidates(shift: int = 0) -> list[tuple[str, Any]]:
    """(spec's name, schedule): of each lite space the default, and two from further down its order; with `shift`,
    those that come so many places later."""
    out = []
    for name, spec in SPECS.items():
        lite = space_of(spec, Target()).lite()
        ranks = [i * len(lite) // PER_SPEC for i in range(PER_SPEC)]
        out += [(name, lite[(rank + shift) % len(lite)]) for rank in sorted(set(ranks))]
    return out


def took(commands: Sequence[Sequence[str]], folder: Path, times: int) -> float:
    """Median ms of the commands one after another; an error with what they said when one fails."""
    readings = []
    for _ in range(times):
        start = time.perf_counter()
        for command in commands:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{command[0]}: {done.stderr[-2000:]}")
        readings.append(1e3 * (time.perf_counter() - start))
    return median(readings)


def compiled(source: str, folder: Path) -> tuple[float, float, list[bytes]]:
    """(ms of emcc, ms of clang and wasm-ld, clang's modules: as it is, and without loop strength reduction)."""
    (folder / "kernel.c").write_text(source)
    emcc = took([["emcc", *C_FLAGS, "kernel.c", "-o", "e.wasm", *EMCC]], folder, 1)
    clang = ["clang-19", "--target=wasm32", "-nostdlib", *C_FLAGS, "-c", "kernel.c", "-o", "kernel.o"]
    link = ["wasm-ld-19", *LD, "kernel.o", "-o", "kernel.wasm"]
    took([[*clang, *NO_LSR], link], folder, 1)
    plain = (folder / "kernel.wasm").read_bytes()
    ms = took([clang, link], folder, TIMES)
    return emcc, ms, [(folder / "kernel.wasm").read_bytes(), plain]


def main(lab: Lab, docs: bool = False) -> int:
    problem = tools()
    if problem:
        print(problem, file=sys.stderr)
        return 1
    page = lab.page()
    page.evaluate("async () => { window.nnjit = (await import('/nnjit.js')).default; await nnjit.ready; }")
    specs = Path(__file__).with_name("specs.py").read_text()
    page.evaluate(
        "code => nnjit.python(code)", specs.replace("from __future__ import annotations\n", "") + EMIT
    )
    page.evaluate("() => { window.direct = {}; }")
    for name, schedule in candidates(1):
        page.evaluate(DIRECT, [name, json.dumps(schedules.to_json(schedule))])
    every = [(name, schedule, json.dumps(schedules.to_json(schedule))) for name, schedule in candidates()]
    emitted = [page.evaluate(DIRECT, [name, text]) for name, _, text in every]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        compiled(
            print_c(apply(SPECS[every[0][0]], every[0][1])), folder
        )  # emcc makes its libraries at first use
        for (name, schedule, text), emit_ms in zip(every, emitted, strict=True):
            nest = apply(SPECS[name], schedule)
            emcc_ms, clang_ms, modules = compiled(print_c(nest), folder)
            operands = [{"size": o.size, "role": o.role} for o in nest.operands]
            codes = [base64.b64encode(module).decode() for module in modules]
            found = page.evaluate(DUEL, [name, text, TIMES, codes, operands, nest.tiles, HOW])
            if not found["error"] <= TOLERANCE:
                raise RuntimeError(f"{name}, {describe(schedule)}: outputs differ by {found['error']}")
            row = Row(name, describe(schedule), emit_ms, found["compileMs"], emcc_ms, clang_ms,
                      *found["ms"], found["bytes"], len(modules[0]), found["error"])  # fmt: skip
            rows.append(row)
            print(line(row), flush=True)
    page.context.close()
    data = {"date": time.strftime("%Y-%m-%d"), "browser": lab.browser.version, "versions": versions(),
            "summary": summary(rows), "rows": [asdict(r) for r in rows]}  # fmt: skip
    FILE.write_text(json.dumps(data, indent=1) + "\n")
    print("\n" + table(data))
    if docs:
        write_section("llvm", table(data))
    return 0


def line(r: Row) -> str:
    kernels = (
        f"{r.direct_kernel_ms:7.3f} | {r.clang_kernel_ms:7.3f} {r.no_lsr_kernel_ms:7.3f} ms  x{r.ratio:4.2f}"
    )
    return (
        f"{r.spec:32s} direct {r.emit_ms:6.1f} + {r.compile_ms:4.2f} ms  emcc {r.emcc_ms:6.0f}  clang {r.clang_ms:5.0f}"
        f"   kernel {kernels}  {r.schedule}"
    )


def geomean(values: Sequence[float]) -> float:
    return exp(sum(map(log, values)) / len(values))


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """p50 of the compile times, their quotients, and the geometric mean of the kernels' quotients by kind."""
    direct, emcc, clang = (median(getattr(r, f"{n}_ms") for r in rows) for n in ("direct", "emcc", "clang"))
    kinds = {
        kind: [r.ratio for r in rows if r.spec.startswith(kind)]
        for kind in ("product", "convolution", "depthwise")
    }
    return {
        "candidates": len(rows),
        "direct p50 ms": direct,
        "of which emission": median(r.emit_ms for r in rows),
        "emcc p50 ms": emcc,
        "clang p50 ms": clang,
        "emcc / direct": emcc / direct,
        "clang / direct": clang / direct,
        "kernel ratio": geomean([r.ratio for r in rows]),
        **{f"kernel ratio, {kind}": geomean(ratios) for kind, ratios in kinds.items() if ratios},
    }


def versions() -> dict[str, str]:
    out = {}
    for name in ("emcc", "clang-19"):
        done = subprocess.run([name, "--version"], capture_output=True, text=True, check=False)
        out[name] = done.stdout.splitlines()[0] if done.stdout else ""
    return out


def table(data: dict[str, Any]) -> str:
    s = data["summary"]
    emission = f"emission in Pyodide ({s['of which emission']:.1f})"
    rows = [Row(**fields) for fields in data["rows"]]
    direct = [r.direct_ms for r in rows]
    others = (
        ("clang -O3 and wasm-ld", "clang", [r.clang_ms for r in rows]),
        ("emcc -O3", "emcc", [r.emcc_ms for r in rows]),
    )
    lines = [
        f"{s['candidates']} candidates of {len(SPECS)} specs; p50 of each way to compile one, "
        f"Chromium {data['browser']}, {data['date']}:",
        "",
        "| way | p50, ms | quarters, ms | p50 over the direct p50 | each candidate's own quotient: p50, quarters |",
        "|---|---|---|---|---|",
        f"| direct: {emission} and WebAssembly.compile | {s['direct p50 ms']:.1f} | {spread(direct, 1)} | 1 | |",
        *(
            f"| {way} | {s[f'{key} p50 ms']:.0f} | {spread(ms, 0)} | {s[f'{key} / direct']:.0f} | "
            f"{median(own):.0f}, {spread(own, 0)} |"
            for way, key, ms in others
            for own in [[a / b for a, b in zip(ms, direct, strict=True)]]
        ),
        "",
        "Time of clang's code (with or without loop strength reduction, whichever is faster) over that of the direct",
        "code, in one page in turn (above 1: the direct code is faster):",
        "",
        "| kernels | geometric mean | least | most |",
        "|---|---|---|---|",
    ]
    for kind in ("product", "convolution", "depthwise", ""):
        ratios = [r.ratio for r in rows if r.spec.startswith(kind)]
        lines.append(f"| {kind or 'all'} | {geomean(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f} |")
    return "\n".join(lines)


def spread(values: Sequence[float], digits: int) -> str:
    """The quartiles, lower and upper."""
    low, _, high = quantiles(values, n=4)
    return f"{low:.{digits}f} to {high:.{digits}f}"
