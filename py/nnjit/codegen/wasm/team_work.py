"""What a thread does in a run of a plan: `work` takes pieces of the step that is published until none is left,
`follow` is a helper's whole run: work, wait for the next step, sleep, leave when the run is over.

A range is one 64-bit word: the step's number (24 bits), next unit and end (20 bits each). It is taken from by
compare-and-exchange, so nobody can take from another step than the one whose fields he has read: the leader
writes a step's fields only when all ranges of the step before are empty.
"""

from __future__ import annotations

from .builder import FunctionBuilder
from .module import KERNEL_PARAMS
from .team_words import (
    ABORT,
    ARGS,
    CURRENT,
    DONE,
    NAP_NS,
    RANGES,
    RUNNING,
    SEQUENCE,
    SLEEPERS,
    SLOT,
    STEP,
    STRIDE,
    TILES,
    UNIT,
    WAITING,
    add,
    bits,
    notify,
    read,
    retry,
)


def work() -> FunctionBuilder:
    """work(thread, nthreads, sequence): pieces of the published step until none is left to take."""
    b = FunctionBuilder(["i32"] * 3, [], "work", ("thread", "nthreads", "sequence"))
    thread, nthreads, sequence = range(3)
    slot, args, tiles, unit = (b.local("i32", n) for n in ("slot", "args", "tiles", "unit"))
    whose, left, at, first, end, take = (
        b.local("i32", n) for n in ("whose", "left", "at", "first", "end", "take")
    )
    word, found = b.local("i64", "word"), b.local("i64", "found")
    for field, local in ((SLOT, slot), (ARGS, args), (TILES, tiles), (UNIT, unit)):
        read(b, field)
        b.set(local)
    b.get(args)
    b.get(thread)
    read(b, STRIDE)
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
            bits(b, word, 20)
            b.set(first)
            bits(b, word, 0)
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
            read(b, WAITING)
            with b.if_():
                notify(b, DONE)
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


def follow(work: FunctionBuilder, spin: int) -> FunctionBuilder:
    """follow(thread, nthreads): help with each step that is published until the run is over."""
    b = FunctionBuilder(["i32"] * 2, [], "follow", ("thread", "nthreads"))
    thread, nthreads = range(2)
    sequence, seen, spins = (b.local("i32", n) for n in ("sequence", "seen", "spins"))
    read(b, SEQUENCE)
    b.i32_const(1)
    b.op("i32.sub")
    b.set(seen)
    b.i32_const(spin)
    b.set(spins)
    with b.loop() as again:
        read(b, RUNNING)
        b.op("i32.eqz")
        read(b, ABORT)
        b.op("i32.or")
        with b.if_():
            b.return_()
        read(b, SEQUENCE)
        b.tee(sequence)
        b.get(seen)
        b.op("i32.eq")
        with b.if_():
            retry(b, spins, again)
            add(b, SLEEPERS, 1)
            b.i32_const(0)
            b.get(seen)
            b.i64_const(NAP_NS)
            b.atomic("memory.atomic.wait32", offset=SEQUENCE)
            b.drop()
            add(b, SLEEPERS, -1)
            b.i32_const(spin)
            b.set(spins)
            b.br(again)
        b.get(sequence)
        b.set(seen)
        b.get(thread)
        b.i32_const(2)
        b.op("i32.shl")
        read(b, STEP)
        b.store("i32.store", offset=CURRENT)
        b.get(thread)
        b.get(nthreads)
        b.get(sequence)
        b.call(work)
        b.i32_const(spin)
        b.set(spins)
        b.br(again)
    return b
