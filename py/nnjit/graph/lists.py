"""Sequences whose elements are known values → nodes without sequences.

`Lists` follows them through a graph: `resolve(node)` gives the nodes that take the place of one that reads a
sequence (ConcatFromSequence becomes Concat, SequenceAt a view), or None where the node stays. Nodes that only make
sequences stay too; where nobody reads them any more they are dead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import schemas
from .ir import Graph, Node, Value

Settle = Callable[[Graph, list[Node]], list[Node]]


class Lists:
    """What each sequence holds, as far as that is known."""

    def __init__(self, graph: Graph, settle: Settle) -> None:
        self.graph, self.settle = graph, settle
        self.held: dict[Value, list[Value]] = {}

    def resolve(self, node: Node) -> list[Node] | None:
        """y = ConcatFromSequence(SequenceInsert(SequenceConstruct(a), b)) → y = Concat(a, b)"""
        if node.domain or ("Sequence" not in node.op and node.op != "Identity"):
            return None
        found: list[Node] = []
        maker, reader = _MAKERS.get(node.op), _READERS.get(node.op)
        if maker is not None:
            elements = maker(self, node, found)
            if elements is not None:
                self.held[node.output] = elements
            return None if not found else [*found, node]
        first = node.inputs[0] if node.inputs else None
        if reader is None or first is None or first not in self.held:
            return None
        new = reader(self, node, self.held[first], found)
        if new is None:
            for made in found:
                made.detach()
            return None
        if new.producer in found and new.const is None:
            new.name = node.output.name
        self.graph.replace(node.output, new)
        node.detach()
        return found

    def add(
        self, of: Node, into: list[Node], op: str, *inputs: Value, outputs: int = 1, **attrs: Any
    ) -> list[Value]:
        """The outputs of a new node."""
        made = [Value(self.graph.fresh(of.output.name or of.name)) for _ in range(outputs)]
        name = f"{of.name}/{op}_{len(into)}"
        into += self.settle(self.graph, [Node(op, inputs, made, attrs, name=name, version=schemas.NEWEST)])
        return made

    def ints(self, *numbers: int) -> Value:
        return self.graph.constant(np.array(numbers, np.int64))


Maker = Callable[[Lists, Node, list[Node]], "list[Value] | None"]
Reader = Callable[[Lists, Node, list[Value], list[Node]], "Value | None"]


def _place(value: Value | None, default: int) -> int | None:
    """A position; None where it is not known."""
    if value is None:
        return default
    return None if value.const is None else int(value.const.numpy().reshape(-1)[0])


def _empty(lists: Lists, node: Node, into: list[Node]) -> list[Value] | None:
    return []


def _construct(lists: Lists, node: Node, into: list[Node]) -> list[Value] | None:
    return [v for v in node.inputs if v is not None]


def _insert(lists: Lists, node: Node, into: list[Node]) -> list[Value] | None:
    source, x = node.inputs[:2]
    old = None if source is None else lists.held.get(source)
    if old is None or x is None:
        return None
    at = _place(node.input(2), len(old))
    if at is None or not -len(old) <= at <= len(old):
        return None
    at = at + len(old) if at < 0 else at
    return [*old[:at], x, *old[at:]]


def _same(lists: Lists, node: Node, into: list[Node]) -> list[Value] | None:
    """Of an Identity, whatever it passes on."""
    return None if node.inputs[0] is None else lists.held.get(node.inputs[0])


def _erase(lists: Lists, node: Node, into: list[Node]) -> list[Value] | None:
    source = node.inputs[0]
    old = None if source is None else lists.held.get(source)
    at = _place(node.input(1), -1)
    if old is None or at is None or not -len(old) <= at < len(old):
        return None
    return [v for k, v in enumerate(old) if k != at % len(old)]


def _split(lists: Lists, node: Node, into: list[Node]) -> list[Value] | None:
    """Pieces of known sizes. Without `split` each has one row, whose axis is kept if keepdims says so."""
    x, sizes = node.inputs[0], node.input(1)
    if x is None or not x.shape or (sizes is not None and sizes.const is None):
        return None
    axis = node.attrs.get("axis", 0) % len(x.shape)
    whole, keep = x.shape[axis], True
    if sizes is None or sizes.const is None:
        pieces, keep = [1] * whole, bool(node.attrs.get("keepdims", 1))
    else:
        given = sizes.const.numpy()
        each = int(given.reshape(-1)[0])
        if given.ndim == 0 and each <= 0:
            return None
        pieces = [min(each, whole - k) for k in range(0, whole, each)] if given.ndim == 0 else given.tolist()
    if not pieces or sum(pieces) != whole:
        return None
    parts = lists.add(node, into, "Split", x, lists.ints(*pieces), outputs=len(pieces), axis=axis)
    return parts if keep else [lists.add(node, into, "Squeeze", v, lists.ints(axis))[0] for v in parts]


def _at(lists: Lists, node: Node, held: list[Value], into: list[Node]) -> Value | None:
    at = _place(node.input(1), 0) if node.input(1) is not None else None
    if at is None or not -len(held) <= at < len(held):
        return None
    return lists.add(node, into, "Identity", held[at])[0]


def _length(lists: Lists, node: Node, held: list[Value], into: list[Node]) -> Value | None:
    return lists.graph.constant(np.array(len(held), np.int64))


def _concat(lists: Lists, node: Node, held: list[Value], into: list[Node]) -> Value | None:
    if not held:
        return None
    axis = node.attrs["axis"]
    if node.attrs.get("new_axis", 0):
        held = [lists.add(node, into, "Unsqueeze", v, lists.ints(axis))[0] for v in held]
    return lists.add(node, into, "Concat", *held, axis=axis)[0]


_MAKERS: dict[str, Maker] = {
    "Identity": _same,
    "SequenceEmpty": _empty,
    "SequenceConstruct": _construct,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SplitToSequence": _split,
}
_READERS: dict[str, Reader] = {
    "SequenceAt": _at,
    "SequenceLength": _length,
    "ConcatFromSequence": _concat,
}
