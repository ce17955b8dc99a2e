"""How high the integers of a graph can be, as far as that follows from its inputs: positions that are counted, tokens
that go to a table as they are. Takes a value of a graph whose shapes are known; gives a bound, if there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

from .ir import Node, Value

# Their elements are those of the first input.
_MOVES = frozenset(
    "Cast Expand Flatten Gather Identity Reshape Slice Squeeze Tile Transpose Unsqueeze".split()
)
_WHOLE = frozenset({"i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64"})
_READ = 1 << 16  # elements of a constant that are looked at


@dataclass(frozen=True)
class Bound:
    """most: no element is higher; None: not known. source: the input whose own elements these are, or ''."""

    most: int | None
    source: str = ""


_OPEN = Bound(None)


class Bounds:
    """made: by input of integers, its highest element; None for one that counts along its last axis."""

    def __init__(self, made: Mapping[str, int | None]) -> None:
        self._made = made
        self._known: dict[Value, Bound] = {}

    def of(self, value: Value) -> Bound:
        """The bound of a value, its producers' first."""
        stack = [value]
        while stack:
            top = stack[-1]
            node = top.producer
            waits = [v for v in node.inputs if v is not None and v not in self._known] if node else []
            if top.const is None and waits and top not in self._known:
                self._known[top] = _OPEN  # what it is on the way: no value is asked for twice
                stack += waits
                continue
            self._known[top] = self._bound(top)
            stack.pop()
        return self._known[value]

    def _bound(self, value: Value) -> Bound:
        if value.const is not None:
            small = value.dtype in _WHOLE and 0 < value.const.size <= _READ
            return Bound(int(value.const.numpy().max())) if small else _OPEN
        if value.dtype == "bool":
            return Bound(1)
        if value.producer is not None:
            return self._computed(value.producer)
        if value.dtype not in _WHOLE or value.name not in self._made:
            return _OPEN
        made = self._made[value.name]
        counted = value.shape[-1] - 1 if value.shape else 0
        return Bound(counted if made is None else made, value.name)

    def _computed(self, node: Node) -> Bound:
        bounds = [self._known.get(v, _OPEN) if v is not None else _OPEN for v in node.inputs]
        most = [b.most for b in bounds]
        if node.domain:
            return _OPEN
        if node.op in _MOVES:
            return bounds[0]
        if node.op == "Where":
            most = most[1:]
        if node.op == "CumSum":
            length = _along(node)
            return Bound(most[0] * length) if most[0] is not None and length is not None else _OPEN
        if node.op in ("Concat", "Max", "Where"):
            return Bound(max(m for m in most if m is not None)) if None not in most else _OPEN
        known = [m for m in most if m is not None]
        if node.op == "Min" and known:
            return Bound(min(known))
        if node.op == "Sub" and known and most[0] is not None:
            least = _least(node.inputs[1])
            return Bound(most[0] - least) if least is not None else _OPEN
        if len(known) != 2 or len(most) != 2:
            return _OPEN
        if node.op == "Add":
            return Bound(known[0] + known[1])
        return Bound(known[0] * known[1]) if node.op == "Mul" else _OPEN


def _along(node: Node) -> int | None:
    """The length that a CumSum adds up along; None where its axis is not known yet, or none of its input's."""
    value, axis = node.inputs[:2]
    if value is None or value.shape is None or axis is None or axis.const is None or axis.const.size != 1:
        return None
    at = int(axis.const.numpy().reshape(-1)[0])
    return value.shape[at] if -len(value.shape) <= at < len(value.shape) else None


def _least(value: Value | None) -> int | None:
    """The least element of a constant; 0 where nothing is computed yet; None where it is no number or there is none."""
    if value is None or value.const is None:
        return 0
    if not 0 < value.const.size <= _READ:
        return None
    least = float(value.const.numpy().min())
    return int(least) if isfinite(least) else None
