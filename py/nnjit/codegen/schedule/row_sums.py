"""A norm of rows that are sums in parts: what adds up the parts and the norm are one kernel.

    v[m, n] = x[m, n] + b[n] + sum over p:6 of parts[p, m, n]
    y[m, n] = (v[m, n] - mean(m)) * scale(m)            ->   a stage that stores v, then the stages of y, which read it

Such a sum has too little to do for a kernel of its own. Whoever makes an element of v is the one that reads it: all
stages deal the elements of a row out to the threads in the same way, because they run over the same axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nnjit.codegen.expr import Atom, Expr, Index, op
from nnjit.codegen.rewriting import rewrite
from nnjit.codegen.schedule.split import PART, renumbered
from nnjit.codegen.spec import KernelSpec, Stage


@dataclass(frozen=True, slots=True)
class RowSums:
    """The kernel of both, and whose its operands are: of the norm (0, n), of the sum (1, n)."""

    spec: KernelSpec
    operands: tuple[tuple[int, int], ...]


def with_rows(total: KernelSpec, norm: KernelSpec, operand: int) -> RowSums | None:
    """`norm` with a stage before it that does what `total` does, for operand number `operand`; None where they do not
    fit."""
    sums, own = _sum_of_parts(total), norm.stages[-1].axes
    read = {
        (e.attr.index, e.attr.guard) for e in norm.exprs() if e.op == "load" and e.attr.operand == operand
    }
    alike = all(a == own for s in norm.stages for a in (s.axes, s.reduce) if a)
    if (
        sums is None
        or len(read) != 1
        or not own
        or not alike
        or norm.useful
        or any(s.terms for s in norm.stages)
    ):
        return None
    ((at, guard),) = read
    env = None if guard else _places(sums.index, total, at, {a.name: a.extent for a in (*norm.axes, *own)})
    if env is None:
        return None
    base = len(norm.operands)
    kept = [base + sums.out if n == operand else n for n in range(base)]
    kept += [base + n for n in range(len(total.operands)) if n != sums.out]
    numbers = tuple(
        operand if n == base + sums.out else n for n in kept
    )  # the norm's reads of v are reads of it

    def made(e: Expr) -> Expr:
        return renumbered(e, numbers)

    stages = [
        replace(s, body=None if s.body is None else made(s.body), result=made(s.result),
                out=s.out if s.keep else numbers.index(s.out))
        for s in norm.stages
    ]  # fmt: skip
    value = renumbered(_value(total, sums, env), tuple(n - base for n in kept))
    first = Stage(own, (), "", None, value, operand, at)
    both = (*norm.operands, *total.operands)
    spec = KernelSpec(f"{norm.name}_of_sums", norm.axes, (first, *stages), tuple(both[n] for n in kept))
    return RowSums(spec, tuple((0, n) if n < base else (1, n - base) for n in kept))


def _sum_of_parts(total: KernelSpec) -> Stage | None:
    """The stage of a spec that adds up parts and nothing else."""
    (s, *more) = total.stages
    parts = len(s.reduce) == 1 and s.reduce[0].name == PART
    plain = s.body is not None and s.body.op == "load" and s.combine == "sum" and not s.axes and not s.keep
    return s if not more and parts and plain and s.terms is None else None


def _value(total: KernelSpec, s: Stage, env: Mapping[str, Index]) -> Expr:
    """An element of the sum's result in terms of the norm's axes."""
    assert s.body is not None
    added, *terms = (rewrite(s.body, {**env, PART: Index(n)}) for n in range(s.reduce[0].extent))
    for t in terms:
        added = op("add", added, t)
    return rewrite(s.result, env, lambda e: added if e.op == "acc" else None)


def _places(
    index: Index, total: KernelSpec, at: Index, extents: Mapping[str, int]
) -> dict[str, Index] | None:
    """The axes of `total` where its result lies at `at`: index(axes) = at, for all values of the axes in `at`. None
    where the norm does not read each element of the result once: what it leaves out would never be stored."""
    if index.const or at.const or any(not isinstance(a, str) for a, _ in (*index.terms, *at.terms)):
        return None
    left = {a: c for a, c in at.terms if isinstance(a, str)}
    if any(n > 1 and name not in left for name, n in extents.items()):
        return None
    env: dict[str, Index] = {}
    for a in sorted(total.axes, key=lambda a: -index.coeff(a.name)):
        step = index.coeff(a.name)
        if step <= 0:
            return None
        mine: dict[Atom, int] = {name: c // step for name, c in left.items() if c > 0 and c % step == 0}
        within = 1
        for name, c in sorted(mine.items(), key=lambda term: term[1]):
            if c != within:
                return None
            within *= extents[str(name)]
        if within != a.extent:
            return None
        env[a.name] = Index(0, mine)
        left = {name: c for name, c in left.items() if name not in mine}
    return None if left else env
