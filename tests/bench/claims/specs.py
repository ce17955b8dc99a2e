"""The thirty kernels that the quality of the spaces is judged by: dense, convolution, depthwise; usual, odd, one row.

Gives KernelSpecs by name. Their default schedules take 0.02 to 3 ms on one thread, so that all of a raw space can be
timed.
"""

from __future__ import annotations

from nnjit.codegen.expr import Index, acc, load, op
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from tests.bench.llvm.specs import convolution, depthwise, product


def scores(batch: int, m: int, n: int, k: int) -> KernelSpec:
    """out[b, m, n] = sum of q[b, m, k] * key[b, n, k]: the second factor lies the wrong way round, as in attention."""
    q = load(0, Index(0, {"b": m * k, "m": k, "k": 1}), "f32")
    key = load(1, Index(0, {"b": n * k, "n": k, "k": 1}), "f32")
    out = Index(0, {"b": m * n, "m": n, "n": 1})
    stage = Stage((), (Axis("k", k),), "sum", op("mul", q, key), acc("f32"), 2, out)
    operands = (Operand("f32", batch * m * k, "in"), Operand("f32", batch * n * k, "in"),
                Operand("f32", batch * m * n, "out"))  # fmt: skip
    return KernelSpec("scores", (Axis("b", batch), Axis("m", m), Axis("n", n)), (stage,), operands)


SPECS = {
    "dense 128x768x768": product(128, 768, 768),
    "dense 64x384x384": product(64, 384, 384),
    "dense 384x768x192": product(384, 768, 192),
    "dense 197x192x192": product(197, 192, 192),
    "dense 50x1024x256": product(50, 1024, 256),
    "dense 37x101x53 odd": product(37, 101, 53),
    "dense 13x257x129 odd": product(13, 257, 129),
    "dense 5x512x512": product(5, 512, 512),
    "dense 1x1024x1024": product(1, 1024, 1024),
    "dense 1x768x3072": product(1, 768, 3072),
    "dense 1x1001x1280 odd": product(1, 1001, 1280),
    "scores 4x64x64x64": scores(4, 64, 64, 64),
    "scores 3x49x49x32 odd": scores(3, 49, 49, 32),
    "conv 1x1 56x56 24-144": convolution(56, 56, 24, 144, 1, 1),
    "conv 1x1 14x14 96-576": convolution(14, 14, 96, 576, 1, 1),
    "conv 1x1 7x7 320-1280": convolution(7, 7, 320, 1280, 1, 1),
    "conv 1x1 19x19 33-47 odd": convolution(19, 19, 33, 47, 1, 1),
    "conv 3x3 28x28 32-64": convolution(30, 30, 32, 64, 3, 1),
    "conv 3x3 7x7 128-128": convolution(9, 9, 128, 128, 3, 1),
    "conv 3x3/2 56x56 16-32": convolution(57, 57, 16, 32, 3, 2),
    "conv 5x5 13x13 17-31 odd": convolution(17, 17, 17, 31, 5, 1),
    "conv 7x7/2 56x56 3-32": convolution(61, 61, 3, 32, 7, 2),
    "depthwise 3x3 56x56 144": depthwise(58, 58, 144, 3, 1),
    "depthwise 3x3 28x28 192": depthwise(30, 30, 192, 3, 1),
    "depthwise 3x3/2 56x56 96": depthwise(57, 57, 96, 3, 2),
    "depthwise 5x5 14x14 240": depthwise(18, 18, 240, 5, 1),
    "depthwise 5x5/2 28x28 120": depthwise(31, 31, 120, 5, 2),
    "depthwise 7x7 14x14 96": depthwise(20, 20, 96, 7, 1),
    "depthwise 3x3 7x7 961 odd": depthwise(9, 9, 961, 3, 1),
    "depthwise 3x3 13x13 37 odd": depthwise(15, 15, 37, 3, 1),
}
