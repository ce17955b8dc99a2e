"""stagewise(spec): a kernel of rows and several passes as one kernel a pass, so that threads can share a row.

    top = max over r of x[r]                       kernels    tops[0] = max over r of x[r]
    total = sum over r of (y[r] = exp(x[r] - top))  ->        totals[0] = sum over r of (y[r] = exp(x[r] - tops[0]))
    y[r] = y[r] / total                                       y[r] = y[r] / totals[0]          over r

Softmax of one long row is one tile of one kernel, and one thread's work. By itself each reduction may be divided
(parts.py), and the last pass has the row's places as tiles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from nnjit.codegen.expr import Access, Expr, Index, load
from nnjit.codegen.rewriting import rewrite, walk
from nnjit.codegen.schedule.parts import divide
from nnjit.codegen.schedule.split import COMBINED, PART, Split
from nnjit.codegen.schedule.steps import check
from nnjit.codegen.spec import KernelSpec, Operand, Stage
from nnjit.codegen.wasm.target import Target

LEAST = 5 << 18
"""Operations on elements that the thread with most rows must have above an even share: 50 us, about what another one
takes to wake up."""
COSTLY = {"exp": 12, "decay": 12, "tanh": 12, "erf": 12, "log": 12, "pow": 24, "div": 3, "sqrt": 3}
"""Operations that one of these is; others are one."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One kernel; `operands` says which of the first kernel's each of its own is, -1 - i for what pass i kept.
    `split`: how its reduction is divided."""

    spec: KernelSpec
    operands: tuple[int, ...]
    split: Split | None = None


@dataclass(frozen=True, slots=True)
class Passes:
    """The kernels in order, and for each but the last the type of what it keeps: `rows` elements."""

    passes: tuple[Pass, ...]
    kept: tuple[str, ...]
    rows: int


def passes_of(spec: KernelSpec, target: Target) -> Passes | None:
    """The kernels of a spec of few long rows for several threads; None where it would not pay, or has other stages."""
    if not target.shared or target.threads < 2 or not divisible(spec):
        return None
    rows = prod(a.extent for a in spec.axes)
    most = -(-rows // target.threads)
    if (most - rows / target.threads) * work(spec) / rows < LEAST:
        return None
    found = stagewise(spec)
    *before, last = found.passes
    splits = [divide(p.spec.stages[0], target.threads) for p in before]
    if None in splits:
        return None
    return replace(found, passes=(*(replace(p, split=s) for p, s in zip(before, splits, strict=True)), last))


def divisible(spec: KernelSpec) -> bool:
    """Whether its stages are reductions that are kept and, at the end, a pass over places of their own."""
    *before, last = spec.stages
    whole = before and all(s.keep and s.body is not None and not s.axes and not s.running for s in before)
    if not whole or last.body is not None or last.keep or not last.axes:
        return False
    if any(a.name == PART for a in spec.axes):
        return False
    return not spec.useful and spec.scratch < 0 and all(s.combine in COMBINED for s in before)


def work(spec: KernelSpec) -> int:
    """Operations on single elements, about."""
    rows = prod(a.extent for a in spec.axes)
    return rows * sum(
        prod(a.extent for a in (*s.axes, *s.reduce))
        * sum(COSTLY.get(e.op, 1) for e in walk(s.body or s.result))
        for s in spec.stages
    )


def stagewise(spec: KernelSpec) -> Passes:
    """ScheduleError for a spec that is not `divisible`."""
    check(divisible(spec), "no rows whose passes are kernels by themselves")
    row, rows = Index(), 1
    for a in reversed(spec.axes):
        row, rows = row + Index(0, {a.name: rows}), rows * a.extent
    numbers = {s.keep: -1 - i for i, s in enumerate(spec.stages) if s.keep}
    types = tuple(s.result.dtype for s in spec.stages if s.keep)
    passes = tuple(_pass(spec, i, s, numbers, types, row, rows) for i, s in enumerate(spec.stages))
    return Passes(passes, types, rows)


def _pass(
    spec: KernelSpec, i: int, s: Stage, numbers: dict[str, int], types: tuple[str, ...], row: Index, rows: int
) -> Pass:
    """Stage `s` as a kernel: what earlier ones kept is read from memory, what it keeps is stored."""
    reads: list[int] = []
    writes = [*([s.terms[0]] if s.terms else []), -1 - i if s.keep else s.out]

    def place(number: int) -> int:
        if number not in reads:
            reads.append(number)
        return reads.index(number)

    memo: dict[Expr, Expr] = {}

    def leaf(e: Expr) -> Expr | None:
        if e.op == "local":
            return load(place(numbers[e.attr]), row, e.dtype)
        if e.op != "load":
            return None
        a: Access = e.attr
        index = a.index.subst({}, moved)
        guard = tuple((g.subst({}, moved), n) for g, n in a.guard)
        return Expr("load", e.dtype, tuple(map(moved, e.args)), Access(place(a.operand), index, guard))

    def moved(e: Expr) -> Expr:
        return rewrite(e, {}, leaf, memo)

    body = None if s.body is None else moved(s.body)
    result = moved(s.result)
    index = row if s.keep else s.index.subst({}, moved)
    terms = None if s.terms is None else s.terms[1].subst({}, moved)

    def operand(n: int, role: str) -> Operand:
        return Operand(types[-1 - n], rows, role) if n < 0 else replace(spec.operands[n], role=role)

    # all reads are known now; what is written follows them, also where it is the same memory
    out = len(reads) + len(writes) - 1
    stage = Stage(
        () if s.keep else s.axes, s.reduce, s.combine, body, result, out, index,
        terms=None if terms is None else (len(reads), terms),
    )  # fmt: skip
    axes = spec.axes
    if not s.keep:  # the last pass: its own places are as independent as rows
        axes, stage = (*axes, *s.axes), replace(stage, axes=())
    operands = (*(operand(n, "in") for n in reads), *(operand(n, "out") for n in writes))
    return Pass(KernelSpec(f"{spec.name}_{s.keep or 'result'}", axes, (stage,), operands), (*reads, *writes))
