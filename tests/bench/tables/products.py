"""The table of matrix products in docs/kernels.md, from results of `serve.py bench --ops gemm`.

python -m tests.bench.tables.products A.json B.json      several runs, later rows in place of earlier
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from tests.bench.tables.report import best_peer, ceiling, in_way, merge, write_section

DOCS = Path(__file__).parents[3] / "docs" / "kernels.md"
MARK = "products"
WAYS_TEXT = """\
The same run, outputs had in other ways. *given again*: into an array that the caller gave before; no peer has that
(onnxruntime-web takes such tensors and does not write to them), so theirs are plain calls. *left there*: where the
library has them, for its own next call or, here, to be read in place (`preferredOutputLocation: 'cpu-pinned'`);
TF.js and jax-js by tensors that are not downloaded, onnxruntime-web by a plain call. *over all*: that over the
fastest plain call.
"""

Row = dict[str, Any]
Run = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One number a row: a share of the bound in percent, or how many times faster than the fastest peer."""

    title: str
    value: Callable[[Row, Run], float | None]
    percent: bool = False

    def text(self, number: float | None, unit: str = "") -> str:
        if number is None:
            return "–"
        return f"{number:.0f}%{unit}" if self.percent else f"{number:.2f}"


def share(way: str) -> Callable[[Row, Run], float | None]:
    """Of the multiply-add peak (of the read bandwidth for one row), by `way` of calling."""

    def value(row: Row, run: Run) -> float | None:
        ours = row["results"]["nnjit"]
        ms = ours.get("kernelMs") if way == "kernel" else in_way(ours, way)
        if not ms:
            return None
        if row.get("bandwidth"):
            return float(row["streamed"] / ms / 1e4 / row["bandwidth"])
        return float(row["flops"] / ms / 1e4 / run["peak"])

    return value


def over(ours: str, theirs: str) -> Callable[[Row, Run], float | None]:
    """The fastest peer's time over this one's, each by its way; `bound` is the time that the bound would take."""

    def value(row: Row, run: Run) -> float | None:
        peer = best_peer(row, run["threads"], run["cores"], theirs)
        if ours == "bound":
            return ceiling(row, run["peak"], peer)
        ms = in_way(row["results"]["nnjit"], ours)
        return peer / ms if peer and ms else None

    return value


PLAIN = (
    Column("kernel", share("kernel"), True),
    Column("run()", share(""), True),
    Column("over best", over("", "")),
    Column("bound over best", over("bound", "")),
)
WAYS = (
    Column("given again", share("given"), True),
    Column("over best", over("given", "given")),
    Column("left there", share("stays"), True),
    Column("over best", over("stays", "stays")),
    Column("over all", over("stays", "")),
    Column("bound over best", over("bound", "stays")),
)


def table(runs: list[Run], columns: tuple[Column, ...]) -> list[str]:
    """One row a shape, the columns once a thread count, then geometric means (of shares: of rows that compute)."""
    head, names = ["M x K x N"], dict.fromkeys(r["name"] for run in runs for r in run["rows"])
    cells: dict[str, list[str]] = {name: [] for name in names}
    means: list[str] = []
    for run in runs:
        many = "1 thread" if run["threads"] == 1 else f"{run['threads']} threads"
        head += [f"{many}: {columns[0].title}", *(c.title for c in columns[1:])]
        for column in columns:
            found = {r["name"]: (column.value(r, run), bool(r.get("bandwidth"))) for r in run["rows"]}
            for name, row in cells.items():
                number, reads = found.get(name, (None, False))
                row.append(column.text(number, " (read)" if reads else ""))
            kept = [n for n, reads in found.values() if n and not (reads and column.percent)]
            means.append(column.text(geometric_mean(kept) if kept else None))
    return [
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
        *(f"| {name.removeprefix('gemm ')} | " + " | ".join(row) + " |" for name, row in cells.items()),
        "| geometric mean (shares: M > 1) | " + " | ".join(means) + " |",
    ]


def section(data: dict[str, Any]) -> str:
    """Kernels and plain calls; below, where it was measured (`--ways`), the other ways to get at outputs."""
    about = data["about"]
    runs = [
        {
            **run,
            "cores": about.get("cores", 0),
            "rows": [r for r in run["rows"] if r["name"].startswith("gemm ")],
        }
        for run in data["runs"]
    ]
    if not any(run["rows"] for run in runs):
        return ""
    peaks = ", ".join(f"{r['peak']:.1f} GFLOP/s at {r['threads']}" for r in runs)
    lines = [
        f"{about['cpu']}, {about['cores']} cores, {about['browser']}, {about['date']}; FMA peak {peaks}.\n",
        *table(runs, PLAIN),
    ]
    if any("ways" in row["results"]["nnjit"] for run in runs for row in run["rows"]):
        lines += ["", WAYS_TEXT, *table(runs, WAYS)]
    return "\n".join(lines)


def keep(mark: str, text: str, page: Path = DOCS) -> int:
    """Prints a section of a page of docs/ and writes it there."""
    print(text)
    write_section(mark, text, page)
    return 0


def main(paths: list[Path]) -> int:
    text = section(merge([json.loads(path.read_text()) for path in paths]))
    return keep(MARK, text)


if __name__ == "__main__":
    raise SystemExit(main([Path(name) for name in sys.argv[1:]]))
