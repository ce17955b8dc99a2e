"""Reductions over any axes, arg-max and pooling windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod

from nnjit.codegen.dtypes import FLOATS, LIMITS
from nnjit.codegen.expr import Expr, Index, acc, axis, cast, compare, const, local, op, select
from nnjit.codegen.spec import Axis
from nnjit.graph.ir import Node
from nnjit.lower.context import Context
from nnjit.lower.ops.compose import const_ints
from nnjit.lower.ops.linear import accumulate
from nnjit.lower.ops.norm import keep
from nnjit.lower.registry import Computation, Unsupported, computation


def reduced_axes(node: Node) -> list[int] | None:
    """Normalised axes of a Reduce* node; None if it is the identity (no axes and noop_with_empty_axes)."""
    x = node.inputs[0]
    assert x is not None and x.shape is not None
    given = const_ints(node.input(1)) if len(node.inputs) > 1 and node.inputs[1] is not None else None
    if given is None:
        given = list(node.attrs.get("axes") or [])
    if not given:
        return None if node.attrs.get("noop_with_empty_axes", 0) else list(range(len(x.shape)))
    return sorted(a % len(x.shape) for a in given)


def split_axes(
    shape: Sequence[int], reduced: Sequence[int]
) -> tuple[list[Axis], list[Axis], list[Index], list[Index]]:
    """Kept axes, reduced axes, the input index, the output index with reduced dimensions as 1."""
    kept, gone, idx, at = [], [], [], []
    for d, n in enumerate(shape):
        name = f"r{d}" if d in reduced else f"i{d}"
        i = Index.of(name)
        if d in reduced:
            gone.append(Axis(name, n))
            at.append(Index())
        else:
            kept.append(Axis(name, n))
            at.append(i)
        idx.append(i)
    return kept, gone, idx, at


REDUCE = {
    "ReduceSum": "sum", "ReduceMean": "sum", "ReduceMax": "max", "ReduceMin": "min", "ReduceProd": "prod",
    "ReduceL1": "sum", "ReduceL2": "sum", "ReduceSumSquare": "sum", "ReduceLogSum": "sum",
}  # fmt: skip


@computation(*REDUCE)
def reduce(ctx: Context, node: Node, out: int) -> Computation:
    """combine over the reduced axes of |x|, x^2 or x; then the root, logarithm or mean of that."""
    x = node.inputs[0]
    assert x is not None and x.shape is not None
    reduced = reduced_axes(node)
    kept, gone, idx, at = split_axes(x.shape, reduced or [])
    if not node.attrs.get("keepdims", 1):
        at = [i for d, i in enumerate(at) if d not in (reduced or [])]
    wide = accumulate(x.dtype)
    v = cast(ctx.read(x, idx), wide)
    if node.op == "ReduceL1":
        v = Expr("abs", wide, (v,))
    elif node.op in ("ReduceL2", "ReduceSumSquare"):
        v = op("mul", v, v)
    combine = REDUCE[node.op]
    if wide == "bool":
        combine = {"max": "any", "min": "all"}[combine]
    name, count = node.op.lower(), prod(a.extent for a in gone)
    if not gone or count == 0:
        # nothing to reduce over is the term itself, no terms at all is what a reduction starts from
        return Computation(kept, at, cast(_finished(node, v if not gone else _nothing(combine, wide), count), x.dtype),
                           name=name)  # fmt: skip
    value = cast(_finished(node, acc(wide), count), x.dtype)
    return Computation(kept, at, value, reduce=gone, combine=combine, body=v, name=name)


def _finished(node: Node, total: Expr, count: int) -> Expr:
    """The result from the reduction over `count` terms."""
    wide = total.dtype
    if node.op == "ReduceMean":
        if wide in ("f32", "f16", "bf16") and count:
            return op("mul", total, const(1 / count, wide))
        return op("div", total, const(count, wide))
    if node.op in ("ReduceL2", "ReduceLogSum"):
        name = "sqrt" if node.op == "ReduceL2" else "log"
        if wide in FLOATS:
            return Expr(name, wide, (total,))
        return cast(Expr(name, "f32", (cast(total, "f32"),)), wide)
    return total


def _nothing(combine: str, dtype: str) -> Expr:
    """The reduction of no terms."""
    if combine in ("any", "all", "sum", "prod"):
        return const(combine in ("all", "prod"), dtype)
    low, high = LIMITS.get(dtype, (-math.inf, math.inf))
    return const(low if combine == "max" else high, dtype)


@computation("ReduceLogSumExp")
def log_sum_exp(ctx: Context, node: Node, out: int) -> Computation:
    """max + ln sum e^(x - max), from 0 instead of an infinite maximum: an infinity has no distance from itself."""
    x = node.inputs[0]
    assert x is not None and x.shape is not None
    reduced = reduced_axes(node)
    if not reduced:
        raise Unsupported("a reduction over no axes")
    kept, gone, idx, at = split_axes(x.shape, reduced)
    if any(a.extent == 0 for a in gone):
        raise Unsupported("a reduction over an empty axis")
    wide = accumulate(x.dtype)
    v = cast(ctx.read(x, idx), wide)
    top = keep("top", gone, "max", v, acc(wide))
    size = Expr("abs", wide, (local("top", wide),))
    start = select(compare("lt", size, const(math.inf, wide)), local("top", wide), const(0, wide))
    body = Expr("exp", wide, (op("sub", v, start),))
    value = op("add", Expr("log", wide, (acc(wide),)), start)
    if not node.attrs.get("keepdims", 1):
        at = [i for d, i in enumerate(at) if d not in reduced]
    return Computation(
        kept,
        at,
        cast(value, x.dtype),
        stages=[top],
        reduce=gone,
        combine="sum",
        body=body,
        name="log_sum_exp",
    )


@computation("ArgMax", "ArgMin")
def arg_extreme(ctx: Context, node: Node, out: int) -> Computation:
    """The extreme first, then the smallest (or, with select_last_index, largest) place that has it."""
    x = node.inputs[0]
    assert x is not None and x.shape is not None
    d = node.attrs.get("axis", 0) % len(x.shape)
    if x.shape[d] == 0 or x.dtype == "bool":
        raise Unsupported(f"{node.op} over an empty axis" if x.dtype != "bool" else f"{node.op} of bool")
    kept, gone, idx, at = split_axes(x.shape, [d])
    v = ctx.read(x, idx)
    # a NaN is no extreme; of a row that has nothing else, the place is at one end
    extreme = ("p" if v.dtype in FLOATS else "") + ("max" if node.op == "ArgMax" else "min")
    top = keep("top", gone, extreme, v, acc(v.dtype))
    last = node.attrs.get("select_last_index", 0)
    here = compare("eq", v, local("top", v.dtype))
    body = select(here, axis(f"r{d}"), const(-1 if last else LIMITS["i32"][1], "i32"))
    if not node.attrs.get("keepdims", 1):
        at = [i for n, i in enumerate(at) if n != d]
    end = (
        op("max", acc("i32"), const(0, "i32"))
        if last
        else op("min", acc("i32"), const(x.shape[d] - 1, "i32"))
    )
    return Computation(
        kept, at, cast(end, "i64"), stages=[top], reduce=gone, combine="max" if last else "min",
        body=body, name=node.op.lower(),
    )  # fmt: skip
