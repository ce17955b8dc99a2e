"""`run`: which steps it calls, with which tiles; and that its barrier holds between real threads.

Threads are Python threads, each with an instance of its own on one shared memory, as workers in a page have;
wasmtime's calls release the GIL.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from nnjit.codegen.wasm import planfn
from nnjit.codegen.wasm.builder import FunctionBuilder
from nnjit.codegen.wasm.module import ModuleBuilder, kernel_function
from nnjit.codegen.wasm.planfn import ABORT, ARRIVED, GENERATION, MAX_TILES, SLEEPERS, PlanStep, plan_module
from nnjit.errors import CompileError

BASE = 3
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
    assert calls == [(1, 64, 0, 5), (3, 192, 0, 7)], "a share of no tiles is not called"


@settings(max_examples=200, deadline=None)
@given(st.integers(0, MAX_TILES - 1), st.integers(1, 128), st.data())
def test_shares_cover_all_tiles(
    share: Callable[[int, int, int], Call | None], tiles: int, n: int, data: Any
) -> None:
    thread = data.draw(st.integers(0, n - 1))
    expected = tiles * thread // n, tiles * (thread + 1) // n
    called = share(tiles, thread, n)
    assert called == (None if expected[0] == expected[1] else (5, 4096, *expected))


@pytest.fixture(scope="module")
def share(engine: Any) -> Callable[[int, int, int], Call | None]:
    """share(tiles, thread, nthreads): how the kernel is called."""
    m = ModuleBuilder()
    m.table(SLOTS, export="table")
    m.add(planfn._share(), export="share")
    store = wasmtime.Store(engine)
    exports = wasmtime.Instance(store, wasmtime.Module(engine, m.build()), []).exports(store)
    calls: list[Call] = []
    kernel = wasmtime.Func(store, KERNEL_TYPE, lambda args, begin, end: calls.append((5, args, begin, end)))
    exports["table"].set(store, 5, kernel)

    def call(tiles: int, thread: int, nthreads: int) -> Call | None:
        calls.clear()
        exports["share"](store, 5, 4096, tiles, thread, nthreads)
        return calls[0] if calls else None

    return call


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
    there, back, first, second = 1024, 1088, 4096, 4096 + 4 * tiles
    words = memory.words()
    words[there // 4], words[there // 4 + 1] = first, second
    words[back // 4], words[back // 4 + 1] = second, first
    steps = [PlanStep(BASE, back if n % 2 else there, tiles, **flags) for n in range(count)]
    return wasmtime.Module(engine, plan_module([reverse_kernel(tiles)], steps, BASE, True, spin)), words


@pytest.mark.parametrize("spin", [0, 4000])
@pytest.mark.parametrize("nthreads", [2, 3, 5])
def test_barrier_holds_step_after_step_and_run_after_run(
    engine: Any, shared_memory: Any, nthreads: int, spin: int
) -> None:
    count, tiles, runs = 100, 60, 20
    module, words = ping_pong(engine, shared_memory, count, tiles, spin)
    threads = [Thread(engine, module, shared_memory) for _ in range(nthreads)]

    def work(number: int, thread: Thread) -> None:
        for _ in range(runs):
            thread.run(number, nthreads, 0, count)

    assert together(threads, work) == [None] * nthreads
    assert [words[1024 + i] for i in range(tiles)] == [count * runs] * tiles
    assert words[GENERATION // 4] == count * runs
    assert (words[ARRIVED // 4], words[ABORT // 4], words[SLEEPERS // 4]) == (0, 0, 0)


@pytest.mark.parametrize("nthreads", [2, 3])
def test_barriers_right_behind_one_another(engine: Any, shared_memory: Any, nthreads: int) -> None:
    """Steps without work: threads reach the next barrier while others are still leaving the last."""
    count, runs = 500, 100
    steps = [PlanStep(BASE, 0, 0)] * count
    module = wasmtime.Module(engine, plan_module([], steps, BASE, True, spin=2000))
    threads = [Thread(engine, module, shared_memory) for _ in range(nthreads)]

    def work(number: int, thread: Thread) -> None:
        for _ in range(runs):
            thread.run(number, nthreads, 0, count)

    assert together(threads, work) == [None] * nthreads
    words = shared_memory.words()
    assert (words[ARRIVED // 4], words[GENERATION // 4]) == (0, count * runs)


def test_ranges_meet_at_their_ends(engine: Any, shared_memory: Any) -> None:
    """Steps one by one, as profiling does, without barriers of their own: run ends with one."""
    count, tiles, nthreads = 100, 60, 3
    module, words = ping_pong(engine, shared_memory, count, tiles, 100, barrier=False)
    threads = [Thread(engine, module, shared_memory) for _ in range(nthreads)]

    def work(number: int, thread: Thread) -> None:
        for step in range(count):
            thread.run(number, nthreads, step, step + 1)
        thread.run(number, nthreads, 7, 7)

    assert together(threads, work) == [None] * nthreads
    assert [words[1024 + i] for i in range(tiles)] == [count] * tiles
    assert words[GENERATION // 4] == count, "none for the empty range"


def test_barrier_flag_false_lets_threads_run_on(engine: Any, shared_memory: Any) -> None:
    steps = [PlanStep(0, 64, 4, barrier=False), PlanStep(1, 64, 4), PlanStep(2, 64, 1, parallel=False)]
    module = wasmtime.Module(engine, plan_module([], steps, 0, shared=True))
    threads = [Thread(engine, module, shared_memory) for _ in range(2)]
    seen: list[tuple[int, int]] = []
    for number, thread in enumerate(threads):
        for slot in range(3):
            thread.put(slot, lambda args, begin, end, at=(slot, number): seen.append(at))
    late = threading.Event()
    # Thread 1 begins step 0 only when thread 0 is in step 1: without a barrier between them, it gets there.
    threads[1].put(0, lambda args, begin, end: (late.wait(10), seen.append((0, 1)))[1])
    threads[0].put(1, lambda args, begin, end: (late.set(), seen.append((1, 0)))[1])
    assert together(threads, lambda number, thread: thread.run(number, 2, 0, 3)) == [None, None]
    assert late.is_set()
    assert sorted(seen[:4]) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert seen[4:] == [(2, 0)], "after the barrier, and on thread 0 alone"
    assert shared_memory.words()[GENERATION // 4] == 2


@pytest.mark.parametrize("spin", [0, 10_000])
def test_abort_frees_those_who_wait(engine: Any, shared_memory: Any, spin: int) -> None:
    """A kernel traps on one of three threads; its owner sets the abort word; the others come back."""
    steps = [PlanStep(0, 64, 3), PlanStep(1, 64, 3)]
    module = wasmtime.Module(engine, plan_module([], steps, 0, shared=True, spin=spin))
    threads = [Thread(engine, module, shared_memory) for _ in range(3)]
    calls: list[Call] = []
    for thread in threads:
        thread.record(calls)

    def trap(args: int, begin: int, end: int) -> None:
        raise ValueError("trap")

    threads[1].put(0, trap)
    words = shared_memory.words()

    def work(number: int, thread: Thread) -> None:
        try:
            thread.run(number, 3, 0, 2)
        except ValueError:
            time.sleep(0.02)  # let the others wait
            words[ABORT // 4] = 1
            raise

    errors = together(threads, work, 5)
    assert [type(error) for error in errors] == [type(None), ValueError, type(None)]
    assert sorted(calls) == [(0, 64, 0, 1), (0, 64, 2, 3)], "step 1 was not begun"
    assert words[SLEEPERS // 4] == 0
    # Cleared as the engine does it, the same instances run again.
    words[ARRIVED // 4] = words[ABORT // 4] = 0
    threads[1].record(calls)
    calls.clear()
    assert together(threads, lambda number, thread: thread.run(number, 3, 0, 2)) == [None] * 3
    assert sorted(calls) == [(slot, 64, n, n + 1) for slot in range(2) for n in range(3)]


def test_a_step_is_small() -> None:
    one, many = (len(plan_module([], [PlanStep(40, 4096, 640)] * n, 0, True)) for n in (1, 1001))
    assert (many - one) / 1000 < 45
