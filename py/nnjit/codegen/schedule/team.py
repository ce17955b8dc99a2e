"""teamed(spec, schedule): reductions, softmax and norms with a workgroup for each row.

Every stage runs over its own or its reduced axes with all threads side by side. A reduction leaves a value in each
thread; the values are combined in a shared array, in halves, and every thread reads the result.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from nnjit.codegen.dtypes import WIDE
from nnjit.codegen.expr import Expr, Index, axis, compare, const, load, reg, rewrite
from nnjit.codegen.loops import THREAD, Barrier, Decode, For, Nest, Set, Stmt, Store, Swap, Where
from nnjit.codegen.schedule.group_steps import Team
from nnjit.codegen.schedule.reduction import combined, identity
from nnjit.codegen.schedule.steps import Order, Parallel, Schedule, Vectorize, check
from nnjit.codegen.schedule.workgroup_plan import Env, Run
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage

LANES = 4


def teamed(spec: KernelSpec, schedule: Schedule) -> Nest:
    """The nest of `spec` with a team of threads for each point of its shared axes."""
    threads, subgroup, wide = 0, 1, set()
    for s in schedule:
        if isinstance(s, Team):
            threads, subgroup = s.threads, min(s.subgroup, s.threads)
        elif isinstance(s, Vectorize):
            check(s.lanes == LANES, f"{s.lanes} lanes")
            wide.add(s.axis)
        else:
            check(isinstance(s, (Order, Parallel)), f"{s} in a team's schedule")
    check(threads >= 2 and threads & (threads - 1) == 0, "a team is a power of two")
    check(subgroup >= 1 and subgroup & (subgroup - 1) == 0, "a subgroup is a power of two")
    return _Row(spec, threads, subgroup, wide).nest()


class _Row:
    def __init__(self, spec: KernelSpec, threads: int, subgroup: int, wide: set[str]) -> None:
        self.spec, self.threads, self.subgroup, self.wide = spec, threads, subgroup, wide
        self.shared: dict[str, int] = {}

    def nest(self) -> Nest:
        spec = self.spec
        body: list[Stmt] = []
        env: Env = {}
        div = 1
        for a in reversed(spec.axes):
            body.append(Decode(f"{a.name}.o", "p", div, a.extent))
            env[a.name] = Index.of(f"{a.name}.o")
            div *= a.extent
        for n, s in enumerate(spec.stages):
            check(not (s.axes and s.reduce), "a stage that reduces for each of its own elements")
            body += self._reduction(s, n, env) if s.body is not None else []
            body += self._result(s, n, env)
        arrays = tuple(Operand(dtype, self.threads, "shared") for dtype in self.shared)
        return Nest(spec.name, spec.operands, div, [For("p", div, body, "parallel")], self.threads, arrays)

    def _array(self, dtype: str) -> int:
        """The shared array of a type, made at its first use."""
        return len(self.spec.operands) + self.shared.setdefault(dtype, len(self.shared))

    def _turns(self, axes: tuple[Axis, ...], name: str, step: Callable[[Env, int], list[Stmt]]) -> list[Stmt]:
        """`step` at each vector (or element) of a thread: whole rounds in a loop, then one for some of them."""
        run = Run(name, axes)
        lanes = LANES if axes[-1].name in self.wide else 1
        check(axes[-1].extent % lanes == 0, f"{axes[-1].name} is not made of whole vectors")
        count = run.extent // lanes
        full, rest = divmod(count, self.threads)
        out: list[Stmt] = []
        if full:
            at = Index(0, {THREAD: 1}) + Index(0, {name: self.threads} if full > 1 else ())
            body = step(run.at(at, lanes > 1), lanes)
            out += [For(name, full, body)] if full > 1 else body
        if rest:
            last = step(run.at(Index(full * self.threads, {THREAD: 1}), lanes > 1), lanes)
            out.append(Where(compare("lt", axis(THREAD), const(rest, "i32")), last))
        return out

    def _reduction(self, s: Stage, n: int, env: Env) -> list[Stmt]:
        assert s.body is not None
        dtype = s.body.dtype
        check(dtype != "bool" and dtype not in WIDE, f"a team's values of {dtype}")
        name, zero = f"acc{n}", identity(s.combine, dtype)
        acc = reg(name, dtype)
        body = s.body

        def step(at: Env, lanes: int) -> list[Stmt]:
            term = rewrite(body, {**env, **at}, _local)
            return [Set(name, combined(s.combine, acc, term), lanes)]

        lanes = LANES if s.reduce[-1].name in self.wide else 1
        out: list[Stmt] = [Set(name, zero, lanes), *self._turns(s.reduce, f"r{n}", step)]
        one = name
        if lanes > 1:
            one = f"{name}.s"
            out.append(
                Set(one, Expr("lane", dtype, (Expr(f"lanes_{s.combine}", dtype, (acc,), lanes),), 0), 1)
            )
        if self.subgroup > 1:
            return out + self._in_subgroups(s.combine, n, one, dtype)
        array, mine = self._array(dtype), Index(0, {THREAD: 1})
        out += [Store(array, mine, reg(one, dtype), 1, 1), Barrier()]
        half = self.threads // 2
        while half:
            both = combined(s.combine, load(array, mine, dtype), load(array, mine + half, dtype))
            here = compare("lt", axis(mine), const(half, "i32"))
            out += [Where(here, [Store(array, mine, both, 1, 1)]), Barrier()]
            half //= 2
        # all have read it before the array is used again
        return [*out, Set(f"acc{n}.all", load(array, Index(0), dtype), 1), Barrier()]

    def _in_subgroups(self, combine: str, n: int, one: str, dtype: str) -> list[Stmt]:
        """Halves swap what they have, until all threads of a subgroup have everything; then, by way of a shared array,
        each reads what the subgroups have."""
        name, other = f"acc{n}.all", f"acc{n}.other"
        out: list[Stmt] = [Set(name, reg(one, dtype), 1)]
        bit = self.subgroup // 2
        while bit:
            out.append(Swap(other, name, bit, dtype))
            out.append(Set(name, combined(combine, reg(name, dtype), reg(other, dtype)), 1))
            bit //= 2
        groups = self.threads // self.subgroup
        if groups == 1:
            return out
        array = self._array(dtype)
        number = Expr("div", "i32", (axis(THREAD), const(self.subgroup, "i32")))
        first = compare(
            "eq", Expr("rem", "i32", (axis(THREAD), const(self.subgroup, "i32"))), const(0, "i32")
        )
        out += [Where(first, [Store(array, Index(0, {number: 1}), reg(name, dtype), 1, 1)]), Barrier()]
        total: Expr = load(array, Index(0), dtype)
        for g in range(1, groups):
            total = combined(combine, total, load(array, Index(g), dtype))
        # all have read it before the array is used again
        return [*out, Set(name, total, 1), Barrier()]

    def _result(self, s: Stage, n: int, env: Env) -> list[Stmt]:
        dtype = s.body.dtype if s.body is not None else ""

        def leaf(e: Expr) -> Expr | None:
            return reg(f"acc{n}.all", dtype) if e.op == "acc" else _local(e)

        if not s.axes:
            value = rewrite(s.result, env, leaf)
            if s.keep:
                return [Set(s.keep, value, 1)]
            index = s.index.subst(env, lambda e: rewrite(e, env, leaf))
            first = compare("eq", axis(THREAD), const(0, "i32"))
            return [Where(first, [Store(s.out, index, value, 1, 1)])]
        check(s.keep == "", "a local has no axes of its own")

        def step(at: Env, lanes: int) -> list[Stmt]:
            here = {**env, **at}
            index = s.index.subst(here, lambda e: rewrite(e, here, leaf))
            return [Store(s.out, index, rewrite(s.result, here, leaf), lanes, lanes)]

        return self._turns(s.axes, f"e{n}", step)


def _local(e: Expr) -> Expr | None:
    return reg(e.attr, e.dtype) if e.op == "local" else None


def points(spec: KernelSpec) -> int:
    """How many rows there are."""
    return prod(a.extent for a in spec.axes)
