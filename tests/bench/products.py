"""The table of matrix products in docs/kernels.md, from results of `serve.py bench --ops gemm`.

python -m tests.bench.products tests/bench/results/A.json B.json      several runs, later rows in place of earlier
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from tests.bench.report import best_peer, ceiling, merge, of_bound, write_section

DOCS = Path(__file__).parents[2] / "docs" / "kernels.md"
MARK = "products"


def section(data: dict[str, Any]) -> str:
    """One row a shape: for each thread count the kernels' and run()'s share of the bound, how many times faster
    than the fastest peer with as many threads, and how many times the bound itself would be."""
    cores = data["about"].get("cores", 0)
    names: list[str] = []
    cells: dict[str, list[str]] = {}
    means: list[str] = []
    head = ["M x K x N"]
    for run in data["runs"]:
        rows = [r for r in run["rows"] if r["name"].startswith("gemm ")]
        many = "1 thread" if run["threads"] == 1 else f"{run['threads']} threads"
        head += [f"{many}: kernel", "run()", "over best", "bound over best"]
        shares: list[list[float]] = [[], [], [], []]
        for row in rows:
            theirs = best_peer(row, run["threads"], cores)
            ours = row["results"]["nnjit"]["median"]
            most = ceiling(row, run["peak"], theirs)
            numbers = [of_bound(row, run["peak"], "kernelMs"), of_bound(row, run["peak"])]
            ratios = [theirs / ours if theirs else None, most]
            name = row["name"].removeprefix("gemm ")
            names += [] if name in names else [name]
            cells.setdefault(name, []).extend(
                [n or "–" for n in numbers] + [f"{r:.2f}" if r else "–" for r in ratios]
            )
            many_rows = not row.get("bandwidth")
            for column, value in zip(shares[:2], numbers, strict=True):
                if many_rows and value:
                    column.append(float(value.removesuffix("%")))
            for column, ratio in zip(shares[2:], ratios, strict=True):
                if ratio:
                    column.append(ratio)
        means += [f"{geometric_mean(s):.0f}%" if s else "–" for s in shares[:2]]
        means += [f"{geometric_mean(s):.2f}" if s else "–" for s in shares[2:]]
    if not names:
        return ""
    about = data["about"]
    peaks = ", ".join(f"{r['peak']:.1f} GFLOP/s at {r['threads']}" for r in data["runs"])
    lines = [
        f"{about['cpu']}, {about['cores']} cores, {about['browser']}, {about['date']}; FMA peak {peaks}.\n",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
        *(f"| {name} | " + " | ".join(cells[name]) + " |" for name in names),
        "| geometric mean (shares: M > 1) | " + " | ".join(means) + " |",
    ]
    return "\n".join(lines)


def main(paths: list[Path]) -> int:
    text = section(merge([json.loads(path.read_text()) for path in paths]))
    print(text)
    write_section(MARK, text, DOCS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main([Path(name) for name in sys.argv[1:]]))
