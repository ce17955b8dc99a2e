"""dotted(spec, step): a sum of products of small integers, read group by group for a dot instruction.

sum over k:64 of i32($0[64m + k]) * i32($1[...])   ->   sum over k:16 of dot($0[64m + 4k]: u8x4, $1[...]: i8x4)
"""

from __future__ import annotations

from dataclasses import replace

from nnjit.codegen.expr import Access, Expr, Index, load
from nnjit.codegen.groups import group_of
from nnjit.codegen.schedule.steps import Dot, check
from nnjit.codegen.spec import Axis, KernelSpec

SMALL = frozenset({"i8", "u8", "i16"})


def factor(e: Expr) -> Expr | None:
    """The load of a factor `i32(load)` of small integers; None if `e` is none."""
    small = e.op == "cast" and e.dtype == "i32" and e.args[0].op == "load" and e.args[0].dtype in SMALL
    return e.args[0] if small and not e.args[0].attr.guard else None


def product_of(spec: KernelSpec) -> tuple[Access, Access] | None:
    """What the two factors of a sum of products of small integers read; None for any other spec."""
    s = spec.stages[0]
    if (
        len(spec.stages) != 1
        or s.combine != "sum"
        or s.body is None
        or s.body.op != "mul"
        or s.axes
        or not s.reduce
    ):
        return None
    a, b = (factor(e) for e in s.body.args)
    return (a.attr, b.attr) if a is not None and b is not None else None


def dotted(spec: KernelSpec, step: Dot) -> KernelSpec:
    """The spec with the reduced axis `step.axis` running over groups. One operand is packed in such groups (its index
    then has the number of the group as `axis.g`, the place in it as `axis.h`), or groups divide the axis."""
    check(len(spec.stages) == 1, "dot products are of one stage")
    s, k, g = spec.stages[0], step.axis, step.group
    check(s.body is not None and s.body.op == "mul" and s.combine == "sum", "no sum of products")
    assert s.body is not None
    check(bool(s.reduce) and s.reduce[-1].name == k, f"{k} is not the last reduced axis")
    sides, packed = [], 0
    for arg in s.body.args:
        read = factor(arg)
        check(read is not None, "a factor is not a plain read of small integers")
        assert read is not None
        index, group = read.attr.index, group_of(read.dtype, g)
        check(bool(group), f"no groups of {g} {read.dtype}")
        if index.coeff(k + ".g"):
            index = index.subst({k + ".g": Index.of(k), k + ".h": Index()})
            packed += 1
        else:
            check(index.coeff(k) == 1, f"operand {read.attr.operand} is not contiguous along {k}")
            index = index.subst({k: Index(0, {k: g})})
        sides.append(load(read.attr.operand, index, group))
    whole = s.reduce[-1].extent % g == 0
    check(packed == 1 or (whole and not packed),
          "one factor is packed in groups: the zeros that fill it up hide what the other reads")  # fmt: skip
    reduce = (*s.reduce[:-1], Axis(k, -(-s.reduce[-1].extent // g)))
    return replace(spec, stages=(replace(s, reduce=reduce, body=Expr("dot", "i32", tuple(sides))),))
