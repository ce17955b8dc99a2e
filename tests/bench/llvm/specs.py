"""Kernels for the comparison with LLVM: products, convolutions, depthwise ones, as models have them and odd.

Imports nothing but nnjit: the same file runs here and in the browser's Python, so both make the same specs.
"""

from __future__ import annotations

from nnjit.codegen.expr import Expr, Index, acc, const, load, op
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage


def _relu(bias: Index) -> Expr:
    return op("max", op("add", acc("f32"), load(2, bias, "f32")), const(0, "f32"))


def _axes(**extents: int) -> tuple[Axis, ...]:
    return tuple(Axis(name, n) for name, n in extents.items())


def _in(size: int, const: bool = False) -> Operand:
    return Operand("f32", size, "in", const)


def product(m: int, n: int, k: int) -> KernelSpec:
    """max(a[m, k] * w[k, n] + bias[n], 0)."""
    body = op("mul", load(0, Index(0, {"m": k, "k": 1}), "f32"), load(1, Index(0, {"k": n, "n": 1}), "f32"))
    stage = Stage((), (Axis("k", k),), "sum", body, _relu(Index.of("n")), 3, Index(0, {"m": n, "n": 1}))
    operands = (_in(m * k), _in(k * n, True), _in(n, True), Operand("f32", m * n, "out"))
    return KernelSpec("product", _axes(m=m, n=n), (stage,), operands)


def convolution(h: int, w: int, ci: int, co: int, kernel: int, stride: int) -> KernelSpec:
    """Channels last, over an input that has its border already; weights [ky, kx, i, o]."""
    oh, ow = (h - kernel) // stride + 1, (w - kernel) // stride + 1
    image = Index(0, {"p": stride * w * ci, "q": stride * ci, "ky": w * ci, "kx": ci, "i": 1})
    weight = Index(0, {"ky": kernel * ci * co, "kx": ci * co, "i": co, "o": 1})
    body = op("mul", load(0, image, "f32"), load(1, weight, "f32"))
    reduce = _axes(ky=kernel, kx=kernel, i=ci)
    out = Index(0, {"p": ow * co, "q": co, "o": 1})
    stage = Stage((), reduce, "sum", body, _relu(Index.of("o")), 3, out)
    operands = (_in(h * w * ci), _in(kernel * kernel * ci * co, True), _in(co, True),
                Operand("f32", oh * ow * co, "out"))  # fmt: skip
    return KernelSpec("convolution", _axes(p=oh, q=ow, o=co), (stage,), operands)


def depthwise(h: int, w: int, c: int, kernel: int, stride: int) -> KernelSpec:
    """Each channel by a window of its own; weights [ky, kx, c]."""
    oh, ow = (h - kernel) // stride + 1, (w - kernel) // stride + 1
    image = Index(0, {"p": stride * w * c, "q": stride * c, "ky": w * c, "kx": c, "c": 1})
    body = op("mul", load(0, image, "f32"), load(1, Index(0, {"ky": kernel * c, "kx": c, "c": 1}), "f32"))
    out = Index(0, {"p": ow * c, "q": c, "c": 1})
    stage = Stage((), _axes(ky=kernel, kx=kernel), "sum", body, _relu(Index.of("c")), 3, out)
    operands = (
        _in(h * w * c),
        _in(kernel * kernel * c, True),
        _in(c, True),
        Operand("f32", oh * ow * c, "out"),
    )
    return KernelSpec("depthwise", _axes(p=oh, q=ow, c=c), (stage,), operands)


SPECS = {
    "product 128x768x768": product(128, 768, 768),
    "product 64x384x384": product(64, 384, 384),
    "product 1x1024x1024": product(1, 1024, 1024),
    "product 37x101x53": product(37, 101, 53),
    "product 197x192x192": product(197, 192, 192),
    "convolution 1x1 56x56 24-144": convolution(56, 56, 24, 144, 1, 1),
    "convolution 3x3 28x28 32-64": convolution(30, 30, 32, 64, 3, 1),
    "convolution 3x3/2 56x56 16-32": convolution(57, 57, 16, 32, 3, 2),
    "convolution 7x7/2 112x112 3-32": convolution(117, 117, 3, 32, 7, 2),
    "convolution 1x1 7x7 320-1280": convolution(7, 7, 320, 1280, 1, 1),
    "depthwise 3x3 56x56 144": depthwise(58, 58, 144, 3, 1),
    "depthwise 3x3/2 56x56 96": depthwise(57, 57, 96, 3, 2),
    "depthwise 5x5 14x14 240": depthwise(18, 18, 240, 5, 1),
    "depthwise 3x3 7x7 961": depthwise(9, 9, 961, 3, 1),
}
