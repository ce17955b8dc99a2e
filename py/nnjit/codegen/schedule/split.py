"""A reduction in parts: a product of few tiles and a long sum, or a sum of everything, becomes two kernels.

    c[m, n] = relu(sum over k:4608 of a[m, k] * b[k, n])   ->
    parts[p, m, n] = sum over k:576 of a[m, 576p + k] * b[576p + k, n]      over p:8
    c[m, n] = relu(sum over p:8 of parts[p, m, n])

WGSL has no sums in memory that many may add to, and threads would wait for each other, so what the parts found is
combined by a kernel of its own, which also does what the reduction was followed by.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nnjit.codegen.expr import Access, Expr, Index, acc, load
from nnjit.codegen.rewriting import rewrite, walk
from nnjit.codegen.schedule.steps import check
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage

COMBINED = frozenset({"sum", "prod", "max", "min", "pmax", "pmin", "any", "all"})
"""How terms are combined where any order will do."""
PART = "part"
"""The name of the axis over the parts."""


@dataclass(frozen=True, slots=True)
class Split:
    """`axis` of a reduction is divided into `parts` of equal length."""

    axis: str
    parts: int


@dataclass(frozen=True, slots=True)
class Halves:
    """The kernel of the parts and the one that combines them; `first` and `second` say which operands of the spec
    theirs are, -1 for the results between them: `size` elements of `dtype`."""

    partial: KernelSpec
    total: KernelSpec
    first: tuple[int, ...]
    second: tuple[int, ...]
    dtype: str
    size: int


def halves(spec: KernelSpec, split: Split) -> Halves:
    """The two kernels of a reduction of one stage; ScheduleError for any other spec, or parts of unequal length."""
    check(len(spec.stages) == 1 and not spec.useful, "one stage is split")
    (s,) = spec.stages
    whole = s.body is not None and not s.axes and not s.running
    check(whole and s.combine in COMBINED, "no reduction to split")
    assert s.body is not None
    axis = next((a for a in s.reduce if a.name == split.axis), None)
    check(axis is not None, f"it does not run over {split.axis}")
    assert axis is not None
    check(split.parts > 1 and axis.extent % split.parts == 0, f"{axis.extent} in {split.parts} parts")
    check(all(a.name != PART for a in (*spec.axes, *s.reduce)), "split already")
    length = axis.extent // split.parts
    # the axis that is contiguous in the result comes last in what lies between
    order = sorted(spec.axes, key=lambda a: s.index.coeff(a.name) == 1)
    at, stride = Index(), 1
    for a in (*reversed(order), Axis(PART, split.parts)):
        at, stride = at + Index(0, {a.name: stride}), stride * a.extent
    between = Operand(s.body.dtype, stride, "out")

    body = rewrite(s.body, {axis.name: Index(0, {PART: length, axis.name: 1})})
    reduce = tuple(Axis(a.name, length) if a is axis else a for a in s.reduce)
    first = (*_read(body), *((s.terms[0],) if s.terms else ()))
    terms = (
        (len(first) - 1, s.terms[1].subst({axis.name: Index(0, {PART: length, axis.name: 1})}))
        if s.terms
        else None
    )
    partial = KernelSpec(
        f"{spec.name}_parts", (Axis(PART, split.parts), *spec.axes),
        (Stage((), reduce, s.combine, renumbered(body, first), acc(s.body.dtype), len(first), at, terms=terms),),
        (*(spec.operands[n] for n in first), between),
    )  # fmt: skip

    second = tuple(n for n in _read(s.result) if n != s.out)
    numbers = (-1, *second, s.out)
    index = s.index.subst({}, lambda e: renumbered(e, numbers))
    total = KernelSpec(
        f"{spec.name}_{s.combine}", spec.axes,
        (replace(s, reduce=(Axis(PART, split.parts),), body=load(0, at, s.body.dtype), terms=None,
                 result=renumbered(s.result, numbers), out=len(numbers) - 1, index=index),),
        (replace(between, role="in"), *(spec.operands[n] for n in numbers[1:])),
    )  # fmt: skip
    return Halves(partial, total, (*first, -1), numbers, s.body.dtype, stride)


def _read(root: Expr) -> tuple[int, ...]:
    """The operands that an expression reads, in order."""
    return tuple(sorted({e.attr.operand for e in walk(root) if e.op == "load"}))


def renumbered(root: Expr, operands: tuple[int, ...]) -> Expr:
    """The same reads in a kernel whose operands are these."""
    memo: dict[Expr, Expr] = {}

    def leaf(e: Expr) -> Expr | None:
        if e.op != "load":
            return None
        a: Access = e.attr
        index = a.index.subst({}, lambda x: rewrite(x, {}, leaf, memo))
        guard = tuple((i.subst({}, lambda x: rewrite(x, {}, leaf, memo)), n) for i, n in a.guard)
        args = tuple(rewrite(x, {}, leaf, memo) for x in e.args)
        return Expr("load", e.dtype, args, Access(operands.index(a.operand), index, guard))

    return rewrite(root, {}, leaf, memo)
