"""emitted(spec, schedule, target): each distinct kernel is emitted once, whatever plans and sessions use it."""

from __future__ import annotations

from collections import OrderedDict

from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.steps import Schedule
from nnjit.codegen.spec import KernelSpec, Reach
from nnjit.codegen.wasm.builder import FunctionBuilder
from nnjit.codegen.wasm.emit import emit
from nnjit.codegen.wasm.target import Target

LIMIT = 4096
_made: OrderedDict[tuple[KernelSpec, Schedule, Target, Reach, int], tuple[FunctionBuilder, int]] = (
    OrderedDict()
)


def known(
    spec: KernelSpec, schedule: Schedule, target: Target, reach: Reach = ()
) -> tuple[FunctionBuilder, int] | None:
    """What `emitted` made before; None where it would have to emit."""
    return _made.get((spec, schedule, target, reach, -1))


def clear() -> None:
    """Forgets everything, as a benchmark of compiling needs it."""
    _made.clear()


def emitted(
    spec: KernelSpec, schedule: Schedule, target: Target, reach: Reach = (), place: int = -1
) -> tuple[FunctionBuilder, int, bool]:
    """The kernel's function, its number of tiles, and whether it was emitted just now. reach, place: see `apply`."""
    key = (spec, schedule, target, reach, place)
    found = _made.get(key)
    if found is not None:
        _made.move_to_end(key)
        return (*found, False)
    nest = apply(spec, schedule, reach, place)
    found = _made[key] = (emit(nest, target), nest.tiles)
    if len(_made) > LIMIT:
        _made.popitem(last=False)
    return (*found, True)
