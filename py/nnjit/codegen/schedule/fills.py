"""Shared arrays and how a workgroup fills them: with a slice of a product's factor at a time.

Takes an expression and where the axes are at a row, a column and an element of the sum (`Space`); gives the statements
that read it from memory and store it, and the loop over the slices (`staged`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nnjit.codegen.expr import LANE, Expr, Index, axis, compare, const, load, reg, select
from nnjit.codegen.groups import GROUPS
from nnjit.codegen.loops import THREAD, Barrier, Decode, For, Set, Stmt, Store, Where
from nnjit.codegen.schedule.workgroup_plan import LANES, Env, placed


@dataclass(frozen=True, slots=True)
class Space:
    """A product as a workgroup's threads see it.

    at(row, column, k, lanes): where the axes of the spec are; row and column count from the tile's first, and with
    lanes "n" or "k" that one counts vectors. count: threads. extent: elements of the reduced axis, of which `length`
    are summed in one loop, `depth` at a time. dtype: of the factors."""

    at: Callable[[Index | None, Index | None, Index | None, str], Env]
    count: int
    extent: int
    length: int
    depth: int
    dtype: str


TM, TN = Index.of("tm"), Index.of("tn")
"""A thread's number among those along the rows of its tile, and along the columns."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A thread's own part of a tile: `tall` rows, `down` apart, and `wide` vectors of columns, `across` apart."""

    tall: int
    down: int
    wide: int
    across: int
    side: int = 1
    """Rows of a thread that lie side by side; `down` counts such groups."""
    tm: Index = TM
    tn: Index = TN
    """Where a thread is among those of its tile."""

    def group(self, i: int) -> Index:
        """The group of rows that a thread's row is in."""
        first = Index(i // self.side * self.down)
        return first + self.tm if self.down > 1 else first

    def row(self, i: int) -> Index:
        return self.group(i) * self.side + i % self.side

    def column(self, j: int) -> Index:
        """In vectors."""
        return Index(j * self.across) + self.tn if self.across > 1 else Index(j * self.across)

    def zeros(self, name: str, dtype: str) -> list[Stmt]:
        """The registers name.i.j, which hold it."""
        return [
            Set(f"{name}.{i}.{j}", const(0, dtype), LANES) for i in range(self.tall) for j in range(self.wide)
        ]


@dataclass(frozen=True, slots=True)
class Shared:
    """A shared array of rows of vectors, `stride` vectors apart, from vector `begin` on."""

    operand: int
    stride: int
    begin: int = 0

    def place(self, row: Index, vector: Index) -> Index:
        return (row * self.stride + vector + self.begin) * LANES + Index(0, {LANE: 1})


@dataclass(slots=True)
class Fill:
    """A shared array of `rows` rows of `vectors` vectors, which all threads fill with a factor.

    `along` is the axis of the vectors: "k" for the left factor, "n" for the right one. Neighbouring threads take
    neighbours in memory: along a row where `contiguous`, else down the rows, which are then one vector longer than
    they need be, so that stores to a column meet different banks. Of `copies` arrays one is filled while another may
    still be read."""

    name: str
    operand: int
    value: Expr
    space: Space
    rows: int
    vectors: int
    along: str
    contiguous: bool
    pad: int = 0
    copies: int = 1
    registers: str = ""
    """Their prefix, where it is not the name: fills by different threads may share them."""
    threads: int = 0
    first: int = 0
    """Which threads fill it: all where `threads` is 0, else so many from `first` on, a multiple of it."""

    @property
    def count(self) -> int:
        return self.threads or self.space.count

    @property
    def stride(self) -> int:
        return self.vectors + (self.pad or (0 if self.contiguous else 1))

    @property
    def size(self) -> int:
        return self.copies * self.rows * self.stride * LANES

    @property
    def turns(self) -> int:
        return -(-self.rows * self.vectors // self.count)

    def array(self, copy: int = 0) -> Shared:
        return Shared(self.operand, self.stride, copy * self.rows * self.stride)

    def decodes(self) -> list[Stmt]:
        fast = self.vectors if self.contiguous else self.rows
        return [Decode(f"{self.name}.x", THREAD, 1, fast), Decode(f"{self.name}.y", THREAD, fast, 0)]

    def _at(self, turn: int) -> tuple[Index, Index, Expr | None]:
        """Row and vector that a thread does in its n-th turn, and whether there is one."""
        count = self.count
        fast = self.vectors if self.contiguous else self.rows
        total = self.rows * self.vectors
        number = Index(turn * count - self.first, {THREAD: 1})
        if count % fast == 0:
            x = Index.of(f"{self.name}.x")
            y = Index.of(f"{self.name}.y") + (turn * count - self.first) // fast
        else:
            of = axis(number)
            x = Index(0, {Expr("rem", "i32", (of, const(fast, "i32"))): 1})
            y = Index(0, {Expr("div", "i32", (of, const(fast, "i32"))): 1})
        row, vector = (y, x) if self.contiguous else (x, y)
        inside = compare("lt", axis(number), const(total, "i32")) if (turn + 1) * count > total else None
        return row, vector, inside

    def _value(self, turn: int, step: Index, tail: bool) -> Expr:
        """Four elements of the factor, in stage `step` of the reduced axis."""
        p, depth = self.space, self.space.depth
        row, vector, _ = self._at(turn)
        if self.along == "k":
            k = step * (depth // LANES) + vector
            value = placed(self.value, p.at(row, None, k, "k"))
            place = k * LANES + Index(0, {LANE: 1})
        else:
            k = step * depth + row
            value = placed(self.value, p.at(None, vector, k, "n"))
            place = k
        return or_zero(compare("lt", axis(place), const(p.extent, "i32")) if tail else None, value)

    def loads(self, step: Index, tail: bool) -> list[Stmt]:
        return [Set(r, self._value(n, step, tail), LANES) for n, r in enumerate(self.held())]

    def held(self) -> list[str]:
        """The registers between `loads` and `stores`."""
        return [f"{self.registers or self.name}.t{n}" for n in range(self.turns)]

    def stores(self, copy: int = 0) -> list[Stmt]:
        return [s for n, r in enumerate(self.held()) for s in self._store(n, reg(r, self.space.dtype), copy)]

    def _store(self, turn: int, value: Expr, copy: int = 0) -> list[Stmt]:
        row, vector, inside = self._at(turn)
        one = Store(self.operand, self.array(copy).place(row, vector), value, LANES, LANES)
        return [one] if inside is None else [Where(inside, [one])]


@dataclass(slots=True)
class Turned(Fill):
    """A left factor that lies along the sum, in an array whose rows are elements of the sum and whose vectors go along
    the rows of the product: each thread reads blocks of four by four and stores them transposed.

    `rows` and `vectors` are those of the array: depth, and a quarter of the tile's rows. Eight threads side by side
    take eight blocks of neighbouring rows, so that their stores lie next to each other."""

    @property
    def blocks(self) -> int:
        return self.rows // LANES * self.vectors

    @property
    def beside(self) -> int:
        return min(8, self.vectors)

    @property
    def turns(self) -> int:
        return -(-self.blocks // self.count)

    @property
    def fits(self) -> bool:
        """Whether the threads make up whole groups of blocks, and each has as many."""
        group = self.beside * (self.rows // LANES)
        return self.vectors % self.beside == 0 and self.count % group == 0 and self.blocks % self.count == 0

    def decodes(self) -> list[Stmt]:
        deep = self.rows // LANES
        return [
            Decode(f"{self.name}.x", THREAD, 1, self.beside),
            Decode(f"{self.name}.y", THREAD, self.beside, deep),
            Decode(f"{self.name}.z", THREAD, self.beside * deep, 0),
        ]

    def _block(self, turn: int) -> tuple[Index, Index]:
        """Which vector of rows, and which vector along the sum."""
        group = self.beside * (self.rows // LANES)
        more = (turn * self.count - self.first) // group * self.beside
        return Index(more, {f"{self.name}.x": 1, f"{self.name}.z": self.beside}), Index.of(f"{self.name}.y")

    def held(self) -> list[str]:
        return [f"{self.registers or self.name}.t{n}" for n in range(self.turns * LANES)]

    def loads(self, step: Index, tail: bool) -> list[Stmt]:
        p, out = self.space, []
        for n, name in enumerate(self.held()):
            vector, deep = self._block(n // LANES)
            k = step * (p.depth // LANES) + deep
            value = placed(self.value, p.at(vector * LANES + n % LANES, None, k, "k"))
            place = k * LANES + Index(0, {LANE: 1})
            inside = compare("lt", axis(place), const(p.extent, "i32")) if tail else None
            out.append(Set(name, or_zero(inside, value), LANES))
        return list(out)

    def stores(self, copy: int = 0) -> list[Stmt]:
        out: list[Stmt] = []
        dtype, held = self.space.dtype, self.held()
        for turn in range(self.turns):
            vector, deep = self._block(turn)
            four = [reg(r, dtype) for r in held[turn * LANES : (turn + 1) * LANES]]
            for c in range(LANES):
                value = Expr("each", dtype, tuple(Expr("lane", dtype, (r,), c) for r in four))
                at = self.array(copy).place(deep * LANES + c, vector)
                out.append(Store(self.operand, at, value, LANES, LANES))
        return out


@dataclass(frozen=True, slots=True)
class Filling:
    """Shared arrays that are filled together. apart: half of the threads fill one, the others the other, and both use
    the same registers."""

    fills: tuple[Fill, ...]
    apart: bool = False

    def start(self) -> list[Stmt]:
        """Registers that are set under a condition later."""
        if not self.apart:
            return []
        held = dict.fromkeys(r for f in self.fills for r in f.held())
        return [Set(r, const(0, self.fills[0].space.dtype), LANES) for r in held]

    def loads(self, step: Index, tail: bool) -> list[Stmt]:
        return self._each([f.loads(step, tail) for f in self.fills])

    def stores(self, copy: int = 0) -> list[Stmt]:
        return self._each([f.stores(copy) for f in self.fills])

    def _each(self, parts: list[list[Stmt]]) -> list[Stmt]:
        if not self.apart:
            return [s for part in parts for s in part]
        half = const(self.fills[1].first, "i32")
        return [
            Where(compare(how, axis(THREAD), half), part)
            for how, part in zip(("lt", "ge"), parts, strict=True)
        ]


def staged(
    filling: Filling, space: Space, var: str, ahead: bool, sums: list[Stmt], first: Index
) -> list[Stmt]:
    """The stages of the reduced axis, from stage `first` of it on: the arrays filled, a barrier, what is done with
    them, a barrier. ahead: a stage is read into registers before the sums of the one before it."""
    steps = -(-space.length // space.depth)
    tail = space.extent % space.depth != 0
    at = first + Index.of(var) if steps > 1 else first
    if ahead and steps > 1:
        inner = [*filling.stores(), Barrier(), *filling.loads(at + 1, tail), *sums, Barrier()]
        return [*filling.start(), *filling.loads(first, tail), For(var, steps, inner)]
    filled = [*filling.start(), *filling.loads(at, tail), *filling.stores(), Barrier()]
    if steps == 1:
        return [*filled, *sums]
    return [For(var, steps, [*filled, *sums, Barrier()])]


def alternating(filling: Filling, space: Space, var: str, sums: Callable[[int], list[Stmt]]) -> list[Stmt]:
    """The same with two copies of each array, which stages fill by turns: threads that are through with one stage store
    the next, though others still read this one, and meet once a stage. `sums(copy)`: what is done with one of them."""
    steps = -(-space.length // space.depth)
    tail = space.extent % space.depth != 0

    def loads(step: Index) -> list[Stmt]:
        return filling.loads(step, tail)

    def filled(copy: int) -> list[Stmt]:
        return [*filling.stores(copy), Barrier()]

    pairs, rest = divmod(steps, 2)
    at = Index(0, {var: 2}) if pairs > 1 else Index(0)
    both = [*filled(0), *loads(at + 1), *sums(0), *filled(1), *loads(at + 2), *sums(1)]
    out = (
        filling.start() + loads(Index(0)) + ([For(var, pairs, both)] if pairs > 1 else both if pairs else [])
    )
    return [*out, *filled(0), *sums(0)] if rest else out


def or_zero(inside: Expr | None, value: Expr) -> Expr:
    return value if inside is None else select(inside, value, const(0, value.dtype))


def products(
    acc: str, grid: Grid, left: Shared, begin: Index, right: Shared, k: Index, dtype: str
) -> list[Stmt]:
    """A thread's part of left * right added to the registers of `acc`: a vector along the sum, number `k` of the
    right array, `begin` further in the left one. Of a turned left array each vector goes along the rows."""
    out: list[Stmt] = []
    turned = grid.side > 1
    for i in range(0 if turned else grid.tall):
        value = load(left.operand, left.place(grid.row(i), begin + k), dtype)
        out.append(Set(f"a.{i}", value, LANES))
    for x in range(LANES):
        for i in range(0, grid.tall if turned else 0, LANES):
            at = left.place((begin + k) * LANES + x, grid.group(i))
            out.append(Set(f"a.{i // LANES}", load(left.operand, at, dtype), LANES))
        for j in range(grid.wide):
            at = right.place(k * LANES + x, grid.column(j))
            out.append(Set(f"b.{j}", load(right.operand, at, dtype), LANES))
        for i in range(grid.tall):
            name, lane = (f"a.{i // LANES}", i % LANES) if turned else (f"a.{i}", x)
            one = Expr("lane", dtype, (reg(name, dtype),), lane)
            out += [add_product(f"{acc}.{i}.{j}", one, reg(f"b.{j}", dtype)) for j in range(grid.wide)]
    return out


def add_product(name: str, a: Expr, b: Expr) -> Set:
    """acc += a * b, or the sum of products of two words."""
    if b.dtype in GROUPS:
        return Set(name, Expr("dot", "i32", (a, b, reg(name, "i32"))), LANES)
    acc = reg(name, b.dtype)
    if b.dtype == "f32":
        return Set(name, Expr("fma", "f32", (a, b, acc)), LANES)
    return Set(name, Expr("add", b.dtype, (acc, Expr("mul", b.dtype, (a, b)))), LANES)
