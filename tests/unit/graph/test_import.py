"""GraphProto → Graph: constants, functions, bodies, defaults, and the errors of graphs that are not valid."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnjit.errors import InvalidGraph, NnjitError, UnknownOperator, UnsupportedOpset
from nnjit.frontend import BytesSource, load
from nnjit.graph.model import Model
from nnjit.graph.reference import run_graph
from tests.unit.graph.tools import bound, loaded, model_of, ops, randn, same

FLOAT = TensorProto.FLOAT


def make(nodes: list[onnx.NodeProto], opset: int = 21, **fields: object) -> onnx.ModelProto:
    """A model x[2] → y[2] of the given nodes."""
    x, y = (helper.make_tensor_value_info(n, FLOAT, [2]) for n in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], **fields)  # type: ignore[arg-type]
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize(
    ("attrs", "wanted"),
    [
        ({"value": numpy_helper.from_array(np.array([1, 2], np.float32))}, np.array([1, 2], np.float32)),
        ({"value_int": 3}, np.array(3)),
        ({"value_ints": [3, 4]}, np.array([3, 4])),
        ({"value_float": 0.5}, np.array(0.5, np.float32)),
        ({"value_floats": [0.5, 1.5]}, np.array([0.5, 1.5], np.float32)),
        ({"value_string": "a"}, np.array("a", object)),
        ({"value_strings": ["a", "ü"]}, np.array(["a", "ü"], object)),
    ],
)
def test_constant_forms(attrs: dict[str, object], wanted: np.ndarray) -> None:
    node = helper.make_node("Constant", [], ["y"], **attrs)
    graph = helper.make_graph([node], "g", [], [helper.make_empty_tensor_value_info("y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=8)
    (value,) = bound(model, {}).outputs
    assert value.const is not None and value.shape == wanted.shape
    np.testing.assert_array_equal(value.const.numpy(), wanted)
    assert value.const.numpy().dtype == wanted.dtype


@pytest.mark.parametrize("coordinates", [False, True])
def test_sparse_initializer(coordinates: bool) -> None:
    values = numpy_helper.from_array(np.array([5.0, 7.0], np.float32), "w")
    places = np.array([[0, 1], [2, 0]]) if coordinates else np.array([1, 4])
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(places), [3, 2])
    x = helper.make_tensor_value_info("x", FLOAT, [3, 2])
    y = helper.make_tensor_value_info("y", FLOAT, [3, 2])
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], sparse_initializer=[sparse]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=8)
    feed = randn(3, 2)
    wanted = feed + np.array([[0, 5], [0, 0], [7, 0]], np.float32)
    np.testing.assert_array_equal(run_graph(bound(model, {"x": feed}), {"x": feed})["y"], wanted)


def with_default() -> Model:
    w = numpy_helper.from_array(np.array([10, 20], np.float32), "w")
    model = make([helper.make_node("Add", ["x", "w"], ["y"])], initializer=[w])
    model.graph.input.append(helper.make_tensor_value_info("w", FLOAT, [2]))
    return load(BytesSource(model.SerializeToString()))


def test_default_of_an_input_stays_or_is_overridden() -> None:
    model, x = with_default(), np.ones(2, np.float32)
    assert [(i.name, i.optional) for i in model.signature.inputs] == [("x", False), ("w", True)]
    plain = model.bind(shapes={"x": (2,)})
    assert [v.name for v in plain.inputs] == ["x"]
    np.testing.assert_array_equal(run_graph(plain, {"x": x})["y"], [11, 21])
    fed = model.bind(shapes={"x": (2,), "w": (2,)})
    assert [v.name for v in fed.inputs] == ["x", "w"]
    np.testing.assert_array_equal(run_graph(fed, {"x": x, "w": x})["y"], [2, 2])


def test_default_that_is_folded_can_still_be_overridden() -> None:
    w = numpy_helper.from_array(np.array([10, 20], np.float32), "w")
    nodes = [helper.make_node("Neg", ["w"], ["v"]), helper.make_node("Add", ["x", "v"], ["y"])]
    model = make(nodes, initializer=[w])
    model.graph.input.append(helper.make_tensor_value_info("w", FLOAT, [2]))
    imported, x = load(BytesSource(model.SerializeToString())), np.ones(2, np.float32)
    assert ops(imported.bind(shapes={"x": (2,)})) == ["Add"]
    fed = imported.bind(shapes={"x": (2,), "w": (2,)})
    np.testing.assert_array_equal(run_graph(fed, {"x": x, "w": x})["y"], [0, 0])


FUNCTIONS = """
<ir_version: 8, opset_import: ["" : 18, "own" : 1]>
g (float[N] x) => (float[N] y) { t = own.twice<k = 3.0>(x)  y = own.twice(t) }
<domain: "own", opset_import: ["" : 18]>
twice <k: float = 2.0>(a) => (b) {
  c = Constant<value_float: float = @k>()  d = own.inner(a, c)  b = Identity(d) }
<domain: "own", opset_import: ["" : 18]>
inner (a, c) => (b) { b = Mul(a, c) }
"""


def test_local_functions_are_inlined() -> None:
    model = onnx.parser.parse_model(FUNCTIONS)
    for function in model.functions:
        function.opset_import.append(helper.make_opsetid("own", 1))
    graph = loaded(model).bind(dims={"N": 2})
    assert ops(graph) == ["Mul", "Mul"]
    np.testing.assert_allclose(run_graph(graph, {"x": np.ones(2, np.float32)})["y"], [6, 6])


def test_function_that_calls_itself() -> None:
    text = FUNCTIONS.replace("own.inner(a, c)", "own.twice(a)")
    with pytest.raises(InvalidGraph, match="calls itself"):
        loaded(onnx.parser.parse_model(text))


def test_old_function_in_a_new_model_keeps_its_own_opset() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 18, "own" : 1]>
    g (float[2,3,4] x) => (float[2,3,4] y) { y = own.soft(x) }
    <domain: "own", opset_import: ["" : 11]>
    soft (a) => (b) { b = Softmax(a) }
    """
    x = randn(2, 3, 4)
    graph = bound(onnx.parser.parse_model(text), {"x": x})
    e = np.exp(x.reshape(2, 12))
    wanted = (e / e.sum(1, keepdims=True)).reshape(2, 3, 4)
    np.testing.assert_allclose(run_graph(graph, {"x": x})["y"], wanted, rtol=1e-5)


IF = """
g (bool c, float[2] x) => (float[2] y) {
  t = Neg(x)
  y = If (c) <then_branch = a () => (float[2] r) { r = Add(x, t) },
              else_branch = b () => (float[2] s) { s = Mul(t, x) }>
}
"""


@pytest.mark.parametrize("flag", [True, False])
def test_bodies_capture_outer_values(flag: bool) -> None:
    feeds = {"c": np.array(flag), "x": np.array([1, 2], np.float32)}
    graph = same(IF, feeds)
    (node,) = [n for n in graph.nodes if n.op == "If"]
    assert set(node.captures) == {"x", "t"}


@pytest.mark.parametrize(("flag", "op"), [(True, "Add"), (False, "Mul")])
def test_if_with_known_condition_is_inlined(flag: bool, op: str) -> None:
    x = np.array([1, 2], np.float32)
    graph = loaded(IF).bind(shapes={"x": (2,)}, values={"c": np.array(flag)})
    graph.check()
    assert ops(graph) == ["Neg", op]
    np.testing.assert_allclose(run_graph(graph, {"x": x})["y"], x - x if flag else -x * x)


def test_nested_bodies_see_the_outermost_values() -> None:
    text = """
    g (int64 n, float[2] x) => (float[2] y) {
      yes = Constant<value = bool {1}>()
      w = Exp(x)
      y = Loop (n, yes, x) <body = b (int64 i, bool go, float[2] s) => (bool go2, float[2] s2) {
        go2 = Identity(go)
        big = Greater(i, i)
        s2 = If (big) <then_branch = t () => (float[2] p) { p = Add(w, s) },
                       else_branch = e () => (float[2] q) { q = Add(x, w) }>
      }>
    }
    """
    same(text, {"n": np.array(2), "x": np.array([0.5, 1], np.float32)})


def test_names_of_bodies_do_not_clash() -> None:
    text = """
    g (bool c, float[2] x) => (float[2] y, float[2] z) {
      y = If (c) <then_branch = a () => (float[2] r) { r = Neg(x) },
                  else_branch = b () => (float[2] s) { s = Exp(x) }>
      z = If (c) <then_branch = a () => (float[2] r) { r = Abs(y) },
                  else_branch = b () => (float[2] s) { s = Abs(x) }>
    }
    """
    x = np.array([-1, 2], np.float32)
    for flag in (True, False):
        same(text, {"c": np.array(flag), "x": x})
        graph = loaded(text).bind(shapes={"x": (2,)}, values={"c": np.array(flag)})
        graph.check()
        found = run_graph(graph, {"x": x})
        np.testing.assert_allclose(found["y"], -x if flag else np.exp(x), rtol=1e-6)
        np.testing.assert_allclose(found["z"], np.abs(x))


def test_nodes_out_of_order_are_sorted() -> None:
    nodes = [helper.make_node("Neg", ["t"], ["y"]), helper.make_node("Exp", ["x"], ["t"])]
    assert ops(bound(make(nodes), {"x": randn(2)})) == ["Exp", "Neg"]


@pytest.mark.parametrize(
    ("nodes", "error", "word"),
    [
        ([helper.make_node("Add", ["x", "z"], ["y"])], InvalidGraph, "'z'"),
        ([helper.make_node("Neg", ["x"], ["q"])], InvalidGraph, "'y'"),
        ([helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Exp", ["x"], ["y"])],
         InvalidGraph, "two values"),
        ([helper.make_node("Neg", ["x"], ["x"])], InvalidGraph, "two values"),
        ([helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Neg", ["a"], ["b"]),
          helper.make_node("Neg", ["b"], ["y"])], InvalidGraph, "cycle"),
        ([helper.make_node("Neg", ["x", "x"], ["y"], name="n1")], InvalidGraph, "'n1'.*2 inputs.*takes 1"),
        ([helper.make_node("Add", ["x"], ["y"])], InvalidGraph, "1 inputs.*takes 2"),
        ([helper.make_node("Neg", ["x"], ["y", "z"])], InvalidGraph, "2 outputs"),
        ([helper.make_node("Concat", ["x", "x"], ["y"])], InvalidGraph, "lacks its attribute 'axis'"),
        ([helper.make_node("Neg", ["x"], ["y"], alpha=1.0)], InvalidGraph, "'alpha'"),
        ([helper.make_node("Constant", [], ["y"])], InvalidGraph, "0 values"),
        ([helper.make_node("Fancy", ["x"], ["y"], name="f")], UnknownOperator, "Fancy"),
        ([helper.make_node("BeamSearch", ["x", "x"], ["y"], domain="com.microsoft")],
         UnknownOperator, "onnxruntime"),
        ([helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml")], UnsupportedOpset, "ai.onnx.ml"),
        ([helper.make_node("Swish", ["x"], ["y"])], UnknownOperator, "newer opset"),
    ],
)  # fmt: skip
def test_invalid_graphs_are_named(nodes: list[onnx.NodeProto], error: type[NnjitError], word: str) -> None:
    with pytest.raises(error, match=word) as caught:
        load(BytesSource(make(nodes).SerializeToString()))
    assert caught.value.hint and caught.value.to_dict()["code"] == error.code


def test_an_error_has_its_node_and_operator_as_fields() -> None:
    with pytest.raises(InvalidGraph) as caught:
        load(BytesSource(make([helper.make_node("Add", ["x", "z"], ["y"], name="sum")]).SerializeToString()))
    assert caught.value.fields == {"node": "sum", "op": "Add", "value": "z"}


def test_an_unknown_operator_has_a_hint_that_helps() -> None:
    for op, domain, hint in (
        ("Relu6", "", "did you mean Relu?"),
        ("LayerNorm", "", "did you mean LayerNormalization?"),
        ("Frobnicate", "", "known are"),
        ("Fancy", "my.own", "my.own is not a domain"),
    ):
        node = helper.make_node(op, ["x"], ["y"], domain=domain)
        with pytest.raises(UnknownOperator) as caught:
            load(BytesSource(make([node]).SerializeToString()))
        assert hint in str(caught.value.hint)
        assert ("did you mean" in str(caught.value.hint)) == ("did you mean" in hint)


@pytest.mark.parametrize("version", [0, 999])
def test_opsets_out_of_range(version: int) -> None:
    with pytest.raises(UnsupportedOpset, match=str(version)) as caught:
        load(BytesSource(make([helper.make_node("Neg", ["x"], ["y"])], version).SerializeToString()))
    assert caught.value.fields == {"domain": "ai.onnx", "version": version}


def test_duplicate_initializers() -> None:
    w = numpy_helper.from_array(np.ones(2, np.float32), "w")
    with pytest.raises(InvalidGraph, match="'w'"):
        load(
            BytesSource(
                make([helper.make_node("Add", ["x", "w"], ["y"])], initializer=[w, w]).SerializeToString()
            )
        )


def test_signature_and_metadata() -> None:
    model = loaded(model_of("g (float[N, 3, K] a, seq(float[2]) s) "
    "=> (float[N] y) { y = ReduceSum <keepdims=0> (a, ax) }"
                            .replace("ReduceSum <keepdims=0> (a, ax)", "Squeeze(a)")))  # fmt: skip
    a, s = model.signature.inputs
    assert (a.dtype, a.dims, a.kind, a.shape_text()) == ("f32", ("N", 3, "K"), "tensor", "[N, 3, K]")
    assert (s.dtype, s.dims, s.kind) == ("sequence", None, "sequence")
    assert model.signature.symbols() == ["N", "K"]
    assert model.metadata["opsets"] == {"ai.onnx": 21}
