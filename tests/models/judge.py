"""Is an answer right, and did kernels give it? Used by the browser's and CPython's tests of the models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

RTOL, ATOL = 1e-3, 1e-4
ALLOWED = Path(__file__).with_name("reference.txt")


@dataclass(frozen=True)
class Difference:
    """Largest absolute error, relative error (to ATOL at least), and share of the tolerance used."""

    absolute: float
    relative: float
    share: float

    def __str__(self) -> str:
        share = 100 * self.share
        return f"max abs {self.absolute:.2g}, max rel {self.relative:.2g}, {share:.0f}% of the tolerance"


def difference(want: np.ndarray, got: np.ndarray) -> Difference:
    assert got.shape == want.shape, f"shape {got.shape}, {want.shape} expected"
    assert got.dtype == want.dtype, f"type {got.dtype}, {want.dtype} expected"
    if not want.size:
        return Difference(0, 0, 0)
    a, b = want.astype(np.float64), got.astype(np.float64)
    assert np.array_equal(np.isfinite(a), np.isfinite(b)), "NaN or infinity on one side only"
    finite = np.isfinite(a)
    off, size = np.abs(a - b)[finite], np.abs(a)[finite]
    relative = (off / np.maximum(size, ATOL)).max(initial=0)
    return Difference(
        float(off.max(initial=0)), float(relative), float((off / (ATOL + RTOL * size)).max(initial=0))
    )


def judge(label: str, expected: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> list[str]:
    """A line for each output; AssertionError when one is out of tolerance."""
    assert set(outputs) == set(expected), f"{label}: outputs {sorted(outputs)}, {sorted(expected)} expected"
    lines, wrong = [], []
    for name, want in expected.items():
        found = difference(want, outputs[name])
        lines.append(f"{label} {name} {list(want.shape)}: {found}")
        if not found.share <= 1:
            wrong.append(lines[-1])
    assert not wrong, "\n".join(wrong)
    return lines


@cache
def allowed() -> dict[tuple[str, str], str]:
    """(model, operator) -> why it may run on the reference, from reference.txt: `model operator: reason`."""
    out = {}
    for line in ALLOWED.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            key, _, reason = line.partition(":")
            model, op = key.split()
            out[model, op] = reason.strip()
    return out


def on_reference(model: str, placement: Sequence[Mapping[str, Any]]) -> list[str]:
    """Nodes that ran on the reference at every run, and aren't in reference.txt."""
    return [
        f"{row['node']} ({row['op']}): {row.get('reason', '')}"
        for row in placement
        if row["backend"] == "reference" and not row.get("once") and (model, row["op"]) not in allowed()
    ]
