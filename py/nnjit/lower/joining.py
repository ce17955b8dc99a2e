"""Concat and Pad without copies: a kernel whose result only one of them reads writes it where the larger tensor has it.

Takes the value a kernel is about to make and the memory order it would get; returns its place in the larger tensor's
buffer, made with the first of its parts, or None where it needs a buffer of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.wasm.target import Target
from nnjit.graph.ir import Node, Value
from nnjit.lower.layout import Layout
from nnjit.lower.ops.compose import shape_of
from nnjit.lower.ops.pad import pads_of
from nnjit.lower.registry import Unsupported, kind
from nnjit.lower.tensors import Place

if TYPE_CHECKING:
    from nnjit.lower.build import Build


def place_in_reader(build: Build, value: Value, layout: Layout, once: bool) -> Place | None:
    """See the module. Parts in another order, and small ones that come first, are copied by the reader."""
    if len(value.users) != 1 or value in build.outputs:
        return None
    node = value.users[0]
    if node.op not in ("Concat", "Pad") or node.once != once or kind(node) != "composite":
        return None
    if SIZES[value.dtype] < 4 and not isinstance(build.target, Target):
        return None  # a shader stores whole words: what shares one with another part it cannot
    begins = begins_of(node, value)
    whole, shape = node.outputs[0], shape_of(node.outputs[0])
    if begins is None or 0 in shape or whole.dtype != value.dtype:
        return None
    order = sorted(range(len(shape)), key=lambda d: (-layout.strides[d], d))
    joined = Layout.ordered(shape, order)
    if whole in build.outputs and joined != Layout.row_major(shape):
        return None
    have = build.tensors.places.get(whole)
    if have is None:
        if 2 * (value.size or 0) < max(v.size or 0 for v in node.inputs if v is not None):
            return None
        build.buffer(whole, joined, once)
    elif have.layout != joined:
        return None
    buffer, joined = build.tensors.place(whole)
    for d, (begin, extent) in enumerate(zip(begins, shape_of(value), strict=True)):
        joined = joined.sliced(d, begin, 1, extent)
    return Place(buffer, joined)


def begins_of(node: Node, value: Value) -> list[int] | None:
    """Where the value begins in the larger tensor, a number for each dimension; None if some of it is cut off, or if
    only a run knows."""
    if node.op == "Pad":
        try:
            pads = pads_of(node)
        except Unsupported:
            return None
        cut = value is not node.inputs[0] or any(p < 0 for pair in pads for p in pair)
        return None if cut else [before for before, _ in pads]
    begins = [0] * len(shape_of(value))
    d = node.attrs["axis"] % len(begins)
    begins[d] = sum(shape_of(v)[d] for v in node.inputs[: node.inputs.index(value)])
    return begins
