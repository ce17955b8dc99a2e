"""What a plan with room knows of a value: which axes grow with the length n, and what lies beyond them.

`Length` is a * n + b; `Growth` a growing axis; `Symbol` small integers that are each a * n + b; `Extent` the value of
the graph at capacity together with these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from ..dtypes import Array
from ..ir import Value

Rest = float | None
"""The number that fills what lies beyond; None: anything, NaN included."""


class NoRoom(Exception):
    """This graph can't be made to serve shorter inputs; the text says which node, and why."""


@dataclass(frozen=True, slots=True)
class Length:
    """a * n + b. A fixed dim has a = 0."""

    a: int
    b: int

    def at(self, n: int) -> int:
        return self.a * n + self.b

    def __add__(self, other: Length) -> Length:
        return Length(self.a + other.a, self.b + other.b)

    def __sub__(self, other: Length) -> Length:
        return Length(self.a - other.a, self.b - other.b)

    def __str__(self) -> str:
        times = {0: "", 1: "n"}.get(self.a, f"{self.a}n")
        return f"{times}{self.b:+d}" if times and self.b else times or str(self.b)


@dataclass(frozen=True, slots=True)
class Growth:
    """An axis whose first `length` places hold what the exact graph computes. rest: what is in the places beyond,
    where the other growing axes are inside."""

    length: Length
    rest: Rest = None


@dataclass(frozen=True, slots=True)
class Symbol:
    """Numbers factor * n + offset, elementwise; both int64 and of one shape. dtype: the value's own."""

    factor: Array
    offset: Array
    dtype: str = "i64"

    @staticmethod
    def of(array: Array, dtype: str) -> Symbol:
        """Numbers that don't depend on n."""
        offset = np.asarray(array).astype(np.int64)
        return Symbol(np.zeros_like(offset), offset, dtype)

    @property
    def fixed(self) -> bool:
        return not np.any(self.factor)

    def at(self, n: int) -> Array:
        return np.asarray(self.factor * n + self.offset)

    def lengths(self) -> list[Length]:
        """Its elements in order."""
        return [Length(int(a), int(b)) for a, b in zip(self.factor.ravel(), self.offset.ravel(), strict=True)]


@dataclass(frozen=True, slots=True)
class Work:
    """What a graph does, in multiply-adds or what takes as long: of each product of growing lengths, how often."""

    terms: dict[tuple[Length, ...], float]

    def add(self, each: float, dims: Sequence[Length]) -> None:
        """Something `each` for every place of a tensor of these dims."""
        growing = tuple(sorted((d for d in dims if d.a), key=lambda d: (d.a, d.b)))
        self.terms[growing] = self.terms.get(growing, 0.0) + each * prod(d.b for d in dims if not d.a)

    def exact(self, n: int) -> float:
        """Of the exact graph for n."""
        return sum(each * prod(d.at(n) for d in dims) for dims, each in self.terms.items())

    def full(self, capacity: int) -> float:
        """Of a graph of this capacity."""
        return sum(each * prod(d.a * capacity for d in dims) for dims, each in self.terms.items())


Axes = dict[int, Growth]


@dataclass(slots=True)
class Extent:
    """`value`: of the graph at capacity; None for a symbol that nothing has needed as a tensor yet."""

    value: Value | None
    axes: Axes = field(default_factory=dict)
    symbol: Symbol | None = None

    @property
    def tensor(self) -> Value:
        assert self.value is not None
        return self.value

    @property
    def shape(self) -> tuple[int, ...]:
        """Dims at capacity."""
        if self.value is None:
            assert self.symbol is not None
            return tuple(int(d) for d in self.symbol.factor.shape)
        if self.value.shape is None:
            raise NoRoom(f"the shape of {self.value.name!r} is known at run time only")
        return self.value.shape

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> str:
        return self.symbol.dtype if self.value is None and self.symbol is not None else self.tensor.dtype

    def dim(self, axis: int) -> Length:
        growth = self.axes.get(axis)
        return growth.length if growth else Length(0, self.shape[axis])

    def dims(self) -> list[Length]:
        return [self.dim(axis) for axis in range(self.rank)]

    def constant(self) -> Any:
        """The array of a constant; None for anything else."""
        return self.value.const.numpy() if self.value is not None and self.value.const is not None else None
