"""FunctionBuilder: what it refuses, and that what it accepts computes the right thing."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from nnjit.codegen.wasm.builder import FunctionBuilder, WasmTypeError
from nnjit.codegen.wasm.module import ModuleBuilder
from nnjit.codegen.wasm.opcodes import OPS, TYPE_NAME, ValType

FIXED = [op for op in OPS.values() if op.takes and not op.immediates]
Run = Callable[..., tuple[Any, Any]]


def function(*results: ValType) -> FunctionBuilder:
    return FunctionBuilder(["i32", "f32", "v128"], results, "f")


def test_every_wrong_operand_is_named() -> None:
    for op in FIXED:
        assert op.takes is not None
        for wrong, expected in enumerate(op.takes):
            b = FunctionBuilder(["i32", "f32", "i64", "f64", "v128"], [], "kernel")
            param = {b.local_type(i): i for i in range(5)}
            types = [TYPE_NAME[t] for t in op.takes]
            types[wrong] = "f32" if types[wrong] == "i32" else "i32"
            for ty in types:
                b.get(param[ty])
            with pytest.raises(WasmTypeError) as error:
                b.op(op.name)
            message = str(error.value)
            assert message.startswith("kernel at byte 0x")
            assert f"{op.name} operand {wrong + 1} of {len(types)}" in message
            assert f"expected {TYPE_NAME[expected]}, got {types[wrong]}" in message


def test_missing_operand() -> None:
    b = function()
    b.get(2)
    with pytest.raises(WasmTypeError, match=r"f32x4\.add operand 1 of 2: expected v128, got nothing"):
        b.op("f32x4.add")


def test_block_cannot_reach_below_its_start() -> None:
    b = function()
    b.get(0)
    b.get(0)
    with b.block(), pytest.raises(WasmTypeError, match=r"i32\.add operand 2 of 2: expected i32, got nothing"):
        b.op("i32.add")


def test_set_checks_the_local_type() -> None:
    b = function()
    b.get(1)
    with pytest.raises(WasmTypeError, match=r"local\.set.*expected i32, got f32"):
        b.set(0)
    with pytest.raises(WasmTypeError, match=r"local\.tee.*expected v128, got f32"):
        b.tee(2)


def test_results_and_leftovers() -> None:
    b = function("f32")
    with pytest.raises(WasmTypeError, match="end of function operand 1 of 1: expected f32, got nothing"):
        b.finish()
    b = function()
    b.get(0)
    with pytest.raises(WasmTypeError, match=r"end of function.*left on the stack.*stack"):
        b.finish()
    b = function()
    b.block()
    with pytest.raises(WasmTypeError, match="all blocks ended, got 1 open"):
        b.finish()


def test_labels() -> None:
    b = function()
    with b.block() as outer:
        pass
    with pytest.raises(WasmTypeError, match="a block that has ended"):
        b.br(outer)
    with b.block() as outer, b.loop(), pytest.raises(WasmTypeError, match="innermost"):
        b.end(outer)
    with pytest.raises(WasmTypeError, match=r"end: .*none open"):
        b.end()
    with b.block(), pytest.raises(WasmTypeError, match="else: expected an open if, got block"):
        b.else_()
    b.get(0)
    b.if_(["i32"])
    b.get(0)
    with pytest.raises(WasmTypeError, match="an else"):
        b.end()


def test_branch_carries_the_block_results() -> None:
    b = function()
    with b.block(["i32"]) as out:
        b.get(1)
        with pytest.raises(WasmTypeError, match="br operand 1 of 1: expected i32, got f32"):
            b.br(out)
        b.drop()
        b.get(0)
    b.drop()
    with b.loop(params=[], results=["i32"]) as again:
        b.get(0)
        b.br_if(again)  # to the start: carries the parameters, of which there are none
        b.get(0)
    b.drop()
    b.finish()


def test_unreachable_code_is_polymorphic(validate: Callable[[bytes], None]) -> None:
    m = ModuleBuilder()
    b = m.function(["i32"], ["f32"], "f")
    with b.block() as out:
        b.br(out)
        b.op("f32x4.add")  # operands of any type, below an empty stack
        b.lane("f32x4.extract_lane", 0)
        with pytest.raises(WasmTypeError, match="expected i32, got f32"):
            b.op("i32.add")  # but what is there must fit
        b.drop()
    b.f32_const(1)
    b.return_()
    validate(m.build())


def test_locals_are_reused() -> None:
    b = function()
    first, second = b.local("v128", "acc"), b.local("v128")
    assert (first, second) == (3, 4)
    b.release(first)
    assert b.local("i32") == 5
    assert b.local("v128", "other") == first
    assert [TYPE_NAME[t] for t in b.locals] == ["v128", "v128", "i32"]
    assert b.local_names == {first: "acc"}


def test_released_locals_are_not_read() -> None:
    b = function()
    acc = b.local("v128")
    b.release(acc)
    with pytest.raises(WasmTypeError, match="already released"):
        b.release(acc)
    with pytest.raises(WasmTypeError, match="parameter"):
        b.release(0)
    b.get(acc)
    with pytest.raises(WasmTypeError, match=r"f32x4\.neg.*got released local"):
        b.op("f32x4.neg")
    b = function()
    b.get(2)
    b.release(acc := b.local("v128"))
    with pytest.raises(WasmTypeError, match=r"local\.set"):
        b.set(acc)


def test_local_names_are_made_unique() -> None:
    b = FunctionBuilder(["i32"], [], "f", ["at"])
    b.local("i32", "at")
    b.local("i32", "at")
    assert b.local_names == {0: "at", 1: "at.2", 2: "at.3"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda b: b.lane("f32x4.extract_lane", 4), "no lane 4"),
        (lambda b: b.lane("f32x4.add", 0), "no lane"),
        (lambda b: b.shuffle([0] * 15), "16 numbers"),
        (lambda b: b.shuffle([32] * 16), "below 32"),
        (lambda b: b.v128_const(b"123"), "3 bytes"),
        (lambda b: b.i32_const(1 << 32), "does not fit"),
        (lambda b: b.i64_const(-(1 << 63) - 1), "does not fit"),
        (lambda b: b.load("v128.load", align=32), "natural is 16"),
        (lambda b: b.load("v128.load", align=3), "alignment 3"),
        (lambda b: b.load("i32.atomic.load", align=2), "alignment 2"),
        (lambda b: b.load("f32x4.add"), "does not access memory"),
        (lambda b: b.op("i32.const"), "its own method"),
        (lambda b: b.op("br"), "its own method"),
        (lambda b: b.indexed("data.drop"), "takes"),
    ],
)
def test_bad_immediates(wrong: Callable[[FunctionBuilder], object], message: str) -> None:
    b = function()
    b.get(2)
    b.get(2)
    with pytest.raises(WasmTypeError, match=message):
        wrong(b)


def test_vector_constants(instantiate: Run) -> None:
    m = ModuleBuilder()
    m.memory(1, export="memory")
    b = m.function([], [], "store", export="store")
    cases = [
        (("i8x16", -1), b"\xff" * 16),
        (("i16x8", *range(8)), struct.pack("<8H", *range(8))),
        (("i32x4", 1, 2, 3, 2**32 - 1), struct.pack("<4I", 1, 2, 3, 2**32 - 1)),
        (("i64x2", -2, 3), struct.pack("<2q", -2, 3)),
        (("f32x4", 0.1), struct.pack("<4f", *[0.1] * 4)),
        (("f64x2", 0.1, -0.0), struct.pack("<2d", 0.1, -0.0)),
    ]
    for nth, (constant, _) in enumerate(cases):
        b.i32_const(0)
        b.vec_const(*constant)
        b.store("v128.store", offset=16 * nth)
    store, exports = instantiate(m.build())
    exports["store"](store)
    for nth, (_, expected) in enumerate(cases):
        assert bytes(exports["memory"].read(store, 16 * nth, 16 * nth + 16)) == expected
    with pytest.raises(ValueError, match="does not fit a lane"):
        b.vec_const("i8x16", 256)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 20])
def test_loops_and_branches_compute(n: int, instantiate: Run) -> None:
    """collatz(n): steps to reach 1, with a loop, an if-else with a result and a block to leave."""
    m = ModuleBuilder()
    b = m.function(["i32"], ["i32"], "collatz", export="f")
    steps = b.local("i32", "steps")
    with b.block() as done, b.loop() as again:
        b.get(0)
        b.i32_const(2)
        b.op("i32.lt_u")
        b.br_if(done)
        b.get(0)
        b.i32_const(1)
        b.op("i32.and")
        with b.if_(["i32"]):
            b.get(0)
            b.i32_const(3)
            b.op("i32.mul")
            b.i32_const(1)
            b.op("i32.add")
            b.else_()
            b.get(0)
            b.i32_const(1)
            b.op("i32.shr_u")
        b.set(0)
        b.get(steps)
        b.i32_const(1)
        b.op("i32.add")
        b.set(steps)
        b.br(again)
    b.get(steps)
    store, exports = instantiate(m.build())
    expected, k = 0, n
    while k > 1:
        k, expected = (3 * k + 1 if k % 2 else k // 2), expected + 1
    assert exports["f"](store, n) == expected


@pytest.mark.parametrize(("index", "expected"), [(0, 10), (1, 20), (2, 30), (-1, 30)])
def test_br_table(index: int, expected: int, instantiate: Run) -> None:
    m = ModuleBuilder()
    b = m.function(["i32"], ["i32"], "pick", export="f")
    with b.block() as other:
        with b.block() as one:
            with b.block() as zero:
                b.get(0)
                b.br_table([zero, one], other)
            b.i32_const(10)
            b.return_()
        b.i32_const(20)
        b.return_()
    b.i32_const(30)
    store, exports = instantiate(m.build())
    assert exports["f"](store, index) == expected


def test_shuffle_lanes_and_memory(instantiate: Run) -> None:
    m = ModuleBuilder()
    m.memory(1, export="memory")
    m.data(64, bytes(range(32)))
    b = m.function([], ["i32"], "f", export="f")
    v = b.local("v128", "v")
    b.i32_const(0)
    b.load("v128.load", offset=64)
    b.i32_const(0)
    b.load("v128.load", offset=80, align=1)
    b.shuffle([2 * lane for lane in range(16)])
    b.set(v)
    b.i32_const(0)
    b.get(v)
    b.store_lane("v128.store32_lane", 3, offset=128)
    b.i32_const(132)
    b.i32_const(128)
    b.i32_const(4)
    b.memory_copy()
    b.i32_const(136)
    b.i32_const(7)
    b.i32_const(2)
    b.memory_fill()
    b.get(v)
    b.lane("i8x16.extract_lane_u", 15)
    store, exports = instantiate(m.build())
    assert exports["f"](store) == 30
    assert list(exports["memory"].read(store, 128, 139)) == [24, 26, 28, 30, 24, 26, 28, 30, 7, 7, 0]


def test_raw_has_its_effect_checked(validate: Callable[[bytes], None]) -> None:
    m = ModuleBuilder()
    b = m.function(["i32"], ["i32"], "f")
    double = OPS["local.get"].code + b"\x00" + OPS["i32.add"].code  # takes one i32, gives one
    b.get(0)
    b.raw(double, takes=b"\x7f", gives=b"\x7f")
    validate(m.build())
    b = m.function(["f32"], [], "g")
    b.get(0)
    with pytest.raises(WasmTypeError, match="raw operand 1 of 1: expected i32, got f32"):
        b.raw(double, takes=b"\x7f", gives=b"\x7f")
