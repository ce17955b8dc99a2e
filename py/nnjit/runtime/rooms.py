"""When a session compiles a plan with room, and for which capacity.

Takes the shapes of requests as they come; `make` gives a Room when they moved against earlier ones, in lockstep or by
themselves. What the graph refuses is remembered, so that it is tried once.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from ..graph.model import Model
from ..graph.passes import PASSES
from ..graph.room import (
    Growing,
    NoRoom,
    Room,
    Shapes,
    begun,
    make_room,
    moved,
    numbers_of,
    stepped,
)
from ..graph.room.extent import Work

REMEMBERED = 8
"""Requests that a new one is compared with."""
TRIES = 4
"""Ways in which a new one is taken to have moved against them."""
REFUSED = 64
"""Refusals that are remembered: each is for all n, but other dims may change with every run as well."""
STEP = 16
"""Capacities are multiples of it, from it on: tiles of kernels fit them."""
WASTE = 1.25
"""A plan may be larger than what n needs as long as it does at most so much more than an exact one for n ..."""
LITTLE = 1e8
"""... or so many multiply-adds more, about 3 ms."""
LEAST = 2.0
"""A plan serves an n if it does at most so much more than an exact one ..."""
SMALL = 3e8
"""... or so many multiply-adds more, about 10 ms: a compile takes 200 ms and more."""
AGAIN = 1.35
MOST = 8.0
"""Where several lengths move, LITTLE and SMALL rise by so much with each plan that was made for them, and become at
most so many times what they were: combinations have no end, and 80 ms more a run are still less than a compile."""
FARTHEST = 4
"""A capacity is at most so many times n: memory is kept for it."""
SCALES = 64
"""Steps from 1 to FARTHEST in which several lengths are made larger together."""

Numbers = tuple[int, ...]
Make = Callable[[Sequence[int]], Room]


class Rooms:
    """One session's requests and refusals. fixed: what else a plan depends on, as text. reach: its kernels leave out
    what a request has not, WebAssembly's do."""

    def __init__(self, reach: bool = True) -> None:
        self._reach = reach
        self._seen: list[tuple[Shapes, str, Growing]] = []
        self.refused: dict[tuple[Any, ...], str] = {}
        self._made: dict[tuple[Any, ...], int] = {}
        """How many plans a family of requests has got."""

    def saw(self, shapes: Shapes, fixed: str, room: Room | None = None) -> None:
        """A request that got a plan."""
        growing = {name: dict(axes) for name, axes in room.inputs.items()} if room else {}
        self._seen = [*self._seen, (dict(shapes), fixed, growing)][-REMEMBERED:]

    def make(
        self, model: Model, shapes: Shapes, fixed: str, dims: Mapping[str, int], values: Mapping[str, Any]
    ) -> Room | None:
        """A room for shapes that moved; None where they did not, NoRoom where it can't be or would not pay."""
        ways = self._ways(shapes, fixed)
        for growing in ways:
            family = _family(shapes, growing, fixed)
            if (why := self.refused.get(family)) is None:
                try:
                    room = self._fitting(
                        lambda c, way=growing: make_room(  # type: ignore[misc]
                            model, shapes, way, c, dims, values, [], self._reach
                        ),
                        numbers_of(shapes, growing),
                        growing,
                        self._made.get(family, 0),
                    )
                except NoRoom as refusal:
                    self._refused(family, why := str(refusal))
                else:
                    self._made[family] = self._made.pop(family, 0) + 1
                    while len(self._made) > REFUSED:
                        del self._made[next(iter(self._made))]
                    return room
            if growing is ways[-1]:
                raise NoRoom(why)
        return None

    def _fitting(self, make: Make, n: Numbers, growing: Growing, before: int) -> Room:
        """The room that is worth it for n, and serves what is worth it there. before: plans that the family has."""
        looser = min(AGAIN**before, MOST) if len(n) > 1 else 1.0
        room = self._chosen(make, n, growing, looser)
        room = replace(room, times=1.0 if _batch(growing) else LEAST, more=SMALL * looser)
        longest = all(a <= d for a, d in zip(room.most, n, strict=True))
        shorter = tuple(max(a, d - 1) for a, d in zip(room.least, n, strict=True))
        if not room.pays(shorter if longest else n) or (longest and shorter == n):
            raise NoRoom("work grows so fast with n that a plan for each shape is better")
        if len(n) == 1:  # as a number: what is done in vain becomes less with n
            low = bisect_left(range(room.least[0], n[0]), True, key=lambda m: room.pays((m,)))
            room = replace(room, least=(room.least[0] + low,), times=inf, more=inf)
        return room.through(PASSES)

    def _chosen(self, make: Make, n: Numbers, growing: Growing, looser: float) -> Room:
        """The room of the largest capacity that is worth it. A decoder's is the farthest: that is tried first."""
        ladder = _ladder(
            _needed(n, growing), _batches(len(n), growing) if not self._reach else [False] * len(n)
        )
        room = make(ladder[-1])
        exact = room.work.exact(n)
        allowed = max(exact * (1.0 if _batch(growing) else WASTE), exact + LITTLE * looser)
        # work rises with the capacity
        works = room.work.run if self._reach else lambda c: Work({(): room.work.full(c)})
        found = bisect_right(ladder, allowed, key=lambda c: works(c).exact(n))
        capacity = ladder[max(found - 1, 0)]
        if capacity != room.capacity:
            room = make(capacity)
        if any(d > most for d, most in zip(n, room.most, strict=True)):
            # a length inside of the model is longer than any input's
            missing = [max(d - most, 0) for d, most in zip(n, room.most, strict=True)]
            room = make(
                [_rounded(c + more) if more else c for c, more in zip(capacity, missing, strict=True)]
            )
        if not all(a <= d <= b for a, d, b in zip(room.least, n, room.most, strict=True)):
            raise NoRoom(f"it would serve {room.least} to {room.most} and not {n}")
        return room

    def refuse(self, shapes: Shapes, fixed: str, why: str) -> NoRoom:
        """Remembers that these shapes can't have room."""
        for growing in self._ways(shapes, fixed):
            self._refused(_family(shapes, growing, fixed), why)
        return NoRoom(why)

    def _refused(self, family: tuple[Any, ...], why: str) -> None:
        while len(self.refused) >= REFUSED and family not in self.refused:
            del self.refused[next(iter(self.refused))]
        self.refused[family] = why

    def _ways(self, shapes: Shapes, fixed: str) -> list[Growing]:
        """How the shapes moved against earlier requests, the likeliest first: with what is known to move in a plan with
        room; with few lengths, or as a decoder's past that begins; by steps that all of them were multiples of."""
        seen = [(old, known) for old, same, known in reversed(self._seen) if same == fixed]
        found: list[list[Growing]] = [[], [], []]
        for old, known in seen:
            if (growing := moved(old, shapes, known)) is not None:
                found[0 if known else 1].append(growing)
            if not known and (growing := begun(old, shapes)) is not None:
                found[1].append(growing)
        for ways in found:
            ways.sort(key=lambda way: len(numbers_of(shapes, way)))
        for way in [*found[0], *found[1]]:
            steps = stepped([old for old, _ in seen], shapes, way, numbers_of(shapes, way))
            found[2] += [steps] if steps is not None else []
        every = [growing for ways in found for growing in ways]
        return [way for i, way in enumerate(every) if way not in every[:i]][:TRIES]


def _batch(growing: Growing) -> bool:
    """Whether n is the first dim of every input: batches are of a few sizes that come again, unlike lengths, and it is
    not worth while to run larger ones than asked for."""
    return all(axis == 0 for axes in growing.values() for axis in axes)


def _batches(count: int, growing: Growing) -> list[bool]:
    """Of each number, whether it is a batch."""
    places = [
        (axis, v) for axes in growing.values() for axis, length in axes.items() for v, _ in length.terms
    ]
    return [all(axis == 0 for axis, v in places if v.root == root) for root in range(count)]


def _rounded(n: int) -> int:
    return n if n < STEP else -(-n // STEP) * STEP


def _needed(n: Numbers, growing: Growing) -> list[int]:
    """The capacities that inputs of n fit."""
    more = [0] * len(n)
    for axes in growing.values():
        for length in axes.values():
            (v, c), *others = length.terms
            if not others:
                more[v.root] = max(more[v.root], -(-length.b // c))
    return [d + b for d, b in zip(n, more, strict=True)]


def _ladder(needed: Sequence[int], batches: Sequence[bool]) -> Sequence[Numbers]:
    """Capacities worth a thought, rising: of one number each, of several all but batches larger together."""
    first = [_rounded(d) for d in needed]
    if len(first) == 1:
        return _Single(range(first[0], FARTHEST * first[0] + 1, STEP if first[0] >= STEP else 1))
    found: list[Numbers] = []
    for step in range(SCALES + 1):
        share = FARTHEST ** (step / SCALES)
        larger = tuple(
            d if batch else max(d, _rounded(int(d * share))) for d, batch in zip(first, batches, strict=True)
        )
        found += [larger] if larger not in found else []
    return found


class _Single(Sequence[Numbers]):
    """A range as numbers of one length: there may be a million of them."""

    def __init__(self, capacities: range) -> None:
        self._capacities = capacities

    def __len__(self) -> int:
        return len(self._capacities)

    def __getitem__(self, i: Any) -> Any:
        return (self._capacities[i],)


def _family(shapes: Shapes, growing: Growing, fixed: str) -> tuple[Any, ...]:
    """What requests have in common that differ in n only."""
    dims = [
        (name, tuple(str(growing.get(name, {}).get(i, d)) for i, d in enumerate(shape)))
        for name, shape in sorted(shapes.items())
    ]
    return (fixed, *dims)
