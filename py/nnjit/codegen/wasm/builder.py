"""Builds one function: instructions by their specification's names in, the function's code bytes out.

Bytes are appended as instructions arrive; beside them runs a stack of operand types (control.py), so that a
wrong operand is reported where the emitter made it and not by a browser's validator.

    b = FunctionBuilder(["i32", "i32", "i32"], [], "double")
    args, begin, end = 0, 1, 2
    at = b.local("i32", "at")
    b.get(args), b.load("i32.load"), b.set(at)
    with b.loop() as again:
        b.get(at), b.get(at), b.load("v128.load"), b.op("f32x4.splat") ...
        b.get(begin), b.get(end), b.op("i32.lt_s"), b.br_if(again)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from .control import (
    CONDITION,
    F32,
    F64,
    I32,
    I64,
    V128,
    Callee,
    ControlBuilder,
    Label,
    TypeIndex,
    WasmTypeError,
)
from .encode import END, LOCAL_GET, LOCAL_SET, LOCAL_TEE, lanes, local_groups, type_bytes
from .leb import SLEB, ULEB
from .opcodes import OPS, TYPE_BYTE, TYPE_NAME, Op, ValType

__all__ = ["Callee", "FunctionBuilder", "ImportedFunction", "Label", "TypeIndex", "WasmTypeError"]


class ImportedFunction(Callee):
    """A function from outside: `ModuleBuilder.import_function` makes it, `FunctionBuilder.call` calls it."""

    def __init__(self, name: str, params: Sequence[ValType], results: Sequence[ValType]) -> None:
        self.name = name
        self.params = type_bytes(params)
        self.results = type_bytes(results)


class _Plain(dict[str, tuple[bytes, bytes, int, bytes]]):
    """Instructions without immediates, unpacked for `op`: code, takes, number taken, gives."""

    def __missing__(self, name: str) -> tuple[bytes, bytes, int, bytes]:
        op = OPS[name]
        if op.takes is None or op.gives is None or op.immediates:
            raise WasmTypeError(f"{name} has immediates or a signature of its own: use its own method")
        entry = self[name] = (op.code, op.takes, len(op.takes), op.gives)
        return entry


class _Access(dict[tuple[str, int], tuple[bytes, bytes, int, bytes]]):
    """Loads, stores, atomics: (mnemonic, alignment or 0) -> code with alignment, takes, number, gives."""

    def __missing__(self, key: tuple[str, int]) -> tuple[bytes, bytes, int, bytes]:
        name, align = key
        op = OPS[name]
        if op.align < 0 or op.takes is None or op.gives is None:
            raise WasmTypeError(f"{name} does not access memory")
        log2 = align.bit_length() - 1 if align else op.align
        if log2 > op.align or align not in (0, 1 << log2) or (".atomic." in name and log2 != op.align):
            raise WasmTypeError(f"{name}: alignment {align}, natural is {1 << op.align}")
        entry = self[key] = (op.code + ULEB[log2], op.takes, len(op.takes), op.gives)
        return entry


_INDEX_KINDS = {"data", "elem", "memory", "table", "func"}
_PLAIN = _Plain()
_ACCESS = _Access()
_I32_CONST, _I64_CONST, _F32_CONST, _F64_CONST, _V128_CONST = (
    OPS[f"{t}.const"].code for t in ("i32", "i64", "f32", "f64", "v128")
)


class FunctionBuilder(ControlBuilder):
    """A function under construction. Also the handle by which others call it or put it into a table.

    params, results: value types by name. name: for errors, listings and the name section.
    param_names: shown by listings.
    """

    def __init__(
        self,
        params: Sequence[ValType],
        results: Sequence[ValType] = (),
        name: str = "",
        param_names: Sequence[str] = (),
    ) -> None:
        super().__init__(params, results, name)
        self.local_names: dict[int, str] = {}
        self._locals = bytearray(self.params)
        self._live = bytearray(self.params)  # as _locals, 0 where released
        self._free: dict[int, list[int]] = {}
        self._used_names: set[str] = set()
        self._finished = False
        for index, text in enumerate(param_names):
            self._name_local(index, text)

    # -- locals

    def local(self, ty: ValType, name: str = "") -> int:
        """A local of type ty: a released one if there is, else a new one. A reused one is not 0."""
        byte = TYPE_BYTE[ty]
        free = self._free.get(byte)
        if free:
            index = free.pop()
            self._live[index] = byte
        else:
            index = len(self._locals)
            self._locals.append(byte)
            self._live.append(byte)
        if name and index not in self.local_names:
            self._name_local(index, name)
        return index

    def release(self, *indices: int) -> None:
        """Give locals back for reuse; reading one before it is handed out again is an error."""
        for index in indices:
            if index < len(self.params) or not self._live[index]:
                raise WasmTypeError(f"{self.name}: local {index} is a parameter or already released")
            self._free.setdefault(self._live[index], []).append(index)
            self._live[index] = 0

    def local_type(self, index: int) -> ValType:
        """Type of a local or parameter."""
        return TYPE_NAME[self._locals[index]]

    def _name_local(self, index: int, name: str) -> None:
        unique, nth = name, 1
        while unique in self._used_names:
            nth += 1
            unique = f"{name}.{nth}"
        self._used_names.add(unique)
        self.local_names[index] = unique

    def get(self, index: int) -> None:
        """local.get"""
        self.code += LOCAL_GET[index]
        self._stack.append(self._live[index])

    def set(self, index: int) -> None:
        """local.set"""
        stack, ty = self._stack, self._live[index]
        if not stack or stack[-1] != ty:
            self._operands("local.set", bytes((ty,)))
        del stack[-1]
        self.code += LOCAL_SET[index]

    def tee(self, index: int) -> None:
        """local.tee"""
        stack, ty = self._stack, self._live[index]
        if not stack or stack[-1] != ty:
            self._operands("local.tee", bytes((ty,)))
        self.code += LOCAL_TEE[index]

    # -- plain instructions, constants, memory

    def op(self, name: str) -> None:
        """An instruction without immediates: `b.op("f32x4.add")`."""
        code, takes, count, gives = _PLAIN[name]
        stack = self._stack
        if not stack.endswith(takes):
            self._operands(name, takes)
        if count:
            stack[-count:] = gives
        else:
            stack += gives
        self.code += code

    def load(self, name: str, offset: int = 0, align: int = 0) -> None:
        """Access memory at (popped address) + offset. align: a hint in bytes, at most the natural one (0)."""
        code, takes, count, gives = _ACCESS[name, align]
        stack = self._stack
        if not stack.endswith(takes):
            self._operands(name, takes)
        stack[-count:] = gives
        code_out = self.code
        code_out += code
        code_out += ULEB[offset]

    # Stores and atomics ("i32.atomic.rmw.add", "memory.atomic.wait32") are encoded alike.
    store = load
    atomic = load

    def lane(self, name: str, lane: int) -> None:
        """Extract or replace a lane: `b.lane("f32x4.extract_lane", 3)`."""
        op = OPS[name]
        self._apply(op)
        self.code += op.code
        self._lane(op, lane)

    def load_lane(self, name: str, lane: int, offset: int = 0, align: int = 0) -> None:
        """v128.loadN_lane / v128.storeN_lane."""
        self.load(name, offset, align)
        self._lane(OPS[name], lane)

    store_lane = load_lane

    def _lane(self, op: Op, lane: int) -> None:
        kind = op.immediates[-1] if op.immediates else ""
        if not kind.startswith("lane") or not 0 <= lane < int(kind[4:] or 0):
            raise WasmTypeError(f"{self.name}: {op.name} has no lane {lane}")
        self.code.append(lane)

    def shuffle(self, lane_bytes: Sequence[int]) -> None:
        """i8x16.shuffle: byte i of the result is byte lane_bytes[i] of the two operands' 32."""
        if len(lane_bytes) != 16 or min(lane_bytes) < 0 or max(lane_bytes) >= 32:
            raise WasmTypeError(
                f"{self.name}: i8x16.shuffle needs 16 numbers below 32, got {list(lane_bytes)}"
            )
        op = OPS["i8x16.shuffle"]
        self._apply(op)
        self.code += op.code
        self.code += bytes(lane_bytes)

    def i32_const(self, value: int) -> None:
        """A 32-bit constant, signed or unsigned."""
        if not -(1 << 31) <= value < 1 << 31:
            value = _wrap(value, 32)
        self.code += _I32_CONST
        self.code += SLEB[value]
        self._stack.append(I32)

    def i64_const(self, value: int) -> None:
        """A 64-bit constant, signed or unsigned."""
        self.code += _I64_CONST
        self.code += SLEB[_wrap(value, 64)]
        self._stack.append(I64)

    def f32_const(self, value: float) -> None:
        """value rounded to f32."""
        self.code += _F32_CONST
        self.code += struct.pack("<f", value)
        self._stack.append(F32)

    def f64_const(self, value: float) -> None:
        """An f64."""
        self.code += _F64_CONST
        self.code += struct.pack("<d", value)
        self._stack.append(F64)

    def v128_const(self, data: bytes) -> None:
        """16 bytes, lowest lane first."""
        if len(data) != 16:
            raise WasmTypeError(f"{self.name}: v128.const of {len(data)} bytes")
        self.code += _V128_CONST
        self.code += data
        self._stack.append(V128)

    def vec_const(self, shape: str, *values: float) -> None:
        """v128.const by lanes; one value fills all: `b.vec_const("f32x4", 1.0)`."""
        self.v128_const(lanes(shape, values))

    def raw(self, code: bytes, takes: bytes, gives: bytes) -> None:
        """Instructions encoded before (templates), with their effect on the stack as type bytes."""
        if not self._stack.endswith(takes):
            self._operands("raw", takes)
        if takes:
            del self._stack[-len(takes) :]
        self._stack += gives
        self.code += code

    def drop(self) -> None:
        """Forget the operand on top."""
        if not self._stack and not self._dead:
            self._fail("drop", "an operand", "an empty stack")
        if self._stack:
            del self._stack[-1]
        self.code += OPS["drop"].code

    def select(self) -> None:
        """a b condition -> a if condition else b."""
        self._pop("select", CONDITION)
        ty = self._stack[-1] if self._stack else I32
        self._pop("select", bytes((ty, ty)))
        self._stack.append(ty)
        self.code += OPS["select"].code

    def memory_copy(self) -> None:
        """destination source bytes ->"""
        self.indexed("memory.copy", 0, 0)

    def memory_fill(self) -> None:
        """destination byte bytes ->"""
        self.indexed("memory.fill", 0)

    def indexed(self, name: str, *indices: int) -> None:
        """An instruction with indices, in binary order: `b.indexed("memory.init", segment, 0)`."""
        op = OPS[name]
        if (
            len(indices) != len(op.immediates)
            or not _INDEX_KINDS.issuperset(op.immediates)
            or op.takes is None
        ):
            raise WasmTypeError(
                f"{self.name}: {name} takes {op.immediates or 'no immediates'}, got {indices}"
            )
        self._apply(op)
        self.code += op.code + b"".join([ULEB[index] for index in indices])

    def global_get(self, index: int, ty: ValType) -> None:
        """global.get of a global of type ty."""
        self.code += OPS["global.get"].code + ULEB[index]
        self._stack.append(TYPE_BYTE[ty])

    def global_set(self, index: int, ty: ValType) -> None:
        """global.set of a global of type ty."""
        self._pop("global.set", bytes((TYPE_BYTE[ty],)))
        self.code += OPS["global.set"].code + ULEB[index]

    def fence(self) -> None:
        """atomic.fence"""
        self.code += OPS["atomic.fence"].code + b"\0"

    # -- result

    def finish(self) -> None:
        """Check that the results are on the stack and append the final `end`; `ModuleBuilder` calls it."""
        if self._finished:
            return
        if self._labels:
            self._fail("end of function", "all blocks ended", f"{len(self._labels)} open")
        self._close("end of function", self.results)
        self.code += END
        self._finished = True

    def resolved(self, function: Callable[[Callee], int], type_: Callable[[TypeIndex], int]) -> bytearray:
        """The code with the indices that were left open filled in."""
        if not self.pending:
            return self.code
        out, at = bytearray(), 0
        for position, what in self.pending:
            out += self.code[at:position]
            if isinstance(what, TypeIndex):
                number = type_(what)
                out += SLEB[number] if what.block else ULEB[number]
            else:
                out += ULEB[function(what)]
            at = position
        return out + self.code[at:]

    @property
    def locals(self) -> bytes:
        """Type bytes of the locals after the parameters."""
        return bytes(self._locals[len(self.params) :])

    def declarations(self) -> bytes:
        """The encoded local declarations that stand before the code."""
        return local_groups(self.locals)


def _wrap(value: int, bits: int) -> int:
    """value as a signed number of that many bits; unsigned ones wrap."""
    if not -(1 << bits - 1) <= value < 1 << bits:
        raise WasmTypeError(f"{value} does not fit i{bits}.const")
    return value - (1 << bits) if value >= 1 << bits - 1 else value
