"""A product's loop nest for workgroups, from Tile, Threads, Cache and their like.

A tile of rows and columns belongs to a workgroup. Its threads fill two shared arrays with the next `depth` of the
reduced axis, wait, and each multiplies its own rows by its own columns: vectors of four along k for the rows, along the
columns for the other factor. Without Cache each thread reads for itself. Tails are tested where something is stored;
past the end of the reduced axis both factors are zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nnjit.codegen.expr import LANE, Expr, Index, axis, compare, const, load, op, reg
from nnjit.codegen.loops import THREAD, Barrier, Decode, For, Nest, Set, Stmt, Store, Where
from nnjit.codegen.schedule.fills import (
    Fill,
    Filling,
    Grid,
    Space,
    Turned,
    add_product,
    alternating,
    or_zero,
    products,
    staged,
)
from nnjit.codegen.schedule.group_steps import Cache
from nnjit.codegen.schedule.steps import check
from nnjit.codegen.schedule.workgroup_frame import Framed, below, stored
from nnjit.codegen.schedule.workgroup_plan import LANES, placed
from nnjit.codegen.spec import Operand


class Product(Framed):
    """Sums in registers: `tall` rows by `wide` vectors of columns a thread."""

    def _sizes(self) -> None:
        plan = self.plan
        self.columns, self.across = plan.tile.get(self.n.name, LANES), plan.threads.get(self.n.name, 1)
        self.rows, self.down = 1, 1
        if self.m is not None:
            self.rows, self.down = plan.tile[self.m.name], plan.threads.get(self.m.name, 1)
        self.slices = plan.threads.get(self.k.name, 1)
        check(self.columns % (LANES * self.across) == 0, "columns are whole vectors of each thread")
        check(self.rows % self.down == 0, "rows are divided evenly")
        self.wide = self.columns // LANES // self.across
        self.tall = self.rows // self.down
        check(self.tall * self.wide <= 64, f"{self.tall}x{self.wide} vectors of sums")
        self.count = self.across * self.down * self.slices
        self.own = self.across * self.down
        cache = plan.cache
        side = LANES if cache is not None and cache.turned else 1
        check(self.tall % side == 0, "rows of a thread in whole vectors")
        self.grid = Grid(self.tall, self.down, self.wide, self.across, side)
        x = plan.patch
        if x is not None:
            check(self.down % x.rows == 0 and self.across % x.columns == 0, "whole patches of threads")
            tm, tn = Index(0, {"tm.o": x.rows, "tm.i": 1}), Index(0, {"tn.o": x.columns, "tn.i": 1})
            self.grid = replace(self.grid, tm=tm, tn=tn)
        if cache is not None:
            check(
                cache.axis == self.k.name and cache.depth % (LANES * self.slices) == 0,
                "a depth of whole vectors",
            )
            check(self.m is not None, "a product of a single row is read directly")

    # ---- the nest ----

    def nest(self) -> Nest:
        body: list[Stmt] = self._tiles()
        body += self._places()
        body += [Decode("ks", THREAD, self.own, 0)] if self.slices > 1 else []
        body += self.grid.zeros("acc", self.dtype)
        self.shared: list[Operand] = []
        body += self._cached(self.plan.cache) if self.plan.cache is not None else self._direct()
        body += self._combined()
        body += self._stores()
        return Nest(
            self.spec.name, self.spec.operands, self.tiles, [For("p", self.tiles, body, "parallel")],
            self.count, tuple(self.shared),
        )  # fmt: skip

    def _places(self) -> list[Stmt]:
        """Where a thread is in its tile."""
        x = self.plan.patch
        if x is None:
            out: list[Stmt] = [Decode("tn", THREAD, 1, self.across)] if self.across > 1 else []
            return out + ([Decode("tm", THREAD, self.across, self.down)] if self.down > 1 else [])
        patch, patches = x.rows * x.columns, self.across // x.columns
        return [
            Decode("tn.i", THREAD, 1, x.columns), Decode("tm.i", THREAD, x.columns, x.rows),
            Decode("tn.o", THREAD, patch, patches), Decode("tm.o", THREAD, patch * patches, self.down // x.rows),
        ]  # fmt: skip

    # ---- through shared arrays ----

    def _cached(self, cache: Cache) -> list[Stmt]:
        body = self.stage.body
        assert body is not None
        a, b = self._sides(body)
        deep = cache.depth // LANES
        space, at = self._space(cache), len(self.spec.operands)
        copies = 2 if cache.twice else 1
        across, along = self._contiguous(b, "n"), self._contiguous(a, "k")
        left = Fill("a", at, a, space, self.rows, deep, "k", along, copies=copies)
        vectors = self.columns // LANES
        right = Fill("b", at + 1, b, space, cache.depth, vectors, "n", across, copies=copies)
        filling = Filling((left, right))
        if cache.turned:
            check(along, "a left factor that lies along the sum")
            filling = self._turned(left, right)
        left, right = filling.fills
        self.shared += [Operand(self.held, f.size, "shared") for f in (left, right)]
        return self._staged(filling, space, cache, lambda copy: self._sums(left, right, deep, copy))

    def _turned(self, left: Fill, right: Fill) -> Filling:
        """Blocks of the left factor transposed: by all threads where there are as many, else by half of them, while
        the others fill the right array."""
        turned = Turned(
            "a", left.operand, left.value, left.space, left.space.depth, self.rows // LANES, "k", True,
            copies=left.copies,
        )  # fmt: skip
        if turned.fits:
            return Filling((turned, right))
        half = self.count // 2
        turned = replace(turned, registers="t", threads=half)
        right = replace(right, registers="t", threads=half, first=half)
        fast = right.vectors if right.contiguous else right.rows
        even = right.rows * right.vectors % half == 0 and half % fast == 0
        check(self.count % 2 == 0 and turned.fits and even, "blocks for all threads, or for half of them")
        return Filling((turned, right), apart=True)

    def _space(self, cache: Cache) -> Space:
        k = self.k.extent
        return Space(self._env, self.count, k, k, cache.depth, self.factor)

    def _staged(
        self, filling: Filling, space: Space, cache: Cache, sums: Callable[[int], list[Stmt]]
    ) -> list[Stmt]:
        decodes = [s for f in filling.fills for s in f.decodes()]
        if cache.twice:
            return [*decodes, *alternating(filling, space, "k.o", sums)]
        return [*decodes, *staged(filling, space, "k.o", cache.ahead, sums(0), Index())]

    def _sums(self, left: Fill, right: Fill, deep: int, copy: int) -> list[Stmt]:
        """Each thread's part of the product of the two shared arrays."""
        share = deep // self.slices
        unroll = self.plan.unroll.get(self.k.name, 1)
        check(share % unroll == 0, f"{share} vectors by {unroll}")
        first = Index(0, {"ks": share} if self.slices > 1 else ())
        if unroll < share:
            first = first + Index(0, {"k.i": unroll})
        arrays = left.array(copy), right.array(copy)
        out = [
            s
            for u in range(unroll)
            for s in products("acc", self.grid, arrays[0], Index(), arrays[1], first + u, self.factor)
        ]
        return [For("k.i", share // unroll, out)] if unroll < share else out

    # ---- without ----

    def _direct(self) -> list[Stmt]:
        """Each thread reads what it multiplies; slices of the reduced axis take turns."""
        body = self.stage.body
        assert body is not None
        a, b = self._sides(body)
        unroll = self.plan.unroll.get(self.k.name, 1)
        step = unroll * self.slices
        full, rest = divmod(self.k.extent, step)
        slice_ = Index(0, {"ks": 1}) if self.slices > 1 else Index(0)

        def part(first: Index, copies: int, bound: bool) -> list[Stmt]:
            out: list[Stmt] = []
            for u in range(copies):
                k = first + u * self.slices + slice_
                inside = compare("lt", axis(k), const(self.k.extent, "i32")) if bound else None
                for j in range(self.wide):
                    column = self.grid.column(j)
                    value = placed(b, self._env(None, column, k, "n"))
                    out.append(Set(f"b.{j}", or_zero(inside, value), LANES))
                for i in range(self.tall):
                    row = self.grid.row(i)
                    value = or_zero(inside, placed(a, self._env(row, None, k)))
                    for j in range(self.wide):
                        out.append(add_product(f"acc.{i}.{j}", value, reg(f"b.{j}", self.factor)))
            return out

        out: list[Stmt] = []
        if full > 1:
            out.append(For("k.o", full, part(Index(0, {"k.o": step}), unroll, False)))
        elif full == 1:
            out += part(Index(0), unroll, False)
        if rest:
            out += part(Index(full * step), -(-rest // self.slices), rest % self.slices != 0)
        return out

    # ---- the end ----

    def _combined(self) -> list[Stmt]:
        """The sums of all slices added up in the threads of the first. Beside arrays of factors there is room for one
        slice at a time; without them all are stored at once."""
        if self.slices == 1:
            return []
        operand, room = len(self.spec.operands) + len(self.shared), self.tall * self.wide * self.own * LANES
        at_once = 1 if self.shared else self.slices - 1
        self.shared.append(Operand(self.dtype, at_once * room, "shared"))
        mine = self.grid.column(0) + (self.grid.tm * self.across if self.down > 1 else Index(0))
        places = [
            (f"acc.{i}.{j}", (mine + (i * self.wide + j) * self.own) * LANES + Index(0, {LANE: 1}))
            for i in range(self.tall)
            for j in range(self.wide)
        ]

        def give(first: Index) -> list[Stmt]:
            return [Store(operand, first + at, reg(r, self.dtype), LANES, LANES) for r, at in places]

        def take(first: int) -> list[Stmt]:
            return [
                Set(r, op("add", reg(r, self.dtype), load(operand, at + first, self.dtype)), LANES)
                for r, at in places
            ]

        if at_once > 1:
            all_but_one = compare("ge", axis("ks"), const(1, "i32"))
            sums = [s for n in range(at_once) for s in take(n * room)]
            return [
                Where(all_but_one, give(Index(-room, {"ks": room}))), Barrier(), Where(_is("ks", 0), sums),
            ]  # fmt: skip
        out: list[Stmt] = []
        for s in range(1, self.slices):
            out += [Barrier()] if s > 1 else []
            out += [Where(_is("ks", s), give(Index())), Barrier(), Where(_is("ks", 0), take(0))]
        return out

    def _stores(self) -> list[Stmt]:
        s = self.stage
        whole = self.n.extent % LANES == 0
        rows = self.m is not None and self.m.extent % self.rows != 0
        columns = self.n.extent % self.columns != 0
        out: list[Stmt] = []
        for i in range(self.tall):
            row = self.grid.row(i)
            line: list[Stmt] = []
            for j in range(self.wide):
                vector = self.grid.column(j)
                acc = reg(f"acc.{i}.{j}", self.dtype)
                first = self.base["column"] * self.columns + vector * LANES
                if whole:
                    one = stored(s, self._env(row, vector, None, "n"), acc, LANES)
                    line += [below(first, self.n.extent, [one])] if columns else [one]
                    continue
                for x in range(LANES):
                    one = stored(
                        s, self._env(row, vector * LANES + x, None), Expr("lane", self.dtype, (acc,), x), 1
                    )
                    line += [below(first + x, self.n.extent, [one])] if columns else [one]
            out += [below(self.row + row, self.m.extent, line)] if rows and self.m is not None else line
        return [Where(_is("ks", 0), out)] if self.slices > 1 else out


def _is(var: str, value: int) -> Expr:
    return compare("eq", axis(var), const(value, "i32"))
