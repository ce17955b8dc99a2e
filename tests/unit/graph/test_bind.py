"""Binding shapes: what is checked, what is folded, what stays unknown."""

from __future__ import annotations

import numpy as np
import pytest

from nnjit.errors import FeedError, ShapeError
from nnjit.graph.reference import run_graph
from tests.unit.graph.tools import bound, loaded, ops, randn, same

LINEAR = "g (float[batch, 3] x, float[batch, 3] z) => (float[batch, 3] y) { y = Add(x, z) }"


def test_dims_or_shapes() -> None:
    model = loaded(LINEAR)
    assert [v.shape for v in model.bind(dims={"batch": 5}).outputs] == [(5, 3)]
    assert [v.shape for v in model.bind(shapes={"x": (4, 3), "z": (4, 3)}).outputs] == [(4, 3)]
    assert [v.shape for v in model.bind(shapes={"x": (4, 3)}, dims={"batch": 1}).outputs] == [(4, 3)]


@pytest.mark.parametrize(
    ("shape", "word"),
    [((3,), "rank 1"), ((2, 4), "has 4 in dim 1"), ((2, 3, 1), "rank 3"), ((-1, 3), "negative")],
)
def test_shape_that_contradicts_the_model(shape: tuple[int, ...], word: str) -> None:
    with pytest.raises(ShapeError, match=word) as caught:
        loaded(LINEAR).bind(shapes={"x": shape}, dims={"batch": 2})
    assert caught.value.fields["input"] == "x" and caught.value.fields["got"] == list(shape)
    assert word == "negative" or caught.value.fields["expected"] == ["batch", 3]


def test_symbol_without_a_value() -> None:
    with pytest.raises(ShapeError, match="'batch'") as caught:
        loaded(LINEAR).bind(shapes={"x": (2, 3)})
    assert caught.value.fields["input"] == "z" and caught.value.fields["symbol"] == "batch"


def test_misspelt_input_gets_a_suggestion() -> None:
    with pytest.raises(FeedError, match="did you mean 'input_ids'"):
        loaded("g (int64[2] input_ids) => (int64[2] y) { y = Neg(input_ids) }").bind(
            shapes={"input_id": (2,)}
        )


def test_conflicting_symbol_is_explained_where_it_hurts() -> None:
    with pytest.raises(ShapeError, match="'batch' is 2 in 'x' and 4 in 'z'"):
        loaded(LINEAR).bind(shapes={"x": (2, 3), "z": (4, 3)})
    # An exporter may well use one symbol for two sizes: no error as long as the operands fit.
    assert loaded(LINEAR).bind(shapes={"x": (2, 3), "z": (1, 3)}).outputs[0].shape == (2, 3)


def test_check_feeds() -> None:
    check = loaded(LINEAR).signature.check_feeds
    check({"x": ("f32", (2, 3)), "z": ("f32", (2, 3))})
    with pytest.raises(FeedError, match="no feed for input 'z'"):
        check({"x": ("f32", (2, 3))})
    with pytest.raises(FeedError, match="is f64, expected is f32"):
        check({"x": ("f64", (2, 3)), "z": ("f32", (2, 3))})
    with pytest.raises(FeedError, match="no input 'q'"):
        check({"q": ("f32", (2, 3))})
    with pytest.raises(ShapeError, match="rank"):
        check({"x": ("f32", (6,)), "z": ("f32", (2, 3))})


def test_bind_leaves_the_model_as_it_was() -> None:
    model = loaded(
        "g (float[N, 4] x) => (float[M] y) { s = Shape(x)  p = ReduceProd<keepdims=1>(s)  y = Reshape(x, p) }"
    )
    assert [model.bind(dims={"N": n}).outputs[0].shape for n in (1, 3, 1)] == [(4,), (12,), (4,)]


def test_shape_arithmetic_folds() -> None:
    text = """
    g (float[N, S, 8] x) => (float[A, B, C, D] y) {
      zero = Constant<value_int = 0>()  one = Constant<value_int = 1>()
      h = Constant<value_ints = [2]>()  m = Constant<value_ints = [-1]>()  ax = Constant<value_ints = [0]>()
      s = Shape(x)  n = Gather(s, zero)  t = Gather(s, one)
      n1 = Unsqueeze(n, ax)  t1 = Unsqueeze(t, ax)
      shape = Concat<axis = 0>(n1, t1, h, m)
      r = Reshape(x, shape)
      y = Transpose<perm = [0, 2, 1, 3]>(r)
    }
    """
    x = randn(2, 5, 8)
    graph = same(text, {"x": x})
    assert ops(graph) == ["Reshape", "Transpose"]
    assert graph.outputs[0].shape == (2, 2, 5, 4)


def test_mask_arithmetic_folds_to_a_constant() -> None:
    text = """
    g (float[N, S] x) => (float[S, S] y) {
      zero = Constant<value_int = 0>()  one = Constant<value_int = 1>()  neg = Constant<value_float = -1e4>()
      s = Shape(x)  n = Gather(s, one)
      r = Range(zero, n, one)
      a0 = Constant<value_ints = [0]>()  a1 = Constant<value_ints = [1]>()
      row = Unsqueeze(r, a0)  col = Unsqueeze(r, a1)
      up = Greater(row, col)
      f = Cast<to = 1>(up)
      y = Mul(f, neg)
    }
    """
    graph = same(text, {"x": randn(1, 6)})
    assert graph.nodes == [] and graph.outputs[0].const is not None


def test_shapes_that_depend_on_data_stay_unknown() -> None:
    text = "g (float[4] x) => (int64[1, N] y, float[K] z) { i = NonZero(x)  y = Neg(i)  z = Relu(x) }"
    graph = bound(text, {"x": randn(4)})
    y, z = graph.outputs
    assert (y.dtype, y.shape, z.shape) == ("i64", None, (4,))


def test_values_make_shapes_known() -> None:
    text = "g (float[6] x, int64[2] s) => (float[A, B] y) { y = Reshape(x, s) }"
    model, x = loaded(text), randn(6)
    assert model.bind().outputs[0].shape is None
    graph = model.bind(values={"s": np.array([2, 3])})
    assert [v.name for v in graph.inputs] == ["x"] and graph.outputs[0].shape == (2, 3)
    np.testing.assert_array_equal(run_graph(graph, {"x": x})["y"], x.reshape(2, 3))


def test_large_constant_work_is_marked_once() -> None:
    text = """
    g (float[2] x) => (float[N] y, float[2] z) {
      n = Constant<value_ints = [300000]>()
      big = ConstantOfShape<value = float[1] {2.0}>(n)
      e = Exp(big)
      y = Neg(e)
      z = Exp(x)
    }
    """
    graph = bound(text, {"x": randn(2)})
    assert {n.op + str(n.once) for n in graph.nodes} >= {
        "ConstantOfShapeTrue",
        "NegTrue",
        "ExpTrue",
        "ExpFalse",
    }


def test_random_nodes_are_neither_folded_nor_once_nor_merged() -> None:
    text = """
    g (float[2] x) => (float[2] y) {
      a = RandomNormal<shape = [2]>()  b = RandomNormal<shape = [2]>()
      t = Add(a, b)
      y = Add(x, t)
    }
    """
    graph = bound(text, {"x": randn(2)})
    assert ops(graph) == ["RandomNormal", "RandomNormal", "Add", "Add"]
    assert not any(n.once for n in graph.nodes)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("y = MatMul(x, x)", "inner dims differ"),
        ("c = Constant<value_ints = [5]>() y = Reshape(x, c)", "cannot take the shape"),
        ("c = Constant<value_ints = [7, -1]>() y = Reshape(x, c)", "do not divide"),
        ("c = Constant<value_ints = [4]>() y = Expand(x, c)", "do not broadcast"),
        ("y = Concat<axis = 5>(x, x)", "axis 5 is out of range"),
        ("c = Constant<value_ints = [0]>() y = Squeeze(x, c)", "only 1 can go"),
        ("y = Transpose<perm = [0, 0]>(x)", "does not permute"),
    ],
)
def test_operands_that_do_not_fit(body: str, word: str) -> None:
    with pytest.raises(ShapeError, match=word) as caught:
        bound(f"g (float[2, 3] x) => (float[N, M] y) {{ {body} }}", {"x": randn(2, 3)})
    assert caught.value.fields["op"] in body


def test_minus_one_in_a_declared_dim_is_open() -> None:
    model = loaded("g (float[N] x) => (float[N] y) { y = Neg(x) }")
    assert model.bind(shapes={"x": (7,)}).outputs[0].shape == (7,)
