"""What rules of a graph with room are written with: nodes of the new graph, lengths, masks.

`Maker(graph, capacity, wanted)`: `b` makes nodes, `copy` and `again` take over one of the old graph, `clean` fills what
lies beyond n, `number` and `numbers` compute lengths from n; `growth`, `negative` and `at_least` keep the range of n.
n stands for all the numbers of a request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np

from ..const import Const
from ..dtypes import FLOATS, NUMPY, TO_ONNX
from ..fold import fold_node
from ..ir import Graph, Node, Value
from ..passes.rewrite import Builder
from ..registering import registering
from ..shapes import infer_node
from .extent import Axes, Extent, Growth, Symbol
from .lengths import Length, NoRoom, Var
from .symbols import span

Inputs: TypeAlias = "list[Extent | None]"
Rule: TypeAlias = "Callable[[Maker, Node, Inputs], list[Extent]]"
RULES: dict[str, Rule] = {}
LENGTH = "length"
PRODUCTS = ("MatMul", "Gemm", "MatMulNBits", "MatMulInteger", "QLinearMatMul")


rule = registering(RULES)
"""Registers the rule of operators (domain.op for domains other than ONNX's) whose inputs grow or are symbols."""


class Maker:
    """See the module. A growing axis has as many places as its length has at capacity, whatever is added to it: lengths
    that differ by a token share one shape.
    least, most: the n that the graph serves; a rule narrows them where a node does the same only there, on the side
    where `wanted` lies."""

    def __init__(self, graph: Graph, capacity: Sequence[int], wanted: Sequence[int]) -> None:
        self.old, self.capacity, self.wanted = graph, tuple(capacity), tuple(wanted)
        self.least, self.most = [1] * len(capacity), list(capacity)
        self.graph = Graph(graph.name, opset=graph.opset, output_names=graph.output_names)
        self.graph._serial = graph._serial
        self.known: dict[Value, Extent] = {}
        self.lengths = [Value(graph.fresh(LENGTH), "i64", ()) for _ in capacity]
        self.caps: dict[Var, int] = {}
        """Places of an axis that is as long as a quotient."""
        self.b = Builder(self.graph, Node("Identity", [], [Value("room")], name="room"))
        self.begins: dict[Value, Value] = {}
        """The result of appending -> what it begins with, of the same shape at capacity."""
        self.filled: dict[Value, set[int]] = {}
        """Values whose kernel ends with what lies beyond a length, and the axes."""
        self._cache: dict[Any, Value] = {}
        self._cleaned: dict[Value, tuple[Value, int, Length, float]] = {}
        """By a value of the new graph: the same with a number beyond n, the axis, its length (a tensor and its slice
        may be one value) and the number."""

    def extent(self, old: Value) -> Extent:
        """What has become of a value of the old graph."""
        found = self.known.get(old)
        if found is None:  # a constant
            new = Value(old.name, old.dtype, old.shape, old.const)
            new.type = old.type
            found = self.known[old] = Extent(new)
        return self._cleaner(found)

    def _cleaner(self, x: Extent) -> Extent:
        """x after what lies beyond it has been filled for another reader, if that was anything: one kernel makes it so
        for all that come later."""
        done = self._cleaned.get(x.value) if x.value is not None else None
        if done is None:
            return x
        value, axis, length, fill = done
        if x.axes.get(axis) != Growth(length):
            return x
        return self.counted(Extent(value, {**x.axes, axis: Growth(length, fill)}))

    def symbol(self, s: Symbol) -> Extent:
        """The extent of numbers; a constant where none depends on n."""
        if s.fixed:
            return Extent(self.b.const(s.offset, s.dtype))
        return Extent(None, {}, s)

    def copy(self, node: Node, inputs: Inputs, axes: Axes | None = None) -> list[Extent]:
        """The node on these inputs, its outputs growing as `axes` says."""
        return self.again(node, [None if x is None else self.data(x) for x in inputs], axes)

    def again(
        self,
        node: Node,
        inputs: Sequence[Value | None],
        axes: Axes | None = None,
        attrs: dict[str, Any] | None = None,
    ) -> list[Extent]:
        """The node's operator on these values, with its attributes or others, inferred, and folded where constant."""
        outputs = [Value(v.name, v.dtype if v.type is not None else "") for v in node.outputs]
        captures = {name: self.data(self.extent(v)) for name, v in node.captures.items()}
        given = dict(node.attrs if attrs is None else attrs)
        new = Node(node.op, inputs, outputs, given, name=node.name, domain=node.domain,
                   version=node.version, captures=captures)  # fmt: skip
        for value, old in zip(outputs, node.outputs, strict=True):
            value.type = old.type
        infer_node(new)
        found = fold_node(new)
        if found is None or any(a is None or isinstance(a, (list, dict)) for a in found):
            self.b.nodes.append(new)
        else:
            for value, array in zip([v for v in outputs if v.name], found, strict=False):
                value.const = Const.of(np.asarray(array), value.dtype if value.dtype == "string" else None)
                value.dtype, value.shape, value.producer = value.const.dtype, value.const.shape, None
            new.detach()
        return [self.checked(Extent(v, dict(axes or {}) if v.name else {})) for v in outputs]

    def checked(self, x: Extent) -> Extent:
        """x, whose growing axes are as long as their capacities say."""
        for axis, growth in x.axes.items():
            if x.shape[axis] != self.cap(growth.length):
                raise NoRoom(f"axis {axis} of {x.shape} is not the capacity of {growth.length}")
            self.growth(growth.length)
        return x

    def growth(self, length: Length, rest: float | None = None) -> Growth:
        """A growing axis; n is kept where it has elements and fits."""
        if not length.terms or any(c < 1 for _, c in length.terms):
            raise NoRoom(f"an axis is {length} long")
        self.at_least(length, 1)
        self.at_least(-length, -self.cap(length))
        return Growth(length, rest)

    def cap(self, length: Length) -> int:
        return sum(c * self.places_of(v) for v, c in length.terms) if length.terms else length.b

    def places_of(self, v: Var, wanted: int = 0) -> int:
        """Places for a number of a request, or for a quotient: so many as its first axis asks for."""
        if not v.steps:
            return self.capacity[v.root]
        return self.caps.setdefault(v, wanted or v.cap(self.capacity))

    def require(self, least: Sequence[int]) -> None:
        """n is at least so much, or a node would not do the same."""
        self.least = [max(pair) for pair in zip(self.least, least, strict=True)]

    def at_least(self, length: Length, bound: int) -> None:
        """length >= bound for every n from now on."""
        low, high = span(length, self.least, self.most)
        if low >= bound:
            return
        if high < bound:
            raise NoRoom(f"{length} is less than {bound}")
        for v, c in length.terms:  # with the others as small as may be, where what is wanted stays served
            others = low - min(c * v.at(self.least), c * v.at(self.most))
            if len(length.terms) == 1 or c * v.at(self.wanted) + others >= bound:
                self._narrow(v, c, bound - others)
                return
        raise NoRoom(f"{length} is less than {bound} for some lengths")

    def _narrow(self, v: Var, c: int, bound: int) -> None:
        """c * v >= bound."""
        if c > 0:
            x = -(-bound // c)
            for a, r, s in reversed(v.steps):
                x = -(-(s * x - r) // a)
            self.least[v.root] = max(self.least[v.root], x)
        else:
            x = -bound // -c
            for a, r, s in reversed(v.steps):
                x = (s * x + s - 1 - r) // a
            self.most[v.root] = min(self.most[v.root], x)

    def negative(self, length: Length) -> bool:
        """Whether length < 0, for every n from now on."""
        low, high = span(length, self.least, self.most)
        if high < 0 or low >= 0:
            return high < 0
        if length.at(self.wanted) < 0:
            self.at_least(-length, 1)
            return True
        self.at_least(length, 0)
        return False

    def data(self, x: Extent) -> Value:
        """The tensor of an extent; a symbol's numbers are computed from n."""
        if x.value is None:
            assert x.symbol is not None
            x.value = self.numbers(x.symbol)
        return x.value

    def numbers(self, s: Symbol) -> Value:
        """The integers that a symbol stands for in a run, of its type and shape: a constant, or made from lengths."""
        offset = s.offset
        if s.fixed:
            return self.b.const(offset, s.dtype)
        key = ("numbers", s.dtype, s.shape, tuple(s.flat()))
        if key not in self._cache:
            value: Value | None = None
            for v in s.vars():
                factor, part = s.factor(v), self.now(v)
                if np.any(factor != 1) or s.shape:
                    part = self.b("Mul", [part, self.b.const(factor)])
                value = part if value is None else self.b("Add", [value, part])
            assert value is not None
            if np.any(offset):
                value = self.b("Add", [value, self.b.const(offset)])
            self._cache[key] = value if s.dtype == "i64" else self.cast(value, s.dtype)
        return self._cache[key]

    def now(self, v: Var) -> Value:
        """i64, a scalar: a number of the request that runs, or the quotient of one."""
        if not v.steps:
            return self.lengths[v.root]
        if v not in self._cache:
            value, (a, r, s) = self.now(Var(v.root, v.steps[:-1])), v.steps[-1]
            if a != 1:
                value = self.b("Mul", [value, self.b.const(np.array(a))])
            if r:
                value = self.b("Add", [value, self.b.const(np.array(r))])
            self._cache[v] = self.b("Div", [value, self.b.const(np.array(s))])
        return self._cache[v]

    def number(self, length: Length, dtype: str = "i64", rank: int = 0) -> Value:
        """A length as a tensor of one element."""
        return self.numbers(Symbol.listed([length], (1,) * rank, dtype))

    def cast(self, x: Value, dtype: str) -> Value:
        return x if x.dtype == dtype else self.b("Cast", [x], to=TO_ONNX[dtype])

    def places(self, count: int, rank: int, axis: int, dtype: str = "i32") -> Value:
        """0, 1, 2, ... along one axis of `rank`."""
        shape = [1] * rank
        shape[axis] = count
        return self.b.const(np.arange(count).reshape(shape), dtype)

    def inside(self, length: Length, rank: int, axis: int) -> Value:
        """bool, true at the places of an axis that n reaches; the other axes are 1 long."""
        key = ("inside", length, rank - axis)
        if key not in self._cache:
            places = self.places(self.cap(length), rank - axis, 0)
            self._cache[key] = self.b("Less", [places, self.number(length, "i32")])
        return self._cache[key]

    def clean(self, x: Extent, axis: int, fill: float, force: bool = False) -> Extent:
        """x with `fill` in the places of a growing axis that n does not reach."""
        growth = x.axes.get(axis)
        if growth is None or (growth.rest == fill and not force):
            return x
        value = self._filled(self.data(x), axis, growth.length, fill)
        return self.counted(Extent(value, {**x.axes, axis: Growth(growth.length, fill)}))

    def counted(self, x: Extent) -> Extent:
        """x, whose tensor knows now how much of it anybody looks at. A tensor may be several extents."""
        value = x.value
        if value is not None and value.producer is not None and value.const is None:
            value.reaches({axis: g.length for axis, g in x.axes.items() if g.rest is None})
        return x

    def _filled(self, value: Value, axis: int, length: Length, fill: float) -> Value:
        """Where(inside, value, fill), before the views that made the value: there it is the end of a kernel, behind
        them a kernel of its own."""
        node, shape = value.producer, value.shape or ()
        source = node.inputs[0] if node is not None and node.inputs else None
        if node is not None and source is not None and source.shape is not None and source.const is None:
            if node.op == "Transpose":
                perm = list(node.attrs.get("perm") or range(len(shape))[::-1])
                return self.b("Transpose", [self._filled(source, perm[axis], length, fill)], perm=perm)
            by = finite(node.inputs[1]) if node.op in ("Mul", "Div") and fill == 0.0 else None
            if by is not None and source.shape == shape:
                return self.b(node.op, [self._filled(source, axis, length, fill), by])
            same = [
                i
                for i, d in enumerate(source.shape)
                if d == shape[axis] and prod(source.shape[:i]) == prod(shape[:axis])
            ]
            if node.op == "Reshape" and len(same) == 1:
                return self.b.reshape(self._filled(source, same[0], length, fill), shape)
        done = self._cleaned.get(value)
        if done is not None and done[1:] == (axis, length, fill):
            return done[0]
        inside = self.inside(length, len(shape), axis)
        found = self.b("Where", [inside, value, self.b.const(fill, value.dtype)])
        if value.reach is not None and value.producer is not None:
            self.fills(value, axis)
            found.reach = {i: d for i, d in value.reach.items() if i != axis}
        self._cleaned[value] = found, axis, length, fill
        return found

    def fills(self, value: Value, axis: int) -> None:
        """The kernel of `value`, of which this may be the end, makes all places of an axis."""
        while value.shape is not None and axis not in self.filled.setdefault(value, set()):
            self.filled[value].add(axis)
            node = value.producer
            if node is None or node.op in PRODUCTS:
                break
            like = [v for v in node.inputs if v is not None and v.shape == value.shape]
            if len(like) != 1:
                break
            value = like[0]


def finite(value: Value | None) -> Value | None:
    """A constant number other than 0, infinity and NaN: 0 times it is 0."""
    if value is None or value.const is None or value.const.size != 1 or value.dtype not in FLOATS:
        return None
    number = float(value.const.numpy().reshape(-1)[0])
    return value if np.isfinite(number) and number != 0 else None


def lowest(dtype: str, sign: int = -1) -> float:
    """The number that no maximum (sign -1) or minimum (1) takes: infinite, or the type's last."""
    if dtype in FLOATS:
        return sign * float("inf")
    if dtype == "bool":
        return 0 if sign < 0 else 1
    info = np.iinfo(NUMPY[dtype])
    return int(info.min if sign < 0 else info.max)
