"""Threads of a team combine what each has found: `met(...)` gives the statements.

Where subgroups can swap registers they do so first, in halves; what remains goes through a shared array.
"""

from __future__ import annotations

from collections.abc import Sequence

from nnjit.codegen.expr import Expr, Index, axis, compare, const, load, reg
from nnjit.codegen.loops import THREAD, Barrier, Set, Stmt, Store, Swap, Where
from nnjit.codegen.schedule.reduction import combined


def room(threads: int, subgroup: int) -> int:
    """Elements of the shared array for each value; 0 where none is needed."""
    if subgroup == 1:
        return threads
    return threads // subgroup if threads > subgroup else 0


def met(
    combine: str, values: Sequence[str], dtype: str, threads: int, subgroup: int, array: int
) -> list[Stmt]:
    """Registers `values` of each thread combined: NAME.all of every thread has the result. `array` is the operand of a
    shared array of room(...) elements for each value; it may be used again after."""
    if subgroup > 1:
        return _in_subgroups(combine, values, dtype, threads, subgroup, array)
    out: list[Stmt] = []
    places = [(v, Index(n * threads, {THREAD: 1})) for n, v in enumerate(values)]
    out += [Store(array, mine, reg(v, dtype), 1, 1) for v, mine in places]
    out.append(Barrier())
    half = threads // 2
    while half:
        sums: list[Stmt] = []
        for _, mine in places:
            both = combined(combine, load(array, mine, dtype), load(array, mine + half, dtype))
            sums.append(Store(array, mine, both, 1, 1))
        out += [Where(compare("lt", axis(THREAD), const(half, "i32")), sums), Barrier()]
        half //= 2
    # all have read it before the array is used again
    return [
        *out,
        *(Set(f"{v}.all", load(array, Index(n * threads), dtype), 1) for n, v in enumerate(values)),
        Barrier(),
    ]


def _in_subgroups(
    combine: str, values: Sequence[str], dtype: str, threads: int, subgroup: int, array: int
) -> list[Stmt]:
    """Halves swap what they have, until all threads of a subgroup have everything; then each reads what the subgroups
    have."""
    out: list[Stmt] = [Set(f"{v}.all", reg(v, dtype), 1) for v in values]
    bit = subgroup // 2
    while bit:
        for v in values:
            name, other = f"{v}.all", f"{v}.other"
            out.append(Swap(other, name, bit, dtype))
            out.append(Set(name, combined(combine, reg(name, dtype), reg(other, dtype)), 1))
        bit //= 2
    groups = threads // subgroup
    if groups == 1:
        return out
    size = const(subgroup, "i32")
    number = Expr("div", "i32", (axis(THREAD), size))
    first = compare("eq", Expr("rem", "i32", (axis(THREAD), size)), const(0, "i32"))
    given = [
        Store(array, Index(n * groups, {number: 1}), reg(f"{v}.all", dtype), 1, 1)
        for n, v in enumerate(values)
    ]
    out += [Where(first, list(given)), Barrier()]
    for n, v in enumerate(values):
        total: Expr = load(array, Index(n * groups), dtype)
        for g in range(1, groups):
            total = combined(combine, total, load(array, Index(n * groups + g), dtype))
        out.append(Set(f"{v}.all", total, 1))
    # all have read it before the array is used again
    return [*out, Barrier()]
