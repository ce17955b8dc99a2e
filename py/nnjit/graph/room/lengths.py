"""Lengths of a plan with room: sums of numbers that are known when it runs. `Var` is a number that a request brings, or
a quotient of one, rounded down, as a strided convolution makes them; `Length` a sum of these and a number.

Equal lengths are equal objects as far as the normal form goes: (n - 5) // 5 + 1 and n // 5 are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

NAMES = "nmpqrst"
"""Of the numbers of a request, as texts show them."""


class NoRoom(Exception):
    """This graph can't be made to serve other inputs; the text says which node, and why."""


@dataclass(frozen=True, slots=True, order=True)
class Var:
    """Number `root` of a request, and what is made of it one after another: v becomes (a * v + r) // s, with a > 0,
    0 <= r < s and no common divisor of a and s. It rises with the request's number."""

    root: int
    steps: tuple[tuple[int, int, int], ...] = ()

    def at(self, n: Sequence[int]) -> int:
        """For a request's numbers."""
        value = n[self.root]
        for a, r, s in self.steps:
            value = (a * value + r) // s
        return value

    def cap(self, capacity: Sequence[int]) -> int:
        """Places that serve every request within a capacity."""
        value = capacity[self.root]
        for a, _, s in self.steps:
            value = -(-a * value // s)
        return value

    def __str__(self) -> str:
        text = NAMES[self.root]
        for a, r, s in self.steps:
            text = f"(({'' if a == 1 else a}{text}{f'+{r}' if r else ''})//{s})"
        return text


@dataclass(frozen=True, slots=True)
class Length:
    """b, and so many times each Var: terms in order, none 0 times. A fixed dim has none."""

    b: int = 0
    terms: tuple[tuple[Var, int], ...] = ()

    @staticmethod
    def of(root: int = 0, a: int = 1, b: int = 0) -> Length:
        """a times a request's number, and b."""
        return Length(b, ((Var(root), a),))

    @property
    def grows(self) -> bool:
        return bool(self.terms)

    def at(self, n: Sequence[int]) -> int:
        """For a request's numbers."""
        return self.b + sum(c * v.at(n) for v, c in self.terms)

    def under(self, values: Callable[[Var], int]) -> int:
        return self.b + sum(c * values(v) for v, c in self.terms)

    def cap(self, capacity: Sequence[int]) -> int:
        """The places that it has in a graph of this capacity, whatever b is, so that lengths which differ by a token
        share a shape."""
        return sum(c * v.cap(capacity) for v, c in self.terms) if self.terms else self.b

    def factor(self, var: Var) -> int:
        return next((c for v, c in self.terms if v == var), 0)

    def __add__(self, other: Length | int) -> Length:
        if isinstance(other, int):
            return Length(self.b + other, self.terms)
        if not (self.terms and other.terms):
            return Length(self.b + other.b, self.terms or other.terms)
        total: dict[Var, int] = dict(self.terms)
        for v, c in other.terms:
            total[v] = total.get(v, 0) + c
        return Length(self.b + other.b, tuple(sorted((v, c) for v, c in total.items() if c)))

    def __mul__(self, times: int) -> Length:
        return Length(self.b * times, tuple((v, c * times) for v, c in self.terms) if times else ())

    def __neg__(self) -> Length:
        return self * -1

    def __sub__(self, other: Length | int) -> Length:
        return self + -other

    def __floordiv__(self, by: int) -> Length:
        """Rounded down. NoRoom where that is no sum of quotients of single numbers."""
        whole = tuple((v, c // by) for v, c in self.terms if c % by == 0)
        parts = [(v, c) for v, c in self.terms if c % by]
        if not parts:
            return Length(self.b // by, whole)
        if len(parts) > 1:
            raise NoRoom(f"{self} is divided by {by}: a quotient of two lengths")
        return Length(0, whole) + _quotient(*parts[0], self.b, by)

    def __str__(self) -> str:
        text = "+".join(f"{'' if c == 1 else c}{v}" for v, c in self.terms).replace("+-", "-")
        return f"{text}{self.b:+d}" if text and self.b else text or str(self.b)

    def to_js(self) -> dict[str, Any]:
        """{offset, terms: [[factor, root, [[a, r, s], ...]], ...]}"""
        return {
            "offset": self.b,
            "terms": [[c, v.root, [list(step) for step in v.steps]] for v, c in self.terms],
        }


def _quotient(v: Var, c: int, b: int, s: int) -> Length:
    """(c * v + b) // s for s > 0."""
    if c < 0:  # rounded up
        return -_quotient(v, -c, s - 1 - b, s)
    common = gcd(c, s)
    c, b, s = c // common, b // common, s // common
    if c == 1 and v.steps and s > 1:
        a, r, before = v.steps[-1]
        return _quotient(Var(v.root, v.steps[:-1]), a, r + b * before, s * before)
    times, c = divmod(c, s)
    more, b = divmod(b, s)
    found = Length(more, ((v, times),) if times else ())
    return found + Length(0, ((Var(v.root, (*v.steps, (c, b, s))), 1),)) if c else found


def solved(forms: Sequence[Length], dims: Sequence[int], count: int) -> tuple[int, ...] | None:
    """The numbers of a request whose dims have these forms; None where they don't fit. Each of the `count` numbers has
    a form of its own, a * n + b."""
    found: dict[int, int] = {}
    for form, d in zip(forms, dims, strict=True):
        for v, c in form.terms if len(form.terms) == 1 else ():
            if not v.steps and (d - form.b) % c == 0:
                found.setdefault(v.root, (d - form.b) // c)
    n = [found.get(root) for root in range(count)]
    known = tuple(d for d in n if d is not None)
    if len(known) != count or any(form.at(known) != d for form, d in zip(forms, dims, strict=True)):
        return None
    return known


def free(values: Mapping[Var, int]) -> Callable[[Var], int]:
    return lambda v: values[v]
