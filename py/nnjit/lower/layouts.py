"""Which memory order a region's output gets: what its anchor, its inputs or its only reader want."""

from __future__ import annotations

from math import prod

from nnjit.graph.ir import Value
from nnjit.lower.layout import Layout
from nnjit.lower.regions import Region
from nnjit.lower.registry import Computation, kind
from nnjit.lower.tensors import Tensors

IN_ORDER = frozenset(
    {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "Resize", "Concat", "Pad"}
)
"""What reads images in whatever order convolutions write them."""
CHANNELS = 8
"""Channels from which a convolution wants them side by side."""


def preferred(r: Region, c: Computation, tensors: Tensors) -> Layout:
    """The layout of `r.output`, which is not a graph output.

    matmul [b,h,s,d] -> Transpose [b,s,h,d] -> Reshape [b,s,h*d]: matmul writes [b,s,h,d] order at once."""
    out = r.output
    assert out.shape is not None
    if c.layout is not None and c.layout.shape == out.shape:
        return c.layout
    for_reader = transposed_reader(out)
    if for_reader is not None:
        return for_reader
    if _for_convolution(out):
        return Layout.channels_last(out.shape)
    if c.body is None:  # no contraction: elements go where those they come from are
        inherited = _inherited(r, tensors)
        if inherited is not None:
            return inherited
    return Layout.row_major(out.shape)


def _for_convolution(out: Value) -> bool:
    """Whether all readers are convolutions over several channels, which would copy any other order."""
    shape = out.shape or ()
    readers = {u.op for u in out.users} == {"Conv"} and all(u.inputs[0] is out for u in out.users)
    return readers and len(shape) > 2 and shape[1] >= CHANNELS


def other_readers(out: Value) -> bool:
    """Whether channels and places are read by something that may like another order than convolutions do."""
    shape = out.shape or ()
    if len(shape) < 3 or shape[1] < 2 or prod(shape[2:]) < 2:
        return False
    return any(n.op not in IN_ORDER and kind(n) != "pointwise" for n in out.users)


def transposed_reader(out: Value) -> Layout | None:
    """If a Transpose is the only reader, the order in which the transposed tensor is row-major."""
    if len(out.users) != 1 or out.users[0].op != "Transpose":
        return None
    n = out.users[0]
    assert out.shape is not None
    perm = list(n.attrs.get("perm") or reversed(range(len(out.shape))))
    return Layout.ordered(out.shape, perm)


def _inherited(r: Region, tensors: Tensors) -> Layout | None:
    """The dimension order of the largest input of the same rank: a resized or padded image stays channels-last."""
    shape = r.output.shape or ()
    best, size = None, 0
    for n in r.nodes:
        for v in n.inputs:
            place = tensors.places.get(v) if v is not None else None
            if v is None or place is None or place.buffer.constant or v.shape is None:
                continue
            if len(v.shape) == len(shape) and (v.size or 0) > size:
                best, size = place.layout, v.size or 0
    if best is None:
        return None
    # dimensions of extent 1 or stride 0 (broadcast) say nothing: they keep their row-major place
    strides = Layout.row_major(shape).strides
    known = [d for d in range(len(shape)) if best.shape[d] != 1 and best.strides[d] != 0]
    ranked = iter(sorted(known, key=lambda d: (-best.strides[d], d)))
    order = [next(ranked) if d in known else d for d in sorted(range(len(shape)), key=lambda d: -strides[d])]
    return Layout.ordered(shape, order)
