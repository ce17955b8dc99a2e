"""online(spec, schedule): attention as one loop nest for workgroups, from the step Online.

A workgroup has a tile of query rows. For each block of keys its threads make the scores (a product through shared
arrays), find each row's largest so far, store the powers p = exp(score - largest) into a shared array, and add their
product with the values to the result:

    scale = exp(before - largest);  total = total * scale + sum(p);  result = result * scale + p * values

A row's threads each keep the sum of their own powers; those are added up at the end. `Online` names the sources.
"""

from __future__ import annotations

from dataclasses import replace

from nnjit.codegen.expr import LANE, Expr, Index, axis, compare, const, load, op, reg, select
from nnjit.codegen.loops import THREAD, Barrier, Decode, For, Nest, Set, Stmt, Store, Where
from nnjit.codegen.rewriting import rewrite
from nnjit.codegen.schedule.attention import shape
from nnjit.codegen.schedule.fills import Fill, Filling, Grid, Shared, Space, products, staged
from nnjit.codegen.schedule.group_steps import Online
from nnjit.codegen.schedule.steps import Schedule, check
from nnjit.codegen.schedule.workgroup_plan import LANES, Env, Run
from nnjit.codegen.spec import KernelSpec, Operand

LOWEST = -3.4028234663852886e38
"""What is subtracted from scores that are all minus infinity, so that their powers are 0 and not NaN."""


def online(spec: KernelSpec, schedule: Schedule) -> Nest:
    """The nest of attention in f32; ScheduleError for any other spec. Its scratch memory is left unused."""
    check(len(schedule) == 1 and isinstance(schedule[0], Online), "one step that says all")
    step = schedule[0]
    assert isinstance(step, Online)
    return _Attention(spec, step).nest()


class _Attention:
    """The nest of one spec under construction. n: the keys, each with a score, d: the depth that is summed for it; k:
    the keys again, over which values are summed, e: columns of the values. grid, out: each thread's part of the tile
    of scores and of the result."""

    def __init__(self, spec: KernelSpec, step: Online) -> None:
        found = shape(spec)
        check(found is not None and len(spec.stages) == 4, "attention")
        assert found is not None
        self.spec, self.step = spec, step
        self.scores, self.top, self.total, self.mix = spec.stages
        self.row = next((a for a in found.rows if a.name == step.axis), None)
        check(self.row is not None, f"rows along {step.axis}")
        types = {s.body.dtype for s in spec.stages if s.body is not None}
        check(
            types == {"f32"} and self.top.combine == "pmax" and self.total.combine == "sum", "scores of f32"
        )
        self.n, self.e = self.scores.axes[0], self.mix.axes[0]
        self.d, self.k = self.scores.reduce[0], self.mix.reduce[0]
        check(step.across % LANES == 0, "threads of a row in whole vectors")
        check(
            step.rows % step.down == 0 and step.keys % (LANES * step.across) == 0,
            "whole vectors of each thread",
        )
        check(
            step.depth % LANES == 0 and step.keys % step.depth == 0,
            "a depth of whole vectors that divides the keys",
        )
        self.count = step.down * step.across
        tall, columns = step.rows // step.down, -(-self.e.extent // LANES)
        self.grid = Grid(tall, step.down, step.keys // LANES // step.across, step.across)
        self.out = Grid(tall, step.down, -(-columns // step.across), step.across)
        check(step.depth // LANES % step.unroll == 0, "vectors of a depth in whole steps")
        check(tall * (self.grid.wide + self.out.wide) <= 64, "sums that fit registers")
        self.blocks = -(-self.n.extent // step.keys)
        self.shared: list[Operand] = []

    # ---- where the axes are ----

    def _tiles(self) -> list[Stmt]:
        """The tile's number taken apart: rows run fastest, so that neighbours read the same keys."""
        assert self.row is not None
        counts = [("row", -(-self.row.extent // self.step.rows))]
        counts += [(f"{a.name}.b", a.extent) for a in reversed(self.spec.axes) if a is not self.row]
        out: list[Stmt] = []
        div = 1
        self.base: dict[str, Index] = {}
        for name, n in counts:
            self.base[name] = Index.of(name) if n > 1 else Index(0)
            out += [Decode(name, "p", div, n)] if n > 1 else []
            div *= n
        self.tiles = div
        self.first = self.base["row"] * self.step.rows
        self.key = Index(0, {"block": self.step.keys}) if self.blocks > 1 else Index(0)
        return out

    def _env(self, row: Index | None) -> Env:
        assert self.row is not None
        env = {a.name: self.base[f"{a.name}.b"] for a in self.spec.axes if a is not self.row}
        if row is not None:
            env[self.row.name] = self.first + row
        return env

    def _score_env(self, row: Index | None, column: Index | None, k: Index | None, lanes: str) -> Env:
        env = self._env(row)
        if column is not None:
            inside = column * LANES + Index(0, {LANE: 1}) if lanes == "n" else column
            env[self.n.name] = self.key + inside
        return env if k is None else env | Run(self.d.name, (self.d,)).at(k, lanes == "k")

    def _value_env(self, row: Index | None, column: Index | None, k: Index | None, lanes: str) -> Env:
        env = self._env(row)
        if column is not None:
            env[self.e.name] = column * LANES + Index(0, {LANE: 1}) if lanes == "n" else column
        if k is not None:
            env[self.k.name] = k
        return env

    # ---- the nest ----

    def nest(self) -> Nest:
        body = self._tiles()
        body += [Decode("tn", THREAD, 1, self.step.across), Decode("tm", THREAD, self.step.across, 0)]
        for i in range(self.grid.tall):
            low, zero = const(float("-inf"), "f32"), const(0, "f32")
            body += [
                Set(f"most.{i}", low, 1),
                Set(f"sum.{i}", zero, 1),
                Set(f"shift.{i}", const(LOWEST, "f32"), 1),
            ]
        body += self.out.zeros("out", "f32")
        queries, keys, values = self._fills()
        powers = self._array(self.step.rows * self.step.keys, self.step.keys // LANES)
        self.rows = self._array(self.step.rows * self.step.across, self.step.across // LANES)
        body += [s for f in (queries, keys, values) for s in f.decodes()]
        if self.step.held:
            body += [*queries.loads(Index(), self.held != self.d.extent), *queries.stores()]
        block = self._scores(queries, keys) + self._powers(powers) + self._mixed(powers, values)
        body += [For("block", self.blocks, block, limit=self._limit())] if self.blocks > 1 else block
        body += self._results()
        operands = list(self.spec.operands)
        operands[self.spec.scratch] = Operand("f32", LANES, "scratch")
        loop = For("p", self.tiles, body, "parallel")
        return Nest(self.spec.name, tuple(operands), self.tiles, [loop], self.count, tuple(self.shared))

    def _array(self, size: int, stride: int) -> Shared:
        self.shared.append(Operand("f32", size, "shared"))
        return Shared(len(self.spec.operands) + len(self.shared) - 1, stride)

    def _fills(self) -> tuple[Fill, Fill, Fill]:
        """The shared arrays of the three factors: keys and values take turns in one."""
        step, number = self.step, len(self.spec.operands)
        query, key = _sides(self.scores.body, self.n.name)
        _, value = _sides(self.mix.body, self.e.name)
        d, deep = self.d.extent, step.depth
        scores = Space(self._score_env, self.count, d, d, deep, "f32")
        values = Space(self._value_env, self.count, self.n.extent, step.keys, deep, "f32")
        columns = self.out.wide * self.out.across
        self.held = -(-d // deep) * deep  # elements of a row of queries
        whole = replace(scores, depth=self.held) if step.held else scores
        fills = (
            Fill("q", number, query, whole, step.rows, whole.depth // LANES, "k", _along(query, self.d.name)),
            Fill("k", number + 1, key, scores, deep, step.keys // LANES, "n", _along(key, self.n.name)),
            Fill("v", number + 1, value, values, deep, columns, "n", _along(value, self.e.name)),
        )
        sizes = fills[0].size, max(f.size for f in fills[1:])
        self.shared += [Operand("f32", size, "shared") for size in sizes]
        return fills

    def _scores(self, queries: Fill, keys: Fill) -> list[Stmt]:
        """This block's scores in registers s.i.j, those past the last key minus infinity."""
        several = self.d.extent > self.step.depth
        begin = Index(0, {"d.o": self.step.depth // LANES} if several and self.step.held else ())
        sums = self._sums("s", self.grid, queries.array(), begin, keys.array())
        out = self.grid.zeros("s", "f32")
        filling = Filling((keys,) if self.step.held else (queries, keys))
        out += staged(filling, keys.space, "d.o", several, sums, Index())
        for i in range(self.grid.tall):
            for j in range(self.grid.wide):
                env = self._score_env(self.grid.row(i), self.grid.column(j), None, "n")
                raw = reg(f"s.{i}.{j}", "f32")
                score = rewrite(self.scores.result, env, lambda e, raw=raw: raw if e.op == "acc" else None)  # type: ignore[misc]
                if self.n.extent % self.step.keys:
                    inside = compare("lt", axis(env[self.n.name]), const(self.n.extent, "i32"))
                    score = select(inside, score, const(float("-inf"), "f32"))
                out.append(Set(f"s.{i}.{j}", score, LANES))
        return out

    def _sums(self, name: str, grid: Grid, left: Shared, begin: Index, right: Shared) -> list[Stmt]:
        """A stage's part of a product."""
        deep, unroll = self.step.depth // LANES, self.step.unroll
        first = Index(0, {"k.i": unroll} if unroll < deep else ())
        sums = [s for u in range(unroll) for s in products(name, grid, left, begin, right, first + u, "f32")]
        return [For("k.i", deep // unroll, sums)] if unroll < deep else sums

    def _powers(self, powers: Shared) -> list[Stmt]:
        """Each row's largest score, by way of a shared array; powers into another, sums and results scaled."""
        out: list[Stmt] = []
        mine = Index(0, {"tn": 1})
        for i in range(self.grid.tall):
            out.append(
                Set("peak", _folded("pmax", [reg(f"s.{i}.{j}", "f32") for j in range(self.grid.wide)]), LANES)
            )
            at = self.grid.row(i) * self.step.across + mine
            out.append(Store(self.rows.operand, at, _lanes("pmax", reg("peak", "f32")), 1, 1))
        out.append(Barrier())
        for i in range(self.grid.tall):
            out += self._over_row("pmax", i)
            most, shift, scale = (reg(f"{name}.{i}", "f32") for name in ("most", "shift", "scale"))
            out.append(Set(f"most.{i}", op("pmax", most, _lanes("pmax", reg("fold", "f32"))), 1))
            top = rewrite(self.top.result, {}, lambda e, most=most: most if e.op == "acc" else None)  # type: ignore[misc]
            out.append(Set("now", op("pmax", top, const(LOWEST, "f32")), 1))
            out.append(Set(f"scale.{i}", Expr("decay", "f32", (op("sub", shift, reg("now", "f32")),)), 1))
            out.append(Set(f"shift.{i}", reg("now", "f32"), 1))
            for j in range(self.grid.wide):
                out.append(Set(f"s.{i}.{j}", self._power(reg(f"s.{i}.{j}", "f32"), shift), LANES))
                at = powers.place(self.grid.row(i), self.grid.column(j))
                out.append(Store(powers.operand, at, reg(f"s.{i}.{j}", "f32"), LANES, LANES))
            own = _folded("add", [reg(f"s.{i}.{j}", "f32") for j in range(self.grid.wide)])
            out.append(Set("own", own, LANES))
            total = op("mul", reg(f"sum.{i}", "f32"), scale)
            out.append(Set(f"sum.{i}", op("add", total, _lanes("sum", reg("own", "f32"))), 1))
            for j in range(self.out.wide):
                name = f"out.{i}.{j}"
                out.append(Set(name, op("mul", reg(name, "f32"), scale), LANES))
        return [*out, Barrier()]

    def _power(self, score: Expr, shift: Expr) -> Expr:
        """The body of the sum: exp(score - largest)."""
        assert self.total.body is not None

        def leaf(e: Expr) -> Expr | None:
            if e.op == "local":
                return shift
            return score if e.op == "load" and e.attr.operand == self.spec.scratch else None

        return rewrite(self.total.body, {}, leaf)

    def _over_row(self, combine: str, i: int) -> list[Stmt]:
        """Register `fold`: what a row's threads stored, combined in four lanes."""
        at = [self.rows.place(self.grid.row(i), Index(x)) for x in range(self.rows.stride)]
        return [Set("fold", _folded(combine, [load(self.rows.operand, a, "f32") for a in at]), LANES)]

    def _mixed(self, powers: Shared, values: Fill) -> list[Stmt]:
        """out += powers * values, a slice of the block's keys at a time."""
        step, deep = self.step, self.step.depth // LANES
        slices = step.keys // step.depth
        begin = Index(0, {"v.o": deep} if slices > 1 else ())
        sums = self._sums("out", self.out, powers, begin, values.array())
        first = Index(0, {"block": slices} if self.blocks > 1 else ())
        out = staged(Filling((values,)), values.space, "v.o", slices > 1, sums, first)
        # the next block's keys go where these values are
        return [*out, Barrier()] if slices == 1 and self.blocks > 1 else out

    def _limit(self) -> Expr | None:
        """Blocks up to the last key that the tile's last row sees, where the spec promises that and no memory has to be
        read for it: all threads leave the loop together."""
        assert self.row is not None
        bound = next((e for name, e in self.spec.useful if name == self.n.name), None)
        if bound is None or not _rises(bound, self.row.name):
            return None
        end = rewrite(bound, self._env(Index(self.step.rows - 1)))
        last = op("add", end, const(self.step.keys - 1, "i32"))
        return op("div", last, const(self.step.keys, "i32"))

    def _results(self) -> list[Stmt]:
        """The sums of a row's threads added up, and what the spec makes of its result."""
        out: list[Stmt] = []
        mine = Index(0, {"tn": 1})
        for i in range(self.grid.tall):
            at = self.grid.row(i) * self.step.across + mine
            out.append(Store(self.rows.operand, at, reg(f"sum.{i}", "f32"), 1, 1))
        out.append(Barrier())
        assert self.row is not None
        for i in range(self.grid.tall):
            out += self._over_row("add", i)
            whole = _lanes("sum", reg("fold", "f32"))
            total = rewrite(self.total.result, {}, lambda e, whole=whole: whole if e.op == "acc" else None)  # type: ignore[misc]
            out.append(Set(f"total.{i}", total, 1))
            line: list[Stmt] = []
            for j in range(self.out.wide):
                line += self._stored(i, j)
            bounded = self.row.extent % self.step.rows != 0
            out += [_below(self.first + self.grid.row(i), self.row.extent, line)] if bounded else line
        return out

    def _stored(self, i: int, j: int) -> list[Stmt]:
        """A vector of results, element by element where a row is no whole vectors."""
        e, vector = self.e.extent, self.out.column(j)
        value = reg(f"out.{i}.{j}", "f32")
        tail = e < self.out.wide * self.out.across * LANES
        if e % LANES == 0:
            one = self._result(i, vector, "n", value, LANES)
            return [_below(vector * LANES, e, [one])] if tail else [one]
        out: list[Stmt] = []
        for x in range(LANES):
            at = vector * LANES + x
            one = self._result(i, at, "", Expr("lane", "f32", (value,), x), 1)
            out.append(_below(at, e, [one]))
        return out

    def _result(self, i: int, column: Index, lanes: str, value: Expr, count: int) -> Stmt:
        env = self._value_env(self.grid.row(i), column, None, lanes)

        def leaf(e: Expr) -> Expr | None:
            if e.op == "acc":
                return value
            if e.op == "local":
                check(e.attr == self.total.keep, "a result that needs a row's largest score")
                return reg(f"total.{i}", "f32")
            return None

        index = self.mix.index.subst(env, lambda e: rewrite(e, env))
        return Store(self.mix.out, index, rewrite(self.mix.result, env, leaf), count, count)


def _sides(body: Expr | None, own: str) -> tuple[Expr, Expr]:
    """The factor that does not vary along a stage's own axis, and the one that does."""
    assert body is not None
    a, b = body.args
    return (b, a) if own in a.axes() else (a, b)


def _along(e: Expr, name: str) -> bool:
    """Whether the read of a factor has neighbours along an axis next to each other."""
    while e.op != "load":
        (e,) = e.args
    return bool(e.attr.index.coeff(name) == 1)


def _rises(e: Expr, row: str) -> bool:
    """Whether an expression of loop variables never falls from one row to the next."""
    if e.op == "axis":
        return all(isinstance(a, str) for a, _ in e.attr.terms) and e.attr.coeff(row) >= 0
    return e.op == "const" or (e.op in ("max", "min", "add") and all(_rises(a, row) for a in e.args))


def _folded(combine: str, values: list[Expr]) -> Expr:
    out = values[0]
    for v in values[1:]:
        out = op(combine, out, v)
    return out


def _lanes(combine: str, vector: Expr) -> Expr:
    """All four lanes as one number."""
    return Expr("lane", "f32", (Expr(f"lanes_{combine}", "f32", (vector,), LANES),), 0)


def _below(at: Index, extent: int, then: list[Stmt]) -> Stmt:
    return Where(compare("lt", axis(at), const(extent, "i32")), then)
