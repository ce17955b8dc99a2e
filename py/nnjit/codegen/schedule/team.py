"""teamed(spec, schedule): reductions, softmax and norms with a workgroup for each row.

Every stage runs over its own or its reduced axes with all threads side by side. A reduction leaves a value in each
thread; the values are combined in a shared array, in halves, and every thread reads the result.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from nnjit.codegen.dtypes import WIDE
from nnjit.codegen.expr import Expr, Index, axis, compare, const, reg
from nnjit.codegen.loops import THREAD, Decode, For, Nest, Set, Stmt, Store, Where
from nnjit.codegen.rewriting import rewrite
from nnjit.codegen.schedule.group_steps import Team
from nnjit.codegen.schedule.meeting import met, room
from nnjit.codegen.schedule.reduction import combined, identity
from nnjit.codegen.schedule.steps import Order, Parallel, Schedule, Vectorize, check
from nnjit.codegen.schedule.workgroup_plan import Env, Run
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage

LANES = 4
"""Elements of a vec4, which a thread reads at once along an axis with Vectorize."""


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
    """The nest of one spec under construction. wide: axes that are taken by vectors. shared: the types of which there
    is a shared array, each with a number."""

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
        name, body = f"acc{n}", s.body
        lanes = LANES if s.reduce[-1].name in self.wide else 1
        own = f"{name}.v" if lanes > 1 else name

        def step(at: Env, lanes: int) -> list[Stmt]:
            term = rewrite(body, {**env, **at}, _local)
            return [Set(own, combined(s.combine, reg(own, dtype), term), lanes)]

        out: list[Stmt] = [Set(own, identity(s.combine, dtype), lanes), *self._turns(s.reduce, f"r{n}", step)]
        if lanes > 1:
            one = Expr(f"lanes_{s.combine}", dtype, (reg(own, dtype),), lanes)
            out.append(Set(name, Expr("lane", dtype, (one,), 0), 1))
        array = self._array(dtype) if room(self.threads, self.subgroup) else -1
        return [*out, *met(s.combine, [name], dtype, self.threads, self.subgroup, array)]

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
