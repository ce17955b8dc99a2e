"""The tables of convolutions in docs/convolution.md, from results of `serve.py bench --layers 'conv 1x' --threads 1,2`.

python -m tests.bench.tables.convolutions layers-A.json layers-B.json      one of each thread count
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from tests.bench.tables.products import DOCS, keep

MARK = "convolutions"
FAR = 0.75
"""Layers that reach less of their roofline are listed."""

Row = dict[str, Any]


def depthwise(name: str) -> bool:
    return name.endswith(" dw")


def pointwise(name: str) -> bool:
    return " 1x1 " in name


GROUPS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("all", lambda n: True),
    ("depthwise", depthwise),
    ("1x1", pointwise),
    ("others of stride 1", lambda n: not depthwise(n) and not pointwise(n) and " s1" in n),
    ("others of stride 2", lambda n: not depthwise(n) and not pointwise(n) and " s2" in n),
)


def peer(row: Row) -> float:
    return float(row["run"]["onnxruntime-web"])


def bound(row: Row) -> float:
    """Milliseconds of the direct sum at the peak, or of its bytes at the speed of reading."""
    return float(max(row["arithmetic"], row["memory"]))


def summary(runs: dict[int, list[Row]]) -> list[str]:
    """A line a group, four columns a thread count."""
    head = ["layers"]
    for n in runs:
        head += [f"{n} thread{'s' * (n > 1)}: run()", "least", "steps", "ceiling"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for title, belongs in GROUPS:
        cells: list[str] = []
        count = 0
        for rows in runs.values():
            chosen = [r for r in rows if belongs(r["name"]) and "onnxruntime-web" in r["run"]]
            count = len(chosen)
            if not chosen:
                cells += ["–"] * 4
                continue
            ratios = [peer(r) / r["run"]["nnjit"] for r in chosen]
            steps = [peer(r) / max(r["all"], 1e-3) for r in chosen]
            most = [peer(r) / bound(r) for r in chosen]
            cells += [f"{geometric_mean(ratios):.2f}", f"{min(ratios):.2f}"]
            cells += [f"{geometric_mean(steps):.2f}", f"{geometric_mean(most):.2f}"]
        lines.append(f"| {count} {title} | " + " | ".join(cells) + " |")
    return lines


def listed(
    runs: dict[int, list[Row]], shown: Callable[[list[Row]], bool], bar: Callable[[Row], float], what: str
) -> list[str]:
    """Layers of which `shown` holds, with milliseconds and a share of `bar` at each thread count."""
    head = ["layer"]
    for n in runs:
        head += [f"{n} thread{'s' * (n > 1)}: ms", what]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    by_name: dict[str, dict[int, Row]] = {}
    for n, rows in runs.items():
        for r in rows:
            by_name.setdefault(r["name"], {})[n] = r
    for name, found in by_name.items():
        if not shown(list(found.values())):
            continue
        cells = []
        for n in runs:
            r = found.get(n)
            cells += [f"{r['kernel']:.3f}", f"{100 * bar(r) / r['kernel']:.0f}%"] if r else ["–", "–"]
        lines.append(f"| {name.removeprefix('conv 1x')} | " + " | ".join(cells) + " |")
    return lines


def section(parts: list[dict[str, Any]]) -> str:
    parts = sorted(parts, key=lambda p: p["threads"])
    runs = {p["threads"]: [r for r in p["rows"] if r["name"].startswith("conv 1x")] for p in parts}
    peaks = ", ".join(f"{p['peak']:.1f} GFLOP/s at {p['threads']}" for p in parts)

    def far(rows: list[Row]) -> bool:
        return not depthwise(rows[0]["name"]) and any(bound(r) < FAR * r["kernel"] for r in rows)

    lines = [
        f"FMA peak {peaks}. onnxruntime-web's run() over ours (*run()*, *least*: of one layer), over all of our steps"
        " (*steps*), over the larger of the direct sum at the peak and its bytes at the speed of a reading loop"
        " (*ceiling*; Winograd's sums are smaller):",
        "",
        *summary(runs),
        "",
        "Depthwise layers (channels x height x width, outputs, window, stride), share of the multiply-add peak:",
        "",
        *listed(runs, lambda rows: depthwise(rows[0]["name"]), lambda r: float(r["arithmetic"]), "of peak"),
        "",
        f"Other layers below {100 * FAR:.0f}% of their roofline at one of the thread counts:",
        "",
        *listed(runs, far, bound, "of roofline"),
    ]
    return "\n".join(lines)


def main(paths: list[Path]) -> int:
    text = section([json.loads(path.read_text()) for path in paths])
    return keep(MARK, text, DOCS.with_name("convolution.md"))


if __name__ == "__main__":
    raise SystemExit(main([Path(name) for name in sys.argv[1:]]))
