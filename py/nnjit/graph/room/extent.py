"""What a plan with room knows of a value: which axes grow with the lengths of a request, and what lies beyond them.

`Growth` is a growing axis; `Symbol` small integers that are lengths each; `Extent` the value of the graph at capacity
together with these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from ..dtypes import Array
from ..ir import Value
from .lengths import Length, NoRoom, Var

SYMBOLIC = 256
"""Elements of a constant that is taken for one side of arithmetic on lengths."""
Rest = float | None
"""The number that fills what lies beyond; None: anything, NaN included."""


@dataclass(frozen=True, slots=True)
class Growth:
    """An axis whose first `length` places hold what the exact graph computes. rest: what is in the places beyond,
    where the other growing axes are inside."""

    length: Length
    rest: Rest = None


@dataclass(frozen=True, slots=True)
class Symbol:
    """An array (of objects) whose elements are Lengths. dtype: the value's own."""

    lengths: Array
    dtype: str = "i64"

    @staticmethod
    def of(array: Any, dtype: str) -> Symbol:
        """Numbers that don't depend on a request."""
        numbers = np.asarray(array).astype(np.int64)
        return Symbol.listed([Length(int(i)) for i in numbers.ravel()], numbers.shape, dtype)

    @staticmethod
    def listed(lengths: Sequence[Length], shape: Sequence[int], dtype: str = "i64") -> Symbol:
        array: Array = np.empty(len(lengths), object)
        for i, length in enumerate(lengths):
            array[i] = length
        return Symbol(array.reshape(tuple(shape)), dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(d) for d in self.lengths.shape)

    @property
    def fixed(self) -> bool:
        return not any(length.terms for length in self.lengths.flat)

    def array(self, value: Callable[[Length], int]) -> Array:
        """A number for each."""
        numbers = [value(length) for length in self.lengths.flat]
        return np.array(numbers, np.int64).reshape(self.shape)

    @property
    def offset(self) -> Array:
        """What they are but for what depends on a request."""
        return self.array(lambda length: length.b)

    def vars(self) -> list[Var]:
        return sorted({v for length in self.lengths.flat for v, _ in length.terms})

    def factor(self, var: Var) -> Array:
        return self.array(lambda length: length.factor(var))

    def flat(self) -> list[Length]:
        """Its elements in order."""
        return list(self.lengths.flat)


@dataclass(frozen=True, slots=True)
class Work:
    """What a graph does, in multiply-adds or what takes as long: of each product of growing lengths, how often.
    limited: the part of it that kernels leave out beyond some of these lengths, by those and the others."""

    terms: dict[tuple[Length, ...], float]
    limited: dict[tuple[tuple[Length, ...], tuple[Length, ...]], float] = field(default_factory=dict)

    def add(self, each: float, dims: Sequence[Length], ends: Sequence[Length] = ()) -> None:
        """Something `each` for every place of a tensor of these dims; ends: those at which its kernel does."""
        growing = tuple(sorted((d for d in dims if d.terms), key=str))
        times = each * prod(d.b for d in dims if not d.terms)
        self.terms[growing] = self.terms.get(growing, 0.0) + times
        if ends:
            others = list(growing)
            for d in ends:
                others.remove(d)
            key = tuple(sorted(ends, key=str)), tuple(others)
            self.limited[key] = self.limited.get(key, 0.0) + times

    def exact(self, n: Sequence[int]) -> float:
        """Of the exact graph for a request."""
        return sum(each * prod(d.at(n) for d in dims) for dims, each in self.terms.items())

    def full(self, capacity: Sequence[int]) -> float:
        """Of a graph of this capacity, all of it."""
        return sum(each * prod(d.cap(capacity) for d in dims) for dims, each in self.terms.items())

    def run(self, capacity: Sequence[int]) -> Work:
        """What a request's run of a graph of this capacity does: its `exact`."""
        terms: dict[tuple[Length, ...], float] = {(): self.full(capacity)}
        for (ends, others), each in self.limited.items():
            times = each * prod(d.cap(capacity) for d in others)
            terms[()] -= times * prod(d.cap(capacity) for d in ends)
            terms[ends] = terms.get(ends, 0.0) + times
        return Work(terms)


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
            return self.symbol.shape
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
        return growth.length if growth else Length(self.shape[axis])

    def dims(self) -> list[Length]:
        return [self.dim(axis) for axis in range(self.rank)]

    def constant(self) -> Any:
        """The array of a constant; None for anything else."""
        return self.value.const.numpy() if self.value is not None and self.value.const is not None else None
