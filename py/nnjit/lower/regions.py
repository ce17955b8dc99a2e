"""Fusion: which nodes become one kernel.

A region is an anchor (any node with a kernel) and the pointwise nodes after it whose values never need
memory: from the anchor on, the graph is followed while everything stays pointwise at the anchor's shape,
and cut at the last point where a single value leaves.

    conv -> sigmoid -> mul        ->   one region conv+sigmoid+mul  (conv's value is read twice, inside)
            `-------->'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nnjit.graph.ir import Graph, Node, Value
from nnjit.lower.registry import kind

MAX_TREE = 4
"""Levels of pointwise nodes that are computed inside their reader: each adds operands, of which a GPU binds few."""
MAX_EPILOGUE = 24
"""Nodes after an anchor in one region: past this the registers are gone."""
MAX_TERMS = 1 << 13
"""Operands of a region's expression written out: where each node reads the one before twice, it doubles with each."""
READS = {"Gelu": 4} | dict.fromkeys(
    "Celu Elu HardSwish LeakyRelu Mish PRelu Selu Softplus Softsign Swish ThresholdedRelu".split(), 3
)
"""How often, at most, the expression of an operator has its operand."""


@dataclass(slots=True)
class Region:
    """`nodes` in order, the anchor first; `output` is the value that leaves. `out` is the anchor's output
    number that the region computes (a node with two read outputs has two regions)."""

    anchor: Node
    nodes: list[Node]
    output: Value
    kind: str
    out: int = 0
    inlined: list[Node] = field(default_factory=list)


def fuse(graph: Graph, node_kind: Callable[[Node], str] = kind) -> list[Region]:
    """The regions of a graph in an order that respects their data flow."""
    order = {n: i for i, n in enumerate(graph.nodes)}
    kinds = {n: node_kind(n) for n in graph.nodes}
    leaving = set(graph.outputs)
    taken: set[Node] = set()
    narrow = _dequantised(graph, kinds, leaving)
    inlined = _inlined(graph, kinds, leaving) | narrow
    regions: list[tuple[int, Region]] = []
    for n in graph.nodes:
        if n in taken or n in inlined:
            continue
        live = [i for i, v in enumerate(n.outputs) if v.name and (v.users or v in leaving)]
        if kinds[n] in ("view", "composite", "host"):
            regions.append((order[n], Region(n, [n], n.outputs[live[0] if live else 0], kinds[n])))
            continue
        for i in live:
            barred = taken | (inlined - narrow)
            grown = _grow(n, i, order, kinds, leaving, barred, narrow) if len(live) == 1 else []
            nodes = [n, *grown]
            taken.update(nodes)
            output = nodes[-1].outputs[0] if grown else n.outputs[i]
            regions.append((order[nodes[-1]], Region(n, nodes, output, kinds[n], i)))
    regions.sort(key=lambda r: r[0])
    found = [r for _, r in regions]
    for r in found:
        r.inlined = _sources(r, inlined)
    return found


def _sources(r: Region, inlined: set[Node]) -> list[Node]:
    out: list[Node] = []
    stack = list(r.nodes)
    while stack:
        for v in stack.pop().inputs:
            if v is not None and v.producer in inlined and v.producer not in (*out, *r.nodes):
                assert v.producer is not None
                out.append(v.producer)
                stack.append(v.producer)
    return out


def _inlined(graph: Graph, kinds: dict[Node, str], leaving: set[Value]) -> set[Node]:
    """Pointwise nodes computed again wherever they are read: cheap ones that only widen (casts, not,
    scalar arithmetic on a small tensor) in front of pointwise readers of a larger shape, and any
    pointwise node whose only reader is a plain reduction, which reads each element once."""
    out: set[Node] = set()
    for n in graph.nodes:
        if _widens(n, kinds):
            out.add(n)
        if kinds[n] != "pointwise" or n.once:
            continue
        v = n.outputs[0]
        if v in leaving or not v.users or not _single(n):
            continue
        users = set(v.users)
        if len(users) != 1 or len(v.users) != 1:
            continue
        user = next(iter(users))
        if user.op in READ_ONCE and kinds[user] == "computation":
            out.add(n)
    for n in graph.nodes:
        # z = x cos + y sin: one product begins the kernel, the other is computed where it is added
        begins = [v for v in dict.fromkeys(n.inputs) if v is not None and _begins(v, n, kinds, leaving)]
        if all(_is_tree(v, n, kinds, leaving) for v in begins):
            for v in begins[1:]:
                out |= _tree(v, kinds, leaving)
    return out


def _begins(v: Value, reader: Node, kinds: dict[Node, str], leaving: set[Value]) -> bool:
    """Whether a kernel may begin before `v` and go on with its reader."""
    made = v.producer is not None and kinds.get(v.producer) in ("pointwise", "computation", "injective")
    return made and v.shape == reader.outputs[0].shape and len(v.users) == 1 and v not in leaving


def _is_tree(v: Value, reader: Node, kinds: dict[Node, str], leaving: set[Value], depth: int = 0) -> bool:
    """Whether `v` is made of pointwise nodes alone, each read once, as large as what reads it, and would begin a
    kernel of its own."""
    n = v.producer
    if n is None or kinds.get(n) != "pointwise" or kinds.get(reader) != "pointwise" or n.once != reader.once:
        return False
    if len(v.users) != 1 or v in leaving or v.shape != reader.outputs[0].shape or not _single(n):
        return False
    if depth >= MAX_TREE or n.op == "DequantizeLinear":
        return False
    for x in n.inputs:
        if x is None or x.producer is None or x.shape != v.shape or len(x.users) != 1 or x in leaving:
            continue  # read from memory, whoever made it
        if kinds.get(x.producer) in ("computation", "injective") and x.producer.once == n.once:
            return False
        if kinds.get(x.producer) == "pointwise" and not _is_tree(x, n, kinds, leaving, depth + 1):
            return False
    return True


def _tree(v: Value, kinds: dict[Node, str], leaving: set[Value]) -> set[Node]:
    """The nodes of such a value."""
    n = v.producer
    assert n is not None
    found = {n}
    for x in n.inputs:
        if x is not None and _is_tree(x, n, kinds, leaving):
            found |= _tree(x, kinds, leaving)
    return found


def _dequantised(graph: Graph, kinds: dict[Node, str], leaving: set[Value]) -> set[Node]:
    """Each DequantizeLinear of bytes that only pointwise nodes read: done there, since bytes are a quarter of the
    memory. Behind a QuantizeLinear it joins the kernel if what follows does."""
    return {
        n
        for n in graph.nodes
        if n.op == "DequantizeLinear"
        and kinds[n] == "pointwise"
        and not n.once
        and n.inputs[0] is not None
        and n.inputs[0].dtype in ("i8", "u8")
        and n.outputs[0] not in leaving
        and bool(n.outputs[0].users)
        and all(kinds[u] == "pointwise" for u in n.outputs[0].users)
    }


def _widens(n: Node, kinds: dict[Node, str]) -> bool:
    """A Cast of constant bytes to floats, the right side of one matrix product: done in registers there."""
    x, v = n.inputs[0] if n.inputs else None, n.outputs[0]
    if (
        n.op != "Cast"
        or kinds[n] != "pointwise"
        or x is None
        or x.const is None
        or x.dtype not in ("i8", "u8")
    ):
        return False
    user = v.users[0] if len(v.users) == 1 else None
    return user is not None and user.op == "MatMul" and user.inputs[1] is v and kinds[user] == "computation"


READ_ONCE = frozenset({
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
    "GlobalAveragePool", "GlobalMaxPool",
})  # fmt: skip
"""Computations that read each input element once, so that an inlined producer is not computed twice."""


def _single(n: Node) -> bool:
    return sum(1 for v in n.outputs if v.name) == 1


def _grow(
    anchor: Node, out: int, order: dict[Node, int], kinds: dict[Node, str], leaving: set[Value],
    taken: set[Node], narrow: set[Node],
) -> list[Node]:  # fmt: skip
    """The pointwise nodes after `anchor` that belong to its kernel; what leaves is not the value of a node of `narrow`,
    whose readers compute it themselves."""
    start = anchor.outputs[out]
    shape = start.shape
    inside: set[Value] = {start}
    waiting: set[Node] = set(start.users)
    grown: list[Node] = []
    terms: dict[Value, int] = {}
    best = 0
    if start in leaving:
        return []
    while waiting and len(grown) < MAX_EPILOGUE:
        n = min(waiting, key=lambda x: order[x])
        if kinds[n] != "pointwise" or n in taken or n.once != anchor.once:
            break
        if n.outputs[0].shape != shape or not _single(n):
            break
        if any(
            v is not None and v not in inside and _depends(v, inside, order, order[anchor]) for v in n.inputs
        ):
            break
        v = n.outputs[0]
        terms[v] = READS.get(n.op, 1) * sum(terms.get(x, 1) for x in n.inputs if x is not None)
        if terms[v] > MAX_TERMS:
            break
        waiting.discard(n)
        grown.append(n)
        inside.add(v)
        waiting.update(v.users)
        # a cut is possible where the newest value is the only one that is still read outside
        if not waiting - set(v.users) and not any(x in leaving for x in inside if x is not v):
            readers_inside = all(u in grown for x in inside if x is not v for u in x.users)
            if readers_inside and n not in narrow:
                best = len(grown)
        if v in leaving:
            break
    return grown[:best]


def _depends(v: Value, inside: set[Value], order: dict[Node, int], first: int) -> bool:
    """Whether `v` is computed from a value of the region by nodes outside it."""
    stack, seen = [v], {v}
    while stack:
        x = stack.pop()
        if x in inside:
            return True
        p = x.producer
        if p is None or order[p] < first:
            continue
        for i in (*p.inputs, *p.captures.values()):
            if i is not None and i not in seen:
                seen.add(i)
                stack.append(i)
    return False
