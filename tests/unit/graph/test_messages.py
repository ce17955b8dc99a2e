"""frontend.messages: nodes, attributes and tensors are what the protobuf package makes of the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from nnjit.errors import NnjitError
from nnjit.frontend import BytesSource, load
from nnjit.frontend.messages import Attribute, Node, Tensor, attribute, parse
from nnjit.frontend.wire import strip
from nnjit.graph import protos
from tests.models import catalogue

TEXTS = ("name", "op_type", "domain", "overload")


def everything() -> onnx.ModelProto:
    """A node with every kind of attribute, tensors in every form, bodies, and what a graph has beside these."""
    value = helper.make_tensor_value_info
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["inner"])], "b", [], [value("inner", 1, [2])])
    numbers: dict[str, Any] = {
        "i": -5, "many": [1, -(2**63), 2**63 - 1, 0], "f": 0.1, "floats": [1.5, float("-inf"), 3e-39],
        "s": "text", "odd": b"\xff\xfe", "strings": ["a", "", "ü"], "t": numpy_helper.from_array(np.eye(2)),
        "body": body, "tensors": [numpy_helper.from_array(np.ones(1))],
        "type": helper.make_tensor_type_proto(1, [2, "n"]),
    }  # fmt: skip
    empty = AttributeProto(name="empty", type=AttributeProto.INTS)
    node = helper.make_node("Odd", ["x", "", "w"], ["y", ""], "the odd one", domain="own", **numbers)
    node.attribute.append(empty)
    node.attribute.append(AttributeProto(name="ref", type=AttributeProto.INT, ref_attr_name="outer"))
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.int64([3, 4])))
    external = TensorProto(name="far", data_type=1, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    for key, text in (("location", "far.bin"), ("offset", "12"), ("length", "24")):
        external.external_data.add(key=key, value=text)
    kinds = (
        np.float32,
        np.float64,
        np.float16,
        np.bool_,
        np.int8,
        np.uint8,
        np.int32,
        np.int64,
        np.uint16,
        np.uint64,
    )
    tensors = [numpy_helper.from_array(np.arange(6).reshape(2, 3).astype(k), k.__name__) for k in kinds]
    tensors += [
        external,
        helper.make_tensor("listed", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0]),
        helper.make_tensor("words", TensorProto.STRING, [2], [b"a", b"b"]),
        helper.make_tensor("brief", TensorProto.BFLOAT16, [2], [1.0, 2.0]),
        numpy_helper.from_array(np.zeros((0, 4), np.float32), "none"),
        numpy_helper.from_array(np.float32(7), "scalar"),
    ]
    graph = helper.make_graph(
        [node, constant], "g", [value("x", 1, ["n", 2])], [value("y", 1, None)], tensors, "about it"
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], producer_name="p")
    model.metadata_props.add(key="k", value="v")
    model.graph.value_info.append(value("c", TensorProto.INT64, [2]))
    model.graph.quantization_annotation.add(tensor_name="y")
    return model


def same_tensor(ours: Any, theirs: TensorProto) -> None:
    assert (ours.name, ours.data_type, list(ours.dims)) == (theirs.name, theirs.data_type, list(theirs.dims))
    assert ours.data_location == theirs.data_location
    given = [(e.key, e.value) for e in ours.external_data]
    assert given == [(e.key, e.value) for e in theirs.external_data]
    if isinstance(ours, Tensor) and not given:
        array = protos.tensor_to_numpy(theirs)
        assert ours.array().dtype == array.dtype and ours.array().shape == array.shape
        assert ours.array().tobytes() == array.tobytes()
    elif not isinstance(ours, Tensor):
        assert ours == theirs


def same_attribute(ours: Any, theirs: AttributeProto) -> None:
    if not isinstance(ours, Attribute):
        assert ours == theirs
        return
    assert (ours.name, ours.type, ours.ref_attr_name) == (theirs.name, theirs.type, theirs.ref_attr_name)
    if theirs.type == AttributeProto.TENSOR:
        same_tensor(ours.t, theirs.t)
    else:
        assert repr(ours.value()) == repr(protos.attribute_value(theirs))


def same_model(model: onnx.ModelProto) -> tuple[int, int]:
    """How many attributes and tensors were taken apart here."""
    data = model.SerializeToString()
    rest, nodes, tensors = parse(data)
    assert len(nodes) == len(model.graph.node) and len(tensors) == len(model.graph.initializer)
    light = [0, 0]
    for ours, theirs in zip(nodes, model.graph.node, strict=True):
        assert isinstance(ours, Node)
        assert [getattr(ours, t) for t in TEXTS] == [getattr(theirs, t) for t in TEXTS]
        assert (ours.input, ours.output) == (list(theirs.input), list(theirs.output))
        assert len(ours.attribute) == len(theirs.attribute)
        for a, b in zip(ours.attribute, theirs.attribute, strict=True):
            same_attribute(a, b)
            light[0] += isinstance(a, Attribute)
    for x, y in zip(tensors, model.graph.initializer, strict=True):
        same_tensor(x, y)
        light[1] += isinstance(x, Tensor)
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.node[:]
    del bare.graph.initializer[:]
    del bare.graph.value_info[:]
    del bare.graph.quantization_annotation[:]
    assert rest == bare
    return light[0], light[1]


def test_every_kind_of_attribute_and_tensor() -> None:
    assert same_model(everything()) == (10, 10)


@pytest.mark.parametrize("name", ["mobilenet-v2", "t5-small"])
def test_models(name: str) -> None:
    model = onnx.load(str(catalogue.MODELS[name].path()), load_external_data=False)
    attributes, tensors = same_model(model)
    assert attributes > 90 and tensors > 50


def test_repeated_numbers_one_by_one() -> None:
    """Writers may leave lists unpacked, or pack them: readers take both."""
    attr = AttributeProto(name="a", type=AttributeProto.INTS, ints=[1, -2])
    plain = attr.SerializeToString()
    packed = b"".join((b"\x0a\x01a", b"\xa0\x01\x07", b"\x42\x0b\x01", b"\xfe" + b"\xff" * 8 + b"\x01"))
    for data in (plain, packed):
        model = everything()
        model.graph.node[0].ClearField("attribute")
        model.graph.node[0].attribute.append(AttributeProto.FromString(data))
        whole = model.SerializeToString().replace(plain, data)
        first = parse(whole)[1][0].attribute[0]
        assert isinstance(first, Attribute) and first.value() == [1, -2]


def test_long_lists() -> None:
    """Which are read many elements at a time: numbers of every length, texts of less and more than 32 bytes, packed."""
    rng = np.random.default_rng(1)
    for count in (0, 1, 150, 5000):
        whole = (rng.integers(-(2**62), 2**62, count) >> rng.integers(0, 62, count)).tolist()
        texts = ["BRANCH_LEQ" if i % 3 else "é" * (i % 40) for i in range(count)]
        short = [t for t in texts if len(t.encode()) < 32]
        attributes = {
            "a": rng.normal(size=count).tolist(),
            "b": whole,
            "c": texts,
            "d": short,
            "e": rng.random(count),
        }
        node = helper.make_node("Op", ["x"], ["y"])
        for name, values in attributes.items():
            kind = AttributeProto.FLOATS if name in "ae" else AttributeProto.INTS if name == "b" else None
            node.attribute.append(
                helper.make_attribute(name, values, attr_type=kind or AttributeProto.STRINGS)
            )
        graph = helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("x", 1, [1])],
            [helper.make_tensor_value_info("y", 1, [1])],
        )
        model = helper.make_model(graph)
        same_model(model)
        data = model.SerializeToString()
        assert strip(BytesSource(data, "m")) == data
    # elements of both forms by turns keep their order
    mixed = AttributeProto(name="m", type=AttributeProto.INTS, ints=[1, 2]).SerializeToString()
    mixed += b"\x40\x03" * 700 + b"\x42\x02\x04\x05" + b"\x40\x06" * 700
    wanted = AttributeProto()
    wanted.ParseFromString(mixed)
    same_attribute(attribute(mixed, 0, len(mixed)), wanted)


def test_graphs_in_two_pieces_are_merged() -> None:
    model = everything()
    data = model.SerializeToString()
    twice = (
        data
        + onnx.ModelProto(
            graph=onnx.GraphProto(node=[helper.make_node("Relu", ["y"], ["z"])])
        ).SerializeToString()
    )
    assert [n.op_type for n in parse(twice)[1]] == ["Odd", "Constant", "Relu"]


def in_first_node(attribute: bytes) -> Any:
    """What `parse` makes of this attribute of a Constant, and what the protobuf package does."""
    node = (
        helper.make_node("Constant", [], ["c"]).SerializeToString()
        + b"\x2a"
        + bytes([len(attribute)])
        + attribute
    )
    graph = b"\x0a" + bytes([len(node)]) + node
    data = b"\x3a" + bytes([len(graph)]) + graph
    return parse(data)[1][0].attribute[0], onnx.ModelProto.FromString(data).graph.node[0].attribute[0]


@pytest.mark.parametrize(
    "kind",
    [
        b"\xa0\x01\x82\x80\x80\x80\x10",  # 2^32 + INT: of an enum's number 32 bits count
        b"\xa0\x01\x02\xa0\x01\x63",  # INT, then one that there is not
        b"\xa0\x01\x63",
    ],
)
def test_odd_numbers_of_types(kind: bytes) -> None:
    ours, theirs = in_first_node(b"\x0a\x01i\x18\x05" + kind)
    assert (ours.type, ours.i) == (theirs.type, theirs.i)


def test_odd_tensors_of_constants() -> None:
    """One in two pieces is merged, one that is not there is an empty one, numbers count by their 32 lower bits."""
    start = b"\x0a\x05value\xa0\x01\x04"
    pieces = b"\x2a\x02\x08\x02", b"\x2a\x06\x10\x03\x4a\x02\x01\x02"
    for tensor in (b"", b"".join(pieces), b"\x2a\x09\x10\x83\x80\x80\x80\x10\x4a\x01\x07"):
        ours, theirs = in_first_node(start + tensor)
        same_tensor(ours.t, theirs.t)


def test_external_data_is_where_a_known_place_says() -> None:
    tensor = TensorProto(name="t", data_type=TensorProto.INT8, dims=[1], raw_data=b"\x05")
    for place in (b"\x70\x07", b"\x70\x80\x80\x80\x80\x10", b"\x70\x01\x70\x05"):
        graph = onnx.GraphProto(initializer=[tensor]).SerializeToString() + place
        graph = b"\x2a" + bytes([graph[1] + len(place)]) + graph[2:]
        data = b"\x3a" + bytes([len(graph)]) + graph
        (ours,), (theirs,) = parse(data)[2], onnx.ModelProto.FromString(data).graph.initializer
        assert (ours.data_location, ours.data_type, ours.name) == (
            theirs.data_location,
            theirs.data_type,
            "t",
        )


def test_names_that_are_no_text_where_protobuf_is_python() -> None:
    """As in the page: there the package raises UnicodeDecodeError as it reads."""
    code = """
import onnx
from nnjit.errors import ModelFormatError
from nnjit.frontend import BytesSource, load
try:
    load(BytesSource(b"\\x08\\x08\\x12\\x01\\xff\\x3a\\x02\\x0a\\x00", "m.onnx"))
except ModelFormatError as error:
    print(error)
"""
    env = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert "m.onnx is not an ONNX model" in done.stdout and "0xff" in done.stdout


def test_cut_and_changed_bytes_are_refused_by_type() -> None:
    """Whatever is wrong with the bytes, it is a DecodeError here and an NnjitError of load."""
    data = everything().SerializeToString()
    rng = np.random.default_rng(7)
    refused = 0
    for n in range(400):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 1 + n % 3):
            damaged[at] = int(rng.integers(256))
        if n % 4 == 0:
            del damaged[int(rng.integers(len(data))) :]
        try:
            parse(bytes(damaged))
        except DecodeError:
            refused += 1
        with pytest.raises(NnjitError):  # the model has an operator that there is not, too
            load(BytesSource(bytes(damaged)))
    assert refused > 50
