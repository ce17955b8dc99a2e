"""Kernels done in place that write most elements back as they are: takes a spec and the operand whose memory its output
has; says where an element may be another.

    y[i, j] = select(m[i], x[j], a[i, j]), y in the place of a      ->      m[i]
"""

from __future__ import annotations

from collections.abc import Callable

from nnjit.codegen.expr import GUARD, Expr, facts, op
from nnjit.codegen.schedule.steps import Order, Parallel, Schedule, Tile, Vectorize
from nnjit.codegen.spec import KernelSpec


def changed(spec: KernelSpec, operand: int) -> Expr | None:
    """Where elements may change, as a truth of the shared axes; None where any may."""
    if len(spec.stages) != 1 or spec.scratch >= 0 or operand < 0:
        return None
    s = spec.stages[0]
    if s.body is not None or s.keep or s.axes or spec.operands[operand].dtype != spec.operands[s.out].dtype:
        return None

    def same(e: Expr) -> bool:
        return e.op == "load" and e.attr.operand == operand and not e.attr.guard and e.attr.index == s.index

    where: Expr | None = None
    e = s.result
    while not same(e):
        if e.op != "select":
            return None
        condition, x, y = e.args
        if y.facts & facts((operand,)) and _ends(y, same):
            e = y
        elif _ends(x, same):
            condition, e = op("not", condition), x
        else:
            return None
        where = condition if where is None else op("or", where, condition)
    return None if where is None or where.facts & (GUARD | facts((operand, s.out))) else where


def conditions_first(schedule: Schedule, where: Expr) -> Schedule:
    """The schedule of a kernel in place that asks once for all elements that `where` holds for alike: its axes are the
    outer loops, and the tiles. As it is where they are tiled, or not only in loops."""
    axes = where.axes()
    order = next((s.axes for s in schedule if isinstance(s, Order)), ())
    parallel = next((s.axes for s in schedule if isinstance(s, Parallel)), ())
    plain = all(isinstance(s, (Tile, Vectorize, Order, Parallel)) for s in schedule)
    if (
        not axes
        or not plain
        or not axes <= set(order)
        or {s.axis for s in schedule if isinstance(s, Tile)} & axes
    ):
        return schedule
    first = tuple(n for n in order if n in axes)
    rest = tuple(n for n in order if n not in axes)
    if first == parallel[: len(first)]:
        return schedule
    kept = tuple(s for s in schedule if not isinstance(s, (Order, Parallel)))
    return (*kept, Order((*first, *rest)), Parallel(first))


def _ends(e: Expr, same: Callable[[Expr], bool]) -> bool:
    """Whether a chain of selects ends with what lies there."""
    return same(e) or (e.op == "select" and any(_ends(x, same) for x in e.args[1:]))
