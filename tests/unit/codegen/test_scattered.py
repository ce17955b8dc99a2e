"""Stores to places that are known at run time only, each lane its own: scalar and four-wide Wasm, the interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nnjit.codegen.dtypes import LIMITS, NUMPY
from nnjit.codegen.expr import Expr, Index, cast, load
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.steps import Schedule, Tile, Vectorize
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from nnjit.codegen.wasm.target import Target
from tests.support import kernels
from tests.support.schedules import agree, interpreted

TYPES = ["f32", "i32", "u32", "i16", "u16", "i8", "u8", "bool"]


def scattered(rows: int, columns: int, dtype: str, index: str, out: str, turned: bool) -> KernelSpec:
    """out[place[r, c], c] = x[r, c], the places stored along rows or along columns."""
    across = Index(0, {"r": 1, "c": rows}) if turned else Index(0, {"r": columns, "c": 1})
    place = cast(load(0, across, index), "i32")
    at = Index(0, ((place, columns),)) + Index.of("c")
    value: Expr = load(1, Index(0, {"r": columns, "c": 1}), dtype)
    value = value if out == dtype else cast(value, out)
    operands = (
        Operand(index, rows * columns, "in"),
        Operand(dtype, rows * columns, "in"),
        Operand(out, 5 * columns, "out"),
    )
    stage = Stage((), (), "", None, value, 2, at)
    return KernelSpec("scattered", (Axis("r", rows), Axis("c", columns)), (stage,), operands)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 3),
    st.sampled_from([1, 3, 4, 5, 8, 11]),
    st.sampled_from(TYPES),
    st.sampled_from(["i32", "i64", "u8"]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 1000),
)
def test_each_lane_goes_to_its_place(
    rows: int, columns: int, dtype: str, index: str, turned: bool, widened: bool, seed: int
) -> None:
    """Places of one row may not meet; later rows overwrite earlier ones."""
    out = "i64" if widened and dtype in ("i32", "u32") else dtype
    spec = scattered(rows, columns, dtype, index, out, turned)
    rng = np.random.default_rng(seed)
    low, high = (0, 1) if dtype == "bool" else LIMITS.get(dtype, (-99, 99))
    x = rng.integers(low, high, rows * columns, endpoint=True).astype(NUMPY[dtype])
    inputs: list[Any] = [rng.integers(0, 5, rows * columns).astype(NUMPY[index]), x]
    schedules: list[Schedule] = [(), (Tile("c", 4), Vectorize("c", 4))]
    wanted = interpreted(spec, (), inputs)
    for schedule in schedules:
        agree(interpreted(spec, schedule, inputs), wanted, 0.0, spec.describe())
        buffers = [*inputs, np.zeros(5 * columns, NUMPY[out])]
        agree(kernels.run_nest(apply(spec, schedule), Target(), buffers)[-1:], wanted, 0.0, spec.describe())
