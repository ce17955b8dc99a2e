"""default_schedule(spec, target): the first rule that knows the spec answers; the last one always does.

    RULES = [widened, attention, scan, taps, depthwise, int8, nbits, crosswise, inner, contraction, rows, elementwise]

Numbers come from the target: SIMD registers that do not spill, threads. Sums of products have files of
their own, `contraction`, `inner`, `crosswise`, `int8`, `taps` and `depthwise`.
"""

from __future__ import annotations

from nnjit.codegen.expr import GUARD
from nnjit.codegen.schedule.attention import attention
from nnjit.codegen.schedule.contraction import contraction
from nnjit.codegen.schedule.crosswise import crosswise
from nnjit.codegen.schedule.depthwise import depthwise
from nnjit.codegen.schedule.facts import LANES, kept_places, narrow_types, reads, spread, values
from nnjit.codegen.schedule.guards import borders
from nnjit.codegen.schedule.inner import inner
from nnjit.codegen.schedule.int8 import int8
from nnjit.codegen.schedule.nbits import nbits
from nnjit.codegen.schedule.scan import scan
from nnjit.codegen.schedule.steps import (
    Order,
    Parallel,
    Partial,
    Peel,
    Schedule,
    Step,
    Tile,
    Unroll,
    Vectorize,
)
from nnjit.codegen.schedule.taps import taps
from nnjit.codegen.schedule.widened import widened
from nnjit.codegen.spec import Axis, KernelSpec, Stage
from nnjit.codegen.wasm.target import Target

PEELED_SIZE = 1000
"""Expression nodes in all copies of a body together: beyond, guards are tested at run time."""

BRIEF = 1 << 21
"""Elements up to which a kernel that is called once is short, to be written sooner: that takes longer than its call."""
NEAR = (2, 3, -1)
"""Elements between lanes that are read by contiguous accesses and a shuffle."""
BLOCK = 16
"""Neighbours along a source's own axis that a transposing copy takes together: a cache line of f32."""


def default_schedule(spec: KernelSpec, target: Target) -> Schedule:
    """A good schedule without measuring: the best guess of the space."""
    for rule in (widened, attention, scan, taps, depthwise, int8, nbits, crosswise, inner, contraction, rows):
        found = rule(spec, target)
        if found is not None:
            return found
    return elementwise(spec, target)


# ---- reductions and multi-stage rows ----


def rows(spec: KernelSpec, target: Target) -> Schedule | None:
    """Stages over shared axes (softmax, norms, reductions): lanes where the reads are contiguous."""
    if all(s.body is None for s in spec.stages):
        return None
    steps: list[Step] = []
    order = [a.name for a in spec.axes]
    tiles: dict[str, int] = {}
    narrow = all(narrow_types(spec, s) for s in spec.stages)
    shared = _contiguous(spec, [a for a in spec.axes if a.extent >= 2])
    inner = _inner_axes(spec)
    along: set[str] = set()
    if narrow and inner and _rowwise(spec, inner):
        along = set(inner)
        for name, (extent, reduced, spatial) in inner.items():
            steps.append(Vectorize(name, LANES))
            if reduced and extent > 2 * LANES:
                steps.append(Partial(name, 4 if extent >= 64 else 2))
            if spatial:
                steps.append(Tile(name, 16 if extent >= 16 else LANES))
    elif narrow and shared is not None and shared.extent >= LANES and not kept_places(spec):
        wide = 4 * LANES if shared.extent >= 16 and len(spec.stages) <= 2 else LANES
        steps += [Vectorize(shared.name, LANES), Tile(shared.name, wide)]
        tiles[shared.name] = wide
    for s in spec.stages:
        for r in s.reduce:
            if r.extent <= 4 and r.name not in along and Unroll(r.name, r.extent) not in steps:
                steps.append(Unroll(r.name, r.extent))
    steps += peels(spec, tiles)
    return (*steps, Parallel(tuple(spread(spec, order, tiles, target))))


def _inner_axes(spec: KernelSpec) -> dict[str, tuple[int, bool, bool]]:
    """For each stage its innermost axis (reduced or own): name -> (extent, reduced somewhere, spatial somewhere)."""
    out: dict[str, tuple[int, bool, bool]] = {}
    for s in spec.stages:
        group, reduced = (s.reduce, True) if s.reduce else (s.axes, False)
        if not group:
            continue
        a = _innermost(s, group)
        have = out.get(a.name, (a.extent, False, False))
        out[a.name] = (a.extent, have[1] or reduced, have[2] or not reduced)
    return out


def _innermost(s: Stage, group: tuple[Axis, ...]) -> Axis:
    found = [{r.index.coeff(a.name) for r in reads(s.body if s.reduce else s.result)} for a in group]
    side_by_side = [a for a, steps in zip(group, found, strict=True) if 1 in steps and a.extent >= 2]
    # where several reads have one each, the one that no read jumps along
    even = [a for a, steps in zip(group, found, strict=True) if a in side_by_side and steps <= {0, 1}]
    return (even or side_by_side or [group[-1]])[0]


def _rowwise(spec: KernelSpec, inner: dict[str, tuple[int, bool, bool]]) -> bool:
    """Whether every stage reads and writes its inner axis with stride 1 (or not at all), and it is long enough."""
    for s in spec.stages:
        group = s.reduce or s.axes
        if not group:
            continue
        a = _innermost(s, group)
        root = s.body if s.reduce else s.result
        strides = {r.index.coeff(a.name) for r in reads(root) if not r.guard}
        guards = any(a.name in set(i.axes()) for r in reads(root) for i, _ in r.guard)
        gathers = any(
            a.name in x.axes() for r in reads(root) for x, _ in r.index.terms if not isinstance(x, str)
        )
        if guards or gathers or not strides <= {0, 1} or 1 not in strides or a.extent < LANES:
            return False
        if s.axes and not s.reduce and s.index.coeff(a.name) != 1:
            return False
    return bool(inner)


def _contiguous(spec: KernelSpec, axes: list[Axis]) -> Axis | None:
    """The shared axis most accesses step by one element along; stores count most."""
    best, score = None, 0
    every = [r for s in spec.stages for root in (s.body, s.result) for r in reads(root)]
    guards = [{name for i, _ in r.guard for name in i.axes()} for r in every]
    for a in axes:
        points = 0
        for r, guarded in zip(every, guards, strict=True):
            step = r.index.coeff(a.name)
            points += 4 if step == 1 else 1 if step == 0 else 0 if step in NEAR else -1
            if a.name in guarded:
                points -= 2 if step in (0, 1, *NEAR) else 6
            if not r.index.plain and any(
                not isinstance(x, str) and a.name in x.axes() for x, _ in r.index.terms
            ):
                points -= 6
        points += sum(6 for s in spec.stages if s.index.coeff(a.name) == 1 and not s.keep)
        if points > score:
            best, score = a, points
    return best


def peels(spec: KernelSpec, tiles: dict[str, int]) -> list[Peel]:
    """Copies for the border tiles of guarded axes, where a guard decides between few and the code stays small."""
    if not spec.facts & GUARD:
        return []
    size = sum(len(values(r)) for s in spec.stages for r in (s.body, s.result) if r is not None)
    found, copies = [], 1
    for a in reversed(spec.axes):  # inner ones first: their guards are tested most often
        first, last = borders(spec, a, tiles.get(a.name, 1))
        if not first and not last:
            continue
        copies *= (1 if first else 0) + 1 + (1 if last else 0)
        if copies * size > PEELED_SIZE:
            break
        found.append(Peel(a.name, first, last))
    return found


# ---- elementwise ----


def elementwise(spec: KernelSpec, target: Target) -> Schedule:
    """No reduction: vectors along the contiguous axis, a few at a time."""
    order = [a.name for a in spec.axes]
    own = [a for s in spec.stages for a in s.axes]
    narrow = all(narrow_types(spec, s) for s in spec.stages)
    axis = _contiguous(spec, [a for a in spec.axes if a.extent >= LANES])
    if not narrow or axis is None or own:
        extents = {a.name: a.extent for a in spec.axes}
        return (Parallel(tuple(spread(spec, order, {}, target))),) if extents else ()
    size = sum([len(values(s.result)) for s in spec.stages])
    across = _across(spec, axis)
    vectors = 4 if size <= 24 else 2 if size <= 80 else 1
    vectors = min(vectors, 2) if across else vectors
    brief = _once(spec) and spec.points <= BRIEF
    vectors = 1 if brief else vectors
    tile = min(vectors * LANES, -(-axis.extent // LANES) * LANES)
    tiles = {axis.name: tile}
    if across is not None:
        tiles[across.name] = BLOCK if size <= 24 and across.extent >= BLOCK and not brief else LANES
    order = [n for n in order if n != axis.name] + [axis.name]
    # one long axis: the parallel loop runs over whole vectors' worth of tiles, chunked by the caller
    steps: list[Step] = [
        *(Tile(n, t) for n, t in tiles.items()),
        Vectorize(axis.name, LANES),
        Order(tuple(order)),
    ]
    steps += peels(spec, tiles)
    return (*steps, Parallel(tuple(spread(spec, order, tiles, target))))


def _once(spec: KernelSpec) -> bool:
    """Whether a kernel reads constants alone: it is called once, while a plan is loaded. (A constant that is a part of
    a Concat is copied in each run all the same: 32768 to 768000 elements took as long by the short kernel.)"""
    read = [o.const for o in spec.operands if o.role == "in"]
    return bool(read) and all(read)


def _across(spec: KernelSpec, lanes: Axis) -> Axis | None:
    """The axis that a read steps along by one element while it jumps along `lanes`: blocks of both are transposed in
    registers."""
    for s in spec.stages:
        for r in reads(s.result):
            if abs(r.index.coeff(lanes.name)) < LANES or any(
                not isinstance(x, str) for x, _ in r.index.terms
            ):
                continue
            for a in spec.axes:
                if a.name != lanes.name and a.extent >= LANES and r.index.coeff(a.name) == 1:
                    return a
    return None
