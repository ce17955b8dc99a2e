"""`run` on several threads: steps keep their order, nobody waits for who sleeps, an abort frees who waits."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import wasmtime

from nnjit.codegen.wasm import team
from nnjit.codegen.wasm.builder import FunctionBuilder
from nnjit.codegen.wasm.module import kernel_function
from nnjit.codegen.wasm.planfn import PlanStep, plan_module
from nnjit.codegen.wasm.team_words import ABORT, AWAKE, LOST, RUNNING, SLEEPERS

from .conftest import make_memory
from .plan_threads import BASE, TABLE, Call, Thread, lead, together


def test_each_thread_has_its_own_operands(engine: Any, shared_memory: Any) -> None:
    steps = [PlanStep(1, 4096, 64, stride=32)]
    module = wasmtime.Module(engine, plan_module([], steps, 0, shared=True))
    threads = [Thread(engine, module, shared_memory) for _ in range(3)]
    seen: list[tuple[int, int]] = []
    other = threading.Event()  # the leader's first piece takes until somebody else has one

    def called(number: int, args: int) -> None:
        if number:
            other.set()
        else:
            other.wait(60)
        seen.append((number, args))

    for number, thread in enumerate(threads):
        thread.put(1, lambda args, begin, end, n=number: called(n, args))
    words = shared_memory.words()
    words[RUNNING // 4] = 1
    assert together(threads, lambda n, t: t.run(n, 3, 0, 1)) == [None] * 3
    assert {args for _, args in seen} > {4096} and all(args == 4096 + 32 * n for n, args in seen)


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
            meet.wait(60)
            thread.run(number, nthreads, 0, count)
            meet.wait(60)

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
            meet.wait(60)
            thread.run(number, nthreads, step, step + 1)
            meet.wait(60)

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
    threads[1].put(0, lambda args, begin, end: (begun.set(), late.wait(60), seen.append((0, 1)))[2])
    threads[0].put(0, lambda args, begin, end: (begun.wait(60), seen.append((0, 0)))[1])
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
    threads[0].put(0, lambda args, begin, end: void(begun.wait(60)))
    threads[1].put(0, lambda args, begin, end: void(begun.set(), over.wait(10 if lost else 0.2)))
    words = memory.words()
    words[RUNNING // 4] = words[AWAKE // 4] = 1
    helper = threading.Thread(target=threads[1].run, args=(1, 2, 0, 2), daemon=True)
    helper.start()
    threads[0].run(0, 2, 0, 2)
    assert words[ABORT // 4] == (LOST if lost else 0)
    assert calls == ([] if lost else [(1, 64, 0, 1)])
    over.set()
    helper.join(60)
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
    threads[0].put(0, lambda args, begin, end: (trapped.wait(60), calls.append((0, args, begin, end)))[1])
    threads[2].put(0, lambda args, begin, end: (trapped.wait(60), calls.append((0, args, begin, end)))[1])
    words = shared_memory.words()
    words[RUNNING // 4] = 1

    def work(number: int, thread: Thread) -> None:
        try:
            thread.run(number, 3, 0, 2)
        except ValueError:
            time.sleep(0.02)  # let the others wait
            words[ABORT // 4] = 1
            raise

    errors = together(threads, work)
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


def void(*_: object) -> None:
    """What callbacks return."""
