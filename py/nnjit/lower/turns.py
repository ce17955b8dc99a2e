"""Loops of a plan: consecutive kernels that run again and again, their operands some elements further each turn.

`Loop` is what the kernels of one loop share; `unrolled` writes loops out, for targets whose plans have none and for
what is done once at load.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnjit.lower.build import HostCall, Kernel


@dataclass(eq=False, slots=True)
class Loop:
    """`times` turns; each does all kernels that refer to this object, in their order."""

    times: int


def unrolled(steps: Iterable[Kernel | HostCall]) -> list[Kernel | HostCall]:
    """The same steps without loops."""
    out: list[Kernel | HostCall] = []
    for loop, group in groupby(steps, loop_of):
        if loop is None:
            out += group
            continue
        body: list[Kernel] = list(group)  # type: ignore[arg-type]
        for turn in range(loop.times):
            for k in body:
                places = [(b, at + turn * by) for (b, at), by in zip(k.places, k.moves, strict=True)]
                out.append(replace(k, places=places, loop=None, moves=(), emit_ms=0.0 if turn else k.emit_ms))
    return out


def loop_of(step: Kernel | HostCall) -> Loop | None:
    """The loop that a step belongs to."""
    return getattr(step, "loop", None)


def loops(steps: list[Kernel | HostCall]) -> list[tuple[int, int]]:
    """First and last number of the steps of each loop."""
    out, at = [], 0
    for loop, group in groupby(steps, loop_of):
        count = sum(1 for _ in group)
        if loop is not None:
            out.append((at, at + count - 1))
        at += count
    return out
