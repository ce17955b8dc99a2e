"""Canonical passes keep values: each model runs before and after on onnx.reference. Near misses stay."""

from __future__ import annotations

import numpy as np
import pytest

from nnjit.graph.passes import PASSES
from tests.unit.graph.tools import bound, ops, randn, same

X = randn(2, 3, 4)


def one(body: str, out: str = "float[2,3,4]", **feeds: np.ndarray) -> list[str]:
    """The operators left of `y = …` on x[2,3,4], once the values are seen to be unchanged."""
    feeds = {"x": X, **feeds}
    ins = ", ".join(f"float[{','.join(map(str, v.shape))}] {k}" for k, v in feeds.items())
    return ops(same(f"g ({ins}) => ({out} y) {{ {body} }}", feeds))


# -- what passes its input through


@pytest.mark.parametrize(
    "body",
    [
        "y = Identity(x)",
        "y = Cast<to = 1>(x)",
        "y = Dropout(x)",
        "r = Constant<value_float = 0.7>() t = Constant<value = bool {0}>() y = Dropout(x, r, t)",
        "y = Transpose<perm = [0, 1, 2]>(x)",
        "a = Transpose<perm = [1, 2, 0]>(x) y = Transpose<perm = [2, 0, 1]>(a)",
        "s = Constant<value_ints = [2, 3, 4]>() y = Reshape(x, s)",
        "s = Shape(x) f = Flatten(x) y = Reshape(f, s)",
        "s = Constant<value_ints = [1, 1]>() y = Expand(x, s)",
        "s = Constant<value_ints = [1, 1, 1]>() y = Tile(x, s)",
        "p = Constant<value_ints = [0, 0, 0, 0, 0, 0]>() y = Pad(x, p)",
        "s = Constant<value_ints = [0]>() e = Constant<value_ints = [99]>() y = Slice(x, s, e)",
        "c = Constant<value_float = 1.0>() y = Mul(c, x)",
        "c = Constant<value_float = 1.0>() y = Div(x, c)",
        "c = Constant<value_float = 0.0>() y = Sub(x, c)",
        "c = Constant<value_float = 1.0>() y = Pow(x, c)",
        "y = Concat<axis = 1>(x)",
        "y = Sum(x)",
        "e = Constant<value = int64[0] {}>() y = ReduceSum<noop_with_empty_axes = 1>(x, e)",
        "a = Constant<value_ints = [0]>() u = Unsqueeze(x, a) y = Squeeze(u, a)",
    ],
)
def test_no_ops_go(body: str) -> None:
    assert one(body) == []


@pytest.mark.parametrize(
    ("body", "op"),
    [
        ("y = Transpose<perm = [0, 2, 1]>(x)", "Transpose"),
        ("c = Constant<value_float = 1.0>() y = Div(c, x)", "Div"),
        ("c = Constant<value_float = 0.0>() y = Sub(c, x)", "Sub"),
        ("c = Constant<value_float = 1.01>() y = Mul(c, x)", "Mul"),
        ("c = Constant<value = float[1,1,1,1] {1.0}>() y = Mul(c, x)", "Mul"),  # adds an axis
        ("s = Constant<value_ints = [3]>() "
        "e = Constant<value_ints = [-99]>() a = Constant<value_ints = [2]>() "
         "t = Constant<value_ints = [-1]>() y = Slice(x, s, e, a, t)", "Slice"),  # same shape, reversed
        ("p = Constant<value_ints = [1, 0, 0, -1, 0, 0]>() y = Pad(x, p)", "Pad"),  # same shape, shifted
        ("r = Constant<value = float[0] {}>() s = Constant<value = float[3] {1.0, 1.0, 1.2}>() "
         'y = Resize<coordinate_transformation_mode = "align_corners", mode = "linear">(x, r, s)', "Resize"),
    ],
)  # fmt: skip
def test_what_only_looks_like_a_no_op_stays(body: str, op: str) -> None:
    rank4 = "[1,1,1,1]" in body
    assert op in one(
        body, "float[1,2,3,4]" if rank4 else "float[2,4,3]" if "perm" in body else "float[2,3,4]"
    )


def test_transpose_of_unit_axes_is_a_reshape() -> None:
    graph = same(
        "g (float[1,5,1,4] x) => (float[5,4,1,1] y) { y = Transpose<perm = [1,3,0,2]>(x) }",
        {"x": randn(1, 5, 1, 4)},
    )
    assert ops(graph) == ["Reshape"]


def test_chain_of_shape_operators_is_one_reshape() -> None:
    body = (
        "a = Constant<value_ints = [0, 3]>() u = Unsqueeze(x, a) "
        "f = Flatten<axis = 2>(u) b = Constant<value_ints = [1]>() y = Unsqueeze(f, b)"
    )
    assert one(body, "float[2,1,12]") == ["Reshape"]


def test_empty_tensor_reshapes() -> None:
    text = (
        "g (float[0,3] x) => (float[3,0,1] y) "
        "{ s = Constant<value_ints = [3, 0, 1]>() y = Reshape<allowzero = 1>(x, s) }"
    )
    assert ops(same(text, {"x": randn(0, 3)})) == ["Reshape"]


# -- duplicates and dead nodes


def test_common_subexpressions_merge() -> None:
    body = (
        "a = Exp(x) b = Exp(x) c = Constant<value_float = 2.0>() "
        "d = Constant<value_float = 2.0>() e = Mul(a, c) f = Mul(b, d) y = Sub(e, f)"
    )
    assert one(body) == ["Exp", "Mul", "Sub"]


def test_different_attributes_do_not_merge() -> None:
    assert (
        one("a = LeakyRelu<alpha = 0.1>(x) b = LeakyRelu<alpha = 0.2>(x) y = Add(a, b)").count("LeakyRelu")
        == 2
    )


def test_dead_nodes_go_but_all_outputs_stay() -> None:
    graph = same(
        "g (float[2] x) => (float[2] y, float[2] x2, float[2] y2) "
        "{ d = Exp(x) y = Neg(x) x2 = Identity(x) y2 = Identity(y) }",
        {"x": randn(2)},
    )
    assert ops(graph) == ["Neg"]
    assert graph.outputs[1] is graph.inputs[0] and graph.outputs[2] is graph.outputs[0]


# -- one spelling


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("y = Sum(x, x, z)", ["Add", "Add"]),
        ("y = Max(x, z, w)", ["Max", "Max"]),
        ("y = Mean(x, z)", ["Add", "Div"]),
        ("c = Constant<value_float = 2.0>() y = Pow(x, c)", ["Mul"]),
        ("a = Abs(x) c = Constant<value_float = 0.5>() y = Pow(a, c)", ["Abs", "Sqrt"]),
        ("c = Constant<value_float = 3.0>() y = Pow(x, c)", ["Pow"]),
    ],
)
def test_one_spelling(body: str, left: list[str]) -> None:
    assert one(body, z=randn(2, 3, 4, seed=1), w=randn(4)) == left


def test_cast_like_is_a_cast() -> None:
    graph = same(
        "g (float[3] x, float16[1] h) => (float16[3] y) { y = CastLike(x, h) }",
        {"x": randn(3), "h": np.ones(1, np.float16)},
    )
    assert ops(graph) == ["Cast"] and graph.nodes[0].attrs["to"] == 10


@pytest.mark.parametrize(
    ("pool", "reduction"), [("GlobalAveragePool", "ReduceMean"), ("GlobalMaxPool", "ReduceMax")]
)
def test_global_pools_are_reductions(pool: str, reduction: str) -> None:
    text = f"g (float[2,3,4,5] x) => (float[2,3,1,1] y) {{ y = {pool}(x) }}"
    assert ops(same(text, {"x": randn(2, 3, 4, 5)})) == [reduction]


def test_reduction_and_reshape_keep_dims_at_once() -> None:
    body = (
        "a = Constant<value_ints = [-1]>() m = ReduceMax<keepdims = 0>(x, a) "
        "s = Constant<value_ints = [2, 3, 1]>() y = Reshape(m, s)"
    )
    assert one(body, "float[2,3,1]") == ["ReduceMax"]
    graph = bound("g (float[2,3,4] x) => (float[N] y) { y = ReduceSum<keepdims = 0>(x) }", {"x": X})
    axes = graph.nodes[0].inputs[1]
    assert axes is not None and axes.const is not None and axes.const.numpy().tolist() == [0, 1, 2]


def test_every_pass_says_what_it_does() -> None:
    assert all("→" in (step.__doc__ or "") for step in PASSES)
