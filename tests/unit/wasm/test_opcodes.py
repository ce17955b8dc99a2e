"""The whole opcode table against wasmtime: its assembler must give the same bytes for the same mnemonic,
its validator must agree with the signature."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import wasmtime

from nnjit.codegen.wasm.builder import FunctionBuilder
from nnjit.codegen.wasm.decode import instructions, parse
from nnjit.codegen.wasm.listing import listing
from nnjit.codegen.wasm.module import ModuleBuilder
from nnjit.codegen.wasm.opcodes import FAMILIES, OPS, TYPE_NAME, Op, UnknownInstructionError

# As many as the specification's index of instructions has under these prefixes.
COUNTS = {"simd": 236, "relaxed": 20, "atomic": 67}


def emit(b: FunctionBuilder, op: Op) -> None:
    """`op` with some immediates, none of them zero where that would hide a mistake."""
    kinds = op.immediates
    if not kinds:
        b.op(op.name)
    elif op.name == "v128.const":
        b.v128_const(bytes(range(16)))
    elif op.name == "i8x16.shuffle":
        b.shuffle([31 - 2 * lane for lane in range(16)])
    elif op.name == "atomic.fence":
        b.fence()
    elif op.align >= 0 and len(kinds) == 2:
        b.load_lane(op.name, int(kinds[1][4:]) - 1, offset=300)
    elif op.align >= 0:
        b.load(op.name, offset=70000, align=0 if "atomic" in op.name else 1)
    elif kinds[0].startswith("lane"):
        b.lane(op.name, int(kinds[0][4:]) - 1)
    elif op.name in ("i32.const", "i64.const"):
        getattr(b, op.name.replace(".", "_"))(-129)
    elif op.name in ("f32.const", "f64.const"):
        getattr(b, op.name.replace(".", "_"))(-1.1)
    else:
        b.indexed(op.name, *[0] * len(kinds))


def module_of(op: Op) -> bytes:
    """A module with one function that does `op` on its parameters."""
    assert op.takes is not None and op.gives is not None
    m = ModuleBuilder()
    m.memory(1, 2, shared=True)
    m.table(4)
    types = [TYPE_NAME[t] for t in op.takes]
    b = FunctionBuilder(types, [TYPE_NAME[t] for t in op.gives])
    for index in range(len(types)):
        b.get(index)
    emit(b, op)
    m.add(b, export="f")
    m.elements(0, [b])
    if "data" in op.immediates:
        m.data(None, b"xy")
    return m.build()


@pytest.mark.parametrize("family", FAMILIES)
def test_same_bytes_as_wasmtime(family: str, validate: Callable[[bytes], None]) -> None:
    fixed = [op for op in FAMILIES[family] if op.takes is not None]
    assert fixed
    for op in fixed:
        data = module_of(op)
        text = listing(data)
        assert f") {op.name}" in text
        validate(data)
        assert wasmtime.wat2wasm(text) == data, op.name


def test_control_same_bytes_as_wasmtime(validate: Callable[[bytes], None]) -> None:
    """The instructions whose signature is the context's."""
    m = ModuleBuilder()
    m.table(4)
    counter = m.global_("i32", 5)
    callee = m.function(["i64", "f32"], ["f32", "i64"], "swap")
    callee.get(1)
    callee.get(0)
    b = m.function(["i32"], ["i32"], "all", export="all")
    spare = b.local("i32", "spare")
    with b.block(["i32"]) as out:
        with b.loop() as again:
            b.get(0)
            b.tee(spare)
            b.br_if(again)
            b.get(0)
            with b.if_(params=[], results=["i64", "f32"]):
                b.i64_const(1)
                b.f32_const(1)
                b.else_()
                b.unreachable()
            b.call(callee)
            b.i32_const(0)
            b.call_indirect(["f32", "i64"], ["i64"])
            b.drop()
        b.global_get(counter, "i32")
        b.global_set(counter, "i32")
        b.get(0)
        b.get(spare)
        b.get(0)
        b.select()
        b.set(spare)
        b.raw(OPS["ref.null"].code + b"\x70", b"", b"\x70")
        b.raw(OPS["ref.is_null"].code, b"\x70", b"\x7f")
        b.drop()
        b.get(0)
        b.get(0)
        b.get(0)
        b.raw(OPS["select_t"].code + b"\x01\x7f", b"\x7f\x7f\x7f", b"\x7f")
        b.get(0)
        b.br_table([out, out], out)
    b.return_()
    b.unreachable()
    with b.block() as gone:
        b.br(gone)
    data = m.build()
    validate(data)
    assert wasmtime.wat2wasm(listing(data)) == data
    module = parse(data)
    used = {i.op.name for body in module.bodies for i in instructions(data, body.start, body.end)}
    assert used >= {op.name for op in FAMILIES["control"] if op.takes is None}


def test_complete() -> None:
    assert {family: len(FAMILIES[family]) for family in COUNTS} == COUNTS
    assert len(OPS) == sum(map(len, FAMILIES.values())), "a mnemonic stands twice"
    assert len({op.code for op in OPS.values()}) == len(OPS), "a code stands twice"
    assert OPS["f32x4.relaxed_madd"].code == b"\xfd\x85\x02"


def test_unknown_mnemonic_offers_near_ones() -> None:
    with pytest.raises(UnknownInstructionError, match=r"f32x4\.fma.*near.*f32x4\.max"):
        OPS["f32x4.fma"]
