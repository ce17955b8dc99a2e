"""Products that share their left factor become one, for devices on which a step is dear and a small product leaves most
of the device idle.

    q = Add(MatMul(x, Wq), bq)                        y = Add(MatMul(x, W[2,k,n]), b[2,1,n])
    v = Add(MatMul(x, Wv), bv)                   →    q, v = Split(y) along the first axis

The right factors lie one after the other in one constant that is never put together: what loads it reads each part from
where the model has it. Each sum has the same terms as before; what follows a product by itself (a bias that only some
have, a scale of one) is padded with numbers that change nothing. Factors of different widths stand beside each other
along the columns; where the model does not have them along the sum, steps at load put them there.

What was decided for a weight holds for the session (`Joined`): another plan reads it from where it lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from ..ir import Graph
from .cleanup import dead_code
from .merging_nodes import merge, read_from
from .merging_parts import Part, axis_of, even, may_merge, part_of

MOST_PARTS = 4
"""Products in one at most: what all layers of a decoder read of its encoder would else be in memory at once, and a
large product gets a tile that a driver compiles for half a second."""


@dataclass
class Joined:
    """What a session's plans did with the weights they have loaded. groups: of a weight, the data of all that lie in
    one constant with it, and along which of their axes. apart: of those that lie by themselves."""

    groups: dict[Any, tuple[tuple[Any, ...], int]] = field(default_factory=dict)
    apart: set[Any] = field(default_factory=set)

    def copy(self) -> Joined:
        return Joined(dict(self.groups), set(self.apart))


def merge_products(graph: Graph, joined: Joined | None = None, most_bytes: int = 1 << 31) -> Graph:
    """q = MatMul(x, Wq); v = MatMul(x, Wv)  →  q, v = Split(MatMul(x, [Wq, Wv])). joined: what earlier plans of the
    session have done; most_bytes: of the joined weights, and of a result."""
    joined = joined or Joined()
    readers = _readers(graph)
    parts = [p for p in (part_of(graph, n) for n in graph.nodes) if p is not None and readers[p.data] == 1]
    kinds: dict[tuple[Any, ...], list[Part]] = {}
    for p in parts:
        if may_merge(graph, p):
            kinds.setdefault(p.kind, []).append(p)
    done: set[Any] = set()
    for alike in kinds.values():
        for group in _groups(alike, joined, most_bytes):
            merge(graph, group)
            done.update(p.data for p in group)
            data, axis = tuple(p.data for p in group), axis_of(group)
            joined.groups |= dict.fromkeys(data, (data, axis))
    consts = {p.data: p.weight for p in parts}
    for p in parts:
        if p.data in done:
            continue
        known = joined.groups.get(p.data)
        if known is None:
            joined.apart.add(p.data)
        elif all(d in consts for d in known[0]):
            read_from(graph, p, [consts[d] for d in known[0]], known)
    return dead_code(graph) if done else graph


def _readers(graph: Graph) -> dict[Any, int]:
    """How many nodes read the data of each constant."""
    found: dict[Any, int] = {}
    for n in graph.nodes:
        for v in dict.fromkeys(n.reads()):
            if v.const is not None:
                found[v.const.data] = found.get(v.const.data, 0) + 1
    for v in graph.outputs:
        if v.const is not None:
            found[v.const.data] = found.get(v.const.data, 0) + 2
    return found


def _groups(alike: Sequence[Part], joined: Joined, most_bytes: int) -> Iterable[list[Part]]:
    """Products that become one: as an earlier plan had them, or as many as may be, in their order."""
    known: dict[tuple[Any, ...], list[Part]] = {}
    fresh: list[Part] = []
    for p in alike:
        if p.data in joined.groups:
            known.setdefault(joined.groups[p.data][0], []).append(p)
        elif p.data not in joined.apart:
            fresh.append(p)
    for data, members in known.items():
        if tuple(p.data for p in members) == data and _fit(members, most_bytes):
            yield members
    group: list[Part] = []
    for p in fresh:
        if len(group) == MOST_PARTS or not _fit([*group, p], most_bytes) or not _viewable([*group, p]):
            if len(group) > 1:
                yield group
            group = []
        group.append(p)
    if len(group) > 1:
        yield group


def _fit(group: Sequence[Part], most_bytes: int) -> bool:
    deep, rows = (group[0].left.shape or ())[-1], prod((group[0].left.shape or ())[:-1])
    # four bytes an element: f16 and bf16 take as much on a device that has them not
    return 4 * max(deep, rows) * sum(p.width for p in group) <= most_bytes


def _viewable(group: Sequence[Part]) -> bool:
    """Whether readers see their columns of a wider result without a copy: a Reshape has to leave rows and columns
    apart."""
    if even(group):
        return True
    shapes = [(u.output.shape, p.width) for p in group for u in p.end.users if u.op == "Reshape"]
    return all(s is not None and any(prod(s[d:]) == n for d in range(len(s))) for s, n in shapes)
