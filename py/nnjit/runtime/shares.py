"""How a step is shared among threads: alone, in units of how many tiles, and whether to wake sleepers for it.

Takes a KernelSpec and its tiles, gives a Share. The estimate of its time is rough; it decides only where sharing
would cost more than it saves, and how finely the tiles of a step are handed out.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import NamedTuple

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.expr import Expr
from nnjit.codegen.rewriting import walk
from nnjit.codegen.spec import KernelSpec, Stage

SHARE_NS = 6_000
"""Shorter steps stay on one thread: to publish a step and to wait for its last piece costs about a microsecond."""
WAKE_NS = 40_000
"""Shorter steps do not wake a sleeping thread, which takes 5 us to call and some 50 to come."""
UNIT_NS = 3_000
"""A piece of work takes at least this long, so that taking it (about 50 ns) is no part of it."""

CALLER_MS = 4.0
"""A run of at most so long may be done on the thread that asks for it, in general a page's: a quarter of a frame."""
CALLER_GUESS = 5.0
"""How much too long a guess may be: products of bytes run at several times the rate of floats."""
CALLER_FRESH_MS = 60.0
"""The first runs there may be slow: for so long none is judged, ..."""
CALLER_TRIES = 4
"""... and then so many in a row must take longer than they may before the plan goes back to the engine for good."""
CALLER_PATIENCE_MS = 3000.0
"""After a trap the threads leave at once, or within the 50 ms that they may sleep; a thread that does not is lost."""
CALLER_STREAK_MS = 8.0
"""So long after the first run of a turn the page gets another: a loop of awaits would never give it one."""
CALLER_MODULE = 1 << 22
"""Bytes of a plan module that a page may link while it waits; browsers set a limit at 8 MiB."""

MULTIPLY_ADDS_PER_NS = 20.0
OPERATIONS_PER_NS = 6.0
BYTES_PER_NS = 12.0
COSTLY = frozenset(
    {"exp", "log", "tanh", "erf", "sin", "cos", "tan", "pow", "atan", "asin", "acos", "sinh", "cosh"}
)
COSTLY_OPERATIONS = 12


class Share(NamedTuple):
    """ns: what the step takes, about, with all threads that share it."""

    parallel: bool
    unit: int
    wake: bool
    ns: float


def share(spec: KernelSpec, tiles: int, threads: int, measured: str = "") -> Share:
    """How `tiles` tiles of a kernel are shared by at most `threads` threads. measured: "alone" or "all", where the
    tuner knows which is faster."""
    ns = nanoseconds(spec)
    if tiles < 2 or threads < 2 or measured == "alone" or (ns < SHARE_NS and measured != "all"):
        return Share(False, 1, False, ns)
    unit = int(min(UNIT_NS * tiles / ns, tiles / (2 * threads)))
    return Share(True, max(1, unit), ns >= WAKE_NS or measured == "all", ns / min(tiles, threads))


def questionable(spec: KernelSpec, tiles: int, threads: int) -> bool:
    """Whether the estimate is too near what sharing costs to tell if it pays."""
    return tiles > 1 and threads > 1 and SHARE_NS / 2 <= nanoseconds(spec) <= 3 * WAKE_NS


def caller_ms(ns: float, module_bytes: int) -> float:
    """How long a plan that takes about `ns` may take on its caller's thread, in ms; 0: it should not run there.

    The engine goes by what it measures; the guess keeps those away that cannot come near the bound."""
    return CALLER_MS if ns <= 1e6 * CALLER_GUESS * CALLER_MS and module_bytes <= CALLER_MODULE else 0.0


@lru_cache(4096)
def nanoseconds(spec: KernelSpec) -> float:
    """About how long a kernel takes on one thread."""
    shared = prod(a.extent for a in spec.axes)
    work = sum(shared * _stage(s) for s in spec.stages)
    return work + sum(o.size * SIZES[o.dtype] for o in spec.operands if o.role != "scratch") / BYTES_PER_NS


def _stage(s: Stage) -> float:
    outputs = prod(a.extent for a in s.axes)
    points = outputs * prod(r.extent for r in s.reduce)
    result = outputs * _operations(s.result) / OPERATIONS_PER_NS
    if s.body is None:
        return result
    if s.combine == "sum" and s.body.op == "mul":
        return points / MULTIPLY_ADDS_PER_NS + result
    return points * _operations(s.body) / OPERATIONS_PER_NS + result


@lru_cache(4096)
def _operations(e: Expr) -> int:
    return sum(COSTLY_OPERATIONS if x.op in COSTLY else 1 for x in walk(e))
