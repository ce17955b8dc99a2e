"""How threads share the steps of a plan: thread 0 leads, the others help as soon as they are there.

Gives the functions that a plan module calls: `share` (one step, by all who are there), `settle` (wait for what
helpers have in hand), `follow` (what a helper does until the run is over; team_work.py), `finish`.

The leader publishes a step as ranges of units, one range a thread. Whoever has time takes half of what is left
of his own range, then of the others' (guided self-scheduling, Polychronopoulos and Kuck 1987, with stealing).
So a thread that wakes up late, or whose core is busy, delays nobody but by the piece in its hand: there is no
barrier at which all have to arrive, and a run ends when its work is done.
"""

from __future__ import annotations

from .builder import FunctionBuilder
from .module import KERNEL_PARAMS
from .team_words import (
    ABORT,
    AWAKE,
    DONE,
    EXPECTED,
    FIELDS,
    LOST,
    NAP_NS,
    RANGES,
    RUNNING,
    SEQUENCE,
    SLEEPERS,
    WAITING,
    add,
    notify,
    read,
    retry,
    store,
)
from .team_work import follow, work

SPIN = 4000
"""Reads before sleeping: ~10 us, what a futex sleep and wake-up would cost."""
PATIENCE = (1 << 31) - 1
"""Reads of a leader that may not sleep, some seconds: then a helper is lost, and it aborts."""


class Team:
    """The functions of one module; add them to it, call them from `run`."""

    def __init__(self, spin: int = SPIN) -> None:
        self.work = work()
        self.share = _share(self.work)
        self.settle = _settle(spin)
        self.follow = follow(self.work, spin)
        self.finish = _finish()

    @property
    def functions(self) -> tuple[FunctionBuilder, ...]:
        return (self.work, self.share, self.settle, self.follow, self.finish)


def _share(work: FunctionBuilder) -> FunctionBuilder:
    """share(slot, args, stride, tiles, unit, step, wake, nthreads): the leader does a step with who is there.

    unit: tiles that are taken together. wake: the step is long enough to wake sleeping helpers for it."""
    names = ("slot", "args", "stride", "tiles", "unit", "step", "wake", "nthreads")
    b = FunctionBuilder(["i32"] * 8, [], "share", names)
    slot, args, _, tiles, unit, _, wake, nthreads = range(8)
    units, thread, sequence = (b.local("i32", n) for n in ("units", "thread", "sequence"))
    sleepers = b.local("i32", "sleepers")
    read(b, SLEEPERS)
    b.set(sleepers)
    # alone: there is nobody else, or all sleep and the step is over before they wake up
    b.get(nthreads)
    b.i32_const(1)
    b.op("i32.le_u")
    b.get(wake)
    b.op("i32.eqz")
    b.get(sleepers)
    b.i32_const(1)
    b.op("i32.add")
    b.get(nthreads)
    b.op("i32.ge_u")
    b.op("i32.and")
    b.op("i32.or")
    with b.if_():
        b.get(args)
        b.i32_const(0)
        b.get(tiles)
        b.get(slot)
        b.call_indirect(KERNEL_PARAMS)
        b.return_()
    for local, field in enumerate(FIELDS):
        b.i32_const(0)
        b.get(local)
        b.atomic("i32.atomic.store", offset=field)
    b.get(tiles)
    b.get(unit)
    b.op("i32.add")
    b.i32_const(1)
    b.op("i32.sub")
    b.get(unit)
    b.op("i32.div_u")
    b.set(units)
    read(b, SEQUENCE)
    b.i32_const(1)
    b.op("i32.add")
    b.set(sequence)
    with b.loop() as again:
        b.get(thread)
        b.i32_const(6)
        b.op("i32.shl")
        b.get(sequence)
        b.op("i64.extend_i32_u")
        b.i64_const(40)
        b.op("i64.shl")
        for more, bits in ((0, 20), (1, 0)):
            b.get(thread)
            b.i32_const(more)
            b.op("i32.add")
            b.get(units)
            b.op("i32.mul")
            b.get(nthreads)
            b.op("i32.div_u")
            b.op("i64.extend_i32_u")
            b.i64_const(bits)
            b.op("i64.shl")
            b.op("i64.or")
        b.atomic("i64.atomic.store", offset=RANGES)
        b.get(thread)
        b.i32_const(1)
        b.op("i32.add")
        b.tee(thread)
        b.get(nthreads)
        b.op("i32.lt_u")
        b.br_if(again)
    b.i32_const(0)
    b.i32_const(0)
    b.load("i32.load", offset=EXPECTED)
    b.get(units)
    b.op("i32.add")
    b.store("i32.store", offset=EXPECTED)
    b.i32_const(0)
    b.get(sequence)
    b.atomic("i32.atomic.store", offset=SEQUENCE)
    # A sleeper counts itself before `wait32` compares the sequence: it is seen here, or does not fall asleep.
    b.get(wake)
    read(b, SLEEPERS)
    b.i32_const(0)
    b.op("i32.ne")
    b.op("i32.and")
    with b.if_():
        notify(b, SEQUENCE)
    b.i32_const(0)
    b.get(nthreads)
    b.get(sequence)
    b.call(work)
    return b


def _settle(spin: int) -> FunctionBuilder:
    """settle() -> abort word: the leader waits until all that it published is done, or ABORT is set."""
    b = FunctionBuilder([], ["i32"], "settle", ())
    expected, done, spins, patient = (b.local("i32", n) for n in ("expected", "done", "spins", "patient"))
    b.i32_const(0)
    b.load("i32.load", offset=EXPECTED)
    b.set(expected)
    b.i32_const(spin)
    b.set(spins)
    with b.block() as passed, b.loop() as again:
        read(b, DONE)
        b.tee(done)
        b.get(expected)
        b.op("i32.eq")
        b.br_if(passed)
        read(b, ABORT)
        b.br_if(passed)
        retry(b, spins, again)
        read(b, AWAKE)
        with b.if_():
            b.get(patient)
            with b.if_():
                store(b, ABORT, LOST)
            b.i32_const(1)
            b.set(patient)
            b.i32_const(PATIENCE)
            b.set(spins)
            b.br(again)
        store(b, WAITING, 1)
        b.i32_const(0)
        b.get(done)
        b.i64_const(NAP_NS)
        b.atomic("memory.atomic.wait32", offset=DONE)
        b.drop()
        store(b, WAITING, 0)
        b.br(again)
    read(b, ABORT)
    return b


def _finish() -> FunctionBuilder:
    """finish(): the run is over; helpers leave. Work in hand must have been settled."""
    b = FunctionBuilder([], [], "finish", ())
    store(b, RUNNING, 0)
    add(b, SEQUENCE, 1)
    read(b, SLEEPERS)
    with b.if_():
        notify(b, SEQUENCE)
    return b
