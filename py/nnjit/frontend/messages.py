"""A serialized ModelProto → its ModelProto without nodes and initializers, and those as plain objects.

The protobuf package is written in Python where there is no other (in Pyodide): it takes longer over the nodes and small
tensors of a model than all else that reading one asks for. Nodes, attributes and tensors here have the fields of their
messages that the importer looks at, under the same names; what holds a graph, a type or numbers in an unusual form is
the onnx message itself. https://protobuf.dev/programming-guides/encoding/ and onnx.proto3 give the field numbers.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from ..graph import protos
from ..graph.dtypes import Array
from .lists import CHUNK, ELEMENTS, FLOAT, LISTS, NUMBERS, TEXT, TEXTS

_A = onnx.AttributeProto
VARINT, I64, LEN, I32 = 0, 1, 2, 5
Field: TypeAlias = "tuple[int, int, int, int, int]"
"""Number, wire type, where its tag starts, then the value of a varint and where it ends, or where its bytes start and
end."""
PLAIN: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.FLOAT: np.dtype("<f4"), onnx.TensorProto.DOUBLE: np.dtype("<f8"),
    onnx.TensorProto.FLOAT16: np.dtype("<f2"), onnx.TensorProto.BOOL: np.dtype("?"),
    onnx.TensorProto.INT8: np.dtype("i1"), onnx.TensorProto.UINT8: np.dtype("u1"),
    onnx.TensorProto.INT32: np.dtype("<i4"), onnx.TensorProto.INT64: np.dtype("<i8"),
}  # fmt: skip
"""Types whose raw_data is what numpy has in memory."""
M = TypeVar("M", onnx.TensorProto, onnx.AttributeProto)
MODEL_GRAPH, GRAPH_NODE, GRAPH_INITIALIZER = 7, 1, 5
UNREAD = frozenset({13, 14})
"""Of GraphProto: shapes and scales of values between nodes, a message for each. Shapes are inferred anyway."""
OTHER_VALUES = frozenset({6, 10, 11, 14, 15, 22, 23})
"""Fields of AttributeProto for graphs, types, sparse tensors and lists of tensors."""
TENSOR_FIELDS = frozenset({1, 2, 8, 9, 12, 13, 14})
TYPES = frozenset(_A.AttributeType.values())
LOCATIONS = frozenset(onnx.TensorProto.DataLocation.values())
LONG = 1 << 10  # bytes of an attribute whose lists are read many elements at a time


@dataclass(slots=True)
class Entry:
    """A StringStringEntryProto."""

    key: str = ""
    value: str = ""


@dataclass(slots=True)
class Tensor:
    """A TensorProto whose data lie elsewhere, or in raw_data as numpy has them."""

    data_type: int = 0
    dims: list[int] = field(default_factory=list)
    name: str = ""
    raw_data: bytes = b""
    external_data: list[Entry] = field(default_factory=list)
    data_location: int = 0

    def array(self) -> Array:
        """The values of raw_data. Raises ValueError where they do not fit the dims."""
        return np.frombuffer(self.raw_data, PLAIN[self.data_type]).reshape(self.dims)


@dataclass(slots=True)
class Attribute:
    """An AttributeProto with numbers or strings, or the tensor of a Constant."""

    name: str = ""
    ref_attr_name: str = ""
    type: int = 0
    f: float = 0.0
    i: int = 0
    s: bytes = b""
    t: Tensor | onnx.TensorProto | None = None
    floats: list[float] = field(default_factory=list)
    ints: list[int] = field(default_factory=list)
    strings: list[bytes] = field(default_factory=list)

    def value(self) -> Any:
        """What `protos.attribute_value` says of the message. Raises ValueError for a type that needs other fields."""
        if self.type == _A.INT:
            return self.i
        if self.type == _A.FLOAT:
            return self.f
        if self.type == _A.STRING:
            return protos.text(self.s)
        if self.type == _A.INTS:
            return self.ints
        if self.type == _A.FLOATS:
            return self.floats
        if self.type == _A.STRINGS:
            return [protos.text(s) for s in self.strings]
        raise ValueError(f"attribute {self.name!r} has no value of its type {self.type}")


@dataclass(slots=True)
class Node:
    """A NodeProto."""

    input: list[str]
    output: list[str]
    name: str = ""
    op_type: str = ""
    domain: str = ""
    overload: str = ""
    attribute: list[Attribute | onnx.AttributeProto] = field(default_factory=list)


AnyTensor: TypeAlias = "Tensor | onnx.TensorProto"
AnyNode: TypeAlias = "Node | onnx.NodeProto"


def parse(data: bytes) -> tuple[onnx.ModelProto, Sequence[AnyNode], Sequence[AnyTensor]]:
    """The model's message without its graph's nodes and initializers (nor value_info, which nobody reads), and these in
    order. DecodeError for bytes that are no message."""
    top = fields(data, 0, len(data))
    graphs = [f for f in top if f[0] == MODEL_GRAPH and f[1] == LEN]
    if len(graphs) != 1:  # none; or several, which are to be merged
        proto = onnx.ModelProto.FromString(data)
        return proto, proto.graph.node, proto.graph.initializer
    ((_, _, tag, start, end),) = graphs
    nodes: list[AnyNode] = []
    tensors: list[AnyTensor] = []
    rest = bytearray()
    at = start
    for number, wire, begin, a, b in fields(data, start, end):
        if wire == LEN and (number in (GRAPH_NODE, GRAPH_INITIALIZER) or number in UNREAD):
            rest += data[at:begin]
            at = b
            if number == GRAPH_NODE:
                nodes.append(node(data, a, b))
            elif number == GRAPH_INITIALIZER:
                tensors.append(tensor(data, a, b))
    rest += data[at:end]
    length = bytearray()
    n = len(rest)
    while n > 127:
        length.append(n & 127 | 128)
        n >>= 7
    length.append(n)
    whole = data[:tag] + bytes([MODEL_GRAPH << 3 | LEN]) + length + rest + data[end:]
    return onnx.ModelProto.FromString(whole), nodes, tensors


def node(data: bytes, start: int, end: int) -> Node:
    """The NodeProto in these bytes."""
    made = Node([], [])
    attributes: list[tuple[int, int]] = []
    for number, wire, _, a, b in fields(data, start, end):
        if wire != LEN:
            continue
        if number == 1:
            made.input.append(_text(data, a, b))
        elif number == 2:
            made.output.append(_text(data, a, b))
        elif number == 3:
            made.name = _text(data, a, b)
        elif number == 4:
            made.op_type = _text(data, a, b)
        elif number == 5:
            attributes.append((a, b))
        elif number == 7:
            made.domain = _text(data, a, b)
        elif number == 8:
            made.overload = _text(data, a, b)
    constant = made.op_type == "Constant"
    made.attribute = [attribute(data, a, b, constant) for a, b in attributes]
    return made


def attribute(data: bytes, start: int, end: int, constant: bool = False) -> Attribute | onnx.AttributeProto:
    """The AttributeProto in these bytes; constant: of a Constant node, whose tensor is taken apart here too."""
    made = Attribute()
    for number, wire, _, a, b in _beside_lists(made, data, start, end):
        if number in OTHER_VALUES or (number == 5 and not constant):
            return _message(onnx.AttributeProto(), data[start:end])
        if number == 1 and wire == LEN:
            made.name = _text(data, a, b)
        elif number == 20 and wire == VARINT:
            if a not in TYPES:  # an unknown one counts for nothing, and only 32 bits of it count
                return _message(onnx.AttributeProto(), data[start:end])
            made.type = a
        elif number == 3 and wire == VARINT:
            made.i = _signed(a)
        elif number == 8:
            _integers(made.ints, data, wire, a, b)
        elif number == 2 and wire == I32:
            (made.f,) = struct.unpack_from("<f", data, a)
        elif number == 4 and wire == LEN:
            made.s = data[a:b]
        elif number == 7 and wire in (LEN, I32):
            if (b - a) % 4:
                raise DecodeError("a list of floats ends within one")
            made.floats += struct.unpack_from(f"<{(b - a) // 4}f", data, a)
        elif number == 9 and wire == LEN:
            made.strings.append(data[a:b])
        elif number == 5 and wire == LEN:
            if made.t is not None:  # two are to be merged
                return _message(onnx.AttributeProto(), data[start:end])
            made.t = tensor(data, a, b)
        elif number == 21 and wire == LEN:
            made.ref_attr_name = _text(data, a, b)
    if made.t is None and made.type == _A.TENSOR:  # an empty one, then
        return _message(onnx.AttributeProto(), data[start:end])
    return made


def _beside_lists(made: Attribute, data: bytes, start: int, end: int) -> list[Field]:
    """The fields of an attribute; elements of long lists, each of them a field, go into `made` many at a time."""
    found: list[Field] = []
    at = start if end - start >= LONG else end
    while at < end:
        elements = ELEMENTS.get(data[at])
        run = elements.match(data, at, min(at + CHUNK, end)) if elements else None
        if run is None:
            found += fields(data, at, end, 1)
            at = found[-1][4]
            continue
        if data[at] == FLOAT:
            made.floats += struct.unpack("<" + "xf" * ((run.end() - at) // 5), run.group())
        elif data[at] == TEXT:
            made.strings += [text[2:] for text in TEXTS.findall(run.group())]
        else:
            digits = NUMBERS.findall(run.group())
            known = {d: _signed(_varint(d, 0, len(d))[0]) for d in set(digits)}
            made.ints += [known[d] for d in digits]
        at = run.end()
    if found and not any(number in LISTS for number, *_ in found):
        return found
    # short, or with elements of another form, which have their place among the rest
    made.floats, made.ints, made.strings = [], [], []
    return fields(data, start, end)


def tensor(data: bytes, start: int, end: int) -> AnyTensor:
    """The TensorProto in these bytes."""
    made = Tensor()
    for number, wire, _, a, b in fields(data, start, end):
        if number not in TENSOR_FIELDS:
            return _message(onnx.TensorProto(), data[start:end])
        if number == 1:
            _integers(made.dims, data, wire, a, b)
        elif number in (2, 14) and wire == VARINT and a > 127:  # of which 32 bits count
            return _message(onnx.TensorProto(), data[start:end])
        elif number == 2 and wire == VARINT:
            made.data_type = a
        elif number == 8 and wire == LEN:
            made.name = _text(data, a, b)
        elif number == 9 and wire == LEN:
            made.raw_data = data[a:b]
        elif number == 13 and wire == LEN:
            made.external_data.append(_entry(data, a, b))
        elif number == 14 and wire == VARINT and a in LOCATIONS:
            made.data_location = a
    if made.data_location != onnx.TensorProto.EXTERNAL and (not made.raw_data or made.data_type not in PLAIN):
        return _message(onnx.TensorProto(), data[start:end])
    return made


def _message(made: M, data: bytes) -> M:
    """`made`, filled from these bytes by the protobuf package."""
    made.ParseFromString(data)
    return made


def _entry(data: bytes, start: int, end: int) -> Entry:
    made = Entry()
    for number, wire, _, a, b in fields(data, start, end):
        if wire == LEN and number == 1:
            made.key = _text(data, a, b)
        elif wire == LEN and number == 2:
            made.value = _text(data, a, b)
    return made


def fields(data: bytes, at: int, end: int, most: int = sys.maxsize) -> list[Field]:
    """The first `most` fields of the message in bytes at .. end. DecodeError where they are none."""
    out: list[Field] = []
    while at < end and len(out) < most:
        start = at
        tag = data[at]
        at += 1
        if tag > 127:
            tag, at = _varint(data, start, end)
        wire = tag & 7
        if wire == LEN:
            if at >= end:
                raise DecodeError(f"byte {start}: a length is missing")
            length = data[at]
            at += 1
            if length > 127:
                length, at = _varint(data, at - 1, end)
            stop = at + length
            out.append((tag >> 3, LEN, start, at, stop))
        elif wire == VARINT:
            value, stop = _varint(data, at, end)
            out.append((tag >> 3, VARINT, start, value, stop))
        elif wire in (I32, I64):
            stop = at + (4 if wire == I32 else 8)
            out.append((tag >> 3, wire, start, at, stop))
        else:
            raise DecodeError(f"byte {start}: wire type {wire} does not occur in ONNX")
        if stop > end or tag < 8:
            raise DecodeError(f"byte {start}: no field ends where its message does")
        at = stop
    return out


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A number of at most ten bytes, and where it ends."""
    value = shift = 0
    while at < end and shift < 70:
        b = data[at]
        at += 1
        value |= (b & 127) << shift
        if b < 128:
            return value, at
        shift += 7
    raise DecodeError(f"byte {at}: a number does not end")


def _signed(value: int) -> int:
    """A 64-bit number in two's complement."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _integers(out: list[int], data: bytes, wire: int, a: int, b: int) -> None:
    """Adds the numbers of a repeated field: packed, or one alone."""
    if wire == VARINT:
        out.append(_signed(a))
        return
    if wire != LEN:
        return
    while a < b:
        value, a = _varint(data, a, b)
        out.append(_signed(value))


def _text(data: bytes, a: int, b: int) -> str:
    try:
        return data[a:b].decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"byte {a}: {error}") from None
