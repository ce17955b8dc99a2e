"""The walk that gives a graph room: node by node, a graph for the capacity that serves every shorter length.

`Walk(graph, sizes, capacity, wanted)` takes a graph whose inputs have shapes; `run()` makes the new one. Rules
(`RULES`, by operator) say how growing axes pass through a node and what has to be masked; a node that touches a growing
axis and has no rule ends it with NoRoom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..bodies import inline
from ..dtypes import FLOATS, INTS
from ..infer import taken_branch
from ..ir import Graph, Node, Value
from ..passes.rewrite import Builder
from . import elementwise, symbols
from .expansion import expanded
from .extent import SYMBOLIC, Extent, Symbol, Work
from .lengths import Length, NoRoom
from .maker import PRODUCTS, RULES, Inputs, Maker

ENDING = {
    *PRODUCTS,
    *elementwise.UNARY,
    *elementwise.BROADCAST,
    *(
        "Clip",
        "LayerNormalization",
        "RMSNormalization",
        "Softmax",
        "Reshape",
        "Transpose",
        "Unsqueeze",
        "Squeeze",
    ),
}
"""Operators whose kernels leave out what is beyond a length where nobody looks at it, or that are no kernels."""
ELEMENT = 8.0
"""Multiply-adds that take as long as one element made: about 4 bytes read and written against 30 a nanosecond."""
COPIED = 24.0
"""The same of an element of an input or output: it is copied, or made zero, at about 5 bytes a nanosecond."""


class Walk(Maker):
    """See the module. `sizes`: by input, the lengths of axes that grow."""

    def __init__(
        self,
        graph: Graph,
        sizes: Mapping[str, Mapping[int, Length]],
        capacity: Sequence[int],
        wanted: Sequence[int],
    ) -> None:
        super().__init__(graph, capacity, wanted)
        self.work = Work({})
        self._counts: list[tuple[float, list[Length], Extent, bool]] = []
        self._once: set[Value] = set()
        for value in graph.inputs:
            axes = {axis: self.growth(length, 0.0) for axis, length in sizes.get(value.name, {}).items()}
            if axes and value.dtype not in FLOATS | INTS | {"bool"}:
                raise NoRoom(f"input {value.name!r} grows and holds {value.dtype}")
            shape = value.shape
            if shape is not None:
                shape = tuple(self.cap(axes[i].length) if i in axes else d for i, d in enumerate(shape))
            new = Value(value.name, value.dtype, shape)
            new.type = value.type
            self.graph.inputs.append(new)
            self.known[value] = Extent(new, axes)
            self._copied(self.known[value])
        self.graph.inputs += self.lengths
        self.graph.lengths = list(self.lengths)

    def run(self) -> Graph:
        """The graph with room; NoRoom names the node that stands against it."""
        todo = self.old.nodes[::-1]
        while todo:
            node = todo.pop()
            inputs = [None if v is None else self.extent(v) for v in node.inputs]
            body = self._branch(node, inputs)
            if body is not None:
                inner, outputs = inline(body, node.captures, self.old.fresh)
                todo += [
                    *(Node("Identity", [new], [old]) for old, new in zip(node.outputs, outputs, strict=True)),
                    *inner[::-1],
                ]
                continue
            self.b = Builder(self.graph, node)
            try:
                nodes = expanded(self, node, inputs)
                if nodes is not None:
                    self.graph.nodes += self.b.nodes
                    todo += nodes[::-1]
                    continue
                made = self._node(node, inputs)
            except NoRoom as refusal:
                raise NoRoom(f"{node.op} {node.name!r}: {refusal}") from None
            except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
                # a rule trusts its node, as shape rules do; a plan for each shape is always right
                raise NoRoom(f"{node.op} {node.name!r}: {type(error).__name__}: {error}") from error
            for value, found in zip(node.outputs, made, strict=False):
                self.known[value] = found
                self.counted(found)
                if value.name:
                    self._count(node, inputs, found)
            self.graph.nodes += self.b.nodes
        self.b = Builder(self.graph, Node("Identity", [], [Value("output")], name="room"))
        self.graph.outputs = [self.data(self.extent(v)) for v in self.old.outputs]
        for v in self.old.outputs:
            self._copied(self.extent(v))
        self.graph.nodes += self.b.nodes
        self._sum()
        for least, most, capacity in zip(self.least, self.most, self.capacity, strict=True):
            if least > most:
                raise NoRoom(f"a capacity of {capacity} serves no length: it needs {least} at least")
        return self.graph

    def extended(self) -> dict[str, str]:
        """By output: the input that something was appended to, where one axis grows and zeros lie behind both."""
        inputs = {v.name: v for v in self.graph.inputs}
        found: dict[str, str] = {}
        for name, old in zip(self.graph.output_names, self.old.outputs, strict=True):
            x = self.extent(old)
            first = self.begins.get(x.value) if x.value is not None else None
            if first is None or inputs.get(first.name) is not first or first.name in found.values():
                continue
            if [growth.rest for growth in x.axes.values()] == [0.0]:
                found[name] = first.name
        return found

    def _copied(self, x: Extent) -> None:
        if x.value is not None and x.value.shape is not None:
            self.work.add(COPIED, x.dims())

    def _count(self, node: Node, inputs: Inputs, made: Extent) -> None:
        """Adds what one node costs."""
        if made.value is None or made.value.const is not None or made.value.shape is None:
            return
        given = [x.value for x in inputs if x is not None]
        if given and all(v is not None and (v.const is not None or v in self._once) for v in given):
            self._once.add(made.value)  # made when the plan is loaded
            return
        first, weight = inputs[0] if inputs else None, _weight(node, inputs)
        dims, each, ends = made.dims(), ELEMENT, node.op in ENDING
        if node.op in PRODUCTS and first is not None:
            dims, each = [*dims, first.dim(0 if node.attrs.get("transA", 0) else first.rank - 1)], 1.0
        elif node.op in ("Conv", "ConvInteger", "QLinearConv") and weight is not None:
            dims, each = [*dims, *weight.dims()[1:]], 1.0
        elif node.op == "ConvTranspose" and first is not None and weight is not None:
            dims, each = [*first.dims(), *weight.dims()[1:]], 1.0
        elif node.op in ("LSTM", "GRU", "RNN") and first is not None and weight is not None:
            if made.rank != 4 and node.outputs[0].name:
                return  # a last state: the states have counted
            recurrent = inputs[2].shape[-1] if inputs[2] is not None else 0
            dims, each = [*first.dims()[:2], *weight.dims()[:2], first.dim(2) + recurrent], 1.0
        self._counts.append((each, dims, made, ends))

    def _sum(self) -> None:
        """All that was counted: kernels end where nobody looks at what comes, but for what is filled there."""
        for each, dims, made, ends in self._counts:
            x, filled = made.value, self.filled.get(made.tensor, set())
            reach = {} if x is None or x.reach is None or not ends else x.reach
            # the last axis of a product is its kernel's columns
            last = made.rank - 1 if len(dims) > made.rank else -1
            found = [d for axis, d in reach.items() if axis not in (last, *filled) and made.dim(axis) == d]
            self.work.add(each, dims, found)

    def _branch(self, node: Node, inputs: Inputs) -> Any | None:
        """The body of an If whose condition is known."""
        if node.op != "If" or node.domain or inputs[0] is None or inputs[0].constant() is None:
            return None
        return taken_branch(node, bool(inputs[0].constant().reshape(-1)[0]))

    def _node(self, node: Node, inputs: Inputs) -> list[Extent]:
        captured = [self.extent(v) for v in node.captures.values()]
        if any(x.axes for x in captured):
            raise NoRoom("its body reads a tensor that grows")
        given = [x for x in inputs if x is not None]
        grows, symbolic = any(x.axes for x in given), any(x.symbol is not None for x in given)
        if symbolic:
            found = self._symbols(node, inputs)
            if found is not None:
                return [found]
        if grows or symbolic:
            known = RULES.get(f"{node.domain}.{node.op}" if node.domain else node.op)
            if known is not None:
                return known(self, node, inputs)
            if grows:
                raise NoRoom("the operator has no rule for an axis that grows")
        made = self.copy(node, inputs)
        if symbolic and any(x.tensor.shape is None for x in made):
            raise NoRoom("what decides its shape is known at run time only")
        return made

    def _symbols(self, node: Node, inputs: Inputs) -> Extent | None:
        """What the node makes, where all it reads are constants and symbols."""
        read = [None if x is None else _as_symbol(x) for x in inputs]
        if any(s is None and x is not None for s, x in zip(read, inputs, strict=True)):
            return None
        found = symbols.evaluate(node, read, self.least, self.most)
        if found is None:
            return None
        return self.symbol(found)


def _weight(node: Node, inputs: Inputs) -> Extent | None:
    at = 3 if node.op == "QLinearConv" else 1
    return inputs[at] if at < len(inputs) else None


def _as_symbol(x: Extent) -> Symbol | None:
    if x.symbol is not None:
        return x.symbol
    if x.value is None or x.axes or x.value.const is None or x.value.const.size > SYMBOLIC:
        return None
    array = x.value.const.numpy()
    if array.dtype.kind not in "iubf":
        return None
    if array.dtype.kind == "f":
        wide = array.astype(np.float64)
        if not np.all((wide == np.rint(wide)) & (np.abs(wide) < 2**31)):
            return None
    return Symbol.of(array, x.value.dtype)
