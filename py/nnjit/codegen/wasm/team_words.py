"""The control words through which threads share a plan's steps, and the instructions that read and change them.

Addresses in a session's memory, all i32 but the ranges. Every access is atomic except the leader's own EXPECTED.
"""

from __future__ import annotations

from .builder import FunctionBuilder, Label

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
LENGTHS = (
    768  # + 8 * number, i64, up to 32: lengths of the request that runs, in a plan with room; 0: none is told
)
RANGES = 1024  # + 64 * thread: a range, in a cache line of its own
CONTROL_END = RANGES + 64 * 128

MAX_UNITS = (1 << 20) - 1  # a range is one i64: the step's number, and its begin and end in 20 bits each
NAP_NS = 50_000_000  # sleepers look at ABORT this often even if nobody wakes them


def read(b: FunctionBuilder, address: int) -> None:
    b.i32_const(0)
    b.atomic("i32.atomic.load", offset=address)


def store(b: FunctionBuilder, address: int, value: int) -> None:
    b.i32_const(0)
    b.i32_const(value)
    b.atomic("i32.atomic.store", offset=address)


def add(b: FunctionBuilder, address: int, amount: int) -> None:
    b.i32_const(0)
    b.i32_const(amount)
    b.atomic("i32.atomic.rmw.add", offset=address)
    b.drop()


def notify(b: FunctionBuilder, address: int) -> None:
    """Wakes all who sleep on a word."""
    b.i32_const(0)
    b.i32_const(-1)
    b.atomic("memory.atomic.notify", offset=address)
    b.drop()


def bits(b: FunctionBuilder, word: int, shift: int) -> None:
    """Pushes 20 bits of `word`."""
    b.get(word)
    b.i64_const(shift)
    b.op("i64.shr_u")
    b.op("i32.wrap_i64")
    b.i32_const(MAX_UNITS)
    b.op("i32.and")


def retry(b: FunctionBuilder, spins: int, again: Label) -> None:
    """Back to `again` until `spins` has run out."""
    b.get(spins)
    with b.if_():
        b.get(spins)
        b.i32_const(1)
        b.op("i32.sub")
        b.set(spins)
        b.br(again)
