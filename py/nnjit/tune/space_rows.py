"""Spaces of everything that is not a sum of products: rows and reductions, element-wise chains, and the rest.

The rest is any spec whose default schedule a newer rule made: its own numbers are turned up and down.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from nnjit.codegen.schedule.facts import LANES, narrow_types, reads, spread
from nnjit.codegen.schedule.steps import Order, Parallel, Partial, Schedule, Step, Tile, Unroll, Vectorize
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.target import Target
from nnjit.tune.device import DeviceFacts
from nnjit.tune.space import Choice, Knob, Space


def rowwise(spec: KernelSpec, default: Schedule, target: Target, facts: DeviceFacts) -> Space | None:
    """Reductions and stages over rows: lanes along the row or across rows, partial sums, vectors and rows a tile."""
    if all(s.body is None for s in spec.stages) or not default:
        return None
    if any(not isinstance(s, (Vectorize, Partial, Tile, Unroll, Parallel)) for s in default):
        return None  # made by a rule that knows more of the spec
    shared = {a.name: a for a in spec.axes}
    wide = [s.axis for s in default if isinstance(s, Vectorize)]
    along = tuple(n for n in wide if n not in shared)
    reduced = {a.name: a for s in spec.stages for a in s.reduce}
    own = {a.name: a for s in spec.stages for a in s.axes}
    across = tuple(
        a.name
        for a in spec.axes
        if a.extent >= LANES and any(r.index.coeff(a.name) == 1 for s in spec.stages for r in reads(s.body or s.result))
    )  # fmt: skip
    if not all(narrow_types(spec, s) for s in spec.stages):
        across = ()
    others = tuple(s for s in default if isinstance(s, Unroll))
    order = [a.name for a in spec.axes]
    ways = tuple(
        dict.fromkeys(
            (("along", along) if along else ("across", tuple(wide)), *(("across", (n,)) for n in across))
        )
    )
    knobs = (
        Knob("way", ways),
        Knob("partial", (1, 2, 4, 8)),
        Knob("vectors", (1, 2, 4, 8)),
        Knob("rows", (1, 2, 4)),
        Knob("unroll", (others, ()) if others else ((),)),
    )

    def build(c: Choice) -> Schedule:
        way, names = c["way"]
        steps: list[Step] = [*c["unroll"]]
        tiles: dict[str, int] = {}
        for n in names:
            steps.append(Vectorize(n, LANES))
            if way == "along":
                if n in reduced and c["partial"] > 1:
                    steps.append(Partial(n, c["partial"]))
                if n in own:
                    steps.append(Tile(n, c["vectors"] * LANES))
            else:
                tiles[n] = c["vectors"] * LANES
        if way == "along" and c["rows"] > 1 and order:
            tiles[order[-1]] = c["rows"]
        steps += [Tile(n, t) for n, t in tiles.items()]
        return (*steps, Parallel(tuple(spread(spec, order, tiles, target))))

    usual = next((s.count for s in default if isinstance(s, Partial)), 1)
    tile = next((s.factor // LANES for s in default if isinstance(s, Tile) and s.axis in wide), 1)

    def cost(c: Choice) -> float | None:
        way, names = c["way"]
        if way == "along":
            extent = min((reduced.get(n) or own[n]).extent for n in names)
            if c["partial"] * LANES > extent and c["partial"] > 1:
                return None
            if not any(n in own for n in names) and c["vectors"] > 1:
                return None
            if c["rows"] > 1 and (not order or shared[order[-1]].extent < c["rows"]):
                return None
            if c["rows"] * max(c["partial"], c["vectors"]) > target.registers:
                return None
        elif c["partial"] > 1 or c["rows"] > 1 or any(shared[n].extent < c["vectors"] * LANES for n in names):
            return None
        away = abs(_log(c["partial"]) - _log(usual)) + abs(_log(c["vectors"]) - _log(tile)) + _log(c["rows"])
        away += 0.0 if (way, names) == ways[0] else 1.5
        return away + (0.0 if c["unroll"] == others else 0.5)

    return Space(spec, "rows", default, knobs, build, cost)


def pointwise(spec: KernelSpec, default: Schedule, target: Target, facts: DeviceFacts) -> Space | None:
    """No reduction: which axis is in lanes, how many vectors at a time, which axis is innermost."""
    if any(s.body is not None or s.axes for s in spec.stages):
        return None
    wide = [s.axis for s in default if isinstance(s, Vectorize)]
    if len(wide) != 1 or any(not isinstance(s, (Tile, Vectorize, Order, Parallel)) for s in default):
        return None
    extents = {a.name: a.extent for a in spec.axes}
    touched = [r for s in spec.stages for r in reads(s.result)]
    unit = [
        a.name for a in spec.axes if a.extent >= LANES and any(r.index.coeff(a.name) == 1 for r in touched)
    ]
    unit += [n for n in wide if n not in unit]
    axes = tuple(dict.fromkeys((*wide, *unit)))
    rest = tuple(dict.fromkeys(("", *(a.name for a in spec.axes if a.extent > 1))))
    usual = next((s.factor // LANES for s in default if isinstance(s, Tile) and s.axis == wide[0]), 1)
    knobs = (
        Knob("axis", axes),
        Knob("vectors", (1, 2, 4, 8, 16)),
        Knob("also", rest),
        Knob("rows", (1, 2, 4)),
        Knob("inner", rest),
    )

    def build(c: Choice) -> Schedule:
        axis, also = c["axis"], c["also"]
        tiles = {axis: c["vectors"] * LANES}
        if also and also != axis and c["rows"] > 1:
            tiles[also] = c["rows"]
        inner = c["inner"] or axis
        order = [*(a.name for a in spec.axes if a.name != inner), inner]
        steps: list[Step] = [Tile(n, t) for n, t in tiles.items()]
        steps += [Vectorize(axis, LANES), Order(tuple(order))]
        return (*steps, Parallel(tuple(spread(spec, order, tiles, target))))

    def cost(c: Choice) -> float | None:
        axis, also = c["axis"], c["also"]
        if c["vectors"] > max(1, -(-extents[axis] // LANES)) or also == axis:
            return None
        if bool(also) != (c["rows"] > 1) or (also and extents[also] < c["rows"]):
            return None
        if c["vectors"] * c["rows"] > 32:
            return None
        away = abs(_log(c["vectors"]) - _log(usual)) + 1.2 * _log(c["rows"])
        return away + (0.0 if axis == wide[0] else 2.0) + (0.0 if c["inner"] in ("", wide[0]) else 1.5)

    return Space(spec, "pointwise", default, knobs, build, cost)


def variations(spec: KernelSpec, default: Schedule, target: Target, facts: DeviceFacts) -> Space:
    """The numbers of the default schedule itself, one size up and down and twice that; its other steps stay."""
    extents = {a.name: a.extent for s in spec.stages for a in (*spec.axes, *s.axes, *s.reduce)}
    lanes = {s.axis: s.lanes for s in default if isinstance(s, Vectorize)}
    knobs: list[Knob] = []
    for i, s in enumerate(default):
        if isinstance(s, Tile):
            grain = lanes.get(s.axis, 1)
            sizes = [grain * n for n in (1, 2, 3, 4, 6, 8)] if grain > 1 else [1, 2, 3, 4, 6, 8]
            knobs.append(Knob(str(i), _near(s.factor, sizes, extents.get(s.axis, 1))))
        elif isinstance(s, (Unroll, Partial)):
            now = s.factor if isinstance(s, Unroll) else s.count
            knobs.append(Knob(str(i), _near(now, [1, 2, 4, 8], extents.get(s.axis, 1))))
    packed = {s.axis for s in default if type(s).__name__.startswith("Pack") and hasattr(s, "axis")}

    def build(c: Choice) -> Schedule:
        steps: list[Step] = list(default)
        for key, value in c.items():
            s: Any = steps[int(key)]
            steps[int(key)] = replace(s, **{"count" if isinstance(s, Partial) else "factor": value})
        return tuple(steps)

    def cost(c: Choice) -> float | None:
        away, copies = 0.0, 1
        for key, value in c.items():
            s: Any = default[int(key)]
            now = s.count if isinstance(s, Partial) else s.factor
            away += abs(_log(value) - _log(now)) * (1.5 if s.axis in packed else 1.0)
            if isinstance(s, Tile):
                copies *= max(1, value // lanes.get(s.axis, 1))
        was = prod(max(1, s.factor // lanes.get(s.axis, 1)) for s in default if isinstance(s, Tile))
        return None if copies > max(target.registers, was) else away

    return Space(spec, "variations", default, tuple(knobs), build, cost)


def _near(now: int, sizes: list[int], extent: int) -> tuple[int, ...]:
    return tuple(dict.fromkeys((now, *(n for n in sizes if n <= max(extent, now)))))


def _log(n: int) -> float:
    return float(n.bit_length() - 1) if n & (n - 1) == 0 else n.bit_length() - 0.5
