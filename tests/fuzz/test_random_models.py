"""A few random models of each area, and the smallest cases of what larger runs (`python -m tests.fuzz`) have found."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from nnjit.runtime.local import LocalSession
from tests.fuzz.areas import AREAS, draw
from tests.fuzz.judge import judge
from tests.support.single import model_of, native, on_kernels

F32 = np.float32
INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("block", range(3))
@pytest.mark.parametrize("area", sorted(AREAS))
def test_random_models(area: str, block: int) -> None:
    """Each output is what onnx.reference makes of the nodes."""
    ran = 0
    for seed in range(10_000 + 12 * block, 10_012 + 12 * block):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case = draw(area, seed, sure=True)
            if not case.outputs:
                continue
            ran += 1
            fault = judge(case, ask=False)
        assert fault is None, f"{area} {seed}: {fault}\n{case.text()}"
    assert ran > 6


def one(op: str, dtype: Any, attrs: dict[str, Any], constants: set[str] | None = None, **arrays: Any) -> Any:
    """What the operator's kernels answer; `constants` names the arrays that are not fed."""
    held = constants or set()
    feeds = {n: np.asarray(a) for n, a in arrays.items() if n not in held}
    kept = {n: np.asarray(a) for n, a in arrays.items() if n in held}
    return on_kernels(model_of(op, feeds, [("y", dtype)], attrs, kept, list(arrays)), feeds)["y"]


@pytest.mark.parametrize("reduction", ["none", "add", "max"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32, np.int64, np.uint8, np.bool_])
def test_lanes_scatter_to_places_of_their_own(dtype: Any, reduction: str) -> None:
    """The four lanes of a vector of updates went to where the first one goes."""
    if dtype == np.bool_ and reduction != "none":
        return
    rng = np.random.default_rng(3)
    x, updates = rng.integers(0, 2 if dtype == np.bool_ else 90, (2, 7)), rng.integers(0, 2, (2, 7))
    at = np.array([[0, 1, -1, 0, 1, 0, -2], [1, 0, 0, 1, 0, 1, 1]])
    wanted = x.astype(dtype)
    for place in np.ndindex(*at.shape):
        old, new = wanted[at[place], place[1]], updates[place].astype(dtype)
        wanted[at[place], place[1]] = {"none": new, "add": old + new, "max": max(old, new)}[reduction]
    attrs = {"axis": 0, "reduction": reduction}
    found = one("ScatterElements", dtype, attrs, x=x.astype(dtype), at=at, updates=updates.astype(dtype))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("constants", [set(), {"b"}, {"a", "b"}])
@pytest.mark.parametrize(("a", "b"), [((3, 0), (0,)), ((1, 0), (0, 16)), ((2, 5, 0), (0, 9)), ((0,), (0,))])
def test_products_of_nothing(a: tuple[int, ...], b: tuple[int, ...], constants: set[str]) -> None:
    left, right = np.zeros(a, F32), np.zeros(b, F32)
    if "a" in constants:
        c = np.ones((7, 13), F32)
        arrays = {"a": np.zeros((7, 0), F32), "b": np.zeros((0, 13), F32), "c": c}
        np.testing.assert_array_equal(one("Gemm", F32, {"beta": 0.5}, constants, **arrays), c / 2)
        return
    found = one("MatMul", F32, {}, constants, a=left, b=right)
    np.testing.assert_array_equal(found, np.matmul(left, right))


def test_tanh_reaches_one() -> None:
    x = F32([9.7, 100, INF, -9.7, -1e30, -INF])
    np.testing.assert_array_equal(one("Tanh", F32, {}, x=x), np.sign(x))
    gelu = one("Gelu", F32, {"approximate": "tanh"}, x=F32([-50, -1e6, -3e38, 50]))
    np.testing.assert_array_equal(gelu, [0, 0, 0, 50])


def test_power_of_minus_infinity() -> None:
    a, b = F32([-INF, -INF, -INF, -INF, -2, INF]), F32([1.5, -1.5, 3, 2, 1.5, 0.5])
    np.testing.assert_array_equal(one("Pow", F32, {}, a=a, b=b), [INF, 0, -INF, INF, NAN, INF])


def test_log_sum_exp_of_infinities() -> None:
    x = F32([[1, INF, 2], [-INF, -INF, -INF], [0, -INF, 0], [1, NAN, INF]])
    found = one("ReduceLogSumExp", F32, {"keepdims": 0}, {"axes"}, x=x, axes=np.int64([1]))
    np.testing.assert_allclose(found, [INF, -INF, np.log(2), NAN], rtol=1e-6)


def test_folded_sums_before_an_infinity() -> None:
    attrs = {"exclusive": 1, "reverse": 1}
    for constants in ({"axis"}, {"axis", "x"}):
        found = one("CumSum", F32, attrs, constants, x=F32([1, -INF, 3, 4]), axis=np.int64(0))
        np.testing.assert_array_equal(found, [-INF, 7, 4, 0])


def test_a_nearest_element_is_not_the_next_one_by_rounding() -> None:
    """The middle of 9 elements shown as 4: the first is element 1 and not a little more than that."""
    attrs = {
        "coordinate_transformation_mode": "half_pixel_symmetric",
        "mode": "nearest",
        "nearest_mode": "ceil",
    }
    x = np.arange(9, dtype=F32).reshape(1, 1, 9)
    model = model_of("Resize", {"x": x}, [("y", F32)], attrs, {"s": F32([1, 1, 0.5])}, ["x", "", "s"])
    np.testing.assert_array_equal(on_kernels(model, {"x": x})["y"].ravel(), [1, 3, 5, 7])


def test_a_cubic_place_is_not_the_one_before_by_rounding() -> None:
    """The same middle by four elements: at a whole place the answer is the element there. The reference has another."""
    attrs = {"coordinate_transformation_mode": "half_pixel_symmetric", "mode": "cubic", "exclude_outside": 1}
    x = np.random.default_rng(0).standard_normal((1, 1, 5, 9)).astype(F32)
    model = model_of("Resize", {"x": x}, [("y", F32)], attrs, {"s": F32([1, 1, 1, 0.5])}, ["x", "", "s"])
    found = on_kernels(model, {"x": x})["y"]
    np.testing.assert_allclose(found, x[..., 1::2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found, native(model, {"x": x})["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("counted", [0, 1])
def test_means_count_the_pads_that_auto_pad_stands_for(auto_pad: str, counted: int) -> None:
    x = np.arange(1, 12, dtype=F32).reshape(1, 1, 11)
    attrs = {"auto_pad": auto_pad, "count_include_pad": counted, "kernel_shape": [4], "strides": [2]}
    model = model_of("AveragePool", {"x": x}, [("y", F32)], attrs)
    np.testing.assert_allclose(on_kernels(model, {"x": x})["y"], native(model, {"x": x})["y"], rtol=1e-6)


SOFTMAX = [((5, 768), -1), ((3, 7, 19), -1), ((2, 3), -1), ((4, 6, 50), 1), ((1, 20000), -1)]


@pytest.mark.parametrize(("shape", "axis"), SOFTMAX)
def test_softmax_of_halves(shape: tuple[int, ...], axis: int) -> None:
    """Exponentials stay in f32 between the passes; the quotient alone is rounded."""
    x = np.random.default_rng(1).normal(0, 3, shape).astype(np.float16)
    e = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    wanted = e / e.sum(axis, keepdims=True)
    found = one("Softmax", np.float16, {"axis": axis}, x=x)
    np.testing.assert_allclose(found.astype(np.float64), wanted, rtol=2**-10, atol=2**-24)


def test_conversions_of_halves() -> None:
    """Widening and rounding keep every bit pattern: infinities, NaNs of any payload, denormals."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    wide = one("Cast", F32, {"to": 1}, x=halves)
    np.testing.assert_array_equal(wide, halves.astype(F32))
    np.testing.assert_array_equal(np.signbit(wide), np.signbit(halves))
    with np.errstate(all="ignore"):
        near = np.concatenate([wide, np.nextafter(wide, F32(0)), np.nextafter(wide, F32(INF))])
    patterns = np.concatenate(
        [near.view(np.uint32), np.arange(0x7F7FFFF0, 0x7FFFFFFF, 4093, dtype=np.uint32)]
    )
    x = np.concatenate([patterns, patterns | np.uint32(1 << 31), patterns + np.uint32(0x1000)]).view(F32)
    with np.errstate(all="ignore"):
        wanted = x.astype(np.float16)
    found = one("Cast", np.float16, {"to": 10}, x=x)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(wanted))


def several(
    nodes: list[Any], feeds: dict[str, Any], constants: dict[str, Any], outputs: list[str]
) -> dict[str, Any]:
    """What a model of several nodes answers, and onnx.reference after it."""

    def info(name: str, array: Any) -> Any:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    kinds = {n: a.dtype for n, a in feeds.items()}
    kind = helper.np_dtype_to_tensor_dtype(next(iter(kinds.values())))
    graph = helper.make_graph(
        nodes, "several", [info(n, a) for n, a in feeds.items()],
        [helper.make_tensor_value_info(n, kind, None) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    wanted = ReferenceEvaluator(made).run(None, feeds)
    found = LocalSession(made.SerializeToString()).run(feeds)
    for name, array in zip(outputs, wanted, strict=True):
        np.testing.assert_allclose(found[name], array, rtol=2e-3, err_msg=name)
    return found


def test_a_constant_is_there_before_a_step_at_load_reads_it_under_another_name() -> None:
    """x and its reshaped self are outputs, and the product reads rows that are widened at load."""
    x = np.arange(1, 17, dtype=np.float16)
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["column"]),
        helper.make_node("Abs", ["x"], ["same"]),
        helper.make_node("MatMul", ["column", "row"], ["y"]),
    ]
    feeds = {"row": np.arange(17, dtype=np.float16).reshape(1, 17)}
    several(nodes, feeds, {"x": x, "shape": np.int64([-1, 1])}, ["same", "y", "column"])


def test_a_node_on_the_reference_reads_an_output_where_it_was_written() -> None:
    """t is an output, a view of it is another, and a Scan reads it: a copy for the caller comes later."""

    def info(name: str, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, 1, shape or None)

    row = [helper.make_node("Add", ["s", "r"], ["s_out"]), helper.make_node("Tanh", ["s_out"], ["each"])]
    body = helper.make_graph(row, "row", [info("s", 5, 3), info("r", 5, 3)], [info("s_out"), info("each")])
    nodes = [
        helper.make_node("Max", ["a", "b"], ["t"]),
        helper.make_node("Scan", ["start", "t"], ["sum", "all"], body=body, num_scan_inputs=1),
        helper.make_node("Reshape", ["t", "shape"], ["view"]),
    ]
    rng = np.random.default_rng(2)
    feeds = {
        n: rng.normal(size=s).astype(F32) for n, s in (("a", (1, 3)), ("b", (1, 5, 3)), ("start", (5, 3)))
    }
    several(nodes, feeds, {"shape": np.int64([3, 5])}, ["sum", "all", "view", "t"])


def test_a_tensor_of_two_steps_takes_its_place_with_the_first() -> None:
    """ScatterND copies x to where x was and writes the updates there: the second step has no operand there."""
    x = np.arange(32, dtype=F32).reshape(1, 1, 4, 8)
    nodes = [
        helper.make_node("Neg", ["x"], ["t"]),
        helper.make_node("ScatterND", ["t", "at", "updates"], ["y"], reduction="mul"),
        helper.make_node("Trilu", ["y"], ["z"], upper=0),
    ]
    feeds = {"x": x, "updates": np.full((1, 1, 4, 8), 2, F32)}
    several(nodes, feeds, {"at": np.int64([[0]])}, ["z"])
