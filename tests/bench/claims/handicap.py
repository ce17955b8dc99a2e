"""Starts that the rules would not make, so that a study shows what the tuner does where they are wrong.

`begin(start, limit)` runs in the compiler's own Python, before a session is made: plans are then scheduled by that
start, and the tuner has at most `limit` schedules a kernel. What the tuner knows and how it judges stays as it is,
except for the last two.

    rules   as always
    eight   plans for eight vector registers, as if on an old x86; the tuner has the device's own facts
    drawn   each kernel starts with a schedule drawn from its raw space, by its text: the same in every run
    blind   drawn, and the tuner's lists are shuffled: their order knows nothing
    raw     drawn, and the tuner's lists are drawn like that: what is in them knows nothing either
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from nnjit.codegen.expr import UnsupportedExpr
from nnjit.codegen.schedule.group_steps import Words
from nnjit.codegen.schedule.steps import Pack, Schedule, ScheduleError
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.target import Target
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.lower import steps
from nnjit.lower.backend import AnyTarget, emitted, schedule_of
from nnjit.runtime import candidates, tuning
from nnjit.tune import space
from nnjit.tune.space_gpu import gpu_space
from nnjit.tune.space_wasm import space_of

STARTS = ("rules", "eight", "drawn", "blind", "raw")
FEW = 8
DRAWS = 40
"""So many choices are looked at; where none fits the kernel's place in a plan it keeps the rules' schedule."""
lite = space.Space.lite


def few_registers(spec: KernelSpec, target: AnyTarget) -> Schedule:
    """The rules', for FEW vector registers."""
    return schedule_of(spec, replace(target, registers=FEW) if isinstance(target, Target) else target)


def drawn(spec: KernelSpec, target: AnyTarget) -> Schedule:
    """A schedule of the raw space that fits, each as likely as any other."""
    rules = schedule_of(spec, target)
    if spec.name.startswith(("pack", "unpack")):
        return rules
    found = gpu_space(spec, target) if isinstance(target, WgslTarget) else space_of(spec, target)
    for schedule in draws(found, spec.key):
        if schedule != rules and takes_its_place(spec, schedule, rules) and found.fits(schedule):
            try:
                emitted(spec, schedule, target)  # a device has less room than the schedule language
            except (ScheduleError, UnsupportedExpr):
                continue
            return schedule
    return rules


def draws(found: space.Space, seed: str) -> Iterator[Schedule]:
    """DRAWS choices of a raw space, the same ones for the same seed."""
    dice = random.Random(seed)
    for _ in range(DRAWS if found.raw > 1 else 0):
        yield found.build({k.name: dice.choice(k.values) for k in found.knobs})


def takes_its_place(spec: KernelSpec, schedule: Schedule, rules: Schedule) -> bool:
    """Whether the tuner may get from one to the other: the same operands are packed, and panels of an activation,
    which another step makes, are the same ones."""
    packed = [sorted(s.operand for s in made if isinstance(s, (Pack, Words))) for made in (schedule, rules)]
    mine, theirs = tuning.panels_of(schedule), tuning.panels_of(rules)
    made = [i for i in theirs if not spec.operands[i].const]
    return packed[0] == packed[1] and all(mine[i] == theirs[i] for i in made)


def shuffled(self: space.Space, limit: int = space.LIMIT, checked: bool = True) -> list[Schedule]:
    """The list in an order that knows nothing."""
    listed = lite(self, limit, checked)
    random.Random(self.spec.key).shuffle(listed)
    return listed


def unruled(self: space.Space, limit: int = space.LIMIT, checked: bool = True) -> list[Schedule]:
    """Others that are drawn, in place of the list."""
    return [s for s in dict.fromkeys(draws(self, f"{self.spec.key} list")) if self.fits(s)][:limit]


def begin(start: str, limit: int = 0) -> None:
    """See the module. limit: 0 for the tuner's own."""
    if start not in STARTS:
        raise ValueError(f"no start {start!r}: {', '.join(STARTS)}")
    schedules = {"rules": schedule_of, "eight": few_registers}
    setattr(steps, "schedule_of", schedules.get(start, drawn))  # noqa: B010  (mypy knows it as a function)
    setattr(space.Space, "lite", {"blind": shuffled, "raw": unruled}.get(start, lite))  # noqa: B010
    setattr(candidates, "LIMIT", limit or space.LIMIT)  # noqa: B010
