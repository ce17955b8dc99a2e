"""The space of a kernel for Wasm: takes a spec, a target and the device's facts, returns a Space."""

from __future__ import annotations

from collections.abc import Callable

from nnjit.codegen.schedule.legal import fits
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.schedule.steps import Schedule
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.target import Target
from nnjit.tune import space_attention, space_contraction, space_rows
from nnjit.tune.device import DeviceFacts
from nnjit.tune.space import Space

Generator = Callable[[KernelSpec, Schedule, Target, DeviceFacts], Space | None]


def space_of(spec: KernelSpec, target: Target, facts: DeviceFacts | None = None) -> Space:
    """The space of a spec: the first generator that knows it answers; the last turns the default's own numbers."""
    facts = facts or DeviceFacts()
    default = default_schedule(spec, target)
    if not fits(spec, default):
        default = ()
    generators: tuple[Generator, ...] = (
        space_attention.attending,
        space_contraction.products,
        space_contraction.windows,
        space_contraction.inners,
        space_rows.rowwise,
        space_rows.pointwise,
    )
    for generate in generators:
        found = generate(spec, default, target, facts)
        if found is not None:
            return found
    return space_rows.variations(spec, default, target, facts)
