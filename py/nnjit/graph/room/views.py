"""Dims of a Reshape where some grow: what its target says, and which axis becomes which."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from .extent import Length, NoRoom

_AT = (10007, 20011, 40009)
"""Primes that no dim is a multiple of: products of at most two lengths that are equal there are equal for all n."""
_ONE, _ZERO, _REST = Length(0, 1), Length(0, 0), Length(0, -1)


def _sizes(dims: Sequence[Length]) -> list[int]:
    return [prod(d.at(n) for d in dims) for n in _AT]


def target(dims: Sequence[Length], to: Sequence[Length], allowzero: bool) -> list[Length]:
    """The dims that a Reshape of `dims` to `to` has: 0 copies one, -1 is what is left."""
    found = [dims[i] if d == _ZERO and not allowzero else d for i, d in enumerate(to)]
    if _REST not in found:
        return found
    others = [d for d in found if d != _REST]
    parts = list(zip(_sizes(dims), _sizes(others), strict=True))
    if any(not size or whole % size for whole, size in parts):
        raise NoRoom("a dim is a quotient of lengths")
    rest = [whole // size for whole, size in parts]
    a = (rest[1] - rest[0]) // (_AT[1] - _AT[0])
    left = Length(a, rest[0] - a * _AT[0])
    if [left.at(n) for n in _AT] != rest:
        raise NoRoom("a dim is not of the form a * n + b")
    return [left if d == _REST else d for d in found]


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
        growing = [[axis for axis, d in part if d.a] for part in (one, other)]
        if not any(growing):
            continue
        if any(
            len(axes) != 1 or part[0][0] != axes[0] for axes, part in zip(growing, (one, other), strict=True)
        ):
            raise NoRoom("an axis that grows would lie inside of another")
        found[growing[0][0]] = growing[1][0]
    return found
