"""Operators of other domains in a graph with room: an expansion is written for exact shapes, so it is made for some.

`expanded(walk, node, inputs)` gives nodes whose constants are the same in all, or lengths throughout, or arrays of
which the shorter are the beginning of the longer; and which value stands for which output. NoRoom for others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import NnjitError
from ..const import Const
from ..dtypes import NUMPY
from ..extensions import expansion
from ..ir import Node, Value
from ..shapes import infer_node
from .extent import Axes, Extent, Growth, Symbol
from .lengths import Length, NoRoom, Var, free

if TYPE_CHECKING:
    from .maker import Inputs, Maker

BEYOND = 64
"""Offsets of lengths that an array made for more than the capacity is long enough for."""


Numbers = Mapping[Var, int]


class Probe:
    """The expansion of a node for one n: what it makes each number of."""

    def __init__(self, walk: Maker, node: Node, inputs: Inputs, n: Numbers) -> None:
        from ..extensions.body import Body  # for the few models that have such nodes

        self._serial = 0
        self.inputs = [None if x is None else _input(x, n, str(i)) for i, x in enumerate(inputs)]
        outputs = [Value(v.name, v.dtype) for v in node.outputs]
        here = Node(node.op, self.inputs, outputs, dict(node.attrs), name=node.name, domain=node.domain,
                    version=node.version)  # fmt: skip
        infer_node(here)
        body = Body(here, self._fresh, self._settle)
        function = expansion(node.domain, node.op)
        assert function is not None
        found = function(body)
        self.nodes = body.nodes
        self.results: Sequence[Value | None] | None = (
            [found] if isinstance(found, Value) else None if found is None else list(found)
        )
        self.places: dict[int, tuple[Any, ...]] = {
            id(v): ("input", i) for i, v in enumerate(self.inputs) if v is not None
        }
        self.places |= {
            id(v): ("made", i, j) for i, made in enumerate(self.nodes) for j, v in enumerate(made.outputs)
        }

    def _fresh(self, stem: str) -> str:
        self._serial += 1
        return f"{stem}~{self._serial}"

    def _settle(self, nodes: list[Node]) -> list[Node]:
        for node in nodes:
            infer_node(node)
        return nodes

    def place(self, value: Value | None) -> Any:
        """Where a value comes from: the same for the same place of every probe."""
        if value is None:
            return None
        return self.places.get(id(value), "constant" if value.const is not None else "else")


def _input(x: Extent, n: Numbers, name: str) -> Value:
    if x.symbol is not None:
        numbers = x.symbol.array(lambda d: d.under(free(n)))
        return Value.constant(name, numbers.astype(NUMPY[x.symbol.dtype]), x.symbol.dtype)
    value = x.tensor
    if not x.axes:
        return Value(name, value.dtype, value.shape, value.const)
    return Value(name, value.dtype, tuple(d.under(free(n)) for d in x.dims()))


def expanded(walk: Maker, node: Node, inputs: Inputs) -> list[Node] | None:
    """Nodes for the walk to go through, the last of them giving the node's outputs; None if it stays as it is."""
    if expansion(node.domain, node.op) is None:
        return None
    if not any(x is not None and (x.axes or x.symbol is not None) for x in inputs):
        return _made(walk, node, inputs, [{}])
    names = sorted({v for x in inputs if x is not None for v in _vars(x)})
    # some that no fixed dim is near, each number larger once and all of them in the end; what is wanted, which one
    # may be longer than; then the least that does alike
    first = {v: walk.places_of(v) + BEYOND for v in names}
    far = [first, *({**first, v: first[v] + 1} for v in names), {v: d + 7 for v, d in first.items()}]
    least, wanted = tuple(walk.least), walk.wanted
    more = tuple(min(low + 1, n) for low, n in zip(least, wanted, strict=True))
    for low in sorted({least, more, wanted}):
        try:
            near = [{v: v.at(n) for v in names} for n in (wanted, low)]
            found = _made(walk, node, inputs, [*far, *near])
        except NoRoom:
            if low == wanted:
                raise
            continue
        walk.require(low)
        return found
    raise NoRoom(f"it is given for {walk.least} and more")


def _vars(x: Extent) -> list[Var]:
    lengths = x.symbol.flat() if x.symbol is not None else [g.length for g in x.axes.values()]
    return [v for length in lengths for v, _ in length.terms]


def _made(walk: Maker, node: Node, inputs: Inputs, lengths: Sequence[Numbers]) -> list[Node] | None:
    try:
        probes = [Probe(walk, node, inputs, n) for n in lengths]
    except NnjitError as error:
        raise NoRoom(error.message) from error
    if any(p.results is None for p in probes):
        return None
    if len({len(p.nodes) for p in probes}) > 1:
        raise NoRoom("its definition depends on n")
    made: dict[Any, Value] = {("input", i): v for i, v in enumerate(node.inputs) if v is not None}
    known: dict[int, Value] = {}

    def source(values: Sequence[Value | None]) -> Value | None:
        places = [p.place(v) for p, v in zip(probes, values, strict=True)]
        if any(place != places[0] for place in places):
            raise NoRoom("its definition depends on n")
        if values[0] is None or places[0] == "else":
            return None
        if places[0] != "constant":
            return made[places[0]]
        key = id(values[0])
        if key not in known:
            consts = [v.const for v in values if v is not None and v.const is not None]
            known[key] = _constant(walk, lengths, consts)
        return known[key]

    nodes: list[Node] = []
    for i, same in enumerate(zip(*(p.nodes for p in probes), strict=True)):
        one = same[0]
        if len({(x.op, x.domain, len(x.inputs), len(x.outputs), _text(x.attrs)) for x in same}) > 1:
            raise NoRoom("its definition depends on n")
        read = [source(values) for values in zip(*(x.inputs for x in same), strict=True)]
        outputs = [Value(walk.old.fresh(v.name or "made")) if v.name else Value("") for v in one.outputs]
        made.update({("made", i, j): v for j, v in enumerate(outputs)})
        nodes.append(Node(one.op, read, outputs, dict(one.attrs), name=one.name, domain=one.domain,
                          version=one.version))  # fmt: skip
    results = list(zip(*(p.results or () for p in probes), strict=True))
    for old, values in zip(node.outputs, results, strict=False):
        value = source(values)
        if value is not None and old.name:
            nodes.append(Node("Identity", [value], [old], name=node.name, version=node.version))
    return nodes


def _text(attrs: dict[str, Any]) -> str:
    return repr(sorted((name, str(value)) for name, value in attrs.items()))


def _constant(walk: Maker, lengths: Sequence[Numbers], consts: Sequence[Const]) -> Value:
    """A value of the old graph for a constant of the probes, and what is known of it."""
    first = consts[0]
    if all(c is first or _same(c, first) for c in consts[1:]):
        return Value(walk.old.fresh("const"), first.dtype, first.shape, first)
    arrays = [c.numpy() for c in consts]
    value = Value(walk.old.fresh("const"), first.dtype)
    known = list(zip(lengths, arrays, strict=True))
    if len({a.shape for a in arrays}) == 1:
        walk.known[value] = walk.symbol(_affine(known, first.dtype))
        return value
    walk.known[value] = _prefix(walk, known, first.dtype)
    return value


def _same(a: Const, b: Const) -> bool:
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and (a.range == b.range if a.range is not None else np.array_equal(a.numpy(), b.numpy()))
    )


def _length(known: Sequence[tuple[Numbers, int]]) -> Length | None:
    """The sum of lengths that has these values; the first probe, and those that have one number larger, tell."""
    (n, first), found = known[0], Length(int(known[0][1]))
    for at, v in enumerate(n):
        factor = int(known[1 + at][1]) - int(first)
        found = found + Length(-factor * n[v], ((v, factor),) if factor else ())
    return found if all(found.under(free(m)) == d for m, d in known) else None


def _affine(known: Sequence[tuple[Numbers, Any]], dtype: str) -> Symbol:
    shape = known[0][1].shape
    found: list[Length] = []
    for at in np.ndindex(shape):
        length = _length([(n, a[at]) for n, a in known])
        if length is None:
            raise NoRoom("a constant of its definition is no length")
        found.append(length)
    return Symbol.listed(found, shape, dtype)


def _prefix(walk: Maker, known: Sequence[tuple[Numbers, Any]], dtype: str) -> Extent:
    """An array that only becomes longer with n."""
    axes: Axes = {}
    long = known[len(known[0][0]) + 1][1]
    for axis in range(long.ndim):
        length = _length([(n, array.shape[axis]) for n, array in known])
        if length is None:
            raise NoRoom("a constant of its definition is not as long as a length")
        if length.terms:
            axes[axis] = Growth(length)
    for _, shorter in known:
        if not np.array_equal(shorter, long[tuple(slice(d) for d in shorter.shape)]):
            raise NoRoom("a constant of its definition holds other numbers for another n")
    cut = long[tuple(slice(walk.cap(axes[i].length)) if i in axes else slice(None) for i in range(long.ndim))]
    made = Extent(walk.b.value(Const.of(np.ascontiguousarray(cut), dtype)), axes)
    return walk.checked(made)
