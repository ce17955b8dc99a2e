"""The search by itself: reports in, decisions out."""

from __future__ import annotations

from typing import Any

import pytest

from nnjit.codegen.schedule.steps import Tile
from nnjit.tune.search import BATCH, PATIENCE, Job, Search


def job(name: str, times: list[float], count: int = 1, bound: float = 0.1) -> tuple[Job, dict[Any, float]]:
    """A kernel whose i-th schedule takes times[i]; the first one serves."""
    schedules = [(Tile("m", i + 1),) for i in range(len(times))]
    made = Job(name, name, count, bound, list(schedules), schedules[0], schedules[0], estimate_ms=times[0])
    return made, dict(zip(schedules, times, strict=True))


def run(tables: list[tuple[Job, dict[Any, float]]]) -> tuple[Search, list[tuple[str, int]]]:
    """Searches until the end; every winner is adopted. The order of trials as (job, schedule's number)."""
    search = Search([j for j, _ in tables])
    times = {j.key: t for j, t in tables}
    order = []
    while (now := search.pick()) is not None:
        table = times[now.key]
        if not now.ms:
            search.timed(now, table[now.serving])
            continue
        schedule = search.take(now)
        if schedule is None:
            continue
        order.append((now.key, schedule[0].factor - 1))  # type: ignore[union-attr]
        base = table[now.serving]
        trial = search.record(
            now, schedule, {"verdict": "timed", "base": [base] * 5, "mine": [table[schedule]] * 5}
        )
        if trial.won:
            search.adopt(now, trial)
    return search, order


def test_the_best_schedule_serves_in_the_end() -> None:
    made, times = job("a", [1.0, 1.1, 0.8, 0.9, 0.6, 0.61])
    search, order = run([(made, times)])
    assert times[made.serving] == 0.6 and [i for _, i in order] == [1, 2, 3, 4, 5]
    assert search.gained == pytest.approx(1 / 0.6)


def test_noise_does_not_swap() -> None:
    made, times = job("a", [1.0, 0.99, 0.98])
    run([(made, times)])
    assert made.serving == made.first


def test_a_kernel_at_its_bound_is_not_tried() -> None:
    near, times = job("near", [1.0, 0.5], bound=0.96)
    search, order = run([(near, times)])
    assert order == [] and search.pick() is None


def test_bounds_that_a_kernel_beats_are_not_believed() -> None:
    """Facts measured on a busy machine make bounds too high: then nothing would be worth trying."""
    near, fast = job("near", [1.0, 0.9], bound=0.99)[0], job("fast", [0.5, 0.5], bound=1.0)[0]
    search = Search([near, fast])
    search.timed(near, 1.0)
    assert near.closed == "at its bound"
    search.timed(fast, 0.5)
    assert not near.closed and search.pick() is near and search.slack == 0.5


def test_an_inference_tells_of_bounds_too() -> None:
    """As near to its bound as the nearest: nothing there is laid out. One reading of a short step tells nothing."""
    best, alike, slow, short = (
        job(n, [t, t / 2])[0] for n, t in (("a", 8.0), ("b", 4.1), ("c", 9.0), ("d", 0.01))
    )
    best.bound_ms, alike.bound_ms, slow.bound_ms, short.bound_ms = 10.0, 5.0, 5.0, 1.0
    search = Search([best, alike, slow, short])
    for each in search.jobs:
        search.surveyed(each, each.estimate_ms)
    assert search.slack == 0.8 and search.pick() is slow
    search.timed(slow, 4.0)
    assert slow.closed == "at its bound" and search.pick() is None


def test_what_an_inference_showed_is_taken_down_as_the_lab_showed() -> None:
    """On a machine that was busy then, all kernels seem far from their bounds; the first in the lab says otherwise."""
    made = [job(n, [2.0, 1.0], bound=1.0)[0] for n in "abc"]
    search = Search(made)
    for each in made[:2]:
        search.surveyed(each, 2.0)
    first = search.pick()
    assert first is made[0]
    search.timed(first, 1.0)
    assert search.ease == 0.5 and search.pick() is made[2], "b takes half of what it showed; c was not seen"


def test_time_goes_where_the_model_spends_it() -> None:
    large, small = job("large", [10.0] * 8), job("small", [0.5] * 8)
    _, order = run([small, large])
    assert {key for key, _ in order[:BATCH]} == {"large"}


def test_a_kernel_that_does_not_matter_is_left_alone() -> None:
    large, tiny = job("large", [10.0] * 3), job("tiny", [0.01] * 5)
    _, order = run([large, tiny])
    assert all(key == "large" for key, _ in order)


def test_patience_ends() -> None:
    made, times = job("a", [1.0] + [1.1] * 60)
    _, order = run([(made, times)])
    assert len(order) == PATIENCE and made.closed == "others were no faster"


def test_many_kernels_without_a_win_are_not_all_searched() -> None:
    """Forty alike, none of which gets faster: the search believes it after some. One in two that do: it goes on."""
    _, order = run([job(f"k{i}", [1.0] + [1.05] * 20) for i in range(40)])
    stubborn = len({key for key, _ in order})
    _, order = run([job(f"k{i}", [1.0, 1.05, *([0.7] * (i % 2)), *[1.05] * 20]) for i in range(40)])
    assert 1 <= stubborn <= 12 and len({key for key, _ in order}) == 40


@pytest.mark.parametrize("verdict", ["trap", "wrong", "slow", "refused"])
def test_what_failed_is_recorded_and_never_tried_again(verdict: str) -> None:
    made, _ = job("a", [1.0, 1.0, 1.0])
    search = Search([made])
    search.timed(made, 1.0)
    seen = set()
    while search.pick() is not None and (schedule := search.take(made)) is not None:
        assert schedule not in seen
        seen.add(schedule)
        assert not search.record(made, schedule, {"verdict": verdict, "reason": "x"}).won
    assert [t.verdict for t in made.trials] == [verdict, verdict] and made.serving == made.first


def test_what_takes_too_long_to_lay_out_is_put_off() -> None:
    large, _ = job("large", [10.0, 5.0])
    small, _ = job("small", [2.0, 1.0])
    large.nbytes = 100_000_000
    search = Search([large, small])
    assert large.lay_ms > 50 > small.lay_ms
    assert search.pick(50.0) is small and search.put_off(50.0)
    search.timed(small, 2.0)
    assert search.pick(1.0) is small, "it is laid out already"
    search.close(small, "known")
    assert search.pick(50.0) is None and search.put_off(50.0)
    assert search.pick() is large
    search.close(large, "known")
    assert search.pick(50.0) is None and not search.put_off(50.0)


def test_a_lucky_winner_fails_the_second_duel() -> None:
    made, _ = job("a", [1.0, 1.0])
    search = Search([made])
    search.timed(made, 1.0)
    schedule = search.take(made)
    assert schedule is not None
    trial = search.record(made, schedule, {"verdict": "timed", "base": [1.0] * 5, "mine": [0.9] * 5})
    assert trial.won and not search.again(trial, [1.0] * 5, [1.0] * 5)
    assert search.again(trial, [1.0] * 5, [0.9] * 5)
