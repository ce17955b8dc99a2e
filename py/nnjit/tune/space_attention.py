"""The space of attention: register tiles of both products and rows of a block, within the scratch memory there is.

A plan reserves scratch memory for the default schedule: a candidate that needs more for its block is none.
"""

from __future__ import annotations

from nnjit.codegen.schedule.apply import scratch_of
from nnjit.codegen.schedule.attention import AttentionTile, attention, many_rows, shape, tile
from nnjit.codegen.schedule.contraction import register_tiles
from nnjit.codegen.schedule.steps import Distribute, Schedule
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.target import Target
from nnjit.tune.device import DeviceFacts
from nnjit.tune.space import Choice, Knob, Space


def attending(spec: KernelSpec, default: Schedule, target: Target, facts: DeviceFacts) -> Space | None:
    """Specs with scratch memory; those that are not blocked have no choice but the default."""
    if spec.scratch < 0:
        return None
    s = shape(spec)
    if s is None or not any(isinstance(x, Distribute) for x in default) or default != attention(spec, target):
        return Space(spec, "attention", default, (), lambda c: default, lambda c: 0.0)
    first = tile(s, target)
    rows, n, e = s.rows[-1].extent, s.first.axes[0].extent, s.last.axes[0].extent
    keys = {(m, v): c * s.first.reduce[0].extent for m, v, c in register_tiles(rows, n, target)}
    values = {(m, v): c * n for m, v, c in register_tiles(rows, e, target)}
    room = scratch_of(spec, default).size
    counts = sorted({m for m, _ in keys} & {m for m, _ in values}, key=lambda m: m != first.rows)
    widths = tuple(sorted({v for _, v in (*keys, *values)}))

    def made(c: Choice) -> AttentionTile:
        block = max(1, round(first.block * c["share"] / c["rows"])) * c["rows"]
        return AttentionTile(c["rows"], c["keys"], c["values"], block)

    def cost(c: Choice) -> float | None:
        one, two = keys.get((c["rows"], c["keys"])), values.get((c["rows"], c["values"]))
        if one is None or two is None or scratch_of(spec, many_rows(s, made(c), target)).size > room:
            return None
        return one + two

    knobs = (
        Knob("rows", tuple(counts)),
        Knob("keys", widths),
        Knob("values", widths),
        Knob("share", (1.0, 0.75, 0.5, 0.25)),
    )

    def build(c: Choice) -> Schedule:
        return many_rows(s, made(c), target) if cost(c) is not None else default

    return Space(spec, "attention", default, knobs, build, cost)
