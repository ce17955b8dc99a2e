"""Samples of a first result: several pages for each model and library, of which the median is told with its spread.

A row of first.py's record is {model, LIBRARY: what the page of the median gave, samples: {LIBRARY: [{createMs, firstMs,
runMs} or {failed}, ...]}}. Records of before have one page for each library, and no samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

LIBRARIES = ("nnjit", "onnxruntime-web")
KEPT = ("createMs", "firstMs", "runMs", "failed")
"""Of each page but the median's."""
Row = dict[str, Any]


def added(row: Row, library: str, sample: Row, pages: list[Row]) -> None:
    """One more page: `pages` has those of this library before it, and has it from then on. The lower one of two in the
    middle counts as the median; a page that failed counts only where all have."""
    pages.append(sample)
    done = sorted((p for p in pages if "failed" not in p), key=lambda p: float(p["firstMs"]))
    row[library] = done[(len(done) - 1) // 2] if done else sample
    kept = row.setdefault("samples", {})
    kept[library] = [{k: p[k] for k in KEPT if k in p} for p in pages]


def times(row: Row, library: str, what: str = "firstMs") -> list[float]:
    """Milliseconds of each page, in order; none where there was none, or all failed."""
    alone = [row[library]] if library in row else []
    return [float(p[what]) for p in row.get("samples", {}).get(library, alone) if what in p]


def shown(values: Sequence[float]) -> str:
    """703, or with more than one 703 (640–764): the median, the least and the most."""
    if not values:
        return "–"
    middle = f"{median(values):.0f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.0f}–{max(values):.0f})"


def sooner(rows: Sequence[Row]) -> dict[str, bool]:
    """By model, whether nnjit's median is no later than the other's; of models that both gave a result of."""
    found: dict[str, bool] = {}
    for row in rows:
        ours, theirs = (times(row, library) for library in LIBRARIES)
        if ours and theirs:
            found[row["model"]] = median(ours) <= median(theirs)
    return found
