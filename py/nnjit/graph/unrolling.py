"""A Loop or Scan whose number of turns is known → the nodes of its body, turn after turn.

`unroll(graph, node, settle, lists)` gives the new nodes, inferred and folded, or None where the node stays: shapes
that are not known yet (or sequences that are not among `lists`), a count or a condition that depends on data, more
turns or nodes than would pay.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

import numpy as np

from . import schemas
from .bodies import inline, weights
from .ir import Graph, Node, Value

TURNS, NODES = 128, 1024
"""Most turns, and most nodes in all: a kernel that is like one before costs the compiler about a millisecond."""
GROWN = 4
"""How many times NODES may stay where the nodes of a body are expanded, or are loops that are unrolled in turn."""

Settle = Callable[[Graph, list[Node]], list[Node]]


def unroll(graph: Graph, node: Node, settle: Settle, lists: Container[Value]) -> list[Node] | None:
    """y = Loop(2, true, x) {h' = Relu(h)} → y = Relu(Relu(x)); whoever read the outputs reads the new ones"""
    if node.domain or node.op not in ("Loop", "Scan"):
        return None
    if any((v.shape is None or not v.dtype) and v not in lists for v in node.reads()):
        return None
    turns = _Turns(graph, node, settle)
    found = turns.loop() if node.op == "Loop" else turns.scan()
    if found is None:
        for made in turns.nodes:
            made.detach()
        return None
    for old, new in zip(node.outputs, found, strict=True):
        if not old.name:
            continue
        if new.const is None:
            new.name = old.name
        graph.replace(old, new)
    node.detach()
    return turns.nodes


class _Turns:
    """The nodes made so far, and how another turn is made."""

    def __init__(self, graph: Graph, node: Node, settle: Settle) -> None:
        self.graph, self.node, self.settle = graph, node, settle
        self.body: Any = node.attrs["body"]
        self.known = {**weights(self.body, graph.fresh), **node.captures}
        self.nodes: list[Node] = []
        self.most = min(TURNS, NODES // max(1, len(self.body.node)))
        self.turn = 0

    def loop(self) -> list[Value] | None:
        """Carried values and what each turn had. The condition is followed: a counter that a body compares folds."""
        count, going = self.node.input(0), self.node.input(1)
        if (count is not None and count.const is None) or (going is not None and going.const is None):
            return None
        trips = None if count is None or count.const is None else _scalar(count)
        carried = [v for v in self.node.inputs[2:] if v is not None]
        if len(carried) != len(self.node.inputs) - 2 or (trips is not None and trips > self.most):
            return None
        on = going is None or bool(_scalar(going))
        rows: list[list[Value]] = []
        while on and (trips is None or self.turn < trips):
            if self.turn == self.most:
                return None
            number = self.graph.constant(np.array(self.turn, np.int64))
            out = self.one([number, self.graph.constant(np.array(True)), *carried])
            if out[0].const is None or len(self.nodes) > GROWN * NODES:
                return None
            on = bool(_scalar(out[0]))
            carried = out[1 : 1 + len(carried)]
            rows.append(out[1 + len(carried) :])
        if not self.turn and len(self.body.output) > 1 + len(carried):
            return None  # no rows: their shape is not known
        return [
            *map(self.kept, carried),
            *(self.stacked(list(column), 0) for column in zip(*rows, strict=True)),
        ]

    def scan(self) -> list[Value] | None:
        """States and what each turn had, along the axes and in the directions that the node names."""
        attrs, values = self.node.attrs, self.node.inputs
        count = attrs["num_scan_inputs"]
        states, sequences = list(values[: len(values) - count]), list(values[len(values) - count :])
        outs = len(self.body.output) - len(states)
        axes, back = (_each(attrs, f"scan_input_{what}", count) for what in ("axes", "directions"))
        axes_out, back_out = (_each(attrs, f"scan_output_{what}", outs) for what in ("axes", "directions"))
        lengths = {v.shape[a] for v, a in zip(sequences, axes, strict=True) if v is not None and v.shape}
        if len(lengths) != 1 or None in states or None in sequences:
            return None
        (turns,) = lengths
        if not 0 < turns <= self.most:
            return None
        rows = []
        for t in range(turns):
            at = [turns - 1 - t if b else t for b in back]
            now = [self.row(v, k, a) for v, k, a in zip(sequences, at, axes, strict=True) if v is not None]
            out = self.one([*(s for s in states if s is not None), *now])
            states = list(out[: len(states)])
            rows.append(out[len(states) :])
            if len(self.nodes) > GROWN * NODES:
                return None
        columns = [list(c[::-1] if b else c) for c, b in zip(zip(*rows, strict=True), back_out, strict=True)]
        return [
            *(self.kept(s) for s in states if s is not None),
            *(self.stacked(c, a) for c, a in zip(columns, axes_out, strict=True)),
        ]

    def one(self, values: list[Value]) -> list[Value]:
        """The outputs of another turn, whose inputs are these."""
        names = (i.name for i in self.body.input)
        known = {**self.known, **dict(zip(names, values, strict=True))}
        nodes, outputs = inline(self.body, known, self.graph.fresh)
        for k, made in enumerate(nodes):
            made.name = f"{self.node.name}/{made.name or made.op}_{self.turn}_{k}"
        ends = []
        for value in outputs:  # an If or another Loop may make way for what it stands for
            nodes.append(
                self.made("Identity", [value], end := Value(self.graph.fresh(value.name)), len(nodes))
            )
            ends.append(end)
        self.nodes += self.settle(self.graph, nodes)
        self.turn += 1
        return ends

    def made(self, op: str, inputs: list[Value], output: Value, number: int, **attrs: Any) -> Node:
        name = f"{self.node.name}/{op}_{self.turn}_{number}"
        return Node(op, inputs, [output], attrs, name=name, version=schemas.NEWEST)

    def add(self, op: str, inputs: list[Value], **attrs: Any) -> Value:
        """The output of a new node."""
        output = Value(self.graph.fresh(self.node.output.name or self.node.name))
        self.nodes += self.settle(self.graph, [self.made(op, inputs, output, len(self.nodes), **attrs)])
        return output

    def ints(self, *numbers: int) -> Value:
        return self.graph.constant(np.array(numbers, np.int64))

    def row(self, x: Value, at: int, axis: int) -> Value:
        """x[at] along an axis."""
        one = self.add("Slice", [x, self.ints(at), self.ints(at + 1), self.ints(axis)])
        return self.add("Squeeze", [one, self.ints(axis)])

    def stacked(self, rows: list[Value], axis: int) -> Value:
        """Rows side by side along a new axis."""
        wide = [self.add("Unsqueeze", [r, self.ints(axis)]) for r in rows]
        return self.add("Concat", wide, axis=axis)

    def kept(self, value: Value) -> Value:
        """A value of its own, which may take the name of an output."""
        return self.add("Identity", [value])


def _scalar(value: Value) -> int:
    assert value.const is not None
    return int(value.const.numpy().reshape(-1)[0])


def _each(attrs: Mapping[str, Any], name: str, count: int) -> list[int]:
    given = [int(v) for v in attrs.get(name) or ()]
    return given + [0] * (count - len(given))
