"""Random well-typed functions: wasmtime validates them, the disassembler reads back what was built, and the
listing assembles to the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from nnjit.codegen.wasm.builder import FunctionBuilder, Label
from nnjit.codegen.wasm.decode import instructions, parse
from nnjit.codegen.wasm.listing import listing
from nnjit.codegen.wasm.module import ModuleBuilder
from nnjit.codegen.wasm.opcodes import OPS, TYPE_NAME, Op, ValType

TYPES: list[ValType] = ["i32", "i64", "f32", "f64", "v128"]
PLAIN = [op for op in OPS.values() if op.takes is not None and not op.immediates]
ACCESS = [op for op in OPS.values() if op.align >= 0 and len(op.immediates) == 1]
LANES = [op for op in OPS.values() if op.name.endswith(("_lane", "_lane_s", "_lane_u")) and op.align < 0]


class Writer:
    """Writes a function by drawn choices. Keeps its own list of them, and its own operand stack."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.b = FunctionBuilder(["i32", "i64", "f32", "f64", "v128"], [], "random")
        self.locals: dict[ValType, list[int]] = {ty: [n] for n, ty in enumerate(TYPES)}
        for ty in draw(st.lists(st.sampled_from(TYPES), max_size=4)):
            self.locals[ty].append(self.b.local(ty))
        self.stack: list[ValType] = []
        self.written: list[tuple[str, tuple[object, ...]]] = []

    def note(self, name: str, *immediates: object) -> None:
        self.written.append((name, immediates))

    def push(self, ty: ValType) -> None:
        """A constant or a local."""
        name = f"{ty}.const"
        if self.draw(st.booleans()):
            index = self.draw(st.sampled_from(self.locals[ty]))
            self.b.get(index)
            self.note("local.get", index)
        elif ty in ("i32", "i64"):
            half = 1 << int(ty[1:]) - 1
            value = self.draw(st.integers(-half, half - 1))
            (self.b.i32_const if ty == "i32" else self.b.i64_const)(value)
            self.note(name, value)
        elif ty == "v128":
            data = self.draw(st.binary(min_size=16, max_size=16))
            self.b.v128_const(data)
            self.note(name, data)
        else:
            data = self.draw(
                st.binary(min_size=4, max_size=4) if ty == "f32" else st.binary(min_size=8, max_size=8)
            )
            self.b.raw(OPS[name].code + data, b"", b"\x7d" if ty == "f32" else b"\x7c")
            self.note(name, data)
        self.stack.append(ty)

    def operands(self, op: Op) -> None:
        """Use what is on the stack if it fits, else push what is needed."""
        assert op.takes is not None and op.gives is not None
        takes = [TYPE_NAME[t] for t in op.takes]
        if self.stack[len(self.stack) - len(takes) :] != takes:
            for ty in takes:
                self.push(ty)
        del self.stack[len(self.stack) - len(takes) :]
        self.stack += [TYPE_NAME[t] for t in op.gives]

    def step(self, depth: int) -> None:
        kind = self.draw(st.sampled_from(["plain", "plain", "access", "lane", "local", "block"]))
        if kind == "plain":
            op = self.draw(st.sampled_from(PLAIN))
            self.operands(op)
            self.b.op(op.name)
            self.note(op.name)
        elif kind == "access":
            op = self.draw(st.sampled_from(ACCESS))
            self.operands(op)
            align = op.align if ".atomic." in op.name else self.draw(st.integers(0, op.align))
            offset = self.draw(st.integers(0, 2**32 - 1))
            self.b.load(op.name, offset, 1 << align)
            self.note(op.name, (align, offset))
        elif kind == "lane":
            op = self.draw(st.sampled_from(LANES))
            self.operands(op)
            lane = self.draw(st.integers(0, int(op.immediates[0][4:]) - 1))
            self.b.lane(op.name, lane)
            self.note(op.name, lane)
        elif kind == "local" and self.stack:
            index = self.draw(st.sampled_from(self.locals[self.stack[-1]]))
            tee = self.draw(st.booleans())
            (self.b.tee if tee else self.b.set)(index)
            self.note("local.tee" if tee else "local.set", index)
            if not tee:
                self.stack.pop()
        elif kind == "block" and depth < 4:
            self.block(depth)

    def block(self, depth: int) -> None:
        kind = self.draw(st.sampled_from(["block", "loop", "if"]))
        results = self.draw(st.lists(st.sampled_from(TYPES), max_size=1))
        immediate = OPS[f"{results[0]}.const"].gives[0] if results else None  # type: ignore[index]
        if kind == "if":
            self.push("i32")
            self.stack.pop()
        opened = {"block": self.b.block, "loop": self.b.loop, "if": self.b.if_}[kind](results)
        self.note(kind, immediate)
        outer, self.stack = self.stack, []
        self.inside(opened, results, depth + 1)
        if kind == "if":
            self.b.else_()
            self.note("else")
            self.inside(opened, results, depth + 1)
        self.b.end(opened)
        self.note("end")
        self.stack = outer + results

    def inside(self, opened: Label, results: list[ValType], depth: int) -> None:
        for _ in range(self.draw(st.integers(0, 3))):
            self.step(depth)
        if self.draw(st.booleans()):
            self.clear()
            for ty in [] if opened.kind == "loop" else results:
                self.push(ty)
            self.push("i32")
            self.stack.pop()
            self.b.br_if(opened)
            self.note("br_if", 0)
        self.clear()
        for ty in results:
            self.push(ty)
        self.stack = []

    def clear(self) -> None:
        while self.stack:
            self.stack.pop()
            self.b.drop()
            self.note("drop")


@st.composite
def functions(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Writer:
    writer = Writer(draw)
    for _ in range(draw(st.integers(1, 12))):
        writer.step(0)
    writer.clear()
    return writer


@settings(max_examples=120, deadline=None)
@given(functions())
def test_random_function(validate: Callable[[bytes], None], writer: Writer) -> None:
    m = ModuleBuilder("random")
    m.memory(1, 2, shared=True)
    m.add(writer.b, export="random")
    data = m.build()
    validate(data)
    (body,) = parse(data).bodies
    read = [(i.op.name, i.immediates) for i in instructions(data, body.start, body.end)]
    assert read == [*writer.written, ("end", ())]
    assert wasmtime.wat2wasm(listing(data)) == data
