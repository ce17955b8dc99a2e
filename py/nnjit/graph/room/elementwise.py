"""Rules of operators that work element by element: growing axes broadcast, and so does what lies beyond them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..const import Const
from ..dtypes import FLOATS, FROM_ONNX, INTS, NUMPY
from ..fold import EVALUATORS, evaluate
from ..ir import Node, Value
from ..shapes import infer_node
from .extent import Axes, Extent, Growth, Rest
from .lengths import Length, NoRoom
from .maker import Inputs, Maker, rule

UNARY = (
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid "
    "HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh "
    "Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"
).split()
BROADCAST = (
    "Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min "
    "Mod Mul Or Pow PRelu Sub Sum Where Xor"
).split()
_KEEPS_ZERO = frozenset(
    "Asin Asinh Atan Atanh Celu Elu Erf Gelu HardSwish LeakyRelu Mish Relu Selu Shrink Sin Sinh Softsign Swish Tan "
    "Tanh ThresholdedRelu".split()
)

_EVERY_INTEGER = 128
"""Floats from 0 to it become integers of every type; others need not become the same in a kernel as here."""


@rule(*UNARY, *BROADCAST)
def elementwise(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    if node.op in ("Div", "Mod") and inputs[1] is not None and inputs[1].dtype in INTS:
        divisor = inputs[1]
        for axis in divisor.axes:  # integers can't be divided by the zeros beyond n
            divisor = w.clean(divisor, axis, 1.0, force=len(divisor.axes) > 1)
        inputs = [inputs[0], divisor]
    given = [x for x in inputs if x is not None]
    values = [w.data(x) for x in given]
    axes = {
        axis: Growth(length, _rest(node, given, values, axis)) for axis, length in broadcast(w, given).items()
    }
    return w.copy(node, inputs, axes)


@rule("Clip")
def clip(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """Its bounds are scalars."""
    x = _first(inputs)
    values = [None if v is None else w.data(v) for v in inputs]
    bounds = [v for v in values[1:] if v is not None]
    whole = all(v.const is not None for v in bounds) and len(bounds) == 2
    axes: Axes = {}
    for axis, growth in x.axes.items():
        rest = growth.rest
        if rest is not None:
            scalars = [rest, *(_uniform(v) for v in bounds)]
            rest = _number(node, scalars, [x.tensor, *bounds]) if whole else None
        axes[axis] = Growth(growth.length, rest)
    return w.copy(node, inputs, axes)


@rule("CastLike")
def cast_like(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    x, like = inputs
    if x is None or like is None:
        raise NoRoom("an operand is missing")
    one = w.b.const(0, like.dtype)  # only its type is read
    return w.again(node, [w.data(x), one], {axis: Growth(g.length) for axis, g in x.axes.items()})


@rule("QuantizeLinear", "DequantizeLinear")
def quantise(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """One scale, or one for each place of an axis that doesn't grow."""
    x, scale = inputs[:2]
    if x is None or scale is None or any(v is not None and v.axes for v in inputs[1:]):
        raise NoRoom("its scale grows")
    if scale.rank > 1 or node.attrs.get("block_size", 0):
        raise NoRoom("its scale is in blocks")
    if scale.rank == 1 and scale.shape != (1,) and node.attrs.get("axis", 1) % x.rank in x.axes:
        raise NoRoom("it has a scale for each place of an axis that grows")
    return w.copy(node, inputs, {axis: Growth(g.length) for axis, g in x.axes.items()})


@rule("Dropout")
def dropout(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    x, training = _first(inputs), inputs[2] if len(inputs) > 2 else None
    if training is not None and (training.constant() is None or training.constant().any()):
        raise NoRoom("it draws random numbers")
    return w.copy(node, inputs, {axis: Growth(g.length) for axis, g in x.axes.items()})


def _first(inputs: Inputs) -> Extent:
    if inputs[0] is None:
        raise NoRoom("its operand is missing")
    return inputs[0]


def broadcast(w: Maker, given: Sequence[Extent], keep: int = 0) -> dict[int, Length]:
    """The growing axes of what operands broadcast to, but for the last `keep`. NoRoom where one grows against a fixed
    dim or another length: whether they fit would depend on n."""
    rank = max(x.rank for x in given)
    found: dict[int, Length] = {}
    for axis in range(rank - keep):
        dims = {x.dim(axis - rank + x.rank) for x in given if axis - rank + x.rank >= 0}
        growing = [d for d in dims if d.terms]
        if not growing:
            continue
        others = dims - {growing[0], Length(1)}
        if others:
            raise NoRoom(f"its operands are {growing[0]} and {others.pop()} long in one axis")
        found[axis] = growing[0]
    return found


def _rest(node: Node, given: Sequence[Extent], values: Sequence[Value], axis: int) -> Rest:
    """What the node makes of what lies beyond an axis of its output."""
    rank = max(x.rank for x in given)
    rests: list[Rest] = []
    for x, value in zip(given, values, strict=True):
        growth = x.axes.get(axis - rank + x.rank)
        rests.append(growth.rest if growth is not None else _uniform(value))
    if node.op == "Where":
        test, a, b = rests
        return (a if a == b else None) if test is None else a if test else b
    absorbing = {"And": 0.0, "Or": 1.0, "Mul": 0.0 if values[0].dtype in INTS else None}.get(node.op)
    if absorbing is not None and absorbing in rests:
        return absorbing
    return _number(node, rests, values)


def _number(node: Node, rests: Sequence[Rest], values: Sequence[Value]) -> Rest:
    """The node's result for numbers."""
    numbers = [r for r in rests if r is not None]
    if len(numbers) != len(rests):
        return None
    if node.op in _KEEPS_ZERO and numbers == [0.0]:
        return 0.0
    if node.op not in EVALUATORS or any(v.dtype not in NUMPY for v in values):
        return None
    to_integers = node.op == "Cast" and values[0].dtype in FLOATS and FROM_ONNX[node.attrs["to"]] in INTS
    if to_integers and not 0 <= numbers[0] < _EVERY_INTEGER:
        return None
    consts = [
        Value("", v.dtype, (), Const.of(np.asarray(r).astype(NUMPY[v.dtype]), v.dtype))
        for r, v in zip(numbers, values, strict=True)
    ]
    once = Node(node.op, consts, [Value("rest")], node.attrs, version=node.version)
    infer_node(once)
    found = evaluate(once)
    if found is None or np.asarray(found[0]).dtype.kind not in "fiub":
        return None
    result = float(found[0])
    return None if np.isnan(result) else result


def _uniform(value: Value) -> Rest:
    """The number that all elements of a small constant are; None for others."""
    if value.const is None or value.const.array is None or not 0 < value.const.size <= 4096:
        return None
    array: Any = value.const.array.reshape(-1)
    if array.dtype.kind not in "fiub" or not np.all(array == array[0]):
        return None
    return float(array[0])
