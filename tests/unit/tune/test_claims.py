"""The studies' own arithmetic: choices by number, the search of a thousand trials, when a speed is reached."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from nnjit.tune.space import LIMIT, space_of
from tests.bench.claims.live import reached, trials_until_swap
from tests.bench.claims.quality import choice_at
from tests.bench.claims.race import RANDOM, Evolution
from tests.bench.claims.specs import SPECS
from tests.bench.claims.stand import TARGET


@pytest.mark.parametrize("name", list(SPECS)[::6])
def test_choices_have_numbers(name: str) -> None:
    space = space_of(SPECS[name], TARGET)
    for number, choice in islice(enumerate(space.choices()), 0, None, 97):
        assert choice_at(space, number) == choice
    assert number < space.raw


@pytest.mark.parametrize("name", SPECS)
def test_at_most_sixty_are_listed_and_far_more_are_possible(name: str) -> None:
    space = space_of(SPECS[name], TARGET)
    listed = space.lite(checked=False)
    assert listed[0] == space.default and len(set(listed)) == len(listed)
    assert 1 < len(listed) <= LIMIT and space.raw >= 1000


def test_the_search_finds_what_it_is_told_is_good() -> None:
    """A smooth valley in 4,096 points: a thousand trials must end within a step of its floor, and try nothing twice."""
    sizes, floor = (16, 8, 8, 4), (11, 2, 6, 1)
    evolution = Evolution(sizes, seed=3)
    tried = []
    for _ in range(1000):
        choice = evolution.ask()
        assert choice is not None
        tried.append(choice)
        evolution.tell(choice, 1.0 + sum(abs(a - b) for a, b in zip(choice, floor, strict=True)))
    assert len(set(tried)) == 1000
    assert all(0 <= c < n for choice in tried for c, n in zip(choice, sizes, strict=True))
    best = min(evolution.known)
    assert best[0] <= 2.0 and min(evolution.known[:RANDOM])[0] >= best[0]


def test_a_small_space_is_tried_whole() -> None:
    evolution = Evolution((3, 2), seed=1)
    found = set()
    while (choice := evolution.ask()) is not None:
        found.add(choice)
        evolution.tell(choice, 1.0)
    assert len(found) == 6


def runs(*ms: float) -> list[dict[str, Any]]:
    return [{"at": 100.0 * i, "ms": m} for i, m in enumerate(ms)]


def test_the_final_speed_is_reached_when_a_median_of_runs_is_there() -> None:
    slow_then_fast = runs(20, 20, 20, 20, 20, 20, 10, 10, 10, 10, 10)
    assert reached(slow_then_fast, 10.0) == 400.0  # three of five
    assert reached(runs(10, 30, 10, 10, 10, 10), 10.0) == 0.0  # one that was disturbed
    assert reached(runs(*[20] * 8), 10.0) is None


def test_tests_count_up_to_the_last_swap_of_a_kernel() -> None:
    def event(kind: str, name: str) -> dict[str, Any]:
        return {"kind": kind, "name": name}

    log = [
        event("trial", "a"),
        event("trial", "b"),
        event("swap", "a"),
        event("trial", "a"),
        event("trial", "a"),
    ]
    assert trials_until_swap(log) == {"a": 2}
