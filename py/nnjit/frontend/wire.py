"""Takes the bytes of an ONNX model, returns the same protobuf message without its big payloads.

A small walker of the protobuf wire format copies everything but the data of large tensors, which it
turns into external-data references to the model's own file (location SELF). So 500 MB of weights
never enter Python: what is left, some 100 KB, messages.py reads.
https://protobuf.dev/programming-guides/encoding/ and onnx.proto3 give the field numbers.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias, TypeVar

from ..errors import ModelFormatError, SessionError
from .lists import CHUNK, ELEMENTS, LISTS
from .sniff import HEAD, sniff, text_in
from .source import ArrivingSource, ByteSource, Window

T = TypeVar("T")
Needs: TypeAlias = "Generator[list[tuple[int, int]], None, T]"
"""Yields (start, end) of bytes that are to come before it can go on, and of others that it will probably want next."""

SELF = "\0self"  # external_data location of payloads that stay in the model file
THRESHOLD = 4096  # smaller payloads are copied
WANTED = 1 << 16  # payloads up to here are waited for: shape arithmetic and folding may want them
AHEAD = 8  # pieces asked for beforehand
MOST = 64  # fields beyond the one that is needed which are looked at for that
MARGIN = 64  # bytes by which names and numbers of like tensors may differ
AROUND = 256  # bytes on either side of where a tensor is expected to begin
LONGEST = 16  # lengths that are compared
HEADER = 20  # a tag and a length, ten bytes each at most

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_FIXED = {_I64: 8, _I32: 4}

# Which fields of which message lead to large tensors: {message: {field: message of that field}}.
_PATHS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {5: "TensorProto"},
}
_MODEL_FIELDS = {
    1: _VARINT,
    2: _LEN,
    3: _LEN,
    4: _LEN,
    5: _VARINT,
    6: _LEN,
    7: _LEN,
    8: _LEN,
    14: _LEN,
    20: _LEN,
}
_MODEL_FIELDS |= {25: _LEN, 26: _LEN}
_DATA_TYPE, _FLOAT_DATA, _RAW_DATA, _DOUBLE_DATA = 2, 4, 9, 10
_FLOAT, _DOUBLE = 1, 11


@dataclass(frozen=True, slots=True)
class _Field:
    number: int
    wire: int
    start: int  # of its tag
    body: int  # of its payload (the varint itself for wire type 0)
    end: int


def strip(source: ByteSource, threshold: int = THRESHOLD) -> bytes:
    """A serialized ModelProto whose tensors of `threshold` bytes and more are references into `source`.

    Raises ModelFormatError for bytes that are no ONNX model or end too early.
    """
    steps = walk(source, threshold)
    try:
        while True:
            (start, end), *_ = next(steps)
            raise SessionError(f"{source.name}: bytes {start} to {end} are not there yet", file=source.name)
    except StopIteration as done:
        stripped: bytes = done.value
        return stripped


def walk(source: ByteSource, threshold: int = THRESHOLD) -> Needs[bytes]:
    """As `strip`, of a file that may still be on its way: yields (start, end) of bytes it cannot go on without.

    Large payloads are none of them, so that the walk may end long before the file has come. After those bytes stand
    others that it may want next, as far as the file repeats itself.
    """
    walker = _Walker(source, threshold)
    yield from walker.need(0, HEAD)
    sniff(source)
    return (yield from walker.message("ModelProto", 0, source.size))


class _Walker:
    def __init__(self, source: ByteSource, threshold: int) -> None:
        self.source, self.window, self.threshold = source, Window(source), threshold
        arriving = isinstance(source, ArrivingSource) and not source.there(0, source.size)
        self.arriving = source if arriving and isinstance(source, ArrivingSource) else None
        # what was found to be there up to here is there: asking for each field would cost more than reading it
        self._there = 0 if arriving else source.size

    def need(self, start: int, end: int, starts: Sequence[int] = (), size: int = 0) -> Needs[None]:
        """Waits for bytes start .. end, with all of the blocks that the window reads for them.

        `starts` of the fields so far, in a message that ends at `size`: what comes next is guessed from them.
        """
        if end <= self._there or start >= end or self.arriving is None:
            return
        start, end = self.window.blocks(start, end)
        while not self.arriving.there(start, end):
            yield [(start, end), *(b for b in self._guesses(starts, size) if b != (start, end))]
        if self.arriving.there(0, end):
            self._there = end

    def _guesses(self, starts: Sequence[int], size: int) -> list[tuple[int, int]]:
        """Where the next tensors probably begin: layers are alike, so lengths that followed the last few do again."""
        lengths = [b - a for a, b in pairwise(starts)]
        at = _echo(lengths)
        found: list[tuple[int, int]] = []
        if not at:
            return found
        place, period = starts[-1], len(lengths) - at
        for i in range(MOST):
            length = lengths[at + i % period]
            place += length
            if place + AROUND > size or len(found) == AHEAD:
                break
            block = self.window.blocks(place - AROUND, place + AROUND)
            if length >= self.threshold and not self._has(*block):
                found.append(block)
        return found

    def message(self, kind: str, start: int, end: int) -> Needs[bytes]:
        """The message of a kind at these bytes of the file, its large payloads replaced by references to them."""
        inner = _PATHS[kind]
        out = bytearray()
        at = copied = start  # everything before `copied` is in `out`
        starts: list[int] = []
        while at < end:
            starts.append(at)
            yield from self.need(at, min(at + HEADER, end), starts, end)
            field = self._field(kind, at, end)
            at = field.end
            name = inner.get(field.number)
            if kind == "AttributeProto" and field.number in LISTS and at < end:
                at = yield from self._elements(at, end)
            # A small message cannot hold a large payload: the common node is copied unseen.
            if name is None or field.wire != _LEN or field.end - field.body < self.threshold:
                continue
            if name == "TensorProto":
                body = yield from self._tensor(field.body, field.end, [*starts, field.end], end)
            else:
                body = yield from self.message(name, field.body, field.end)
            if len(body) == field.end - field.body:
                continue
            yield from self.need(copied, field.start)
            out += self.window.read(copied, field.start - copied)
            out += _tag(field.number, _LEN) + _varint(len(body)) + body
            copied = field.end
        yield from self.need(copied, end)
        out += self.window.read(copied, end - copied)
        return bytes(out)

    def _elements(self, at: int, end: int) -> Needs[int]:
        """Past elements of an attribute's list, each a field of its own: trees have many thousands."""
        stop = min(at + CHUNK, end)
        yield from self.need(at, stop)
        data = self.window.read(at, stop - at)
        elements = ELEMENTS.get(data[0])
        run = elements.match(data) if elements else None
        return at + (run.end() if run else 0)

    def _tensor(self, start: int, end: int, starts: Sequence[int], size: int) -> Needs[bytes]:
        fields: list[_Field] = []
        at = start
        while at < end:
            yield from self.need(at, min(at + HEADER, end), starts, size)
            fields.append(self._field("TensorProto", at, end))
            at = fields[-1].end
        data_type = next((self._value(f) for f in fields if f.number == _DATA_TYPE), 0)
        payload = [f for f in fields if f.wire == _LEN and self._is_raw(f, data_type)]
        if len(payload) != 1 or payload[0].end - payload[0].body < self.threshold:
            yield from self.need(start, end)
            return self.window.read(start, end - start)
        big = payload[0]
        if big.end - big.body <= WANTED:
            yield from self.need(start, end)  # whoever folds constants reads it next
        out = bytearray()
        for field in fields:
            if field is not big:
                yield from self.need(field.start, field.end)
                out += self.window.read(field.start, field.end - field.start)
        entries = {"location": SELF, "offset": str(big.body), "length": str(big.end - big.body)}
        for key, value in entries.items():
            entry = _string(1, key) + _string(2, value)
            out += _tag(13, _LEN) + _varint(len(entry)) + entry
        out += _tag(14, _VARINT) + _varint(1)  # data_location = EXTERNAL
        return bytes(out)

    def _has(self, start: int, end: int) -> bool:
        return self.arriving is None or self.arriving.there(*self.window.blocks(start, end))

    @staticmethod
    def _is_raw(field: _Field, data_type: int) -> bool:
        """Packed float_data and double_data have the very layout of raw_data."""
        return (
            field.number == _RAW_DATA
            or (field.number == _FLOAT_DATA and data_type == _FLOAT)
            or (field.number == _DOUBLE_DATA and data_type == _DOUBLE)
        )

    def _value(self, field: _Field) -> int:
        return self.window.varint(field.body, field.end)[0] if field.wire == _VARINT else 0

    def _field(self, kind: str, at: int, end: int) -> _Field:
        """The field that starts at `at`, in a message that ends at `end`."""
        window = self.window
        tag, body = window.varint(at, end)
        number, wire = tag >> 3, tag & 7
        if tag < 0 or number == 0:
            raise self._broken(kind, at, "no field starts here")
        if kind == "ModelProto" and _MODEL_FIELDS.get(number) != wire:
            raise self._broken(kind, at, f"field {number} of wire type {wire} is none of its fields")
        if wire == _LEN:
            length, body = window.varint(body, end)
            stop = body + length
            if length < 0 or stop > end:
                raise self._truncated(kind, at, length, end - body)
        elif wire == _VARINT:
            value, stop = window.varint(body, end)
            if value < 0:
                raise self._truncated(kind, at, 1, end - body)
        elif wire in _FIXED:
            stop = body + _FIXED[wire]
            if stop > end:
                raise self._truncated(kind, at, _FIXED[wire], end - body)
        else:
            raise self._broken(kind, at, f"wire type {wire} does not occur in ONNX")
        return _Field(number, wire, at, body, stop)

    def _broken(self, kind: str, at: int, why: str) -> ModelFormatError:
        return text_in(self.source) or ModelFormatError(
            f"{self.source.name} is not an ONNX model: byte {at}, in a {kind}: {why}",
            hint="give the .onnx file itself; if this is it, it is damaged: fetch or export it again",
            file=self.source.name,
            offset=at,
        )

    def _truncated(self, kind: str, at: int, needed: int, there: int) -> ModelFormatError:
        return text_in(self.source) or ModelFormatError(
            f"{self.source.name} ends too early: the field at byte {at}, in a {kind}, needs "
            f"{max(needed, 1):,} bytes and {max(there, 0):,} are left (the file has {self.source.size:,})",
            hint="the download or copy was cut short: fetch the file again",
            file=self.source.name,
            offset=at,
        )


def _echo(lengths: Sequence[int]) -> int:
    """Where the lengths go on that were like the last ones: the end of the latest longest run of at least two that is
    like the end of the list, names counting for nothing; 0 if there is none."""
    best, at = 1, 0
    last = len(lengths)
    for end in range(last - 1, 1, -1):
        run = 0
        while run < end and run < LONGEST and abs(lengths[end - 1 - run] - lengths[last - 1 - run]) < MARGIN:
            run += 1
        if run > best:
            best, at = run, end
            if run == LONGEST:
                break
    return at


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tag(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _string(number: int, text: str) -> bytes:
    data = text.encode()
    return _tag(number, _LEN) + _varint(len(data)) + data
