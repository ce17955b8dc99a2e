"""The tables of narrow numbers in docs/quantised.md, from results of `serve.py bench --layers 'qlinear|qlayer|…'`.

python -m tests.bench.tables.narrow layers-A.json layers-B.json      any number of runs and thread counts
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from tests.bench.tables.products import DOCS, keep
from tests.bench.tables.report import number

MARK = "bytes"
GROUPS = {
    "layers by themselves, bytes in and out": "qlinear ",
    "of these products": "qlinear matmul",
    "the same inside a model": "qlayer ",
    "of these products ": "qlayer matmul",
    "QDQ chains: Conv, Relu, Conv, Add and MatMul, Relu, MatMul": "qdq ",
    "dynamic: DynamicQuantizeLinear, MatMulInteger": "dynamic ",
    "MatMulNBits, 4 and 8 bits": "nbits ",
    "products with weights of f16": "f16 weights",
}
PEER = "onnxruntime-web"
Rows = dict[int, dict[str, Any]]
"""Rows by name, for each thread count."""


def over(row: dict[str, Any]) -> tuple[float, float, float]:
    """onnxruntime-web's run() over ours, over our steps, over the roofline's time."""
    theirs = row["run"][PEER]
    return theirs / row["run"]["nnjit"], theirs / row["all"], theirs / max(row["arithmetic"], row["memory"])


def means(runs: Rows) -> list[str]:
    head = "| rows |" + "".join(
        f" {n} thread{'s' * (n > 1)}: run() | least | steps | ceiling |" for n in sorted(runs)
    )
    lines = [head, "|---" * (1 + 4 * len(runs)) + "|"]
    for title, start in GROUPS.items():
        cells, count = [], 0
        for _, rows in sorted(runs.items()):
            found = [over(r) for name, r in rows.items() if name.startswith(start) and PEER in r["run"]]
            if found:
                run, steps, most = (geometric_mean(column) for column in zip(*found, strict=True))
                cells += [f"{run:.2f}", f"{min(f[0] for f in found):.1f}", f"{steps:.1f}", f"{most:.1f}"]
                count = len(found)
        if cells:
            lines.append(f"| {count} {title.strip()} | " + " | ".join(cells) + " |")
    return lines


def layers(runs: Rows) -> list[str]:
    """Each layer inside a model on the fewest threads: what its steps reach of each bound."""
    threads = min(runs)
    lines = [
        f"| layer, {threads} thread{'s' * (threads > 1)} | steps, ms | of the dot product's peak |"
        " of its instructions | run() over onnxruntime-web's | ceiling |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in runs[threads].items():
        if name.startswith("qlayer "):
            shares = [row[bound] / row["kernel"] for bound in ("arithmetic", "instructions")]
            run, _, most = over(row)
            cells = [number(row["kernel"]), *(f"{100 * s:.0f}%" for s in shares), f"{run:.1f}", f"{most:.1f}"]
            lines.append(f"| {name.removeprefix('qlayer ')} | " + " | ".join(cells) + " |")
    return lines


def main(paths: list[Path]) -> int:
    runs: Rows = {}
    limits: dict[int, tuple[float, float]] = {}
    for path in paths:
        data = json.loads(path.read_text())
        runs.setdefault(data["threads"], {}).update({r["name"]: r for r in data["rows"]})
        limits[data["threads"]] = max(limits.get(data["threads"], (0.0, 0.0)), (data["peak"], data["dots"]))
    said = "; ".join(
        f"{n} thread{'s' * (n > 1)}: {limits[n][0]:.0f} billion operations a second by multiply-adds,"
        f" {limits[n][1]:.0f} by dot products of bytes" for n in sorted(limits)
    )  # fmt: skip
    text = "\n".join([f"{said[0].upper()}{said[1:]}.\n", *means(runs), "", *layers(runs)])
    return keep(MARK, text, DOCS.with_name("quantised.md"))


if __name__ == "__main__":
    raise SystemExit(main([Path(name) for name in sys.argv[1:]]))
