"""Gathers by constant indices and Expand: what only selects everything, or broadcasts anyway, goes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from nnjit.graph.const import ByteRange, Const
from tests.unit.graph.tools import model_of, ops, randn, same

X = randn(2, 3)


def indexed(body: str, indices: np.ndarray, x: np.ndarray = X) -> list[str]:
    """The operators of `y = …` with the int64 constant i."""
    shape, flat = ",".join(map(str, indices.shape)), ",".join(map(str, indices.reshape(-1)))
    dims = ",".join(map(str, x.shape))
    text = (
        f"g (float[{dims}] x) => (float[N] y) {{ i = Constant<value = int64[{shape}] {{{flat}}}>() {body} }}"
    )
    model = model_of(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return ops(same(model, {"x": x}))


def grid(*shape: int) -> np.ndarray:
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)


def test_gather_nd_of_everything_is_a_reshape() -> None:
    assert indexed("y = GatherND(x, i)", grid(2, 3).reshape(2, 1, 1, 3, 2)) == ["Reshape"]
    assert indexed("y = GatherND(x, i)", grid(2, 3) - np.array([2, 3])) == []  # counted from the end
    assert indexed("y = GatherND(x, i)", grid(2)) == []  # whole rows


@pytest.mark.parametrize(
    "indices",
    [grid(2, 3)[::-1].copy(), grid(2, 3)[:1], np.zeros((2, 3, 2), np.int64), grid(1, 3).repeat(2, 0)],
)
def test_gather_nd_of_something_else_stays(indices: np.ndarray) -> None:
    assert indexed("y = GatherND(x, i)", indices) == ["GatherND"]


def test_gather_of_a_range() -> None:
    assert indexed("y = Gather(x, i)", np.arange(2)) == []
    assert indexed("y = Gather<axis = 1>(x, i)", np.array([1, 2])) == ["Slice"]
    assert indexed("y = Gather<axis = -1>(x, i)", np.arange(3).reshape(1, 3)) == ["Reshape"]
    assert indexed("y = Gather(x, i)", np.zeros((4,), np.int64), X[:1]) == ["Expand"]


@pytest.mark.parametrize("indices", [np.array([1, 0]), np.array([0, 0]), np.array([-1, 0]), np.array([0, 2])])
def test_gather_of_no_range_stays(indices: np.ndarray) -> None:
    assert indexed("y = Gather<axis = 1>(x, i)", indices) == ["Gather"]


def test_rows_of_a_constant_are_a_part_of_its_bytes() -> None:
    table = randn(10, 4)
    data = b"12345678" + table.tobytes()
    lazy = Const(
        "f32", (10, 4), None, ByteRange(0, 8, table.nbytes), lambda r: data[r.start : r.start + r.length]
    )
    part = lazy.rows(2, 5)
    assert part.range == ByteRange(0, 8 + 2 * 16, 5 * 16) and part.array is None
    np.testing.assert_array_equal(part.numpy(), table[2:7])
    np.testing.assert_array_equal(Const.of(table).rows(2, 5).numpy(), table[2:7])


MASK = """
g (bool[2,4] m, float[2,3,4,4] x) => (float[2,3,4,4] y) {
  s = Constant<value_ints = [2, 1, 1, 4]>()  r = Reshape(m, s)
  t = Constant<value = bool[1,1,4,1] {%s}>()
  a = And(t, r)
  zero = Constant<value_float = 0.0>()  low = Constant<value_float = -1e4>()
  w = Where(a, zero, low)
  y = Add(x, w)
}
"""


def test_mask_is_not_broadcast_before_it_must_be() -> None:
    feeds = {"m": np.array([[1, 1, 0, 1], [1, 0, 0, 0]], bool), "x": randn(2, 3, 4, 4)}
    graph = same(MASK % "1,1,1,1", feeds)
    assert ops(graph) == ["Reshape", "Where", "Add"]
    assert graph.nodes[1].output.shape == (2, 1, 1, 4)
    assert "And" in ops(same(MASK % "1,1,0,1", feeds))


def test_expand_that_is_an_output_stays() -> None:
    text = """g (float[3] x) => (float[2,3] e, float[2,3] y) {
      s = Constant<value_ints = [2, 3]>()  e = Expand(x, s)  y = Neg(e) }"""
    assert ops(same(text, {"x": randn(3)})) == ["Expand", "Neg"]


def test_expand_sinks_below_what_it_feeds() -> None:
    text = """g (float[3] x, float[2,3] z) => (float[2,3] y) { s = Constant<value_ints = [2, 3]>()
      c = Constant<value_float = 2.0>()  e = Expand(x, s)  d = Mul(e, c)  y = Sub(z, d) }"""
    graph = same(text, {"x": randn(3), "z": randn(2, 3)})
    assert ops(graph) == ["Mul", "Sub"] and graph.nodes[0].output.shape == (3,)


@pytest.mark.parametrize(
    ("source", "first", "second", "left"),
    [
        ("bool", 6, 7, 1),
        ("bool", 2, 7, 1),
        ("uint8", 6, 7, 1),
        ("int32", 7, 1, 1),
        ("float16", 1, 11, 1),
        ("int64", 6, 7, 2),  # narrows first
        ("int8", 4, 7, 2),  # loses the sign
        ("float", 9, 1, 2),  # only zero or not is left
        ("int32", 1, 7, 2),  # a float holds 24 bits
    ],
)
def test_casts_merge_where_nothing_is_lost(source: str, first: int, second: int, left: int) -> None:
    text = f"g ({source}[2] x) => (float[2] y) {{ a = Cast<to = {first}>(x) y = Cast<to = {second}>(a) }}"
    model = model_of(text)
    model.graph.output[0].type.tensor_type.elem_type = second
    elem = model.graph.input[0].type.tensor_type.elem_type
    x = np.array([1, 5]).astype(onnx.helper.tensor_dtype_to_np_dtype(elem))
    assert ops(same(model, {"x": x})) == ["Cast"] * left


def test_elements_of_a_uniform_constant() -> None:
    text = """g (int64[2,2] i) => (float[2,2] y) {
      d = Constant<value = float[2,3] {4, 4, 4, 4, 4, 4}>() y = GatherElements<axis = 1>(d, i) }"""
    graph = same(text, {"i": np.array([[0, 2], [1, 1]])})
    assert graph.nodes == [] and graph.outputs[0].const is not None
