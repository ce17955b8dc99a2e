"""How the page holds memory for outputs ready: the numbers that go along with every plan."""

from __future__ import annotations

SPARES = {
    # outputs below so many bytes have their memory soon enough; all that is ready and being made at a time has at most
    # so many, and at most that part of the machine's memory, which counts for 4 GiB where the browser tells nothing
    "leastBytes": 1 << 20,
    "mostBytes": 2 << 30,
    "share": 0.25,
    # arrays of one size ahead of the runs at most; they are made by so many threads at most, fewer where cores are
    # few, and dropped when no run has asked for so many ms
    "ahead": 8,
    "threads": 4,
    "idleMs": 2000.0,
}
"""The first write to each page of a new array costs a run more than the copy into it (docs/engine.md)."""
