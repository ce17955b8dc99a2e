"""Plans with room against the exact graph: on the reference, with garbage beyond n, at lengths from least to most.

`agree(model, feeds_of)` is the judge: feeds_of(n) gives feeds; the graph of a room, fed with them filled up with zeros
and cut, gives what the exact graph gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from nnjit.frontend import BytesSource, load
from nnjit.graph.model import Model
from nnjit.graph.room import NoRoom, Room, make_room, moved
from nnjit.graph.room.lengths import Length
from nnjit.runtime.host import WholeGraph

Feeds = Mapping[str, Any]
N = Length.of()
RNG = np.random.default_rng(3)


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attrs: Any) -> Any:
    return helper.make_node(op, list(inputs), list(outputs), **attrs)


def built(
    nodes: Sequence[Any], feeds: Feeds, weights: Feeds, outputs: Sequence[str], opset: int = 21
) -> Model:
    """A model whose inputs have open dims."""
    return load(BytesSource(as_bytes(nodes, feeds, weights, outputs, opset), "room.onnx"), {})


def as_bytes(
    nodes: Sequence[Any], feeds: Feeds, weights: Feeds, outputs: Sequence[str], opset: int = 21
) -> bytes:
    def info(name: str, a: Any) -> Any:
        dims = [f"{name}_{i}" for i in range(np.ndim(a))]
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), dims)

    graph = helper.make_graph(
        list(nodes),
        "room",
        [info(n, a) for n, a in feeds.items()],
        [helper.make_tensor_value_info(n, onnx.TensorProto.UNDEFINED, None) for n in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()],
    )
    for output in graph.output:
        output.ClearField("type")
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    data: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return data


def shapes_of(feeds: Feeds) -> dict[str, tuple[int, ...]]:
    return {name: tuple(a.shape) for name, a in feeds.items()}


def room_of(model: Model, feeds_of: Callable[[int], Feeds], n: int, capacity: int, **more: Any) -> Room:
    growing = moved(shapes_of(feeds_of(n + 1)), shapes_of(feeds_of(n)))
    assert growing is not None
    return make_room(model, shapes_of(feeds_of(n)), growing, [capacity], **more)


def agree(model: Model, feeds_of: Callable[[int], Feeds], n: int = 6, capacity: int = 24) -> Room:
    room = room_of(model, feeds_of, n, capacity, passes=[])
    fused = room_of(model, feeds_of, n, capacity)
    runs = [WholeGraph(room.graph), WholeGraph(fused.graph)]
    first = room.n_of(shapes_of(feeds_of(n)))
    assert first is not None
    ends = (
        room.least[0] - first[0] + n,
        room.most[0] - first[0] + n,
    )  # what feeds_of counts may differ from what the room does
    for length in sorted({ends[0], ends[0] + 1, n, (n + ends[1]) // 2, ends[1]}):
        feeds = feeds_of(length)
        shift = room.n_of(shapes_of(feeds))
        assert shift is not None
        want = WholeGraph(model.bind(shapes=shapes_of(feeds), passes=[])).run(feeds)
        for run in runs:
            for name, value in run.run(room.pad(feeds, shift)).items():
                cut = room.cut(name, value, shift)
                assert cut.shape == want[name].shape and cut.dtype == want[name].dtype, (length, name)
                np.testing.assert_allclose(
                    cut, want[name], rtol=2e-4, atol=2e-5, err_msg=f"{name} at {length}"
                )
    return room


def normal(*shape: int) -> Any:
    return RNG.normal(0, 1, shape).astype(np.float32)


def ids(*shape: int) -> Any:
    return RNG.integers(0, 19, shape)


def test_a_sentence_through_embedding_products_and_softmax() -> None:
    nodes = [
        node("Gather", ["table", "ids"], ["x"]),
        node("LayerNormalization", ["x", "scale"], ["a"]),
        node("MatMul", ["a", "w"], ["q"]),
        node("Transpose", ["a"], ["kt"], perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["s"]),
        node("Softmax", ["s"], ["p"]),
        node("MatMul", ["p", "a"], ["y"]),
    ]
    weights = {"table": normal(19, 8), "scale": normal(8), "w": normal(8, 8)}
    room = agree(built(nodes, {"ids": ids(2, 6)}, weights, ["y", "q"]), lambda n: {"ids": ids(2, n)})
    assert room.outputs == {"y": [(1, N)], "q": [(1, N)]} and room.inputs == {"ids": [(1, N)]}
    assert (room.least, room.most) == ((1,), (24,))


def test_what_is_beyond_n_may_be_anything() -> None:
    """1 / x of zeros is infinite, 0 * that is NaN: neither may reach what is inside."""
    nodes = [
        node("Reciprocal", ["x"], ["r"]),
        node("MatMul", ["w", "r"], ["y"]),
        node("ReduceMean", ["r", "axes"], ["m"], keepdims=0),
        node("ReduceMax", ["r", "axes"], ["top"]),
        node("Softmax", ["r"], ["p"], axis=1),
        node("ArgMax", ["r"], ["which"], axis=1),
    ]
    weights = {"w": normal(1, 5, 1), "axes": np.array([1])}
    nodes[1] = node("MatMul", ["r_t", "r"], ["y"])
    nodes.insert(1, node("Transpose", ["r"], ["r_t"], perm=[0, 2, 1]))

    def feeds(n: int) -> Feeds:
        return {"x": np.abs(normal(2, n, 5)) + np.float32(0.5)}

    agree(built(nodes, feeds(6), weights, ["y", "m", "top", "p", "which"]), feeds)


def test_shapes_are_arithmetic_on_n() -> None:
    """[B, n, 12] -> [B, n, 3, 4] -> [B, 3, n, 4] -> [B, n, 12], its target made by Shape, Gather and Concat."""
    nodes = [
        node("Shape", ["x"], ["dims"]),
        node("Gather", ["dims", "one"], ["n"]),
        node("Unsqueeze", ["n", "zero_axis"], ["n1"]),
        node("Concat", ["b1", "n1", "three", "four"], ["to"], axis=0),
        node("Reshape", ["x", "to"], ["h"]),
        node("Transpose", ["h"], ["t"], perm=[0, 2, 1, 3]),
        node("Transpose", ["t"], ["u"], perm=[0, 2, 1, 3]),
        node("Concat", ["b1", "n1", "minus"], ["back"], axis=0),
        node("Reshape", ["u", "back"], ["y"]),
        node("Range", ["zero", "n", "one"], ["places"]),
        node("Reshape", ["x", "flat"], ["rows"]),
    ]
    weights = {
        "one": np.array(1), "zero": np.array(0), "zero_axis": np.array([0]), "b1": np.array([1]),
        "three": np.array([3]), "four": np.array([4]), "minus": np.array([-1]), "flat": np.array([-1, 12]),
    }  # fmt: skip

    def feeds(n: int) -> Feeds:
        return {"x": normal(1, n, 12)}

    room = agree(built(nodes, feeds(6), weights, ["y", "t", "places", "dims", "rows"]), feeds)
    assert room.outputs["t"] == [(2, N)] and "dims" not in room.outputs


def test_past_keys_grow_by_what_is_new() -> None:
    """present = Concat(past, new): inputs of n and n + 1, outputs of n + 1."""
    nodes = [
        node("MatMul", ["x", "w"], ["new"]),
        node("Concat", ["past", "new"], ["present"], axis=1),
        node("Transpose", ["present"], ["kt"], perm=[0, 2, 1]),
        node("MatMul", ["x", "kt"], ["s"]),
        node("Cast", ["mask"], ["m"], to=onnx.TensorProto.FLOAT),
        node("Sub", ["one", "m"], ["inverse"]),
        node("Mul", ["inverse", "low"], ["bias"]),
        node("Add", ["s", "bias"], ["scores"]),
        node("Softmax", ["scores"], ["p"]),
        node("MatMul", ["p", "present"], ["y"]),
    ]
    weights = {"w": normal(4, 4), "one": np.float32(1), "low": np.float32(-1e4)}

    def feeds(n: int) -> Feeds:
        return {"x": normal(1, 1, 4), "past": normal(1, n, 4), "mask": np.ones((1, n + 1), np.int64)}

    room = agree(built(nodes, feeds(6), weights, ["y", "present"]), feeds)
    assert room.outputs == {"present": [(1, N + 1)]} and room.inputs == {
        "past": [(1, N)],
        "mask": [(1, N + 1)],
    }
    assert room.most == (23,)


@pytest.mark.parametrize(
    "attrs", [{"pads": [0, 2]}, {"pads": [1, 1], "kernel_shape": [3]}, {"pads": [0, 1], "dilations": [2]}]
)
def test_a_convolution_sees_zeros_behind_n(attrs: dict[str, Any]) -> None:
    """A window of one place, too, where there is padding behind."""
    nodes = [node("Exp", ["x"], ["a"]), node("Conv", ["a", "w"], ["y"], **attrs)]

    def feeds(n: int) -> Feeds:
        return {"x": normal(2, 3, n)}

    wide = 3 if "kernel_shape" in attrs else 2 if "dilations" in attrs else 1
    agree(built(nodes, feeds(6), {"w": normal(4, 3, wide)}, ["y"]), feeds)


@pytest.mark.parametrize(
    "attrs", [{"strides": [2]}, {"strides": [2], "pads": [1, 1]}, {"strides": [3], "output_padding": [1]}]
)
def test_a_transposed_convolution_makes_several_places_of_one(attrs: dict[str, Any]) -> None:
    nodes = [node("Exp", ["x"], ["a"]), node("ConvTranspose", ["a", "w"], ["y"], **attrs)]

    def feeds(n: int) -> Feeds:
        return {"x": normal(2, 3, n)}

    room = agree(built(nodes, feeds(6), {"w": normal(3, 2, 4)}, ["y"]), feeds)
    assert room.outputs["y"][0][1].terms[0][1] == attrs["strides"][0]


@pytest.mark.parametrize(
    ("operator", "why"),
    [
        (node("NonZero", ["x"], ["y"]), "no rule"),
        (node("Reshape", ["x", "mixed"], ["y"]), "quotient of lengths"),
        (node("Add", ["x", "fixed"], ["y"]), "6 long|long in one axis"),
        (node("Squeeze", ["x"], ["y"]), "depend on n"),
        (node("ConvTranspose", ["x", "kernel"], ["y"], auto_pad="SAME_UPPER", strides=[2]), "shape is fixed"),
    ],
)
def test_what_can_not_be_masked_is_refused(operator: Any, why: str) -> None:

    def feeds(n: int) -> Feeds:
        return {"x": normal(1, 3, n)}

    weights = {"mixed": np.array([2, -1]), "fixed": normal(6), "kernel": normal(2, 3, 3)}
    with pytest.raises(NoRoom, match=why):
        room_of(built([operator], feeds(6), weights, ["y"]), feeds, 6, 24)


def test_integers_are_not_divided_by_what_is_beyond() -> None:
    nodes = [
        node("Div", ["x", "y"], ["q"]),
        node("Mod", ["x", "y"], ["r"]),
        node("Gather", ["t", "r"], ["g"]),
    ]

    def feeds(n: int) -> Feeds:
        return {"x": RNG.integers(0, 50, (n, 1)), "y": RNG.integers(1, 9, (1, n))}

    room = agree(built(nodes, feeds(6), {"t": normal(9)}, ["q", "r", "g"]), feeds)
    assert "Where" in [n.op for n in room.graph.nodes]
    assert room.outputs["g"] == [(0, N), (1, N)]


def test_an_input_of_strings_is_refused() -> None:
    def feeds(n: int) -> Feeds:
        return {"x": np.array(["a"] * n)}

    proto = helper.make_model(
        helper.make_graph(
            [node("Identity", ["x"], ["y"])],
            "strings",
            [helper.make_tensor_value_info("x", onnx.TensorProto.STRING, ["n"])],
            [helper.make_tensor_value_info("y", onnx.TensorProto.STRING, ["n"])],
        ),
        opset_imports=[helper.make_opsetid("", 21)],
    )
    with pytest.raises(NoRoom, match="string"):
        room_of(load(BytesSource(proto.SerializeToString(), "s.onnx"), {}), feeds, 6, 24)


def test_dims_that_moved_together() -> None:
    assert moved({"a": (1, 5), "b": (6, 2)}, {"a": (1, 7), "b": (8, 2)}) == {"a": {1: N}, "b": {0: N + 1}}
    assert moved({"a": (1, 5)}, {"a": (1, 5)}) is None
    assert moved({"a": (5,)}, {"a": (1, 5)}) is None


def test_rows_and_elements_by_their_places() -> None:
    """GatherND from data that grows: by indices that are fed, from either end, and by those of a mask."""
    nodes = [
        node("GatherND", ["x", "at"], ["rows"]),
        node("Shape", ["mask"], ["count"], start=1),
        node("Squeeze", ["count"], ["n"]),
        node("Range", ["zero", "n", "one"], ["places"]),
        node("Unsqueeze", ["places", "last"], ["pairs"]),
        node("Pad", ["pairs", "before"], ["where"]),
        node("GatherND", ["mask", "where"], ["seen"]),
        node("Cast", ["seen"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    weights = {
        "zero": np.int64(0), "one": np.int64(1), "last": np.int64([-1]), "before": np.int64([0, 1, 0, 0])
    }  # fmt: skip

    def feeds_of(n: int) -> Feeds:
        at = RNG.integers(-n, n, (n, 1))
        return {"x": normal(n, 3), "at": at, "mask": RNG.integers(0, 2, (1, n))}

    agree(built(nodes, feeds_of(6), weights, ["rows", "y"]), feeds_of)


def test_a_slice_is_not_taken_for_what_it_is_of() -> None:
    """Both are one value, and other places of it count."""
    nodes = [
        node("Reciprocal", ["x"], ["r"]),
        node("Slice", ["r", "zero", "last", "one"], ["s"]),
        node("ReduceSum", ["r", "one"], ["a"]),
        node("ReduceSum", ["s", "one"], ["b"]),
        node("ReduceMax", ["s", "one"], ["c"]),
    ]
    weights = {"zero": np.array([0]), "last": np.array([-1]), "one": np.array([1])}

    def feeds(n: int) -> Feeds:
        return {"x": np.abs(normal(2, n)) + np.float32(0.5)}

    agree(built(nodes, feeds(6), weights, ["a", "b", "c"]), feeds)


def test_remainders_of_lengths_below_zero() -> None:
    """fmod(5 - 3n, 3) is 2 for n = 1 and -1 from then on."""
    nodes = [
        node("Shape", ["x"], ["n"]),
        node("Mul", ["n", "by"], ["a"]),
        node("Add", ["a", "five"], ["b"]),
        node("Mod", ["b", "three"], ["y"], fmod=1),
    ]
    weights = {"by": np.array(-3), "five": np.array(5), "three": np.array(3)}
    agree(built(nodes, {"x": normal(2)}, weights, ["y"]), lambda n: {"x": normal(n)}, n=1)


@pytest.mark.parametrize("cache", [0, 4, 64])
def test_a_definition_that_is_another_for_short_lengths(cache: int) -> None:
    """A cache of a fixed length is filled up behind a prompt that is shorter."""
    nodes = [
        node("Shape", ["mask"], ["dims"]),
        node("Gather", ["dims", "one"], ["keys"]),
        node("Cast", ["keys"], ["total"], to=onnx.TensorProto.INT32),
        node("Sub", ["keys", "one"], ["before"]),
        node("Reshape", ["before", "ones"], ["before_1"]),
        node("Cast", ["before_1"], ["lengths"], to=onnx.TensorProto.INT32),
        node("GroupQueryAttention", ["q", "k", "k", "past", "past", "lengths", "total"], ["y", "kept", "other"],
             domain="com.microsoft", num_heads=2, kv_num_heads=1),
    ]  # fmt: skip
    weights = {"one": np.array(1), "ones": np.array([1]), "past": np.zeros((1, 1, cache, 8), np.float32)}

    def feeds(n: int) -> Feeds:
        return {"q": normal(1, n, 16), "k": normal(1, n, 8), "mask": np.ones((1, n), np.int64)}

    model = built(nodes, feeds(6), weights, ["y", "kept"])
    if cache > 6:
        with pytest.raises(NoRoom, match="its definition depends on n"):
            agree(model, feeds)
    else:
        assert agree(model, feeds).least[0] >= cache
