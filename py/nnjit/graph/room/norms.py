"""Rules of normalisations: over growing axes they are written out, with sums of zeros beyond n."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir import Node, Value
from .extent import Axes, Extent
from .lengths import NoRoom
from .maker import Inputs, Maker, rule
from .sums import how_many, only, unknown


def _normal(w: Maker, node: Node, inputs: Inputs, over: Sequence[int]) -> list[Extent]:
    """A normalisation whose statistics are over these axes, which do not grow."""
    x = only(inputs)[0]
    if any(v is not None and v.axes for v in inputs[1:]):
        raise NoRoom("its scale grows")
    if any(axis in x.axes for axis in over):
        raise NoRoom("it normalises over an axis that grows")
    return w.copy(node, inputs, unknown(x.axes))


@rule("LayerNormalization", "RMSNormalization")
def layer_norm(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    rank = only(inputs)[0].rank
    return _normal(w, node, inputs, range(node.attrs.get("axis", -1) % rank, rank))


@rule("LpNormalization", "Hardmax")
def one_axis(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    return _normal(w, node, inputs, [node.attrs.get("axis", -1) % only(inputs)[0].rank])


@rule("InstanceNormalization", "GroupNormalization")
def over_places(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """Over all axes behind the channels, of each channel by itself or of the channels of a group together."""
    x, scale, bias = only(inputs, 3)
    if not set(x.axes) - {0}:
        return w.copy(node, inputs, unknown(x.axes))
    if scale.axes or bias.axes or 1 in x.axes:
        raise NoRoom("its channels grow")
    parts, each = x, [x.shape[1]]
    if node.op == "GroupNormalization":
        parts, each = _in_groups(w, x, node.attrs["num_groups"], scale)
    y = _standard(w, parts, range(2, parts.rank), node.attrs.get("epsilon", 1e-5))
    y = _affine(w, y, scale, bias, [*each, *[1] * (x.rank - 2)])
    if parts is not x:
        y = w.b.reshape(y, x.shape)
    return [w.checked(Extent(w.cast(y, x.dtype), unknown(x.axes)))]


def _in_groups(w: Maker, x: Extent, groups: int, scale: Extent) -> tuple[Extent, list[int]]:
    """x [N, C, ...] as [N, groups, C / groups, ...], and the dims of its scale along groups and channels."""
    size = x.shape[1] // groups
    if scale.shape not in ((groups,), (x.shape[1],)):
        raise NoRoom("its scale is not one for a group or a channel")
    shape = (x.shape[0], groups, size, *x.shape[2:])
    axes: Axes = {axis + (axis > 0): g for axis, g in x.axes.items()}
    return Extent(w.b.reshape(w.data(x), shape), axes), [groups, 1 if scale.shape == (groups,) else size]


def _affine(w: Maker, y: Value, scale: Extent, bias: Extent, shape: Sequence[int]) -> Value:
    """y * scale + bias, both reshaped to `shape`, which broadcasts along y."""
    for op, by in (("Mul", scale), ("Add", bias)):
        y = w.b(op, [y, w.b.reshape(w.cast(w.data(by), y.dtype), shape)])
    return y


def _standard(w: Maker, x: Extent, over: Sequence[int], epsilon: float) -> Value:
    """(x - mean) / sqrt(variance + epsilon), of f32 at least."""
    wide = "f64" if x.dtype == "f64" else "f32"
    growing = [axis for axis in over if axis in x.axes]
    count = how_many(w, x, over, wide)

    def mean(y: Extent) -> Value:
        for axis in growing:
            y = w.clean(y, axis, 0.0, force=len(growing) > 1)
        return w.b("Div", [w.b("ReduceSum", [w.data(y), w.b.const(list(over))], keepdims=1), count])

    value = w.cast(w.data(x), wide)
    axes = x.axes if value.dtype == x.dtype else unknown(x.axes)
    off = w.b("Sub", [value, mean(Extent(value, axes))])
    power = mean(Extent(w.b("Mul", [off, off]), unknown(x.axes)))
    return w.b("Div", [off, w.b("Sqrt", [w.b("Add", [power, w.b.const(np.array(epsilon), wide)])])])


@rule("BatchNormalization")
def batch_norm(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    if node.attrs.get("training_mode", 0):
        raise NoRoom("it normalises over the batch")
    return _normal(w, node, inputs, [1])
