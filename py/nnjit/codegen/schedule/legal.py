"""fits(spec, schedule): whether a schedule from elsewhere (a search, a record) can be applied to a spec."""

from __future__ import annotations

from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.steps import Schedule, ScheduleError
from nnjit.codegen.spec import KernelSpec


def fits(spec: KernelSpec, schedule: Schedule) -> bool:
    """`apply` decides: it raises ScheduleError for what does not fit, and every other error surfaces."""
    try:
        apply(spec, schedule)
    except ScheduleError:
        return False
    return True
