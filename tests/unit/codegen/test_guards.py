"""Guards decided by loop bounds, and pointers moved to the first element they touch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnjit.codegen.expr import Index, acc, const, guarded, load, op
from nnjit.codegen.loops import For, If, Nest, Set, Stmt, Store
from nnjit.codegen.rewriting import walk
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.canonical import rebased
from nnjit.codegen.schedule.guards import borders
from nnjit.codegen.schedule.options import Env, Options
from nnjit.codegen.schedule.steps import Parallel, Peel, Schedule, Tile, Unroll, Vectorize
from nnjit.codegen.schedule.tiling import flattened
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from tests.support import specs
from tests.support.schedules import agree, interpreted

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def window(n: int, taps: int, pad: int, stride: int = 1, dilation: int = 1) -> tuple[KernelSpec, list[Any]]:
    """y[q] = sum over k of x[q * stride + k * dilation - pad] w[k], nothing outside of x."""
    count = (n + 2 * pad - (taps - 1) * dilation - 1) // stride + 1
    place = Index(-pad, {"q": stride, "k": dilation})
    x = guarded(0, place, "f32", ((place, n),), const(0, "f32"))
    stage = Stage((), (Axis("k", taps),), "sum", op("mul", x, load(1, Index.of("k"), "f32")), acc("f32"), 2,
                  Index.of("q"))  # fmt: skip
    operands = (Operand("f32", n, "in"), Operand("f32", taps, "in"), Operand("f32", count, "out"))
    rng = np.random.default_rng(n * taps)
    inputs = [rng.integers(-4, 5, size).astype(np.float32) for size in (n, taps)]
    return KernelSpec("window", (Axis("q", count),), (stage,), operands), inputs


def guards_in(body: list[Stmt]) -> int:
    """Guarded reads in a nest, each place where one is printed."""
    total = 0
    for s in body:
        if isinstance(s, For):
            total += guards_in(s.body)
        elif isinstance(s, If):
            total += guards_in(s.then) + guards_in(s.orelse)
        elif isinstance(s, (Set, Store)):
            total += sum(1 for e in walk(s.value) if e.op == "load" and e.attr.guard)
    return total


def peeled(spec: KernelSpec, tile: int) -> Nest:
    return apply(spec, schedule_of(spec, tile))


def schedule_of(spec: KernelSpec, tile: int) -> Schedule:
    first, last = borders(spec, spec.axes[0], tile)
    return (Tile("q", tile), Unroll("k", 9), Peel("q", first, last))


@pytest.mark.parametrize("tile", [1, 2, 3, 4, 5])
def test_no_guard_is_left_where_borders_are_one_tile(tile: int) -> None:
    spec, _ = window(20, 3, 1)
    assert guards_in(apply(spec, (Tile("q", tile), Unroll("k", 9))).body) > 0
    assert guards_in(peeled(spec, tile).body) == 0


def test_reads_outside_add_nothing() -> None:
    """Of the first and the last output two products are left."""
    spec, _ = window(5, 3, 1)
    nest = peeled(spec, 1)
    sums = [s for s in str(nest).splitlines() if "fma" in s or "mul" in s]
    assert len(sums) == 2 + 3 + 2, str(nest)


@QUICK
@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 4), st.integers(1, 3), st.integers(1, 2),
       st.integers(1, 6))  # fmt: skip
def test_peeled_windows(n: int, taps: int, pad: int, stride: int, dilation: int, tile: int) -> None:
    if n + 2 * pad < (taps - 1) * dilation + 1:
        return
    spec, inputs = window(n, taps, pad, stride, dilation)
    schedule = schedule_of(spec, tile)
    agree(interpreted(spec, schedule, inputs), specs.evaluate(spec, inputs), 0.0, str(apply(spec, schedule)))


def test_peeled_tiles_are_written_once_and_decided_each_for_itself() -> None:
    """They are at the same index until their guards are decided."""
    spec, inputs = window(20, 3, 1)
    schedule = (*schedule_of(spec, 4), Parallel(("q",)))
    before = list(flattened_bodies(spec, schedule))
    assert len(before) == 1
    nest = apply(spec, schedule)
    assert guards_in(nest.body) == 0 and str(nest).count("if q.o <") == 2
    agree(interpreted(spec, schedule, inputs), specs.evaluate(spec, inputs), 0.0, str(nest))


def flattened_bodies(spec: KernelSpec, schedule: Schedule) -> list[Env]:
    """Where the tiles of the parallel loop are asked for."""
    asked: list[Env] = []

    def inside(env: Env) -> list[Stmt]:
        asked.append(env)
        return []

    axis = spec.axes[0]
    options = Options.of(schedule)
    flattened([axis], [-(-axis.extent // options.tile[axis.name])], options, inside)
    return asked


def test_a_read_is_decided_by_the_lanes_of_each_statement() -> None:
    """The last vector's store has two lanes: a read that is outside for four is inside for these."""
    i = Index(0, {"i": 1})
    x = guarded(0, i, "f32", ((i, 6),), const(7, "f32"))
    stage = Stage((), (), "", None, op("add", x, const(1, "f32")), 1, i)
    spec = KernelSpec(
        "tail", (Axis("i", 10),), (stage,), (Operand("f32", 6, "in"), Operand("f32", 10, "out"))
    )
    inputs = [np.arange(6, dtype=np.float32)]
    for schedule in ((Tile("i", 8), Vectorize("i")), (Tile("i", 4), Vectorize("i"), Peel("i", 0, 2))):
        agree(
            interpreted(spec, schedule, inputs), specs.evaluate(spec, inputs), 0.0, str(apply(spec, schedule))
        )


@QUICK
@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 6), st.integers(1, 3))
def test_rebased(start: int, out: int, n: int, step: int) -> None:
    """The same elements through pointers that begin where the work does."""
    i = Index(start, {"i": step})
    stage = Stage(
        (), (), "", None, op("add", load(0, i, "f32"), load(0, i + 1, "f32")), 1, Index(out, {"i": 1})
    )
    spec = KernelSpec(
        "part", (Axis("i", n),), (stage,), (Operand("f32", 40, "in"), Operand("f32", 40, "out"))
    )
    x = np.arange(40, dtype=np.float32)
    moved, starts = rebased(spec)
    assert starts == (start, out)
    used = (n - 1) * step + 2
    assert [o.size for o in moved.operands] == [used, n]
    whole = specs.evaluate(spec, [x])[0]
    part = specs.evaluate(moved, [x[start : start + used]])[0]
    np.testing.assert_array_equal(part, whole[out : out + n])
    assert rebased(moved) == (moved, (0, 0))
