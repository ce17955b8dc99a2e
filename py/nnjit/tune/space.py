"""The lite space of a KernelSpec: few schedules, the best guess first, made from rules and the device's numbers.

A Space is knobs with their values, and how a choice of them becomes a Schedule. The raw space is their product;
`lite()` is what rules leave of it, in the order of a cost model; `every()` walks all of it for studies. Element 0 of
`lite()` is what the default rules made. space_wasm.py and space_gpu.py make the space of a spec.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import product
from math import prod
from random import Random
from typing import Any, TypeAlias

from nnjit.codegen.schedule.legal import fits
from nnjit.codegen.schedule.steps import Schedule
from nnjit.codegen.spec import KernelSpec

LIMIT = 60
"""Schedules on a list at most."""
ALIKE = (0.03, 0.02)
"""What each schedule of a group that is on the list already adds to the cost of the next one, for a choice's first
group and its second: variants of a tile tell little more about it, and a model may be wrong about a whole tile by more
than about its variants."""
Choice = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Knob:
    """One thing to choose; the default's value comes first where it is known."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Space:
    """kind: which generator made it. build: a choice as a schedule. cost: modelled, None to leave a choice out.
    groups: what a choice has in common with others, the closest first; None where all are alike."""

    spec: KernelSpec
    kind: str
    default: Schedule
    knobs: tuple[Knob, ...]
    build: Callable[[Choice], Schedule]
    cost: Callable[[Choice], float | None]
    groups: Callable[[Choice], tuple[Hashable, ...]] | None = None
    legal: dict[Schedule, bool] = field(default_factory=dict)

    @property
    def raw(self) -> int:
        """Choices before any rule."""
        return prod(len(k.values) for k in self.knobs)

    def choices(self) -> Iterator[dict[str, Any]]:
        names = [k.name for k in self.knobs]
        for values in product(*(k.values for k in self.knobs)):
            yield dict(zip(names, values, strict=True))

    def every(self) -> Iterator[Schedule]:
        """Each distinct schedule of the raw space that fits the spec, the default first."""
        seen = {self.default}
        yield self.default
        for choice in self.choices():
            schedule = self.build(choice)
            if schedule not in seen:
                seen.add(schedule)
                if self.fits(schedule):
                    yield schedule

    def drawn(self, draw: Random, count: int, without: Collection[Schedule] = ()) -> list[Schedule]:
        """Up to `count` different schedules of the raw space that fit the spec, none of those in `without`."""
        found: dict[Schedule, None] = {}
        for _ in range(30 * count):
            if len(found) >= count:
                break
            schedule = self.build({k.name: draw.choice(k.values) for k in self.knobs})
            if schedule not in without and schedule not in found and self.fits(schedule):
                found[schedule] = None
        return list(found)

    def lite(self, limit: int = LIMIT, checked: bool = True) -> list[Schedule]:
        """At most `limit` schedules by the rules after the default, cheapest first; each further of a group counts as
        dearer than it is (ALIKE), so that others come between. Unchecked, some may turn out not to fit: `apply` says
        so, and to ask it for each takes longer than to make the list."""
        ranked: list[tuple[float, int, dict[str, Any]]] = []
        for choice in self.choices():
            cost = self.cost(choice)
            if cost is not None:
                ranked.append((cost, len(ranked), choice))
        ranked.sort()
        out = {self.default: None}

        def take(choice: Choice) -> bool:
            schedule = self.build(choice)
            if schedule in out or (checked and not self.fits(schedule)):
                return False
            out[schedule] = None
            return True

        more = _varied(ranked, self.groups, take)
        while len(out) < limit and next(more, False):
            pass
        return list(out)

    def fits(self, schedule: Schedule) -> bool:
        """Whether `apply` takes the schedule for this spec."""
        known = self.legal.get(schedule)
        if known is None:
            known = self.legal[schedule] = fits(self.spec, schedule)
        return known


Ranked: TypeAlias = "Sequence[tuple[float, int, dict[str, Any]]]"


def _varied(
    ranked: Ranked, groups: Callable[[Choice], tuple[Hashable, ...]] | None, take: Callable[[Choice], bool]
) -> Iterator[bool]:
    """Offers choices, which are sorted by cost, to `take`: the one that is cheapest with what its groups add, again and
    again. Yields True after each that was taken."""
    if groups is None:
        yield from (True for _, _, choice in ranked if take(choice))
        return
    queues: dict[tuple[Hashable, ...], list[tuple[float, int, dict[str, Any]]]] = {}
    for entry in reversed(ranked):
        queues.setdefault(groups(entry[2]), []).append(entry)
    taken: Counter[Hashable] = Counter()

    def counts(of: tuple[Hashable, ...]) -> tuple[float, int, tuple[Hashable, ...]]:
        cost, number, _ = queues[of][-1]
        for group, more in zip(of, ALIKE, strict=True):
            cost *= (1 + more) ** taken[group]
        return cost, number, of

    heap = [counts(of) for of in queues]
    heapify(heap)
    while heap:
        before, _, of = heappop(heap)
        now = counts(of)
        if now[0] > before:  # others of its groups were taken meanwhile
            heappush(heap, now)
            continue
        if take(queues[of].pop()[2]):
            taken.update(of)
            yield True
        if queues[of]:
            heappush(heap, counts(of))
