"""`run`: which steps it calls, with which tiles; and that steps keep their order between real threads.

Threads are Python threads, each with an instance of its own on one shared memory, as workers in a page have;
wasmtime's calls release the GIL.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from nnjit.codegen.wasm import team
from nnjit.codegen.wasm.builder import FunctionBuilder
from nnjit.codegen.wasm.module import kernel_function
from nnjit.codegen.wasm.planfn import MAX_TILES, PlanStep, plan_module
from nnjit.codegen.wasm.team_words import ABORT, AWAKE, CONTROL_END, LOST, RUNNING, SLEEPERS
from nnjit.errors import CompileError

from .conftest import make_memory

BASE = 3
TABLE = CONTROL_END
SLOTS = 8
KERNEL_TYPE = wasmtime.FuncType([wasmtime.ValType.i32()] * 3, [])
Call = tuple[int, int, int, int]  # slot, args, begin, end


class Thread:
    """One thread's instance of a plan module, with its own table."""

    def __init__(self, engine: Any, module: Any, memory: Any = None) -> None:
        self.store = wasmtime.Store(engine)
        if memory is None:
            memory = wasmtime.Memory(self.store, wasmtime.MemoryType(wasmtime.Limits(1, None)))
        table_type = wasmtime.TableType(wasmtime.ValType.funcref(), wasmtime.Limits(SLOTS, None))
        self.table = wasmtime.Table(self.store, table_type, None)
        instance = wasmtime.Instance(self.store, module, [memory, self.table])
        self.exported = instance.exports(self.store)["run"]

    def run(self, thread: int, nthreads: int, first: int, last: int) -> None:
        self.exported(self.store, thread, nthreads, first, last)

    def record(self, calls: list[Call]) -> None:
        """Fill the table with functions that note how they are called."""
        for slot in range(SLOTS):
            self.put(slot, lambda args, begin, end, slot=slot: calls.append((slot, args, begin, end)))

    def put(self, slot: int, function: Callable[[int, int, int], None]) -> None:
        self.table.set(self.store, slot, wasmtime.Func(self.store, KERNEL_TYPE, function))


def together(
    threads: Sequence[Thread], work: Callable[[int, Thread], None], seconds: float = 20
) -> list[object]:
    """work(number, thread) on all threads at once; what each raised, or None. Fails if one hangs."""
    errors: list[object] = [None] * len(threads)

    def one(number: int) -> None:
        try:
            work(number, threads[number])
        except Exception as error:
            errors[number] = error

    running = [threading.Thread(target=one, args=(n,), daemon=True) for n in range(len(threads))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(seconds)
    assert not any(thread.is_alive() for thread in running), "a thread hangs"
    return errors


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


def lead(words: Any, number: int, thread: Thread, nthreads: int, first: int, last: int) -> None:
    """A thread's part of a run, as the engine does it: thread 0 opens it, the others come when they can."""
    if number == 0:
        words[RUNNING // 4] = 1
    thread.run(number, nthreads, first, last)


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


def test_each_thread_has_its_own_operands(engine: Any, shared_memory: Any) -> None:
    steps = [PlanStep(1, 4096, 64, stride=32)]
    module = wasmtime.Module(engine, plan_module([], steps, 0, shared=True))
    threads = [Thread(engine, module, shared_memory) for _ in range(3)]
    seen: list[tuple[int, int]] = []
    for number, thread in enumerate(threads):
        thread.put(1, lambda args, begin, end, n=number: (time.sleep(0.001), seen.append((n, args)))[1])
    words = shared_memory.words()
    words[RUNNING // 4] = 1
    assert together(threads, lambda n, t: t.run(n, 3, 0, 1)) == [None] * 3
    assert {args for _, args in seen} > {4096} and all(args == 4096 + 32 * n for n, args in seen)


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


def reverse_kernel(tiles: int) -> FunctionBuilder:
    """args: from, to. to[tiles-1-i] = from[i] + 1, i in begin..end: tiles come from another's share."""
    b = kernel_function("reverse")
    source, target, i = b.local("i32", "source"), b.local("i32", "target"), b.local("i32", "i")
    b.get(0)
    b.load("i32.load")
    b.set(source)
    b.get(0)
    b.load("i32.load", offset=4)
    b.set(target)
    b.get(1)
    b.set(i)
    with b.loop() as again:
        b.get(target)
        b.i32_const(tiles - 1)
        b.get(i)
        b.op("i32.sub")
        b.i32_const(2)
        b.op("i32.shl")
        b.op("i32.add")
        b.get(source)
        b.get(i)
        b.i32_const(2)
        b.op("i32.shl")
        b.op("i32.add")
        b.load("i32.load")
        b.i32_const(1)
        b.op("i32.add")
        b.store("i32.store")
        b.get(i)
        b.i32_const(1)
        b.op("i32.add")
        b.tee(i)
        b.get(2)
        b.op("i32.lt_s")
        b.br_if(again)
    return b


def ping_pong(engine: Any, memory: Any, count: int, tiles: int, spin: int, **flags: bool) -> tuple[Any, Any]:
    """`count` reversing steps between two buffers: the module, and the memory's words, pointers set."""
    there, back, first, second = TABLE, TABLE + 64, TABLE + 4096, TABLE + 4096 + 4 * tiles
    words = memory.words()
    words[there // 4], words[there // 4 + 1] = first, second
    words[back // 4], words[back // 4 + 1] = second, first
    steps = [PlanStep(BASE, back if n % 2 else there, tiles, **flags) for n in range(count)]
    return wasmtime.Module(engine, plan_module([reverse_kernel(tiles)], steps, BASE, True, spin)), words


@pytest.mark.parametrize("spin", [0, 4000])
@pytest.mark.parametrize("nthreads", [2, 3, 5])
def test_steps_keep_their_order_run_after_run(
    engine: Any, shared_memory: Any, nthreads: int, spin: int
) -> None:
    count, tiles, runs = 100, 60, 20
    module, words = ping_pong(engine, shared_memory, count, tiles, spin)
    threads = [Thread(engine, module, shared_memory) for _ in range(nthreads)]
    meet = threading.Barrier(nthreads)

    def work(number: int, thread: Thread) -> None:
        for _ in range(runs):
            if number == 0:
                words[RUNNING // 4] = 1
            meet.wait(20)
            thread.run(number, nthreads, 0, count)
            meet.wait(20)

    assert together(threads, work) == [None] * nthreads
    assert [words[TABLE // 4 + 1024 + i] for i in range(tiles)] == [count * runs] * tiles
    assert (words[RUNNING // 4], words[ABORT // 4], words[SLEEPERS // 4]) == (0, 0, 0)


@pytest.mark.parametrize("nthreads", [2, 3])
def test_steps_without_work_right_behind_one_another(engine: Any, shared_memory: Any, nthreads: int) -> None:
    """Helpers look at a step while the leader is already steps ahead."""
    count, tiles, runs = 500, 2, 40
    module, words = ping_pong(engine, shared_memory, count, tiles, 2000)
    threads = [Thread(engine, module, shared_memory) for _ in range(nthreads)]
    over = threading.Event()

    def work(number: int, thread: Thread) -> None:
        if number:  # helpers come and go as they like
            while not over.is_set():
                thread.run(number, nthreads, 0, count)
            return
        for _ in range(runs):
            lead(words, number, thread, nthreads, 0, count)
        over.set()

    assert together(threads, work) == [None] * nthreads
    assert [words[TABLE // 4 + 1024 + i] for i in range(tiles)] == [count * runs] * tiles


def test_a_run_does_not_wait_for_who_sleeps(engine: Any, shared_memory: Any) -> None:
    """The second thread never comes; a third one comes late and finds nothing to do."""
    count, tiles = 50, 33
    module, words = ping_pong(engine, shared_memory, count, tiles, 100)
    threads = [Thread(engine, module, shared_memory) for _ in range(2)]
    lead(words, 0, threads[0], 3, 0, count)
    assert [words[TABLE // 4 + 1024 + i] for i in range(tiles)] == [count] * tiles
    threads[1].run(2, 3, 0, count)
    assert [words[TABLE // 4 + 1024 + i] for i in range(tiles)] == [count] * tiles


def test_ranges_meet_at_their_ends(engine: Any, shared_memory: Any) -> None:
    """Steps one by one, as profiling does, without barriers of their own: a run ends when all is done."""
    count, tiles, nthreads = 100, 60, 3
    module, words = ping_pong(engine, shared_memory, count, tiles, 100, barrier=False)
    threads = [Thread(engine, module, shared_memory) for _ in range(nthreads)]
    meet = threading.Barrier(nthreads)

    def work(number: int, thread: Thread) -> None:
        for step in range(count):
            if number == 0:
                words[RUNNING // 4] = 1
            meet.wait(20)
            thread.run(number, nthreads, step, step + 1)
            meet.wait(20)

    assert together(threads, work) == [None] * nthreads
    assert [words[TABLE // 4 + 1024 + i] for i in range(tiles)] == [count] * tiles


def test_barrier_flag_false_lets_the_leader_run_on(engine: Any, shared_memory: Any) -> None:
    steps = [PlanStep(0, 64, 2, barrier=False), PlanStep(1, 64, 1), PlanStep(2, 64, 1, parallel=False)]
    module = wasmtime.Module(engine, plan_module([], steps, 0, shared=True))
    threads = [Thread(engine, module, shared_memory) for _ in range(2)]
    seen: list[tuple[int, int]] = []
    for number, thread in enumerate(threads):
        for slot in range(3):
            thread.put(slot, lambda args, begin, end, at=(slot, number): seen.append(at))
    begun, late = threading.Event(), threading.Event()
    # Thread 1 is in step 0 until thread 0 is in step 1: without a barrier between them, it gets there.
    threads[1].put(0, lambda args, begin, end: (begun.set(), late.wait(10), seen.append((0, 1)))[2])
    threads[0].put(0, lambda args, begin, end: (begun.wait(10), seen.append((0, 0)))[1])
    threads[0].put(1, lambda args, begin, end: (late.set(), seen.append((1, 0)))[1])
    shared_memory.words()[RUNNING // 4] = 1
    assert together(threads, lambda number, thread: thread.run(number, 2, 0, 3)) == [None, None]
    assert sorted(seen[:3]) == [(0, 0), (0, 1), (1, 0)]
    assert seen[3:] == [(2, 0)], "after the barrier, and on thread 0 alone"


def test_short_steps_leave_sleepers_asleep(engine: Any, shared_memory: Any) -> None:
    """All helpers sleep and the step is not worth waking them: one call, all tiles; then one that is."""
    steps = [PlanStep(0, 64, 8, wake=False), PlanStep(1, 64, 8)]
    module = wasmtime.Module(engine, plan_module([], steps, 0, shared=True))
    calls: list[Call] = []
    thread = Thread(engine, module, shared_memory)
    thread.record(calls)
    words = shared_memory.words()
    words[SLEEPERS // 4] = 2
    lead(words, 0, thread, 3, 0, 2)
    assert calls[0] == (0, 64, 0, 8) and len(calls) > 2


def void(*_: object) -> None:
    """What callbacks return."""


@pytest.mark.parametrize("lost", [False, True])
def test_a_leader_that_may_not_sleep(engine: Any, monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    """A helper takes its time over a piece. The leader stays awake; where it may not wait for ever, it gives up."""
    if lost:
        monkeypatch.setattr(team, "PATIENCE", 1000)
    memory = make_memory(engine)
    module = wasmtime.Module(engine, plan_module([], [PlanStep(0, 64, 2), PlanStep(1, 64, 1)], 0, True, 10))
    threads = [Thread(engine, module, memory) for _ in range(2)]
    begun, over = threading.Event(), threading.Event()
    calls: list[Call] = []
    for thread in threads:  # the second step is short: either may do it
        thread.record(calls)
    threads[0].put(0, lambda args, begin, end: void(begun.wait(10)))
    threads[1].put(0, lambda args, begin, end: void(begun.set(), over.wait(10 if lost else 0.2)))
    words = memory.words()
    words[RUNNING // 4] = words[AWAKE // 4] = 1
    helper = threading.Thread(target=threads[1].run, args=(1, 2, 0, 2), daemon=True)
    helper.start()
    threads[0].run(0, 2, 0, 2)
    assert words[ABORT // 4] == (LOST if lost else 0)
    assert calls == ([] if lost else [(1, 64, 0, 1)])
    over.set()
    helper.join(10)
    assert not helper.is_alive()


@pytest.mark.parametrize("spin", [0, 10_000])
def test_abort_frees_those_who_wait(engine: Any, shared_memory: Any, spin: int) -> None:
    """A kernel traps on one of three threads; its owner sets the abort word; the others come back."""
    steps = [PlanStep(0, 64, 3), PlanStep(1, 64, 3)]
    module = wasmtime.Module(engine, plan_module([], steps, 0, shared=True, spin=spin))
    threads = [Thread(engine, module, shared_memory) for _ in range(3)]
    calls: list[Call] = []
    for thread in threads:
        thread.record(calls)
    trapped = threading.Event()

    def trap(args: int, begin: int, end: int) -> None:
        trapped.set()
        raise ValueError("trap")

    threads[1].put(0, trap)
    # nobody takes thread 1's piece before it is there
    threads[0].put(0, lambda args, begin, end: (trapped.wait(10), calls.append((0, args, begin, end)))[1])
    threads[2].put(0, lambda args, begin, end: (trapped.wait(10), calls.append((0, args, begin, end)))[1])
    words = shared_memory.words()
    words[RUNNING // 4] = 1

    def work(number: int, thread: Thread) -> None:
        try:
            thread.run(number, 3, 0, 2)
        except ValueError:
            time.sleep(0.02)  # let the others wait
            words[ABORT // 4] = 1
            raise

    errors = together(threads, work, 5)
    assert [type(error) for error in errors] == [type(None), ValueError, type(None)]
    assert {call[0] for call in calls} <= {0}, "step 1 was not begun"
    assert words[SLEEPERS // 4] == 0
    # Cleared as the engine does it, the same instances run again.
    words[ABORT // 4] = 0
    for thread in threads:
        thread.record(calls)
    calls.clear()
    words[RUNNING // 4] = 1
    assert together(threads, lambda number, thread: thread.run(number, 3, 0, 2)) == [None] * 3
    assert sorted(calls) == [(slot, 64, n, n + 1) for slot in range(2) for n in range(3)]


def test_a_step_is_small() -> None:
    one, many = (len(plan_module([], [PlanStep(40, 4096, 640)] * n, 0, True)) for n in (1, 1001))
    assert (many - one) / 1000 < 50
