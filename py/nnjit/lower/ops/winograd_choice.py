"""Whether a convolution is done by Winograd's method, and with which tiles.

Takes a convolution and the build it is part of; gives outputs of a tile along each dimension, 0 for the direct sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from nnjit.codegen.wasm.target import Target
from nnjit.graph.ir import Node
from nnjit.lower.ops.compose import shape_of

if TYPE_CHECKING:
    from nnjit.lower.build import Build

FLOPS, BYTES, MOVED = 61.0, 10.0, 0.2
"""Of one core, measured in Chromium: floating-point operations a nanosecond in a large product, bytes a nanosecond
from memory, and nanoseconds for each element that a transform writes or reads. Only their ratios matter."""
TILES = (4, 2)
LAYER_SHARE, MODEL_SHARE, SMALL = 0.03, 0.24, 4 << 20
"""What transformed weights may take more than the weights: a layer, all layers, as shares of all weights of the
model; and bytes that are no matter, for small models."""


def tile_of(build: Build, node: Node) -> int:
    """Outputs of a tile along each dimension; 0 for a convolution that is lowered directly."""
    x, w = node.inputs[0], node.inputs[1]
    assert x is not None and w is not None
    if x.dtype != "f32" or node.attrs.get("group", 1) != 1:
        return 0
    kernel, y = shape_of(w)[2:], shape_of(node.outputs[0])
    phases = [d if k > 1 else 1 for d, k in zip(node.attrs.get("dilations") or [1] * 3, kernel, strict=False)]
    plain = all(s == 1 for s in node.attrs.get("strides") or [1])
    plain = plain and not any(e % d for e, d in zip(y[2:], phases, strict=False))
    if not 1 <= len(kernel) <= 3 or not plain or not set(kernel) <= {1, 3, 5} or {1} == set(kernel) or 0 in y:
        return 0
    if not build.tensors.place(w)[0].constant:
        return 0
    direct = direct_time(y, shape_of(w))
    times = {m: winograd_time(y, shape_of(w), m, phases) for m in TILES}
    # a larger tile has more weights and more rounding: it must be clearly faster
    order = TILES if times[TILES[0]] < 0.9 * times[TILES[1]] else TILES[1:]
    rule = 0
    if isinstance(build.target, Target):
        fast = (m for m in order if times[m] <= 0.9 * direct and _affordable(build, growth(shape_of(w), m)))
        rule = next(fast, 0)
    asked_for = build.forms.convolution == "winograd"
    possible = asked_for or (
        isinstance(build.target, Target) and _affordable(build, growth(shape_of(w), order[0]))
    )
    options = ("direct", "winograd") if rule or possible else ("direct",)
    m = order[0] if asked_for else rule or order[0]
    if build.form(node, "winograd" if rule else "direct", options) == "direct":
        return 0
    if not asked_for:
        build.grown += growth(shape_of(w), m)
    return m


def outputs(m: int, taps: int) -> int:
    """Outputs of a tile under so many taps: m under three; under five as many as make six frequencies."""
    return {1: 1, 3: m, 5: 2}[taps]


def growth(w: Sequence[int], m: int) -> int:
    """Bytes that the transformed weights of tiles of m outputs take more than the weights."""
    return 4 * prod(w[:2]) * (prod(outputs(m, k) + k - 1 for k in w[2:]) - prod(w[2:]))


def _affordable(build: Build, more: int) -> bool:
    """Few layers of a model have most of its weights, and gain least by a transform: they stay as they are."""
    return (
        more <= max(LAYER_SHARE * build.weights, SMALL / 2)
        and build.grown + more <= MODEL_SHARE * build.weights + SMALL
    )


def direct_time(y: Sequence[int], w: Sequence[int]) -> float:
    """Modelled nanoseconds of a convolution as one sum of products."""
    rows = y[0] * prod(y[2:])
    return _product_time(rows, prod(w[1:]), w[0])


def winograd_time(y: Sequence[int], w: Sequence[int], m: int, phases: Sequence[int] = (1, 1, 1)) -> float:
    """Modelled nanoseconds with tiles of m outputs."""
    reach = prod(outputs(m, k) + k - 1 for k in w[2:])
    tiles = y[0]
    for e, k, p in zip(y[2:], w[2:], phases, strict=False):
        tiles *= p * -(-e // p // outputs(m, k))
    return reach * _product_time(tiles, w[1], w[0]) + MOVED * reach * tiles * (w[0] + w[1])


def _product_time(rows: int, inner: int, columns: int) -> float:
    """Of one matrix product: whole tiles of four to six rows by four columns, some work around each sum, and the
    weights once from memory."""
    tile = min(-(-rows // n) * (n + 0.5) for n in (4, 5, 6))
    return 2 * tile * (inner + 4) * -(-columns // 4) * 4 / FLOPS + 4 * inner * columns / BYTES
