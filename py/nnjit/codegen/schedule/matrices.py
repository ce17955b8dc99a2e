"""A product of f16, or of i8 in words, whose sums are kept in subgroup matrices, from Tile, Threads, Cache and Matrix.

The shared arrays are filled as in `workgroup`, but with f16, or with words along the sum on both sides. Each subgroup
multiplies matrices out of them. At the end a subgroup puts its matrices one after the other into a shared array (of
small ones several that stand side by side), from which its threads take vectors, work out the result and store it where
it lies inside the tensor.
"""

from __future__ import annotations

from nnjit.codegen.expr import LANE, Expr, Index, load
from nnjit.codegen.groups import GROUPS
from nnjit.codegen.loops import THREAD, Barrier, Decode, Fetch, For, Multiply, Nest, Put, Stmt, Zeros
from nnjit.codegen.schedule.fills import Fill, Filling, Space
from nnjit.codegen.schedule.group_steps import Cache, Matrix
from nnjit.codegen.schedule.matrix_tiles import MOST_SUMS, abreast
from nnjit.codegen.schedule.steps import check
from nnjit.codegen.schedule.workgroup import Product
from nnjit.codegen.schedule.workgroup_frame import below, stored
from nnjit.codegen.schedule.workgroup_plan import LANES, Env, Plan
from nnjit.codegen.spec import KernelSpec, Operand

PAD = 2
"""Vectors by which a row of a shared array is longer than it need be: rows then begin in different banks."""


class MatrixProduct(Product):
    """Threads along the rows and columns count subgroups."""

    def __init__(self, spec: KernelSpec, plan: Plan, matrix: Matrix) -> None:
        self.matrix = matrix
        super().__init__(spec, plan)
        check(self.dtype == "f32" or self.factor in GROUPS, "sums of f32, or of words")

    def _sizes(self) -> None:
        plan, x = self.plan, self.matrix
        check(self.m is not None and plan.cache is not None, "matrices need rows and shared arrays")
        assert self.m is not None and plan.cache is not None
        self.columns, self.across = plan.tile.get(self.n.name, x.columns), plan.threads.get(self.n.name, 1)
        self.rows, self.down = plan.tile[self.m.name], plan.threads.get(self.m.name, 1)
        self.slices = plan.threads.get(self.k.name, 1)
        check(self.slices == 1, "the reduced axis is not divided among subgroups")
        check(self.columns % (x.columns * self.across) == 0, "columns are whole matrices of each subgroup")
        check(self.rows % (x.rows * self.down) == 0, "rows are whole matrices of each subgroup")
        check(not plan.cache.turned and plan.patch is None, "matrices take their factors as they lie")
        self.group = GROUPS[self.factor][1] if self.factor in GROUPS else 1
        depth = plan.cache.depth * self.group
        check(plan.cache.depth % LANES == 0, "a depth of whole vectors")
        check(plan.cache.axis == self.k.name and depth % x.depth == 0, "a depth of whole matrices")
        self.wide = self.columns // x.columns // self.across
        self.tall = self.rows // x.rows // self.down
        area = self.tall * self.wide * x.rows * x.columns
        check(area <= MOST_SUMS, f"{self.tall}x{self.wide} matrices of sums")
        self.abreast = abreast(x.rows, x.columns, x.subgroup, self.wide)
        check(self._shared_out(area), "results are whole vectors of each thread")
        self.count = self.across * self.down * x.subgroup
        self.own = self.count

    def _shared_out(self, area: int) -> bool:
        """Whether the threads of a subgroup can take as many results each; it has `area` in all."""
        return self.abreast > 0

    def nest(self) -> Nest:
        x = self.matrix
        body: list[Stmt] = self._tiles()
        body += [Decode("lane", THREAD, 1, x.subgroup), Decode("group.n", THREAD, x.subgroup, self.across)]
        body += [
            Decode("group.m", THREAD, x.subgroup * self.across, 0),
            Decode("group", THREAD, x.subgroup, 0),
        ]
        body += self._zeros()
        self.shared: list[Operand] = []
        assert self.plan.cache is not None
        body += self._cached(self.plan.cache)
        body += self._results()
        return Nest(
            self.spec.name, self.spec.operands, self.tiles, [For("p", self.tiles, body, "parallel")],
            self.count, tuple(self.shared),
        )  # fmt: skip

    def _zeros(self) -> list[Stmt]:
        x = self.matrix
        return [
            Zeros(f"sum.{i}.{j}", x.rows, x.columns, self.dtype)
            for i in range(self.tall)
            for j in range(self.wide)
        ]

    def _cached(self, cache: Cache) -> list[Stmt]:
        body = self.stage.body
        assert body is not None
        if self.group > 1:
            return self._cached_words(cache, *self._sides(body))
        a, b = (_half(e) for e in self._sides(body))
        space, operand, copies = self._space(cache), len(self.spec.operands), 2 if cache.twice else 1
        along, across = self._contiguous(a, "k"), self._contiguous(b, "n")
        left = Fill("a", operand, a, space, self.rows, cache.depth // LANES, "k", along, PAD, copies)
        right = Fill("b", operand + 1, b, space, cache.depth, self.columns // LANES, "n", across, PAD, copies)
        self.shared += [Operand("f16", left.size, "shared"), Operand("f16", right.size, "shared")]
        return self._staged(
            Filling((left, right)), space, cache, lambda copy: self._products(left, right, cache.depth, copy)
        )

    def _cached_words(self, cache: Cache, a: Expr, b: Expr) -> list[Stmt]:
        """Both arrays hold words along the sum: a row for each row, and one for each column."""
        operand, k, copies = len(self.spec.operands), self.k.extent, 2 if cache.twice else 1
        deep = cache.depth // LANES
        rows = self._space(cache)
        columns = Space(self._column_env, self.count, k, k, cache.depth, self.factor)
        left = Fill("a", operand, a, rows, self.rows, deep, "k", self._contiguous(a, "k"), PAD, copies)
        right = Fill(
            "b", operand + 1, b, columns, self.columns, deep, "k", self._contiguous(b, "k"), PAD, copies
        )
        self.shared += [Operand("i32", f.size, "shared") for f in (left, right)]
        depth = cache.depth * self.group
        return self._staged(
            Filling((left, right)), rows, cache, lambda copy: self._products(left, right, depth, copy)
        )

    def _column_env(self, row: Index | None, column: Index | None, k: Index | None, lanes: str) -> Env:
        """Where the axes are at a column, which takes the row's place."""
        return self._env(column, row, k, lanes)

    def _products(self, left: Fill, right: Fill, depth: int, copy: int) -> list[Stmt]:
        """What a subgroup multiplies in one stage."""
        x = self.matrix
        down, across = (f.stride * LANES * self.group for f in (left, right))
        row = Index(copy * left.rows * down, {"group.m": self.tall * x.rows * down})
        dtype, turned = ("i8", True) if self.group > 1 else ("f16", False)
        step = across if turned else 1  # from one column to the next
        column = Index(copy * right.rows * across, {"group.n": self.wide * x.columns * step})
        out: list[Stmt] = []
        for k in range(0, depth, x.depth):
            for i in range(self.tall):
                at = row + (i * x.rows * down + k)
                out.append(Fetch(f"a.{i}.{k}", left.operand, at, down, x.rows, x.depth, "left", dtype))
            for j in range(self.wide):
                at = column + (j * x.columns * step + (k if turned else k * across))
                name, sizes = f"b.{j}.{k}", (x.depth, x.columns)
                out.append(Fetch(name, right.operand, at, across, *sizes, "right", dtype, turned))
            out += [
                Multiply(f"sum.{i}.{j}", f"a.{i}.{k}", f"b.{j}.{k}")
                for i in range(self.tall)
                for j in range(self.wide)
            ]
        return out

    def _results(self) -> list[Stmt]:
        x = self.matrix
        columns = self.abreast * x.columns
        size = x.rows * columns
        operand = len(self.spec.operands) + len(self.shared)
        self.shared.append(Operand(self.dtype, self.count // x.subgroup * size, "shared"))
        assert self.m is not None
        vectors = columns // LANES
        out: list[Stmt] = [Decode("lane.x", "lane", 1, vectors), Decode("lane.y", "lane", vectors, 0)]
        mine = Index(0, {"group": size})
        for i in range(self.tall):
            for j in range(self.wide // self.abreast):
                beside = range(self.abreast)
                out += [
                    Put(f"sum.{i}.{j * self.abreast + b}", operand, mine + b * x.columns, columns)
                    for b in beside
                ]
                out.append(Barrier())
                for turn in range(size // LANES // x.subgroup):
                    y = Index.of("lane.y") + turn * (x.subgroup // vectors)
                    row = Index(i * x.rows, {"group.m": self.tall * x.rows}) + y
                    vector = Index(j * vectors, {"group.n": self.wide * x.columns // LANES, "lane.x": 1})
                    at = mine + y * columns + Index(0, {"lane.x": LANES})
                    sums = load(operand, at + Index(0, {LANE: 1}), self.dtype)
                    each = [load(operand, at + lane, self.dtype) for lane in range(LANES)]
                    out += self._result(sums, each, row, vector)
                out.append(Barrier())
        return out

    def _result(self, sums: Expr, each: list[Expr], row: Index, vector: Index) -> list[Stmt]:
        """Four elements of the result, from their sums as a vector or one by one."""
        assert self.m is not None
        first = self.base["column"] * self.columns + vector * LANES
        tail = self.n.extent % self.columns != 0
        line: list[Stmt] = []
        if self.n.extent % LANES == 0:
            one = stored(self.stage, self._env(row, vector, None, "n"), sums, LANES)
            line += [below(first, self.n.extent, [one])] if tail else [one]
        else:
            for lane in range(LANES):
                env = self._env(row, vector * LANES + lane, None)
                one = stored(self.stage, env, each[lane], 1)
                line += [below(first + lane, self.n.extent, [one])] if tail else [one]
        rows = self.m.extent % self.rows != 0
        return [below(self.row + row, self.m.extent, line)] if rows else line


def _half(e: Expr) -> Expr:
    """A factor as it lies in memory: f32(load) of f16 without the conversion."""
    inner = e.args[0] if e.op == "cast" else e
    check(inner.op == "load" and inner.dtype == "f16", "factors that are read as f16")
    other = tuple(Expr("const", "half", (), a.attr) for a in inner.args)
    check(all(a.op == "const" for a in inner.args), "a constant outside")
    return Expr("load", "half", other, inner.attr)
