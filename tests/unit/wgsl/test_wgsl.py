"""The text of shaders, what WGSL cannot say, and GPU schedules: no browser. tests/browser/test_wgsl.py runs them."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod

import numpy as np
import pytest

from nnjit.codegen.dtypes import NUMPY
from nnjit.codegen.expr import Expr, Index, UnsupportedExpr, axis, cast, compare, const, load, op
from nnjit.codegen.loops import For, Nest, Set, Store
from nnjit.codegen.rewriting import walk
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.gpu_rules import gpu_schedule
from nnjit.codegen.schedule.group_steps import Team, Threads
from nnjit.codegen.schedule.steps import (
    Pack,
    Parallel,
    Schedule,
    Tile,
    Vectorize,
    describe,
)
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from nnjit.codegen.wgsl.emit import emit
from nnjit.codegen.wgsl.legalize import legal
from nnjit.codegen.wgsl.names import KEYWORDS, RESERVED, Names
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.codegen.wgsl.types import literal
from tests.support import specs
from tests.support.schedules import PRODUCT

RNG = np.random.default_rng(0)
TARGET = WgslTarget()
I0 = Index.of("i0")


def text(spec: KernelSpec, schedule: Schedule) -> str:
    return emit(apply(spec, schedule), TARGET).wgsl


# ---- golden texts ----


def test_matmul(golden: Callable[[str, str], None]) -> None:
    spec, _ = specs.matmul(RNG, 5, 11, 7, bias=True, constant=True)
    golden("matmul.wgsl", text(spec, PRODUCT))


def test_aligned_operands_are_vectors(golden: Callable[[str, str], None]) -> None:
    spec, _ = specs.matmul(RNG, 8, 16, 8)
    schedule = gpu_schedule(spec, TARGET)
    golden("aligned_matmul.wgsl", f"// {describe(schedule)}\n{text(spec, schedule)}")


def test_softmax(golden: Callable[[str, str], None]) -> None:
    spec, _ = specs.softmax(RNG, 3, 10)
    golden("softmax.wgsl", text(spec, gpu_schedule(spec, TARGET)))


def test_conv(golden: Callable[[str, str], None]) -> None:
    spec, _ = specs.conv(RNG, 5, 5, 3, 4, 3, stride=2, pad=1)
    golden("conv.wgsl", text(spec, gpu_schedule(spec, TARGET)))


def test_gather(golden: Callable[[str, str], None]) -> None:
    place = cast(load(0, Index(0, {"i0": 3}), "i64"), "i32")
    value = op("max", load(1, Index(0, {place: 2}), "f32"), const(float("-inf"), "f32"))
    spec, _ = specs.pointwise(RNG, value, (6,), [("i64", (18,)), ("f32", (9,))])
    golden("gather.wgsl", text(spec, (Tile("i0", 4), Vectorize("i0"), Parallel(("i0",)))))


# ---- what a runner is told ----


def test_bindings_are_whole_vectors_in_operand_order() -> None:
    place = cast(load(0, I0, "i64"), "i32")
    spec, _ = specs.pointwise(
        RNG, compare("gt", load(1, Index(0, {place: 1}), "f32"), const(0, "f32")), (5,), [("i64", (5,)), ("f32", (7,))]
    )  # fmt: skip
    shader = emit(apply(spec, ()), TARGET)
    assert [(b.binding, b.dtype, b.role, b.size, b.nbytes) for b in shader.bindings] == [
        (0, "i64", "in", 5, 48), (1, "f32", "in", 7, 32), (2, "bool", "out", 5, 32),
    ]  # fmt: skip
    js = shader.to_js()
    assert js["entryPoint"] == "kernel" and js["workgroupSize"] == 64 and js["bindings"][0]["nbytes"] == 48


@pytest.mark.parametrize(
    ("extent", "grid"), [(1, (1, 1, 1)), (64, (1, 1, 1)), (65, (2, 1, 1)), (64 * 10 + 1, (6, 2, 1))]
)
def test_the_grid_covers_every_tile(extent: int, grid: tuple[int, int, int]) -> None:
    spec, _ = specs.pointwise(RNG, op("neg", load(0, I0, "f32")), (extent,), [("f32", (extent,))])
    target = WgslTarget(max_groups=6)
    shader = emit(apply(spec, (Parallel(("i0",)),)), target)
    assert shader.dispatch == grid
    assert ("id.y * 384u" in shader.wgsl) == (grid[1] > 1)


# ---- what WGSL cannot say ----


def test_types_without_storage_are_unsupported() -> None:
    spec, _ = specs.pointwise(RNG, load(0, I0, "f64"), (4,), [("f64", (4,))])
    with pytest.raises(UnsupportedExpr, match="f64"):
        text(spec, ())


@pytest.mark.parametrize(
    ("dtype", "stored"), [("i8", "i32"), ("u16", "u32"), ("f16", "f32"), ("bf16", "f32")]
)
def test_narrow_types_take_four_bytes(dtype: str, stored: str) -> None:
    spec, _ = specs.pointwise(RNG, load(0, I0, dtype), (4,), [(dtype, (4,))])
    assert f"in0: array<{stored}>" in text(spec, ())


def test_f16_is_stored_as_it_is_where_the_device_has_it() -> None:
    spec, _ = specs.pointwise(RNG, load(0, I0, "f16"), (4,), [("f16", (4,))])
    shader = emit(apply(spec, ()), WgslTarget(features=frozenset({"shader-f16"})))
    assert "enable f16;" in shader.wgsl and "in0: array<f16>" in shader.wgsl
    assert shader.bindings[0].nbytes == 16


def test_i64_arithmetic_takes_its_functions_along() -> None:
    value = op("div", load(0, I0, "i64"), const(3, "i64"))
    spec, _ = specs.pointwise(RNG, value, (4,), [("i64", (4,))])
    made = text(spec, ())
    for name in ("div64", "divu64", "lessu64", "sub64", "size64"):
        assert f"fn {name}(" in made
    assert "fn mul64(" not in made


def test_i64_has_no_vectors() -> None:
    spec, _ = specs.pointwise(RNG, load(0, I0, "i64"), (4,), [("i64", (4,))])
    assert "vec2i" in text(spec, ())
    with pytest.raises(UnsupportedExpr, match="vectors"):
        text(spec, (Tile("i0", 4), Vectorize("i0")))


def test_too_many_or_too_large_buffers() -> None:
    loads = [load(i, I0, "f32") for i in range(8)]
    value = loads[0]
    for x in loads[1:]:
        value = op("add", value, x)
    spec, _ = specs.pointwise(RNG, value, (4,), [("f32", (4,))] * 8)
    with pytest.raises(UnsupportedExpr, match="9 buffers"):
        text(spec, ())
    spec, _ = specs.pointwise(RNG, loads[0], (100,), [("f32", (100,))])
    with pytest.raises(UnsupportedExpr, match="400 bytes"):
        emit(apply(spec, ()), WgslTarget(max_binding_bytes=128))


def test_unknown_operations_are_unsupported() -> None:
    spec, _ = specs.pointwise(RNG, Expr("lgamma", "f32", (load(0, I0, "f32"),)), (4,), [("f32", (4,))])
    with pytest.raises(UnsupportedExpr, match="lgamma"):
        text(spec, ())


# ---- names and registers ----


def test_names_are_identifiers_and_differ() -> None:
    names = Names()
    keys = ["n.o", "n_o", "n__o", "__x", "acc0.0|1", "let", "min", "3d", "_", "f32", "typedef"]
    made = [names.of(k) for k in keys]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", n) and "__" not in n for n in made)
    assert not set(made) & {*KEYWORDS, *RESERVED}
    assert [names.of(k) for k in keys] == made
    assert [names.numbered("t"), names.numbered("t")] == ["t0", "t1"]


def test_a_register_of_another_width_gets_another_name() -> None:
    wide = Set("r", load(0, Index(0, {"@lane": 1}), "f32"), 4)
    narrow = Set("r", load(0, Index(1), "f32"), 1)
    body = [wide, narrow, Store(1, Index(0), Expr("reg", "f32", (), "r"), 1, 1)]
    nest = Nest(
        "widths", (Operand("f32", 4, "in"), Operand("f32", 1, "out")), 1, [For("p", 1, body, "parallel")]
    )
    wgsl = emit(nest, TARGET).wgsl
    assert "var r: vec4f =" in wgsl and "var r_1: f32 = in0[1];" in wgsl and "out1[0] = r_1;" in wgsl


def test_a_shared_value_is_read_again_after_a_store() -> None:
    """The output is read before and after it is written: the two reads are not one."""
    again = op("add", load(0, I0, "f32"), const(1, "f32"))
    body = [Store(0, I0, again, 1, 1), Store(0, I0, again, 1, 1)]
    nest = Nest("twice", (Operand("f32", 4, "out"),), 4, [For("i0", 4, body, "parallel")])  # type: ignore[list-item]
    assert emit(nest, TARGET).wgsl.count("out0[i0] = out0[i0] + 1.0f;") == 2


@pytest.mark.parametrize(
    ("value", "dtype", "wanted"),
    [
        (1.0, "f32", "1.0f"),
        (-0.0, "f32", "-0.0f"),
        (1e-5, "f32", "1e-05f"),
        (0.1, "f32", "0.1f"),
        (1e300, "f32", "infinity()"),
        (float("-inf"), "f32", "-infinity()"),
        (float("nan"), "f32", "not_a_number()"),
        (7, "i32", "7i"),
        (-(2**31), "i32", "i32(-2147483648)"),
        (-1, "u32", "4294967295u"),
        (True, "bool", "true"),
        (-1, "i64", "vec2i(-1, -1)"),
        (2**31, "i64", "vec2i(-2147483648, 0)"),
    ],
)
def test_literals(value: float, dtype: str, wanted: str) -> None:
    assert literal(value, dtype) == wanted


def test_lane_numbers_are_worked_out() -> None:
    value = op("min", axis(Index(1, {"i0": 2})), const(4, "i32"))
    spec, _ = specs.pointwise(RNG, value, (4,), [])
    assert "vec4i(1, 3, 4, 4)" in text(spec, (Tile("i0", 4), Vectorize("i0")))


# ---- schedules ----


@pytest.mark.parametrize("dtype", ["i32", "u32"])
@pytest.mark.parametrize("mask", [1, 15, 255, 2**23 - 1, 2**23, 2**24 - 1])
def test_few_bits_become_numbers_without_a_conversion(dtype: str, mask: int) -> None:
    """What is printed instead is exact; of more bits than a mantissa has it is a conversion."""
    words = np.array(
        [0, 1, 14, 15, 16, 255, 2**23 - 1, 2**23, 2**23 + 1, 2**31 - 1, 0x4B000000], NUMPY[dtype]
    )
    value = cast(op("band", load(0, Index.of("i"), dtype), const(mask, dtype)), "f32")
    printed = legal(value, {})
    assert any(e.op == "cast" for e in walk(printed)) == (mask >= 2**23)
    operands = (Operand(dtype, len(words), "in"), Operand("f32", len(words), "out"))
    stage = Stage((), (), "", None, printed, 1, Index.of("i"))
    (found,) = specs.evaluate(KernelSpec("bits", (Axis("i", len(words)),), (stage,), operands), [words])
    np.testing.assert_array_equal(found, (words & mask).astype(np.float32))


def test_a_large_product_has_larger_tiles_than_a_small_one() -> None:
    def tile(m: int, n: int) -> int:
        spec, _ = specs.matmul(RNG, m, n, 64)
        schedule = gpu_schedule(canonical(spec), WgslTarget(max_shared_bytes=49152))
        return prod(s.factor for s in schedule if isinstance(s, Tile))

    assert tile(2048, 2048) > tile(384, 384)


def test_neighbouring_threads_are_neighbours_in_the_output() -> None:
    for spec in (specs.matmul(RNG, 16, 64, 4)[0], specs.conv(RNG, 6, 6, 3, 8, 3)[0]):
        schedule = gpu_schedule(canonical(spec), TARGET)
        column = next(s.axis for s in schedule if isinstance(s, Vectorize))
        assert canonical(spec).stages[0].index.coeff(column) == 1
        assert any(isinstance(s, Threads) and s.axis == column for s in schedule)


def test_a_long_row_has_a_team_and_a_short_one_an_invocation() -> None:
    assert any(isinstance(s, Team) for s in gpu_schedule(specs.softmax(RNG, 8, 256)[0], TARGET))
    assert not any(isinstance(s, Team) for s in gpu_schedule(specs.softmax(RNG, 8, 16)[0], TARGET))


def test_constant_weights_read_across_their_rows_are_packed() -> None:
    spec, _ = specs.matmul(RNG, 8, 8, 8, transposed=True, constant=True)
    assert Pack(1, "n") in gpu_schedule(spec, TARGET)
    spec, _ = specs.matmul(RNG, 8, 8, 8, transposed=True)
    assert not any(isinstance(s, Pack) for s in gpu_schedule(spec, TARGET))
