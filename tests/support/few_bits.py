"""A few rows by weights of few bits in words, as MatMulNBits has them: a KernelSpec with its inputs, the weights as
numbers, and how far a kernel by digits may be from the sum of products in doubles.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnjit.codegen.expr import Expr, Index, acc, axis, cast, const, load, op
from nnjit.codegen.schedule.digits import MOST
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from tests.support import specs


def packed(
    rng: np.random.Generator, m: int, n: int, blocks: int, words: int, bits: int, zero: str = "const"
) -> tuple[KernelSpec, list[Any]]:
    """y[m, n] = sum over k of a[m, k] * (code[n, k] - zero[n, block]) * scale[n, block], the codes in words of 32 bits.
    zero: a constant, or the dtype of the zero points."""
    each = 32 // bits
    k = blocks * words * each
    word = load(1, Index(0, {"n": blocks * words, "block": words, "word": 1}), "i32")
    code = cast(
        op("band", Expr("shr", "i32", (word, axis(Index(0, {"bit": bits})))), const((1 << bits) - 1, "i32")),
        "f32",
    )
    at = Index(0, {"n": blocks, "block": 1})
    scale = load(2, at, "f32")
    right = op("mul", op("sub", code, const(3.0, "f32")), scale)
    if zero != "const":
        middle = Expr("neg", "f32", (cast(load(4, at, zero), "f32"),))
        right = Expr("fma", "f32", (code, scale, op("mul", middle, scale)))
    left = load(0, Index(0, {"m": k, "block": words * each, "word": each, "bit": 1}), "f32")
    reduce = (Axis("block", blocks), Axis("word", words), Axis("bit", each))
    stage = Stage((), reduce, "sum", op("mul", left, right), acc("f32"), 3, Index(0, {"m": n, "n": 1}))
    operands = [
        Operand("f32", m * k, "in"), Operand("i32", n * blocks * words, "in", True),
        Operand("f32", n * blocks, "in", True), Operand("f32", m * n, "out"),
    ]  # fmt: skip
    inputs = [
        specs.whole(rng, (m, k), "f32"), rng.integers(-(2**31), 2**31, n * blocks * words).astype(np.int32),
        specs.whole(rng, (n, blocks), "f32", 2),
    ]  # fmt: skip
    if zero != "const":
        operands.append(Operand(zero, n * blocks, "in", True))
        codes = rng.integers(0, 1 << bits, n * blocks)
        inputs.append(codes.astype(np.uint8) if zero == "u8" else (codes + 0.5).astype(np.float32))
    return KernelSpec("packed", (Axis("m", m), Axis("n", n)), (stage,), tuple(operands)), inputs


def weights(spec: KernelSpec, inputs: list[Any], bits: int, zero: str, sizes: bool = False) -> Any:
    """(code - zero) * scale of `packed` in doubles, [n, blocks, k of a block]; sizes: (code + |zero|) * |scale|, what
    is rounded where zero points are floats."""
    blocks, word, _ = spec.stages[0].reduce
    n = spec.axes[-1].extent
    words = inputs[1].reshape(n, blocks.extent, word.extent, 1).astype(np.int64)
    codes = (words >> bits * np.arange(32 // bits)) & ((1 << bits) - 1)
    middle = 3.0 if zero == "const" else inputs[3].reshape(n, blocks.extent, 1).astype(np.float64)
    scale = inputs[2].reshape(n, blocks.extent, 1).astype(np.float64)
    if sizes:
        middle, scale = -np.abs(middle), np.abs(scale)
    found: Any = (codes.reshape(n, blocks.extent, -1) - middle) * scale
    return found


def bound(x: Any, w: Any) -> Any:
    """[m, n]: what `schedule/digits` says that x[m, blocks, k] by w[n, blocks, k] may be off at most: of the groups,
    and of adding them up as f32."""
    parts = range(0, x.shape[-1], MOST)
    sizes = [np.abs(x[..., p : p + MOST]).max(-1) @ np.abs(w[..., p : p + MOST]).sum(-1).T for p in parts]
    largest = np.sum(sizes, axis=0)
    groups = len(parts) * x.shape[-2]
    return largest * (2.0**-22 * (1 + 2.0**-5) + (5 + groups) * 2.0**-24)
