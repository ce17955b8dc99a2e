"""Products and rows by workgroups: the nest under the interpreter, whose shared arrays begin as NaN, against what the
spec means. Shapes lie on the edges of tiles; whole numbers make the sums exact."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnjit.codegen.expr import Expr, Index, cast, load, op
from nnjit.codegen.schedule import gpu_products, gpu_roles, product_tiles
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.group_steps import Cache, Fuse, Matrix, Patch, Team, Threads, Words
from nnjit.codegen.schedule.legal import fits
from nnjit.codegen.schedule.steps import (
    Block,
    Pack,
    Schedule,
    ScheduleError,
    Tile,
    Unroll,
    Vectorize,
    describe,
)
from nnjit.codegen.schedule.words import layout
from nnjit.codegen.schedule.workgroup_plan import Run, joined
from nnjit.codegen.spec import Axis, KernelSpec
from nnjit.codegen.wgsl.emit import emit
from nnjit.codegen.wgsl.target import WgslTarget
from tests.support import specs
from tests.support.schedules import agree, interpreted

RNG = np.random.default_rng(17)


def check(spec: KernelSpec, schedule: Schedule, inputs: list[Any], rtol: float = 0.0) -> None:
    found = interpreted(spec, schedule, inputs)
    agree(found, specs.evaluate(spec, inputs), rtol, f"{spec.describe()}\n{describe(schedule)}", spec)


def product_schedule(
    rows: tuple[int, int], columns: tuple[int, int], depth: int, slices: int = 1, ahead: bool = False,
    twice: bool = False,
) -> Schedule:  # fmt: skip
    """(tile, threads) of rows and columns; depth 0: without shared arrays."""
    steps: list[Any] = [Tile("m", rows[0]), Threads("m", rows[1])] if rows[0] else []
    steps += [Tile("n", columns[0]), Threads("n", columns[1]), Vectorize("n")]
    steps += [Threads("k", slices)] if slices > 1 else []
    return (*steps, Cache("k", depth, ahead, twice) if depth else Unroll("k", 2))


SCHEDULES = [
    product_schedule((8, 4), (16, 2), 8),
    product_schedule((8, 2), (16, 4), 16, ahead=True),
    product_schedule((4, 4), (8, 2), 8, slices=2),
    product_schedule((8, 2), (16, 4), 8, twice=True),
    product_schedule((4, 2), (8, 1), 8, slices=2, twice=True),
    product_schedule((4, 2), (8, 1), 16, slices=4, ahead=True),
    product_schedule((2, 2), (8, 2), 0),
    product_schedule((4, 1), (8, 2), 0, slices=3),
]


def turned(
    rows: tuple[int, int], columns: tuple[int, int], depth: int, slices: int, twice: bool, unroll: int
) -> Schedule:
    *steps, last = product_schedule(rows, columns, depth, slices, True, twice)
    assert isinstance(last, Cache)
    return (*steps, Patch(2, 2), Unroll("k", unroll), replace(last, turned=True))


TURNED = [
    turned((16, 2), (16, 4), 8, 1, False, 1),  # eight blocks, one a thread
    turned((16, 4), (16, 4), 8, 1, False, 2),  # half of the threads fill each array
    turned((32, 4), (8, 2), 8, 2, True, 1),
    turned((16, 4), (32, 8), 16, 1, True, 4),
    turned((64, 8), (8, 2), 8, 1, False, 1),  # two blocks a thread
    turned((24, 6), (24, 2), 8, 1, False, 2),  # no powers of two, three vectors of columns a thread
]


@pytest.mark.parametrize("schedule", TURNED, ids=describe)
@pytest.mark.parametrize("shape", [(16, 16, 16), (9, 17, 9), (33, 20, 40), (7, 5, 3), (40, 36, 24)], ids=str)
def test_left_factors_that_are_turned(schedule: Schedule, shape: tuple[int, int, int]) -> None:
    spec, inputs = specs.matmul(RNG, *shape, bias=True)
    check(spec, schedule, inputs)
    with pytest.raises(ScheduleError):
        check(swapped(spec, shape[0], shape[2]), schedule, inputs)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=describe)
@pytest.mark.parametrize(
    "shape", [(1, 4, 1), (8, 16, 8), (9, 17, 9), (7, 20, 33), (13, 5, 3), (16, 32, 48)], ids=str
)
def test_products(schedule: Schedule, shape: tuple[int, int, int]) -> None:
    spec, inputs = specs.matmul(RNG, *shape)
    check(spec, schedule, inputs)


def test_factors_that_lie_the_other_way() -> None:
    for m, n, k in ((9, 17, 9), (8, 16, 16)):
        for schedule in SCHEDULES:
            spec, inputs = specs.matmul(RNG, m, n, k, transposed=True)
            check(spec, schedule, inputs)
            check(swapped(spec, m, k), schedule, inputs)


def swapped(spec: KernelSpec, m: int, k: int) -> KernelSpec:
    """The same product with the left factor read as a[k, m]."""
    (stage,) = spec.stages
    assert stage.body is not None
    left = load(0, Index(0, {"m": 1, "k": m}), "f32")
    body = Expr("mul", "f32", (left, stage.body.args[1]))
    return replace(spec, stages=(replace(stage, body=body),))


def test_threads_in_patches() -> None:
    spec, inputs = specs.matmul(RNG, 13, 20, 9)
    for slices in (1, 2):
        schedule = product_schedule((8, 4), (16, 4), 8, slices)
        for patch in (Patch(2, 2), Patch(4, 1), Patch(1, 4), Patch(4, 4)):
            check(spec, (*schedule, patch), inputs)
        with pytest.raises(ScheduleError):
            check(spec, (*schedule, Patch(3, 2)), inputs)


def test_which_tiles_can_be_turned() -> None:
    """What the rules and the tuner ask is what the nest refuses or not."""
    spec, _ = specs.matmul(RNG, 64, 64, 32)
    p = gpu_roles.roles(spec)
    assert p is not None
    found = set()
    for rows, down, columns, across, depth in product((16, 32, 64), (4, 8, 16), (32, 64), (8, 16), (8, 16)):
        shape = product_tiles.Shape(rows, down, columns, across, depth, turned=True)
        if columns % (4 * across) == 0:
            found.add(shape.turnable())
            assert fits(spec, gpu_products.scheduled(spec, p, shape)) == shape.turnable(), shape
    assert found == {True, False}


def test_turned_tiles_whose_stages_are_rolled() -> None:
    for m, n, k in ((64, 64, 32), (33, 65, 20)):
        spec, inputs = specs.matmul(RNG, m, n, k)
        p = gpu_roles.roles(spec)
        assert p is not None
        shape = product_tiles.Shape(32, 8, 64, 8, 16, turned=True)
        plain = gpu_products.scheduled(spec, p, shape)
        rolled = gpu_products.scheduled(spec, p, replace(shape, rolled=True))
        assert [s for s in plain if s not in rolled] == [Unroll(shape_axis(plain), 4)]
        check(spec, rolled, inputs)


def shape_axis(schedule: Schedule) -> str:
    """The axis that a schedule's stages go along."""
    return next(s.axis for s in schedule if isinstance(s, Cache))


def test_a_single_row() -> None:
    for n, k in ((4, 7), (24, 16), (33, 40)):
        spec, inputs = specs.matmul(RNG, 1, n, k)
        check(canonical(spec), product_schedule((0, 0), (8, 2), 0, slices=4), inputs)


def test_panels() -> None:
    for shape in ((9, 17, 9), (8, 16, 8)):
        spec, inputs = specs.matmul(RNG, *shape, transposed=True)
        check(spec, (*product_schedule((8, 4), (16, 2), 8), Pack(1, "n")), inputs)


def test_rows_in_blocks() -> None:
    spec, inputs = specs.matmul(RNG, 31, 24, 8)
    check(spec, (*product_schedule((8, 4), (8, 2), 8), Block("m", 16)), inputs)
    with pytest.raises(ScheduleError):
        check(spec, (*product_schedule((8, 4), (8, 2), 8), Block("m", 24)), inputs)


@pytest.mark.parametrize("channels", [(4, 8), (3, 5)])
def test_convolutions(channels: tuple[int, int]) -> None:
    ci, co = channels
    spec, inputs = specs.conv(RNG, 7, 5, ci, co, 3, 2, 1, 1)
    spec = canonical(spec)
    shared, reduced = [a.name for a in spec.axes], [a.name for a in spec.stages[0].reduce]
    column = next(n for n in shared if spec.stages[0].index.coeff(n) == 1)
    rows = tuple(n for n in shared if n in ("p", "q"))
    steps = (
        Fuse(rows, "rows"), Fuse(tuple(reduced), "sum"), Tile("rows", 8), Threads("rows", 4), Tile(column, 8),
        Threads(column, 2), Vectorize(column),
    )  # fmt: skip
    for last in ((Cache("sum", 8),), (Cache("sum", 8, True),), (Unroll("sum", 3),)):
        check(spec, (*steps, *last), inputs)


@pytest.mark.parametrize("threads", [2, 8, 32])
@pytest.mark.parametrize("n", [1, 4, 8, 33, 64])
def test_rows(threads: int, n: int) -> None:
    for spec, inputs in (specs.softmax(RNG, 3, n), specs.layer_norm(RNG, 3, n)):
        for wide in ((), tuple(Vectorize(a) for a in _inner(spec))):
            if wide and n % 4:
                continue
            check(spec, (Team(threads), *wide), inputs, 1e-5)


def _inner(spec: KernelSpec) -> list[str]:
    return sorted({a.name for s in spec.stages for a in (s.reduce or s.axes)[-1:]})


@pytest.mark.parametrize("combine", ["sum", "max", "min"])
@pytest.mark.parametrize("over", ["c", "ab", "abc"])
def test_reductions(combine: str, over: str) -> None:
    for dtype in ("f32", "i32", "u32"):
        spec, inputs = specs.reduction(RNG, 3, 2, 9, combine, dtype, over)
        for team in (Team(4), Team(4, 4), Team(8, 2), Team(4, 32)):
            check(spec, (team,), inputs)


@pytest.mark.parametrize("n", [1, 7, 16, 33])
def test_rows_in_subgroups(n: int) -> None:
    """Threads of a subgroup swap registers; a NaN and the largest are found by every one of them."""
    for spec, inputs in (specs.softmax(RNG, 3, n), specs.layer_norm(RNG, 3, n)):
        for team in (Team(4, 4), Team(16, 4), Team(8, 32)):
            check(spec, (team,), inputs, 1e-5)
    spec, (x,) = specs.reduction(RNG, 3, 2, n, "max", "f32", "c")
    x.reshape(-1)[0] = np.nan
    check(spec, (Team(8, 4),), [x])
    with pytest.raises(ScheduleError):
        check(spec, (Team(8, 3),), [x])


@settings(max_examples=25, deadline=None)
@given(
    m=st.integers(1, 20), n=st.integers(1, 20), k=st.integers(1, 20),
    rows=st.sampled_from([(2, 1), (4, 2), (8, 8)]), columns=st.sampled_from([(4, 1), (8, 1), (16, 4)]),
    depth=st.sampled_from([0, 4, 8, 16]), slices=st.sampled_from([1, 2]), ahead=st.booleans(),
    twice=st.booleans(),
)  # fmt: skip
def test_any_schedule(
    m: int, n: int, k: int, rows: Any, columns: Any, depth: int, slices: int, ahead: bool,
    twice: bool,
) -> None:  # fmt: skip
    spec, inputs = specs.matmul(np.random.default_rng(m), m, n, k)
    if depth == 4 and slices == 2:
        depth = 8
    check(spec, product_schedule(rows, columns, depth, slices, ahead, twice), inputs)


def in_matrices(
    size: tuple[int, int, int], subgroup: int, rows: int, columns: int, across: int = 1
) -> Schedule:
    """rows, columns: matrices of a subgroup, of such a size."""
    m, n, k = size
    steps = Tile("m", m * rows), Threads("m", 1), Tile("n", n * columns * across), Threads("n", across)
    return (*steps, Cache("k", 2 * k), Matrix(m, n, k, subgroup))


MATRICES = [
    (Tile("m", 32), Threads("m", 1), Tile("n", 16), Threads("n", 1), Cache("k", 16), Matrix(16, 16, 16, 4)),
    (Tile("m", 16), Threads("m", 1), Tile("n", 64), Threads("n", 2), Cache("k", 32, True), Matrix(16, 16, 16, 4)),
    (
        Tile("m", 32), Threads("m", 2), Tile("n", 16), Threads("n", 1), Cache("k", 16, True, True),
        Matrix(16, 16, 16, 4),
    ),
    in_matrices((8, 8, 8), 8, 2, 1, 2),
    in_matrices((8, 16, 16), 4, 1, 1),
    in_matrices((4, 4, 4), 8, 2, 4),  # two matrices are read back at once
    in_matrices((4, 8, 4), 16, 1, 6, 2),
]  # fmt: skip


@pytest.mark.parametrize("shape", [(16, 16, 16), (33, 20, 40), (7, 5, 3)], ids=str)
@pytest.mark.parametrize("steps", MATRICES, ids=describe)
def test_subgroup_matrices(steps: Schedule, shape: tuple[int, int, int]) -> None:
    schedule = (*steps, Vectorize("n"))
    for transposed in (False, True):
        spec, inputs = specs.matmul(RNG, *shape, dtype="f16", bias=True, transposed=transposed)
        check(spec, schedule, inputs)


@pytest.mark.parametrize("k", [32, 48, 128])
def test_each_matrix_that_is_fetched_has_its_name(k: int) -> None:
    """Two and three stages one after the other, and two in a loop: a shader that declares a name twice is refused."""
    spec, _ = specs.matmul(RNG, 32, 16, k, "f16")
    text = emit(apply(spec, (*MATRICES[2], Vectorize("n"))), WgslTarget()).wgsl
    names = re.findall(r"let (\w+) = subgroupMatrixLoad", text)
    assert len(names) >= 4 and len(set(names)) == len(names)


def test_what_does_not_fit_is_refused() -> None:
    spec, _ = specs.matmul(RNG, 8, 8, 8)
    for schedule in (
        product_schedule((8, 3), (8, 2), 8),
        product_schedule((8, 4), (12, 2), 8),
        product_schedule((8, 4), (8, 2), 6),
        (Team(3),),
        (*product_schedule((8, 1), (16, 1), 2), Matrix(4, 4, 2, 8)),
    ):
        with pytest.raises(ScheduleError):
            check(spec, schedule, [])


WORDS = [
    product_schedule((8, 4), (16, 2), 8),
    product_schedule((4, 2), (8, 1), 16, slices=2, ahead=True),
    (*product_schedule((32, 1), (16, 1), 8), Matrix(16, 16, 32, 4)),
    (*product_schedule((16, 1), (64, 2), 16, ahead=True), Matrix(16, 16, 32, 4)),
    (*product_schedule((32, 1), (16, 1), 8, twice=True), Matrix(16, 16, 32, 4)),
    (*product_schedule((16, 1), (16, 2), 4), Matrix(8, 8, 8, 8)),
    (*product_schedule((8, 1), (16, 1), 16), Matrix(8, 16, 32, 8)),
    (*product_schedule((8, 1), (16, 1), 4), Matrix(4, 4, 8, 8)),
]


@pytest.mark.parametrize("shape", [(16, 16, 32), (33, 20, 70), (7, 5, 3), (8, 16, 64)], ids=str)
@pytest.mark.parametrize("steps", WORDS, ids=describe)
def test_words(steps: Schedule, shape: tuple[int, int, int]) -> None:
    """Products of i8 by words of four: laid out as the bytes lie where those are whole words, else anew."""
    for transposed in (False, True):
        spec, inputs = specs.bytes_matmul(RNG, *shape, transposed)
        schedule = (*steps, Words(0), Words(1))
        np.testing.assert_array_equal(interpreted(spec, schedule, inputs)[0], specs.evaluate(spec, inputs)[0])


def test_overlapping_windows_keep_their_bytes_once() -> None:
    """A convolution of 8 channels reads words where they lie; with 6 each window would be written out."""
    for channels, flat in ((8, True), (6, False)):
        spec, _ = specs.conv(RNG, 9, 9, channels, 8, 3, 1, 0, 1)
        (stage,) = spec.stages
        assert stage.body is not None
        body = op("mul", *(cast(load(e.attr.operand, e.attr.index, "i8"), "i32") for e in stage.body.args))
        operands = tuple(replace(o, dtype="i8") if o.role == "in" else o for o in spec.operands)
        spec = canonical(replace(spec, stages=(replace(stage, body=body),), operands=operands))
        assert layout(spec, 0).flat == flat
        assert (layout(spec, 0).size * 4 <= spec.operands[0].size) == flat


def _value(i: Index | Expr, at: dict[str, int]) -> int:
    if isinstance(i, Index):
        return i.const + sum(c * (at[a] if isinstance(a, str) else _value(a, at)) for a, c in i.terms)
    if i.op in ("axis", "const"):
        return _value(i.attr, at) if i.op == "axis" else int(i.attr)
    left, right = (_value(a, at) for a in i.args)
    return left // right if i.op == "div" else left % right


@given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.data())
def test_fused_axes_are_joined_where_they_lie_so(extents: list[int], data: st.DataObject) -> None:
    """An index is the same number whether its parts are joined or not, and has no divisions where they lie one in
    another without a gap."""
    parts = tuple(Axis(f"p{i}", n) for i, n in enumerate(extents))
    run = Run("f", parts)
    gaps = data.draw(st.lists(st.sampled_from([0, 0, 0, 5]), min_size=len(parts), max_size=len(parts)))
    stride, index = data.draw(st.integers(1, 6)), Index(data.draw(st.integers(0, 3)))
    for part, gap in reversed(list(zip(parts, gaps, strict=True))):
        index = index + Index(0, {part.name: stride})
        stride = stride * part.extent + gap
    apart = index.subst(run.at(Index(1, {"x": 2, "y": 3})))
    whole = joined(apart)
    for x, y in ((0, 0), (1, 5), (4, 7), (9, 2)):
        assert _value(whole, {"x": x, "y": y}) == _value(apart, {"x": x, "y": y})
    assert whole.plain or any(gaps[1:]), whole
