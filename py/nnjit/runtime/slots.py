"""A kernel of a plan as the tuner sees it: what it computes, which steps run it, how it is laid out in the lab.

`Slot` also says what is known of it as plain data: `about` for reports, `row` for the status, `records` to keep. The
two protocols are what a backend brings along: a kernel laid out by itself, and what a winner changes besides it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from nnjit.codegen.schedule.steps import Schedule, describe
from nnjit.codegen.spec import KernelSpec
from nnjit.errors import RecordError
from nnjit.tune.records import Record, Timing, spec_text
from nnjit.tune.search import Job

FAILURES = ("wrong", "trap", "refused")
"""Verdicts that are recorded so that the schedule is not tried again."""


class Laid(Protocol):
    """A kernel by itself in the lab, as plain data for the engine."""

    def setup(self, serving: Schedule, probes: Sequence[tuple[int, int]] = ...) -> dict[str, Any]:
        """Operands, the serving kernel, and output elements whose values come back."""

    def candidate(self, schedule: Schedule) -> tuple[dict[str, Any], float]:
        """A kernel for a schedule, and the ms it took to make."""

    def keep(self) -> None:
        """The last candidate serves from now on."""


class Panels(Protocol):
    """What an adoption changes besides the kernel: `commit` after the engine has done it, `undo` where it did not."""

    def commit(self) -> None: ...

    def undo(self) -> None: ...


@dataclass(slots=True)
class Slot:
    """A kernel of the plan: its steps (indices), and the same thing as the search sees it."""

    number: int
    spec: KernelSpec
    steps: list[int]
    job: Job
    laid: Laid | None = None
    known: bool = False
    """Its schedule comes from a record."""

    def about(self) -> dict[str, Any]:
        """Which kernel a report is about."""
        job = self.job
        return {"key": job.key, "name": job.name, "step": self.steps[0], "count": job.count, "raw": job.raw,
                "listed": len(job.schedules), "boundMs": job.bound_ms}  # fmt: skip

    def row(self, model_ms: float) -> dict[str, Any]:
        """Its times and counts; `share` is its part of `model_ms`."""
        job = self.job
        return {**self.about(), "ms": job.ms, "firstMs": job.first_ms, "share": job.share_ms / model_ms,
                "tried": len(job.trials), "left": job.left(), "closed": job.closed, "serving": describe(job.serving),
                "dropped": sum(t.verdict not in ("timed", "slow") for t in job.trials),
                "sizes": self.spec.sizes}  # fmt: skip

    def records(self, backend: str, device: str) -> Iterator[Record]:
        """The schedule that serves and how it did, if that is settled; what failed. What the records' form has no room
        for is left out."""
        job = self.job
        settled = self.known or job.closed or job.serving != job.first
        found: list[tuple[Schedule, str, Timing | None, Timing | None]] = []
        if job.trials and job.ms and job.first_ms and settled:
            found.append((job.serving, "timed", Timing.of([1e3 * job.ms]), Timing.of([1e3 * job.first_ms])))
        found += [(t.schedule, t.verdict, None, None) for t in job.trials if t.verdict in FAILURES]
        for schedule, verdict, mine, first in found:
            with suppress(RecordError):
                yield Record(backend, device, spec_text(self.spec), schedule, verdict, mine, first)
