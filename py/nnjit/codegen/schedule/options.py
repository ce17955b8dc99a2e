"""A schedule by kind of step, and where the axes of a spec are at one place of the nest.

Takes a spec and a schedule; gives `Options`, checked against the spec, the order of the loops and their tiles.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nnjit.codegen.expr import Expr, Index
from nnjit.codegen.schedule.facts import kept_places
from nnjit.codegen.schedule.kinds import sort_into
from nnjit.codegen.schedule.pack import fitting
from nnjit.codegen.schedule.steps import Dot, Pack, Peel, Schedule, ScheduleError, check
from nnjit.codegen.spec import Axis, KernelSpec


@dataclass(slots=True)
class Options:
    """A schedule by kind of step: what each says, by axis. distributed: the axes of Distribute, granule: of Skip,
    0 without one, folded: the axes of Fold."""

    tile: dict[str, int] = field(default_factory=dict)
    block: dict[str, int] = field(default_factory=dict)
    lanes: dict[str, int] = field(default_factory=dict)
    unroll: dict[str, int] = field(default_factory=dict)
    partial: dict[str, int] = field(default_factory=dict)
    peel: dict[str, Peel] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    parallel: tuple[str, ...] = ()
    packs: list[Pack] = field(default_factory=list)
    dot: Dot | None = None
    distributed: tuple[str, ...] = ()
    granule: int = 0
    folded: set[str] = field(default_factory=set)
    limit: dict[str, Expr] = field(default_factory=dict)
    """Where the loops over an axis end in the current block, found while the nest is built: whole granules, or
    all of the axis."""
    reach: dict[str, Expr] = field(default_factory=dict)
    """By axis: how much of it is looked at. Tiles beyond are left out."""
    copied: tuple[Env, list[Any]] | None = None
    """Where `copies_of` was asked last, and what it gave."""

    @staticmethod
    def of(schedule: Schedule) -> Options:
        return sort_into(Options(), schedule, "is for workgroups")


@dataclass(frozen=True, slots=True)
class Bound:
    """One axis at one place of the nest: its tile starts at `base` and holds `count` elements."""

    base: Index
    count: int
    tile: int


Env = dict[str, Bound]


def check_options(spec: KernelSpec, o: Options) -> None:
    """ScheduleError where the options name axes that the spec does not have, or combine in a way that has no loops."""
    shared = {a.name for a in spec.axes}
    own = {a.name for s in spec.stages for a in s.axes}
    reduced = {a.name for s in spec.stages for a in s.reduce}
    blocks = {name + "/" for name in o.block}
    for name in (*o.tile, *o.block, *o.lanes, *o.unroll, *o.partial, *o.peel):
        check(name in shared | own | reduced, f"no axis {name} in {spec.name}")
    check(all(n in shared | own for n in o.tile), "only spatial axes are tiled; unroll a reduced one")
    check(all(n in reduced for n in (*o.unroll, *o.partial)), "only reduced axes are unrolled")
    loops = shared | blocks
    check(set(o.order) <= loops and set(o.parallel) <= loops, "order and parallel name shared axes")
    groups = [p.group for p in o.packs if p.group > 1]
    check(groups in ([], [o.dot.group if o.dot else 0]), "a dot goes with an operand packed in its groups")
    check(o.dot is None or o.lanes.get(o.dot.axis, 1) == 1, "the axis of a dot has no lanes of its own")
    for name, size in o.block.items():
        check(name in shared and size % o.tile.get(name, 1) == 0, f"a block of {name} is whole tiles of it")
        at = [n for n in o.order if n.rstrip("/") == name]
        check(at == [name + "/", name], f"order needs {name}/ before {name}")
        check(name not in o.parallel, f"of a blocked {name} only the blocks can be parallel")
    check(all(n in shared and n not in o.block for n in o.peel), "shared axes without blocks are peeled")
    check(
        all(f >= 1 for f in (*o.tile.values(), *o.unroll.values(), *o.partial.values())), "factors are >= 1"
    )
    for name, lanes in o.lanes.items():
        check(lanes in (1, 4), f"{lanes} lanes")  # no emitter has vectors of two
        if name not in reduced or name in o.tile:
            check(o.tile.get(name, 1) % lanes == 0, f"a tile of {name} is not a multiple of {lanes} lanes")
    check(
        set(o.distributed) <= shared and not set(o.distributed) & set(o.parallel),
        "shared loops are distributed",
    )
    check(
        o.order[len(o.order) - len(o.distributed) :] == o.distributed,
        "distributed axes come last in the order",
    )
    check(o.folded <= set(o.parallel), "parallel loops are folded")
    check(not o.granule or spec.useful != (), f"nothing of {spec.name} may be skipped")
    if any(o.lanes.get(name, 1) > 1 for name in shared):
        check(not kept_places(spec), f"stages of {spec.name} find places, which have no lanes")
    for s in spec.stages:
        wide = [a.name for a in (*spec.axes, *s.axes, *s.reduce) if a.name in o.lanes and o.lanes[a.name] > 1]
        if len(wide) > 1:
            raise ScheduleError(f"two vectorised axes {wide} in one stage")


def ordered(spec: KernelSpec, o: Options) -> list[Axis]:
    """Shared axes in loop order: parallel ones first unless the schedule's order says otherwise. The loop
    over the blocks of an axis is an axis of its own, whose tile is the block."""
    by_name = {a.name: a for a in spec.axes}
    by_name |= {name + "/": Axis(name + "/", by_name[name].extent) for name in o.block}
    names = list(o.order) or list(o.parallel)
    names += [n for n in by_name if n not in names]
    return [by_name[n] for n in names]


def tile_of(o: Options, a: Axis) -> int:
    if a.name.endswith("/"):
        return o.block[a.name[:-1]]
    tile = o.tile.get(a.name, 1)
    return max(o.lanes.get(a.name, 1), fitting(tile, a.extent))
