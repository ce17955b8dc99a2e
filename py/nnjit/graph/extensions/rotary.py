"""Rotary position embedding: RotaryEmbedding, and the rotation that GroupQueryAttention does itself."""

from __future__ import annotations

from ..ir import Value
from .body import Body
from .declare import FLOATS, operator


def rotated(b: Body, x: Value, cos: Value, sin: Value, interleaved: bool, rows: int = 1) -> Value:
    """x[B,S,H,D] (rows: the axis of S, 1 or 2) turned by the angles whose cos[B|1,S,R/2] and sin are given; elements
    from R on stay.

    The pairs (x1, x2) become (x1 cos - x2 sin, x2 cos + x1 sin). They are an axis of two of their own here and the
    exchange within it is a view that runs backwards, so that one kernel does it all.
    """
    outer, depth = b.dims(x, 4)[:3], b.shape(x)[3]
    half = b.dims(cos, 3)[2]
    if 2 * half > depth:
        b.fail("the angles have more dims than half of a head", f"at most {depth // 2}", half)
    head, tail = x, None
    if 2 * half < depth:
        head, tail = b.split(x, 3, [2 * half, depth - 2 * half])
    pairs = (half, 2) if interleaved else (2, half)
    batch, length = b.shape(cos)[:2]
    one = (batch, *((length, 1) if rows == 1 else (1, length)), *((half, 1) if interleaved else (1, half)))
    head = b.reshape(head, (*outer, *pairs))
    sign = b.const([[-1, 1]] if interleaved else [[-1], [1]], x.dtype)
    axis = b.const([4 if interleaved else 3])
    swapped = b("Slice", head, b.const([1]), b.const([-3]), axis, b.const([-1]))
    y = b(
        "Add", b("Mul", head, b.reshape(cos, one)),
        b("Mul", b("Mul", swapped, sign), b.reshape(sin, one)),
    )  # fmt: skip
    y = b.reshape(y, (*outer, 2 * half))
    return y if tail is None else b("Concat", y, tail, axis=3)


@operator(
    "RotaryEmbedding", "input:T position_ids:M cos_cache:T sin_cache:T", "output:T",
    "scale:float=1 interleaved:int=0 rotary_embedding_dim:int=0 num_heads:int=0 is_packed_batching:int=0",
    T=FLOATS, M="i64",
)  # fmt: skip
def rotary_embedding(b: Body) -> Value:
    """x[B,S,H·D] or x[B,H,S,D] turned by the angles of its positions"""
    x, at, cos, sin = (b.given(n) for n in ("input", "position_ids", "cos_cache", "sin_cache"))
    shape, heads, part = b.dims(x, 3, 4), b.attr("num_heads"), b.attr("rotary_embedding_dim")
    if b.attr("scale") != 1.0:
        b.refuse(f"scale = {b.attr('scale'):g}", "onnxruntime ignores or rejects it: leave it at 1")
    if b.attr("is_packed_batching"):
        b.refuse("packed batching", "export with padded batches")
    half = b.dims(cos, 2)[1]
    if b.shape(sin) != b.shape(cos):
        b.fail("cos_cache and sin_cache differ in shape", list(b.shape(cos)), list(b.shape(sin)))
    if part and not heads:
        b.fail("rotary_embedding_dim is given without num_heads")
    if len(shape) == 4:
        batch, heads, length, depth = shape
    else:
        batch, length, wide = shape
        depth = wide // heads if heads else 2 * half
        heads = wide // depth
        if heads * depth != wide:
            b.fail("the input is not a whole number of heads", f"a multiple of {depth}", wide)
        x = b.reshape(x, (batch, length, heads, depth))
    if half != (part or depth) // 2:
        b.fail("cos_cache does not have half as many columns as are turned", (part or depth) // 2, half)
    places = b.shape(at)
    if places == (1,):
        at = b("Add", at, b.const(list(range(length))))
        at = b.reshape(at, (1, length))
    elif places != (batch, length):
        b.fail("position_ids is neither one number nor one for each row", [batch, length], list(places))
    cos, sin = b("Gather", cos, at, axis=0), b("Gather", sin, at, axis=0)
    y = rotated(b, x, cos, sin, bool(b.attr("interleaved")), len(shape) - 2)
    return b.reshape(y, shape)
