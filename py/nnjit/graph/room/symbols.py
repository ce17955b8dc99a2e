"""Arithmetic on numbers that are a * n + b: `evaluate(node, inputs, least, most)` gives what a node makes of them.

Only what holds for every n from least to most comes out: a comparison that turns within, a product of two lengths, a
quotient with a remainder give None, and the node is computed at run time instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import FLOATS, FROM_ONNX, INTS, Array
from ..fold import evaluate as fold
from ..ir import Node, Value
from ..shapes import infer_node
from .extent import Symbol

# These only move elements, so that factors and offsets move alike. Value: the operands that hold elements.
_MOVES: dict[str, slice] = {
    **dict.fromkeys(
        "Expand Flatten Gather Identity Reshape Slice Squeeze Tile Transpose Unsqueeze".split(), slice(0, 1)
    ),
    "Concat": slice(None),
}
_COMPARE = {
    "Equal": np.equal, "Less": np.less, "LessOrEqual": np.less_equal, "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
}  # fmt: skip
_NUMBERS = INTS | FLOATS | {"bool"}


def evaluate(node: Node, inputs: Sequence[Symbol | None], least: int, most: int) -> Symbol | None:
    """What the node makes of its inputs (None: absent); None where it isn't of the form a * n + b throughout."""
    if node.domain or any(s is not None and s.dtype not in _NUMBERS for s in inputs):
        return None
    if node.op in _MOVES:
        return _moved(node, inputs)
    given = [s for s in inputs if s is not None]
    if len(given) != len(inputs):
        return None
    if node.op in _COMPARE:
        found = _constant_order(given[0], given[1], least, most)
        if found is None:
            return None
        return Symbol.of(_COMPARE[node.op](found, 0), "bool")
    rule = _RULES.get(node.op)
    return rule(node, given, least, most) if rule else None


def _moved(node: Node, inputs: Sequence[Symbol | None]) -> Symbol | None:
    moving = range(len(inputs))[_MOVES[node.op]]
    if any(s is not None and not s.fixed for i, s in enumerate(inputs) if i not in moving):
        return None

    def run(part: str) -> Array | None:
        values: list[Value | None] = []
        for i, s in enumerate(inputs):
            array = None if s is None else getattr(s, part if i in moving else "offset")
            values.append(None if array is None else Value.constant(f"{i}", array))
        once = Node(node.op, values, [Value("out")], node.attrs, name=node.name, version=node.version)
        infer_node(once)
        found = fold(once)
        return None if found is None else np.asarray(found[0])

    factor, offset = run("factor"), run("offset")
    first = inputs[0]
    if factor is None or offset is None or first is None:
        return None
    return Symbol(factor, offset, first.dtype)


def _constant_order(a: Symbol, b: Symbol, least: int, most: int) -> Array | None:
    """-1, 0 or 1 of each pair, where a stays below, at or above b from least to most; None where one crosses."""
    low, high = (np.sign(a.at(n) - b.at(n)) for n in (least, most))
    steady = (low == high) & ((low != 0) | (a.factor - b.factor == 0))
    return low if np.all(steady) else None


def _linear(sign: int) -> Any:
    def rule(node: Node, s: list[Symbol], least: int, most: int) -> Symbol | None:
        if s[0].dtype == "bool":
            return None
        return Symbol(s[0].factor + sign * s[1].factor, s[0].offset + sign * s[1].offset, s[0].dtype)

    return rule


def _mul(node: Node, s: list[Symbol], least: int, most: int) -> Symbol | None:
    a, b = s
    if np.any((a.factor != 0) & (b.factor != 0)):
        return None
    return Symbol(a.factor * b.offset + a.offset * b.factor, a.offset * b.offset, a.dtype)


def _div(node: Node, s: list[Symbol], least: int, most: int) -> Symbol | None:
    a, b = s
    if not b.fixed or not np.all(b.offset) or np.any(a.factor % b.offset) or np.any(a.offset % b.offset):
        return None
    return Symbol(a.factor // b.offset, a.offset // b.offset, a.dtype)


def _mod(node: Node, s: list[Symbol], least: int, most: int) -> Symbol | None:
    a, b = s
    if not b.fixed or np.any(b.offset <= 0) or np.any(a.factor % b.offset):
        return None
    if min(a.at(n).min(initial=0) for n in (least, most)) < 0:  # fmod and mod differ there
        return None
    return Symbol.of(a.offset % b.offset, a.dtype)


def _neg(node: Node, s: list[Symbol], least: int, most: int) -> Symbol | None:
    return Symbol(-s[0].factor, -s[0].offset, s[0].dtype)


def _abs(node: Node, s: list[Symbol], least: int, most: int) -> Symbol | None:
    sign = _constant_order(s[0], Symbol.of(np.array(0), "i64"), least, most)
    return None if sign is None else Symbol(s[0].factor * sign, s[0].offset * sign, s[0].dtype)


def _extreme(sign: int) -> Any:
    """Max (1) or Min (-1)."""

    def rule(node: Node, s: list[Symbol], least: int, most: int) -> Symbol | None:
        found = s[0]
        for other in s[1:]:
            order = _constant_order(found, other, least, most)
            if order is None:
                return None
            first = order * sign >= 0
            found = Symbol(
                np.where(first, found.factor, other.factor),
                np.where(first, found.offset, other.offset),
                found.dtype,
            )
        return found

    return rule


def _cast(node: Node, s: list[Symbol], least: int, most: int) -> Symbol | None:
    to = FROM_ONNX[node.attrs["to"]]
    # f16 and narrow integers can't hold every length
    if to in ("i64", "i32", "f32", "f64") and s[0].dtype != "bool":
        return Symbol(s[0].factor, s[0].offset, to)
    return None


def _where(node: Node, s: list[Symbol], least: int, most: int) -> Symbol | None:
    if not s[0].fixed:
        return None
    test = s[0].offset != 0
    return Symbol(
        np.where(test, s[1].factor, s[2].factor), np.where(test, s[1].offset, s[2].offset), s[1].dtype
    )


def _logic(op: Any) -> Any:
    def rule(node: Node, s: list[Symbol], least: int, most: int) -> Symbol | None:
        return Symbol.of(op(*(x.offset != 0 for x in s)), "bool") if all(x.fixed for x in s) else None

    return rule


def _reduce_prod(node: Node, s: list[Symbol], least: int, most: int) -> Symbol | None:
    """Of all elements."""
    x = s[0]
    if len(s) > 1 and (x.factor.ndim != 1 or list(s[1].offset.ravel()) not in ([0], [-1])):
        return None
    growing = np.flatnonzero(x.factor)
    if len(growing) > 1 or (len(s) == 1 and node.attrs.get("noop_with_empty_axes", 0)):
        return None
    others = int(np.prod(np.delete(x.offset.ravel(), growing)))
    a, b = (int(part.ravel()[growing[0]]) for part in (x.factor, x.offset)) if len(growing) else (0, 1)
    shape = (1,) * x.factor.ndim if node.attrs.get("keepdims", 1) else ()
    return Symbol(np.full(shape, a * others), np.full(shape, b * others), x.dtype)


_RULES: dict[str, Any] = {
    "Add": _linear(1), "Sub": _linear(-1), "Mul": _mul, "Div": _div, "Mod": _mod, "Neg": _neg, "Abs": _abs,
    "Max": _extreme(1), "Min": _extreme(-1), "Cast": _cast, "Where": _where, "And": _logic(np.logical_and),
    "Or": _logic(np.logical_or), "Not": _logic(np.logical_not), "Xor": _logic(np.logical_xor),
    "ReduceProd": _reduce_prod, "Floor": lambda node, s, least, most: s[0], "Ceil": lambda node, s, least, most: s[0],
}  # fmt: skip
