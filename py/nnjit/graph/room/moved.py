"""How the dims of requests move: takes shapes of an earlier request and a new one; gives the lengths of the dims that
differ, {input: {axis: Length}}, or None where that does not tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import gcd

from .lengths import Length, solved

Shapes = Mapping[str, tuple[int, ...]]
Growing = Mapping[str, Mapping[int, Length]]
Moved = dict[str, dict[int, Length]]
_MANY = 3
"""Lengths that move by themselves: batch, height and width of images."""
_LARGEST = 64
"""Step: images are often multiples of 32."""


def moved(old: Shapes, new: Shapes, known: Growing | None = None) -> Moved | None:
    """Each amount by which dims rose or fell is a length of its own, n + offset with n the first of them in `new`.
    Where one amount is the sum of two others so is the length, as a mask over past and new tokens is.
    known: lengths that the earlier request's plan has; they stay as they are where `new` fits them, moved or not."""
    changed = _changed(old, new)
    kept: Moved = {name: dict(axes) for name, axes in (known or {}).items()}
    places = [(name, axis) for name, axes in kept.items() for axis in axes]
    roots = 1 + max((v.root for name, axis in places for v, _ in kept[name][axis].terms), default=-1)
    if kept and solved([kept[n][i] for n, i in places], [new[n][i] for n, i in places], roots) is None:
        kept, roots = {}, 0
    changed = [change for change in changed if change[1] not in kept.get(change[0], {})]
    amounts = list(dict.fromkeys(by for *_, by in changed))
    if any(d < 1 or d - by < (len(amounts) > 1 or bool(kept)) for *_, d, by in changed):
        return None
    sums = _sums(amounts)
    alone = [by for by in amounts if by not in sums]
    if not 1 <= roots + len(alone) <= _MANY or not (changed or known):
        return None
    first = {by: next(d for *_, d, other in changed if other == by) for by in alone}
    for name, axis, d, by in changed:
        parts = (by,) if by in first else sums[by]
        length = sum(
            (Length.of(roots + alone.index(part)) for part in parts), Length(d - sum(first[p] for p in parts))
        )
        kept.setdefault(name, {})[axis] = length
    return _in_order(kept, new)


def _in_order(moving: Moved, new: Shapes) -> Moved:
    """The same with numbers in the order of inputs and axes."""
    found = [length for name in new for _, length in sorted(moving.get(name, {}).items())]
    roots = list(dict.fromkeys(v.root for length in found for v, _ in length.terms))

    def renamed(length: Length) -> Length:
        parts = (Length(0, ((replace(v, root=roots.index(v.root)), c),)) for v, c in length.terms)
        return sum(parts, Length(length.b))

    return {
        name: {i: renamed(moving[name][i]) for i in sorted(moving[name])} for name in new if name in moving
    }


def _sums(amounts: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Amounts that are the sum of two others which are no sums themselves."""
    found: dict[int, tuple[int, int]] = {}
    for i, a in enumerate(amounts):
        for b in amounts[i + 1 :]:
            if a + b in amounts and a + b not in (a, b) and not {a, b} & set(found) and all(
                a + b not in pair for pair in found.values()
            ):  # fmt: skip
                found[a + b] = (a, b)
    return found


def begun(old: Shapes, new: Shapes) -> Moved | None:
    """The dims that rose where one did so from 0: a decoder's past after its first run. The next request will show
    whether they move together; until then it is a guess, of which only the time of a compile depends."""
    rose = [change for change in _changed(old, new) if change[3] > 0]
    if not any(d == by for *_, d, by in rose):
        return None
    found: Moved = {}
    for name, axis, d, _ in rose:
        found.setdefault(name, {})[axis] = Length.of(0, 1, d - rose[0][2])
    return found


def stepped(seen: Sequence[Shapes], new: Shapes, growing: Growing, n: Sequence[int]) -> Moved | None:
    """The same lengths by steps: n becomes step * n + what remains, with the largest power of two that all dims moved
    by multiples of, but for numbers that moved by single places, as a batch of images does: these go on so. n: of
    `new`. None where all moved so."""
    apart: list[list[int]] = [[] for _ in n]
    for name, axis, _, by in (change for old in seen for change in _changed(old, new)):
        length = growing.get(name, {}).get(axis)
        if length is not None and len(length.terms) == 1:
            apart[length.terms[0][0].root].append(by)
    each = [gcd(_LARGEST, *found) for found in apart]
    if max(each) == 1:
        return None
    common = gcd(*(step for step in each if step > 1))
    steps = [min(step, common) for step in each]

    def by_steps(length: Length) -> Length:
        parts = (
            Length.of(v.root, c * steps[v.root], c * (n[v.root] % steps[v.root])) for v, c in length.terms
        )
        return sum(parts, Length(length.b))

    return {name: {axis: by_steps(length) for axis, length in axes.items()} for name, axes in growing.items()}


def _changed(old: Shapes, new: Shapes) -> list[tuple[str, int, int, int]]:
    """(input, axis, dim, by how much it rose) of the dims that differ; none where the inputs themselves do."""
    if old.keys() != new.keys() or any(len(old[name]) != len(new[name]) for name in new):
        return []
    return [
        (name, axis, new[name][axis], new[name][axis] - d)
        for name in new
        for axis, d in enumerate(old[name])
        if new[name][axis] != d
    ]
