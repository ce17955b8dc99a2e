"""Code bytes, the stack of operand types beside them, structured control: the lower half of FunctionBuilder.

The stack is a bytearray, one type byte an operand; a block gets a stack of its own, so that it cannot reach
below its start. Labels are objects: the builder turns them into relative depths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import final

from ...errors import NnjitError
from .encode import BR, BR_IF, EMPTY_BLOCK, END, type_bytes
from .leb import ULEB
from .opcodes import OPS, TYPE_BYTE, TYPE_NAME, Op, ValType

I32, I64, F32, F64, V128 = (TYPE_BYTE[t] for t in ("i32", "i64", "f32", "f64", "v128"))
CONDITION = bytes((I32,))


class WasmTypeError(NnjitError):
    """An instruction got operands it cannot take: a bug of the emitter that issued it."""

    code = "WASM_TYPE"


class Callee:
    """What `call` can name: a FunctionBuilder or an ImportedFunction. Types as type bytes."""

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

    def __init__(self, builder: ControlBuilder, kind: str, params: bytes, results: bytes) -> None:
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


class ControlBuilder(Callee):
    """The code of a function under construction."""

    def __init__(self, params: Sequence[ValType], results: Sequence[ValType], name: str) -> None:
        self.name = name
        self.params = type_bytes(params)
        self.results = type_bytes(results)
        self.code = bytearray()
        # (position in code, what stands there): indices that only the module knows, spliced in by it.
        self.pending: list[tuple[int, Callee | TypeIndex]] = []
        self._stack = bytearray()
        self._dead = False  # after br, return, unreachable: operands below the stack have any type
        self._labels: list[Label] = []

    def block(self, results: Sequence[ValType] = (), params: Sequence[ValType] = ()) -> Label:
        """`with b.block() as done:` - a branch to `done` leaves it. Without `with`: call `b.end()`."""
        return self._open("block", params, results)

    def loop(self, results: Sequence[ValType] = (), params: Sequence[ValType] = ()) -> Label:
        """`with b.loop() as again:` - a branch to `again` goes back to its start."""
        return self._open("loop", params, results)

    def if_(self, results: Sequence[ValType] = (), params: Sequence[ValType] = ()) -> Label:
        """`with b.if_(): ...; b.else_(); ...` on the popped condition."""
        self._pop("if", CONDITION)
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
        self._pop("br_if", CONDITION)
        if label.carries:
            self._pop("br_if", label.carries)
            self._stack += label.carries
        self.code += BR_IF[self._depth(label)]

    def br_table(self, labels: Sequence[Label], default: Label) -> None:
        """Branch to labels[popped index], or to default if there is none."""
        self._pop("br_table", CONDITION)
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
        self._pop("call_indirect", takes + CONDITION)
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


def _show(types: bytes | bytearray) -> str:
    return " ".join(TYPE_NAME.get(t, "released local") for t in types)
