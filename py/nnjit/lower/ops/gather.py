"""Reads at places known only at run time: gathers, one-hot, masks by position, reversal."""

from __future__ import annotations

from collections.abc import Sequence

from nnjit.codegen.expr import Expr, Index, axis, cast, compare, const, op, select
from nnjit.graph.ir import Node
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


def gathered(i: Expr, extent: int) -> Index:
    """A run-time index, with ONNX's negative values, as an Index."""
    if i.op == "const":
        return Index(int(i.attr) % extent if extent else 0)
    return Index(0, ((wrapped(i, extent), 1),))


def _single_constant(node: Node) -> bool:
    indices = node.inputs[1]
    return indices is not None and indices.const is not None and indices.shape == ()


@view("Gather", when=_single_constant)
def select_one(node: Node, x: Layout) -> Layout:
    """A constant scalar index picks a slice."""
    indices = node.inputs[1]
    assert indices is not None and indices.const is not None
    d = node.attrs.get("axis", 0) % len(x.shape)
    one = x.sliced(d, int(indices.const.numpy()) % x.shape[d], 1, 1)
    keep = [n for n in range(len(x.shape)) if n != d]
    return one.permuted(keep)


@injective("Gather")
def gather(ctx: Context, node: Node, idx: Sequence[Index]) -> Expr:
    """y[..., i, ...] = x[..., indices[i], ...]."""
    x, indices = node.inputs[0], node.inputs[1]
    shape, rank = shape_of(x), len(shape_of(indices))
    d = node.attrs.get("axis", 0) % len(shape)
    at = gathered(ctx.read(indices, idx[d : d + rank]), shape[d])
    return ctx.read(x, [*idx[:d], at, *idx[d + rank :]])


@injective("GatherElements")
def gather_elements(ctx: Context, node: Node, idx: Sequence[Index]) -> Expr:
    """y[i, j] = x[indices[i, j], j] along axis 0, and so on."""
    shape = shape_of(node.inputs[0])
    d = node.attrs.get("axis", 0) % len(shape)
    at = list(idx)
    at[d] = gathered(ctx.read(node.inputs[1], idx), shape[d])
    return ctx.read(node.inputs[0], at)


@injective("GatherND")
def gather_nd(ctx: Context, node: Node, idx: Sequence[Index]) -> Expr:
    """y[b, i, ...] = x[b, indices[b, i, 0], indices[b, i, 1], ..., ...] b: `batch_dims` dimensions."""
    shape, of = shape_of(node.inputs[0]), shape_of(node.inputs[1])
    batch, outer, depth = node.attrs.get("batch_dims", 0), len(of) - 1, of[-1]
    at = list(idx[:batch])
    for n in range(depth):
        at.append(gathered(ctx.read(node.inputs[1], [*idx[:outer], Index(n)]), shape[batch + n]))
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
    t = axis(idx[time])
    mirrored = op("sub", op("sub", length, const(1, "i32")), t)
    at = list(idx)
    at[time] = Index(0, ((select(compare("lt", t, length), mirrored, t), 1),))
    return ctx.read(node.inputs[0], at)
