"""The frame of a product for workgroups: its axes, and where each is from the number of a tile and places inside it.

Takes a spec and the Plan of its schedule; the nests that build on it (`workgroup`, `matrices`) say what a thread sums.
"""

from __future__ import annotations

from collections.abc import Sequence

from nnjit.codegen.expr import LANE, Expr, Index, axis, compare, const
from nnjit.codegen.loops import Decode, Stmt, Store, Where
from nnjit.codegen.rewriting import rewrite, walk
from nnjit.codegen.schedule.steps import check
from nnjit.codegen.schedule.workgroup_plan import LANES, Env, Plan, Run, joined, placed
from nnjit.codegen.spec import KernelSpec, Stage


class Framed:
    """A sum of products whose tiles of `rows` by `columns` belong to a workgroup each."""

    rows: int
    columns: int

    def __init__(self, spec: KernelSpec, plan: Plan) -> None:
        check(len(spec.stages) == 1, "a product of one stage")
        self.spec, self.plan, self.stage = spec, plan, spec.stages[0]
        body = self.stage.body
        check(
            self.stage.combine == "sum"
            and body is not None
            and body.op in ("mul", "dot")
            and not self.stage.axes,
            "a sum of products",
        )
        assert body is not None
        self.dtype = body.dtype
        self.factor = body.args[0].dtype if body.op == "dot" else body.dtype
        self.held = "i32" if body.op == "dot" else body.dtype  # what a shared array of factors is of
        self.runs = self._runs()
        self.k = self._reduced()
        self.n = self._named(plan.vector)
        rows = [name for name in plan.tile if name != self.n.name]
        check(len(rows) <= 1, f"tiles of {rows}")
        self.m = self._named(rows[0]) if rows else None
        self.batch = [r for r in self.runs if r is not self.n and r is not self.m]
        self._sizes()

    def _runs(self) -> list[Run]:
        """The shared axes, fused ones together in the place of their first."""
        extents = {a.name: a for a in self.spec.axes}
        inside = {part: name for name, parts in self.plan.fused.items() for part in parts}
        out: dict[str, Run] = {}
        for a in self.spec.axes:
            name = inside.get(a.name, a.name)
            parts = self.plan.fused.get(name, (a.name,))
            check(all(p in extents for p in parts), f"{name} fuses axes that are not shared")
            out[name] = Run(name, tuple(extents[p] for p in parts))
        return list(out.values())

    def _reduced(self) -> Run:
        reduce = self.stage.reduce
        check(bool(reduce), "nothing to sum over")
        if len(reduce) == 1:
            return Run(reduce[0].name, reduce)
        name = next((n for n, parts in self.plan.fused.items() if parts == tuple(a.name for a in reduce)), "")
        check(name != "", "several reduced axes are fused into one")
        return Run(name, reduce)

    def _named(self, name: str) -> Run:
        found = next((r for r in self.runs if r.name == name), None)
        check(found is not None, f"no axis {name}")
        assert found is not None
        return found

    def _sizes(self) -> None:
        """Rows and columns of a tile and what a thread has of them; ScheduleError where they do not fit."""
        raise NotImplementedError

    def _tiles(self) -> list[Stmt]:
        """The tile's number taken apart: columns, rows of a block, blocks of rows, batches."""
        counts: list[tuple[str, int]] = []
        rows = 1 if self.m is None else -(-self.m.extent // self.rows)
        columns = -(-self.n.extent // self.columns)
        block = 1
        if self.m is not None and self.m.name in self.plan.block:
            size = self.plan.block[self.m.name]
            check(
                size % self.rows == 0 and rows % (size // self.rows) == 0,
                "blocks are whole and fill the rows",
            )
            block = size // self.rows
        counts += [("row.i", block), ("column", columns), ("row.o", rows // block)]
        counts += [(f"{r.name}.b", r.extent) for r in reversed(self.batch)]
        out: list[Stmt] = []
        div = 1
        self.base: dict[str, Index] = {}
        for name, n in counts:
            self.base[name] = Index.of(name) if n > 1 else Index(0)
            if n > 1:
                out.append(Decode(name, "p", div, n))
            div *= n
        self.tiles = div
        self.row = self.base["row.o"] * (block * self.rows) + self.base["row.i"] * self.rows
        return out

    def _env(self, row: Index | None, column: Index | None, k: Index | None, lanes: str = "") -> Env:
        """Where the spec's axes are: `column` and `row` count from the tile's first; with `lanes` "n" or "k" that one
        counts vectors."""
        env: Env = {}
        for r in self.batch:
            env |= r.at(self.base[f"{r.name}.b"])
        if row is not None and self.m is not None:
            env |= self.m.at(self.row + row)
        if column is not None:
            first = self.base["column"] * self.columns
            inside = column * LANES + Index(0, {LANE: 1}) if lanes == "n" else column
            if len(self.n.parts) > 1 and lanes == "n":
                env |= self.n.at(self.base["column"] * (self.columns // LANES) + column, True)
            else:
                env |= self.n.at(first + inside)
            name = self.n.parts[0].name
            env[f"{name}.t"], env[f"{name}.i"] = self.base["column"], inside
        if k is not None:
            env |= self.k.at(k, lanes == "k")
        return env

    def _sides(self, body: Expr) -> tuple[Expr, Expr]:
        """The factor that follows the rows and the one that follows the columns."""
        x, y = body.args
        columns = {p.name for p in self.n.parts} | {f"{p.name}.{c}" for p in self.n.parts for c in "ti"}
        follows = [bool(columns & set(e.axes())) for e in (x, y)]
        check(follows[0] != follows[1], "one factor follows the columns")
        a, b = (y, x) if follows[0] else (x, y)
        rows = {p.name for p in self.m.parts} if self.m is not None else set()
        check(not rows & set(b.axes()), "a factor follows rows and columns")
        return a, b

    def _contiguous(self, e: Expr, along: str) -> bool:
        """Whether the reads of a factor have neighbours along an axis next to each other."""
        run = self.k if along == "k" else self.n
        names = [run.parts[-1].name, run.parts[-1].name + ".i"]
        return all(any(x.attr.index.coeff(name) == 1 for name in names) for x in _loads(e))


def below(at: Index, extent: int, then: list[Stmt]) -> Where:
    return Where(compare("lt", axis(at), const(extent, "i32")), then)


def stored(s: Stage, env: Env, acc: Expr, lanes: int) -> Store:
    """The stage's result of one sum, or of four."""

    def leaf(e: Expr) -> Expr | None:
        return acc if e.op == "acc" else None

    value = placed(s.result, env, leaf)
    index = joined(s.index.subst(env, lambda e: rewrite(e, env)))
    return Store(s.out, index, value, lanes, lanes)


def _loads(e: Expr) -> Sequence[Expr]:
    return [x for x in walk(e) if x.op == "load"]
