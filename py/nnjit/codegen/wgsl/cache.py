"""emitted(spec, schedule, target): each distinct shader is emitted once, whatever plans and sessions use it.

`placed` moves operands: where two of them share a buffer that is written, WebGPU wants one binding for both, and a
binding begins at a multiple of the device's alignment, which the element wanted need not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from nnjit.codegen.expr import Access, Expr
from nnjit.codegen.loops import Fetch, For, If, Nest, Put, Stmt, Store, Where, mapped
from nnjit.codegen.rewriting import rewrite
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.steps import Schedule
from nnjit.codegen.spec import KernelSpec, Operand
from nnjit.codegen.wgsl.emit import Shader, emit
from nnjit.codegen.wgsl.target import WgslTarget

LIMIT = 4096

Moves = tuple[tuple[int, int], ...]
"""For each operand of a kernel: the number of its binding, and how many elements into the binding it begins."""

_made: OrderedDict[tuple[KernelSpec, Schedule, WgslTarget, Moves], tuple[Shader, int]] = OrderedDict()


def clear() -> None:
    """Forgets everything, as a benchmark of compiling needs it."""
    _made.clear()


def emitted(
    spec: KernelSpec, schedule: Schedule, target: WgslTarget, moves: Moves = ()
) -> tuple[Shader, int, bool]:
    """The shader, its number of tiles, and whether it was emitted just now."""
    key = (spec, schedule, target, moves)
    found = _made.get(key)
    if found is not None:
        _made.move_to_end(key)
        return (*found, False)
    nest = apply(spec, schedule)
    found = _made[key] = (emit(placed(nest, moves) if moves else nest, target), nest.tiles)
    if len(_made) > LIMIT:
        _made.popitem(last=False)
    return (*found, True)


def placed(nest: Nest, moves: Moves) -> Nest:
    """The nest over bindings: operand i is binding moves[i][0], from element moves[i][1] on."""
    count = 1 + max(at for at, _ in moves)
    operands: list[Operand | None] = [None] * count
    for o, (at, shift) in zip(nest.operands, moves, strict=True):
        before = operands[at]
        grown = replace(o, size=o.size + shift)
        if before is not None:
            role = "out" if "out" in (o.role, before.role) else "in"
            grown = replace(
                grown, size=max(grown.size, before.size), role=role, const=o.const and before.const
            )
        operands[at] = grown
    # the shared arrays come after the operands
    whole = (*moves, *((count + i, 0) for i in range(len(nest.shared))))
    memo: dict[Expr, Expr] = {}

    def leaf(e: Expr) -> Expr | None:
        if e.op != "load":
            return None
        at, shift = whole[e.attr.operand]
        args = tuple(rewrite(a, {}, leaf, memo) for a in e.args)
        inner = lambda x: rewrite(x, {}, leaf, memo)  # noqa: E731
        guard = tuple((i.subst({}, inner), n) for i, n in e.attr.guard)
        return Expr("load", e.dtype, args, Access(at, e.attr.index.subst({}, inner) + shift, guard))

    body = mapped(nest.body, lambda e: rewrite(e, {}, leaf, memo))
    _restore(body, whole)
    kept = tuple(o for o in operands if o is not None)
    return replace(nest, operands=kept, body=body)


def _restore(body: Sequence[Stmt], moves: Moves) -> None:
    """Stores, in place: `body` is a copy already."""
    for s in body:
        if isinstance(s, (Store, Fetch, Put)):
            at, shift = moves[s.operand]
            s.operand, s.index = at, s.index + shift
        elif isinstance(s, For):
            _restore(s.body, moves)
        elif isinstance(s, If):
            _restore(s.then, moves)
            _restore(s.orelse, moves)
        elif isinstance(s, Where):
            _restore(s.then, moves)
