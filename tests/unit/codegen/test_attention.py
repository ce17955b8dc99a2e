"""Attention kernels: stages over blocks of rows, rows in scratch memory, loops that end where nothing is useful."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnjit.codegen import interp
from nnjit.codegen.loops import For, Stmt
from nnjit.codegen.schedule.apply import apply, scratch_of
from nnjit.codegen.schedule.attention import AttentionTile, few_rows, many_rows, shape
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.schedule.steps import Distribute, Partial, Schedule, Skip, Vectorize, describe
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.target import Target
from tests.support import kernels, specs
from tests.support.schedules import agree, interpreted, packed

QUICK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
KEYS = st.sampled_from([4, 5, 7, 8, 9, 13, 16, 17, 24, 31, 33])
ROWS = st.sampled_from([1, 2, 3, 5, 6, 7, 11, 12, 13, 17, 24])
DEPTH = st.sampled_from([1, 2, 3, 4, 5, 8, 11])
WIDTH = st.sampled_from([4, 5, 8, 9, 12])
Case = tuple[KernelSpec, list[Any]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 100)))
    case = specs.attention(rng, draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(ROWS), draw(KEYS), draw(DEPTH),
                           draw(WIDTH), draw(st.booleans()))  # fmt: skip
    return canonical(case[0]), case[1]


@st.composite
def tiles(draw: st.DrawFn) -> AttentionTile:
    rows = draw(st.integers(1, 6))
    return AttentionTile(
        rows, draw(st.integers(1, 3)), draw(st.integers(1, 3)), rows * draw(st.integers(1, 4))
    )


def on_wasm(spec: KernelSpec, schedule: Any, inputs: list[Any], relaxed: bool) -> list[Any]:
    nest = apply(spec, schedule)
    buffers = specs.allocate(spec, inputs, nest.operands[spec.scratch].size)
    for i, b in enumerate(packed(spec, schedule, inputs)):
        buffers[i] = b.reshape(-1)
    return [kernels.run_nest(nest, Target(relaxed=relaxed), buffers, (0, nest.tiles // 2, nest.tiles))[-1]]


@QUICK
@given(cases(), tiles(), st.booleans())
def test_blocks_of_rows(case: Case, tile: AttentionTile, relaxed: bool) -> None:
    """Scratch memory starts as NaN: a key past the bound that was read all the same would show."""
    spec, inputs = case
    parts = shape(spec)
    if parts is None or not parts.rows:
        return
    schedule = many_rows(parts, tile, Target())
    assert any(isinstance(s, Distribute) for s in schedule)
    assert any(isinstance(s, Skip) for s in schedule) == bool(spec.useful)
    wanted = specs.evaluate(spec, inputs)
    agree(interpreted(spec, schedule, inputs), wanted, 2e-5, f"{spec.describe()}\n{schedule}")
    agree(on_wasm(spec, schedule, inputs, relaxed), wanted, 2e-5, f"{spec.describe()}\n{schedule}")


@QUICK
@given(cases(), st.booleans())
def test_few_rows(case: Case, relaxed: bool) -> None:
    spec, inputs = case
    parts = shape(spec)
    if parts is None:
        return
    schedule = few_rows(parts, Target())
    wanted = specs.evaluate(spec, inputs)
    agree(interpreted(spec, schedule, inputs), wanted, 2e-5, f"{spec.describe()}\n{schedule}")
    agree(on_wasm(spec, schedule, inputs, relaxed), wanted, 2e-5, f"{spec.describe()}\n{schedule}")


def loops(body: list[Stmt]) -> list[For]:
    found = [s for s in body if isinstance(s, For)]
    for s in body:
        for part in ("body", "then", "orelse"):
            found += loops(getattr(s, part, []))
    return found


def test_causal_rows_end_their_loops() -> None:
    """The products' loops over keys have a bound that is asked at run time; without a promise there is none."""
    rng = np.random.default_rng(0)
    spec, _ = specs.attention(rng, 2, 1, 96, 96, 16, 16, causal=True)
    nest = apply(canonical(spec), default_schedule(canonical(spec), Target()))
    bounded = {s.var for s in loops(nest.body) if s.limit is not None}
    assert {"n.o", "r", "k"} <= bounded
    plain, _ = specs.attention(rng, 2, 1, 96, 96, 16, 16)
    nest = apply(canonical(plain), default_schedule(canonical(plain), Target()))
    assert not any(s.limit is not None for s in loops(nest.body))


@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize("keys", [5, 8, 13, 16, 20])
def test_partial_results_end_where_the_granule_does(keys: int, parts: int) -> None:
    """What lies beyond in scratch memory was never computed, be it whole groups of vectors or what is left."""
    spec, inputs = specs.attention(np.random.default_rng(0), 1, 1, 3, keys, 2, 2, causal=True)
    steps = (Vectorize("r", 4), Partial("r", parts), Skip(4 if keys < 8 * parts else 4 * parts))
    found = interpreted(spec, steps, inputs)
    agree(found, specs.evaluate(spec, inputs), 1e-5, describe(steps))


def test_scratch_memory_is_a_block() -> None:
    """Rows of scores for a block, and two numbers kept for each row, whatever the number of rows."""
    for rows in (96, 960):
        spec, _ = specs.attention(np.random.default_rng(0), 1, 1, rows, 64, 16, 16)
        spec = canonical(spec)
        parts = shape(spec)
        assert parts is not None
        assert scratch_of(spec, many_rows(parts, AttentionTile(6, 2, 2, 24), Target())).size == 24 * (64 + 2)


@pytest.mark.parametrize(("rows", "threads"), [(32, 2), (48, 3), (32, 4)])
def test_shares_of_a_causal_mask_are_equal_work(rows: int, threads: int) -> None:
    """Later rows see more keys. A share is a range of tiles; which rows each has is seen by what it writes."""
    case = specs.attention(np.random.default_rng(1), 1, 1, rows, rows, 4, 4, causal=True)
    spec, inputs = canonical(case[0]), case[1]
    parts = shape(spec)
    assert parts is not None

    def work(schedule: Schedule) -> list[int]:
        """Keys that the rows of each share see."""
        nest, found = apply(spec, schedule), []
        assert nest.tiles == rows // 4 and nest.tiles % (2 * threads) == 0
        for share in range(threads):
            buffers = specs.allocate(spec, inputs, nest.operands[spec.scratch].size)
            for i, b in enumerate(packed(spec, schedule, inputs)):
                buffers[i] = b
            buffers[-1][:] = np.nan
            interp.run(nest, buffers, *(nest.tiles * (share + n) // threads for n in (0, 1)))
            written = ~np.isnan(buffers[-1].reshape(rows, 4)[:, 0])
            found.append(int(np.sum(np.flatnonzero(written) + 1)))
        assert sum(found) == rows * (rows + 1) // 2, "every row once"
        return found

    tile = AttentionTile(2, 1, 1, 4)
    shared, alone = (many_rows(parts, tile, Target(threads=n, shared=True)) for n in (threads, 1))
    assert len(set(work(shared))) == 1, "whole pairs of blocks, one from each end"
    assert sorted(work(alone)) == work(alone) and len(set(work(alone))) == threads
