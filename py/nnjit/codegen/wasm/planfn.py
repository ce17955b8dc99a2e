"""Compiles the steps of a plan to one function: `run(thread, nthreads, first, last)`.

Takes steps (table slot, address of the operand pointers, tiles, flags), returns the function that every
thread calls to do steps first..last-1 together, and `plan_module`, which links it with the plan's kernels.

The steps are straight code of thread 0, with a loop around those that repeat, each behind one unsigned compare for
first/last: its numbers are constants, and a thousand guards cost about a microsecond a call. The other threads wait
for what it shares: see team.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from ...errors import CompileError
from .builder import FunctionBuilder, Label
from .module import KERNEL_PARAMS, ModuleBuilder
from .team import SPIN, Team
from .team_words import CURRENT, DONE, EXPECTED, MAX_UNITS

MAX_TILES = 1 << 25  # times up to 128 threads, fits an unsigned i32


class PlanStep(NamedTuple):
    """One step: call table[slot](args, begin, end) over `tiles` tiles.

    parallel: threads share it; otherwise thread 0 does all.
    barrier: the step is done before the next begins.
    stride: bytes from one thread's operand pointers to the next one's; 0 where all have the same.
    unit: tiles that a thread takes together, at least. wake: long enough to wake sleeping threads for it.
    loop: neighbours with the same number (not 0) are a loop's body: all of them `times` times; advance: bytes from one
    turn's operand pointers to the next one's.
    """

    slot: int
    args: int
    tiles: int
    parallel: bool = True
    barrier: bool = True
    stride: int = 0
    unit: int = 1
    wake: bool = True
    loop: int = 0
    times: int = 1
    advance: int = 0


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

    When run returns on thread 0, steps first..last-1 are done, unless the abort word is set; the other threads
    return soon after. Unshared: one thread, which does everything; thread and nthreads are ignored.
    """
    for step in steps:
        if not 0 <= step.tiles < MAX_TILES:
            raise CompileError(
                f"a step of {step.tiles} tiles; the limit is {MAX_TILES - 1}", kernel=str(step.slot)
            )
    names = ("thread", "nthreads", "first", "last")
    run = FunctionBuilder(["i32"] * 4, [], "run", names)
    if shared:
        team = Team(spin)
        for function in team.functions:
            module.add(function)
        _shared_steps(run, steps, team)
    else:
        _serial_steps(run, steps)
    return module.add(run, export="run")


def _serial_steps(run: FunctionBuilder, steps: Sequence[PlanStep]) -> None:
    count = _begin(run)
    for number, step, turn in _in_order(run, steps):
        with _guard(run, number, count):
            run.i32_const(CURRENT)
            run.i32_const(number)
            run.load("i32.store")
            _call_all(run, step, turn)


def _in_order(run: FunctionBuilder, steps: Sequence[PlanStep]) -> Iterator[tuple[int, PlanStep, int]]:
    """(number, step, local with the turn or -1) of each step; a loop's are emitted inside it.

    A loop without a step of first..last-1 is passed over; of one with some, these are done in all turns."""
    first, last = 2, 3
    for loop, group in groupby(enumerate(steps), lambda item: item[1].loop):
        body = list(group)
        if not loop:
            for number, step in body:
                yield number, step, -1
            continue
        turn = run.local("i32", f"turn{loop}")
        run.get(first)
        run.i32_const(body[-1][0])
        run.op("i32.le_s")
        run.get(last)
        run.i32_const(body[0][0])
        run.op("i32.gt_s")
        run.op("i32.and")
        with run.if_():
            run.i32_const(0)
            run.set(turn)
            with run.loop() as again:
                for number, step in body:
                    yield number, step, turn
                run.get(turn)
                run.i32_const(1)
                run.op("i32.add")
                run.tee(turn)
                run.i32_const(body[0][1].times)
                run.op("i32.lt_u")
                run.br_if(again)
        run.release(turn)


def _shared_steps(run: FunctionBuilder, steps: Sequence[PlanStep], team: Team) -> None:
    thread, nthreads = 0, 1
    run.get(thread)
    with run.if_():
        run.get(thread)
        run.get(nthreads)
        run.call(team.follow)
        run.return_()
    count = _begin(run)
    for word in (DONE, EXPECTED):  # nothing is in hand between runs
        run.i32_const(0)
        run.i32_const(0)
        run.atomic("i32.atomic.store", offset=word)
    with run.block() as aborted:
        for number, step, turn in _in_order(run, steps):
            with _guard(run, number, count):
                run.i32_const(CURRENT)
                run.i32_const(number)
                run.load("i32.store")
                if step.parallel and step.tiles:
                    # a unit must not be so small that their number does not fit its field
                    unit = max(step.unit, -(-step.tiles // MAX_UNITS), 1)
                    run.i32_const(step.slot)
                    _args(run, step, turn)
                    for value in (step.stride, step.tiles, unit, number, step.wake):
                        run.i32_const(int(value))
                    run.get(nthreads)
                    run.call(team.share)
                elif step.tiles:
                    _call_all(run, step, turn)
                if step.barrier:
                    run.call(team.settle)
                    run.br_if(aborted)
        run.call(team.settle)
        run.drop()
    run.call(team.finish)


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


def _args(run: FunctionBuilder, step: PlanStep, turn: int) -> None:
    """Pushes the address of a step's operand pointers."""
    run.i32_const(step.args)
    if turn >= 0 and step.advance:
        run.get(turn)
        run.i32_const(step.advance)
        run.op("i32.mul")
        run.op("i32.add")


def _call_all(run: FunctionBuilder, step: PlanStep, turn: int) -> None:
    """Do all tiles of a step on this thread."""
    _args(run, step, turn)
    run.i32_const(0)
    run.i32_const(step.tiles)
    run.i32_const(step.slot)
    run.call_indirect(KERNEL_PARAMS)
