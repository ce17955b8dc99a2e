"""The studies' own arithmetic: choices by number, the search of a thousand trials, when a speed is reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest

from nnjit.codegen.wasm.target import Target
from nnjit.runtime import tuning
from nnjit.runtime.local import LocalSession
from nnjit.tune.device import DeviceFacts
from nnjit.tune.space import LIMIT
from nnjit.tune.space_wasm import space_of
from tests.bench.claims import blocks, handicap
from tests.bench.claims.live import asked
from tests.bench.claims.quality import choice_at
from tests.bench.claims.race import RANDOM, Evolution
from tests.bench.claims.specs import SPECS
from tests.bench.claims.stand import TARGET
from tests.bench.claims.together import commands, seats
from tests.bench.claims.use import reached, speed_at, start_ms, trials_until_swap
from tests.support.single import model_of


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


def test_a_speed_is_that_of_the_runs_that_had_ended() -> None:
    found = runs(*[20] * 10, *[10] * 10)  # a run each 100 ms
    assert speed_at(found, 0.01) is None
    assert speed_at(found, 1.0) == 20 and speed_at(found, 1.2) == 20 and speed_at(found, 1.21) == 10


def test_the_start_is_judged_when_code_is_warm() -> None:
    cold = {"at": 0.0, "ms": 150.0, "shape": 0}
    found = {"first": cold, "before": [], "during": runs(90, 90, 90, 90, 20, 20, 20, 20, 20, 90), "after": []}
    assert start_ms(found) == 20  # from 450 ms on: the runs at 500 ms and later
    assert start_ms({**found, "during": [], "after": runs(*[90] * 5, *[30] * 5)}) == 30
    assert start_ms({**found, "before": runs(*[90] * 5, *[40] * 5)}) == 40


def test_the_longest_runs_are_compared_by_stretches() -> None:
    def stretch(kind: str, *ms: float) -> dict[str, Any]:
        return {"kind": kind, "ms": list(ms), "tried": 2 * (kind == "work"), "delayedMs": 1.0}

    calm = [10.0] * 20
    same = [stretch(k, *calm) for k in ("work", "rest", "again") for _ in range(8)]
    f = blocks.judge(same)
    assert (f["q"], f["ratio"], f["ratioWithin"], f["control"]) == (0.99, 1.0, (1.0, 1.0), 1.0)
    assert f["runs"] == {"work": 160, "rest": 160, "again": 160} and f["tried"] == 16 and f["delayedMs"] == 8
    # each stretch with the tuner has a run that waited
    late = blocks.judge([stretch("work", *calm[1:], 13.0) for _ in range(8)] + same[8:])
    assert late["ratio"] == 1.3 == late["ratioWithin"][0]
    # one that something else held up: the interval says that it may be nothing
    odd = blocks.judge([stretch("work", *calm[3:], 20.0, 20.0, 20.0), *same[1:]])
    assert odd["ratio"] == 2.0 and odd["ratioWithin"] == (1.0, 2.0)
    assert blocks.judge([stretch(k, *calm) for k in blocks.KINDS])["q"] == 0.95
    assert blocks.asked(["a", "gapMs=20", "backend=webgpu"]) == (["a"], {"gapMs": 20, "backend": "webgpu"})
    with pytest.raises(ValueError, match="no key 'gap'"):
        blocks.asked(["gap=3"])


def test_arguments_of_a_study() -> None:
    names, ways = asked(["a", "start=drawn,blind", "b", "gapMs=0,20", "hold=true"])
    assert names == ["a", "b"] and len(ways) == 4
    assert ways[1] == {"start": "drawn", "gapMs": 20, "hold": True}
    assert asked(["a"]) == (["a"], [{}])
    with pytest.raises(ValueError, match="no key 'gap'"):
        asked(["gap=3"])
    assert commands("live", ("a", "b", "limit=2,4")) == [
        ["live", n, f"limit={x}"] for n in "ab" for x in (2, 4)
    ]


def test_cores_are_dealt_out_without_overlap() -> None:
    assert seats(list(range(16)), "3", 9) == [{3 * i, 3 * i + 1, 3 * i + 2} for i in range(5)]
    dealt = seats(list(range(16)), "all", 6)
    assert [len(s) for s in dealt] == [3, 3, 3, 3, 2, 2] and set().union(*dealt) == set(range(16))
    with pytest.raises(ValueError, match="too few"):
        seats([0, 1], "all", 3)
    with pytest.raises(ValueError, match="too few"):
        seats([0, 1], "3", 1)


@pytest.mark.parametrize("name", list(SPECS)[::4])
def test_a_drawn_start_fits_and_the_tuner_may_leave_it(name: str) -> None:
    spec, target = SPECS[name], TARGET
    start = handicap.drawn(spec, target)
    space = space_of(spec, target)
    assert start != space.default and space.fits(start) and start == handicap.drawn(spec, target)
    for s in space.lite():
        assert handicap.takes_its_place(spec, s, start) == handicap.takes_its_place(spec, s, space.default)


@pytest.fixture
def start() -> Iterator[Callable[..., None]]:
    yield handicap.begin
    handicap.begin("rules")


def test_plans_and_lists_follow_the_start(start: Callable[..., None]) -> None:
    x = np.random.default_rng(0).standard_normal((33, 40), dtype=np.float32)
    w = np.random.default_rng(1).standard_normal((40, 70), dtype=np.float32)
    model = model_of("MatMul", {"x": x}, [("y", np.float32)], constants={"w": w})
    schedules = {}
    for name in handicap.STARTS:
        start(name)
        session = LocalSession(model, target=Target())
        (y,) = session.run({"x": x}).values()
        np.testing.assert_allclose(y, x @ w, rtol=1e-4, atol=1e-4)
        schedules[name] = session._plan({"x": x})[0].kernel_of(0).schedule
    assert (
        schedules["drawn"]
        == schedules["blind"]
        == schedules["raw"]
        != schedules["rules"]
        != schedules["eight"]
    )
    spec = SPECS["dense 37x101x53 odd"]
    others = space_of(spec, TARGET).lite()  # "raw" is the last that began
    start("blind")
    listed = space_of(spec, TARGET).lite()
    assert others and not set(others) <= set(listed)
    start("drawn", 7)
    known = space_of(spec, TARGET).lite()
    assert set(listed) == set(known) and listed != known
    plan = session._plan({"x": x})[0]

    def tried() -> int:
        tuner = tuning.Tuning(plan, lambda: pytest.fail("nothing is swapped"), Target(), DeviceFacts())
        tuner._list(tuner.slots[0])
        return len(tuner.slots[0].job.schedules)

    assert tried() == 7
    start("rules")
    assert 7 < tried() <= LIMIT
    with pytest.raises(ValueError, match="no start"):
        start("other")
