"""along(spec, schedule): a row or a few by a matrix whose weights lie along the sum, from the step Along.

Each thread of a team takes a span of the sum, multiplies it by some columns at once, so that what it has read of the
rows serves for all of them, and goes on to the next span. At the end the team adds up what its threads have found.

    for s in spans, by threads: a = x[s]; acc0 += a * w[column, s]; acc1 += a * w[column + 1, s]; ...

Weights of a few bits lie in words, each with several neighbours along the sum: a span is then a word, or a block of
whole words, read four at a time; what they are and how they are multiplied is told in `codes`. The words of `turns`
spans are read before the first is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from nnjit.codegen.expr import LANE, Expr, Index, axis, compare, const, load, op, reg
from nnjit.codegen.loops import THREAD, Barrier, Decode, For, Nest, Set, Stmt, Store, Where
from nnjit.codegen.rewriting import rewrite
from nnjit.codegen.schedule.codes import Codes, codes_of
from nnjit.codegen.schedule.fills import add_product
from nnjit.codegen.schedule.group_steps import Along
from nnjit.codegen.schedule.meeting import deals, dealt, met, room
from nnjit.codegen.schedule.steps import Schedule, check
from nnjit.codegen.schedule.workgroup_plan import LANES, Env, Run
from nnjit.codegen.spec import Axis, KernelSpec, Operand

HELD = 16
"""Vectors of the rows that stay in registers while columns are done."""
EARLY = 32
"""Vectors of the rows that are asked for before the words, at most."""


def along(spec: KernelSpec, schedule: Schedule) -> Nest:
    """The nest of a product of few rows; ScheduleError for any other spec, or spans that do not divide the sum."""
    check(len(schedule) == 1 and isinstance(schedule[0], Along), "one step that says all")
    step = schedule[0]
    assert isinstance(step, Along)
    return Rows(spec, step).nest()


def shared_bytes(step: Along, rows: int) -> int:
    """Of the shared arrays: what the sums meet in, and the rows where they are staged; 4 bytes an element."""
    sums = room(step.threads, min(step.subgroup, step.threads)) * rows * step.columns
    return 4 * (sums + (rows * step.threads * (step.span + LANES) if step.staged else 0))


class Rows:
    """The nest of one spec under construction. left: the factor with the rows, right: the one with the columns; points:
    where the row axes are in each row that is done; outer: the spans that threads share out, inner: the axes of
    one span."""

    lanes = LANES
    """Of a thread's sums."""
    rounds = 1
    """How many times a team does its columns, one time after another."""

    def __init__(self, spec: KernelSpec, step: Along) -> None:
        check(len(spec.stages) == 1, "a product of one stage")
        (s,) = spec.stages
        self.spec, self.step, self.stage = spec, step, s
        check(
            s.combine == "sum" and s.body is not None and s.body.op == "mul" and not s.axes,
            "a sum of products",
        )
        assert s.body is not None
        self.dtype = s.body.dtype
        check(self.dtype in ("f32", "i32", "u32"), f"sums of {self.dtype}")
        column = next((a for a in spec.axes if a.name == step.axis), None)
        check(column is not None, f"no axis {step.axis}")
        assert column is not None
        self.column = column
        follows = [column.name in e.axes() for e in s.body.args]
        check(follows[0] != follows[1], "one factor follows the columns")
        self.left, self.right = (s.body.args[1], s.body.args[0]) if follows[0] else s.body.args
        beside = self.left.axes() - self.right.axes()
        self.rows = tuple(a for a in spec.axes if a.name in beside)
        self.batch = tuple(a for a in spec.axes if a is not column and a not in self.rows)
        self.points = [
            dict(zip((a.name for a in self.rows), map(Index, at), strict=True))
            for at in product(*(range(a.extent) for a in self.rows))
        ]
        check(step.threads >= 2 and step.threads & (step.threads - 1) == 0, "a team is a power of two")
        self.subgroup = min(step.subgroup, step.threads)
        check(self.subgroup >= 1 and self.subgroup & (self.subgroup - 1) == 0, "a subgroup is a power of two")
        check(len(self.points) * step.columns <= 32, "sums that fit registers")
        self._spans()

    def _spans(self) -> None:
        """The axes whose elements the threads share out, and those that each does in full; of a single one a thread
        does `step.span` elements at a time."""
        reduce, span = self.stage.reduce, self.step.span
        check(reduce[-1].extent % LANES == 0, f"{reduce[-1].name} is made of whole vectors")
        inner: tuple[Axis, ...] = ()
        size = 1
        while size < span and len(inner) < len(reduce):
            a = reduce[-1 - len(inner)]
            if size * a.extent > span:
                break
            inner, size = (a, *inner), size * a.extent
        self.chunk = span // size  # of the innermost axis that is shared out
        check(size * self.chunk == span and span % LANES == 0, "a span of whole vectors")
        outer = reduce[: len(reduce) - len(inner)]
        check(self.chunk == 1 or (not inner and bool(outer)), "a span ends with an axis")
        if self.chunk > 1:
            check(outer[-1].extent % self.chunk == 0, "whole spans")
            outer = (*outer[:-1], replace(outer[-1], extent=outer[-1].extent // self.chunk))
        self.outer, self.inner = Run("sum", outer), inner
        self.spans = self.outer.extent
        self.codes = codes_of(self.right, [a.name for a in inner]) if inner else None
        self.together = 1  # how many words are read at once
        if self.codes is not None:
            check(len(inner) <= 2, "spans of a word or a block")
            words = inner[-2].name if len(inner) > 1 else ""
            whole = len(inner) > 1 and inner[-2].extent % LANES == 0
            self.together = LANES if whole and self.codes.word.attr.index.coeff(words) == 1 else 1
        if self.step.staged:
            self._stageable()
        if self.step.early:
            held = self.step.turns * len(list(self._vectors())) * len(self.points)
            check(self.codes is not None and not self.step.staged, "rows of words, read by each thread")
            check(held <= EARLY, f"{held} vectors of the rows")

    def _stageable(self) -> None:
        """Whether the rows can go through a shared array: a span of them is one run in memory."""
        check(
            self.codes is not None and self.left.op == "load",
            "rows that are read as they are, by weights in words",
        )
        vectors, stride = self.step.span // LANES, 1
        check(not self.left.attr.guard, "rows without edges")
        for a in reversed(self.inner):
            check(self.left.attr.index.coeff(a.name) == stride, "spans of the rows in one run")
            stride *= a.extent
        check(self.step.threads % vectors == 0, "whole spans for the threads that fill the array")

    # ---- the nest ----

    def nest(self) -> Nest:
        step, spec = self.step, self.spec
        columns = -(-self.column.extent // self._group())
        counts = [("column", columns), *((f"{a.name}.b", a.extent) for a in reversed(self.batch))]
        body: list[Stmt] = []
        self.base: dict[str, Index] = {}
        self.known: set[str] = set()  # axes that are decoded already
        div = 1
        for name, n in counts:
            self.base[name] = Index.of(name) if n > 1 else Index(0)
            body += [Decode(name, "p", div, n)] if n > 1 else []
            div *= n
        body += self._work()
        size = room(step.threads, self.subgroup) * len(self._names())
        shared = (Operand(self.dtype, size, "shared"),) if size else ()
        if step.staged:
            vectors = step.span // LANES
            body[:0] = [Decode("fill.span", THREAD, vectors, 0), Decode("fill.at", THREAD, 1, vectors)]
            shared = (*shared, Operand(self.dtype, len(self.points) * self._staged_size(), "shared"))
        return Nest(spec.name, spec.operands, div, [For("p", div, body, "parallel")], step.threads, shared)

    def _work(self) -> list[Stmt]:
        """Some columns, from sums of nothing to results."""
        return [*self._nothing(), *self._turns(), *self._ended()]

    def _nothing(self) -> list[Stmt]:
        return [Set(name, const(0, self.dtype), self.lanes) for name in self._names()]

    def _ended(self) -> list[Stmt]:
        """The threads' sums, put together, and what becomes of them."""
        step, names, body = self.step, self._names(), list[Stmt]()
        for name in names:
            total = reg(name, self.dtype)
            if self.lanes > 1:
                total = Expr("lane", self.dtype, (Expr("lanes_sum", self.dtype, (total,), LANES),), 0)
            body.append(Set(f"{name}.s", total, 1))
        how = [f"{n}.s" for n in names], self.dtype, step.threads, self.subgroup, len(self.spec.operands)
        if deals(len(names), step.threads, self.subgroup):
            sums, has, each = dealt("sum", *how, "total")
            return [*body, *sums, *self._dealt(has, each)]
        return [*body, *met("sum", *how), *self._results()]

    def _group(self) -> int:
        """Columns of a team, in all its rounds."""
        return self.step.columns * self.rounds

    def _names(self) -> list[str]:
        """The sums of a thread."""
        return [self._sum(r, c) for r in range(len(self.points)) for c in range(self.step.columns)]

    def _sum(self, row: int, column: int) -> str:
        return f"acc.{row}.{column}"

    def _turns(self) -> list[Stmt]:
        """All threads take the next spans: whole rounds in a loop, `turns` of them at once, then one for some."""
        threads, most = self.step.threads, self.step.turns
        full, rest = divmod(self.spans, threads)
        loops, more = divmod(full, most)
        out: list[Stmt] = []
        if loops:
            at = Index(0, {THREAD: 1}) + Index(0, {"k.o": threads * most} if loops > 1 else ())
            several = self._rounds(at, most)
            out += [For("k.o", loops, several)] if loops > 1 else several
        out += self._rounds(Index(loops * most * threads, {THREAD: 1}), more)
        if rest:
            number = Index(full * threads, {THREAD: 1})
            out += self._filled(number, rest) if self.step.staged else []
            last = [*self._asked(number, 0), *self._read(number, 0), *self._products_of(number, 0)]
            out.append(Where(compare("lt", axis(THREAD), const(rest, "i32")), last))
        return out

    def _rounds(self, first: Index, count: int) -> list[Stmt]:
        """`count` spans of a thread, from its number `first` on."""
        numbers = [first + n * self.step.threads for n in range(count)]
        out = [s for turn, at in enumerate(numbers) for s in self._asked(at, turn)]
        out += [s for turn, at in enumerate(numbers) for s in self._read(at, turn)]
        for turn, at in enumerate(numbers):
            out += self._filled(at, self.step.threads) if self.step.staged else []
            out += self._products_of(at, turn)
        return out

    def _products_of(self, number: Index, turn: int) -> list[Stmt]:
        return self._span(number, turn) if self.codes is None else self._decoded(number, turn)

    def _staged_size(self) -> int:
        """Elements of a row in the shared array: a vector more for each span, so that the threads' reads meet
        different banks."""
        return self.step.threads * (self.step.span + LANES)

    def _array(self) -> int:
        """The operand that the rows are staged in; what the sums meet in comes before it."""
        return len(self.spec.operands) + (room(self.step.threads, self.subgroup) > 0)

    def _filled(self, number: Index, count: int) -> list[Stmt]:
        """The spans of the first `count` threads, of which each has its own `number`, into the shared array:
        neighbouring threads read neighbouring vectors."""
        threads, span = self.step.threads, self.step.span
        first = number + Index(0, {THREAD: -1})
        each = threads // (span // LANES)  # spans that all threads fill at once
        out: list[Stmt] = [Barrier()] if self.spans > threads else []  # all have read the spans before
        for r, point in enumerate(self.points):
            for n in range(0, count, each):
                where = Index(n, {"fill.span": 1})
                inside = {a.name: Index(0) for a in self.inner}
                inside[self.inner[-1].name] = Index(0, {"fill.at": LANES, LANE: 1})
                env = {**self._env(0), **point, **self.outer.at(first + where), **inside}
                at = where * (span + LANES) + Index(r * self._staged_size(), {"fill.at": LANES, LANE: 1})
                one = Store(self._array(), at, rewrite(self.left, env), LANES, LANES)
                some = compare("lt", axis(where), const(count, "i32"))
                out.append(one if n + each <= count else Where(some, [one]))
        return [*out, Barrier()]

    def _env(self, column: int) -> Env:
        env = {a.name: self.base[f"{a.name}.b"] for a in self.batch}
        env[self.column.name] = self.base["column"] * self.step.columns + column
        return env

    def _span(self, number: Index, turn: int) -> list[Stmt]:
        """The products of one span."""
        shared = self.outer.at(number) if self.outer.parts else {}
        out: list[Stmt] = []
        for inside in self._vectors():
            here = {**shared, **inside}
            if self.chunk > 1:
                name = self.outer.parts[-1].name
                here[name] = shared[name] * self.chunk + inside[name]
            for r, point in enumerate(self.points):
                value = rewrite(self.left, {**self._env(0), **point, **here})
                out.append(Set(f"a.{r}", value, LANES))
            for c in range(self.step.columns):
                out.append(Set(f"b.{c}", rewrite(self.right, {**self._env(c), **here}), LANES))
                for r in range(len(self.points)):
                    out.append(
                        add_product(self._sum(r, c), reg(f"a.{r}", self.dtype), reg(f"b.{c}", self.dtype))
                    )
        return out

    def _vectors(self) -> Iterator[Env]:
        """Where the axes inside a span are at each of its vectors; of a chunk, how far into it."""
        lane = Index(0, {LANE: 1})
        if self.chunk > 1:
            for n in range(0, self.chunk, LANES):
                yield {self.outer.parts[-1].name: lane + n}
            return
        *before, last = self.inner
        for at in product(*(range(a.extent) for a in before)):
            for n in range(0, last.extent, LANES):
                yield {**{a.name: Index(i) for a, i in zip(before, at, strict=True)}, last.name: lane + n}

    # ---- words ----

    def _asked(self, number: Index, turn: int) -> list[Stmt]:
        """The vectors of one span of the rows, into registers, where they come before the words."""
        if not self.step.early:
            return []
        shared = self.outer.at(number)
        return [
            Set(f"x.{turn}.{v}.{r}", rewrite(self.left, {**self._env(0), **point, **shared, **inside}), LANES)
            for v, inside in enumerate(self._vectors())
            for r, point in enumerate(self.points)
        ]

    def _row(self, r: int, v: int, turn: int, env: Env) -> Expr:
        """Vector v of a span of row r, at `env`: asked for already, in the shared array, or in memory."""
        if self.step.early:
            return reg(f"x.{turn}.{v}.{r}", self.dtype)
        if self.step.staged:
            own = Index(r * self._staged_size() + v * LANES, {THREAD: self.step.span + LANES, LANE: 1})
            return load(self._array(), own, self.dtype)
        return rewrite(self.left, env)

    def _read(self, number: Index, turn: int) -> list[Stmt]:
        """Words, scales and zeros of one span, into registers."""
        codes = self.codes
        if codes is None:
            return []
        shared = self.outer.at(number)
        out: list[Stmt] = []
        for c in range(self.step.columns):
            env = {**self._env(c), **shared}
            for e, name in ((codes.scale, "s"), (self._zero(), "z")):
                if e.op != "const":
                    out.append(Set(f"{name}.{turn}.{c}", rewrite(e, env), 1))
            out += self._fetched(codes.word, env, f"w.{turn}.{c}")
        return out

    def _zero(self) -> Expr:
        """What is read of the zero points."""
        assert self.codes is not None
        return self.codes.zero

    def _fetched(self, word: Expr, env: Env, name: str) -> list[Stmt]:
        """Registers NAME.n, each with four words; one with the word of a span that has no more."""
        if len(self.inner) == 1:
            return [Set(f"{name}.0", rewrite(word, env), 1)]
        words = self.inner[-2]
        out: list[Stmt] = []
        for n in range(0, words.extent, self.together):
            place = Index(n, {LANE: 1} if self.together > 1 else ())
            lanes = LANES if self.together > 1 else 1
            out.append(Set(f"{name}.{n // self.together}", rewrite(word, {**env, words.name: place}), lanes))
        return out

    def _word(self, inside: Env, turn: int, column: int) -> Expr:
        """The register with the word that a vector of the span is in."""
        name, dtype = f"w.{turn}.{column}", "i32"
        if len(self.inner) == 1:
            return reg(f"{name}.0", dtype)
        n = inside[self.inner[-2].name].const
        word = reg(f"{name}.{n // self.together}", dtype)
        return Expr("lane", dtype, (word,), n % self.together) if self.together > 1 else word

    def _known(self, e: Expr, name: str, turn: int, column: int) -> Expr:
        return e if e.op == "const" else reg(f"{name}.{turn}.{column}", e.dtype)

    def _decoded(self, number: Index, turn: int) -> list[Stmt]:
        """The products of one span of codes: summed up first, then by the scale. A column is done with before the next
        one's words are asked for, because they come in that order."""
        codes, shared, out = self.codes, self.outer.at(number), list[Stmt]()
        assert codes is not None
        vectors = list(self._vectors())
        some = max(1, HELD // len(self.points))
        for first in range(0, len(vectors), some):
            part = list(enumerate(vectors[first : first + some], first))
            for v, inside in part:
                smaller = codes.smaller(codes.shift.subst(inside))
                for r, point in enumerate(self.points):
                    value = self._row(r, v, turn, {**self._env(0), **point, **shared, **inside})
                    out.append(Set(f"a.{v - first}.{r}", op("mul", value, smaller), LANES))
            for c in range(self.step.columns):
                for v, inside in part:
                    out += self._products(codes, turn, c, v, inside, v - first)
        for c in range(self.step.columns):
            scale = self._known(codes.scale, "s", turn, c)
            for r in range(len(self.points)):
                out.append(add_product(self._sum(r, c), reg(f"part.{r}.{c}", self.dtype), scale))
        return out

    def _products(self, codes: Codes, turn: int, c: int, v: int, inside: Env, held: int) -> list[Stmt]:
        """A vector of a column's codes by those of the rows, registers a.`held`."""
        zero = self._known(codes.zero, "z", turn, c)
        larger = codes.larger(codes.shift.subst(inside), self._word(inside, turn, c), zero)
        out: list[Stmt] = [Set("b", larger, LANES)]
        for r in range(len(self.points)):
            a, b, part = reg(f"a.{held}.{r}", self.dtype), reg("b", self.dtype), f"part.{r}.{c}"
            out.append(add_product(part, a, b) if v else Set(part, op("mul", a, b), LANES))
        return out

    # ---- the end ----

    def _dealt(self, has: Expr, each: int) -> list[Stmt]:
        """Threads that have a sum work out its result and store it: of column n % columns and row n // columns, n being
        the thread's number divided by `each`."""
        s, columns = self.stage, self.step.columns
        out: list[Stmt] = []
        env, div = self._env(0), each
        for a in (Axis(self.column.name, columns), *reversed(self.rows)):
            name = f"{a.name}.t"
            at = Index(0)
            if a.extent > 1:
                if name not in self.known:
                    out.append(Decode(name, THREAD, div, a.extent))
                    self.known.add(name)
                at = Index.of(name)
            env[a.name] = env[a.name] + at if a.name in env else at
            div *= a.extent
        total = reg("total", self.dtype)
        value = rewrite(s.result, env, lambda e: total if e.op == "acc" else None)
        store = Store(s.out, s.index.subst(env, lambda e: rewrite(e, env)), value, 1, 1)
        inside = compare("lt", axis(env[self.column.name]), const(self.column.extent, "i32"))
        line: Stmt = Where(inside, [store]) if self.column.extent % self._group() else store
        return [*out, Where(has, [line])]

    def _results(self) -> list[Stmt]:
        """One thread works out the results and stores them."""
        s = self.stage
        out: list[Stmt] = []
        tail = self.column.extent % self._group() != 0
        for c in range(self.step.columns):
            line: list[Stmt] = []
            for r, point in enumerate(self.points):
                env = {**self._env(c), **point}
                total = reg(f"{self._sum(r, c)}.s.all", self.dtype)
                value = rewrite(s.result, env, lambda e, total=total: total if e.op == "acc" else None)  # type: ignore[misc]
                index = s.index.subst(env, lambda e, env=env: rewrite(e, env))  # type: ignore[misc]
                line.append(Store(s.out, index, value, 1, 1))
            at = axis(self.base["column"] * self.step.columns + c)
            out += [Where(compare("lt", at, const(self.column.extent, "i32")), line)] if tail else line
        return [Where(compare("eq", axis(THREAD), const(0, "i32")), out)]
