"""A schedule sorted by kind of step: takes a schedule and a record that has a field for each kind it has room for.

Fills the record. A kind it has no field for is a step of the other backend, or of no use there: ScheduleError.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from nnjit.codegen.schedule.group_steps import Cache, Fuse, HalfSums, Matrix, Patch, Threads, Words
from nnjit.codegen.schedule.steps import (
    Block,
    Distribute,
    Dot,
    Fold,
    Order,
    Pack,
    Parallel,
    Partial,
    Peel,
    ScheduleError,
    Skip,
    Step,
    Tile,
    Unroll,
    Vectorize,
)

R = TypeVar("R")
FIELDS: dict[type, tuple[str, str]] = {
    Tile: ("tile", "factor"),
    Block: ("block", "size"),
    Vectorize: ("lanes", "lanes"),
    Unroll: ("unroll", "factor"),
    Partial: ("partial", "count"),
    Peel: ("peel", ""),
    Order: ("order", "axes"),
    Parallel: ("parallel", "axes"),
    Pack: ("packs", ""),
    Dot: ("dot", ""),
    Distribute: ("distributed", "axes"),
    Skip: ("granule", "granule"),
    Fold: ("folded", "axis"),
    Threads: ("threads", "count"),
    Fuse: ("fused", "axes"),
    Words: ("words", "operand"),
    Cache: ("cache", ""),
    Matrix: ("matrix", ""),
    HalfSums: ("half_sums", ""),
    Patch: ("patch", ""),
}
"""The field a step goes to, and what of the step: "" for all of it. A field that is a dict is by the step's axis."""


def sort_into(record: R, steps: Iterable[Step], refusal: str) -> R:
    """`record` with every step in its field; `refusal` ends the message about one that has none."""
    for step in steps:
        name, part = FIELDS.get(type(step), ("", ""))
        if not hasattr(record, name):
            raise ScheduleError(f"{step} {refusal}")
        value: Any = getattr(step, part) if part else step
        place = getattr(record, name)
        if isinstance(place, dict):
            place[step.name if isinstance(step, Fuse) else getattr(step, "axis")] = value  # noqa: B009
        elif isinstance(place, list):
            place.append(value)
        elif isinstance(place, set):
            place.add(value)
        else:
            setattr(record, name, value)
    return record
