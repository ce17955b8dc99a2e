"""The graph IR: Values, Constants and Nodes in a Graph. Every stage up to fusion speaks it.

Values are mutable and compare by identity; each knows its producer and its users, kept right by
Node.set_input and Graph.replace. `print(graph)` shows it as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from .const import Const, Shape
from .dtypes import Array
from .text import operand, short

if TYPE_CHECKING:
    from .room.lengths import Length


class Value:
    """One tensor (or sequence, optional, map) that flows through the graph."""

    __slots__ = ("const", "dtype", "name", "producer", "reach", "shape", "type", "users")

    def __init__(
        self, name: str, dtype: str = "", shape: Shape | None = None, const: Const | None = None
    ) -> None:
        self.name = name
        self.dtype = dtype  # short name; '' while not inferred; 'sequence', 'optional', 'map' for non-tensors
        self.shape = shape  # None: known at run time only
        self.const = const
        self.producer: Node | None = None
        self.users: list[Node] = []  # a node that reads it twice is here twice; graph outputs are not listed
        self.type: Any = None  # onnx.TypeProto of a non-tensor
        self.reach: dict[int, Length] | None = None  # axis -> places; what is beyond them nobody may look at

    @staticmethod
    def constant(name: str, array: Array, dtype: str | None = None) -> Value:
        const = Const.of(array, dtype)
        return Value(name, const.dtype, const.shape, const)

    @property
    def once(self) -> bool:
        """It never changes between runs: a constant, or made by a node that runs once at load."""
        return self.const is not None or (self.producer is not None and self.producer.once)

    def reaches(self, axes: Mapping[int, Length]) -> None:
        """Readers look at no more than the first places of these axes; of several promises what is in all holds."""
        if self.reach is None:
            self.reach = dict(axes)
        else:
            self.reach = {axis: d for axis, d in self.reach.items() if axes.get(axis) == d}

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)

    @property
    def size(self) -> int | None:
        return None if self.shape is None else prod(self.shape)

    def text(self) -> str:
        dims = "[?]" if self.shape is None else "[" + ",".join(map(str, self.shape)) + "]"
        return f"{self.dtype or '?'}{dims}"

    def __repr__(self) -> str:
        return f"%{self.name}: {self.text()}"


class Node:
    """One operator. `version` is the opset whose semantics it has; absent optional inputs are None.

    `captures` are the outer values that its subgraphs (GraphProto attributes) read, by the name they
    use inside. An absent optional output is a Value whose name is ''.
    """

    __slots__ = ("attrs", "captures", "domain", "inputs", "name", "once", "op", "outputs", "version")

    def __init__(
        self,
        op: str,
        inputs: Iterable[Value | None],
        outputs: Iterable[Value],
        attrs: dict[str, Any] | None = None,
        *,
        name: str = "",
        domain: str = "",
        version: int = 0,
        captures: dict[str, Value] | None = None,
    ) -> None:
        self.op, self.domain, self.version, self.name = op, domain, version, name
        self.attrs: dict[str, Any] = attrs if attrs is not None else {}
        self.inputs: list[Value | None] = list(inputs)
        self.outputs: list[Value] = list(outputs)
        self.captures: dict[str, Value] = captures or {}
        self.once = False
        for value in self.inputs:
            if value is not None:
                value.users.append(self)
        for value in self.captures.values():
            value.users.append(self)
        for value in self.outputs:
            value.producer = self

    @property
    def output(self) -> Value:
        """Its first output."""
        return self.outputs[0]

    def input(self, index: int) -> Value | None:
        """Input `index`, or None where it is absent or past the end."""
        return self.inputs[index] if index < len(self.inputs) else None

    def reads(self) -> Iterator[Value]:
        """Every value it depends on: inputs that are there, then captures."""
        for value in self.inputs:
            if value is not None:
                yield value
        yield from self.captures.values()

    def set_input(self, index: int, value: Value | None) -> None:
        old = self.inputs[index]
        if old is value:
            return
        if old is not None:
            old.users.remove(self)
        if value is not None:
            value.users.append(self)
        self.inputs[index] = value

    def detach(self) -> None:
        """Takes it out of its inputs' user lists; for a node about to be dropped."""
        for value in self.reads():
            value.users.remove(self)
        self.inputs, self.captures = [], {}

    def text(self) -> str:
        outs = ", ".join(repr(v) for v in self.outputs if v.name)
        ins = ", ".join(operand(v) for v in self.inputs)
        attrs = "".join(f" {k}={short(v)}" for k, v in self.attrs.items())
        seen = f" captures({', '.join(self.captures)})" if self.captures else ""
        op = f"{self.domain}.{self.op}" if self.domain else self.op
        return f"{outs} = {op}({ins}){attrs}{seen}{' once' if self.once else ''}"

    def __repr__(self) -> str:
        return self.text()


class Graph:
    """Inputs, outputs and nodes in topological order.

    `output_names` are the model's names of the outputs; the Value behind one may be any value, an
    input or a constant included, and bears whatever name it had.
    """

    def __init__(
        self,
        name: str = "",
        inputs: Iterable[Value] = (),
        outputs: Iterable[Value] = (),
        nodes: Iterable[Node] = (),
        opset: dict[str, int] | None = None,
        output_names: Iterable[str] | None = None,
    ) -> None:
        self.name = name
        self.inputs: list[Value] = list(inputs)
        self.outputs: list[Value] = list(outputs)
        self.nodes: list[Node] = list(nodes)
        self.opset: dict[str, int] = dict(opset or {})
        self.output_names: list[str] = (
            [v.name for v in self.outputs] if output_names is None else list(output_names)
        )
        self.extends: dict[str, str] = {}
        """By output: the input that it goes on from. Its first places along an axis are that input's, whatever else is
        computed, and zeros lie behind it where they lie behind the input."""
        self.lengths: list[Value] = []
        """Those inputs that are the lengths of a request, which `Value.reach` counts in."""
        self.readers: dict[str, list[str]] = {}
        """By name, the nodes that read a node's outputs before passes made larger nodes of some: for placement."""
        self.stands_for: dict[str, str] = {}
        """By the name of a node that was dropped because its value is there already: the node that makes it by the same
        operation, "" where it is an input of the dropped one."""
        self.merged: dict[str, list[str]] = {}
        """By the name of a node that does the work of several: the names of all of them."""
        self._serial = 0

    def values(self) -> Iterator[Value]:
        """Every value once: inputs, constants and node outputs, in order of first sight."""
        seen: set[Value] = set()
        for value in self._occurrences():
            if value not in seen:
                seen.add(value)
                yield value

    def _occurrences(self) -> Iterator[Value]:
        yield from self.inputs
        for node in self.nodes:
            yield from [v for v in node.inputs if v is not None]
            yield from node.captures.values()
            yield from [v for v in node.outputs if v.name]
        yield from self.outputs

    def constants(self) -> list[Value]:
        """The constants that something reads."""
        return [v for v in self.values() if v.const is not None]

    def names(self, nodes: Iterable[Node]) -> list[str]:
        """The names of nodes, and of those that they do the work of."""
        return list(dict.fromkeys(name for n in nodes for name in self.merged.get(n.name, (n.name,))))

    def is_output(self, value: Value) -> bool:
        return any(v is value for v in self.outputs)

    def replace(self, old: Value, new: Value) -> None:
        """Lets every user of `old`, graph outputs included, read `new` instead."""
        if old is new:
            return
        if new.users or self.is_output(new):  # somebody else reads it as well
            if new.reach is not None:
                new.reaches(old.reach or {})
        elif new.producer is not None:
            new.reach = old.reach
        for node in old.users:
            node.inputs = [new if v is old else v for v in node.inputs]
            for name, value in node.captures.items():
                if value is old:
                    node.captures[name] = new
        new.users.extend(old.users)
        old.users = []
        self.outputs = [new if v is old else v for v in self.outputs]

    def fresh(self, stem: str) -> str:
        """A value name that no ONNX exporter makes, unique in this graph."""
        self._serial += 1
        return f"{stem}~{self._serial}"

    def constant(self, array: Array, stem: str = "const", dtype: str | None = None) -> Value:
        """A new constant value; it becomes part of the graph once a node reads it."""
        return Value.constant(self.fresh(stem), np.asarray(array), dtype)

    def remove(self, dead: Iterable[Node]) -> None:
        """Drops nodes whose outputs nobody reads."""
        gone = set(dead)
        for node in gone:
            node.detach()
        self.nodes = [node for node in self.nodes if node not in gone]

    def sort(self) -> None:
        """Orders nodes so that producers come first, else as they are. Raises ValueError on a cycle."""
        order: list[Node] = []
        state: dict[Node, int] = {}
        for root in self.nodes:
            stack: list[tuple[Node, Iterator[Value]]] = [(root, root.reads())] if root not in state else []
            while stack:
                node, deps = stack[-1]
                state[node] = 1
                for value in deps:
                    dep = value.producer
                    if dep is not None and state.get(dep) != 2:
                        if state.get(dep) == 1:
                            raise ValueError(f"cycle through {dep.op} {dep.name!r}")
                        stack.append((dep, dep.reads()))
                        break
                else:
                    state[node] = 2
                    order.append(node)
                    stack.pop()
        self.nodes = order

    def copy(self) -> Graph:
        """A graph of new Values and Nodes; constants' data and attribute objects are shared."""
        twin: dict[Value, Value] = {}

        def of(value: Value) -> Value:
            new = twin.get(value)
            if new is None:
                new = twin[value] = Value(value.name, value.dtype, value.shape, value.const)
                new.type, new.reach = value.type, value.reach
            return new

        inputs = [of(v) for v in self.inputs]
        nodes: list[Node] = []
        for node in self.nodes:
            new = Node(
                node.op,
                [None if v is None else of(v) for v in node.inputs],
                [of(v) for v in node.outputs],
                dict(node.attrs),
                name=node.name,
                domain=node.domain,
                version=node.version,
                captures={k: of(v) for k, v in node.captures.items()},
            )
            new.once = node.once
            nodes.append(new)
        graph = Graph(self.name, inputs, [of(v) for v in self.outputs], nodes, self.opset, self.output_names)
        graph.extends = dict(self.extends)
        graph.lengths = [of(v) for v in self.lengths]
        graph.readers = dict(self.readers)
        graph.stands_for = dict(self.stands_for)
        graph.merged = dict(self.merged)
        graph._serial = self._serial
        return graph

    def check(self) -> None:
        """Asserts the invariants: order, producers, user lists. For tests and DEBUG=6."""
        ready: set[Value] = set(self.inputs)
        users: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in node.reads():
                assert value.const is not None or value in ready, f"{node} reads {value} before it is made"
                users.setdefault(value, []).append(node)
            for value in node.outputs:
                assert value.producer is node, f"{value} does not know its producer {node}"
                assert value.const is None, f"{value} is both made and constant"
                ready.add(value)
        for value in self.outputs:
            assert value.const is not None or value in ready, f"output {value} is never made"
        for value, nodes in users.items():
            assert sorted(map(id, nodes)) == sorted(map(id, value.users)), f"user list of {value} is stale"
        assert len(self.outputs) == len(self.output_names)

    def __str__(self) -> str:
        ins = ", ".join(repr(v) for v in self.inputs)
        opset = " ".join(f"{d or 'ai.onnx'}:{v}" for d, v in self.opset.items())
        outs = ", ".join(
            f"{name}={operand(v)}" if name != v.name else repr(v)
            for name, v in zip(self.output_names, self.outputs, strict=True)
        )
        return "\n".join(
            [f"graph {self.name}({ins}) {opset}", *(f"  {n.text()}" for n in self.nodes), f"  return {outs}"]
        )
