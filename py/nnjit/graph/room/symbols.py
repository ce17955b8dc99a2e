"""Arithmetic on lengths: `evaluate(node, inputs, least, most)` gives what a node makes of numbers that are Lengths.

Only what holds for every request from least to most comes out: a comparison that turns within, a product of two
lengths, a quotient of a sum of them give None, and the node is computed at run time instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..dtypes import FLOATS, FROM_ONNX, INTS, Array
from ..fold import evaluate as fold
from ..ir import Node, Value
from ..shapes import infer_node
from .extent import Symbol
from .lengths import Length, NoRoom

Numbers = Sequence[int]

# These only move elements. Value: the operands that hold elements.
_MOVES: dict[str, slice] = {
    **dict.fromkeys(
        "Expand Flatten Gather Identity Reshape Slice Squeeze Tile Transpose Unsqueeze".split(), slice(0, 1)
    ),
    "Concat": slice(None),
}
_COMPARE: dict[str, Callable[[int], bool]] = {
    "Equal": lambda order: order == 0, "Less": lambda order: order < 0, "LessOrEqual": lambda order: order <= 0,
    "Greater": lambda order: order > 0, "GreaterOrEqual": lambda order: order >= 0,
}  # fmt: skip
_NUMBERS = INTS | FLOATS | {"bool"}


def span(length: Length, least: Numbers, most: Numbers) -> tuple[int, int]:
    """Bounds of a length between two requests. They need not be reached where several numbers are in it."""
    low = high = length.b
    for v, c in length.terms:
        ends = sorted((c * v.at(least), c * v.at(most)))
        low, high = low + ends[0], high + ends[1]
    return low, high


def evaluate(node: Node, inputs: Sequence[Symbol | None], least: Numbers, most: Numbers) -> Symbol | None:
    """What the node makes of its inputs (None: absent); None where it isn't a length throughout."""
    if node.domain or any(s is not None and s.dtype not in _NUMBERS for s in inputs):
        return None
    if node.op in _MOVES:
        return _moved(node, inputs)
    given = [s for s in inputs if s is not None]
    if len(given) != len(inputs):
        return None
    if node.op in _COMPARE:
        orders = _each(lambda a, b: _order(a, b, least, most), given[0], given[1])
        if orders is None:
            return None
        return Symbol.of(np.vectorize(_COMPARE[node.op], otypes=[bool])(orders), "bool")
    rule = _RULES.get(node.op)
    return rule(node, given, least, most) if rule else None


def _moved(node: Node, inputs: Sequence[Symbol | None]) -> Symbol | None:
    """The node does to the numbers' places what it does to them."""
    moving = range(len(inputs))[_MOVES[node.op]]
    values: list[Value | None] = []
    flat: list[Length] = []
    for i, s in enumerate(inputs):
        if s is None:
            values.append(None)
        elif i in moving:
            places = np.arange(len(flat), len(flat) + s.lengths.size).reshape(s.shape)
            values.append(Value.constant(f"{i}", places))
            flat += s.flat()
        elif s.fixed:
            values.append(Value.constant(f"{i}", s.offset))
        else:
            return None
    once = Node(node.op, values, [Value("out")], node.attrs, name=node.name, version=node.version)
    infer_node(once)
    found, first = fold(once), inputs[0]
    if found is None or first is None:
        return None
    places = np.asarray(found[0])
    return Symbol.listed([flat[i] for i in places.ravel()], places.shape, first.dtype)


def _each(function: Callable[..., Any], *symbols: Symbol) -> Array | None:
    """An array of what the function makes of elements that stand beside each other; None where it once gives None."""
    arrays = np.broadcast_arrays(*(s.lengths for s in symbols))
    found: Array = np.empty(arrays[0].shape, object)
    for at in np.ndindex(found.shape):
        found[at] = function(*(a[at] for a in arrays))
        if found[at] is None:
            return None
    return found


def _order(a: Length, b: Length, least: Numbers, most: Numbers) -> int | None:
    """-1, 0 or 1: a is below, at or above b; None where that depends on the request."""
    low, high = span(a - b, least, most)
    return 0 if low == high == 0 else 1 if low > 0 else -1 if high < 0 else None


Elementwise = Callable[..., "Length | None"]
Rule = Callable[[Node, list[Symbol], Numbers, Numbers], "Symbol | None"]


def _rule(function: Elementwise) -> Rule:
    """Of an operator that is called with elements, and least and most."""

    def rule(node: Node, s: list[Symbol], least: Numbers, most: Numbers) -> Symbol | None:
        if s[0].dtype == "bool":
            return None
        try:
            found = _each(lambda *lengths: function(*lengths, least, most), *s)
        except NoRoom:
            return None
        return None if found is None else Symbol(found, s[0].dtype)

    return rule


def _mul(a: Length, b: Length, least: Numbers, most: Numbers) -> Length | None:
    return None if a.terms and b.terms else a * b.b if a.terms else b * a.b


def _div(node: Node, s: list[Symbol], least: Numbers, most: Numbers) -> Symbol | None:
    """Integers are rounded towards 0, which is down for lengths; floats are not rounded."""
    rounded = s[0].dtype in INTS

    def quotient(a: Length, b: Length, least: Numbers, most: Numbers) -> Length | None:
        if b.terms or not b.b:
            return None
        if b.b < 0:
            a, b = -a, -b
        exact = a.b % b.b == 0 and all(c % b.b == 0 for _, c in a.terms)
        return a // b.b if exact or (rounded and span(a, least, most)[0] >= 0) else None

    return _rule(quotient)(node, s, least, most)


def _mod(a: Length, b: Length, least: Numbers, most: Numbers) -> Length | None:
    if b.terms or b.b <= 0 or span(a, least, most)[0] < 0:  # fmod and mod differ there
        return None
    return a - a // b.b * b.b


def _abs(a: Length, least: Numbers, most: Numbers) -> Length | None:
    order = _order(a, Length(0), least, most)
    return None if order is None else a * (order or 1)


def _extreme(sign: int) -> Rule:
    """Max (1) or Min (-1)."""

    def larger(*lengths: Any) -> Length | None:
        *given, least, most = lengths
        found: Length = given[0]
        for other in given[1:]:
            low, high = span((found - other) * sign, least, most)
            if low < 0 < high:
                return None
            found = found if low >= 0 else other
        return found

    return _rule(larger)


def _cast(node: Node, s: list[Symbol], least: Numbers, most: Numbers) -> Symbol | None:
    to = FROM_ONNX[node.attrs["to"]]
    # f16 and narrow integers can't hold every length
    if to in ("i64", "i32", "f32", "f64") and s[0].dtype != "bool":
        return Symbol(s[0].lengths, to)
    return None


def _where(node: Node, s: list[Symbol], least: Numbers, most: Numbers) -> Symbol | None:
    if not s[0].fixed:
        return None
    found = _each(lambda test, a, b: a if test.b else b, *s)
    return None if found is None else Symbol(found, s[1].dtype)


def _logic(op: Any) -> Rule:
    def rule(node: Node, s: list[Symbol], least: Numbers, most: Numbers) -> Symbol | None:
        return Symbol.of(op(*(x.offset != 0 for x in s)), "bool") if all(x.fixed for x in s) else None

    return rule


def _reduce(start: Length, join: Callable[[Length, Length], Length | None]) -> Rule:
    """Of all elements."""

    def rule(node: Node, s: list[Symbol], least: Numbers, most: Numbers) -> Symbol | None:
        x = s[0]
        if len(s) > 1 and (
            len(x.shape) != 1 or not s[1].fixed or list(s[1].offset.ravel()) not in ([0], [-1])
        ):
            return None
        if x.dtype == "bool" or (len(s) == 1 and node.attrs.get("noop_with_empty_axes", 0)):
            return None
        found: Length | None = start
        for length in x.flat():
            found = None if found is None else join(found, length)
        shape = (1,) * len(x.shape) if node.attrs.get("keepdims", 1) else ()
        return None if found is None else Symbol.listed([found], shape, x.dtype)

    return rule


def _same(node: Node, s: list[Symbol], least: Numbers, most: Numbers) -> Symbol:
    return s[0]


_RULES: dict[str, Rule] = {
    "Add": _rule(lambda a, b, *_: a + b), "Sub": _rule(lambda a, b, *_: a - b), "Mul": _rule(_mul), "Div": _div,
    "Mod": _rule(_mod), "Neg": _rule(lambda a, *_: -a), "Abs": _rule(_abs), "Max": _extreme(1), "Min": _extreme(-1),
    "Cast": _cast, "Where": _where, "And": _logic(np.logical_and), "Or": _logic(np.logical_or),
    "Not": _logic(np.logical_not), "Xor": _logic(np.logical_xor),
    "ReduceProd": _reduce(Length(1), lambda a, b: _mul(a, b, (), ())), "ReduceSum": _reduce(Length(0), Length.__add__),
    "Floor": _same, "Ceil": _same,
}  # fmt: skip
