"""Reads at places known only at run time: gathers, one-hot, masks by position, reversal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnjit.codegen.expr import Expr, Index, axis, cast, compare, const, op, select
from nnjit.errors import InvalidGraph
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.ops.compose import shape_of
from nnjit.lower.registry import injective, view


def wrapped(i: Expr, extent: int) -> Expr:
    """A run-time index, which counts from the end if it is negative, as an i32 from 0 on."""
    at = cast(i, "i32")
    if i.dtype[0] == "u":
        return at
    return select(compare("lt", at, const(0, "i32")), op("add", at, const(extent, "i32")), at)


def within(node: Node, indices: Value | None, extents: Sequence[int]) -> bool:
    """Whether indices are known to lie inside of `extents` (one for all, or one for each place along the last axis).
    InvalidGraph where a constant has one that does not: ONNX has it as an error."""
    array = indices.const.array if indices is not None and indices.const is not None else None
    if array is None:
        return False
    last = np.array(extents, np.int64)
    wrong = np.argwhere((array < -last) | (array >= last))
    if len(wrong):
        at = tuple(wrong[0])
        n = extents[at[-1] if len(extents) > 1 else 0]
        raise InvalidGraph(
            f"node {node.name!r}: {node.op} asks for element {array[at]} of an axis that has {n}",
            hint="indices run from minus the length of the axis to one less than that length",
            node=node.name,
            op=node.op,
            value=indices.name if indices is not None else None,
        )
    return True


def gathered(i: Expr, extent: int, known: bool = False) -> Index:
    """A run-time index, with ONNX's negative values, as an Index: brought inside unless it is `known` to be, so that
    nothing but the tensor is read whatever a model is fed."""
    if i.op == "const":
        return Index(int(i.attr) % extent if extent else 0)
    at = wrapped(i, extent)
    return Index(0, ((at if known else bounded(at, extent), 1),))


def bounded(at: Expr, extent: int) -> Expr:
    """An i32 from 0 to extent - 1."""
    last = const(max(0, extent - 1), "i32")
    return op("max", op("min", at, last), const(0, "i32"))


def _single_constant(node: Node) -> bool:
    indices = node.inputs[1]
    return indices is not None and indices.const is not None and indices.shape == ()


@view("Gather", when=_single_constant)
def select_one(node: Node, x: Layout) -> Layout:
    """A constant scalar index picks a slice."""
    indices = node.inputs[1]
    assert indices is not None and indices.const is not None
    d = node.attrs.get("axis", 0) % len(x.shape)
    within(node, indices, [x.shape[d]])
    one = x.sliced(d, int(indices.const.numpy()) % x.shape[d], 1, 1)
    keep = [n for n in range(len(x.shape)) if n != d]
    return one.permuted(keep)


@injective("Gather")
def gather(ctx: Context, node: Node, idx: Sequence[Index]) -> Expr:
    """y[..., i, ...] = x[..., indices[i], ...]."""
    x, indices = node.inputs[0], node.inputs[1]
    shape, rank = shape_of(x), len(shape_of(indices))
    d = node.attrs.get("axis", 0) % len(shape)
    known = within(node, indices, [shape[d]])
    at = gathered(ctx.read(indices, idx[d : d + rank]), shape[d], known)
    return ctx.read(x, [*idx[:d], at, *idx[d + rank :]])


@injective("GatherElements")
def gather_elements(ctx: Context, node: Node, idx: Sequence[Index]) -> Expr:
    """y[i, j] = x[indices[i, j], j] along axis 0, and so on."""
    shape = shape_of(node.inputs[0])
    d = node.attrs.get("axis", 0) % len(shape)
    at = list(idx)
    known = within(node, node.inputs[1], [shape[d]])
    at[d] = gathered(ctx.read(node.inputs[1], idx), shape[d], known)
    return ctx.read(node.inputs[0], at)


@injective("GatherND")
def gather_nd(ctx: Context, node: Node, idx: Sequence[Index]) -> Expr:
    """y[b, i, ...] = x[b, indices[b, i, 0], indices[b, i, 1], ..., ...] b: `batch_dims` dimensions."""
    shape, of = shape_of(node.inputs[0]), shape_of(node.inputs[1])
    batch, outer, depth = node.attrs.get("batch_dims", 0), len(of) - 1, of[-1]
    at = list(idx[:batch])
    known = within(node, node.inputs[1], shape[batch : batch + depth])
    for n in range(depth):
        at.append(gathered(ctx.read(node.inputs[1], [*idx[:outer], Index(n)]), shape[batch + n], known))
    return ctx.read(node.inputs[0], at + list(idx[outer:]))


@injective("OneHot")
def one_hot(ctx: Context, node: Node, idx: Sequence[Index]) -> Expr:
    """values[1] where the position along `axis` is the index, values[0] elsewhere."""
    shape = shape_of(node.outputs[0])
    d = node.attrs.get("axis", -1) % len(shape)
    wanted = ctx.read(node.inputs[0], [i for n, i in enumerate(idx) if n != d])
    if wanted.dtype not in ("i64", "i32"):
        wanted = cast(wanted, "i64")  # a float index is truncated
    extent, zero = const(shape[d], wanted.dtype), const(0, wanted.dtype)
    wanted = select(compare("lt", wanted, zero), op("add", wanted, extent), wanted)
    here = compare("eq", wanted, axis(idx[d], wanted.dtype))
    off, on = (ctx.read(node.inputs[2], [Index(n)]) for n in (0, 1))
    return select(here, on, off)


@injective("Trilu")
def trilu(ctx: Context, node: Node, idx: Sequence[Index]) -> Expr:
    """The upper triangle from diagonal k on, or the lower one up to it; 0 elsewhere."""
    x = node.inputs[0]
    assert x is not None
    k: Expr = const(0, "i32")
    given = node.input(1)
    if given is not None:
        k = cast(ctx.read(given, [Index()] * len(shape_of(given))), "i32")
    offset = op("sub", axis(idx[-1]), axis(idx[-2]))
    kept = compare("ge" if node.attrs.get("upper", 1) else "le", offset, k)
    return select(kept, ctx.read(x, idx), const(0, x.dtype))


@injective("EyeLike")
def eye_like(ctx: Context, node: Node, idx: Sequence[Index]) -> Expr:
    """1 on diagonal k, 0 elsewhere."""
    dtype = node.outputs[0].dtype
    on = compare("eq", op("sub", axis(idx[1]), axis(idx[0])), const(node.attrs.get("k", 0), "i32"))
    return select(on, const(1, dtype), const(0, dtype))


@injective("ReverseSequence")
def reverse_sequence(ctx: Context, node: Node, idx: Sequence[Index]) -> Expr:
    """The first lengths[b] steps of each batch entry in reverse order, the rest as it is."""
    time, batch = node.attrs.get("time_axis", 0), node.attrs.get("batch_axis", 1)
    length = cast(ctx.read(node.inputs[1], [idx[batch]]), "i32")
    length = op("min", length, const(shape_of(node.inputs[0])[time], "i32"))
    t = axis(idx[time])
    mirrored = op("sub", op("sub", length, const(1, "i32")), t)
    at = list(idx)
    at[time] = Index(0, ((select(compare("lt", t, length), mirrored, t), 1),))
    return ctx.read(node.inputs[0], at)
