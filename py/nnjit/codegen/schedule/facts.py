"""What the schedule rules ask of a spec: its accesses, whether it fits four lanes, how to share it out."""

from __future__ import annotations

from functools import lru_cache

from nnjit.codegen.dtypes import WIDE
from nnjit.codegen.expr import GATHER, Access, Expr, facts
from nnjit.codegen.rewriting import indices, walk
from nnjit.codegen.spec import KernelSpec, Stage
from nnjit.codegen.wasm.convert import widens
from nnjit.codegen.wasm.target import Target

LANES = 4
_WIDE = facts(tuple(WIDE))


def reads(root: Expr | None) -> list[Access]:
    """Distinct accesses of an expression."""
    return list(_reads(root)) if root is not None else []


@lru_cache(4096)
def _reads(root: Expr) -> tuple[Access, ...]:
    """Every rule asks this of every stage, for each axis."""
    return tuple(dict.fromkeys([e.attr for e in walk(root) if e.op == "load"]))


def kept_places(spec: KernelSpec) -> bool:
    """Whether stages read or write at places that other stages found: such a place has one lane."""
    found = [s.index for s in spec.stages]
    for s in spec.stages:
        for root in (s.body, s.result):
            if root is not None and root.facts & GATHER:
                found += [i for e in walk(root) for i in indices(e)]
    atoms = {a for i in found if not i.plain for a, _ in i.terms if not isinstance(a, str)}
    return any(name.startswith("%") for a in atoms for name in a.axes())


def narrow_types(spec: KernelSpec, s: Stage) -> bool:
    """Whether a stage computes in types that fit four to a vector; what it stores may be widened to 64 bits then."""
    if not (s.result.facts | (s.body.facts if s.body is not None else 0)) & _WIDE:
        return s.keep != "" or spec.operands[s.out].dtype not in WIDE
    widened = widens(s.result) and not s.keep
    result = s.result.args[0] if widened else s.result
    roots = [r for r in (s.body, result) if r is not None]
    for root in roots:
        if root.dtype in WIDE:
            return False
        for e in values(root):
            if e.dtype in WIDE and e.op != "load" and e.axes():
                return False
    return widened or s.keep != "" or spec.operands[s.out].dtype not in WIDE


def values(root: Expr) -> list[Expr]:
    """Nodes below `root` without those inside addresses."""
    out, stack, seen = [], [root], {root}
    while stack:
        e = stack.pop()
        out.append(e)
        for a in e.args:
            if a not in seen:
                seen.add(a)
                stack.append(a)
    return out


def spread(spec: KernelSpec, order: list[str], tiles: dict[str, int], target: Target) -> list[str]:
    """The outermost axes to flatten into the parallel loop: enough tiles for every thread to have several."""
    extents = {a.name: a.extent for a in spec.axes}
    chosen, count = [], 1
    for name in order:
        if count >= 16 * max(1, target.threads):
            break
        chosen.append(name)
        count *= -(-extents[name] // tiles.get(name, 1))
    return chosen
