"""When a session compiles a plan with room, and for which capacity.

Takes the shapes of requests as they come; `make` gives a Room when they moved in lockstep against earlier ones. What
the graph refuses is remembered, so that it is tried once.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..graph.model import Model
from ..graph.passes import PASSES
from ..graph.room import Growing, NoRoom, Room, Shapes, begun, make_room, moved

REMEMBERED = 8
"""Requests that a new one is compared with."""
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
FARTHEST = 4
"""A capacity is at most so many times n: memory is kept for it."""


class Rooms:
    """One session's requests and refusals. fixed: what else a plan depends on, as text."""

    def __init__(self) -> None:
        self._seen: list[tuple[Shapes, str]] = []
        self.refused: dict[tuple[Any, ...], str] = {}

    def saw(self, shapes: Shapes, fixed: str) -> None:
        """A request that got a plan of its own."""
        self._seen = [*self._seen, (dict(shapes), fixed)][-REMEMBERED:]

    def make(
        self, model: Model, shapes: Shapes, fixed: str, dims: Mapping[str, int], values: Mapping[str, Any]
    ) -> Room | None:
        """A room for shapes that moved; None where they did not, NoRoom where it can't be or would not pay."""
        growing = self._growing(shapes, fixed)
        if growing is None:
            return None
        if (why := self.refused.get(_family(shapes, growing, fixed))) is not None:
            raise NoRoom(why)
        name, axes = next(iter(growing.items()))
        axis, offset = next(iter(axes.items()))
        n = shapes[name][axis] - offset
        try:
            room = self._chosen(lambda c: make_room(model, shapes, growing, c, dims, values, []), n, growing)
        except NoRoom as refusal:
            self._refused(shapes, growing, fixed, str(refusal))
            raise
        least, full, times = room.least, room.work.full(room.capacity), 1.0 if _batch(growing) else LEAST
        least += bisect_left(range(least, n + 1), full, key=lambda m: _served(room.work.exact(m), times))
        if least > n or room.most <= n:
            raise NoRoom("work grows so fast with n that a plan for each shape is better")
        return replace(room.through(PASSES), least=least)

    def _chosen(self, make: Callable[[int], Room], n: int, growing: Growing) -> Room:
        """The room of the largest capacity that is worth it. A decoder's is the farthest: that is tried first."""
        needed = n + max(0, *(b for axes in growing.values() for b in axes.values()))
        capacities = _capacities(needed)
        room = make(capacities[-1])
        exact = room.work.exact(n)
        allowed = max(exact * (1.0 if _batch(growing) else WASTE), exact + LITTLE)
        # work rises with the capacity
        found = bisect_right(capacities, allowed, key=room.work.full)
        capacity = capacities[max(found - 1, 0)]
        if capacity != room.capacity:
            room = make(capacity)
        if room.most < n:  # a length inside of the model is longer than any input's
            room = make(_rounded(needed + n - room.most))
        if not room.least <= n <= room.most:
            raise NoRoom(f"it would serve {room.least} to {room.most} and not {n}")
        return room

    def refuse(self, shapes: Shapes, fixed: str, why: str) -> NoRoom:
        """Remembers that these shapes can't have room."""
        growing = self._growing(shapes, fixed)
        if growing is not None:
            self._refused(shapes, growing, fixed, why)
        return NoRoom(why)

    def _refused(self, shapes: Shapes, growing: Growing, fixed: str, why: str) -> None:
        while len(self.refused) >= REFUSED:
            del self.refused[next(iter(self.refused))]
        self.refused[_family(shapes, growing, fixed)] = why

    def _growing(self, shapes: Shapes, fixed: str) -> dict[str, dict[int, int]] | None:
        """What moved against the latest request that it moved in lockstep with."""
        seen = [old for old, same in reversed(self._seen) if same == fixed]
        for find in (moved, begun):
            for old in seen:
                if (growing := find(old, shapes)) is not None:
                    return growing
        return None


def _batch(growing: Growing) -> bool:
    """Whether n is the first dim of every input: batches are of a few sizes that come again, unlike lengths, and it is
    not worth while to run larger ones than asked for."""
    return all(axis == 0 for axes in growing.values() for axis in axes)


def _served(exact: float, times: float) -> float:
    """The most that a plan may do for an n for which an exact one does so much."""
    return max(times * exact, exact + SMALL)


def _rounded(n: int) -> int:
    return n if n < STEP else -(-n // STEP) * STEP


def _capacities(n: int) -> range:
    """Those worth a thought for n, rising."""
    first = _rounded(n)
    return range(first, FARTHEST * first + 1, STEP if first >= STEP else 1)


def _family(shapes: Shapes, growing: Mapping[str, Mapping[int, int]], fixed: str) -> tuple[Any, ...]:
    """What requests have in common that differ in n only."""
    dims = [
        (
            name,
            tuple(
                f"n{growing[name][i]:+d}" if i in growing.get(name, {}) else d for i, d in enumerate(shape)
            ),
        )
        for name, shape in sorted(shapes.items())
    ]
    return (fixed, *dims)
