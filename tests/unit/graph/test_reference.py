"""Host calls on onnx.reference: every type, control flow, and the operators it gets wrong by itself."""

from __future__ import annotations

import numpy as np
import pytest

from nnjit.errors import ReferenceFailed
from nnjit.graph.dtypes import NUMPY, from_raw, to_raw
from nnjit.graph.ir import Node, Value
from nnjit.graph.reference import Subgraph, run_graph, run_nodes
from nnjit.runtime.local import LocalSession
from tests.support.single import model_of, native
from tests.unit.graph.tools import bound, loaded, ops, randn, same


def node(op: str, values: list[Value | None], out: Value, domain: str = "", **attrs: object) -> Node:
    return Node(op, values, [out], attrs, name=op.lower(), domain=domain, version=28 if not domain else 1)


def test_a_part_of_a_graph() -> None:
    text = (
        "g (float[2] x) => (float[2] y) { a = Exp(x) b = Neg(a) "
        "c = Constant<value_float = 2.0>() y = Pow(b, c) }"
    )
    graph = bound(text, {"x": randn(2)}, passes=[])
    part = Subgraph(graph.nodes[1:], [graph.outputs[0]])
    assert [v.name for v in part.inputs] == ["a"]
    (found,) = part.run({part.inputs[0]: np.array([1, 3], np.float32)})
    assert found.tolist() == [1, 9] and found.dtype == np.float32


@pytest.mark.parametrize("dtype", ["bf16", "f16", "float8e4m3fn", "float8e5m2", "int4", "uint4"])
def test_small_types(dtype: str) -> None:
    x, y = Value("x", dtype, (3,)), Value("y", "f32", (3,))
    array = np.array([0, 1, 2], np.float32).astype(NUMPY[dtype])
    (found,) = run_nodes([node("Cast", [x], y, to=1)], {x: array}, [y])
    assert found.dtype == np.float32 and found.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(from_raw(to_raw(array, dtype), dtype, (3,)), array)


def test_raw_bits_of_bfloat16_are_taken_as_such() -> None:
    x, y = Value("x", "bf16", (2,)), Value("y", "bf16", (2,))
    (found,) = run_nodes([node("Add", [x, x], y)], {x: np.array([0x3F80, 0x4000], np.uint16)}, [y])
    assert found.astype(np.float32).tolist() == [2, 4] and found.dtype == NUMPY["bf16"]


def test_strings_and_sequences() -> None:
    x, s, i, y = (
        Value("x", "string", (2,)),
        Value("s", "sequence"),
        Value("i", "i64", ()),
        Value("y", "string"),
    )
    nodes = [node("SequenceConstruct", [x, x], s), node("SequenceAt", [s, i], y)]
    found = run_nodes(nodes, {x: np.array(["a", "ü"], object), i: np.array(0)}, [s, y])
    assert [list(v) for v in found[0]] == [["a", "ü"]] * 2
    assert found[1].tolist() == ["a", "ü"] and found[1].dtype == object


def test_fed_sequence() -> None:
    text = (
        "g (seq(float[2]) s) => (int64 n, float[4] y) "
        "{ n = SequenceLength(s) y = ConcatFromSequence<axis = 0>(s) }"
    )
    graph = loaded(text).bind()
    found = run_graph(graph, {"s": [np.zeros(2, np.float32), np.ones(2, np.float32)]})
    assert found["n"] == 2 and found["y"].tolist() == [0, 0, 1, 1]


def test_empty_and_full_optionals() -> None:
    text = "g (optional(float[2]) o) => (bool h) { h = OptionalHasElement(o) }"
    graph = loaded(text).bind()
    assert not run_graph(graph, {"o": None})["h"]
    assert run_graph(graph, {"o": np.ones(2, np.float32)})["h"]
    text = "g (float[2] x) => (float[2] y) { o = Optional(x) y = OptionalGetElement(o) }"
    np.testing.assert_array_equal(run_graph(loaded(text).bind(), {"x": np.ones(2, np.float32)})["y"], [1, 1])


LOOP = """
g (int64 n, float[2] x) => (float[2] y, float[K] all) {
  yes = Constant<value = bool {1}>()
  y, all = Loop (n, yes, x) <body = b (int64 i, bool go, float[2] s) => (bool go2, float[2] s2, float r) {
    go2 = Identity(go)  s2 = Add(s, x)  zero = Constant<value_int = 0>()  r = Gather(s2, zero)
  }>
}
"""


@pytest.mark.parametrize("trips", [0, 1, 3])
def test_loop_stacks_scalars_and_may_not_run(trips: int) -> None:
    x = np.array([1, 5], np.float32)
    found = run_graph(loaded(LOOP).bind(), {"n": np.array(trips), "x": x})
    np.testing.assert_array_equal(found["y"], x * (trips + 1))
    assert found["all"].tolist() == [k + 2.0 for k in range(trips)] and found["all"].dtype == np.float32


def test_loop_that_stops_by_its_condition() -> None:
    text = """
    g (float x) => (float y) {
      yes = Constant<value = bool {1}>()
      y = Loop ("", yes, x) <body = b (int64 i, bool go, float s) => (bool go2, float s2) {
        ten = Constant<value_float = 10.0>()  s2 = Add(s, s)  go2 = Less(s2, ten)
      }>
    }
    """.replace('("",', "(,")
    assert run_graph(loaded(text).bind(), {"x": np.array(1.5, np.float32)})["y"] == 12


def test_scan_over_another_axis_backwards() -> None:
    text = """
    g (float[2] s0, float[2,3] x) => (float[2] s, float[2,3] y) {
      s, y = Scan<num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [-1],
                  scan_input_directions = [1],
                  scan_output_directions = [1],
                  body = b (float[2] a, float[2] e) => (float[2] c, float[2] o)
                  { c = Add(a, e) o = Identity(c) }> (s0, x)
    }
    """
    x = randn(2, 3)
    found = run_graph(loaded(text).bind(), {"s0": np.zeros(2, np.float32), "x": x})
    np.testing.assert_allclose(found["s"], x.sum(1), rtol=1e-6)
    np.testing.assert_allclose(found["y"], np.cumsum(x[:, ::-1], 1)[:, ::-1], rtol=1e-6)


def test_scan_of_opset_8_has_a_batch() -> None:
    text = """
    g (float[2,1] s0, float[2,3,1] x) => (float[2,1] s, float[2,3,1] y) {
      s, y = Scan<num_scan_inputs = 1,
                  body = b (float[1] a, float[1] e) => (float[1] c, float[1] o)
                  { c = Add(a, e) o = Identity(c) }> ("", s0, x)
    }
    """.replace('("",', "(,")
    x = randn(2, 3, 1)
    found = run_graph(loaded(text, 8).bind(), {"s0": np.zeros((2, 1), np.float32), "x": x})
    np.testing.assert_allclose(found["y"], np.cumsum(x, 1), rtol=1e-6)
    np.testing.assert_allclose(found["s"], x.sum(1), rtol=1e-6)


def test_gather_elements_of_a_long_axis() -> None:
    index = np.arange(100)[::-1].copy().reshape(100, 1)
    x = randn(100, 2)
    graph = bound(
        "g (float[100,2] x, int64[100,1] i) => (float[100,1] y) { y = GatherElements(x, i) }",
        {"x": x, "i": index},
    )
    np.testing.assert_array_equal(run_graph(graph, {"x": x, "i": index})["y"], x[::-1, :1])


def test_negative_pads() -> None:
    text = "g (float[4,5] x) => (float[N,M] y) { p = Constant<value_ints = [-1, 2, 1, -3]>() y = Pad(x, p) }"
    x = randn(4, 5)
    graph = bound(text, {"x": x})
    wanted = np.pad(x[1:, :2], ((0, 1), (2, 0)))
    assert graph.outputs[0].shape == wanted.shape
    np.testing.assert_array_equal(run_graph(graph, {"x": x})["y"], wanted)


def test_failure_names_the_node() -> None:
    x, y = Value("x", "f32", (2,)), Value("y", "f32", (2,))
    with pytest.raises(ReferenceFailed, match="Gradient") as caught:
        run_nodes([node("Gradient", [x], y, "ai.onnx.preview.training", xs=["x"], y="y")], {x: randn(2)}, [y])
    assert caught.value.fields["op"] == "Gradient"
    with pytest.raises(ReferenceFailed, match="MatMul"):
        run_nodes([node("MatMul", [x, x], y)], {x: np.ones((2, 3), np.float32)}, [y])


def test_captured_value_that_was_renamed() -> None:
    """A pass may replace an outer value by one of another name; the body must follow."""
    text = """
    g (bool c, float[2] x) => (float[2] y) {
      t = Identity(x)
      y = If (c) <then_branch = a () => (float[2] r) { r = Neg(t) },
                  else_branch = b () => (float[2] s) { s = Exp(t) }>
    }
    """
    graph = same(text, {"c": np.array(True), "x": randn(2)})
    assert ops(graph) == ["If"] and graph.nodes[0].captures == {"t": graph.inputs[1]}


@pytest.mark.parametrize("centred", [0, 1])
@pytest.mark.parametrize("given", [0, 1, 2, 3])
def test_boxes_that_are_kept(centred: int, given: int) -> None:
    """As onnxruntime: limits that are scalars, of one element or left out, equal scores, empty and flipped boxes."""
    rng = np.random.default_rng(given)
    boxes = rng.integers(0, 12, (2, 40, 4)).astype(np.float32)
    scores = (rng.integers(0, 20, (2, 3, 40)) / 20).astype(np.float32)
    shape = [(), (1,)][given % 2]
    limits = [np.full(shape, v, t) for v, t in ((7, np.int64), (0.3, np.float32), (0.25, np.float32))][:given]
    feeds = {"boxes": boxes, "scores": scores, **dict(zip("abc", limits, strict=False))}
    model = model_of("NonMaxSuppression", feeds, [("y", np.int64)], {"center_point_box": centred})
    found = LocalSession(model).run(feeds)["y"]
    np.testing.assert_array_equal(found, native(model, feeds)["y"])
    assert len(found) > 6 or not given
