"""Largest and smallest elements of rows and columns: a NaN stays, whatever lane and partial result it meets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnjit.codegen.expr import Index, acc, load
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from nnjit.codegen.wasm.target import Target
from tests.support import kernels
from tests.support.schedules import interpreted

SPECIAL = np.array([0x7FC00000, 0xFFC00000, 0x7F800000, 0xFF800000, 0xFFFFFFFF, 0x80000000], np.uint32)
"""NaNs of both signs, infinities, a NaN with all bits set, -0."""


def extreme(combine: str, rows: int, columns: int, along: str) -> KernelSpec:
    """The extreme of each row (`along` x) or column (y) of a matrix."""
    axes = {"x": Axis("x", columns), "y": Axis("y", rows)}
    kept = "y" if along == "x" else "x"
    body = load(0, Index(0, {"x": 1, "y": columns}), "f32")
    stage = Stage((), (axes[along],), combine, body, acc("f32"), 1, Index.of(kept))
    operands = (Operand("f32", rows * columns, "in"), Operand("f32", axes[kept].extent, "out"))
    return canonical(KernelSpec("f32_extreme", (axes[kept],), (stage,), operands))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["max", "min"]), st.sampled_from([1, 2, 3, 4, 5, 9, 16, 33]),
    st.sampled_from([1, 7, 8, 9, 31, 64, 100, 257, 300]), st.sampled_from("xy"),
    st.lists(st.tuples(st.integers(0, 10000), st.integers(0, 5)), max_size=6),
)  # fmt: skip
def test_nans_stay(combine: str, rows: int, columns: int, along: str, put: list[tuple[int, int]]) -> None:
    spec = extreme(combine, rows, columns, along)
    x: Any = np.random.default_rng(rows * columns).standard_normal((rows, columns)).astype(np.float32)
    for place, which in put:
        x.view(np.uint32).reshape(-1)[place % x.size] = SPECIAL[which]
    fold = {"max": np.max, "min": np.min}[combine]
    want = fold(x, axis=1 if along == "x" else 0)
    schedule = default_schedule(spec, Target())
    for found in (kernels.run_spec(spec, schedule, Target(), [x]), interpreted(spec, schedule, [x])):
        np.testing.assert_array_equal(found[-1], want)


@pytest.mark.parametrize("fill", [-np.inf, np.inf, np.nan])
def test_nothing_else_in_a_row(fill: float) -> None:
    spec = extreme("max", 3, 64, "x")
    found = kernels.run_spec(
        spec, default_schedule(spec, Target()), Target(), [np.full((3, 64), fill, np.float32)]
    )
    np.testing.assert_array_equal(found[-1], np.full(3, fill, np.float32))
