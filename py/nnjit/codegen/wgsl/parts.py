"""Operands larger than a binding: bound in parts, one after another, and read and written by what part an index is in.

`parts_of(nbytes, target)` says where parts begin; `in_parts(text, ...)` rewrites a shader's text:

    x = in1[i];  ->  x = in1_at(i);     out2[i] = x;  ->  if (i < 8) { out2_0[i] = x; } else { out2_1[(i) - 8] = x; }
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nnjit.codegen.expr import UnsupportedExpr
from nnjit.codegen.wgsl.target import WgslTarget

ARRAY_BYTES = {
    "f32": 4,
    "i32": 4,
    "u32": 4,
    "f16": 2,
    "vec2i": 8,
    "vec4f": 16,
    "vec4i": 16,
    "vec4u": 16,
    "vec4h": 8,
}
"""Bytes of an element of a storage array."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes start .. start + nbytes of an operand's buffer, in a binding of their own."""

    operand: int
    start: int
    nbytes: int


def part_bytes(target: WgslTarget) -> int:
    """Bytes of every part but the last: parts begin where bindings may."""
    step = max(target.offset_alignment, 16)
    return target.max_binding_bytes // step * step


def parts_of(operand: int, nbytes: int, target: WgslTarget) -> list[Part]:
    """The parts of a buffer after the first; none where it can be bound whole. UnsupportedExpr where they would be too
    many."""
    each = part_bytes(target)
    if nbytes <= target.max_binding_bytes:
        return []
    if nbytes > target.max_bindings * each:
        raise UnsupportedExpr(f"a buffer of {nbytes} bytes, the device binds {target.max_binding_bytes}")
    return [Part(operand, at, min(each, nbytes - at)) for at in range(each, nbytes, each)]


def in_parts(text: str, name: str, element: str, each: int, count: int) -> tuple[str, str]:
    """The text with every access to `name` by parts of `each` elements, and the function that reads them."""
    if f"&{name}" in text:
        raise UnsupportedExpr(f"matrices of {name}, which is larger than a binding")
    lines = [_line(line, name, each, count) for line in text.split("\n")]
    body = "".join(
        f"  if (i < {each * (n + 1)}) {{ return {name}_{n}[i - {each * n}]; }}\n" for n in range(count - 1)
    )
    last = f"  return {name}_{count - 1}[i - {each * (count - 1)}];\n"
    return "\n".join(lines), f"fn {name}_at(i: i32) -> {element} {{\n{body}{last}}}\n"


def _line(line: str, name: str, each: int, count: int) -> str:
    stored = re.match(rf"(\s*){name}\[", line)
    if stored is None:
        return _reads(line, name)
    pad, end = stored.group(1), _closing(line, stored.end() - 1)
    at, rest = _reads(line[stored.end() : end], name), _reads(line[end + 1 :], name)
    ways = [f"{{ {name}_{n}[({at}) - {each * n}]{rest} }}" for n in range(count)]
    tests = [f"if (({at}) < {each * (n + 1)}) {ways[n]} else " for n in range(count - 1)]
    return pad + "".join(tests) + ways[-1]


def _reads(text: str, name: str) -> str:
    """Each `name[index]` as a call."""
    out, at = "", 0
    for found in re.finditer(rf"\b{name}\[", text):
        if found.start() < at:
            continue  # inside an index that is done already
        end = _closing(text, found.end() - 1)
        out += text[at : found.start()] + f"{name}_at(i32({_reads(text[found.end() : end], name)}))"
        at = end + 1
    return out + text[at:]


def _closing(text: str, at: int) -> int:
    """Where the bracket that opens at `at` is closed."""
    depth = 0
    for i in range(at, len(text)):
        depth += {"[": 1, "]": -1}.get(text[i], 0)
        if depth == 0:
            return i
    raise AssertionError(f"no closing bracket in {text!r}")
