"""Sizes that a graph takes, near sizes that it may not take: for inputs that are made up before anyone has said which.

Takes a Model, shapes of its inputs, and the highest value that each input of integers will hold. Gives shapes whose
operands fit together and whose positions lie inside the tables that are looked up, and what no input may exceed.

    x[1,3,224,224] → Conv 32x32 → Reshape → Add(·, [1,144,768])      gives x[1,3,384,384]
    ids[1,128] → Range(0, 128) → Gather of a table of 77 rows          gives ids[1,77]

Sizes that are equal move together (height and width, a sentence and its mask); those of 1 stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isqrt

from ..errors import ShapeError
from .bounds import Bounds
from .const import Shape
from .infer import infer
from .ir import Node, Value
from .model import Model

MOST = 1 << 14  # no size past it is tried
PROBES = 40  # of all sizes together; one takes a tenth of what binding takes
# Where a misfit says nothing of the size that is wanted: what networks for pictures are made for.
COMMON = (256, 384, 512, 320, 448, 640, 64, 32)


@dataclass(frozen=True)
class Misfit:
    """Where a graph does not take its sizes. pairs: numbers that would have to be equal; place: of the node."""

    node: str
    pairs: tuple[tuple[int, int], ...]
    place: int
    text: str


@dataclass(frozen=True)
class Fitting:
    """shapes: the graph takes them, or they are those that were asked about. highest: by input whose elements are rows
    of a table, the last row. reason: why shapes are others; '' where they are not."""

    shapes: dict[str, Shape]
    highest: dict[str, int] = field(default_factory=dict)
    reason: str = ""


def fitting(model: Model, shapes: Mapping[str, Shape], made: Mapping[str, int | None]) -> Fitting:
    """made: by input, the highest value that it will hold; None for one that counts along its last axis.

    ShapeError for shapes that contradict the inputs' declarations; never for what lies behind them.
    """
    wanted = {name: tuple(shape) for name, shape in shapes.items()}
    left = PROBES

    def probe(sizes: Mapping[int, int]) -> tuple[Misfit | None, dict[str, int]]:
        nonlocal left
        left -= 1
        return _probe(model, _with(model, wanted, sizes), made)

    first, highest = probe({})
    if first is None:
        return Fitting(wanted, highest)
    chosen: dict[int, int] = {}
    misfit = first
    while True:
        for size in sorted(_open_sizes(model, wanted), reverse=True):

            def trial(n: int, size: int = size, before: Misfit = misfit) -> Misfit | None:
                return probe({**chosen, size: n})[0] if left > 0 else before

            found = _search(trial, chosen.get(size, size), misfit)
            if found is not None:
                chosen[size] = found
                break
        else:
            return Fitting(wanted, highest)
        again, highest = probe(chosen)
        if again is None:
            return Fitting(_with(model, wanted, chosen), highest, first.text)
        misfit = again


def _open_sizes(model: Model, shapes: Mapping[str, Shape]) -> set[int]:
    return {n for name, shape in shapes.items() for n, d in zip(shape, _dims(model, name, shape), strict=True)
            if not isinstance(d, int) and n > 1}  # fmt: skip


def _with(model: Model, shapes: Mapping[str, Shape], sizes: Mapping[int, int]) -> dict[str, Shape]:
    """Shapes whose open dims of a size in `sizes` have that size instead."""
    return {
        name: tuple(
            n if isinstance(d, int) else sizes.get(n, n)
            for n, d in zip(shape, _dims(model, name, shape), strict=True)
        )
        for name, shape in shapes.items()
    }


def _dims(model: Model, name: str, shape: Shape) -> tuple[int | str | None, ...]:
    dims = model.signature.input(name).dims
    return dims if dims is not None and len(dims) == len(shape) else (None,) * len(shape)


def _probe(
    model: Model, shapes: Mapping[str, Shape], made: Mapping[str, int | None]
) -> tuple[Misfit | None, dict[str, int]]:
    """The first misfit of the graph with these shapes, and what inputs that are looked up may not exceed."""
    graph = model.open(shapes)
    places = {node.name: i for i, node in enumerate(graph.nodes)}
    # Folding takes nodes out of the graph and their inputs from them; values stay.
    lookups = [(n.name, n.inputs[0], n.inputs[1], int(n.attrs.get("axis", 0))) for n in graph.nodes
               if n.op == "Gather" and not n.domain]  # fmt: skip
    nodes = list(graph.nodes)
    try:
        infer(graph)
    except ShapeError as error:
        name = str(error.fields.get("node", ""))
        node = next((n for n in nodes if n.name == name), None)
        pairs = tuple(_pairs(node)) if node is not None else ()
        return Misfit(name, pairs, places.get(name, 0), error.message), {}
    bounds = Bounds(made)
    highest: dict[str, int] = {}
    for name, table, rows, axis in lookups:
        if table is None or rows is None or table.const is None or not table.shape or not table.shape[axis]:
            continue
        last = table.shape[axis] - 1
        bound = bounds.of(rows)
        if bound.source:
            highest[bound.source] = min(last, highest.get(bound.source, last))
        if (
            bound.most is not None
            and bound.most > last
            and (not bound.source or made.get(bound.source) is None)
        ):
            text = f"node {name!r}: Gather of a table of {last + 1} rows, and {bound.most + 1} are asked for"
            return Misfit(name, ((bound.most + 1, last + 1),), places.get(name, 0), text), highest
    return None, highest


def _pairs(node: Node) -> list[tuple[int, int]]:
    """Numbers of a node that does not fit which would have to be equal, and are not."""
    shapes = [v.shape for v in node.inputs if v is not None and v.shape is not None]
    if len(shapes) < 2:
        return []
    a, b = shapes[0], shapes[1]
    found: list[tuple[int, int]] = []
    if node.op in ("Gemm", "MatMul"):
        flip = node.op == "Gemm"
        k = (a[0] if flip and node.attrs.get("transA") else a[-1]) if a else 1
        of = b[-1] if flip and node.attrs.get("transB") else b[-2 if len(b) > 1 else -1] if b else 1
        found = [(k, of)]
    elif node.op == "Reshape":
        found = [(_count(a), _asked(a, node.inputs[1]))]
    else:
        found = [(m, n) for m, n in zip(reversed(a), reversed(b), strict=False) if 1 not in (m, n)]
    return [(m, n) for m, n in found if m != n and m > 0 and n > 0]


def _count(shape: Shape) -> int:
    n = 1
    for d in shape:
        n *= d
    return n


def _asked(shape: Shape, target: Value | None) -> int:
    """Elements that a Reshape asks for, the dim left open taken as 1."""
    if target is None or target.const is None:
        return 0
    dims = [int(d) for d in target.const.numpy().reshape(-1)]
    return _count(
        tuple((shape[i] if i < len(shape) else 1) if d == 0 else d for i, d in enumerate(dims) if d != -1)
    )


def _search(probe: Callable[[int], Misfit | None], start: int, misfit: Misfit) -> int | None:
    """A size in place of `start` with which the graph comes further than `misfit`; None if there is none near."""
    tried: dict[int, Misfit | None] = {start: misfit}

    def fits(n: int) -> bool:
        if n not in tried:
            if not 0 < n <= MOST:
                return False
            tried[n] = probe(n)
        found = tried[n]
        return found is None or found.place > misfit.place

    guesses = [
        g for m, n in misfit.pairs for have, want in ((m, n), (n, m)) for g in _scaled(start, have, want)
    ]
    for guess in guesses or [n for n in COMMON if start >= 32]:
        if fits(guess):
            return guess
    if len(misfit.pairs) != 1:
        return None
    if fits(start * 2):  # asked for in any case: it shows which side of the pair moves
        return start * 2
    low = high = 0
    at = start
    while at in tried and (sign := _sign(tried[at], tried, misfit)):
        low, high = (at, high) if sign < 0 else (low, at)
        at = _between(low, high) if high else low * 2
        if fits(at):
            return at
        if at == low:
            return None
    return None


def _between(low: int, high: int) -> int:
    """A round number near the middle; `low` where none lies between."""
    for step in (64, 32, 16, 8, 4, 2, 1):
        middle = (low + high) // 2 // step * step
        if middle > low:
            return middle
    return low


def _scaled(size: int, have: int, want: int) -> list[int]:
    """What makes `want` of `have`, where that grows with the size's square (first: a picture of one patch may fit by
    broadcasting), or with the size."""
    root = isqrt(size * size * want // have)
    return [*([root] if root * root * have == size * size * want else []), size * want // have]


def _sign(found: Misfit | None, tried: dict[int, Misfit | None], misfit: Misfit) -> int:
    """-1 where the size of a misfit at the same node is too small, 1 where it is too large, 0: not known."""
    same = [
        m.pairs[0] for m in tried.values() if m is not None and m.node == misfit.node and len(m.pairs) == 1
    ]
    moves = [len({pair[side] for pair in same}) > 1 for side in (0, 1)]
    if found is None or found.node != misfit.node or len(found.pairs) != 1 or moves[0] == moves[1]:
        return 0
    have, want = found.pairs[0] if moves[0] else found.pairs[0][::-1]
    return -1 if have < want else 1
