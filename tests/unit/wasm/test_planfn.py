"""`run` on one thread: which steps it calls, in which order, with which tiles."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from nnjit.codegen.wasm.module import kernel_function
from nnjit.codegen.wasm.planfn import MAX_TILES, PlanStep, plan_module
from nnjit.codegen.wasm.team_words import RUNNING
from nnjit.errors import CompileError

from .conftest import make_memory
from .plan_threads import BASE, SLOTS, Call, Thread, lead

steps_strategy = st.lists(
    st.builds(
        PlanStep,
        st.integers(0, SLOTS - 1),
        st.integers(0, 2**31).map(lambda n: n * 64 % 2**31),
        st.integers(0, MAX_TILES - 1),
        st.booleans(),
        st.booleans(),
        loop=st.just(0),
        times=st.just(1),
        advance=st.just(0),
    ),
    max_size=20,
)


@settings(max_examples=40, deadline=None)
@given(steps_strategy, st.integers(0, 22), st.integers(0, 22))
def test_unshared_does_the_range_in_order(engine: Any, steps: list[PlanStep], first: int, last: int) -> None:
    module = wasmtime.Module(engine, plan_module([], steps, 0, shared=False))
    calls: list[Call] = []
    thread = Thread(engine, module)
    thread.record(calls)
    thread.run(0, 1, first, last)
    assert calls == [(s.slot, s.args, 0, s.tiles) for s in steps[first:last]]


def turns(steps: Sequence[PlanStep], first: int, last: int) -> list[Call]:
    """The calls of a run: steps of one loop are done in turn, again and again."""
    calls: list[Call] = []
    for _, group in groupby(list(enumerate(steps))[first:last], lambda item: item[1].loop or -item[0] - 1):
        body = [s for _, s in group]
        for turn in range(body[0].times):
            calls += [(s.slot, s.args + turn * s.advance, 0, s.tiles) for s in body if s.tiles]
    return calls


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=6), st.booleans(),
       st.integers(0, 16), st.integers(0, 16), st.booleans())  # fmt: skip
def test_loops_do_their_steps_in_turn(
    engine: Any, parts: list[tuple[int, int]], shared: bool, first: int, last: int, parallel: bool
) -> None:
    """parts: (steps of a loop, its turns), or a single step for 0. Ranges may begin and end inside a loop."""
    steps: list[PlanStep] = []
    for loop, (size, times) in enumerate(parts, 1):
        for _ in range(max(1, size)):
            at = 64 * (len(steps) + 1)
            inside = (loop, times, 4096) if size else (0, 1, 0)
            steps.append(PlanStep(len(steps) % SLOTS, at, 3, parallel, True, 0, 1, True, *inside))
    last = min(last, len(steps))
    module = wasmtime.Module(engine, plan_module([], steps, 0, shared=shared))
    calls: list[Call] = []
    thread = Thread(engine, module, make_memory(engine) if shared else None)
    thread.record(calls)
    thread.run(0, 1, first, last)
    assert calls == turns(steps, first, last)


def test_a_long_loop_is_no_more_code(engine: Any) -> None:
    loops = ([PlanStep(0, 64, 5, loop=1, times=n, advance=64)] * 3 for n in (2, 60))
    one, many = (len(plan_module([], steps, 0, True)) for steps in loops)
    assert one == many


def test_unshared_has_no_atomics() -> None:
    data = plan_module([], [PlanStep(0, 64, 5)] * 3, 0, shared=False)
    assert b"\xfe" not in data
    assert b"\xfe" in plan_module([], [PlanStep(0, 64, 5)] * 3, 0, shared=True)


def test_one_thread_of_a_shared_plan_needs_no_other(engine: Any, shared_memory: Any) -> None:
    steps = [PlanStep(1, 64, 5), PlanStep(2, 128, 0), PlanStep(3, 192, 7, parallel=False, barrier=False)]
    calls: list[Call] = []
    thread = Thread(engine, wasmtime.Module(engine, plan_module([], steps, 0, shared=True)), shared_memory)
    thread.record(calls)
    thread.run(0, 1, 0, 3)
    assert calls == [(1, 64, 0, 5), (3, 192, 0, 7)], "a step of no tiles is not called"


@settings(max_examples=60, deadline=None)
@given(st.integers(1, MAX_TILES - 1), st.integers(1, 128), st.integers(1, 1 << 20))
def test_the_leader_alone_does_every_tile_once(engine: Any, tiles: int, nthreads: int, unit: int) -> None:
    """No helper comes: all ranges are taken, each by halves."""
    memory = make_memory(engine)
    steps = [PlanStep(1, 64, tiles, unit=unit)]
    calls: list[Call] = []
    thread = Thread(engine, wasmtime.Module(engine, plan_module([], steps, 0, shared=True)), memory)
    thread.record(calls)
    lead(memory.words(), 0, thread, nthreads, 0, 1)
    at = 0
    for slot, args, begin, end in calls:
        assert (slot, args, begin) == (1, 64, at) and end > begin
        at = end
    assert at == tiles
    assert memory.words()[RUNNING // 4] == 0


def test_too_many_tiles() -> None:
    with pytest.raises(CompileError, match=f"{MAX_TILES} tiles"):
        plan_module([], [PlanStep(0, 64, MAX_TILES)], 0, shared=True)


def test_slots_can_be_swapped_between_runs(engine: Any) -> None:
    module = wasmtime.Module(
        engine, plan_module([kernel_function("noop")], [PlanStep(BASE, 64, 9)], BASE, False)
    )
    thread = Thread(engine, module)
    thread.run(0, 1, 0, 1)
    calls: list[Call] = []
    thread.record(calls)
    thread.run(0, 1, 0, 1)
    assert calls == [(BASE, 64, 0, 9)]


def test_a_step_is_small() -> None:
    one, many = (len(plan_module([], [PlanStep(40, 4096, 640)] * n, 0, True)) for n in (1, 1001))
    assert (many - one) / 1000 < 50
