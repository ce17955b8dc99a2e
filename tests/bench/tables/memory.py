"""The table of what memory bounds in docs/memory.md: operators beside the time that the machine takes for their bytes.

python -m tests.bench.tables.memory tests/bench/results/A.json B.json      results of `serve.py bench --ops memory`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from tests.bench.tables.products import DOCS, keep
from tests.bench.tables.report import merge, number

MARK = "memory"


def least(row: dict[str, Any]) -> float:
    """Milliseconds: what is written takes as long as a copy of it, what is read beyond that as long as reading."""
    (read, written), (reading, copying) = row["traffic"], row["rates"]
    return float(2 * written / copying + max(0, read - written) / reading) / 1e6


def section(data: dict[str, Any]) -> str:
    """A row an operator: both libraries, their quotient, the share of the bound, for each thread count."""
    cells: dict[str, list[str]] = {}
    head, means = ["operator"], []
    for run in data["runs"]:
        rows = [r for r in run["rows"] if "traffic" in r]
        head += [
            f"{run['threads']} thread{'s' * (run['threads'] > 1)}: nnjit",
            "onnxruntime-web",
            "ratio",
            "of memory",
        ]
        ratios, shares = [], []
        for row in rows:
            ours, theirs = (row["results"].get(n, {}).get("median") for n in ("nnjit", "onnxruntime-web"))
            shares.append(least(row) / ours)
            ratios += [theirs / ours] if theirs else []
            times = f"{theirs / ours:.2g}" if theirs else "–"
            cells.setdefault(row["name"], []).extend(
                [number(ours), number(theirs) if theirs else "–", times, f"{100 * shares[-1]:.0f}%"]
            )
        means += [
            "",
            "",
            f"{geometric_mean(ratios):.2f}" if ratios else "–",
            f"{100 * geometric_mean(shares):.0f}%",
        ]
    about = data["about"]
    lines = [
        f"{about['cpu']}, {about['cores']} cores, {about['browser']}, {about['date']}; load average {about['load']}.\n",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
        *(f"| {name} | " + " | ".join(row) + " |" for name, row in cells.items()),
        "| geometric mean | " + " | ".join(means) + " |",
    ]
    return "\n".join(lines)


def main(paths: list[Path]) -> int:
    text = section(merge([json.loads(path.read_text()) for path in paths]))
    return keep(MARK, text, DOCS.with_name("memory.md"))


if __name__ == "__main__":
    raise SystemExit(main([Path(name) for name in sys.argv[1:]]))
