"""Schedules of sums of products, made from explicit parameters: any of them computes what the spec says.

Whole numbers make sums exact in any order: results are equal bit for bit.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnjit.codegen.expr import Index, acc, const, load, op
from nnjit.codegen.schedule import contraction, crosswise
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.contraction import (
    ProductTile,
    factors,
    product_candidates,
    product_schedule,
    product_tile,
    register_tiles,
    uneven,
)
from nnjit.codegen.schedule.inner import (
    InnerTile,
    in_place,
    inner_candidates,
    inner_schedule,
    inner_tile,
    sum_axis,
)
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.schedule.steps import Pack, Schedule, Vectorize, describe
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from nnjit.codegen.wasm.target import Target
from tests.support import kernels, specs
from tests.support.schedules import agree, interpreted, packed

TARGET = Target()
EDGES = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 31])
LAYOUTS = st.tuples(st.sampled_from(["bmk", "bkm", "mk", "km"]), st.sampled_from(["bkn", "bnk", "kn", "nk"]))


def einsum(
    left: str, right: str, out: str, extents: dict[str, int], const_right: bool = False, seed: int = 0
) -> tuple[KernelSpec, list[Any]]:
    """out[...] = relu(the sum over the letters not in `out` of left * right + 1); letters in memory order."""
    rng = np.random.default_rng(seed)

    def index(letters: str) -> tuple[Index, int]:
        at, step = Index(), 1
        for c in reversed(letters):
            at, step = at + Index(0, {c: step}), step * extents[c]
        return at, step

    (a, a_size), (b, b_size), (c, c_size) = index(left), index(right), index(out)
    reduced = tuple(Axis(x, extents[x]) for x in dict.fromkeys(left + right) if x not in out)
    value = op("max", op("add", acc("f32"), const(1, "f32")), const(0, "f32"))
    body = op("mul", load(0, a, "f32"), load(1, b, "f32"))
    stage = Stage((), reduced, "sum", body, value, 2, c)
    operands = (
        Operand("f32", a_size, "in"),
        Operand("f32", b_size, "in", const_right),
        Operand("f32", c_size, "out"),
    )
    spec = canonical(KernelSpec("f32_einsum", tuple(Axis(x, extents[x]) for x in out), (stage,), operands))
    shapes = [[extents[x] for x in letters] for letters in (left, right)]
    return spec, [specs.whole(rng, s, "f32") for s in shapes]


def check(spec: KernelSpec, schedule: Schedule, inputs: list[Any], wasm: bool = True) -> None:
    wanted = specs.evaluate(spec, inputs)
    found = interpreted(spec, schedule, inputs)
    agree(found, wanted, 0.0, f"{spec.describe()}\n{describe(schedule)}")
    if wasm:
        found = kernels.run_spec(spec, schedule, TARGET, packed(spec, schedule, inputs))
        agree(found, wanted, 0.0, f"{spec.describe()}\n{describe(schedule)}")


@settings(max_examples=40, deadline=None)
@given(LAYOUTS, EDGES, EDGES, EDGES, st.integers(1, 3), st.data())
def test_inner_products(layout: tuple[str, str], m: int, n: int, k: int, b: int, data: st.DataObject) -> None:
    """k in lanes, by any tile: rows, columns, partial sums, blocks; factors in any order of dimensions."""
    spec, inputs = einsum(*layout, "bmn", {"b": b, "m": m, "n": n, "k": k})
    f = factors(spec)
    axis = sum_axis(f) if f is not None else None
    if f is None or axis is None:
        return
    names = [x.name for x in f.rows]
    name = data.draw(st.sampled_from(["", *names]))
    rows = data.draw(st.integers(1, 4)) if name else 1
    block = rows * data.draw(st.integers(0, 3)) if name else 0
    tile = InnerTile(
        name, rows, data.draw(st.integers(1, 7)), data.draw(st.sampled_from([1, 2, 3, 8])), block
    )
    check(spec, inner_schedule(f, axis, tile, TARGET), inputs)


CROSSWISE = [("bmk", "kn", "bmn"), ("mk", "nk", "mn"), ("bmk", "bkn", "bmn"), ("nk", "mk", "mn"),
             ("xyk", "kpq", "xpyq"), ("mkj", "jkn", "mn")]  # fmt: skip
"""The last but one is a transposed convolution whose windows do not overlap."""


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(CROSSWISE), EDGES, st.integers(1, 3), EDGES, st.data())
def test_rows_in_lanes(letters: tuple[str, str, str], m: int, n: int, k: int, data: st.DataObject) -> None:
    """A few columns: rows that lie apart go into lanes, transposed in registers; rows and terms left over."""
    extents = {"b": 3, "m": m, "y": m, "n": n, "k": k, "j": max(4, k), "p": 2, "q": 2, "x": 3}
    spec, inputs = einsum(*letters, extents)
    c = crosswise.shape_of(spec)
    if c is None:
        return
    vectors = data.draw(st.sampled_from(crosswise.fitting(c, TARGET)))
    check(spec, crosswise.schedule(c, vectors, TARGET), inputs)


@pytest.mark.parametrize("letters", CROSSWISE)
def test_rows_in_lanes_or_another_rule(letters: tuple[str, str, str]) -> None:
    """Every size has a schedule: sums too short for lanes along them, too, and windows beside a few channels."""
    for k in range(1, 9):
        for m in (1, 3, 4, 6, 17):
            extents = {"b": 1, "m": m, "y": m, "n": 1, "k": k, "j": 3, "p": 2, "q": 1, "x": 2}
            spec, inputs = einsum(*letters, extents)
            check(spec, default_schedule(spec, TARGET), inputs, wasm=False)


def test_rows_in_lanes_are_chosen() -> None:
    """For one channel behind a polynomial, not for long sums or many columns."""
    head, _ = einsum("xyk", "kpq", "xpyq", {"x": 32, "y": 32, "k": 24, "p": 2, "q": 2})
    assert Vectorize("y", 4) in default_schedule(head, TARGET)
    for n, k in ((1, 768), (4, 24)):
        spec, _ = einsum("mk", "kn", "mn", {"m": 1000, "k": k, "n": n})
        assert crosswise.crosswise(spec, TARGET) is None


@settings(max_examples=40, deadline=None)
@given(LAYOUTS, EDGES, EDGES, EDGES, st.integers(1, 3), st.data())
def test_products(layout: tuple[str, str], m: int, n: int, k: int, b: int, data: st.DataObject) -> None:
    """Lanes along the output, by any parameters, the panels being those of the packing kernel."""
    spec, inputs = einsum(*layout, "bmn", {"b": b, "m": m, "n": n, "k": k}, data.draw(st.booleans()))
    f = factors(spec)
    if f is None:
        return
    name = data.draw(st.sampled_from(["", *(x.name for x in f.rows)]))
    rows = data.draw(st.integers(1, 6)) if name else 1
    tile = ProductTile(
        name, rows, data.draw(st.integers(1, 3)), data.draw(st.sampled_from([1, 2, 4])),
        rows * data.draw(st.integers(0, 3)) if name else 0, data.draw(st.booleans()), data.draw(st.booleans()),
    )  # fmt: skip
    check(spec, product_schedule(f, tile, TARGET), inputs)


CASES = [
    # a row, a column, a few rows, columns; with b's rows along the sum or across it
    ("mk", "nk", "mn", {"m": 1, "n": 37, "k": 65}),
    ("mk", "nk", "mn", {"m": 5, "n": 37, "k": 65}),
    ("mk", "nk", "mn", {"m": 20, "n": 13, "k": 130}),
    ("mk", "kn", "mn", {"m": 40, "n": 2, "k": 130}),
    ("mk", "kn", "mn", {"m": 40, "n": 3, "k": 9}),
    ("km", "kn", "mn", {"m": 20, "n": 17, "k": 33}),
    ("km", "nk", "mn", {"m": 20, "n": 17, "k": 33}),
    ("mk", "k", "m", {"m": 29, "k": 70}),
    ("km", "k", "m", {"m": 29, "k": 70}),
    ("bk", "bk", "b", {"b": 7, "k": 70}),
    ("bmk", "bnk", "bmn", {"b": 3, "m": 14, "n": 15, "k": 20}),
    ("bmhk", "bnhk", "bhmn", {"b": 2, "h": 3, "m": 14, "n": 15, "k": 20}),
    ("bhmn", "bnhk", "bmhk", {"b": 2, "h": 3, "m": 14, "n": 15, "k": 20}),
    ("mkl", "nkl", "mn", {"m": 5, "n": 6, "k": 7, "l": 10}),
    ("mkl", "nlk", "mn", {"m": 5, "n": 6, "k": 7, "l": 10}),
]


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(
    "case", CASES, ids=lambda c: f"{c[0]},{c[1]}->{c[2]}-" + "x".join(map(str, c[3].values()))
)
def test_defaults_and_candidates(case: tuple[str, str, str, dict[str, int]], constant: bool) -> None:
    """The default of each kind of product, at one and at several threads, and the first candidates of both rules."""
    spec, inputs = einsum(*case[:3], case[3], constant)
    for threads in (1, 3):
        check(spec, default_schedule(spec, Target(threads=threads)), inputs)
    f = factors(spec)
    if f is None:
        return
    found = [*islice(product_candidates(f, TARGET), 3), *islice(inner_candidates(f, TARGET), 3)]
    assert len(found) > 1
    for schedule in found:
        check(spec, schedule, inputs, wasm=False)


def test_candidates_begin_with_the_model() -> None:
    """The first is the default, none comes twice, all fit."""
    spec, _ = einsum("mk", "kn", "mn", {"m": 128, "n": 200, "k": 96}, True)
    f = factors(spec)
    assert f is not None
    found = list(product_candidates(f, TARGET))
    assert found[0] == product_schedule(f, product_tile(f, TARGET), TARGET) == default_schedule(spec, TARGET)
    assert len(set(found)) == len(found) > 30


def test_rows_along_the_sum_need_no_panels() -> None:
    """A matrix read row by row: as an activation with a few rows, and as a constant that must not be copied."""
    for m in (1, 4, 300):
        spec, _ = einsum("mk", "nk", "mn", {"m": m, "n": 500, "k": 300}, m == 300)
        schedule = in_place(spec, TARGET) if m == 300 else default_schedule(spec, TARGET)
        assert schedule is not None
        assert Vectorize("k", 4) in schedule
        assert not any(isinstance(s, Pack) for s in schedule)
    across, _ = einsum("mk", "kn", "mn", {"m": 300, "n": 500, "k": 300}, True)
    assert in_place(across, TARGET) is None


def test_registers_hold_what_a_tile_needs() -> None:
    """No tile, of either kind, has more accumulators and operands than registers before V8 spills."""
    for registers in (15, 30):
        target = Target(registers=registers)
        for mr, nv, _ in register_tiles(100, 100, target):
            assert mr == 1 or mr * nv + nv + 1 <= registers
        spec, _ = einsum("mk", "nk", "mn", {"m": 100, "n": 100, "k": 300})
        f = factors(spec)
        assert f is not None
        k = sum_axis(f)
        assert k is not None
        tile, _ = inner_tile(f, k, target)
        assert tile.rows * tile.columns * tile.parts + min(tile.rows, tile.columns) < registers
        assert tile.rows * tile.columns >= 10


@pytest.mark.parametrize("threads", [2, 3, 4])
@pytest.mark.parametrize("shape", [(6, 24), (1, 96), (12, 40), (5, 100)])
def test_few_tiles_are_shared_evenly(shape: tuple[int, int], threads: int) -> None:
    """A long sum with few outputs: the longest share is at most a third longer than an even one."""
    m, n = shape
    for right in ("kn", "nk"):
        spec, _ = einsum("mk", right, "mn", {"m": m, "n": n, "k": 4096}, right == "kn")
        tiles = apply(spec, default_schedule(spec, Target(threads=threads))).tiles
        assert -(-tiles // threads) * threads <= 4 / 3 * tiles


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(("rows", "inner", "columns"), [(3136, 256, 64), (3136, 144, 24), (784, 512, 128)])
def test_blocks_of_rows_are_shared_evenly(threads: int, rows: int, inner: int, columns: int) -> None:
    """Blocks only where several tiles of columns read their rows; as many tiles for each thread as can be."""
    spec, _ = einsum("mk", "kn", "mn", {"m": rows, "k": inner, "n": columns}, const_right=True)
    target = Target(threads=threads)
    f = factors(spec)
    assert f is not None
    tile = product_tile(f, target)
    across = -(-columns // (4 * tile.vectors))
    if across == 1:
        assert not tile.block
        return
    assert tile.block and tile.block * inner * 4 <= contraction.ROW_BLOCK
    count = -(-rows // tile.block) * across
    assert uneven(count, target) <= 1 + 1 / (2 * threads)
