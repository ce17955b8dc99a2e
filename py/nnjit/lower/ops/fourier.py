"""DFT and STFT as products with a constant matrix of cosines and sines.

out[k, o] = sum over n, c of x[n, c] table[n, c, k, o], c and o being 0 for the real and 1 for the imaginary part.
Lengths whose table would be large run on the reference, which has a fast transform.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnjit.codegen.expr import Index, acc, cast, op
from nnjit.codegen.spec import Axis
from nnjit.graph.ir import Node
from nnjit.lower.context import Context
from nnjit.lower.ops.compose import const_ints, constant, shape_of
from nnjit.lower.ops.linear import accumulate
from nnjit.lower.registry import Computation, Unsupported, computation

LARGEST = 1 << 22
"""Elements of a table."""
SHORT = 1 << 11


def table(length: int, inputs: int, parts: int, outputs: int, real: bool = False) -> Any:
    """[inputs, parts, outputs, 2]: e^(-2 pi i n k / length).

    `real` is the inverse of one-sided input, [inputs, parts, outputs, 1]: the real part of e^(+2 pi i n k / length)
    over length; bins between the first and the middle one stand for two."""
    if inputs * parts * outputs * 2 > LARGEST:
        raise Unsupported(f"a transform of length {length}")
    angle = 2 * np.pi * (np.outer(np.arange(inputs), np.arange(outputs)) % length) / length
    cos, sin = np.cos(angle), np.sin(angle)
    if real:
        twice = np.where((np.arange(inputs) == 0) | (2 * np.arange(inputs) == length), 1, 2)[:, None]
        return np.stack([cos * twice, -sin * twice], 1)[:, :parts, :, None] / length
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], 1)[:, :parts]


def _length(node: Node, number: int) -> int | None:
    given = const_ints(node.input(number))
    return given[0] if given else None


@computation("DFT")
def dft(ctx: Context, node: Node, out: int) -> Computation:
    """Along `axis`, over `dft_length` elements: more are left out, fewer filled up with zeros."""
    x = node.inputs[0]
    shape, to = shape_of(x), shape_of(node.outputs[0])
    given = const_ints(node.input(2))
    d = (given[0] if given else node.attrs.get("axis", -2)) % len(shape)
    inverse, one_sided = bool(node.attrs.get("inverse", 0)), bool(node.attrs.get("onesided", 0))
    real = inverse and one_sided
    if inverse and not real:
        raise Unsupported("a complex inverse transform")
    length = _length(node, 1) or (2 * (shape[d] - 1) if real else shape[d])
    count = min(shape[d], length // 2 + 1 if real else length)
    values = table(length, count, shape[-1], to[d], real)
    axes, idx = ctx.axes(to)
    at = list(idx)
    at[d], at[-1] = Index.of("n"), Index.of("c")
    return _transform(ctx, node, values, at, idx, axes, idx[d])


@computation("STFT")
def stft(ctx: Context, node: Node, out: int) -> Computation:
    """out[b, f, k] = transform of window[n] x[b, f * step + n]; the window is part of the table."""
    x = node.inputs[0]
    shape, to = shape_of(x), shape_of(node.outputs[0])
    step, window = _length(node, 1), node.input(2)
    if window is not None and window.const is None:
        raise Unsupported("a window that is computed at run time")
    length = _length(node, 3) or (shape_of(window)[0] if window is not None else shape[1])
    parts = shape[2] if len(shape) > 2 else 1
    values = table(length, length, parts, to[2])
    if window is not None and window.const is not None:
        values = values * window.const.numpy().astype(np.float64)[:, None, None, None]
    assert step is not None
    axes, idx = ctx.axes(to)
    at = [idx[0], idx[1] * step + Index.of("n"), Index.of("c")][: len(shape)]
    return _transform(ctx, node, values, at, idx, axes, idx[2])


def _transform(
    ctx: Context,
    node: Node,
    values: Any,
    at: Sequence[Index],
    idx: Sequence[Index],
    axes: Sequence[Axis],
    k: Index,
) -> Computation:
    """The sum of x at `at` times the table at (n, c, k, o)."""
    dtype = node.outputs[0].dtype
    # a short transform costs nothing in f64 either, and its zeros come out as zeros
    wide = "f64" if dtype == "f64" or values.size <= SHORT else accumulate(dtype)
    weights = constant(ctx.build, node, "table", values.astype(np.float64 if wide == "f64" else np.float32))
    weight = ctx.read(weights, [Index.of("n"), Index.of("c"), k, idx[-1]])
    body = op("mul", cast(ctx.read(node.inputs[0], at), wide), weight)
    reduce = [Axis("n", values.shape[0]), Axis("c", values.shape[1])]
    return Computation(
        axes, idx, cast(acc(wide), dtype), reduce=reduce, combine="sum", body=body, name=node.op.lower()
    )
