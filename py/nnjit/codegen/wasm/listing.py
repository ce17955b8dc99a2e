"""Prints WebAssembly in the text format, with names and byte offsets.

`listing(module bytes)` gives a text that assembles back to the same bytes; `listing(function)` shows a
FunctionBuilder, complete or not. Offsets are those of a browser's stack trace: (;@4f;) is byte 0x4f.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence

from . import encode
from .builder import Callee, FunctionBuilder, TypeIndex
from .decode import FunctionType, Instruction, Limits, Module, Segment, instructions, parse
from .opcodes import TYPE_NAME

_PLAIN_ID = re.compile(r"[0-9A-Za-z!#$%&'*+\-./:<=>?@\\^_`|~]+")
_HEAP_TYPE = {0x70: "func", 0x6F: "extern"}
_KIND = {
    encode.EXTERN_FUNCTION: "func",
    encode.EXTERN_TABLE: "table",
    encode.EXTERN_MEMORY: "memory",
    encode.EXTERN_GLOBAL: "global",
}


def listing(what: bytes | FunctionBuilder) -> str:
    """A module or one function as text."""
    if isinstance(what, FunctionBuilder):
        return "\n".join(_builder_lines(what)) + "\n"
    return "\n".join(_module_lines(parse(what))) + "\n"


def _builder_lines(function: FunctionBuilder) -> Iterator[str]:
    callees: list[Callee] = []
    types: list[FunctionType] = []

    def callee_index(callee: Callee) -> int:
        callees.append(callee)
        return len(callees) - 1

    def type_index(wanted: TypeIndex) -> int:
        types.append(FunctionType(wanted.params, wanted.results))
        return len(types) - 1

    code = function.resolved(callee_index, type_index)
    names = {index: callee.name for index, callee in enumerate(callees) if callee.name}
    head = f"(func{_id(function.name)}" + _signature(function.params, function.results, function.local_names)
    body = _Body(types, names, function.local_names, inline_types=True)
    yield head
    yield from _local_lines(function.locals, len(function.params), function.local_names, "  ")
    yield from body.lines(instructions(code), "  ")
    yield ")"


def _module_lines(module: Module) -> Iterator[str]:
    yield f"(module{_id(module.name)}"
    for index, (params, results) in enumerate(module.types):
        yield f"  (type (;{index};) (func{_signature(params, results, {})}))"
    function_index = 0
    for item in module.imports:
        text = _import_text(module, item.kind, item.description, function_index)
        function_index += item.kind == encode.EXTERN_FUNCTION
        yield f'  (import "{_escape(item.module)}" "{_escape(item.field)}" ({text}))'
    for element, limits in module.tables:
        yield f"  (table {_limits(limits)} {TYPE_NAME[element]})"
    for limits in module.memories:
        yield f"  (memory {_limits(limits)})"
    for ty, mutable, start in module.globals:
        value = " ".join(_Body(module.types, {}, {}).text(i) for i in start)
        yield f"  (global {f'(mut {TYPE_NAME[ty]})' if mutable else TYPE_NAME[ty]} {value})"
    for name, kind, index in module.exports:
        shown = _reference(module.function_names, index) if kind == encode.EXTERN_FUNCTION else str(index)
        yield f'  (export "{_escape(name)}" ({_KIND[kind]} {shown}))'
    if module.start is not None:
        yield f"  (start {_reference(module.function_names, module.start)})"
    for index, segment in enumerate(module.elements):
        yield f"  (elem (;{index};) {_elements(module, segment)})"
    for index, body in enumerate(module.bodies, function_index):
        params, results = module.types[body.type]
        names = module.local_names.get(index, {})
        name = _id(module.function_names.get(index, "")) or f" (;{index};)"
        yield f"  (func{name} (type {body.type})" + _signature(params, results, names)
        yield from _local_lines(body.locals, len(params), names, "    ")
        printer = _Body(module.types, module.function_names, names)
        found = instructions(module.data, body.start, body.end - 1)  # without the final end
        yield from printer.lines(found, "    ")
        yield "  )"
    for index, segment in enumerate(module.segments):
        place = "" if segment.at is None else f" (i32.const {segment.at})"
        assert isinstance(segment.content, bytes)
        yield f'  (data (;{index};){place} "{_escape(segment.content)}")'
    for name, size in module.other_sections:
        yield f'  (; custom section "{name}", {size} bytes ;)'
    yield ")"


class _Body:
    """Prints instructions of one function."""

    def __init__(
        self,
        types: Sequence[FunctionType],
        functions: Mapping[int, str],
        names: Mapping[int, str],
        inline_types: bool = False,
    ) -> None:
        self.types = types
        self.functions = functions
        self.names = names
        self.inline_types = inline_types
        self.depth = 0

    def lines(self, found: Iterator[Instruction], indent: str) -> Iterator[str]:
        """A line an instruction, indented by block."""
        for instruction in found:
            name = instruction.op.name
            inner = name in ("else", "end")
            pad = "  " * max(0, self.depth - inner)
            yield f"{indent}(;@{instruction.offset:04x};) {pad}{self.text(instruction)}"
            if name in ("block", "loop", "if"):
                self.depth += 1
            elif name == "end":
                self.depth -= 1

    def text(self, instruction: Instruction) -> str:
        """An instruction with its immediates."""
        op = instruction.op
        if op.name == "select_t":
            return f"select (result {_types(bytes(instruction.immediates[0]))})"  # type: ignore[call-overload]
        words = [op.name.replace("select_t", "select")]
        if op.name in ("memory.copy", "memory.fill", "table.copy") and not any(instruction.immediates):
            return op.name
        pairs = list(zip(op.immediates, instruction.immediates, strict=True))
        if op.name == "table.init":  # binary order is element segment, table; text order the reverse
            pairs.reverse()
        for kind, value in pairs:
            shown = self._immediate(op.align, kind, value)
            if shown:
                words.append(shown)
        if op.name in ("block", "loop", "if"):
            words.append(f"(;@{self.depth + 1};)")
        return " ".join(words)

    def _immediate(self, natural: int, kind: str, value: object) -> str:
        if isinstance(value, bytes):
            return _constant(kind, value)
        if kind == "blocktype":
            return self._block_type(value)
        if kind[0] == "m" and isinstance(value, tuple):
            align, offset = value
            words = [f"offset={offset}"] if offset else []
            words += [f"align={1 << align}"] if align != natural else []
            return " ".join(words)
        if kind == "labels" and isinstance(value, tuple):
            return " ".join(str(depth) for depth in value)
        assert isinstance(value, int)
        if kind == "label":
            target = self.depth - value
            return f"{value} (;{f'@{target}' if target else 'return'};)"
        if kind == "local":
            return _reference(self.names, value)
        if kind == "func":
            return _reference(self.functions, value)
        if kind == "type":
            return self._type_use(value)
        if kind == "reftype":
            return _HEAP_TYPE[value]
        if kind in ("memory", "zero") or (kind == "table" and value == 0):
            return "" if value == 0 else str(value)
        return str(value)

    def _block_type(self, value: object) -> str:
        if value is None:
            return ""
        if isinstance(value, tuple):
            return self._type_use(value[0])
        assert isinstance(value, int)
        return f"(result {TYPE_NAME[value]})"

    def _type_use(self, index: int) -> str:
        if self.inline_types:
            return _signature(*self.types[index], {}).strip()
        return f"(type {index})"


def _signature(params: bytes, results: bytes, names: Mapping[int, str]) -> str:
    if any(index in names for index in range(len(params))):
        text = "".join(f" (param{_id(names.get(i, ''))} {TYPE_NAME[ty]})" for i, ty in enumerate(params))
    else:
        text = f" (param {_types(params)})" if params else ""
    return text + (f" (result {_types(results)})" if results else "")


def _local_lines(types: bytes, first: int, names: Mapping[int, str], indent: str) -> Iterator[str]:
    for index, ty in enumerate(types, first):
        name = _id(names.get(index, "")) or f" (;{index};)"
        yield f"{indent}(local{name} {TYPE_NAME[ty]})"


def _import_text(module: Module, kind: int, description: object, index: int) -> str:
    if kind == encode.EXTERN_FUNCTION:
        return f"func{_id(module.function_names.get(index, ''))} (type {description})"
    if kind == encode.EXTERN_MEMORY:
        assert isinstance(description, Limits)
        return f"memory {_limits(description)}"
    assert isinstance(description, tuple)
    if kind == encode.EXTERN_TABLE:
        return f"table {_limits(description[1])} {TYPE_NAME[description[0]]}"
    ty = TYPE_NAME[description[0]]
    return f"global {f'(mut {ty})' if description[1] else ty}"


def _elements(module: Module, segment: Segment) -> str:
    assert isinstance(segment.content, list)
    functions = " ".join(_reference(module.function_names, index) for index in segment.content)
    return f"(i32.const {segment.at}) func {functions}".rstrip()


def _limits(limits: Limits) -> str:
    maximum = "" if limits.maximum is None else f" {limits.maximum}"
    return f"{limits.minimum}{maximum}{' shared' if limits.shared else ''}"


def _types(types: bytes) -> str:
    return " ".join(TYPE_NAME[ty] for ty in types)


def _id(name: str) -> str:
    """ " $name", or nothing."""
    if not name:
        return ""
    return f" ${name}" if _PLAIN_ID.fullmatch(name) else f' $"{_escape(name)}"'


def _reference(names: Mapping[int, str], index: int) -> str:
    return _id(names.get(index, "")).strip() or str(index)


def _escape(text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    return "".join(chr(c) if 32 <= c < 127 and c not in b'"\\' else f"\\{c:02x}" for c in data)


def _constant(kind: str, data: bytes) -> str:
    if kind == "lanes":
        return " ".join(map(str, data))
    if kind == "v128":
        bits = " ".join(f"{lane:#010x}" for lane in struct.unpack("<4I", data))
        floats = " ".join(_float("f32", data[at : at + 4]) for at in range(0, 16, 4))
        return f"i32x4 {bits} (;f32x4 {floats};)"
    return _float(kind, data)


def _float(kind: str, data: bytes) -> str:
    """A short decimal that reads back as these bytes; NaNs with their payload."""
    layout, fraction = ("<f", 23) if kind == "f32" else ("<d", 52)
    value: float = struct.unpack(layout, data)[0]
    if math.isnan(value):
        bits = int.from_bytes(data, "little")
        sign = "-" if data[-1] & 0x80 else ""
        return f"{sign}nan:{bits & (1 << fraction) - 1:#x}"
    if kind == "f64" or math.isinf(value):
        return repr(value)
    # 9 digits always tell two f32 apart; mostly 6 do.
    texts = (f"{value:.{digits}g}" for digits in range(6, 10))
    return next(text for text in texts if _as_f32(text) == data)


def _as_f32(text: str) -> bytes | None:
    try:
        return struct.pack("<f", float(text))
    except OverflowError:  # the largest f32, rounded up
        return None
