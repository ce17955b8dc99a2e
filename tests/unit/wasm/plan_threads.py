"""Threads of a plan: Python threads, each with an instance of its own on one shared memory, as workers in a page have;
wasmtime's calls release the GIL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import wasmtime

from nnjit.codegen.wasm.team_words import CONTROL_END, RUNNING

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
    threads: Sequence[Thread], work: Callable[[int, Thread], None], seconds: float = 60
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


def lead(words: Any, number: int, thread: Thread, nthreads: int, first: int, last: int) -> None:
    """A thread's part of a run, as the engine does it: thread 0 opens it, the others come when they can."""
    if number == 0:
        words[RUNNING // 4] = 1
    thread.run(number, nthreads, first, last)
