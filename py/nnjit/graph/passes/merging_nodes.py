"""How products become one (merging.py): their weights and what follows them side by side, views in their places."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .. import schemas
from ..const import Const
from ..dtypes import NUMPY
from ..ir import Graph, Node, Value
from .merging_parts import NEUTRAL, Part, axis_of, even
from .rewrite import Builder


def merge(graph: Graph, group: list[Part]) -> None:
    """Puts one product in the place of the first of a group, and views of its result in the place of theirs."""
    first = group[0]
    b = Builder(graph, first.node)
    lead, stacked = (first.left.shape or ())[:-2], even(group)
    weight = _weights(b, [p.weight for p in group], axis_of(group), first.turned, len(lead))
    y = b("MatMul", [first.left, weight])
    _name(graph, b, first.node.name, [p.node for p in group])
    for steps in _aligned(group):
        op, attrs, consts, nodes = steps
        others = [] if consts is None else [_spread(b, op, group, consts, len(lead) if stacked else -1)]
        y = b(op, [y, *others], **attrs)
        if nodes:
            _name(graph, b, nodes[0].name, nodes)
    views = _views(b, y, group, stacked)
    at = graph.nodes.index(first.node)
    graph.nodes[at:at] = [*b.nodes, *views]
    graph.remove([n for p in group for n in (p.node, *(s.node for s in p.steps if s.node is not None))])


def _name(graph: Graph, b: Builder, name: str, nodes: Sequence[Node]) -> None:
    """The node made last is all of these."""
    b.nodes[-1].name = name
    graph.merged[name] = list(dict.fromkeys(graph.names(nodes)))


def _weights(b: Builder, weights: Sequence[Value], axis: int, turned: bool, lead: int) -> Value:
    """The right factors as one: [parts, 1, ..., k, n], or [k, columns of all]."""
    consts = [w.const for w in weights if w.const is not None]
    rows, columns = consts[0].shape
    if axis == 1:
        return _at_load(b, "Concat", weights, (rows, sum(c.shape[1] for c in consts)), axis=1)
    if axis < 0:
        value = b.value(_joined(consts, (len(consts), *[1] * lead, rows, columns)))
        order = [*range(1 + lead), lead + 2, lead + 1]
    else:
        value = b.value(_joined(consts, (sum(c.shape[0] for c in consts), columns)))
        order = [1, 0]
    seen = tuple((value.shape or ())[d] for d in order)
    return _at_load(b, "Transpose", [value], seen, perm=order) if turned else value


def _at_load(b: Builder, op: str, inputs: Sequence[Value], shape: tuple[int, ...], **attrs: Any) -> Value:
    """The output of a node on weights, which a Builder would fold: they are not to be read here."""
    made = Value(b.graph.fresh(b.like.output.name), inputs[0].dtype, shape)
    b.nodes.append(Node(op, inputs, [made], attrs, name=b.like.name, version=schemas.NEWEST))
    b.nodes[-1].once = True
    return made


def _joined(consts: Sequence[Const], shape: tuple[int, ...]) -> Const:
    """Constants one after the other; those in memory are put together."""
    if all(c.array is not None for c in consts):
        whole = np.concatenate([c.numpy().reshape(-1) for c in consts])
        return Const(consts[0].dtype, shape, whole.reshape(shape))
    return Const.joined(consts, shape)


def _aligned(
    group: Sequence[Part],
) -> Iterable[tuple[str, dict[str, Any], list[Value | None] | None, list[Node]]]:
    """What follows the products of a group, step by step: the operator, its attributes, the constant of each part
    (None: a number that changes nothing) and the nodes."""
    left = [list(p.steps) for p in group]
    while any(left):
        heads = [steps[0] if steps else None for steps in left]
        own = next((h for h in heads if h is not None and h.op in NEUTRAL), None) or next(
            h for h in heads if h is not None
        )
        taken = [h if h is not None and h.op == own.op else None for h in heads]
        for steps, h in zip(left, taken, strict=True):
            del steps[: h is not None]
        consts = [h.const if h is not None else None for h in taken] if own.op in NEUTRAL else None
        yield own.op, own.attrs, consts, [h.node for h in taken if h is not None and h.node is not None]


def _spread(b: Builder, op: str, group: Sequence[Part], consts: list[Value | None], lead: int) -> Value:
    """The constants of parts as one operand: [parts, 1, ..., n], or for lead -1 [columns of all]."""
    dtype = group[0].left.dtype
    made: list[Const] = []
    one = lead >= 0 and all(c is None or c.size == 1 for c in consts)
    for p, c in zip(group, consts, strict=True):
        n = 1 if one else p.width
        if c is not None and c.const is not None and c.size == n:
            made.append(c.const)
        else:
            number = NEUTRAL[op] if c is None or c.const is None else c.const.numpy().reshape(-1)[0]
            made.append(Const(dtype, (n,), np.full(n, number, NUMPY[dtype])))
    if any(c.nbytes % 4 for c in made):  # what a GPU writes in whole words is put together here
        made = [Const(dtype, c.shape, c.numpy()) for c in made]
    shape = (sum(c.size for c in made),) if lead < 0 else (len(group), *[1] * (lead + 1), made[0].size)
    return b.value(_joined(made, shape))


def _views(b: Builder, y: Value, group: Sequence[Part], stacked: bool) -> list[Node]:
    """The nodes that give each part's end its value, which keeps its name and its readers."""
    assert y.shape is not None
    axis = 0 if stacked else len(y.shape) - 1
    sizes = [1] * len(group) if stacked else [p.width for p in group]
    seen = [
        Value(b.graph.fresh(y.name), y.dtype, tuple(n if d == axis else e for d, e in enumerate(y.shape)))
        for n in sizes
    ]
    ends = [p.end if not stacked else v for p, v in zip(group, seen, strict=True)]

    def view(op: str, inputs: list[Value], outputs: list[Value], **attrs: Any) -> Node:
        return Node(op, inputs, outputs, attrs, name=b.like.name, version=schemas.NEWEST)

    nodes = [view("Split", [y, b.const(sizes)], ends, axis=axis)]
    if stacked:
        pairs = zip(group, seen, strict=True)
        nodes += [view("Reshape", [v, b.const(list(p.end.shape or ()))], [p.end]) for p, v in pairs]
    return nodes


def read_from(graph: Graph, p: Part, weights: Sequence[Value], known: tuple[tuple[Any, ...], int]) -> None:
    """Lets a product that stays by itself read its weights where an earlier plan has put them with others."""
    data, axis = known
    b = Builder(graph, p.node)
    whole = _weights(b, weights, axis, False, 0)
    assert whole.shape is not None
    at, along = data.index(p.data), max(axis, 0)
    sizes = [1 if axis < 0 else (w.shape or ())[axis] for w in weights]
    places = [b.const([n]) for n in (sum(sizes[:at]), sum(sizes[: at + 1]), along)]
    shape = tuple(sizes[at] if d == along else n for d, n in enumerate(whole.shape))
    seen = _at_load(b, "Slice", [whole, *places], shape)
    seen = b.reshape(seen, p.weight.shape or ())
    for n in dict.fromkeys(p.weight.users):
        for i, v in enumerate(n.inputs):
            if v is p.weight:
                n.set_input(i, seen)
    graph.nodes[0:0] = b.nodes
