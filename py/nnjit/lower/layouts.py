"""Which memory order a region's output gets: what its anchor, its inputs or its only reader want."""

from __future__ import annotations

from nnjit.graph.ir import Value
from nnjit.lower.layout import Layout
from nnjit.lower.regions import Region
from nnjit.lower.tensors import Tensors


def preferred(r: Region, wanted: Layout | None, tensors: Tensors) -> Layout:
    """The layout of `r.output`, which is not a graph output.

    matmul [b,h,s,d] -> Transpose [b,s,h,d] -> Reshape [b,s,h*d]: matmul writes [b,s,h,d] order at once."""
    out = r.output
    assert out.shape is not None
    if wanted is not None and wanted.shape == out.shape:
        return wanted
    for_reader = _transposed(out)
    if for_reader is not None:
        return for_reader
    if r.kind in ("pointwise", "injective"):
        inherited = _inherited(r, tensors)
        if inherited is not None:
            return inherited
    return Layout.row_major(out.shape)


def _transposed(out: Value) -> Layout | None:
    """If a Transpose is the only reader, the order in which the transposed tensor is row-major."""
    if len(out.users) != 1 or out.users[0].op != "Transpose":
        return None
    n = out.users[0]
    assert out.shape is not None
    perm = list(n.attrs.get("perm") or reversed(range(len(out.shape))))
    return Layout.ordered(out.shape, perm)


def _inherited(r: Region, tensors: Tensors) -> Layout | None:
    """The dense order of the largest input of the same shape, if it is not row-major already."""
    shape = r.output.shape
    for n in r.nodes:
        for v in n.inputs:
            place = tensors.places.get(v) if v is not None else None
            if v is None or place is None or v.shape != shape or place.buffer.constant:
                continue
            order = sorted(range(len(shape or ())), key=lambda d: (-place.layout.strides[d], d))
            return Layout.ordered(shape or (), order)
    return None
