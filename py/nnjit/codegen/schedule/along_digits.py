"""along_digits(spec, schedule): a row or a few by weights of few bits, from the steps Along and Digits.

As `along` does it, but a span of the rows is made into digits, which serve for all columns, and four codes of a
column's words are multiplied with four digits at once:

    d = digits of a[s]
    S = dot(word & 0x0f0f0f0f, d[even], S); S = dot(word >> 4 & 0x0f0f0f0f, d[odd], S); acc += S * scale * unit of d

What digits are, and how exact that is, is told in `digits`. Where a thread's neighbours hold an infinity or a NaN, it
multiplies them as floats, in a loop that seldom runs.
"""

from __future__ import annotations

from nnjit.codegen.expr import LANE, Expr, Index, axis, compare, const, op, reg, select
from nnjit.codegen.loops import THREAD, Barrier, For, Nest, Set, Stmt, Where
from nnjit.codegen.rewriting import rewrite
from nnjit.codegen.schedule.along import Rows
from nnjit.codegen.schedule.digits import (
    COUNT,
    INFINITY,
    MIDDLE_BITS,
    MOST,
    digit,
    digits,
    joined,
    offset,
    summed,
    taken,
)
from nnjit.codegen.schedule.group_steps import Along, Digits
from nnjit.codegen.schedule.meeting import room
from nnjit.codegen.schedule.steps import Schedule, ScheduleError, check
from nnjit.codegen.schedule.workgroup_plan import LANES, Env
from nnjit.codegen.spec import KernelSpec

HELD = 96
"""Registers with digits that a thread keeps from one round to the next, at most."""


def along_digits(spec: KernelSpec, schedule: Schedule) -> Nest:
    """The nest of a product of few rows by weights in words; ScheduleError for any other spec or span."""
    check(len(schedule) == 2, "two steps that say all")
    step, how = schedule
    if not (isinstance(step, Along) and isinstance(how, Digits)):
        raise ScheduleError("digits of rows by weights that lie along the sum")
    return _Rows(spec, step, how).nest()


class _Rows(Rows):
    """Sums are of one lane: a dot product leaves no other."""

    lanes = 1

    def __init__(self, spec: KernelSpec, step: Along, how: Digits) -> None:
        super().__init__(spec, step)
        codes = self.codes
        check(codes is not None and len(self.inner) == 2, "a span is a block of words")
        assert codes is not None
        self.word, bit = self.inner
        check(codes.bits in (4, 8) and self.dtype == "f32", "codes of 4 or 8 bits")
        self.each = 32 // codes.bits
        check(
            bit.extent == self.each and codes.shift == Index(0, {bit.name: codes.bits}), "all codes of a word"
        )
        self.of, self.offset = codes, offset(codes)
        self.fixed = self.offset.op == "const" and self.offset.dtype == "i32"
        most = MOST // self.each
        words = self.word.extent
        self.groups = [(first, min(most, words - first)) for first in range(0, words, most)]
        check(how.rounds >= 1, "at least one round")
        self.rounds = how.rounds
        if self.rounds > 1:
            turns = -(-self.spans // step.threads)
            held = turns * step.span * len(self.points) * COUNT // 4
            check(held <= HELD, f"{held} registers of digits")

    # ---- rounds ----

    def _work(self) -> list[Stmt]:
        """With rounds, all digits of a thread come first."""
        if self.rounds == 1:
            return super()._work()
        if self.step.early:
            return self._overlapped()
        out: list[Stmt] = []
        for turn, (number, count) in enumerate(self._numbers()):
            out += self._filled(number, count) if self.step.staged else []
            for g in range(len(self.groups)):
                out += self._made(number, g, turn)
        self.base["column"] = self.base["column"] * self.rounds + Index.of("round")
        # threads may still read what others found in the round before
        wait: list[Stmt] = [Barrier()] if room(self.step.threads, self.subgroup) else []
        return [*out, For("round", self.rounds, [*wait, *super()._work()])]

    def _overlapped(self) -> list[Stmt]:
        """The rounds one after the other; the words of the next spans are on their way while those before are used."""
        numbers, first = self._numbers(), self.base["column"] * self.rounds
        full = [(turn, number) for turn, (number, n) in enumerate(numbers) if n == self.step.threads]
        check(bool(full), "a span for each thread")
        some = len(numbers) > len(full)
        spans = [(r, turn, number) for r in range(self.rounds) for turn, number in full]

        def words(at: int) -> list[Stmt]:
            r, _, number = spans[at]
            self.base["column"] = first + r
            return self._read(number, at % 2)

        out = [s for turn, (number, _) in enumerate(numbers) for s in self._asked(number, turn)]
        out += words(0)
        for turn, (number, _) in enumerate(numbers):
            out += [s for g in range(len(self.groups)) for s in self._made(number, g, turn)]
        shared = room(self.step.threads, self.subgroup)
        for at, (r, turn, number) in enumerate(spans):
            out += words(at + 1) if at + 1 < len(spans) else []
            self.base["column"] = first + r
            if turn == 0:
                out += self._nothing()
            out += self._times_all(number, turn, at % 2)
            if turn == len(full) - 1:
                out += self._last(2) if some else []
                # threads may still read what others found in the round before
                out += [Barrier()] if shared and r else []
                out += self._ended()
        return out

    def _last(self, words: int) -> list[Stmt]:
        """The spans that only some threads have; `words` names their registers."""
        turn = len(self._numbers()) - 1
        number, rest = self._numbers()[turn]
        last = [*self._read(number, words), *self._times_all(number, turn, words)]
        return [Where(compare("lt", axis(THREAD), const(rest, "i32")), last)]

    def _numbers(self) -> list[tuple[Index, int]]:
        """The spans of a thread, and how many threads have such a one."""
        threads = self.step.threads
        firsts = range(0, self.spans, threads)
        return [(Index(n, {THREAD: 1}), min(threads, self.spans - n)) for n in firsts]

    def _turns(self) -> list[Stmt]:
        if self.rounds == 1:
            return super()._turns()
        out: list[Stmt] = []
        full = [(t, number) for t, (number, n) in enumerate(self._numbers()) if n == self.step.threads]
        for first in range(0, len(full), self.step.turns):
            some = full[first : first + self.step.turns]
            out += [s for turn, number in some for s in self._read(number, turn)]
            out += [s for turn, number in some for s in self._times_all(number, turn)]
        return [*out, *self._last(len(full))] if self.spans % self.step.threads else out

    # ---- a span ----

    def _products_of(self, number: Index, turn: int) -> list[Stmt]:
        out: list[Stmt] = []
        for g in range(len(self.groups)):
            out += [*self._made(number, g, turn), *self._times(number, g, turn, turn)]
        return out

    def _times_all(self, number: Index, turn: int, words: int | None = None) -> list[Stmt]:
        """A span's digits by its words, which are those of `words` where that is not `turn`."""
        named = turn if words is None else words
        return [s for g in range(len(self.groups)) for s in self._times(number, g, turn, named)]

    def _zero(self) -> Expr:
        return self.offset

    def _name(self, group: int, turn: int, row: int) -> str:
        return f"d.{turn}.{group}.{row}"

    def _made(self, number: Index, group: int, turn: int) -> list[Stmt]:
        """The digits of a group of neighbours, of all rows."""
        shared, out = self.outer.at(number), list[Stmt]()
        first, words = self.groups[group]
        vectors = [(w, n) for w in range(first, first + words) for n in range(self.each // LANES)]
        sums = not self.fixed or self.offset.attr != 0
        for r, point in enumerate(self.points):
            name = self._name(group, turn, r)
            found = [self._vector(r, turn, {**point, **shared}, w, n) for w, n in vectors]
            out += digits(name, found, self.of.bits, sums)
            for i in range(COUNT if sums and self.fixed else 0):
                total = op("mul", reg(f"{name}.sum.{i}", "i32"), self.offset)
                out.append(Set(f"{name}.from.{i}", op("add", total, const(MIDDLE_BITS, "i32")), 1))
            if self.offset.dtype == "f32":
                out.append(Set(f"{name}.all", summed(name), 1))
        return out

    def _vector(self, row: int, turn: int, env: Env, word: int, n: int) -> Expr:
        """Vector n of a row's elements that a word of codes is for."""
        inside = {self.word.name: Index(word), self.inner[-1].name: Index(n * LANES, {LANE: 1})}
        return self._row(row, word * (self.each // LANES) + n, turn, {**self._env(0), **env, **inside})

    def _times(self, number: Index, group: int, turn: int, words_of: int) -> list[Stmt]:
        """A group's digits by the codes of all columns, whose registers have the number `words_of`."""
        out: list[Stmt] = []
        first, words = self.groups[group]
        for c in range(self.step.columns):
            codes: dict[tuple[int, int], Expr] = {}
            for word in range(first, first + words):
                for n in range(8 // self.of.bits):
                    name = f"c.{n}.{word // self.together}"
                    held = reg(f"w.{words_of}.{c}.{word // self.together}", "i32")
                    code = reg(name, "i8x4")
                    if word % self.together == 0:
                        out.append(Set(name, taken(held, self.of.bits, n), self.together))
                    codes[word - first, n] = (
                        Expr("lane", "i8x4", (code,), word % self.together) if self.together > 1 else code
                    )
            for r in range(len(self.points)):
                out += self._column(self._name(group, turn, r), codes, words_of, r, c)
        return [*out, *self._odd(number, group, turn)]

    def _column(self, name: str, codes: dict[tuple[int, int], Expr], of: int, r: int, c: int) -> list[Stmt]:
        """A row's digits by the codes of a column, `codes` by word and place; its scale has the number `of`."""
        out: list[Stmt] = []
        sums = []
        zero = self._known(self.offset, "z", of, c)
        for i in range(COUNT):
            total: Expr = const(MIDDLE_BITS, "i32")
            if self.fixed and self.offset.attr:
                total = reg(f"{name}.from.{i}", "i32")
            elif not self.fixed and self.offset.dtype == "i32":
                total = op("add", op("mul", reg(f"{name}.sum.{i}", "i32"), zero), total)
            for (word, n), code in codes.items():
                total = Expr("dot", "i32", (digit(name, i, n, word), code, total))
            out.append(Set(f"sum.{i}.{r}", total, 1))
            sums.append(reg(f"sum.{i}.{r}", "i32"))
        value = joined(sums)
        if self.offset.dtype == "f32":
            value = Expr("fma", "f32", (zero, reg(f"{name}.all", "f32"), value))
        acc = self._sum(r, c)
        # by the scale first: a power of two that is very large or small does not make it overflow then
        value = op("mul", value, self._known(self.of.scale, "s", of, c))
        out.append(Set(acc, Expr("fma", "f32", (value, reg(f"{name}.s", "f32"), reg(acc, "f32"))), 1))
        return out

    # ---- infinities and NaNs ----

    def _odd(self, number: Index, group: int, turn: int) -> list[Stmt]:
        """A group of neighbours with an infinity or a NaN in it, as floats, a column and a word at a time."""
        codes, (first, words) = self.of, self.groups[group]
        bits = [reg(f"{self._name(group, turn, r)}.most", "i32") for r in range(len(self.points))]
        largest = bits[0]
        for b in bits[1:]:
            largest = op("max", largest, b)
        env = {**self._env(0), **self.outer.at(number)}
        env[self.column.name] = env[self.column.name] + Index.of("odd.column")
        body: list[Stmt] = []
        zero = codes.zero
        if zero.op != "const":
            body.append(Set("odd.zero", rewrite(zero, env), 1))
            zero = reg("odd.zero", "f32")
        body += [Set(f"odd.{r}", const(0.0, "f32"), LANES) for r in range(len(self.points))]
        one: list[Stmt] = []
        at_word = Index(first, {"odd.words": self.together, "odd.word": 1})
        for n in range(self.each // LANES):
            inside = {self.inner[-1].name: Index(n * LANES, {LANE: 1}), self.word.name: at_word}
            at = codes.shift.subst(inside)
            one.append(Set("odd.b", codes.larger(at, reg("odd.code", "i32"), zero), LANES))
            for r, point in enumerate(self.points):
                a = op("mul", rewrite(self.left, {**env, **point, **inside}), codes.smaller(at))
                product = a, reg("odd.b", "f32"), reg(f"odd.{r}", "f32")
                one.append(Set(f"odd.{r}", Expr("fma", "f32", product), LANES))
        # words are read as elsewhere, so that their array may be one of vectors
        env[self.word.name] = Index(
            first, {"odd.words": self.together, **({LANE: 1} if self.together > 1 else {})}
        )
        read = Set("odd.four", rewrite(codes.word, env), self.together)
        four = reg("odd.four", "i32")
        code = four if self.together == 1 else Expr("lane", "i32", (four,), 0)
        for n in range(1, self.together):
            chosen = compare("eq", axis("odd.word"), const(n, "i32"))
            code = select(chosen, Expr("lane", "i32", (four,), n), code)
        one.insert(0, Set("odd.code", code, 1))
        body.append(For("odd.words", words // self.together, [read, For("odd.word", self.together, one)]))
        scale, nothing = rewrite(codes.scale, env), const(0.0, "f32")
        for r, most in enumerate(bits):
            vector = Expr("lanes_sum", "f32", (reg(f"odd.{r}", "f32"),), LANES)
            body.append(Set(f"odd.{r}.s", op("mul", Expr("lane", "f32", (vector,), 0), scale), 1))
            has = compare("ge", most, const(INFINITY, "i32"))
            for c in range(self.step.columns):
                here = compare("eq", axis("odd.column"), const(c, "i32"))
                value = select(Expr("and", "bool", (has, here)), reg(f"odd.{r}.s", "f32"), nothing)
                acc = self._sum(r, c)
                body.append(Set(acc, op("add", reg(acc, "f32"), value), 1))
        cond = compare("ge", largest, const(INFINITY, "i32"))
        return [Where(cond, [For("odd.column", self.step.columns, body)])]
