"""What passes are written with: a driver for local rules, a Builder for new nodes, and matching helpers.

A rule looks at one node and returns the Value that may stand for its first output (or a list, for all
outputs), or None. New nodes come in where the old one was; what is no longer read goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from .. import schemas
from ..const import Const
from ..dtypes import FLOATS, NUMPY, Array
from ..fold import deterministic, fold_node
from ..ir import Graph, Node, Value
from ..shapes import infer_node
from .cleanup import dead_code

Rule: TypeAlias = "Callable[[Builder, Node], Value | list[Value] | None]"


class Builder:
    """Makes nodes beside `like`, inferred, and folded where they are small and constant."""

    def __init__(self, graph: Graph, like: Node) -> None:
        self.graph, self.like = graph, like
        self.nodes: list[Node] = []

    def __call__(self, op: str, inputs: Sequence[Value | None], **attrs: Any) -> Value:
        """The output of a new node."""
        out = Value(self.graph.fresh(self.like.output.name))
        node = Node(op, inputs, [out], attrs, name=self.like.name, version=schemas.NEWEST)
        infer_node(node)
        found = fold_node(node)
        if found is not None:
            node.detach()
            out.producer, out.const = None, Const.of(found[0])
            out.dtype, out.shape = out.const.dtype, out.const.shape
        else:
            node.once = all(v.once for v in node.reads()) and deterministic(node)
            self.nodes.append(node)
        return out

    def value(self, const: Const) -> Value:
        """A new value that is this constant."""
        return Value(self.graph.fresh(self.like.output.name), const.dtype, const.shape, const)

    def const(self, data: Any, dtype: str = "i64") -> Value:
        array: Array = np.asarray(data, NUMPY[dtype])
        return self.graph.constant(array, "const", dtype)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """x under another shape: x itself, a constant (lazy stays lazy), or a Reshape."""
        shape = tuple(shape)
        if x.shape == shape:
            return x
        if x.const is not None:
            return self.value(x.const.reshaped(shape))
        # A 0 in the target means an empty axis, not 'copy'.
        zero = {"allowzero": 1} if 0 in shape else {}
        return self("Reshape", [x, self.const(list(shape))], **zero)


def apply(graph: Graph, rules: dict[str, list[Rule]]) -> Graph:
    """One walk: each node is tried with the rules of its operator, first that answers wins."""
    kept: list[Node] = []
    changed = False
    for node in graph.nodes:
        tried = rules.get(node.op)
        if tried and not node.domain and not node.captures:
            builder = Builder(graph, node)
            found = None
            for rule in tried:
                found = rule(builder, node)
                if found is not None:
                    break
                for made in builder.nodes:  # an attempt that came to nothing
                    made.detach()
                builder.nodes = []
            if found is not None:
                values = found if isinstance(found, list) else [found]
                for old, new in zip(node.outputs, values, strict=False):
                    graph.replace(old, new)
                    if new.producer is not None and new.producer in builder.nodes:
                        new.name = old.name
                kept += builder.nodes
                kept.append(node)  # dead now, dead_code takes it
                changed = True
                continue
        kept.append(node)
    graph.nodes = kept
    return dead_code(graph) if changed else graph


# -- matching


def scalar(value: Value | None) -> float | None:
    """The number in a constant of one element, else None."""
    if value is None or value.const is None or value.const.size != 1 or value.const.array is None:
        return None
    array = value.const.array
    return float(array.reshape(-1)[0]) if array.dtype.kind in "fiu" else None


def near(value: Value | None, number: float, tolerance: float = 1e-4) -> bool:
    """A constant of one element that is `number`, within what exporters' rounding does to it."""
    found = scalar(value)
    return found is not None and abs(found - number) <= tolerance * max(abs(number), 1e-3)


def made_by(value: Value | None, *ops: str) -> Node | None:
    """The node that makes `value`, if it is one of `ops`."""
    node = None if value is None else value.producer
    return node if node is not None and node.op in ops and not node.domain else None


def only_use(graph: Graph, value: Value) -> bool:
    """One node reads it, once, and it is no output of the graph."""
    return len(value.users) == 1 and not graph.is_output(value)


def is_float(value: Value) -> bool:
    return value.dtype in FLOATS


def split_scalar(node: Node) -> tuple[Value, float] | None:
    """(x, c) of a commutative node with one constant scalar operand that does not widen the shape."""
    for i in (0, 1):
        x, c = node.inputs[i], scalar(node.inputs[1 - i])
        if x is not None and c is not None and x.shape == node.output.shape and x.shape is not None:
            return x, c
    return None


def other(node: Node, value: Value) -> Value | None:
    """The operand of a binary node that is not `value`."""
    a, b = node.inputs
    return b if a is value else a if b is value else None
