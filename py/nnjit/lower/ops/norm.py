"""Softmax and normalisations: a few stages over the same rows, in one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan, prod

from nnjit.codegen.expr import Expr, Index, acc, axis, cast, compare, const, local, op, select
from nnjit.codegen.spec import Axis, Stage
from nnjit.graph.ir import Node
from nnjit.lower.context import Context
from nnjit.lower.ops.compose import shape_of
from nnjit.lower.ops.linear import accumulate
from nnjit.lower.registry import Computation, Unsupported, computation, injective


def rows_of(shape: Sequence[int], reduced: Sequence[int]) -> tuple[list[Axis], list[Axis], list[Index]]:
    """Shared axes, reduced axes and an element's index, of a tensor normalised over `reduced` dimensions."""
    shared: list[Axis] = []
    own: list[Axis] = []
    idx: list[Index] = []
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
    power = Expr("decay", wide, (shifted,))
    soft = node.op == "Softmax"
    if soft:
        total = keep("total", own, "sum", power, op("div", const(1, wide), acc(wide)))
        value = op("mul", local("term", wide), local("total", wide))
    else:
        total = keep("total", own, "sum", power, Expr("log", wide, (acc(wide),)))
        value = op("sub", shifted, local("total", wide))
    return Computation(
        shared, idx, cast(value, x.dtype), own=own, stages=[top, total], term=power if soft else None,
        name=node.op.lower(),
    )  # fmt: skip


def moments(v: Expr, own: Sequence[Axis], epsilon: float, centre: bool = True) -> list[Stage]:
    """Stages that keep `mean` (if centred) and `scale` = 1 / sqrt(variance + epsilon)."""
    n, dtype = prod(a.extent for a in own), v.dtype
    stages = []
    if centre:
        stages.append(keep("mean", own, "sum", v, op("mul", acc(dtype), _share(n, dtype))))
        v = op("sub", v, local("mean", dtype))
    variance = op("mul", acc(dtype), _share(n, dtype))
    root = Expr("sqrt", dtype, (op("add", variance, const(epsilon, dtype)),))
    stages.append(keep("scale", own, "sum", op("mul", v, v), op("div", const(1, dtype), root)))
    return stages


def _share(n: int, dtype: str) -> Expr:
    """1 / n, by which a sum is a mean; the mean of nothing is NaN, as numpy has it."""
    return const(1 / n if n else nan, dtype)


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


@computation("GroupNormalization")
def group_norm(ctx: Context, node: Node, out: int) -> Computation:
    """Each group of channels of each image by its own mean and variance; scale and bias of each channel."""
    x = node.inputs[0]
    n, channels, *rest = shape_of(x)
    assert x is not None
    groups = node.attrs["num_groups"]
    if shape_of(node.inputs[1]) != (channels,):
        raise Unsupported("GroupNormalization with a scale for each group")
    per = channels // groups
    own = [Axis("c", per)] + [Axis(f"r{d}", e) for d, e in enumerate(rest)]
    channel = Index(0, {"g": per, "c": 1})
    idx = [Index.of("b"), channel, *(Index.of(f"r{d}") for d in range(len(rest)))]
    wide = accumulate(x.dtype)
    v = cast(ctx.read(x, idx), wide)
    stages = moments(v, own, node.attrs.get("epsilon", 1e-5))
    y = op("mul", op("sub", v, local("mean", wide)), local("scale", wide))
    y = op("mul", y, cast(ctx.read(node.inputs[1], [channel]), wide))
    y = op("add", y, cast(ctx.read(node.inputs[2], [channel]), wide))
    shared = [Axis("b", n), Axis("g", groups)]
    return Computation(shared, idx, cast(y, x.dtype), own=own, stages=stages, name="group_norm")


@computation("MeanVarianceNormalization")
def mean_variance(ctx: Context, node: Node, out: int) -> Computation:
    """(x - mean) / (standard deviation + 1e-9) over `axes`."""
    x = node.inputs[0]
    shape = shape_of(x)
    assert x is not None
    reduced = {a % len(shape) for a in node.attrs.get("axes", [0, 2, 3])}
    shared, own, idx = rows_of(shape, sorted(reduced))
    wide = accumulate(x.dtype)
    v = cast(ctx.read(x, idx), wide)
    n = prod(a.extent for a in own)
    mean = keep("mean", own, "sum", v, op("mul", acc(wide), _share(n, wide)))
    centred = op("sub", v, local("mean", wide))
    deviation = Expr("sqrt", wide, (op("mul", acc(wide), _share(n, wide)),))
    scale = op("div", const(1, wide), op("add", deviation, const(1e-9, wide)))
    stages = [mean, keep("scale", own, "sum", op("mul", centred, centred), scale)]
    value = cast(op("mul", centred, local("scale", wide)), x.dtype)
    return Computation(shared, idx, value, own=own, stages=stages, name="mean_variance")


@computation("LpNormalization")
def lp_normalization(ctx: Context, node: Node, out: int) -> Computation:
    """x / (sum |x|^p)^(1/p) along `axis`; 0 where that norm is 0."""
    x = node.inputs[0]
    shape = shape_of(x)
    assert x is not None
    shared, own, idx = rows_of(shape, [node.attrs.get("axis", -1) % len(shape)])
    wide = accumulate(x.dtype)
    v = cast(ctx.read(x, idx), wide)
    square = node.attrs.get("p", 2) == 2
    body = op("mul", v, v) if square else Expr("abs", wide, (v,))
    norm = Expr("sqrt", wide, (acc(wide),)) if square else acc(wide)
    nothing = compare("eq", local("norm", wide), const(0, wide))
    value = select(nothing, const(0, wide), op("div", v, local("norm", wide)))
    stages = [keep("norm", own, "sum", body, norm)]
    return Computation(shared, idx, cast(value, x.dtype), own=own, stages=stages, name="lp_norm")


@computation("LRN")
def local_response(ctx: Context, node: Node, out: int) -> Computation:
    """x / (bias + alpha / size * sum of the squares of `size` neighbouring channels)^beta."""
    x = node.inputs[0]
    shape = shape_of(x)
    assert x is not None
    size = node.attrs["size"]
    axes, idx = ctx.axes(shape)
    wide = accumulate(x.dtype)
    near = list(idx)
    near[1] = idx[1] + Index(-((size - 1) // 2), {"j": 1})
    neighbour = cast(ctx.read_padded(x, near, [(near[1], shape[1])], const(0, x.dtype)), wide)
    scaled = op("mul", acc(wide), const(node.attrs.get("alpha", 1e-4) / size, wide))
    base = op("add", scaled, const(node.attrs.get("bias", 1.0), wide))
    power = op("pow", base, const(node.attrs.get("beta", 0.75), wide))
    value = op("div", cast(ctx.read(x, idx), wide), power)
    return Computation(
        axes, idx, cast(value, x.dtype), reduce=[Axis("j", size)], combine="sum",
        body=op("mul", neighbour, neighbour), name="lrn",
    )  # fmt: skip


@computation("Hardmax")
def hardmax(ctx: Context, node: Node, out: int) -> Computation:
    """1 at the first largest element of each row, 0 elsewhere."""
    x = node.inputs[0]
    shape = shape_of(x)
    assert x is not None
    d = node.attrs.get("axis", -1) % len(shape)
    shared, own, idx = rows_of(shape, [d])
    v = ctx.read(x, idx)
    top = keep("top", own, "max", v, acc(x.dtype))
    place = axis(own[0].name)
    here = compare("eq", v, local("top", x.dtype))
    first = keep("first", own, "min", select(here, place, const(2**31 - 1, "i32")), acc("i32"))
    value = select(compare("eq", place, local("first", "i32")), const(1, x.dtype), const(0, x.dtype))
    return Computation(shared, idx, value, own=own, stages=[top, first], name="hardmax")


@injective("BatchNormalization")
def batch_norm(ctx: Context, node: Node, idx: Sequence[Index]) -> Expr:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias by channel, for what no convolution took up."""
    if len([v for v in node.outputs if v.name]) > 1 or node.attrs.get("training_mode", 0):
        raise Unsupported("BatchNormalization in training mode")
    x = node.inputs[0]
    assert x is not None
    wide = accumulate(x.dtype)
    channel = [idx[1] if len(idx) > 1 else Index()]
    scale, bias, mean, variance = (cast(ctx.read(v, channel), wide) for v in node.inputs[1:5])
    root = Expr("sqrt", wide, (op("add", variance, const(node.attrs.get("epsilon", 1e-5), wide)),))
    factor = op("div", scale, root)
    y = op("mul", op("sub", cast(ctx.read(x, idx), wide), mean), factor)
    return cast(op("add", y, bias), x.dtype)
