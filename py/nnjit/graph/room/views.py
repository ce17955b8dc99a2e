"""Dims of a Reshape where some grow: what its target says, and which axis becomes which."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from random import Random

from .lengths import Length, NoRoom, Var, free

_POINTS = 3
_ONE, _ZERO, _REST = Length(1), Length(0), Length(-1)


def _value(v: Var, point: int) -> int:
    """A number far beyond all dims, the same each time: what is equal for three of them is equal for all n. (Of one
    number, products of two lengths are; of several, others agree by chance once in 2^100 cases.)"""
    return Random(f"{point}: {v}").getrandbits(60) | 2**60 | 1


def _sizes(dims: Sequence[Length]) -> list[int]:
    return [prod(d.under(lambda v, at=at: _value(v, at)) for d in dims) for at in range(_POINTS)]  # type: ignore[misc]


def target(dims: Sequence[Length], to: Sequence[Length], allowzero: bool) -> list[Length]:
    """The dims that a Reshape of `dims` to `to` has: 0 copies one, -1 is what is left."""
    found = [dims[i] if d == _ZERO and not allowzero else d for i, d in enumerate(to)]
    if _REST not in found:
        return found
    left = _left(dims, [d for d in found if d != _REST])
    return [left if d == _REST else d for d in found]


def _left(dims: Sequence[Length], others: Sequence[Length]) -> Length:
    """The length that is the quotient of two products."""
    rest = [_divided(whole, size) for whole, size in zip(_sizes(dims), _sizes(others), strict=True)]
    names = sorted({v for d in (*dims, *others) for v, _ in d.terms})
    here = {v: _value(v, 0) for v in names}
    found = Length(rest[0])
    for v in names:
        more = free({**here, v: here[v] + 1})
        c = _divided(prod(d.under(more) for d in dims), prod(d.under(more) for d in others)) - rest[0]
        found = found + Length(-c * here[v], ((v, c),) if c else ())
    if _sizes([found]) != rest:
        raise NoRoom("a dim is not a sum of lengths")
    return found


def _divided(whole: int, by: int) -> int:
    if not by or whole % by:
        raise NoRoom("a dim is a quotient of lengths")
    return whole // by


def regroup(old: Sequence[Length], new: Sequence[Length]) -> dict[int, int]:
    """Growing axes of `old` -> the axes of `new` that they are. NoRoom where one lies inside of another axis: places
    beyond n would come between those that are inside."""
    before = [(axis, d) for axis, d in enumerate(old) if d != _ONE]
    after = [(axis, d) for axis, d in enumerate(new) if d != _ONE]
    found: dict[int, int] = {}
    while before or after:
        one, other = [before.pop(0)] if before else [], [after.pop(0)] if after else []
        while (sizes := (_sizes([d for _, d in one]), _sizes([d for _, d in other])))[0] != sizes[1]:
            part, rest = (one, before) if sizes[0][0] < sizes[1][0] else (other, after)
            if not rest:
                raise NoRoom("it mixes axes that grow")
            part.append(rest.pop(0))
        growing = [[axis for axis, d in part if d.terms] for part in (one, other)]
        if not any(growing):
            continue
        if any(
            len(axes) != 1 or part[0][0] != axes[0] for axes, part in zip(growing, (one, other), strict=True)
        ):
            raise NoRoom("an axis that grows would lie inside of another")
        found[growing[0][0]] = growing[1][0]
    return found
