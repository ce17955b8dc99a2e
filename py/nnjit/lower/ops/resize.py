"""Resize: each resized dimension is a table, made while lowering, of the source elements and their weights.

nearest is one kernel; linear and cubic (with or without antialias) are one small reduction a dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nnjit.codegen.dtypes import FLOATS
from nnjit.codegen.expr import Expr, Index, acc, cast, compare, const, op, select
from nnjit.codegen.spec import Axis
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.ops.compose import compute, constant, output, shape_of, temporary
from nnjit.lower.ops.linear import accumulate
from nnjit.lower.ops.pointwise import text
from nnjit.lower.registry import Computation, Unsupported, composite, computation

if TYPE_CHECKING:
    from nnjit.lower.build import Build

Array = Any


@dataclass(frozen=True)
class Taps:
    """Output o = sum over t of weights[o, t] * input[index[o, t]], or a fixed value where `outside`."""

    index: Array
    weights: Array
    outside: Array


def _is_nearest(node: Node) -> bool:
    return text(node, "mode", "nearest") == "nearest" and _transform(node) != "tf_crop_and_resize"


def _transform(node: Node) -> str:
    return text(node, "coordinate_transformation_mode", "half_pixel")


def _constant(v: Value | None) -> Array | None:
    if v is None or v.shape == (0,):
        return None
    if v.const is None:
        raise Unsupported(f"{v.name} is computed at run time")
    return v.const.numpy().astype(np.float64)


def resized(node: Node) -> dict[int, Taps]:
    """The dimensions that change, each with its table."""
    x, y = shape_of(node.inputs[0]), shape_of(node.outputs[0])
    roi, scales, sizes = (_constant(node.input(n)) for n in (1, 2, 3))
    axes = [a % len(x) for a in node.attrs.get("axes") or range(len(x))]
    if 0 in x or 0 in y:
        raise Unsupported("Resize of an empty tensor")
    if scales is not None:
        factors = dict(zip(axes, scales, strict=True))
    else:
        assert sizes is not None
        factors = {d: n / x[d] for d, n in zip(axes, sizes, strict=True)}
        policy = text(node, "keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            both = min(factors.values()) if policy == "not_larger" else max(factors.values())
            factors = dict.fromkeys(axes, both)
    out = {}
    for n, d in enumerate(axes):
        crop = (roi[n], roi[len(axes) + n]) if roi is not None else (0.0, 1.0)
        same = y[d] == x[d] and abs(factors[d] - 1) < 1e-9
        if not same or (_transform(node) == "tf_crop_and_resize" and crop != (0.0, 1.0)):
            out[d] = taps(node, x[d], y[d], float(factors[d]), crop)
    return out


def taps(node: Node, n: int, count: int, scale: float, crop: tuple[float, float]) -> Taps:
    """The table of one dimension, from `n` to `count` elements."""
    at, outside = _coordinates(_transform(node), n, count, scale, crop)
    mode = text(node, "mode", "nearest")
    if mode == "nearest":
        index = _rounded(at, text(node, "nearest_mode", "round_prefer_floor"))[:, None]
        weights = np.ones((count, 1))
    else:
        shrink = min(scale, 1.0) if node.attrs.get("antialias", 0) else 1.0
        kernel, reach = _kernel(mode, node.attrs.get("cubic_coeff_a", -0.75))
        reach = int(np.ceil(reach / shrink))
        index = np.floor(at).astype(np.int64)[:, None] + np.arange(1 - reach, 1 + reach)
        weights = kernel(np.abs(index - at[:, None]) * shrink)
        if node.attrs.get("exclude_outside", 0):
            weights = np.where((index < 0) | (index >= n), 0.0, weights)
        if shrink != 1.0 or node.attrs.get("exclude_outside", 0):
            total = weights.sum(1, keepdims=True)  # 0 where all taps lie outside: nothing is what they sum to
            weights = weights / np.where(total == 0, 1.0, total)
    return Taps(*_weighed(np.clip(index, 0, n - 1).astype(np.int32), weights), outside)


def _weighed(index: Array, weights: Array) -> tuple[Array, Array]:
    """The same sums without taps of weight 0, which would make NaN of an infinity beside the place that is asked for:
    a tap of weight 0 takes half of another's. A half of a weight is exact.

        places 3 4, weights 1 0    ->    places 3 3, weights 1/2 1/2
    """
    kept = (weights != 0).any(0)
    if not kept.any():
        return index, weights
    index, weights = index[:, kept].copy(), weights[:, kept].copy()
    for t in range(weights.shape[1]):
        rows = np.flatnonzero(weights[:, t] == 0)
        largest = np.abs(weights[rows]).argmax(1)
        weights[rows, largest] /= 2
        index[rows, t], weights[rows, t] = index[rows, largest], weights[rows, largest]
    return index, weights


def _coordinates(
    transform: str, n: int, count: int, scale: float, crop: tuple[float, float]
) -> tuple[Array, Array]:
    """Where each output lies among the inputs, and which lie outside them (tf_crop_and_resize only)."""
    o, length = np.arange(count, dtype=np.float64), scale * n
    outside = np.zeros(count, bool)
    if transform == "align_corners":
        at = o * 0 if length == 1 else o * (n - 1) / (length - 1)
    elif transform == "asymmetric":
        at = o / scale
    elif transform == "pytorch_half_pixel" and count == 1:
        at = o * 0  # as the specification and onnxruntime have it; onnx.reference takes -1/2
    elif transform in ("half_pixel", "pytorch_half_pixel"):
        at = (o + 0.5) / scale - 0.5
    elif transform == "half_pixel_symmetric":
        # what rounding the length cut off is taken from both ends alike
        at = n / 2 * (1 - count / length) + (o + 0.5) / scale - 0.5
    elif transform == "tf_crop_and_resize":
        begin, end = crop
        span = (end - begin) * (n - 1)
        at = begin * (n - 1) + (o * 0 + span / 2 if count == 1 else o * span / (count - 1))
        outside = (at < 0) | (at > n - 1)
    else:
        raise Unsupported(f"Resize with coordinate_transformation_mode {transform}")
    return np.round(at, 10), outside  # what rounding adds to a whole number would be a whole element


def _rounded(at: Array, how: str) -> Array:
    rules: dict[str, Callable[[Array], Array]] = {
        "round_prefer_floor": lambda x: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: np.floor(x + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    return rules[how](at).astype(np.int64)


def _kernel(mode: str, a: float) -> tuple[Callable[[Array], Array], int]:
    """The weight of a source element at distance t >= 0, and how far it reaches."""
    if mode == "linear":
        return lambda t: np.maximum(0, 1 - t), 1
    if mode != "cubic":
        raise Unsupported(f"Resize with mode {mode}")

    def cubic(t: Array) -> Array:
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        return np.where(t <= 1, near, np.where(t < 2, far, 0.0))

    return cubic, 2


@computation("Resize", "Upsample", when=_is_nearest)
def nearest(ctx: Context, node: Node, out: int) -> Computation:
    """y[o] = x[table[o]]; where the table repeats or skips evenly, as two axes or a stride."""
    changed = resized(node)
    axes: list[Axis] = []
    idx: list[Index] = []
    at: list[Index] = []
    for d, n in enumerate(shape_of(node.outputs[0])):
        name = f"i{d}"
        table = changed[d].index[:, 0] if d in changed else np.arange(n)
        times = n // shape_of(node.inputs[0])[d]
        step = int(table[1] - table[0]) if n > 1 else 1
        if times > 1 and np.array_equal(table, np.arange(n) // times):
            axes += [Axis(name, n // times), Axis(f"r{d}", times)]
            idx.append(Index(0, {name: times, f"r{d}": 1}))
            at.append(Index.of(name))
            continue
        axes.append(Axis(name, n))
        idx.append(Index.of(name))
        if np.array_equal(table, table[0] + step * np.arange(n)):
            at.append(Index(int(table[0]), {name: step}))
        else:
            places = constant(ctx.build, node, f"index{d}", table.astype(np.int32))
            at.append(Index(0, ((ctx.read(places, [Index.of(name)]), 1),)))
    return Computation(axes, idx, ctx.read(node.inputs[0], at), name="resize")


@composite("Resize", "Upsample")
def resample(build: Build, node: Node) -> None:
    """One pass a dimension, each a sum over its taps."""
    x = node.inputs[0]
    assert x is not None
    if x.dtype not in FLOATS:
        raise Unsupported(f"Resize of {x.dtype} with weights")
    shape, changed = list(shape_of(x)), list(resized(node).items())
    if not changed:
        raise Unsupported("Resize to the same shape")
    for n, (d, table) in enumerate(changed):
        shape[d] = len(table.index)
        last = n == len(changed) - 1
        y = output(build, node) if last else temporary(build, node, f"by{d}", accumulate(x.dtype), shape)
        compute(build, node, y, _pass(node, x, y, d, table))
        x = y


def _pass(node: Node, x: Value, y: Value, d: int, table: Taps) -> Callable[[Context], Computation]:
    def rule(ctx: Context) -> Computation:
        axes, idx = ctx.axes(shape_of(y))
        wide = accumulate(y.dtype)
        here = [idx[d], Index.of("t")]
        source = ctx.read(constant(ctx.build, node, f"index{d}", table.index), here)
        dtype = np.float64 if wide == "f64" else np.float32
        weight = ctx.read(constant(ctx.build, node, f"weight{d}", table.weights.astype(dtype)), here)
        at = list(idx)
        at[d] = Index(0, ((source, 1),))
        value = _outside(ctx, node, idx[d], table, d, acc(wide))
        count = table.index.shape[1]
        body = op("mul", weight, cast(ctx.read(x, at), wide))
        return Computation(
            axes,
            idx,
            cast(value, y.dtype),
            reduce=[Axis("t", count)],
            combine="sum",
            body=body,
            name="resize",
        )

    return rule


def _outside(ctx: Context, node: Node, o: Index, table: Taps, d: int, value: Expr) -> Expr:
    """`extrapolation_value` where an output lies outside of the input."""
    if not table.outside.any():
        return value
    flags = constant(ctx.build, node, f"outside{d}", table.outside.astype(np.int32))
    other = const(node.attrs.get("extrapolation_value", 0.0), value.dtype)
    return select(compare("ne", ctx.read(flags, [o]), const(0, "i32")), other, value)
