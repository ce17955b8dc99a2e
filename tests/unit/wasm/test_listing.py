"""The listing: golden texts, and that wasmtime assembles it back to the same bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import wasmtime

from nnjit.codegen.wasm.builder import FunctionBuilder
from nnjit.codegen.wasm.decode import DecodeError, instructions
from nnjit.codegen.wasm.listing import listing
from nnjit.codegen.wasm.module import ModuleBuilder, kernel_function, kernel_module

Golden = Callable[[str, str], None]


def axpy() -> FunctionBuilder:
    """y[i] += 0.5 * x[i] over tiles of four floats."""
    b = kernel_function("f32_axpy_4")
    x, y, left = b.local("i32", "x"), b.local("i32", "y"), b.local("i32", "left")
    for pointer, slot in ((x, 0), (y, 4)):
        b.get(0)
        b.load("i32.load", offset=slot)
        b.get(1)
        b.i32_const(4)
        b.op("i32.shl")
        b.op("i32.add")
        b.set(pointer)
    b.get(2)
    b.get(1)
    b.op("i32.sub")
    b.set(left)
    with b.block() as done, b.loop() as again:
        b.get(left)
        b.op("i32.eqz")
        b.br_if(done)
        b.get(y)
        b.get(x)
        b.load("v128.load")
        b.vec_const("f32x4", 0.5)
        b.get(y)
        b.load("v128.load", align=4)
        b.op("f32x4.relaxed_madd")
        b.store("v128.store")
        for pointer in (x, y):
            b.get(pointer)
            b.i32_const(16)
            b.op("i32.add")
            b.set(pointer)
        b.get(left)
        b.i32_const(1)
        b.op("i32.sub")
        b.set(left)
        b.br(again)
    return b


def test_golden_function(golden: Golden) -> None:
    golden("axpy_function.wat", listing(axpy()))


def test_golden_module(golden: Golden) -> None:
    data = kernel_module(axpy(), shared=True)
    golden("axpy_module.wat", listing(data))
    assert wasmtime.wat2wasm(listing(data)) == data


def test_function_is_listed_while_unfinished() -> None:
    b = FunctionBuilder(["i32"], ["i32"], "half")
    other = FunctionBuilder(["i32"], ["f32", "i32"], "other")
    with b.block(["f32", "i32"]):
        b.get(0)
        b.call(other)
        text = listing(b)
    assert "block (result f32 i32) (;@1;)" in text
    assert "  call $other" in text
    assert listing(b) != text


def test_odd_names_data_and_numbers_survive() -> None:
    m = ModuleBuilder('a module; (odd) "name"')
    m.memory(1, 2, export="mem\\ory é")
    m.data(0, bytes(range(256)))
    m.data(None, b"")
    b = m.function(["f32"], ["f32"], "f g", export="f", param_names=["größe"])
    for bits in (
        "0000c07f",
        "010080ff",
        "0000807f",
        "000080ff",
        "01000000",
        "ffff7f7f",
        "00000080",
        "cdcccc3d",
    ):
        b.raw(b"\x43" + bytes.fromhex(bits), b"", b"\x7d")
        b.drop()
    for bits in ("000000000000f87f", "010000000000f0ff", "9a9999999999b93f", "0100000000000000"):
        b.raw(b"\x44" + bytes.fromhex(bits), b"", b"\x7c")
        b.drop()
    b.v128_const(b"\xff" * 16)
    b.drop()
    b.i64_const(-(2**63))
    b.drop()
    b.indexed("data.drop", 1)
    b.get(0)
    data = m.build()
    text = listing(data)
    assert wasmtime.wat2wasm(text) == data
    assert "f32.const -nan:0x1\n" in text
    assert "f32.const 0.1\n" in text
    assert "f64.const 5e-324\n" in text


@pytest.mark.parametrize(("code", "offset"), [("01ff", 1), ("fdff03", None), ("2080", None), ("4300", None)])
def test_bad_code_is_refused(code: str, offset: int | None) -> None:
    with pytest.raises((DecodeError, IndexError)) as error:
        list(instructions(bytes.fromhex(code)))
    if offset is not None:
        assert isinstance(error.value, DecodeError)
        assert error.value.fields == {"offset": offset}
