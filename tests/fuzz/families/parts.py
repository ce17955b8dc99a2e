"""Groups of nodes that exporters write alike or each in its own way: norms, activations, linear layers, heads."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.families.net import Net


def linear(n: Net, x: str, wide: int, out: int, bias: bool = True, form: str = "matmul") -> str:
    """form: 'matmul' (weights transposed at export), 'gemm' (of two dimensions), 'transposed' (a Transpose node)."""
    scale = wide**-0.5
    if form == "gemm":
        extra = [n.weight(out, scale=0.1)] if bias else []
        return str(n.Gemm(x, n.weight(out, wide, scale=scale), *extra, transB=1))
    if form == "transposed":
        y = n.MatMul(x, n.Transpose(n.weight(out, wide, scale=scale), perm=[1, 0]))
    else:
        y = n.MatMul(x, n.weight(wide, out, scale=scale))
    if not bias:
        return str(y)
    b = n.weight(out, scale=0.1)
    return str(n.Add(b, y) if form == "matmul" else n.Add(y, b))


def layer_norm(n: Net, x: str, wide: int, eps: float = 1e-5) -> str:
    """The operator from opset 17 on, its parts before."""
    scale, shift = n.weight(wide, scale=0.2, middle=1.0), n.weight(wide, scale=0.1)
    if n.opset >= 17:
        return str(n.LayerNormalization(x, scale, shift, axis=-1, epsilon=eps))
    mean = n.reduce("ReduceMean", x, [-1])
    off = n.Sub(x, mean)
    spread = n.reduce("ReduceMean", n.Pow(off, 2.0), [-1])
    return str(n.Add(n.Mul(n.Div(off, n.Sqrt(n.Add(spread, eps))), scale), shift))


def rms_norm(n: Net, x: str, wide: int, eps: float = 1e-6, plus_one: bool = False) -> str:
    """As transformers write it: in f32, times the weight at last. plus_one: Gemma's weights lie around 0."""
    half = n.dtype == "float16"
    f = n.cast(x, "float32") if half else x
    two, small = n.constant(np.float32(2)), n.constant(np.float32(eps))
    mean = n.reduce("ReduceMean", n.Pow(f, two), [-1])
    root = n.Sqrt(n.Add(mean, small))
    y = n.Mul(f, n.Div(n.constant(np.float32(1)), root) if n.opset < 18 else n.Reciprocal(root))
    if half:
        y = n.cast(y, "float16")
    weight = n.weight(wide, scale=0.2, middle=0.0 if plus_one else 1.0)
    return str(n.Mul(n.Add(weight, 1.0) if plus_one else weight, y))


def gelu(n: Net, x: str, form: str = "erf") -> str:
    if form == "tanh":
        inner = n.Mul(n.Add(x, n.Mul(n.Pow(x, 3.0), 0.044715)), 0.7978845608)
        return str(n.Mul(n.Mul(x, 0.5), n.Add(n.Tanh(inner), 1.0)))
    if form == "quick":
        return str(n.Mul(x, n.Sigmoid(n.Mul(x, 1.702))))
    if n.opset >= 20:
        return str(n.Gelu(x))
    return str(n.Mul(n.Mul(x, n.Add(n.Erf(n.Div(x, 1.4142135381)), 1.0)), 0.5))


def silu(n: Net, x: str) -> str:
    return str(n.Mul(x, n.Sigmoid(x)))


def mish(n: Net, x: str) -> str:
    return str(n.Mul(x, n.Tanh(n.Softplus(x))))


def conv(
    n: Net,
    x: str,
    cin: int,
    cout: int,
    k: int = 3,
    s: int = 1,
    group: int = 1,
    bias: bool = True,
    **more: Any,
) -> str:
    """Square kernel, padded by half of it unless `pads` says else."""
    w = n.weight(cout, cin // group, k, k)
    pads = more.pop("pads", [k // 2] * 4)
    extra = [n.weight(cout, scale=0.1)] if bias else []
    return str(
        n.Conv(x, w, *extra, kernel_shape=[k, k], strides=[s, s], pads=pads, group=group,
               dilations=more.pop("dilations", [1, 1]), **more)
    )  # fmt: skip


def batch_norm(n: Net, x: str, c: int) -> str:
    return str(
        n.BatchNormalization(x, n.weight(c, scale=0.1, middle=1.0), n.weight(c, scale=0.1), n.weight(c, scale=0.1),
                             n.hold(n.numbers.uniform(0.5, 1.5, c).astype(n.dtype)), epsilon=1e-5)
    )  # fmt: skip


def group_norm(n: Net, x: str, c: int, groups: int) -> str:
    """As torch writes it before opset 21: InstanceNormalization of groups, in a shape that a Shape node gives back."""
    shape = n.Shape(x)
    flat = n.Reshape(x, [0, groups, -1])
    one, zero = n.hold(np.ones(groups, n.dtype)), n.hold(np.zeros(groups, n.dtype))
    y = n.Reshape(n.InstanceNormalization(flat, one, zero, epsilon=1e-5), shape)
    scale = n.hold(np.asarray(n.numbers.normal(1, 0.2, (c, 1, 1)), n.dtype))
    return str(n.Add(n.Mul(y, scale), n.hold(n.normal((c, 1, 1), 0.1))))


def heads_of(n: Net, x: str, heads: int, depth: int, shaped: str = "shape") -> str:
    """[B, S, heads * depth] -> [B, heads, S, depth]; shaped: 'shape' (dims by Shape), 'zero', 'minus'."""
    if shaped == "shape":
        y = n.reshape_by(x, n.dim(x, 0), n.dim(x, 1), heads, depth)
    elif shaped == "zero":
        y = n.Reshape(x, [0, 0, heads, depth])
    else:
        y = n.Reshape(x, [0, -1, heads, depth])
    return str(n.Transpose(y, perm=[0, 2, 1, 3]))


def joined(n: Net, x: str, wide: int, shaped: str = "shape") -> str:
    """[B, heads, S, depth] -> [B, S, wide]"""
    y = n.Transpose(x, perm=[0, 2, 1, 3])
    if shaped == "shape":
        return str(n.reshape_by(y, n.dim(y, 0), n.dim(y, 1), wide))
    return str(n.Reshape(y, [0, 0, wide] if shaped == "zero" else [0, -1, wide]))


def attend(n: Net, q: str, k: str, v: str, depth: int, mask: str | None = None, form: str = "div") -> str:
    """q, k, v of [B, H, S, D]. form: 'div' and 'mul' scale the scores, 'both' scales q and k as torch's sdpa does."""
    kt = n.Transpose(k, perm=[0, 1, 3, 2])
    if form == "both":
        root = n.constant(np.asarray(depth**-0.25, n.dtype))
        s = n.MatMul(n.Mul(q, root), n.Mul(kt, root))
    elif form == "first":
        s = n.MatMul(n.Mul(q, float(depth**-0.5)), kt)
    else:
        s = n.MatMul(q, kt)
        s = n.Div(s, float(depth**0.5)) if form == "div" else n.Mul(s, float(depth**-0.5))
    if mask is not None:
        s = n.Add(s, mask)
    return str(n.MatMul(n.Softmax(s, axis=-1), v))


def self_attention(
    n: Net, x: str, wide: int, heads: int, mask: str | None = None, form: str = "div", shaped: str = "shape",
    source: str | None = None,
) -> str:  # fmt: skip
    """source: what keys and values come from, for cross attention."""
    depth = wide // heads
    q = heads_of(n, linear(n, x, wide, wide), heads, depth, shaped)
    k, v = (heads_of(n, linear(n, source or x, wide, wide), heads, depth, shaped) for _ in range(2))
    y = joined(n, attend(n, q, k, v, depth, mask, form), wide, shaped)
    return linear(n, y, wide, wide)


def mlp(n: Net, x: str, wide: int, inner: int, form: str = "erf") -> str:
    return linear(n, gelu(n, linear(n, x, wide, inner), form), inner, wide)
