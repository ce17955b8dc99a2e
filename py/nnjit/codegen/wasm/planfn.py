"""Compiles the steps of a plan to one function: `run(thread, nthreads, first, last)`.

Takes steps (table slot, address of the operand pointers, tiles, flags), returns the function that every
thread calls to do steps first..last-1 together, and `plan_module`, which links it with the plan's kernels.

The steps are straight code, each behind one unsigned compare for first/last: its numbers are constants, no
table in memory has to be kept in step with the code, and a thousand guards cost about a microsecond a call.
What does not depend on the step (a thread's share, the barrier) is a function of its own, so that a step is
about 40 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ...errors import CompileError
from .builder import FunctionBuilder, Label
from .module import KERNEL_PARAMS, ModuleBuilder

# Control words at fixed addresses (i32, in one cache line of their own).
ARRIVED = 64  # threads that have reached the current barrier
GENERATION = 68  # barriers passed, modulo 2**32; sleepers wait on it
ABORT = 72  # not 0: leave the next or current barrier, and run
SLEEPERS = 76  # threads that may sleep on GENERATION; if none, the last to arrive saves the notify
CURRENT = 256  # + 4 * thread, up to 128 threads: the step a thread is in, so that a trap can be named

MAX_TILES = 1 << 25  # times up to 128 threads, fits an unsigned i32
SPIN = 4000  # reads of GENERATION before sleeping: ~10 us, what a futex sleep and wake-up would cost
NAP_NS = 50_000_000  # sleepers look at ABORT this often even if nobody wakes them


class PlanStep(NamedTuple):
    """One step: call table[slot](args, begin, end) over `tiles` tiles.

    parallel: every thread takes its share; otherwise thread 0 does all.
    barrier: all threads wait for this step before any begins the next.
    stride: bytes from one thread's operand pointers to the next one's; 0 where all have the same.
    """

    slot: int
    args: int
    tiles: int
    parallel: bool = True
    barrier: bool = True
    stride: int = 0


def plan_module(
    kernels: Sequence[FunctionBuilder],
    steps: Iterable[PlanStep],
    table_base: int,
    shared: bool,
    spin: int = SPIN,
    name: str = "plan",
) -> bytes:
    """One module: kernel i in table slot table_base + i, `run` exported; imports env.memory, env.table."""
    module = ModuleBuilder(name)
    module.import_memory("env", "memory", shared=shared)
    module.import_table("env", "table", table_base + len(kernels))
    for kernel in kernels:
        module.add(kernel)
    if kernels:
        module.elements(table_base, kernels)
    add_run(module, list(steps), shared, spin)
    return module.build()


def add_run(
    module: ModuleBuilder, steps: Sequence[PlanStep], shared: bool, spin: int = SPIN
) -> FunctionBuilder:
    """Add `run` to a module that imports a memory and a table, and export it.

    When run returns on any thread, all threads have finished steps first..last-1 (a step without a barrier at
    the end gets one), unless the abort word is set. Unshared: one thread, which does everything; thread and
    nthreads are ignored.
    """
    for step in steps:
        if not 0 <= step.tiles < MAX_TILES:
            raise CompileError(
                f"a step of {step.tiles} tiles; the limit is {MAX_TILES - 1}", kernel=str(step.slot)
            )
    names = ("thread", "nthreads", "first", "last")
    run = FunctionBuilder(["i32"] * 4, [], "run", names)
    if shared:
        barrier = module.add(_barrier(spin))
        share = module.add(_share())
        _parallel_steps(run, steps, barrier, share)
    else:
        _serial_steps(run, steps)
    return module.add(run, export="run")


def _serial_steps(run: FunctionBuilder, steps: Sequence[PlanStep]) -> None:
    count = _begin(run)
    for number, step in enumerate(steps):
        with _guard(run, number, count):
            run.i32_const(CURRENT)
            run.i32_const(number)
            run.load("i32.store")
            _call_all(run, step)


def _parallel_steps(
    run: FunctionBuilder, steps: Sequence[PlanStep], barrier: FunctionBuilder, share: FunctionBuilder
) -> None:
    count = _begin(run)
    thread, nthreads = 0, 1
    current = run.local("i32", "current")
    run.get(thread)
    run.i32_const(2)
    run.op("i32.shl")
    run.set(current)
    # 1 while the last step done has not been followed by a barrier.
    open_step = run.local("i32", "open") if not all(step.barrier for step in steps) else None
    with run.block() as aborted:
        for number, step in enumerate(steps):
            with _guard(run, number, count):
                run.get(current)
                run.i32_const(number)
                run.load("i32.store", offset=CURRENT)
                if step.parallel:
                    run.i32_const(step.slot)
                    run.i32_const(step.args)
                    if step.stride:
                        run.get(thread)
                        run.i32_const(step.stride)
                        run.op("i32.mul")
                        run.op("i32.add")
                    run.i32_const(step.tiles)
                    run.get(thread)
                    run.get(nthreads)
                    run.call(share)
                else:
                    run.get(thread)
                    run.op("i32.eqz")
                    with run.if_():
                        _call_all(run, step)
                if step.barrier:
                    run.get(nthreads)
                    run.call(barrier)
                    run.br_if(aborted)
                if open_step is not None:
                    run.i32_const(0 if step.barrier else 1)
                    run.set(open_step)
        if open_step is not None:
            run.get(open_step)
            with run.if_():
                run.get(nthreads)
                run.call(barrier)
                run.drop()


def _begin(run: FunctionBuilder) -> int:
    """count = last - first, 0 if that is negative; returns the local."""
    first, last = 2, 3
    count = run.local("i32", "count")
    run.get(last)
    run.get(first)
    run.op("i32.sub")
    run.i32_const(0)
    run.get(last)
    run.get(first)
    run.op("i32.gt_s")
    run.select()
    run.set(count)
    return count


def _guard(run: FunctionBuilder, number: int, count: int) -> Label:
    """if first <= number < last, in one compare: number - first < count, unsigned."""
    first = 2
    run.i32_const(number)
    run.get(first)
    run.op("i32.sub")
    run.get(count)
    run.op("i32.lt_u")
    return run.if_()


def _call_all(run: FunctionBuilder, step: PlanStep) -> None:
    """Do all tiles of a step on this thread."""
    run.i32_const(step.args)
    run.i32_const(0)
    run.i32_const(step.tiles)
    run.i32_const(step.slot)
    run.call_indirect(KERNEL_PARAMS)


def _share() -> FunctionBuilder:
    """share(slot, args, tiles, thread, nthreads): tiles t/n .. tiles (t+1)/n of a step, if any."""
    b = FunctionBuilder(["i32"] * 5, [], "share", ("slot", "args", "tiles", "thread", "nthreads"))
    slot, args, tiles, thread, nthreads = range(5)
    begin, end = b.local("i32", "begin"), b.local("i32", "end")
    for bound, more in ((begin, 0), (end, 1)):
        b.get(thread)
        if more:
            b.i32_const(more)
            b.op("i32.add")
        b.get(tiles)
        b.op("i32.mul")
        b.get(nthreads)
        b.op("i32.div_u")
        b.set(bound)
    b.get(begin)
    b.get(end)
    b.op("i32.ne")
    with b.if_():
        b.get(args)
        b.get(begin)
        b.get(end)
        b.get(slot)
        b.call_indirect(KERNEL_PARAMS)
    return b


def _barrier(spin: int) -> FunctionBuilder:
    """barrier(nthreads) -> abort word: return when all threads have called it, or when ABORT is set.

    The generation is read before arriving, so the last to arrive cannot move it on unseen; it empties ARRIVED
    before it moves the generation on, so that the next barrier may begin at once. A sleeper counts itself
    before `wait32` compares the generation: either the last thread sees it and notifies, or `wait32` sees the
    new generation and does not sleep.
    """
    b = FunctionBuilder(["i32"], ["i32"], "barrier", ("nthreads",))
    nthreads = 0
    generation, spins = b.local("i32", "generation"), b.local("i32", "spins")
    b.get(nthreads)
    b.i32_const(1)
    b.op("i32.le_u")
    with b.if_():
        b.i32_const(0)
        b.return_()
    _read(b, GENERATION)
    b.set(generation)
    _add(b, ARRIVED, 1)
    b.i32_const(1)
    b.op("i32.add")
    b.get(nthreads)
    b.op("i32.eq")
    with b.if_():
        b.i32_const(0)
        b.i32_const(0)
        b.atomic("i32.atomic.store", offset=ARRIVED)
        _add(b, GENERATION, 1)
        b.drop()
        _read(b, SLEEPERS)
        with b.if_():
            b.i32_const(0)
            b.i32_const(-1)
            b.atomic("memory.atomic.notify", offset=GENERATION)
            b.drop()
        _read(b, ABORT)
        b.return_()
    with b.block() as passed:
        b.i32_const(spin)
        b.set(spins)
        with b.loop() as again:
            _read(b, GENERATION)
            b.get(generation)
            b.op("i32.ne")
            b.br_if(passed)
            _read(b, ABORT)
            b.br_if(passed)
            b.get(spins)
            with b.if_():
                b.get(spins)
                b.i32_const(1)
                b.op("i32.sub")
                b.set(spins)
                b.br(again)
            _add(b, SLEEPERS, 1)
            b.drop()
            b.i32_const(0)
            b.get(generation)
            b.i64_const(NAP_NS)
            b.atomic("memory.atomic.wait32", offset=GENERATION)
            b.drop()
            _add(b, SLEEPERS, -1)
            b.drop()
            b.br(again)
    _read(b, ABORT)
    return b


def _read(b: FunctionBuilder, address: int) -> None:
    b.i32_const(0)
    b.atomic("i32.atomic.load", offset=address)


def _add(b: FunctionBuilder, address: int, amount: int) -> None:
    """Leaves the old value on the stack."""
    b.i32_const(0)
    b.i32_const(amount)
    b.atomic("i32.atomic.rmw.add", offset=address)
