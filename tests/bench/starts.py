"""What it costs to start a second thread for a run: short products on one thread and on two, runs at several distances.

    python3 serve.py bench --starts

A row is a product; for each thread count its kernel repeated inside the engine (everything awake), then the steps
inside a run() that comes so long after the one before. What a run takes beyond its kernel is the start: the other
thread spins for a while after a run and then sleeps. Times in microseconds; the table goes to docs/kernels.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.bench.operators.op import Op
from tests.bench.operators.ops import gemm
from tests.bench.tables.products import DOCS
from tests.bench.tables.report import write_section
from tests.support.browser import Lab

SHAPES = (
    (33, 100, 47),
    (1000, 17, 31),
    (17, 768, 768),
    (64, 4096, 64),
    (333, 777, 111),
    (127, 251, 509),
    (384, 768, 768),
)
PAUSES = (0.0, 0.05, 0.2, 1.0, 5.0)
"""ms."""
RUNS = 90


def main(lab: Lab, op_job: Callable[[Lab, Op, int], str], docs: bool) -> int:
    head = f"| M x K x N | threads | kernel | {' | '.join(f'{1e3 * p:.0f} µs' for p in PAUSES)} |"
    rows: dict[tuple[int, ...], list[str]] = {shape: [] for shape in SHAPES}
    for threads in (1, 2):
        page = lab.page("t/bench/bench.html")
        page.evaluate(
            "async (n) => { window.starts = await import('/t/bench/starts.js'); await starts.start(n); }",
            threads,
        )
        for number, (shape, lines) in enumerate(rows.items()):
            how = [op_job(lab, gemm(*shape), number), RUNS, list(PAUSES)]
            found: dict[str, Any] = page.evaluate("(how) => starts.measure(...how)", how)
            cells = [f"{1e3 * p['engine']:.0f} ({1e3 * p['q3']:.0f})" for p in found["pauses"]]
            name = "x".join(map(str, shape))
            lines.append(f"| {name} | {threads} | {1e3 * found['kernel']:.0f} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
        page.context.close()
    text = "\n".join(
        [head, "|---" * (3 + len(PAUSES)) + "|", *(line for lines in rows.values() for line in lines)]
    )
    print("\n" + text)
    if docs:
        write_section("starts", text, DOCS)
    return 0
