"""Folding: our small evaluators give what onnx.reference gives; large or random work stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nnjit.graph import schemas
from nnjit.graph.fold import EVALUATORS, fold_node
from nnjit.graph.ir import Node, Value
from nnjit.graph.reference import run_nodes
from nnjit.graph.shapes import infer_node

I = np.array([[3, -7, 2], [5, 0, -4]])  # noqa: E741
F = np.array([[0.5, -1.5, 2.0], [3.0, 0.25, -4.0]], np.float32)
B = I > 0
BINARY = "Add Sub Mul Equal Less Greater LessOrEqual GreaterOrEqual".split()
UNARY = "Abs Neg Floor Ceil Exp Sin Cos Tanh Sign Identity Round Reciprocal".split()


def node_of(op: str, *arrays: Any, **attrs: Any) -> Node:
    outputs = attrs.pop("outputs", 1)
    values = [None if a is None else Value.constant(f"v{i}", np.asarray(a)) for i, a in enumerate(arrays)]
    node = Node(op, values, [Value(f"y{i}") for i in range(outputs)], attrs, version=schemas.NEWEST)
    infer_node(node)
    return node


CASES: list[tuple[str, list[Any], dict[str, Any]]] = [
    *[(op, [I, I[:, ::-1].copy()], {}) for op in BINARY],
    *[(op, [F, np.float32(2)], {}) for op in ("Add", "Sub", "Mul", "Div", "Less", "Pow")],
    ("Div", [I, np.array([2, -2, 3])], {}),
    ("Div", [np.array([7, -7, 7, -7], np.int32), np.array([2, 2, -2, -2], np.int32)], {}),
    ("Div", [np.array([7, 250], np.uint8), np.array([2, 4], np.uint8)], {}),
    ("Mod", [I, np.array([3, -3, 2])], {}),
    ("Mod", [F, np.float32(2)], {"fmod": 1}),
    ("Pow", [np.abs(I), np.array(2)], {}),
    *[(op, [B, ~B], {}) for op in ("And", "Or", "Xor")],
    *[(op, [F], {}) for op in UNARY],
    *[(op, [np.abs(F)], {}) for op in ("Sqrt", "Log")],
    ("Not", [B], {}),
    *[(op, [I, I * 2, I - 3], {}) for op in ("Max", "Min")],
    ("Sum", [F, F, F], {}),
    *[
        (f"Reduce{op}", [I, np.array([axis])], {"keepdims": keep})
        for op in ("Sum", "Max", "Min", "Prod")
        for axis, keep in ((0, 0), (0, 1), (-1, 0), (-1, 1))
    ],
    ("ReduceMean", [F, np.array([1])], {}),
    ("ReduceSum", [I], {}),
    ("ReduceSum", [I, np.array([], np.int64)], {"noop_with_empty_axes": 1}),
    ("Cast", [F], {"to": 7}),
    ("Cast", [I], {"to": 9}),
    ("Cast", [I], {"to": 1}),
    ("CastLike", [I, F], {}),
    ("Where", [B, I, np.array(0)], {}),
    ("Reshape", [I, np.array([-1, 2])], {}),
    ("Reshape", [I, np.array([0, 3, 1])], {}),
    ("Flatten", [I], {}),
    ("Squeeze", [I[:1], np.array([0])], {}),
    ("Unsqueeze", [I, np.array([0, -1])], {}),
    ("Expand", [I[:1], np.array([4, 2, 3])], {}),
    ("Tile", [I, np.array([1, 2])], {}),
    ("Concat", [I, I], {"axis": -1}),
    ("Split", [I, np.array([1, 2])], {"axis": 1, "outputs": 2}),
    ("Split", [np.arange(5)], {"num_outputs": 2, "outputs": 2}),
    ("Slice", [I, np.array([0]), np.array([2]), np.array([1])], {}),
    ("Slice", [I, np.array([-1]), np.array([-100]), np.array([1]), np.array([-1])], {}),
    ("Slice", [np.arange(10), np.array([8]), np.array([1]), np.array([0]), np.array([-3])], {}),
    ("Slice", [np.arange(10), np.array([-100]), np.array([100]), np.array([0]), np.array([4])], {}),
    ("Slice", [np.arange(3), np.array([5]), np.array([9])], {}),
    ("Transpose", [I], {"perm": [1, 0]}),
    ("Transpose", [I.reshape(1, 2, 3)], {}),
    ("Gather", [I, np.array([[-1, 0]])], {"axis": 1}),
    ("Gather", [I, np.array(1)], {}),
    ("GatherElements", [I, np.array([[0, -1], [2, 1]])], {"axis": 1}),
    ("ConstantOfShape", [np.array([2, 3])], {"value": np.array([7], np.int64)}),
    ("ConstantOfShape", [np.array([], np.int64)], {}),
    ("Range", [np.array(2), np.array(11), np.array(4)], {}),
    ("Range", [np.array(5), np.array(0), np.array(-2)], {}),
    ("Range", [np.float32(0), np.float32(1), np.float32(0.1)], {}),
    ("QuantizeLinear", [np.float32([[1, 2.5], [-3, 900]]), np.float32(0.5), np.uint8(3)], {}),
    ("QuantizeLinear", [np.float32([[1, 2.5], [-3, 900]]), np.float32([0.5, 3]), np.int8([3, -4])], {"axis": 0}),
    ("CumSum", [I, np.array(1)], {}),
    ("CumSum", [I, np.array(1)], {"exclusive": 1, "reverse": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "arrays", "attrs"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_evaluator_agrees_with_the_reference(op: str, arrays: list[Any], attrs: dict[str, Any]) -> None:
    assert op in EVALUATORS
    node = node_of(op, *arrays, **attrs)
    wanted = run_nodes([node], {}, node.outputs)
    found = fold_node(node)
    assert found is not None
    for value, array, ref in zip(node.outputs, found, wanted, strict=True):
        assert array.dtype == ref.dtype and value.shape == array.shape == ref.shape
        np.testing.assert_allclose(array, ref, rtol=1e-6)


def test_every_evaluator_has_a_case() -> None:
    assert set(EVALUATORS) == {c[0] for c in CASES}


def test_shape_and_size_need_a_shape_only() -> None:
    x = Value("x", "f32", (2, 3, 4))
    for op, attrs, wanted in [
        ("Shape", {}, [2, 3, 4]),
        ("Shape", {"start": 1, "end": -1}, [3]),
        ("Size", {}, 24),
    ]:
        node = Node(op, [x], [Value("y")], attrs, version=schemas.NEWEST)
        infer_node(node)
        (found,) = fold_node(node) or [None]
        assert found is not None and found.tolist() == wanted and found.dtype == np.int64
        assert node.output.shape == found.shape


def test_other_operators_fold_through_the_reference() -> None:
    (found,) = fold_node(
        node_of("OneHot", np.array([1, 0]), np.array(3), np.array([0.0, 1.0], np.float32))
    ) or [None]
    assert found is not None and found.tolist() == [[0, 1, 0], [1, 0, 0]]
    (found,) = fold_node(node_of("Cast", F, to=16)) or [None]  # bfloat16
    assert found is not None and found.dtype.itemsize == 2
    (found,) = fold_node(node_of("StringConcat", np.array(["a"], object), np.array(["b"], object))) or [None]
    assert found is not None and found.tolist() == ["ab"]


def test_what_does_not_fold() -> None:
    assert fold_node(node_of("ConstantOfShape", np.array([300, 300]))) is None
    assert fold_node(node_of("ReduceSum", np.ones((2000, 2000), np.float32))) is None  # too much to read
    assert fold_node(node_of("RandomNormal", shape=[2])) is None
    node = Node("Add", [Value("x", "f32", (2,)), Value.constant("c", np.ones(2, np.float32))], [Value("y")])
    assert fold_node(node) is None
    assert fold_node(node_of("Div", np.array([1]), np.array([0]))) is None
