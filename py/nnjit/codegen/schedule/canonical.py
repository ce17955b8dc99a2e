"""canonical(spec): the same computation with as few axes as its accesses allow.

    out[i0, i1] = a[i0, i1] + 1 over i0:4 i1:8      ->      out[i] = a[i] + 1 over i:32

Two neighbouring axes merge where every index that knows either steps by them as by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from math import inf

from nnjit.codegen.expr import Access, Expr, Index, load
from nnjit.codegen.rewriting import indices, rewrite, walk
from nnjit.codegen.schedule.reduction import identity
from nnjit.codegen.spec import Axis, KernelSpec, Stage


@lru_cache(4096)
def canonical(spec: KernelSpec, apart: frozenset[str] = frozenset()) -> KernelSpec:
    """Drops axes of extent 1 and merges what can be merged, in the shared axes and in each stage's own, but for those
    that stay `apart`."""
    if any(a.extent == 0 for s in spec.stages for a in s.reduce):
        spec = replace(spec, stages=tuple(map(_without_terms, spec.stages)))
    ones = {a.name: Index() for s in spec.stages for a in (*spec.axes, *s.axes, *s.reduce) if a.extent == 1}
    if ones:
        spec = _replaced(spec, ones, set(ones))
    merged = True
    while merged:
        merged = False
        groups = [spec.axes, *(s.axes for s in spec.stages), *(s.reduce for s in spec.stages)]
        found: set[Index] = set()
        for group in groups:
            if len(group) < 2:
                continue
            found = found or set(_all_indices(spec))
            pair = _mergeable(spec, group, found, apart)
            if pair is not None:
                spec = _merge(spec, *pair)
                merged = True
                break
    return spec


def _without_terms(s: Stage) -> Stage:
    """A reduction over nothing is its identity: the stage reads no operand for it."""
    if s.body is None or all(a.extent for a in s.reduce):
        return s
    none = identity(s.combine, s.body.dtype)
    result = rewrite(s.result, {}, lambda e: none if e.op == "acc" else None)
    return Stage(s.axes, (), "", None, result, s.out, s.index, s.keep)


def _all_indices(spec: KernelSpec) -> Iterable[Index]:
    for s in spec.stages:
        yield s.index
        if s.terms is not None:
            yield s.terms[1]
        for root in (s.body, s.result):
            for e in walk(root) if root is not None else ():
                yield from indices(e)
        for a, _ in s.index.terms:
            if not isinstance(a, str):
                for e in walk(a):
                    yield from indices(e)
    for _, bound in spec.useful:
        for e in walk(bound):
            yield from indices(e)


def _mergeable(
    spec: KernelSpec, group: tuple[Axis, ...], found: set[Index], apart: frozenset[str]
) -> tuple[Axis, Axis] | None:
    """An outer and an inner axis of one group that always occur as outer * extent + inner, in all indices `found`."""
    bounded = apart.union(name for name, _ in spec.useful)
    group = tuple(a for a in group if a.name not in bounded)
    coeffs = {tuple([i.coeff(a.name) for a in group]) for i in found}
    for n, inner in enumerate(group):
        for m, outer in enumerate(group):
            if m != n and all(c[m] == c[n] * inner.extent for c in coeffs) and _together(spec, outer, inner):
                return outer, inner
    return None


def _together(spec: KernelSpec, outer: Axis, inner: Axis) -> bool:
    """Stages that share a name must merge alike: both axes occur in the same groups."""
    for s in spec.stages:
        for group in (s.axes, s.reduce):
            names = {a.name for a in group}
            if (outer.name in names) != (inner.name in names):
                return False
    return True


def _merge(spec: KernelSpec, outer: Axis, inner: Axis) -> KernelSpec:
    """inner now runs over both; outer is gone (its terms are inner's)."""
    joined = _replaced(spec, {outer.name: Index()}, {outer.name})
    both = Axis(inner.name, inner.extent * outer.extent)

    def swap(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(both if a.name == inner.name else a for a in axes)

    stages = tuple(replace(s, axes=swap(s.axes), reduce=swap(s.reduce)) for s in joined.stages)
    return replace(joined, axes=swap(joined.axes), stages=stages)


def _replaced(spec: KernelSpec, env: dict[str, Index], gone: set[str]) -> KernelSpec:

    memo: dict[Expr, Expr] = {}

    def go(e: Expr) -> Expr:
        return rewrite(e, env, None, memo)

    def kept(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(a for a in axes if a.name not in gone)

    stages = []
    for s in spec.stages:
        body, reduce, result = s.body, kept(s.reduce), go(s.result)
        if body is not None and not reduce:
            # a reduction over nothing but axes of extent 1 is its only term
            term = go(body)
            if s.terms is not None:  # stored first, then read: it may lie where it was computed from
                at = s.terms[1].subst(env, go)
                if s.running == "before":
                    term = identity(s.combine, term.dtype)
                stages.append(Stage(kept(s.axes), (), "", None, term, s.terms[0], at))
                term = load(s.terms[0], at, term.dtype)
            result = rewrite(result, {}, lambda e, term=term: term if e.op == "acc" else None)  # type: ignore[misc]
            body = None
        terms = None if s.terms is None or body is None else (s.terms[0], s.terms[1].subst(env, go))
        stages.append(
            Stage(kept(s.axes), reduce, s.combine if body is not None else "", None if body is None else go(body),
                  result, s.out, s.index.subst(env, go), s.keep, terms, s.running if body is not None else "")
        )  # fmt: skip
    useful = tuple((name, go(bound)) for name, bound in spec.useful if name not in gone)
    return KernelSpec(spec.name, kept(spec.axes), tuple(stages), spec.operands, useful)


@lru_cache(4096)
def rebased(spec: KernelSpec) -> tuple[KernelSpec, tuple[int, ...]]:
    """The spec with each operand from the first to the last element that it touches, and how far each pointer moves.

    a[i + 640] -> a[i], 640 elements on: the same work on another part of a buffer is then the same kernel."""
    starts: dict[int, int] = {}
    ends: dict[int, float] = {}
    extents: dict[str, int] = {}
    for a in (a for s in spec.stages for a in (*spec.axes, *s.axes, *s.reduce)):
        extents[a.name] = max(a.extent, extents.get(a.name, 1))

    def seen(operand: int, i: Index) -> None:
        known = all(isinstance(a, str) and c > 0 for a, c in i.terms)
        low = i.const if known else 0
        starts[operand] = max(0, min(starts.get(operand, low), low))
        end = low + 1 + sum(c * (extents.get(a, 1) - 1) for a, c in i.terms if isinstance(a, str))
        ends[operand] = max(ends.get(operand, 0.0), end if known else inf)

    for s in spec.stages:
        if not s.keep:
            seen(s.out, s.index)
        if s.terms is not None:
            seen(*s.terms)
    for e in spec.exprs():
        if e.op == "load":
            seen(e.attr.operand, e.attr.index)
    moved = tuple(0 if o.role == "scratch" else starts.get(n, 0) for n, o in enumerate(spec.operands))
    sizes = [
        o.size if o.role == "scratch" else int(max(1, min(o.size, ends.get(n, inf)) - moved[n]))
        for n, o in enumerate(spec.operands)
    ]
    if not any(moved):
        operands = tuple(replace(o, size=n) for o, n in zip(spec.operands, sizes, strict=True))
        return replace(spec, operands=operands), moved
    memo: dict[Expr, Expr] = {}

    def leaf(e: Expr) -> Expr | None:
        if e.op != "load" or not moved[e.attr.operand]:
            return None
        access: Access = e.attr
        index = access.index + -moved[access.operand]
        args = tuple(rewrite(a, {}, leaf, memo) for a in e.args)
        return Expr("load", e.dtype, args, Access(access.operand, index, access.guard))

    def go(e: Expr) -> Expr:
        return rewrite(e, {}, leaf, memo)

    stages = tuple(
        replace(
            s,
            body=None if s.body is None else go(s.body),
            result=go(s.result),
            index=s.index if s.keep else s.index.subst({}, go) + -moved[s.out],
            terms=None if s.terms is None else (s.terms[0], s.terms[1].subst({}, go) + -moved[s.terms[0]]),
        )
        for s in spec.stages
    )
    operands = tuple(replace(o, size=n) for o, n in zip(spec.operands, sizes, strict=True))
    useful = tuple((name, go(bound)) for name, bound in spec.useful)
    return replace(spec, stages=stages, operands=operands, useful=useful), moved
