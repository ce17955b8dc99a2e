"""What the attention operators of com.microsoft share: heads, masks as biases, the attention itself."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from ..ir import Value
from .body import Body

# Scores a causal mask hides are the type's lowest in onnxruntime; added to by less than this they weigh nothing.
_NO_WEIGHT = -1e30
LOWEST = {"f32": -3.4028235e38, "f16": -65504.0, "bf16": -3.3895314e38, "f64": -1.7976931348623157e308}


def heads_of(b: Body, x: Value, heads: int) -> Value:
    """[B, S, H·D] → [B, H, S, D]"""
    batch, length, wide = b.dims(x, 3)
    if wide % heads:
        b.fail(f"rows of {wide} are not {heads} heads")
    return b.transpose(b.reshape(x, (batch, length, heads, wide // heads)), 0, 2, 1, 3)


def merged(b: Body, y: Value) -> Value:
    """[B, H, S, D] → [B, S, H·D]"""
    batch, heads, length, depth = b.dims(y, 4)
    return b.reshape(b.transpose(y, 0, 2, 1, 3), (batch, length, heads * depth))


def scale_of(b: Body, depth: int) -> float:
    """The attribute `scale`, where 0 stands for 1/√D"""
    return float(b.attr("scale") or 1 / sqrt(depth))


def padding_bias(b: Body, mask: Value, batch: int, rows: int, keys: int, dtype: str) -> Value:
    """0 where a key may be seen, `mask_filter_value` elsewhere, for [B,H,S,T] scores.

    mask: [B,T] or [B,S,T] of 0 and 1; [B] ends of what may be seen; [2B] ends, then starts.
    """
    low = b.attr("mask_filter_value", -10000.0)
    shape = b.shape(mask)
    if len(shape) == 1:
        place = b.const(np.arange(keys).reshape(1, 1, 1, keys), "i32")
        if shape == (batch,):
            seen = b("Less", place, b.reshape(mask, (batch, 1, 1, 1)))
        elif shape == (2 * batch,):
            ends, starts = (b.reshape(m, (batch, 1, 1, 1)) for m in b.split(mask, 0, [batch, batch]))
            seen = b("And", b("Less", place, ends), b("GreaterOrEqual", place, starts))
        else:
            b.refuse(f"a mask of {shape[0]} numbers", "give a mask of zeros and ones")
    elif shape == (batch, keys):
        seen = b("Greater", b.reshape(mask, (batch, 1, 1, keys)), b.const(0, "i32"))
    elif shape == (batch, rows, keys):
        seen = b("Greater", b.reshape(mask, (batch, 1, rows, keys)), b.const(0, "i32"))
    else:
        b.refuse(f"a mask of shape {list(shape)}", f"give one of shape [{batch}, {keys}]")
    return b("Where", seen, b.const(0, dtype), b.const(low, dtype))


def joined_bias(b: Body, one: Value | None, other: Value | None) -> Value | None:
    """The sum of two biases, either of which may be absent"""
    if one is None or other is None:
        return one if other is None else other
    return b("Add", one, other)


def attend(
    b: Body, q: Value, k: Value, v: Value, bias: Value | None, scale: float, causal: bool, past: int = 0,
    softcap: float = 0.0,
) -> Value:  # fmt: skip
    """softmax(scale q k' + bias) v, heads as of ONNX's Attention. causal: row m sees keys up to m + past."""
    rows, keys = b.shape(q)[2], b.shape(k)[2]
    attrs: dict[str, Any] = {"scale": scale}
    if softcap:
        attrs["softcap"] = softcap
    if causal and rows > 1:
        if past == 0 and b.attr("mask_filter_value", 0.0) > _NO_WEIGHT:
            attrs["is_causal"] = 1
        else:
            bias = hidden(b, bias, triangle(rows, keys, past), q.dtype)
    return b("Attention", q, k, v, bias, **attrs)


def triangle(rows: int, keys: int, past: int) -> Any:
    """bool[S,T]: which keys each row sees if it sees none after itself"""
    return np.arange(keys) <= np.arange(rows)[:, None] + past


def scores_of(
    b: Body, q: Value, k: Value, bias: Value | None, scale: float, causal: bool, past: int
) -> Value:
    """scale q k' + bias, as `attend` has it before the softmax, for as many heads of k as of q"""
    rows, keys = b.shape(q)[2], b.shape(k)[2]
    s = b("Mul", b("MatMul", q, b.transpose(k, 0, 1, 3, 2)), b.const(scale, q.dtype))
    if causal and rows > 1:
        bias = hidden(b, bias, triangle(rows, keys, past), q.dtype)
    return s if bias is None else b("Add", s, bias)


def hidden(b: Body, bias: Value | None, seen: Any, dtype: str) -> Value:
    """The bias with the type's lowest number wherever `seen` is false"""
    low = b.const(LOWEST[dtype], dtype)
    mask = b.const(np.asarray(seen), "bool")
    return b("Where", mask, b.const(0, dtype) if bias is None else bias, low)
