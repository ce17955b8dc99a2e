"""Threads of a team combine what each has found: `met(...)` gives the statements after which all of them know all, and
`dealt(...)` those after which each result is known to one thread, in far fewer swaps.

Where subgroups can swap registers they do so first, in halves; what remains goes through a shared array.
"""

from __future__ import annotations

from collections.abc import Sequence

from nnjit.codegen.expr import Expr, Index, axis, compare, const, load, op, reg, select
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


def deals(values: int, threads: int, subgroup: int) -> bool:
    """Whether so many values can be dealt out: `dealt` halves them until a thread has one."""
    return 1 < values <= min(subgroup, threads) and values & (values - 1) == 0


def dealt(
    combine: str, values: Sequence[str], dtype: str, threads: int, subgroup: int, array: int, name: str
) -> tuple[list[Stmt], Expr, int]:
    """Registers `values` of each thread combined, for `deals(...)`: the statements, the condition under which a thread
    has a result, in register `name`, and of which value: that with its number divided by the int.

    In each turn threads whose numbers differ in one bit give each other half of what they have and keep the other half,
    so n values take 2n - 2 swaps and selections on the way to one, where `met` takes n swaps for each bit.
    `array` is as there, and is not to be used again."""
    subgroup = min(subgroup, threads)
    out: list[Stmt] = []
    have, bit = list(values), subgroup // 2
    while len(have) > 1:
        half = len(have) // 2
        upper = compare("ne", op("band", axis(THREAD), const(bit, "i32")), const(0, "i32"))
        kept = []
        for low, high in zip(have[:half], have[half:], strict=True):
            a, b, mine, other = reg(low, dtype), reg(high, dtype), f"{low}.{bit}", f"{low}.{bit}.other"
            out += [Set(f"{mine}.give", select(upper, a, b), 1), Swap(other, f"{mine}.give", bit, dtype)]
            out.append(Set(mine, combined(combine, select(upper, b, a), reg(other, dtype)), 1))
            kept.append(mine)
        have, bit = kept, bit // 2
    out.append(Set(name, reg(have[0], dtype), 1))
    while bit:
        out.append(Swap(f"{name}.other", name, bit, dtype))
        out.append(Set(name, combined(combine, reg(name, dtype), reg(f"{name}.other", dtype)), 1))
        bit //= 2
    each, groups = subgroup // len(values), threads // subgroup
    if groups == 1:
        first = compare("eq", Expr("rem", "i32", (axis(THREAD), const(each, "i32"))), const(0, "i32"))
        return out, first, each
    # value n of group g: a row for each group, in which its threads come one after the other
    place = Index(0, {Expr("div", "i32", (axis(THREAD), const(each, "i32"))): 1})
    first = compare("eq", Expr("rem", "i32", (axis(THREAD), const(each, "i32"))), const(0, "i32"))
    out += [Where(first, [Store(array, place, reg(name, dtype), 1, 1)]), Barrier()]
    has = compare("lt", axis(THREAD), const(len(values), "i32"))
    total: Expr = load(array, Index(0, {THREAD: 1}), dtype)
    for g in range(1, groups):
        total = combined(combine, total, load(array, Index(g * len(values), {THREAD: 1}), dtype))
    return [*out, Where(has, [Set(name, total, 1)])], has, 1
