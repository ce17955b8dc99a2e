"""Reads WebAssembly back: function bodies to instructions, module bytes to their parts.

The same opcode table as the encoder's drives it. It reads what ModuleBuilder writes (and most of what
compilers write); anything else raises DecodeError with the byte offset. listing.py prints the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ...errors import NnjitError
from . import encode
from .leb import read_sleb, read_uleb
from .opcodes import OPS, Op


class DecodeError(NnjitError):
    """Bytes that are not the WebAssembly this decoder knows. Fields: offset."""

    code = "WASM_DECODE"


class Instruction(NamedTuple):
    """One instruction. Immediates: numbers as int, constants f32, f64, v128 and shuffles as their bytes,
    memory accesses as (log2 of the alignment, offset), a block type as None, a type byte or (type index,)."""

    offset: int
    op: Op
    immediates: tuple[object, ...]


def _key(code: bytes) -> int:
    """First byte, and the number after a prefix byte, as one int."""
    return code[0] if len(code) == 1 else code[0] << 16 | read_uleb(code, 1)[0]


_BY_CODE = {_key(op.code): op for op in OPS.values()}
_PREFIXES = (0xFC, 0xFD, 0xFE)


def instructions(code: bytes | bytearray, start: int = 0, end: int | None = None) -> Iterator[Instruction]:
    """The instructions in code[start:end]."""
    at, end = start, len(code) if end is None else end
    while at < end:
        offset, key = at, code[at]
        at += 1
        if key in _PREFIXES:
            number, at = read_uleb(code, at)
            key = key << 16 | number
        op = _BY_CODE.get(key)
        if op is None:
            raise DecodeError(f"unknown instruction {key:#x} at byte {offset:#x}", offset=offset)
        values: list[object] = []
        for kind in op.immediates:
            value, at = _immediate(kind, code, at)
            values.append(value)
        yield Instruction(offset, op, tuple(values))
    if at != end:
        raise DecodeError(f"an instruction crosses the end of the code at byte {end:#x}", offset=end)


def _immediate(kind: str, code: bytes | bytearray, at: int) -> tuple[object, int]:
    """Decode one immediate: (value, position after it)."""
    if kind[0] == "m" and kind[1:].isdigit():
        align, at = read_uleb(code, at)
        offset, at = read_uleb(code, at)
        return (align, offset), at
    if kind in ("i32", "i64"):
        return read_sleb(code, at)
    if kind in _FIXED_SIZE:
        size = _FIXED_SIZE[kind]
        return bytes(code[at : at + size]), at + size
    if kind in ("labels", "types"):
        count, at = read_uleb(code, at)
        numbers = []
        for _ in range(count + (kind == "labels")):  # labels: the default follows
            number, at = read_uleb(code, at)
            numbers.append(number)
        return tuple(numbers), at
    if kind == "blocktype":
        if code[at] == encode.EMPTY_BLOCK:
            return None, at + 1
        if code[at] & 0xC0 == 0x40:  # negative as signed LEB128: a value type
            return code[at], at + 1
        index, at = read_sleb(code, at)
        return (index,), at
    return read_uleb(code, at)


_FIXED_SIZE = {"f32": 4, "f64": 8, "v128": 16, "lanes": 16}


class FunctionType(NamedTuple):
    """Type bytes of parameters and results."""

    params: bytes
    results: bytes


class Limits(NamedTuple):
    """Of a memory (pages) or table (elements)."""

    minimum: int
    maximum: int | None
    shared: bool


class Import(NamedTuple):
    """description: type index, (element type, Limits), Limits or (type, mutable), by kind."""

    module: str
    field: str
    kind: int
    description: object


class Body(NamedTuple):
    """A defined function: its type index, the types of its locals, and where its code lies in the module."""

    type: int
    locals: bytes
    start: int
    end: int


class Segment(NamedTuple):
    """An element or data segment; `at` is None for a passive one."""

    at: int | None
    content: object


@dataclass
class Module:
    """The parts of a module, in index order. Function indices begin with the imported ones."""

    data: bytes
    types: list[FunctionType] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    bodies: list[Body] = field(default_factory=list)
    tables: list[tuple[int, Limits]] = field(default_factory=list)
    memories: list[Limits] = field(default_factory=list)
    globals: list[tuple[int, int, list[Instruction]]] = field(default_factory=list)
    exports: list[tuple[str, int, int]] = field(default_factory=list)
    start: int | None = None
    elements: list[Segment] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    name: str = ""
    function_names: dict[int, str] = field(default_factory=dict)
    local_names: dict[int, dict[int, str]] = field(default_factory=dict)
    other_sections: list[tuple[str, int]] = field(default_factory=list)


class _Reader:
    """A position in the module's bytes."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        value, self.at = read_uleb(self.data, self.at)
        return value

    def take(self, size: int) -> bytes:
        self.at += size
        if self.at > len(self.data):
            raise DecodeError("the module is cut short", offset=len(self.data))
        return self.data[self.at - size : self.at]

    def name(self) -> str:
        return self.take(self.number()).decode()

    def name_map(self) -> dict[int, str]:
        return {self.number(): self.name() for _ in range(self.number())}

    def limits(self) -> Limits:
        flags, minimum = self.byte(), self.number()
        return Limits(minimum, self.number() if flags & 1 else None, bool(flags & 2))

    def expression(self) -> list[Instruction]:
        """A constant expression, without its `end`."""
        found: list[Instruction] = []
        for instruction in instructions(self.data, self.at):
            if instruction.op.name == "end":
                self.at = instruction.offset + 1
                return found
            found.append(instruction)
        raise DecodeError("a constant expression without end", offset=self.at)

    def address(self) -> int:
        """A constant expression that is one i32.const, as an unsigned number."""
        first, *rest = self.expression()
        if rest or first.op.name != "i32.const":
            raise DecodeError("a segment's place is not a constant", offset=self.at)
        value = first.immediates[0]
        assert isinstance(value, int)
        return value & 0xFFFFFFFF


def parse(data: bytes) -> Module:
    """Take a module apart. Raises DecodeError; does not validate."""
    if data[:8] != encode.MAGIC:
        raise DecodeError("not a WebAssembly module of version 1", offset=0)
    module = Module(data)
    reader = _Reader(data, 8)
    declared: list[int] = []
    try:
        while reader.at < len(data):
            number, size = reader.byte(), reader.number()
            end = reader.at + size
            _section(module, reader, number, end, declared)
            if reader.at != end:
                raise DecodeError(f"section {number} ends at {reader.at:#x}, not {end:#x}", offset=reader.at)
    except IndexError:
        raise DecodeError("the module is cut short", offset=len(data)) from None
    return module


def _section(module: Module, reader: _Reader, number: int, end: int, declared: list[int]) -> None:
    if number == encode.CUSTOM:
        _custom(module, reader, end)
        return
    if number == encode.START:
        module.start = reader.number()
        return
    count = reader.number()
    if number == encode.DATA_COUNT:
        return
    for nth in range(count):
        if number == encode.TYPE:
            if reader.byte() != 0x60:
                raise DecodeError("a type that is not a function's", offset=reader.at - 1)
            module.types.append(FunctionType(reader.take(reader.number()), reader.take(reader.number())))
        elif number == encode.IMPORT:
            module.imports.append(_import(reader))
        elif number == encode.FUNCTION:
            declared.append(reader.number())
        elif number == encode.TABLE:
            module.tables.append((reader.byte(), reader.limits()))
        elif number == encode.MEMORY:
            module.memories.append(reader.limits())
        elif number == encode.GLOBAL:
            module.globals.append((reader.byte(), reader.byte(), reader.expression()))
        elif number == encode.EXPORT:
            module.exports.append((reader.name(), reader.byte(), reader.number()))
        elif number == encode.ELEMENT:
            if reader.number() != 0:
                raise DecodeError("an element segment of another form than active", offset=reader.at - 1)
            address = reader.address()
            module.elements.append(Segment(address, [reader.number() for _ in range(reader.number())]))
        elif number == encode.CODE:
            module.bodies.append(_body(reader, declared[nth]))
        elif number == encode.DATA:
            place = None if reader.number() else reader.address()
            module.segments.append(Segment(place, reader.take(reader.number())))
        else:
            raise DecodeError(f"unknown section {number}", offset=reader.at)


def _import(reader: _Reader) -> Import:
    module, name, kind = reader.name(), reader.name(), reader.byte()
    description: object
    if kind == encode.EXTERN_FUNCTION:
        description = reader.number()
    elif kind == encode.EXTERN_TABLE:
        description = (reader.byte(), reader.limits())
    elif kind == encode.EXTERN_MEMORY:
        description = reader.limits()
    else:
        description = (reader.byte(), reader.byte())
    return Import(module, name, kind, description)


def _body(reader: _Reader, type_index: int) -> Body:
    size = reader.number()
    end = reader.at + size
    types = bytearray()
    for _ in range(reader.number()):
        count = reader.number()
        types += bytes((reader.byte(),)) * count
    start, reader.at = reader.at, end
    return Body(type_index, bytes(types), start, end)


def _custom(module: Module, reader: _Reader, end: int) -> None:
    section_name = reader.name()
    if section_name != "name":
        module.other_sections.append((section_name, end - reader.at))
        reader.at = end
    while reader.at < end:
        part, size = reader.byte(), reader.number()
        part_end = reader.at + size
        if part == 0:
            module.name = reader.name()
        elif part == 1:
            module.function_names = reader.name_map()
        elif part == 2:
            module.local_names = {reader.number(): reader.name_map() for _ in range(reader.number())}
        reader.at = part_end
