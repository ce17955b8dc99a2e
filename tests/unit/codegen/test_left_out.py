"""Kernels that leave something out compute the rest as their spec says: what is beyond a request's lengths, and what
would be written back to its own place."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nnjit.codegen import interp
from nnjit.codegen.expr import Expr, Index, UnsupportedExpr, axis, compare, const, load, op, select
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.schedule.steps import Order, Pack, Parallel, Schedule, ScheduleError, Tile, describe
from nnjit.codegen.schedule.unchanged import changed, conditions_first
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Reach, Stage
from nnjit.codegen.wasm.target import Target
from nnjit.graph.room.lengths import Length
from tests.support import kernels, specs
from tests.support.schedules import attentions, contractions, packed, reductions, schedules

QUICK = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)
SPECS = {"contractions": contractions(), "reductions": reductions(), "attentions": attentions()}
NONSENSE = 77


def buffers_of(spec: KernelSpec, schedule: Schedule, inputs: list[Any], scratch: int) -> list[Any]:
    """Its operands, outputs full of a number that no kernel makes."""
    buffers: list[Any] = specs.allocate(spec, inputs, scratch)
    for i, b in enumerate(packed(spec, schedule, inputs)):
        buffers[i] = b.reshape(-1)
    for b, o in zip(buffers, spec.operands, strict=True):
        if o.role == "out":
            b[:] = o.dtype == "bool" or NONSENSE
    return buffers


def stored(spec: KernelSpec, within: dict[str, int]) -> list[int]:
    """Elements that the last stage stores where the axes are below so much."""
    s = spec.stages[-1]
    axes = (*spec.axes, *s.axes)
    counts = [min(a.extent, within.get(a.name, a.extent)) for a in axes]
    found = []
    for at in product(*map(range, counts)):
        found.append(s.index.const + sum(s.index.coeff(a.name) * i for a, i in zip(axes, at, strict=True)))
    return found


@pytest.mark.parametrize("family", SPECS)
def test_what_is_beyond_the_lengths_may_be_left_out(family: str) -> None:
    @QUICK
    @given(SPECS[family], st.data())
    def holds(case: tuple[KernelSpec, list[Any]], data: st.DataObject) -> None:
        spec, inputs = case
        names = data.draw(st.sets(st.sampled_from([a.name for a in spec.axes] or [""]), max_size=2))
        names = sorted(names - {""})
        reach: Reach = tuple((name, Length.of(i, 2, 1)) for i, name in enumerate(names))
        n = [data.draw(st.integers(1, 5)) for _ in names] or [1]
        spec = canonical(spec, frozenset(names))
        reach = tuple(r for r in reach if r[0] in [a.name for a in spec.axes])
        own = data.draw(st.booleans())
        schedule = default_schedule(spec, Target()) if own else data.draw(schedules(spec))
        try:
            nest = apply(spec, schedule, reach)
            buffers = buffers_of(spec, schedule, inputs, nest.operands[spec.scratch].size)
            wasm = kernels.run_nest(nest, Target(), buffers, lengths=n)
        except (ScheduleError, UnsupportedExpr):
            assume(False)
        interp.run(nest, buffers, lengths=n)
        want = specs.evaluate(spec, inputs)
        counts = stored(spec, {name: length.at(n) for name, length in reach})
        outs = [i for i, o in enumerate(spec.operands) if o.role == "out"]
        assert outs == [spec.stages[-1].out]
        for found in (buffers[outs[0]], wasm[outs[0]]):
            np.testing.assert_allclose(
                np.asarray(found)[counts].astype(np.float64),
                np.asarray(want[0]).reshape(-1)[counts].astype(np.float64),
                rtol=2e-3 if spec.name == "f16_attention" else 2e-5,
                atol=2e-5,
                err_msg=f"{spec.describe()}\n{describe(schedule)}\n{reach} {n}",
            )

    holds()


def test_tiles_beyond_are_not_begun() -> None:
    """Of 40 rows 2 * 3 + 1 are looked at: what a tile of four leaves is as it was."""
    spec = canonical(pointwise(Axis("i", 40), Axis("j", 8), load(0, Index(0, {"i": 8, "j": 1}), "f32")))
    assert len(spec.axes) == 1  # rows would be one with what they hold
    spec = canonical(
        pointwise(Axis("i", 40), Axis("j", 8), load(0, Index(0, {"i": 8, "j": 1}), "f32")), frozenset("i")
    )
    schedule = default_schedule(spec, Target())
    nest = apply(spec, schedule, (("i", Length.of(0, 2, 1)),))
    x = np.arange(320, dtype=np.float32)
    for lengths, rows in (((3,), 7), ((), 40)):
        out = kernels.run_nest(nest, Target(), [x, np.full(320, -1, np.float32)], lengths=lengths)[1]
        np.testing.assert_array_equal(out[: 8 * rows], x[: 8 * rows])
        assert rows == 40 or (out[8 * (rows + 4) :] == -1).all()


@pytest.mark.parametrize("lengths, rows", [((), 40), ((19,), 40), ((3,), 8)])
def test_loops_inside_a_tile_end_too(lengths: tuple[int, ...], rows: int) -> None:
    """The tuner's lab tells no lengths: there all groups of four rows are made, with nothing over an i32."""
    i, j = Axis("i", 40), Axis("j", 8)
    spec = pointwise(i, j, load(0, Index(0, {"i": 8, "j": 1}), "f32"))
    schedule = (Tile("i", 4), Order(("j", "i")), Parallel(("j",)))
    nest = apply(spec, schedule, (("i", Length.of(0, 2, 1)),))
    x, out = np.arange(320, dtype=np.float32), np.full(320, -1, np.float32)
    wasm = kernels.run_nest(nest, Target(), [x, out], lengths=lengths)[1]
    interp.run(nest, [x, out], lengths=lengths)
    want = np.where(np.arange(320) < 8 * rows, x, -1)
    np.testing.assert_array_equal(wasm, want)
    np.testing.assert_array_equal(out, want)


def pointwise(i: Axis, j: Axis, value: Expr, *inputs: Operand) -> KernelSpec:
    at = Index(0, {i.name: j.extent, j.name: 1})
    size = i.extent * j.extent
    operands = (Operand("f32", size, "in"), *inputs, Operand("f32", size, "out"))
    stage = Stage((), (), "", None, value, len(operands) - 1, at)
    return KernelSpec("in_place", (i, j), (stage,), operands)


def chain(rows: int, columns: int, layers: list[tuple[str, bool]]) -> KernelSpec:
    """select(condition, x[j], select(...)) down to the operand that the output lies on; conditions of rows, of places
    in them, or of a comparison; with True the other way round."""
    i, j = Axis("i", rows), Axis("j", columns)
    value = load(0, Index(0, {"i": columns, "j": 1}), "f32")
    for kind, turned in layers:
        by = {"row": Index.of("i"), "column": Index.of("j"), "at": Index.of("i")}[kind]
        condition = load(2 if kind == "column" else 1, by, "bool")
        if kind == "at":
            condition = compare("eq", axis("i"), op("add", load(3, Index(0), "i32"), const(1, "i32")))
        new = op("add", load(4, Index.of("j"), "f32"), const(1.0, "f32"))
        value = select(condition, value, new) if turned else select(condition, new, value)
    more = (("bool", rows), ("bool", columns), ("i32", 1), ("f32", columns))
    return pointwise(i, j, value, *(Operand(dtype, size, "in") for dtype, size in more))


KINDS = st.tuples(st.sampled_from(["row", "column", "at"]), st.booleans())


@settings(QUICK, max_examples=120)
@given(st.data(), st.integers(1, 9), st.integers(1, 9), st.lists(KINDS, min_size=1, max_size=3))
def test_in_place_only_what_changes_is_written(
    data: st.DataObject, rows: int, columns: int, layers: list[tuple[str, bool]]
) -> None:
    spec = chain(rows, columns, layers)
    assert changed(spec, 0) is not None and changed(spec, 4) is None
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    old = rng.normal(size=rows * columns).astype(np.float32)
    inputs = [
        old,
        rng.integers(0, 2, rows).astype(bool),
        rng.integers(0, 2, columns).astype(bool),
        np.array([rng.integers(-1, rows + 1)], np.int32),
        rng.normal(size=columns).astype(np.float32),
    ]
    want = np.asarray(specs.evaluate(spec, inputs)[0]).reshape(-1)
    own = default_schedule(spec, Target())
    where = changed(spec, 0)
    assert where is not None
    schedule = data.draw(st.one_of(st.just(own), st.just(conditions_first(own, where)), schedules(spec)))
    assume(
        not any(isinstance(s, Pack) for s in schedule)
    )  # what is read from panels does not lie in its place
    try:
        nest = apply(spec, schedule, place=0)
    except ScheduleError:
        assume(False)
    try:
        wasm = kernels.run_nest(nest, Target(), [*inputs, old], shared=(0, 5))[5]
    except UnsupportedExpr:
        assume(False)
    np.testing.assert_array_equal(wasm, want)
    apart = np.full_like(old, NONSENSE)  # on a place of its own it shows what was written
    interp.run(nest, [*inputs, apart])
    here = apart != NONSENSE
    np.testing.assert_array_equal(apart[here], want[here])
    np.testing.assert_array_equal(old[~here], want[~here])


def test_one_row_of_a_cache_is_written() -> None:
    spec = canonical(chain(32, 8, [("row", False)]))
    where = changed(spec, 0)
    assert where is not None
    nest = apply(spec, conditions_first(default_schedule(spec, Target()), where), place=0)
    assert nest.tiles == 32
    rng = np.random.default_rng(3)
    old, row = rng.normal(size=256).astype(np.float32), np.arange(32) == 5
    out = np.full(256, NONSENSE, np.float32)
    inputs = [old, row, np.zeros(8, bool), np.zeros(1, np.int32), np.ones(8, np.float32)]
    interp.run(nest, [*inputs, out])
    np.testing.assert_array_equal(np.flatnonzero(out != NONSENSE), np.arange(40, 48))


def test_what_reads_its_place_elsewhere_writes_all() -> None:
    """The condition, or what is put in, may read what another element of the kernel has overwritten."""
    i, j = Axis("i", 4), Axis("j", 4)
    own, other = load(0, Index(0, {"i": 4, "j": 1}), "f32"), load(0, Index(0, {"j": 1}), "f32")
    under = compare("lt", other, const(0.0, "f32"))
    assert changed(pointwise(i, j, select(under, const(1.0, "f32"), own)), 0) is None
    assert changed(pointwise(i, j, op("add", own, own)), 0) is None
