"""The graph IR: user lists, replacement, copies, order, text."""

from __future__ import annotations

import numpy as np
import pytest

from nnjit.graph.const import ByteRange, Const
from nnjit.graph.ir import Graph, Node, Value


def small() -> Graph:
    x, y, z = Value("x", "f32", (2, 3)), Value("y", "f32", (2, 3)), Value("z", "f32", (2, 3))
    graph = Graph("g", [x], [z], opset={"": 21})
    w = graph.constant(np.ones(3, np.float32), "w")
    graph.nodes = [Node("Add", [x, w], [y], name="a"), Node("Mul", [y, y], [z], name="m")]
    return graph


def test_users_count_each_read() -> None:
    graph = small()
    y = graph.nodes[0].output
    assert y.users == [graph.nodes[1], graph.nodes[1]]
    graph.nodes[1].set_input(0, graph.inputs[0])
    assert y.users == [graph.nodes[1]]
    graph.check()


def test_replace_moves_users_and_outputs() -> None:
    graph = small()
    x, z = graph.inputs[0], graph.outputs[0]
    graph.replace(graph.nodes[0].output, x)
    graph.remove([graph.nodes[0]])
    graph.check()
    assert graph.nodes[0].inputs == [x, x]
    graph.replace(z, x)
    assert graph.outputs == [x] and graph.output_names == ["z"]


def test_copy_is_apart() -> None:
    graph = small()
    twin = graph.copy()
    twin.check()
    assert str(twin) == str(graph)
    twin.nodes[0].set_input(0, None)
    assert graph.nodes[0].inputs[0] is graph.inputs[0]


def test_sort_orders_and_finds_cycles() -> None:
    graph = small()
    graph.nodes.reverse()
    graph.sort()
    assert [n.op for n in graph.nodes] == ["Add", "Mul"]
    graph.nodes[0].set_input(0, graph.nodes[1].output)
    with pytest.raises(ValueError, match="cycle"):
        graph.sort()


def test_check_sees_stale_users() -> None:
    graph = small()
    graph.nodes[0].output.users.pop()
    with pytest.raises(AssertionError, match="stale"):
        graph.check()


def test_text_names_types_attributes_and_constants() -> None:
    assert str(small()).splitlines() == [
        "graph g(%x: f32[2,3]) ai.onnx:21",
        "  %y: f32[2,3] = Add(%x, f32[1.0, 1.0, 1.0])",
        "  %z: f32[2,3] = Mul(%y, %y)",
        "  return %z: f32[2,3]",
    ]


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "i64", "bool", "float8e4m3fn", "int4", "uint4"])
def test_lazy_constant_reads_what_was_written(dtype: str) -> None:
    from nnjit.graph.dtypes import NUMPY

    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(NUMPY[dtype])
    raw = Const.of(array).raw()
    file = b"head" + raw + b"tail"
    lazy = Const(dtype, (2, 3), None, ByteRange(0, 4, len(raw)), lambda r: file[r.start : r.start + r.length])
    assert len(raw) == lazy.nbytes
    np.testing.assert_array_equal(lazy.numpy(), array)
    assert lazy.raw() == raw and lazy.reshaped((3, 2)).numpy().shape == (3, 2)
