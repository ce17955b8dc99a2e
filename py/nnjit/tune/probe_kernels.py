"""Kernels of microbenchmarks, written instruction by instruction: multiply-add chains, reading memory, dependent loads.

Each is a function (args, begin, end) like any other kernel and does end - begin rounds of one thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnjit.codegen.wasm.builder import FunctionBuilder
from nnjit.codegen.wasm.module import kernel_function

STEPS = 12
"""Links of each chain in a round."""
HOPS = 2048
"""Dependent loads in a round."""
SHOWN = 64
"""Bytes behind operand 1 where a kernel leaves what it found."""
ADD, MULTIPLY, FUSED = "f32x4.add", "f32x4.mul", "f32x4.relaxed_madd"


def rounding() -> FunctionBuilder:
    """(1 + e) * (1 + e) - (1 + 2e) for e = 2**-12, which is e * e if it is rounded once and 0 if twice."""
    b = kernel_function("rounding")
    b.get(0)
    b.load("i32.load", offset=4)
    for value in (1 + 2**-12, 1 + 2**-12, -(1 + 2**-11)):
        b.vec_const("f32x4", value, value, value, value)
    b.op(FUSED)
    b.store("v128.store", offset=SHOWN)
    b.finish()
    return b


def multiply_add(chains: int, fused: bool) -> FunctionBuilder:
    """A round: STEPS times c = c * a + b in each chain; the sum goes to the place of operand 1 at the end."""
    b = kernel_function(f"chains_{chains}")
    a, k = b.local("v128"), b.local("v128")
    held = [b.local("v128") for _ in range(chains)]
    b.vec_const("f32x4", 0.5, 0.5, 0.5, 0.5)
    b.set(a)
    b.vec_const("f32x4", 1.0, 1.0, 1.0, 1.0)
    b.set(k)

    def body() -> None:
        for _ in range(STEPS):
            for c in held:
                b.get(c)
                b.get(a)
                if fused:
                    b.get(k)
                    b.op(FUSED)
                else:
                    b.op(MULTIPLY)
                    b.get(k)
                    b.op(ADD)
                b.set(c)

    rounds(b, body)
    finish(b, held)
    return b


def stream(nbytes: int) -> FunctionBuilder:
    """A round: every vector of `nbytes` read once, added up in eight sums."""
    b = kernel_function(f"stream_{nbytes}")
    at, end = b.local("i32"), b.local("i32")
    sums = [b.local("v128") for _ in range(8)]

    def body() -> None:
        b.get(0)
        b.load("i32.load")
        b.tee(at)
        b.i32_const(nbytes)
        b.op("i32.add")
        b.set(end)
        with b.loop() as again:
            for i in range(16):
                s = sums[i % 8]
                b.get(s)
                b.get(at)
                b.load("v128.load", offset=16 * i)
                b.op(ADD)
                b.set(s)
            b.get(at)
            b.i32_const(256)
            b.op("i32.add")
            b.tee(at)
            b.get(end)
            b.op("i32.lt_u")
            b.br_if(again)

    rounds(b, body)
    finish(b, sums)
    return b


def chase(nbytes: int) -> FunctionBuilder:
    """A round: HOPS loads, each from a line that is known only when the one before has come (memory holds zeros, and
    the order of the lines is a linear congruential generator's, so that nothing can guess it). The next call
    goes on."""
    b = kernel_function(f"chase_{nbytes}")
    lines = nbytes // 64
    at, left, base = b.local("i32"), b.local("i32"), b.local("i32")
    b.get(0)
    b.load("i32.load")
    b.set(base)
    b.get(0)
    b.load("i32.load", offset=4)
    b.load("i32.load", offset=SHOWN + 64)
    b.set(at)

    def body() -> None:
        b.i32_const(HOPS)
        b.set(left)
        with b.loop() as again:
            b.get(at)
            b.i32_const(1664525)
            b.op("i32.mul")
            b.i32_const(1013904223)
            b.op("i32.add")
            b.get(at)
            b.i32_const(lines - 1)
            b.op("i32.and")
            b.i32_const(6)
            b.op("i32.shl")
            b.get(base)
            b.op("i32.add")
            b.load("i32.load")
            b.op("i32.add")
            b.set(at)
            b.get(left)
            b.i32_const(1)
            b.op("i32.sub")
            b.tee(left)
            b.br_if(again)

    rounds(b, body)
    b.get(0)
    b.load("i32.load", offset=4)
    b.get(at)
    b.store("i32.store", offset=SHOWN + 64)
    b.finish()
    return b


def rounds(b: FunctionBuilder, body: Any) -> None:
    """`body` end - begin times."""
    with b.block() as done, b.loop() as again:
        b.get(1)
        b.get(2)
        b.op("i32.ge_s")
        b.br_if(done)
        body()
        b.get(1)
        b.i32_const(1)
        b.op("i32.add")
        b.set(1)
        b.br(again)


def finish(b: FunctionBuilder, held: Sequence[int]) -> None:
    """The sum of all goes to memory, so that nothing is dead code."""
    b.get(0)
    b.load("i32.load", offset=4)
    b.get(held[0])
    for c in held[1:]:
        b.get(c)
        b.op(ADD)
    b.store("v128.store", offset=SHOWN + 64)
    b.finish()
