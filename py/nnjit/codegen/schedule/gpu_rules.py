"""gpu_schedule(spec, target): the first rule that knows the spec answers.

    RULES = [attention, product, team, columns, rows, elementwise]

A GPU wants what a core does not: every shared axis in the parallel loop, and neighbouring invocations on neighbouring
elements, so the axis that is contiguous in the output comes last; threads that work together where a reduction is long
and rows are few.
"""

from __future__ import annotations

from math import prod

from nnjit.codegen.dtypes import WIDE
from nnjit.codegen.expr import UnsupportedExpr
from nnjit.codegen.schedule.facts import LANES, reads
from nnjit.codegen.schedule.gpu_attention import attention
from nnjit.codegen.schedule.gpu_products import product
from nnjit.codegen.schedule.gpu_roles import in_lanes
from nnjit.codegen.schedule.group_steps import Team
from nnjit.codegen.schedule.steps import Order, Parallel, Schedule, Step, Tile, Vectorize
from nnjit.codegen.spec import Axis, KernelSpec, Stage
from nnjit.codegen.wgsl.target import WgslTarget

LONG = 32
"""Elements of a row from which on a team does it."""


def gpu_schedule(spec: KernelSpec, target: WgslTarget) -> Schedule:
    """A good schedule without measuring. UnsupportedExpr for a spec with scratch memory that no tile of attention
    fits: a GPU's threads have none of their own."""
    if spec.scratch >= 0:
        return attention(spec, target) or plain(spec)
    for rule in (product, team, columns, rows):
        found = rule(spec, target)
        if found is not None:
            return found
    return elementwise(spec, target)


def plain(spec: KernelSpec) -> Schedule:
    """An element an invocation: what fits every spec but one with scratch memory."""
    if spec.scratch >= 0:
        raise UnsupportedExpr("stages that share scratch memory")
    order = tuple(a.name for a in spec.axes)
    return (Order(order), Parallel(order)) if order else ()


def team(spec: KernelSpec, target: WgslTarget) -> Schedule | None:
    """Reductions, softmax, norms along neighbours in memory: a workgroup a row."""
    if all(s.body is None for s in spec.stages) or any(s.axes and s.reduce for s in spec.stages):
        return None
    types = {s.body.dtype for s in spec.stages if s.body is not None}
    if types & (WIDE | {"bool"}) or any(s.keep and s.axes for s in spec.stages):
        return None
    groups = [s.reduce or s.axes for s in spec.stages if s.reduce or s.axes]
    longest = max(prod(a.extent for a in g) for g in groups)
    points = prod(a.extent for a in spec.axes)
    if longest < LONG or (points >= 4 * target.invocations and longest < 4 * LONG):
        return None
    beside = all(_steps_by_one(s, (s.reduce or s.axes)[-1].name) for s in spec.stages if s.reduce or s.axes)
    # where neighbours lie along a shared axis an invocation a row reads them together, if there are enough rows
    enough = points * LANES >= target.invocations or _contiguous_output(spec, spec.stages[-1]) is not None
    if not beside and enough:
        return None
    inner = {g[-1].name: g[-1] for g in groups}
    whole = all(a.extent % LANES == 0 for a in inner.values())
    narrow = all(in_lanes(spec, s) and _lane_steps(s, inner) for s in spec.stages)
    wide = tuple(Vectorize(name) for name in inner) if whole and narrow else ()
    vectors = longest // LANES if wide else longest
    threads = 32
    while threads * 2 <= min(target.max_workgroup, 256) and threads * 2 <= vectors:
        threads *= 2
    return (Team(threads, target.lockstep), *wide)


def _lane_steps(s: Stage, inner: dict[str, Axis]) -> bool:
    """Whether a stage can be done four elements at a time along its own or reduced axis."""
    group = s.reduce or s.axes
    return not group or (group[-1].name in inner and _steps_by_one(s, group[-1].name))


def columns(spec: KernelSpec, target: WgslTarget) -> Schedule | None:
    """A reduction whose results are neighbours: a vector of them an invocation. Pools, depthwise convolutions."""
    if len(spec.stages) != 1:
        return None
    s = spec.stages[0]
    axis = _contiguous_output(spec, s)
    if s.body is None or s.axes or axis is None or axis.extent < LANES or not in_lanes(spec, s):
        return None
    if any(r.index.coeff(axis.name) not in (0, 1) for root in (s.body, s.result) for r in reads(root)):
        return None
    order = (*(a.name for a in spec.axes if a is not axis), axis.name)
    return (Tile(axis.name, LANES), Vectorize(axis.name, LANES), Order(order), Parallel(order))


def rows(spec: KernelSpec, target: WgslTarget) -> Schedule | None:
    """Short reductions: an invocation does a row, in lanes where its elements are neighbours."""
    if all(s.body is None for s in spec.stages):
        return None
    last = _contiguous_output(spec, spec.stages[-1])
    shared = tuple(a.name for a in spec.axes if a is not last) + ((last.name,) if last else ())
    steps: list[Step] = []
    inner = {a.name: a for s in spec.stages for a in (s.reduce or s.axes)[-1:]}
    for name, a in inner.items():
        if a.extent >= LANES and all(in_lanes(spec, s) and _steps_by_one(s, name) for s in spec.stages):
            steps += [Vectorize(name, LANES)]
            if any(name == x.name for s in spec.stages for x in s.axes):
                steps += [Tile(name, LANES)]
    if len({s.axis for s in steps if isinstance(s, Vectorize)}) > 1:
        steps = []
    return (*steps, Order(shared), Parallel(shared))


def _contiguous_output(spec: KernelSpec, s: Stage) -> Axis | None:
    return next((a for a in spec.axes if s.index.coeff(a.name) == 1), None)


def _steps_by_one(s: Stage, axis: str) -> bool:
    """Whether a stage reads and stores along `axis` one element after the other, or not at all."""
    group = s.reduce or s.axes
    if any(a.name == axis for a in group[:-1]):
        return False
    stored = s.keep == "" and axis in set(s.index.axes())
    accesses = [r for root in (s.body, s.result) for r in reads(root)]
    return all(not r.guard and r.index.coeff(axis) in (0, 1) for r in accesses) and (
        not stored or s.index.coeff(axis) == 1
    )


def elementwise(spec: KernelSpec, target: WgslTarget) -> Schedule:
    """A vector an invocation along the contiguous axis, or an element where there is none."""
    last = spec.stages[-1]
    axis = _contiguous_output(spec, last)
    own = any(s.axes for s in spec.stages)
    order = [a.name for a in spec.axes]
    if axis is None or own or axis.extent < LANES or not all(in_lanes(spec, s) for s in spec.stages):
        return (Order(tuple(order)), Parallel(tuple(order))) if order else ()
    order = [n for n in order if n != axis.name] + [axis.name]
    vector = (Tile(axis.name, LANES), Vectorize(axis.name, LANES))
    return (*vector, Order(tuple(order)), Parallel(tuple(order)))
