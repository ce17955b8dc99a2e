"""Builds one function: instructions by their specification's names in, the function's code bytes out.

Bytes are appended as instructions arrive; beside them runs a stack of operand types (a bytearray, one type byte
an operand), so that a wrong operand is reported where the emitter made it and not by a browser's validator.

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
from dataclasses import dataclass
from types import TracebackType
from typing import final

from ...errors import NnjitError
from .encode import (
    BR,
    BR_IF,
    EMPTY_BLOCK,
    END,
    LOCAL_GET,
    LOCAL_SET,
    LOCAL_TEE,
    lanes,
    local_groups,
    type_bytes,
)
from .leb import SLEB, ULEB
from .opcodes import OPS, TYPE_BYTE, TYPE_NAME, Op, ValType

I32, I64, F32, F64, V128 = (TYPE_BYTE[t] for t in ("i32", "i64", "f32", "f64", "v128"))


class WasmTypeError(NnjitError):
    """An instruction got operands it cannot take: a bug of the emitter that issued it."""

    code = "WASM_TYPE"


@dataclass(frozen=True, eq=False)
class ImportedFunction:
    """A function from outside: `ModuleBuilder.import_function` makes it, `FunctionBuilder.call` calls it."""

    name: str
    params: bytes
    results: bytes


@dataclass(frozen=True)
class TypeIndex:
    """The index of a function type in the module's type section; `block`: signed, as block types are."""

    params: bytes
    results: bytes
    block: bool = False


@final
class Label:
    """An open block, loop or if; branch to it with `b.br(label)`. Leaving its `with` ends it."""

    __slots__ = ("builder", "index", "kind", "outer_dead", "outer_stack", "params", "results")

    def __init__(self, builder: FunctionBuilder, kind: str, params: bytes, results: bytes) -> None:
        self.builder = builder
        self.kind = kind
        self.params = params
        self.results = results
        self.index = len(builder._labels)
        self.outer_stack = builder._stack
        self.outer_dead = builder._dead

    @property
    def carries(self) -> bytes:
        """Types a branch here takes along: a loop's parameters, any other block's results."""
        return self.params if self.kind == "loop" else self.results

    def __enter__(self) -> Label:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.builder.end(self)


class _Plain(dict[str, tuple[bytes, bytes, int, bytes]]):
    """Instructions without immediates, unpacked for `op`: code, takes, number taken, gives."""

    def __missing__(self, name: str) -> tuple[bytes, bytes, int, bytes]:
        op = OPS[name]
        if op.takes is None or op.gives is None or op.immediates:
            raise WasmTypeError(f"{name} has immediates or a signature of its own: use its method, or emit()")
        entry = self[name] = (op.code, op.takes, len(op.takes), op.gives)
        return entry


class _Access(dict[tuple[str, int], tuple[bytes, bytes, int, bytes]]):
    """Loads, stores and atomics: (mnemonic, alignment in bytes or 0) -> code with alignment, takes, number, gives."""

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


_PLAIN = _Plain()
_ACCESS = _Access()
_I32_CONST, _I64_CONST, _F32_CONST, _F64_CONST, _V128_CONST = (
    OPS[f"{t}.const"].code for t in ("i32", "i64", "f32", "f64", "v128")
)
_FIXED_ONE = {TYPE_BYTE[t]: bytes((TYPE_BYTE[t],)) for t in TYPE_BYTE}


class FunctionBuilder:
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
        self.name = name
        self.params = type_bytes(params)
        self.results = type_bytes(results)
        self.code = bytearray()
        # (position in code, what stands there): indices that only the module knows, spliced in by it.
        self.pending: list[tuple[int, Pending]] = []
        self.local_names: dict[int, str] = {}
        self._locals = bytearray(self.params)
        self._live = bytearray(self.params)  # as _locals, 0 where released
        self._free: dict[int, list[int]] = {}
        self._used_names: set[str] = set()
        self._stack = bytearray()
        self._dead = False  # after br, return, unreachable: operands below the stack have any type
        self._labels: list[Label] = []
        self._finished = False
        for index, text in enumerate(param_names):
            self._name_local(index, text)

    # -- locals

    def local(self, ty: ValType, name: str = "") -> int:
        """A local of type ty: a released one if there is, else a new one. Its content is undefined unless new."""
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
        """Access memory at (popped address) + offset. align: bytes, a hint that may only lower the natural one (0)."""
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
        if len(lane_bytes) != 16 or not all(0 <= lane < 32 for lane in lane_bytes):
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
        """Instructions encoded before (prologues, templates), with their net effect on the stack as type bytes."""
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
        self._pop("select", _FIXED_ONE[I32])
        ty = self._stack[-1] if self._stack else I32
        self._pop("select", bytes((ty, ty)))
        self._stack.append(ty)
        self.code += OPS["select"].code

    def memory_copy(self) -> None:
        """destination source bytes ->"""
        self._apply(OPS["memory.copy"])
        self.code += OPS["memory.copy"].code + b"\0\0"

    def memory_fill(self) -> None:
        """destination byte bytes ->"""
        self._apply(OPS["memory.fill"])
        self.code += OPS["memory.fill"].code + b"\0"

    def fence(self) -> None:
        """atomic.fence"""
        self.code += OPS["atomic.fence"].code + b"\0"

    # -- control

    def block(self, results: Sequence[ValType] = (), params: Sequence[ValType] = ()) -> Label:
        """`with b.block() as done:` - a branch to `done` goes past its end. Without `with`: call `b.end()`."""
        return self._open("block", params, results)

    def loop(self, results: Sequence[ValType] = (), params: Sequence[ValType] = ()) -> Label:
        """`with b.loop() as again:` - a branch to `again` goes back to its start."""
        return self._open("loop", params, results)

    def if_(self, results: Sequence[ValType] = (), params: Sequence[ValType] = ()) -> Label:
        """`with b.if_(): ...; b.else_(); ...` on the popped condition."""
        self._pop("if", _FIXED_ONE[I32])
        return self._open("if", params, results)

    def _open(self, kind: str, params: Sequence[ValType], results: Sequence[ValType]) -> Label:
        takes, gives = type_bytes(params), type_bytes(results)
        self._pop(kind, takes)
        label = Label(self, kind, takes, gives)
        self._labels.append(label)
        self._stack = bytearray(takes)
        self._dead = False
        self.code += OPS[kind].code
        if not takes and len(gives) < 2:
            self.code.append(gives[0] if gives else EMPTY_BLOCK)
        else:
            self.pending.append((len(self.code), TypeIndex(takes, gives, block=True)))
        return label

    def else_(self) -> None:
        """The other branch of the innermost `if_`."""
        if not self._labels or self._labels[-1].kind != "if":
            self._fail("else", "an open if", self._labels[-1].kind if self._labels else "none")
        label = self._labels[-1]
        self._close("else", label.results)
        label.kind = "else"
        self._stack = bytearray(label.params)
        self._dead = False
        self.code += OPS["else"].code

    def end(self, label: Label | None = None) -> None:
        """End the innermost block (which must be `label`, if given)."""
        if not self._labels or (label is not None and label is not self._labels[-1]):
            self._fail("end", "the innermost block", "another" if self._labels else "none open")
        label = self._labels[-1]
        if label.kind == "if" and label.params != label.results:
            self._fail("end", "an else, as the if has results", "none")
        self._close("end", label.results)
        self._labels.pop()
        self._stack = label.outer_stack
        self._dead = label.outer_dead
        self._stack += label.results
        self.code += END

    def _close(self, what: str, results: bytes) -> None:
        self._pop(what, results)
        if self._stack:
            self._fail(what, f"({_show(results)}) left on the stack", f"({_show(self._stack + results)})")

    def br(self, label: Label) -> None:
        """Branch to label."""
        self._pop("br", label.carries)
        self.code += BR[self._depth(label)]
        self._die()

    def br_if(self, label: Label) -> None:
        """Branch to label if the popped condition is not 0."""
        self._pop("br_if", _FIXED_ONE[I32])
        if label.carries:
            self._pop("br_if", label.carries)
            self._stack += label.carries
        self.code += BR_IF[self._depth(label)]

    def br_table(self, labels: Sequence[Label], default: Label) -> None:
        """Branch to labels[popped index], or to default if there is none."""
        self._pop("br_table", _FIXED_ONE[I32])
        for label in (*labels, default):
            if label.carries != default.carries:
                self._fail("br_table", f"labels of ({_show(default.carries)})", f"({_show(label.carries)})")
        self._pop("br_table", default.carries)
        depths = [ULEB[self._depth(label)] for label in (*labels, default)]
        self.code += OPS["br_table"].code + ULEB[len(labels)] + b"".join(depths)
        self._die()

    def return_(self) -> None:
        """Leave the function."""
        self._pop("return", self.results)
        self.code += OPS["return"].code
        self._die()

    def unreachable(self) -> None:
        """Trap."""
        self.code += OPS["unreachable"].code
        self._die()

    def call(self, callee: Callee) -> None:
        """Call a function of this module: a FunctionBuilder added to it, or an import's handle."""
        self._pop(f"call {callee.name}", callee.params)
        self._stack += callee.results
        self.code += OPS["call"].code
        self.pending.append((len(self.code), callee))

    def call_indirect(
        self, params: Sequence[ValType], results: Sequence[ValType] = (), table: int = 0
    ) -> None:
        """Call the table's element at the popped index."""
        takes, gives = type_bytes(params), type_bytes(results)
        self._pop("call_indirect", takes + _FIXED_ONE[I32])
        self._stack += gives
        self.code += OPS["call_indirect"].code
        self.pending.append((len(self.code), TypeIndex(takes, gives)))
        self.code += ULEB[table]

    def _depth(self, label: Label) -> int:
        labels = self._labels
        if label.index >= len(labels) or labels[label.index] is not label:
            self._fail("br", "an open label", f"a {label.kind} that has ended")
        return len(labels) - 1 - label.index

    def _die(self) -> None:
        self._stack.clear()
        self._dead = True

    # -- operand types

    def _apply(self, op: Op) -> None:
        assert op.takes is not None and op.gives is not None
        self._pop(op.name, op.takes)
        self._stack += op.gives

    def _pop(self, name: str, takes: bytes) -> None:
        if not self._stack.endswith(takes):
            self._operands(name, takes)
        if takes:
            del self._stack[-len(takes) :]

    def _operands(self, name: str, takes: bytes) -> None:
        """The stack does not end with `takes`: report it, or pad the stack if code here is unreachable."""
        stack = self._stack
        for back in range(1, len(takes) + 1):
            if back > len(stack):
                if self._dead:
                    break
                self._mismatch(name, takes, len(takes) - back, "nothing")
            if stack[-back] != takes[-back]:
                self._mismatch(name, takes, len(takes) - back, _show(stack[-back:][:1]))
        stack[:] = takes

    def _mismatch(self, name: str, takes: bytes, operand: int, got: str) -> None:
        which = f"{name} operand {operand + 1} of {len(takes)}"
        self._fail(which, _show(takes[operand : operand + 1]), got)

    def _fail(self, what: str, expected: str, got: str) -> None:
        raise WasmTypeError(
            f"{self.name or 'function'} at byte {len(self.code):#x}: {what}: expected {expected}, got {got};"
            f" stack ({_show(self._stack)})"
        )

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


Callee = FunctionBuilder | ImportedFunction
Pending = FunctionBuilder | ImportedFunction | TypeIndex


def _wrap(value: int, bits: int) -> int:
    """value as a signed number of that many bits; unsigned ones wrap."""
    if not -(1 << bits - 1) <= value < 1 << bits:
        raise WasmTypeError(f"{value} does not fit i{bits}.const")
    return value - (1 << bits) if value >= 1 << bits - 1 else value


def _show(types: bytes | bytearray) -> str:
    return " ".join(TYPE_NAME.get(t, "released local") for t in types)
