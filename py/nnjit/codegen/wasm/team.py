"""How threads share the steps of a plan: thread 0 leads, the others help as soon as they are there.

Gives the functions that a plan module calls: `share` (one step, by all who are there), `settle` (wait for what
helpers have in hand), `follow` (what a helper does until the run is over), `finish`.

The leader publishes a step as ranges of units, one range a thread. Whoever has time takes half of what is left
of his own range, then of the others' (guided self-scheduling, Polychronopoulos and Kuck 1987, with stealing).
So a thread that wakes up late, or whose core is busy, delays nobody but by the piece in its hand: there is no
barrier at which all have to arrive, and a run ends when its work is done.

A range is one 64-bit word: the step's number (24 bits), next unit and end (20 bits each). A helper takes from it by
compare-and-exchange, so it can never take from another step than the one whose fields it has read: the leader
writes a step's fields only when all ranges of the step before are empty.
"""

from __future__ import annotations

from .builder import FunctionBuilder, Label
from .module import KERNEL_PARAMS

# Control words at fixed addresses (i32). The first line is written by the leader, DONE by all.
SEQUENCE = 64  # number of the published step; helpers sleep on it
RUNNING = 68  # the run is not over; set by the engine before it calls the threads
ABORT = 72  # not 0: leave; 1: a thread has trapped, LOST: one does not answer
LOST = 2
SLEEPERS = 76  # helpers that may sleep on SEQUENCE; if none, the leader saves the notify
SLOT, ARGS, STRIDE, TILES, UNIT, STEP = 80, 84, 88, 92, 96, 100  # the published step
FIELDS = (SLOT, ARGS, STRIDE, TILES, UNIT, STEP)
DONE = 128  # units done in this run, modulo 2**32
WAITING = 132  # the leader may sleep on DONE
AWAKE = 136  # the leader may not sleep: a page's own thread has no wait; set by the engine for the run
EXPECTED = 192  # units published in this run; the leader's own
CURRENT = 256  # + 4 * thread, up to 128 threads: the step a thread is in, so that a trap can be named
RANGES = 1024  # + 64 * thread: a range, in a cache line of its own
CONTROL_END = RANGES + 64 * 128

MAX_UNITS = (1 << 20) - 1
SPIN = 4000  # reads before sleeping: ~10 us, what a futex sleep and wake-up would cost
PATIENCE = (
    1 << 31
) - 1  # reads of a leader that may not sleep, some seconds: then a helper is lost, and it aborts
NAP_NS = 50_000_000  # sleepers look at ABORT this often even if nobody wakes them


class Team:
    """The functions of one module; add them to it, call them from `run`."""

    def __init__(self, spin: int = SPIN) -> None:
        self.work = _work()
        self.share = _share(self.work)
        self.settle = _settle(spin)
        self.follow = _follow(self.work, spin)
        self.finish = _finish()

    @property
    def functions(self) -> tuple[FunctionBuilder, ...]:
        return (self.work, self.share, self.settle, self.follow, self.finish)


def _work() -> FunctionBuilder:
    """work(thread, nthreads, sequence): pieces of the published step until none is left to take."""
    b = FunctionBuilder(["i32"] * 3, [], "work", ("thread", "nthreads", "sequence"))
    thread, nthreads, sequence = range(3)
    slot, args, tiles, unit = (b.local("i32", n) for n in ("slot", "args", "tiles", "unit"))
    whose, left, at, first, end, take = (
        b.local("i32", n) for n in ("whose", "left", "at", "first", "end", "take")
    )
    word, found = b.local("i64", "word"), b.local("i64", "found")
    for field, local in ((SLOT, slot), (ARGS, args), (TILES, tiles), (UNIT, unit)):
        _read(b, field)
        b.set(local)
    b.get(args)
    b.get(thread)
    _read(b, STRIDE)
    b.op("i32.mul")
    b.op("i32.add")
    b.set(args)
    b.get(sequence)
    b.i32_const(0xFFFFFF)
    b.op("i32.and")
    b.set(sequence)
    b.get(thread)
    b.set(whose)
    b.get(nthreads)
    b.set(left)
    with b.loop() as next_range:
        b.get(whose)
        b.i32_const(6)
        b.op("i32.shl")
        b.set(at)
        b.get(at)
        b.atomic("i64.atomic.load", offset=RANGES)
        b.set(word)
        with b.block() as empty, b.loop() as again:
            b.get(word)
            b.i64_const(40)
            b.op("i64.shr_u")
            b.op("i32.wrap_i64")
            b.get(sequence)
            b.op("i32.ne")
            with b.if_():
                b.return_()
            _bits(b, word, 20)
            b.set(first)
            _bits(b, word, 0)
            b.set(end)
            b.get(first)
            b.get(end)
            b.op("i32.ge_u")
            b.br_if(empty)
            # half of what is left, rounded up
            b.get(end)
            b.get(first)
            b.op("i32.sub")
            b.i32_const(1)
            b.op("i32.add")
            b.i32_const(1)
            b.op("i32.shr_u")
            b.set(take)
            b.get(at)
            b.get(word)
            b.get(word)
            b.get(take)
            b.op("i64.extend_i32_u")
            b.i64_const(20)
            b.op("i64.shl")
            b.op("i64.add")
            b.atomic("i64.atomic.rmw.cmpxchg", offset=RANGES)
            b.tee(found)
            b.get(word)
            b.op("i64.ne")
            with b.if_():
                b.get(found)
                b.set(word)
                b.br(again)
            b.get(args)
            b.get(first)
            b.get(unit)
            b.op("i32.mul")
            _least_end(b, first, take, unit, tiles, end)
            b.get(slot)
            b.call_indirect(KERNEL_PARAMS)
            b.i32_const(0)
            b.get(take)
            b.atomic("i32.atomic.rmw.add", offset=DONE)
            b.drop()
            _read(b, WAITING)
            with b.if_():
                _notify(b, DONE)
            b.get(at)
            b.atomic("i64.atomic.load", offset=RANGES)
            b.set(word)
            b.br(again)
        b.get(whose)
        b.i32_const(1)
        b.op("i32.add")
        b.tee(whose)
        b.get(nthreads)
        b.op("i32.eq")
        with b.if_():
            b.i32_const(0)
            b.set(whose)
        b.get(left)
        b.i32_const(1)
        b.op("i32.sub")
        b.tee(left)
        b.br_if(next_range)
    return b


def _least_end(b: FunctionBuilder, first: int, take: int, unit: int, tiles: int, end: int) -> None:
    """Pushes min((first + take) * unit, tiles); `end` is free to be overwritten."""
    b.get(first)
    b.get(take)
    b.op("i32.add")
    b.get(unit)
    b.op("i32.mul")
    b.tee(end)
    b.get(tiles)
    b.get(end)
    b.get(tiles)
    b.op("i32.lt_u")
    b.select()


def _share(work: FunctionBuilder) -> FunctionBuilder:
    """share(slot, args, stride, tiles, unit, step, wake, nthreads): the leader does a step with who is there.

    unit: tiles that are taken together. wake: the step is long enough to wake sleeping helpers for it."""
    names = ("slot", "args", "stride", "tiles", "unit", "step", "wake", "nthreads")
    b = FunctionBuilder(["i32"] * 8, [], "share", names)
    slot, args, _, tiles, unit, _, wake, nthreads = range(8)
    units, thread, sequence = (b.local("i32", n) for n in ("units", "thread", "sequence"))
    sleepers = b.local("i32", "sleepers")
    _read(b, SLEEPERS)
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
    _read(b, SEQUENCE)
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
    _read(b, SLEEPERS)
    b.i32_const(0)
    b.op("i32.ne")
    b.op("i32.and")
    with b.if_():
        _notify(b, SEQUENCE)
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
        _read(b, DONE)
        b.tee(done)
        b.get(expected)
        b.op("i32.eq")
        b.br_if(passed)
        _read(b, ABORT)
        b.br_if(passed)
        _spin(b, spins, again)
        _read(b, AWAKE)
        with b.if_():
            b.get(patient)
            with b.if_():
                _store(b, ABORT, LOST)
            b.i32_const(1)
            b.set(patient)
            b.i32_const(PATIENCE)
            b.set(spins)
            b.br(again)
        _store(b, WAITING, 1)
        b.i32_const(0)
        b.get(done)
        b.i64_const(NAP_NS)
        b.atomic("memory.atomic.wait32", offset=DONE)
        b.drop()
        _store(b, WAITING, 0)
        b.br(again)
    _read(b, ABORT)
    return b


def _follow(work: FunctionBuilder, spin: int) -> FunctionBuilder:
    """follow(thread, nthreads): help with each step that is published until the run is over."""
    b = FunctionBuilder(["i32"] * 2, [], "follow", ("thread", "nthreads"))
    thread, nthreads = range(2)
    sequence, seen, spins = (b.local("i32", n) for n in ("sequence", "seen", "spins"))
    _read(b, SEQUENCE)
    b.i32_const(1)
    b.op("i32.sub")
    b.set(seen)
    b.i32_const(spin)
    b.set(spins)
    with b.loop() as again:
        _read(b, RUNNING)
        b.op("i32.eqz")
        _read(b, ABORT)
        b.op("i32.or")
        with b.if_():
            b.return_()
        _read(b, SEQUENCE)
        b.tee(sequence)
        b.get(seen)
        b.op("i32.eq")
        with b.if_():
            _spin(b, spins, again)
            _add(b, SLEEPERS, 1)
            b.i32_const(0)
            b.get(seen)
            b.i64_const(NAP_NS)
            b.atomic("memory.atomic.wait32", offset=SEQUENCE)
            b.drop()
            _add(b, SLEEPERS, -1)
            b.i32_const(spin)
            b.set(spins)
            b.br(again)
        b.get(sequence)
        b.set(seen)
        b.get(thread)
        b.i32_const(2)
        b.op("i32.shl")
        _read(b, STEP)
        b.store("i32.store", offset=CURRENT)
        b.get(thread)
        b.get(nthreads)
        b.get(sequence)
        b.call(work)
        b.i32_const(spin)
        b.set(spins)
        b.br(again)
    return b


def _finish() -> FunctionBuilder:
    """finish(): the run is over; helpers leave. Work in hand must have been settled."""
    b = FunctionBuilder([], [], "finish", ())
    _store(b, RUNNING, 0)
    _add(b, SEQUENCE, 1)
    _read(b, SLEEPERS)
    with b.if_():
        _notify(b, SEQUENCE)
    return b


def _spin(b: FunctionBuilder, spins: int, again: Label) -> None:
    """Back to `again` until `spins` has run out."""
    b.get(spins)
    with b.if_():
        b.get(spins)
        b.i32_const(1)
        b.op("i32.sub")
        b.set(spins)
        b.br(again)


def _bits(b: FunctionBuilder, word: int, shift: int) -> None:
    """Pushes 20 bits of `word`."""
    b.get(word)
    b.i64_const(shift)
    b.op("i64.shr_u")
    b.op("i32.wrap_i64")
    b.i32_const(MAX_UNITS)
    b.op("i32.and")


def _read(b: FunctionBuilder, address: int) -> None:
    b.i32_const(0)
    b.atomic("i32.atomic.load", offset=address)


def _store(b: FunctionBuilder, address: int, value: int) -> None:
    b.i32_const(0)
    b.i32_const(value)
    b.atomic("i32.atomic.store", offset=address)


def _add(b: FunctionBuilder, address: int, amount: int) -> None:
    b.i32_const(0)
    b.i32_const(amount)
    b.atomic("i32.atomic.rmw.add", offset=address)
    b.drop()


def _notify(b: FunctionBuilder, address: int) -> None:
    """Wakes all who sleep on a word."""
    b.i32_const(0)
    b.i32_const(-1)
    b.atomic("memory.atomic.notify", offset=address)
    b.drop()
