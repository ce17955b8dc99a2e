"""The WGSL that the emitter prints, run in Chromium on SwiftShader (the adapter is asserted) against numpy:
products, convolutions, rows, reductions, indices, and any schedule of any spec.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nnjit.codegen.dtypes import NUMPY
from nnjit.codegen.expr import (
    Expr,
    Index,
    UnsupportedExpr,
    axis,
    cast,
    compare,
    const,
    guarded,
    load,
    op,
    select,
)
from nnjit.codegen.schedule.group_steps import Team
from nnjit.codegen.schedule.steps import (
    Order,
    Parallel,
    Partial,
    Schedule,
    ScheduleError,
    Tile,
    Unroll,
    Vectorize,
)
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from nnjit.codegen.wgsl.target import WgslTarget
from tests.support import specs
from tests.support.expressions import cases, scheduled
from tests.support.schedules import PRODUCT, contractions, reductions, schedules

if TYPE_CHECKING:
    from playwright.sync_api import Page
from .wgsl_page import NEAR, RNG, Run, check, number

pytestmark = pytest.mark.swiftshader


# ---- products ----


@pytest.mark.parametrize(
    ("m", "n", "k"), [(1, 1, 1), (7, 5, 3), (4, 8, 16), (5, 9, 17), (13, 31, 11), (1, 40, 9), (33, 3, 8)]
)
def test_matmul(run: Run, m: int, n: int, k: int) -> None:
    spec, (a, b) = specs.matmul(RNG, m, n, k)
    check(run, (spec, [a, b]), wanted=a @ b)


@pytest.mark.parametrize("transposed", [False, True])
def test_batched_matmul_with_bias_and_relu(run: Run, transposed: bool) -> None:
    spec, (a, b, c) = specs.matmul(RNG, 6, 10, 5, batch=3, bias=True, transposed=transposed, constant=True)
    wanted = np.maximum(a @ (b.T if transposed else b) + c, 0)
    check(run, (spec, [a, b, c]), wanted=wanted)


@pytest.mark.parametrize("dtype", ["i32", "u32"])
def test_integer_matmul(run: Run, dtype: str) -> None:
    check(run, specs.matmul(RNG, 5, 6, 7, dtype))


def test_packed_panels_and_tails(run: Run) -> None:
    """The Wasm backend's kind of schedule, panels included, through the same Pack step."""
    spec, (a, b, c) = specs.matmul(RNG, 5, 11, 7, batch=2, bias=True, constant=True)
    check(run, (spec, [a, b, c]), schedule=PRODUCT, wanted=np.maximum(a @ b + c, 0))


@pytest.mark.parametrize(
    ("h", "w", "ci", "co", "kernel", "stride", "pad", "groups"),
    [
        (5, 6, 3, 7, 1, 1, 0, 1),  # 1x1
        (7, 6, 3, 4, 3, 2, 1, 1),  # 3x3, strided, padded
        (6, 5, 4, 8, 3, 1, 1, 1),
        (6, 7, 1, 1, 3, 1, 1, 5),  # depthwise
        (5, 5, 2, 3, 2, 1, 0, 2),  # grouped
    ],
)
def test_conv(
    run: Run, h: int, w: int, ci: int, co: int, kernel: int, stride: int, pad: int, groups: int
) -> None:
    spec, (x, weight) = specs.conv(RNG, h, w, ci, co, kernel, stride, pad, groups)
    check(run, (spec, [x, weight]), wanted=_conv(x, weight, stride, pad))


def _conv(x: Any, weight: Any, stride: int, pad: int) -> Any:
    """x[y, x, g, i], weight[g, o, i, ky, kx] -> [p, q, g, o], by a sum over window positions."""
    kernel = weight.shape[-1]
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0), (0, 0)))
    oh, ow = ((n - kernel) // stride + 1 for n in x.shape[:2])
    out = np.zeros((oh, ow, *weight.shape[:2]), np.float32)
    for ky in range(kernel):
        for kx in range(kernel):
            window = x[ky : ky + oh * stride : stride, kx : kx + ow * stride : stride][:oh, :ow]
            out += np.einsum("pqgi,goi->pqgo", window, weight[..., ky, kx])
    return out


# ---- rows ----


@pytest.mark.parametrize(("rows", "n"), [(1, 1), (3, 10), (5, 64), (70, 7)])
def test_softmax(run: Run, rows: int, n: int) -> None:
    spec, (x,) = specs.softmax(RNG, rows, n)
    e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    check(run, (spec, [x]), NEAR, wanted=e / e.sum(1, keepdims=True))


@pytest.mark.parametrize(("rows", "n"), [(2, 3), (5, 33), (4, 64)])
def test_layer_norm(run: Run, rows: int, n: int) -> None:
    spec, (x, weight, bias) = specs.layer_norm(RNG, rows, n)
    v = x.astype(np.float64)
    wanted = (v - v.mean(1, keepdims=True)) / np.sqrt(v.var(1, keepdims=True) + 1e-5) * weight + bias
    check(run, (spec, [x, weight, bias]), 1e-5, wanted=wanted)  # 33 additions twice, then a division


@pytest.mark.parametrize("dtype", ["i8", "u8"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 8, 32), (9, 12, 16), (3, 5, 7), (17, 36, 40)])
def test_weights_of_bytes_stay_four_to_a_word(
    run: Run, m: int, n: int, k: int, transposed: bool, dtype: str
) -> None:
    """By vectors where all reads are whole words, else each byte by itself."""
    spec, (a, _) = specs.matmul(RNG, m, n, k, transposed=transposed)
    (stage,) = spec.stages
    assert stage.body is not None
    left, right = stage.body.args
    body = op("mul", left, cast(load(1, right.attr.index, dtype), "f32"))
    packed = Operand(dtype, n * k, "in", True, True)
    spec = replace(
        spec, stages=(replace(stage, body=body),), operands=(spec.operands[0], packed, spec.operands[2])
    )
    low, high = (-128, 128) if dtype == "i8" else (0, 256)
    check(run, (spec, [a, RNG.integers(low, high, n * k).astype(NUMPY[dtype])]))


def test_gathered_bytes(run: Run) -> None:
    """A table of bytes read at places that are known at run time only, scalars and rows."""
    table, places = RNG.integers(0, 256, 77).astype(np.uint8), RNG.integers(0, 7, 9).astype(np.int32)
    for width in (1, 4, 11):
        row = load(0, Index.of("i"), "i32")
        value = load(1, Index(0, {row: width, "j": 1}), "u8")
        operands = (
            Operand("i32", 9, "in"),
            Operand("u8", 7 * width, "in", True, True),
            Operand("i32", 9 * width, "out"),
        )
        stage = Stage((), (), "", None, cast(value, "i32"), 2, Index(0, {"i": width, "j": 1}))
        spec = KernelSpec("bytes", (Axis("i", 9), Axis("j", width)), (stage,), operands)
        check(
            run,
            (spec, [places, table[: 7 * width]]),
            wanted=table[: 7 * width].reshape(7, width)[places].astype(np.int32),
        )


def test_rows_in_subgroups(run: Run, gpu: Page) -> None:
    sizes = gpu.evaluate(
        "navigator.gpu.requestAdapter().then((a) => [a.info.subgroupMinSize, a.info.subgroupMaxSize])"
    )
    assert sizes in ([4, 4], [8, 8]), "of SwiftShader, of lavapipe"
    for n in (7, 33):
        for case in (
            specs.softmax(RNG, 5, n),
            specs.layer_norm(RNG, 5, n),
            specs.reduction(RNG, 3, 2, n, "max", "f32", "c"),
        ):
            for team in (Team(4, 4), Team(16, 4)):
                check(run, case, 1e-5, (team,))


@pytest.mark.parametrize(
    "schedule",
    [
        (Vectorize("r"), Partial("r", 2), Tile("r", 8)),
        (Vectorize("r"),),
        (Tile("i", 4), Vectorize("i")),
        (Unroll("r", 3),),
    ],
    ids=["partial", "lanes", "rows", "scalar"],
)
def test_softmax_under_other_schedules(run: Run, schedule: Schedule) -> None:
    spec, (x,) = specs.softmax(RNG, 6, 21)
    e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    check(run, (spec, [x]), NEAR, (*schedule, Parallel(("i",))), e / e.sum(1, keepdims=True))


@pytest.mark.parametrize("combine", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("over", ["c", "ab", "abc"])
def test_reductions(run: Run, combine: str, over: str) -> None:
    for dtype in ("f32", "i32", "u32"):
        check(run, specs.reduction(RNG, 3, 2, 9, combine, dtype, over))


@pytest.mark.parametrize("combine", ["any", "all"])
def test_reductions_of_bools(run: Run, combine: str) -> None:
    check(run, specs.reduction(RNG, 3, 2, 9, combine, "bool", "c"))
    spec, inputs = specs.reduction(RNG, 3, 2, 9, combine, "bool", "c")
    check(run, (spec, inputs), schedule=(Vectorize("c"), Parallel(("a",))))


@pytest.mark.parametrize("kind", ["i32", "i64"])
def test_gather(run: Run, kind: str) -> None:
    """Rows of a table by run-time indices, which ONNX keeps in i64."""
    place = cast(load(0, Index.of("i0"), kind), "i32")
    value = load(1, Index(0, {place: 6, "i1": 1}), "f32")
    spec, _ = specs.pointwise(RNG, value, (9, 6), [(kind, (9,)), ("f32", (5, 6))])
    inputs = [RNG.integers(0, 5, 9).astype(NUMPY[kind]), RNG.normal(0, 1, (5, 6)).astype(np.float32)]
    wanted = inputs[1][inputs[0]]
    for steps in ((Tile("i1", 4), Vectorize("i1")), (Tile("i0", 4), Vectorize("i0")), ()):
        check(run, (spec, inputs), schedule=(*steps, Parallel(("i0",))), wanted=wanted)


def test_arg_max_writes_i64(run: Run) -> None:
    """The first place of the largest element: two stages, the second one's result an i64."""
    at = Index(0, {"i": 7, "r": 1})
    own = (Axis("r", 7),)
    top = Expr("local", "f32", (), "top")
    here = select(compare("eq", load(0, at, "f32"), top), axis("r"), const(2**31 - 1, "i32"))
    stages = (
        Stage((), own, "max", load(0, at, "f32"), Expr("acc", "f32", (), "acc"), keep="top"),
        Stage((), own, "min", here, cast(Expr("acc", "i32", (), "acc"), "i64"), 1, Index.of("i")),
    )
    spec = KernelSpec("argmax", (Axis("i", 5),), stages, (Operand("f32", 35, "in"), Operand("i64", 5, "out")))
    x = specs.whole(RNG, (5, 7), "f32")
    check(run, (spec, [x]), wanted=x.argmax(1), schedule=(Parallel(("i",)),))


def test_strided_tail_of_a_guarded_reduction(run: Run) -> None:
    """SwiftShader computes min(vec4i(0, 1, 2, 3), vec4i(0)) >= vec4i(0) as false: the emitter folds it."""
    spec, inputs = specs.conv(np.random.default_rng(3), 1, 1, 3, 1, 1, 1, 1)
    check(run, (spec, inputs), schedule=(Tile("p", 2), Vectorize("ky"), Order(("g", "o", "p", "q"))))


def test_a_guarded_read_before_the_buffer(run: Run) -> None:
    """A negative index that is a constant made WGSL refuse the shader."""
    at = Index(-2, {"i1": 1})
    value = guarded(0, at, "f32", ((at, 4),), number(9))
    spec, inputs = specs.pointwise(RNG, value, (1, 7), [("f32", (4,))])
    for schedule in ((Tile("i1", 4), Vectorize("i1")), ()):
        check(run, (spec, inputs), schedule=schedule)


def test_more_workgroups_than_one_dimension_holds(run: Run) -> None:
    """The grid folds into y: here the limit is 3 workgroups instead of 65,535."""
    value = op("add", load(0, Index.of("i0"), "f32"), number(1))
    spec, inputs = specs.pointwise(RNG, value, (43,), [("f32", (43,))])
    found = run(spec, (Parallel(("i0",)),), inputs, WgslTarget(workgroup=4, max_groups=3))
    np.testing.assert_array_equal(found[0], inputs[0] + 1)


def test_random_expressions(run: Run) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(cases(["f32", "i32", "u32", "bool"], plain=True))
    def holds(case: tuple[KernelSpec, list[Any], int]) -> None:
        spec, inputs, which = case
        try:
            check(run, (spec, inputs), schedule=(*scheduled(which), Parallel(("i0", "i1"))))
        except UnsupportedExpr:
            assume(False)

    holds()


@pytest.mark.parametrize("family", [contractions, reductions])
def test_random_schedules(run: Run, family: Any) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(family(["f32", "i32", "u32"]), st.data())
    def holds(case: tuple[KernelSpec, list[Any]], data: st.DataObject) -> None:
        schedule = data.draw(schedules(case[0]))
        try:
            check(run, case, 1e-4 if case[0].name in ("softmax", "layer_norm") else 0.0, schedule)
        except ScheduleError:
            assume(False)

    holds()


@pytest.mark.parametrize("family", [contractions, reductions])
def test_default_gpu_schedules_fit(run: Run, family: Any) -> None:
    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(family(["f32", "i32", "u32"]))
    def holds(case: tuple[KernelSpec, list[Any]]) -> None:
        check(run, case, 1e-4 if case[0].name in ("softmax", "layer_norm") else 0.0)

    holds()
