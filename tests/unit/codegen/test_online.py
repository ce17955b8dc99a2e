"""Attention whose scores stay in a workgroup: the nest under the interpreter, whose shared arrays begin as NaN, against
what the spec means. Shapes lie on the edges of tiles and of blocks of keys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnjit.codegen.expr import Index, UnsupportedExpr, axis
from nnjit.codegen.loops import For
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.gpu_attention import attentions
from nnjit.codegen.schedule.gpu_rules import gpu_schedule
from nnjit.codegen.schedule.group_steps import Online
from nnjit.codegen.schedule.steps import ScheduleError
from nnjit.codegen.wgsl.emit import emit
from nnjit.codegen.wgsl.target import WgslTarget
from tests.support import specs
from tests.support.schedules import agree, interpreted

RNG = np.random.default_rng(29)
STEPS = [
    Online("m", 8, 4, 16, 4, 8), Online("m", 4, 2, 32, 4, 16), Online("m", 4, 4, 16, 4, 4),
    Online("m", 8, 4, 16, 4, 8, 2, True), Online("m", 4, 2, 32, 4, 16, 2), Online("m", 4, 4, 16, 4, 16, 4, True),
]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    heads=st.integers(1, 2), group=st.integers(1, 2), rows=st.sampled_from([1, 2, 4, 7, 9]),
    keys=st.sampled_from([4, 15, 16, 17, 32, 40]), depth=st.sampled_from([4, 5, 8, 16]),
    width=st.sampled_from([4, 8, 13, 20]), causal=st.booleans(), dtype=st.sampled_from(["f32", "f32", "f16"]),
    step=st.sampled_from(STEPS), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_shape(
    heads: int, group: int, rows: int, keys: int, depth: int, width: int, causal: bool, dtype: str, step: Online,
    seed: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    spec, inputs = specs.attention(rng, heads, group, rows, keys, depth, width, causal, dtype)
    if rows == 1 < group:  # the query heads of a key are then the longer rows
        step = replace(step, axis="g")
    found = interpreted(spec, (step,), inputs)
    agree(found, specs.evaluate(spec, inputs), 2e-3 if dtype == "f16" else 2e-5, str(step), spec)


def test_a_block_that_no_row_sees_is_left_out() -> None:
    """Keys past the last row's end hold NaN: whoever read them would show it."""
    spec, inputs = specs.attention(RNG, 1, 1, 16, 48, 8, 8, causal=True)
    inputs[2] = np.where(np.arange(48) <= np.arange(16)[:, None], 0, -3.4e38).astype(np.float32).reshape(-1)
    narrow = replace(spec, useful=tuple((n, axis(Index(1, {"m": 1}))) for n, _ in spec.useful))
    wanted = specs.evaluate(narrow, inputs)
    inputs[1].reshape(48, 8)[16:] = np.nan
    inputs[3].reshape(48, 8)[16:] = np.nan
    found = interpreted(narrow, (Online("m", 8, 4, 16, 4, 8),), inputs)
    agree(found, wanted, 2e-5, "skipped", narrow)


def test_rows_that_see_no_key_at_first() -> None:
    """Minus infinity in all of the first block leaves later blocks their weight."""
    spec, inputs = specs.attention(RNG, 1, 1, 8, 32, 8, 8)
    inputs[2].reshape(8, 32)[:, :16] = -np.inf
    found = interpreted(spec, (Online("m", 8, 4, 16, 4, 8),), inputs)
    agree(found, specs.evaluate(spec, inputs), 2e-5, "late", spec)


def test_the_default_fits_the_device() -> None:
    for target in (
        WgslTarget(),
        WgslTarget(max_shared_bytes=49152, max_workgroup=1024),
        WgslTarget(invocations=64),
    ):
        for shape in ((12, 1, 384, 384, 64, 64), (32, 1, 2048, 2048, 128, 128), (2, 1, 9, 40, 20, 12)):
            spec, _ = specs.attention(RNG, *(min(n, 64) for n in shape))
            schedule = gpu_schedule(spec, target)
            assert isinstance(schedule[0], Online)
            emit(apply(spec, schedule), target)
            assert len(list(attentions(spec, target))) >= 3


def test_what_has_few_rows_is_no_single_kernel() -> None:
    spec, _ = specs.attention(RNG, 4, 1, 1, 64, 16, 16)
    with pytest.raises(UnsupportedExpr):
        gpu_schedule(spec, WgslTarget())


def test_what_does_not_fit_is_refused() -> None:
    spec, _ = specs.attention(RNG, 1, 1, 16, 16, 8, 8)
    product, _ = specs.matmul(RNG, 8, 8, 8)
    for wrong in (
        Online("m", 8, 3, 16, 4),
        Online("m", 8, 4, 24, 4),
        Online("h", 8, 4, 16, 4),
        Online("m", 8, 4, 16, 2),
        Online("m", 8, 4, 16, 4, 8, 3),
    ):
        with pytest.raises(ScheduleError):
            apply(spec, (wrong,))
    with pytest.raises(ScheduleError):
        apply(product, (STEPS[0],))
    wide, _ = specs.attention(RNG, 1, 1, 16, 16, 8, 8, dtype="f64")
    with pytest.raises(ScheduleError):
        apply(wide, (STEPS[0],))


def test_the_loop_over_keys_ends_with_the_tile() -> None:
    spec, _ = specs.attention(RNG, 1, 1, 64, 64, 8, 8, causal=True)
    nest = apply(spec, (Online("m", 8, 4, 16, 4, 8),))
    (loop,) = nest.body
    assert isinstance(loop, For)
    blocks = [s for s in loop.body if isinstance(s, For) and s.var == "block"]
    assert len(blocks) == 1 and blocks[0].limit is not None
