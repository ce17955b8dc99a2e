"""Loops of a plan: consecutive kernels that run again and again, their operands some elements further each turn.

`Loop` is what the kernels of one loop share; `unrolled` writes loops out, for targets whose plans have none and for
what is done once at load.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from nnjit.lower.lowered import HostCall, Kernel, Loop
from nnjit.lower.tensors import Buffer

if TYPE_CHECKING:
    from nnjit.lower.build import Build


def repeat(build: Build, mark: int, times: int, moves: dict[Buffer, int], fixed: frozenset[Buffer]) -> None:
    """The kernels from `mark` on become a loop: those that read or write a buffer of `moves` (elements it moves by each
    turn), or what such a kernel makes. The others are done once, ahead of it. `fixed`: buffers of `moves` that hold
    nothing a turn makes, so that reading them alone does not put a kernel into the loop."""
    changing = set(moves) - fixed
    body: list[Kernel] = []
    before: list[Kernel | HostCall] = []
    for k in build.steps[mark:]:
        if isinstance(k, Kernel) and (changing & {*k.reads, *k.writes}):
            changing.update(k.writes)
            body.append(k)
        else:
            before.append(k)
    loop = Loop(times) if times > 1 else None
    build.steps[mark:] = before
    for k in body:
        build.steps.append(
            replace(k, loop=loop, moves=tuple(moves.get(b, 0) for b, _ in k.places) if loop else ())
        )


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
