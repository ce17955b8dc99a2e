"""teamed(spec, schedule): reductions, softmax and norms with a workgroup for each row.

Every stage runs over its own or its reduced axes with all threads side by side. A reduction leaves a value in each
thread; the values are combined in a shared array, in halves, and every thread reads the result.
"""

from __future__ import annotations

from math import prod

from nnjit.codegen.dtypes import WIDE
from nnjit.codegen.expr import Expr, Index, axis, compare, const, load, reg, rewrite, select
from nnjit.codegen.loops import THREAD, Barrier, Decode, For, Nest, Set, Stmt, Store, Where
from nnjit.codegen.schedule.group_steps import Team
from nnjit.codegen.schedule.steps import Order, Parallel, Schedule, Vectorize, check
from nnjit.codegen.schedule.workgroup import Env, Run
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage

LANES = 4


def teamed(spec: KernelSpec, schedule: Schedule) -> Nest:
    """The nest of `spec` with a team of threads for each point of its shared axes."""
    threads, wide = 0, set()
    for s in schedule:
        if isinstance(s, Team):
            threads = s.threads
        elif isinstance(s, Vectorize):
            check(s.lanes == LANES, f"{s.lanes} lanes")
            wide.add(s.axis)
        else:
            check(isinstance(s, (Order, Parallel)), f"{s} in a team's schedule")
    check(threads >= 2 and threads & (threads - 1) == 0, "a team is a power of two")
    return _Row(spec, threads, wide).nest()


class _Row:
    def __init__(self, spec: KernelSpec, threads: int, wide: set[str]) -> None:
        self.spec, self.threads, self.wide = spec, threads, wide
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
        check(dtype != "bool" and dtype not in WIDE, f"a team's values of {dtype}")
        return len(self.spec.operands) + self.shared.setdefault(dtype, len(self.shared))

    def _turns(self, axes: tuple[Axis, ...], name: str) -> tuple[int, int, Index, Run, Expr | None]:
        """Lanes, turns, which vector (or element) a thread takes in turn `name`, and whether there is one."""
        run = Run(name, axes)
        lanes = LANES if axes[-1].name in self.wide else 1
        check(axes[-1].extent % lanes == 0, f"{axes[-1].name} is not made of whole vectors")
        count = run.extent // lanes
        turns = -(-count // self.threads)
        at = Index(0, {THREAD: 1} | ({name: self.threads} if turns > 1 else {}))
        inside = compare("lt", axis(at), const(count, "i32")) if count % self.threads else None
        return lanes, turns, at, run, inside

    def _reduction(self, s: Stage, n: int, env: Env) -> list[Stmt]:
        from nnjit.codegen.schedule.apply import combined, identity

        assert s.body is not None
        dtype = s.body.dtype
        array = self._array(dtype)
        lanes, turns, at, run, inside = self._turns(s.reduce, f"r{n}")
        name, zero = f"acc{n}", identity(s.combine, dtype)
        acc = reg(name, dtype)
        term = rewrite(s.body, {**env, **run.at(at, lanes > 1)}, _local)
        if inside is not None:
            term = select(inside, term, zero)
        step: list[Stmt] = [Set(name, combined(s.combine, acc, term), lanes)]
        out: list[Stmt] = [Set(name, zero, lanes)]
        out += [For(f"r{n}", turns, step)] if turns > 1 else step
        one = name
        if lanes > 1:
            one = f"{name}.s"
            out.append(
                Set(one, Expr("lane", dtype, (Expr(f"lanes_{s.combine}", dtype, (acc,), lanes),), 0), 1)
            )
        mine = Index(0, {THREAD: 1})
        out += [Store(array, mine, reg(one, dtype), 1, 1), Barrier()]
        half = self.threads // 2
        while half:
            both = combined(s.combine, load(array, mine, dtype), load(array, mine + half, dtype))
            here = compare("lt", axis(mine), const(half, "i32"))
            out += [Where(here, [Store(array, mine, both, 1, 1)]), Barrier()]
            half //= 2
        # all have read it before the array is used again
        return [*out, Set(f"acc{n}.all", load(array, Index(0), dtype), 1), Barrier()]

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
        lanes, turns, at, run, inside = self._turns(s.axes, f"e{n}")
        here = {**env, **run.at(at, lanes > 1)}
        index = s.index.subst(here, lambda e: rewrite(e, here, leaf))
        body: list[Stmt] = [Store(s.out, index, rewrite(s.result, here, leaf), lanes, lanes)]
        body = body if inside is None else [Where(inside, body)]
        return [For(f"e{n}", turns, body)] if turns > 1 else body


def _local(e: Expr) -> Expr | None:
    return reg(e.attr, e.dtype) if e.op == "local" else None


def points(spec: KernelSpec) -> int:
    """How many rows there are."""
    return prod(a.extent for a in spec.axes)
