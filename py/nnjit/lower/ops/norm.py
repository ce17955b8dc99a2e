"""Softmax and normalisations: a few stages over the same rows, in one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from nnjit.codegen.expr import Expr, Index, acc, cast, const, local, op
from nnjit.codegen.spec import Axis, Stage
from nnjit.graph.ir import Node
from nnjit.lower.context import Context
from nnjit.lower.ops.linear import accumulate
from nnjit.lower.registry import Computation, computation


def rows_of(shape: Sequence[int], reduced: Sequence[int]) -> tuple[list[Axis], list[Axis], list[Index]]:
    """Shared axes, reduced axes and an element's index, of a tensor normalised over `reduced` dimensions."""
    shared, own, idx = [], [], []
    for d, n in enumerate(shape):
        if n == 1:
            idx.append(Index())
            continue
        name = f"r{d}" if d in reduced else f"i{d}"
        (own if d in reduced else shared).append(Axis(name, n))
        idx.append(Index.of(name))
    if not own:
        own.append(Axis("r", 1))
    return shared, own, idx


def keep(name: str, reduce: Sequence[Axis], combine: str, body: Expr, result: Expr) -> Stage:
    """A stage whose reduction stays in a local for the stages after it."""
    return Stage((), tuple(reduce), combine, body, result, keep=name)


@computation("Softmax", "LogSoftmax")
def softmax(ctx: Context, node: Node, out: int) -> Computation:
    """e^(x - max) / sum e^(x - max); the logarithm of it is x - max - ln sum."""
    x = node.inputs[0]
    assert x is not None and x.shape is not None
    axis = node.attrs.get("axis", -1) % len(x.shape)
    shared, own, idx = rows_of(x.shape, [axis])
    wide = accumulate(x.dtype)
    v = cast(ctx.read(x, idx), wide)
    top = keep("top", own, "pmax", v, acc(wide))
    shifted = op("sub", v, local("top", wide))
    power = Expr("exp", wide, (shifted,))
    if node.op == "Softmax":
        total = keep("total", own, "sum", power, op("div", const(1, wide), acc(wide)))
        value = op("mul", power, local("total", wide))
    else:
        total = keep("total", own, "sum", power, Expr("log", wide, (acc(wide),)))
        value = op("sub", shifted, local("total", wide))
    return Computation(shared, idx, cast(value, x.dtype), own=own, stages=[top, total], name=node.op.lower())


def moments(v: Expr, own: Sequence[Axis], epsilon: float, centre: bool = True) -> list[Stage]:
    """Stages that keep `mean` (if centred) and `scale` = 1 / sqrt(variance + epsilon)."""
    n, dtype = prod(a.extent for a in own), v.dtype
    stages = []
    if centre:
        stages.append(keep("mean", own, "sum", v, op("mul", acc(dtype), const(1 / n, dtype))))
        v = op("sub", v, local("mean", dtype))
    variance = op("mul", acc(dtype), const(1 / n, dtype))
    root = Expr("sqrt", dtype, (op("add", variance, const(epsilon, dtype)),))
    stages.append(keep("scale", own, "sum", op("mul", v, v), op("div", const(1, dtype), root)))
    return stages


@computation("LayerNormalization", "RMSNormalization")
def layer_norm(ctx: Context, node: Node, out: int) -> Computation:
    """(x - mean) / sqrt(variance + epsilon) * weight + bias over the last dimensions, from `axis` on.

    RMSNormalization leaves out the mean and the bias. Outputs 1 and 2 are the mean and 1/sqrt(...)."""
    x = node.inputs[0]
    assert x is not None and x.shape is not None
    rank = len(x.shape)
    axis = node.attrs.get("axis", -1) % rank
    shared, own, idx = rows_of(x.shape, range(axis, rank))
    wide = accumulate(x.dtype)
    v = cast(ctx.read(x, idx), wide)
    centre = node.op == "LayerNormalization"
    stages = moments(v, own, node.attrs.get("epsilon", 1e-5), centre)
    if out > 0:
        at = [i if d < axis else Index() for d, i in enumerate(idx)]
        value = local("mean" if out == 1 else "scale", wide)
        return Computation(shared, at, cast(value, node.outputs[out].dtype), stages=stages, name="moments")
    y = op("sub", v, local("mean", wide)) if centre else v
    y = op("mul", y, local("scale", wide))
    y = op("mul", y, cast(ctx.broadcast(node.inputs[1], idx, x.shape), wide))
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        y = op("add", y, cast(ctx.broadcast(bias, idx, x.shape), wide))
    return Computation(
        shared, idx, cast(y, node.outputs[0].dtype), own=own, stages=stages, name=node.op.lower()
    )


@computation("InstanceNormalization")
def instance_norm(ctx: Context, node: Node, out: int) -> Computation:
    """Each channel of each image by its own mean and variance."""
    x = node.inputs[0]
    assert x is not None and x.shape is not None
    shared, own, idx = rows_of(x.shape, range(2, len(x.shape)))
    wide = accumulate(x.dtype)
    v = cast(ctx.read(x, idx), wide)
    stages = moments(v, own, node.attrs.get("epsilon", 1e-5))
    y = op("mul", op("sub", v, local("mean", wide)), local("scale", wide))
    y = op("mul", y, cast(ctx.read(node.inputs[1], [idx[1]]), wide))
    y = op("add", y, cast(ctx.read(node.inputs[2], [idx[1]]), wide))
    return Computation(shared, idx, cast(y, x.dtype), own=own, stages=stages, name="instance_norm")
