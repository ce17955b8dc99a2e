"""Whether a convolution is done by Winograd's method, and with which tiles.

Takes a convolution and the build it is part of; gives outputs of a tile along each dimension, 0 for the direct sum.
The bytes that transformed weights may take more are dealt out over the whole graph, where a byte saves most time first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import prod
from typing import TYPE_CHECKING

from nnjit.codegen.wasm.target import Target
from nnjit.graph.ir import Node
from nnjit.lower.ops.cooktoom import parts

if TYPE_CHECKING:
    from nnjit.lower.build import Build

FLOPS, BYTES, MOVED = 61.0, 20.0, 0.2
"""Of one core, measured in Chromium: floating-point operations a nanosecond in a large product, bytes a nanosecond
from memory, and nanoseconds for each element that a transform writes or reads. Only their ratios matter."""
TILES = (4, 2)
CLEARLY = 0.9
"""Of the time of the plainer way, what a more elaborate one may take at most."""
MODEL_SHARE, SMALL = 0.23, 4 << 20
"""What transformed weights may take more than the weights: a share of all weights of the model, and bytes that are
no matter, for small models."""


@dataclass(frozen=True)
class Shape:
    """What decides about a convolution: its output, weights, strides and phases (dilations)."""

    y: tuple[int, ...]
    w: tuple[int, ...]
    steps: tuple[int, ...]
    phases: tuple[int, ...]


def tile_of(build: Build, node: Node) -> int:
    """Outputs of a tile along each dimension; 0 for a convolution that is lowered directly."""
    c = possible(node)
    if c is None:
        return 0
    rule = budgeted(build).get(node, 0)
    best = rule or _order(c)[0]
    if build.forms.convolution == "winograd":
        build.form(node, "winograd" if rule else "direct", ("direct", "winograd"))
        return _order(c)[0]
    more = 0 if rule else growth(c, best)
    fits = isinstance(build.target, Target) and build.grown + more <= allowance(build)
    options = ("direct", "winograd") if rule or fits else ("direct",)
    if build.form(node, "winograd" if rule else "direct", options) == "direct":
        return 0
    build.grown += more
    return best


def possible(node: Node) -> Shape | None:
    """The shape of a convolution that has minimal filters: constant weights, windows of 3 or 5 in f32, strides of 1 or
    2, and phases of equal length where it is dilated."""
    if node.op != "Conv" or node.attrs.get("group", 1) != 1:
        return None
    x, w = node.inputs[0], node.inputs[1]
    if x is None or w is None or x.dtype != "f32":
        return None
    if x.shape is None or w.shape is None or node.outputs[0].shape is None or not (w.const or w.once):
        return None
    kernel, y = w.shape[2:], node.outputs[0].shape
    if not 1 <= len(kernel) <= 3 or not set(kernel) <= {1, 3, 5} or {1} == set(kernel) or 0 in y:
        return None
    phases = [d if k > 1 else 1 for d, k in zip(node.attrs.get("dilations") or [1] * 3, kernel, strict=False)]
    steps = [s for s, _ in zip(node.attrs.get("strides") or [1] * 3, kernel, strict=False)]
    if set(steps) != {1} and (not set(steps) <= {1, 2} or set(phases) != {1}):
        return None
    if any(e % d for e, d in zip(y[2:], phases, strict=False)):
        return None
    return Shape(tuple(y), tuple(w.shape), tuple(steps), tuple(phases))


def allowance(build: Build) -> float:
    """Bytes that all transformed weights together may take more."""
    return MODEL_SHARE * build.weights + SMALL


def budgeted(build: Build) -> Mapping[Node, int]:
    """The tiles of all convolutions of the graph that are expected to be faster this way, within the allowance. What
    saves most time for each byte that it adds goes first, a larger tile of the same convolution counted on its own."""
    if build.tiles is None:
        build.tiles = {}
        if isinstance(build.target, Target):
            build.grown = _deal(build.graph.nodes, allowance(build), build.tiles)
    return build.tiles


def _deal(nodes: Sequence[Node], allowed: float, tiles: dict[Node, int]) -> int:
    """Fills `tiles`; gives the bytes that they add. Weights are transformed where activations lie later: what the
    largest needs there beyond the largest input and output of a convolution is memory, too."""
    shapes = [(n, c) for n in nodes if (c := possible(n)) is not None]
    room = max((_activations(n) for n, _ in shapes), default=0)
    beyond = 0
    # minus what is saved for a byte, which convolution, its tile before and after, bytes
    waiting: list[tuple[float, int, int, int, int]] = []

    def offer(which: int, have: int) -> None:
        c = shapes[which][1]
        held, now = (growth(c, have), winograd_time(c, have)) if have else (0, direct_time(c))
        for m in _order(c):
            more, then = growth(c, m) - held, winograd_time(c, m)
            if m > have and then <= CLEARLY * direct_time(c) and then < now:
                heappush(waiting, ((then - now) / max(more, 1), which, have, m, more))

    for which in range(len(shapes)):
        offer(which, 0)
    spent = 0
    while waiting:
        _, which, have, m, more = heappop(waiting)
        node, c = shapes[which]
        passing = max(beyond, 2 * 4 * prod(c.w) + growth(c, m) - room)
        if tiles.get(node, 0) == have and spent + more + passing <= allowed:
            tiles[node] = m
            spent += more
            beyond = passing
            offer(which, m)
    return spent


def _activations(node: Node) -> int:
    """Bytes of a convolution's input and output."""
    x, y = node.inputs[0], node.outputs[0]
    return 4 * (prod(x.shape or ()) + prod(y.shape or ()) if x is not None else 0)


def _order(c: Shape) -> Sequence[int]:
    """Tiles to consider, the best first. A larger one has more weights and more rounding: it must be clearly faster.
    Where windows lie apart one of four outputs has 81 frequencies: 3% faster, and a kernel of 40 ms to emit."""
    if set(c.steps) != {1}:
        return TILES[1:]
    return TILES if winograd_time(c, TILES[0]) < CLEARLY * winograd_time(c, TILES[1]) else TILES[1:]


def outputs(m: int, taps: int) -> int:
    """Outputs of a tile under so many taps: m under three; under five as many as make six frequencies."""
    return {1: 1, 3: m, 5: 2}[taps]


def growth(c: Shape, m: int) -> int:
    """Bytes that the transformed weights of tiles of m outputs take more than the weights."""
    kept = prod(
        sum(1 if p.alike else p.count for p in parts(outputs(m, k), k, s))
        for k, s in zip(c.w[2:], c.steps, strict=True)
    )
    return 4 * prod(c.w[:2]) * (kept - prod(c.w[2:]))


def direct_time(c: Shape) -> float:
    """Modelled nanoseconds of a convolution as one sum of products."""
    return _product_time(c.y[0] * prod(c.y[2:]), prod(c.w[1:]), c.w[0])


def winograd_time(c: Shape, m: int) -> float:
    """Modelled nanoseconds with tiles of m outputs."""
    reach, tiles = 1, c.y[0]
    for e, k, s, p in zip(c.y[2:], c.w[2:], c.steps, c.phases, strict=True):
        reach *= s * (outputs(m, k) - 1) + k
        tiles *= p * -(-e // p // outputs(m, k))
    return reach * _product_time(tiles, c.w[1], c.w[0]) + MOVED * reach * tiles * (c.w[0] + c.w[1])


def _product_time(rows: int, inner: int, columns: int) -> float:
    """Of one matrix product: tiles of two rows by six vectors, a single row at the end taking two thirds of a tile's
    time, some work around each sum, and the weights once from memory."""
    held = rows + (rows % 2) / 3
    return 2 * held * (inner + 4) * -(-columns // 4) * 4 / FLOPS + 4 * inner * columns / BYTES
