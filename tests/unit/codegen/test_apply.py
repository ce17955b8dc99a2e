"""Loop nests: what a schedule may not say, golden text, and the smallest cases of bugs that were mended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from nnjit.codegen.expr import Expr, Index, acc, cast, load, local
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.schedule.steps import (
    Order,
    Pack,
    Parallel,
    Partial,
    ScheduleError,
    Step,
    Tile,
    Unroll,
    Vectorize,
    describe,
)
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from nnjit.codegen.wasm.emit import emit
from nnjit.codegen.wasm.listing import listing
from nnjit.codegen.wasm.target import Target
from tests.support import kernels, specs
from tests.support.schedules import PRODUCT, agree, interpreted

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ((Tile("z", 4),), "no axis z"),
        ((Tile("k", 4),), "only spatial axes"),
        ((Unroll("m", 2),), "only reduced axes"),
        ((Order(("k",)),), "shared axes"),
        ((Parallel(("k",)),), "shared axes"),
        ((Tile("m", 0),), ">= 1"),
        ((Vectorize("n", 3),), "3 lanes"),
        ((Tile("n", 4), Vectorize("n", 2)), "2 lanes"),
        ((Vectorize("n", 4),), "multiple of 4"),
        ((Tile("n", 6), Vectorize("n", 4)), "multiple of 4"),
        ((Tile("n", 4), Vectorize("n", 4), Vectorize("k", 4)), "two vectorised"),
        ((Tile("n", 12), Tile("m", 12)), "copies of a body"),
        ((Order(("m", "n")), Parallel(("n",))), "parallel axes come first"),
        ((Tile("n", 4), Pack(1, "m")), "does not depend on m"),
        ((Pack(1, "n"),), "no tile to pack"),
        ((Tile("n", 4), Pack(2, "n")), "not read at one index"),
    ],
    ids=lambda x: "" if isinstance(x, str) else describe(x),
)
def test_illegal_schedules_say_why(steps: tuple[Step, ...], why: str) -> None:
    spec, _ = specs.matmul(RNG, 13, 13, 9)
    with pytest.raises(ScheduleError, match=why):
        apply(spec, steps)


def test_a_vectorised_reduction_is_innermost() -> None:
    spec, inputs = specs.conv(RNG, 4, 4, 5, 2, 3)
    schedule = (Vectorize("kx"), Partial("kx", 2))
    agree(interpreted(spec, schedule, inputs), specs.evaluate(spec, inputs), 0.0, "kx is made innermost")


def test_nest_text(golden: Callable[[str, str], None]) -> None:
    spec, _ = specs.matmul(RNG, 5, 11, 7, bias=True, constant=True)
    golden("matmul.nest", f"{spec.describe()}\n{describe(PRODUCT)}\n{apply(spec, PRODUCT)}\n")


def test_softmax_nest_text(golden: Callable[[str, str], None]) -> None:
    spec, _ = specs.softmax(RNG, 3, 10)
    schedule = (Vectorize("r"), Tile("r", 4), Parallel(("i",)))
    golden("softmax.nest", f"{spec.describe()}\n{describe(schedule)}\n{apply(spec, schedule)}\n")


def test_wasm_listing(golden: Callable[[str, str], None]) -> None:
    spec, _ = specs.matmul(RNG, 5, 11, 7, bias=True, constant=True)
    golden("matmul.wat", listing(emit(apply(spec, PRODUCT), Target())))


# ---- mended: each test failed once ----


def test_a_tile_wider_than_its_axis_packs_as_it_is_read() -> None:
    """The panels were made for a tile of 2, the loop nest had shrunk it to 1."""
    spec, inputs = specs.matmul(RNG, 3, 1, 4, transposed=True)
    schedule = (Tile("n", 2), Pack(1, "n"))
    agree(interpreted(spec, schedule, inputs), specs.evaluate(spec, inputs), 0.0, describe(schedule))


def test_an_operand_read_where_its_axis_is_reduced_is_not_packed() -> None:
    spec, _ = specs.softmax(RNG, 2, 8)
    with pytest.raises(ScheduleError, match="has no tiles"):
        apply(spec, (Tile("r", 4), Pack(0, "r")))


def test_a_place_that_a_stage_found_has_no_lanes() -> None:
    """Each lane's place was taken for that of the first: TopK along columns read other columns' blocks."""
    first = Stage(
        (), (Axis("r", 6),), "sum", load(0, Index(0, {"m": 6, "r": 1}), "i32"), acc("i32"), keep="at"
    )
    found = Index(0, {local("at", "i32"): 1})
    last = Stage((), (), "", None, load(1, found, "f32"), 2, Index.of("m"))
    operands = (Operand("i32", 48, "in"), Operand("f32", 99, "in"), Operand("f32", 8, "out"))
    spec = KernelSpec("places", (Axis("m", 8),), (first, last), operands)
    with pytest.raises(ScheduleError, match="find places"):
        apply(spec, (Tile("m", 4), Vectorize("m", 4)))
    inputs = [RNG.integers(0, 16, 48).astype(np.int32), RNG.normal(size=99).astype(np.float32)]
    schedule = default_schedule(spec, Target())
    agree(interpreted(spec, schedule, inputs), specs.evaluate(spec, inputs), 0.0, describe(schedule))


@pytest.mark.parametrize("extent", [1, 3, 5])
def test_lanes_past_the_end_of_a_gather_read_nowhere(extent: int) -> None:
    """Lanes that are not stored took their index from past the index buffer and trapped."""
    place = load(0, Index(0, {"i0": 9}), "i32")
    value = load(1, Index(0, {place: 1}), "f32")
    indices = RNG.integers(0, 4, 9 * extent).astype(np.int32)
    operands = (Operand("i32", 9 * extent, "in"), Operand("f32", 4, "in"), Operand("f32", extent, "out"))
    stage = Stage((), (), "", None, value, 2, Index.of("i0"))
    spec = KernelSpec("gather", (Axis("i0", extent),), (stage,), operands)
    inputs = [indices, np.arange(4, dtype=np.float32)]
    found = kernels.run_spec(spec, (Tile("i0", 4), Vectorize("i0")), Target(), inputs)
    np.testing.assert_array_equal(found[0], indices[::9].astype(np.float32))


def test_the_smallest_integer_divided_by_minus_one_wraps() -> None:
    spec, inputs = specs.pointwise(
        RNG, Expr("div", "i32", (load(0, Index.of("i0"), "i32"), load(1, Index.of("i0"), "i32"))), (3,),
        [("i32", (3,)), ("i32", (3,))],
    )  # fmt: skip
    inputs = [np.array([-(2**31), 7, -7], np.int32), np.array([-1, 0, 2], np.int32)]
    for found in (interpreted(spec, (), inputs), kernels.run_spec(spec, (), Target(), inputs)):
        np.testing.assert_array_equal(found[0], [-(2**31), 0, -3])


def test_floats_from_two_to_the_31_become_u32_in_vectors() -> None:
    spec, _ = specs.pointwise(RNG, cast(load(0, Index.of("i0"), "f32"), "u32"), (4,), [("f32", (4,))])
    found = kernels.run_spec(
        spec, (Tile("i0", 4), Vectorize("i0")), Target(), [np.array([3e9, 5, 0, -2], np.float32)]
    )
    np.testing.assert_array_equal(found[0], np.array([3000000000, 5, 0, 2**32 - 2], np.uint32))


@pytest.mark.parametrize("combine", ["sum", "prod", "max", "pmax", "pmin"])
def test_narrow_integers_wrap_across_lanes(combine: str) -> None:
    spec, _ = specs.reduction(RNG, 1, 1, 8, combine, "u8", "c")
    x = np.array([200, 100, 3, 7, 9, 11, 13, 250], np.uint8)
    found = kernels.run_spec(spec, (Vectorize("c"),), Target(), [x])
    agree(found, specs.evaluate(spec, [x]), 0.0, combine)


@pytest.mark.parametrize("shares", [(0, 1), (0, 3), (0, 2, 3, 7), (0, 50, 99, 100, 1000)])
def test_a_kernel_takes_its_share_in_anothers_tiles(shares: tuple[int, ...]) -> None:
    """A candidate with seven tiles in place of one with more or fewer: each tile is done, and done once."""
    counting = Expr("add", "i32", (load(0, Index.of("i0"), "i32"), load(1, Index.of("i0"), "i32")))
    spec, inputs = specs.pointwise(RNG, counting, (14,), [("i32", (14,)), ("i32", (14,))])
    spec = replace(spec, operands=(replace(spec.operands[0], role="out"), *spec.operands[1:]))
    spec = replace(spec, stages=(replace(spec.stages[0], out=0),))
    nest = apply(spec, (Tile("i0", 2), Parallel(("i0",))))
    assert nest.tiles == 7
    buffers = [np.zeros(14, np.int32), inputs[1].reshape(-1), np.zeros(14, np.int32)]
    found = kernels.run_nest(nest, Target(), buffers, shares)
    np.testing.assert_array_equal(found[0], buffers[1])  # in place: doing a tile twice would double it
