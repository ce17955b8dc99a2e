"""parts_of(spec, target): how a reduction with fewer results than threads is divided so that every thread has a part.

A sum, or a maximum, of a whole tensor is one result, and one thread's work. Split, its parts are tiles of one kernel,
and a second one combines what they found (split.py has both).
"""

from __future__ import annotations

from math import prod

from nnjit.codegen.expr import Expr
from nnjit.codegen.schedule.facts import reads
from nnjit.codegen.schedule.split import COMBINED, PART, Split
from nnjit.codegen.spec import KernelSpec, Stage
from nnjit.codegen.wasm.target import Target

LEAST = 1 << 19
"""Terms below which one thread is soon done: these take it 50 us, about what another one takes to wake up."""
MOST = 64
"""Parts at most; the second kernel combines them on one thread."""


def parts_of(spec: KernelSpec, target: Target) -> Split | None:
    """The axis to divide, the one whose parts lie furthest apart, and into how many; None where it does not pay, or the
    axes do not divide."""
    if not target.shared or target.threads < 2 or len(spec.stages) != 1 or spec.useful:
        return None
    (s,) = spec.stages
    if s.body is None or s.combine not in COMBINED or s.axes or s.terms is not None or s.running:
        return None
    if prod(a.extent for a in spec.axes) >= target.threads or any(a.name == PART for a in spec.axes):
        return None
    if prod(a.extent for a in s.reduce) < LEAST:
        return None
    return divide(s, target.threads)


def divide(s: Stage, threads: int) -> Split | None:
    """The axis of a reduction whose parts lie furthest apart, and into how many; None where none divides."""
    assert s.body is not None
    body = s.body
    for axis in sorted(s.reduce, key=lambda a: -_stride(body, a.name)):
        parts = _even(axis.extent, threads)
        if parts:
            return Split(axis.name, parts)
    return None


def _stride(body: Expr, axis: str) -> int:
    return max((abs(x.index.coeff(axis)) for x in reads(body)), default=0)


def _even(extent: int, threads: int) -> int:
    """A divisor of the extent: one that gives all threads as many parts, if there is one, and each of them several, so
    that a slow thread's can be taken over; 0: no divisor is large enough."""
    divisors = [p for p in range(2 * threads, MOST + 1) if extent % p == 0]
    return min(divisors, key=lambda p: (-(-p // threads) * threads / p, p), default=0)
