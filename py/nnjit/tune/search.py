"""Search: which kernel to try next and with which schedule, when to stop, and who won. No clock, no browser.

Takes jobs (specs with how often each runs, a bound and a list of schedules, best guess first) and reports of
trials; says what to do next. The same inputs give the same decisions, so a recorded log replays it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from statistics import median
from typing import Any

from nnjit.codegen.schedule.steps import Schedule
from nnjit.codegen.spec import KernelSpec
from nnjit.tune.policy import AGAIN, WIN, WORTH

PATIENCE = 14
"""Candidates in a row without a win after which a kernel is left alone: later ones in the list are worse guesses."""
BATCH = 6
"""Candidates of one kernel before another is looked at: to lay out a kernel's operands takes time, too."""
HOPE = 0.03
"""What tuning is believed to win before anything was tried, as a part of the model's time: how much it takes to be
convinced that there is nothing."""
AT_BOUND = "at its bound"
LEAST_SLACK = 0.4
"""Bounds are taken for this much too high at most."""
LONG_MS = 0.5
"""One reading of a step is believed from here on: other work only adds to it."""
NEAR = 1.06
"""Within this of its bound a kernel has nothing left to gain."""
USUAL = 1.6
"""What a good kernel takes of its bound, until it is timed."""
LESS = 0.88
"""What each candidate that lost leaves of what a kernel is believed to gain."""
CLEAR = 0.8
"""Of its rounds a candidate must win at least this part."""
FILL_BYTES_MS = 4e6
"""Bytes that the lab fills, or packs, in a millisecond: about."""


@dataclass(slots=True)
class Trial:
    """One candidate's outcome. ratio: its time over the serving kernel's, medians of rounds in turn."""

    schedule: Schedule
    verdict: str
    ratio: float = 0.0
    won: bool = False


@dataclass(slots=True)
class Job:
    """A kernel of the model. serving: the schedule in use; first: the one it came with. share_ms: what it takes in an
    inference, an estimate until it was timed; seen: it was read in one. nbytes: of its operands. factor: the serving
    kernel's time over the first one's, by duels."""

    key: str
    name: str
    count: int
    bound_ms: float
    schedules: list[Schedule]
    serving: Schedule
    first: Schedule
    estimate_ms: float
    nbytes: int = 0
    seen: bool = False
    raw: int = 0
    ms: float = 0.0
    first_ms: float = 0.0
    factor: float = 1.0
    next: int = 0
    losses: int = 0
    batch: int = 0
    closed: str = ""
    trials: list[Trial] = field(default_factory=list)

    @staticmethod
    def of(
        spec: KernelSpec, serving: Schedule, count: int, bound_ms: float, call_ms: float, nbytes: int = 0
    ) -> Job:
        """A kernel that runs `count` times, as a plan came with it. Until it is timed it is believed to take what a
        good one does, and not less than a call costs."""
        estimate = max(USUAL * bound_ms, call_ms)
        return Job(spec.key, spec.name, count, bound_ms, [serving], serving, serving, estimate, nbytes)

    @property
    def share_ms(self) -> float:
        return self.count * (self.ms or self.estimate_ms)

    @property
    def lay_ms(self) -> float:
        """What it takes the lab to lay the kernel out: operands are filled and packed, three passes over their bytes in
        all, and run through once or twice."""
        return 1.5 * (self.ms or self.estimate_ms) + 3 * self.nbytes / FILL_BYTES_MS

    def gain_ms(self, slack: float, ease: float = 1.0) -> float:
        """What an inference may still gain here: the way to the bound, less likely with each loss. ease: what times in
        the lab are of those in an inference."""
        if self.closed:
            return 0.0
        guess = self.estimate_ms * (ease if self.seen else 1.0)
        each = max(0.0, (self.ms or guess) - NEAR * slack * self.bound_ms)
        return self.count * each * LESS**self.losses

    def way_ms(self, slack: float) -> float:
        """From the first schedule to the bound, as far as trials have looked at it."""
        each = max(0.0, (self.first_ms or self.estimate_ms) - NEAR * slack * self.bound_ms)
        return self.count * each * (1 - LESS ** len(self.trials))

    def left(self) -> int:
        return 0 if self.closed else len(self.schedules) - self.next


class Search:
    """`job = search.pick()`, `schedule = search.take(job)`, `search.record(job, schedule, …)`, until pick() is None."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = list(jobs)
        self.current: Job | None = None
        self.slack = 1.0
        """What bounds are worth: below 1 once a kernel took less than its bound, so that the device is faster than its
        facts say (they were measured while it was busy)."""

    @property
    def left_ms(self) -> float:
        """What an inference could still gain, at most."""
        return sum(map(self._gain_ms, self.jobs))

    @property
    def ease(self) -> float:
        """What the lab's times are of those that an inference showed, at most 1: caches are warm there, and whatever
        else the machine did may be over."""
        both = [
            (j.first_ms, j.estimate_ms)
            for j in self.jobs
            if j.first_ms and j.seen and j.estimate_ms >= LONG_MS
        ]
        return min(1.0, sum(lab for lab, _ in both) / sum(there for _, there in both)) if both else 1.0

    def _gain_ms(self, job: Job) -> float:
        return job.gain_ms(self.slack, self.ease)

    @property
    def model_ms(self) -> float:
        return sum(j.share_ms for j in self.jobs) or 1.0

    @property
    def gained(self) -> float:
        """How much faster the kernels are than those the model started with, as a factor."""
        before = [j.count * (j.first_ms or j.estimate_ms) for j in self.jobs]
        after = sum(b * j.factor for b, j in zip(before, self.jobs, strict=True))
        return sum(before) / after if after else 1.0

    @property
    def chance(self) -> float:
        """How much of a way to a bound may be expected to be gone: what came of those that were looked at. 1 in the
        beginning; where defaults are as good as it gets, kernel after kernel, the rest is not tried for long."""
        looked = sum(j.way_ms(self.slack) for j in self.jobs)
        won = sum(j.count * j.first_ms * (1 - j.factor) for j in self.jobs)
        hope = HOPE * self.model_ms
        return min(1.0, (won + hope) / (looked + hope))

    @property
    def worth_ms(self) -> float:
        """What a kernel must be able to gain."""
        return WORTH * self.model_ms / self.chance

    def put_off(self, most_ms: float) -> bool:
        """Whether kernels are worth a try that would take longer than that to lay out."""
        worth = self.worth_ms
        return any(j.lay_ms > most_ms and j.left() and self._gain_ms(j) >= worth for j in self.jobs)

    def pick(self, most_ms: float = inf) -> Job | None:
        """The kernel with the most to gain; the current one keeps its turn for a batch. None: nothing is left that
        could be laid out in that time."""
        worth = self.worth_ms
        now = self.current
        if now is not None and self._gain_ms(now) > 0 and now.left() and now.batch % BATCH:
            return now
        able = [j for j in self.jobs if j is now or j.lay_ms <= most_ms]
        best = max(able, key=lambda j: self._gain_ms(j) if j.left() else 0.0, default=None)
        if best is None or not best.left() or self._gain_ms(best) < worth:
            self.current = None
            return None
        if best is not now:
            best.batch = 0
        self.current = best
        return best

    def take(self, job: Job) -> Schedule | None:
        """The next schedule to try; None when the list is at its end."""
        while job.next < len(job.schedules):
            schedule = job.schedules[job.next]
            job.next += 1
            if schedule != job.serving:
                job.batch += 1
                return schedule
        job.closed = job.closed or "all tried"
        return None

    def surveyed(self, job: Job, ms: float) -> None:
        """The serving kernel's time in an inference. Where it is long enough to be read at once, it tells of bounds
        what a reading in the lab would: kernels that are as near to theirs as the nearest are not laid out for that."""
        job.estimate_ms, job.seen = ms, True
        if ms >= LONG_MS and job.bound_ms > 0:
            self.slack = min(self.slack, max(ms / job.bound_ms, LEAST_SLACK))

    def timed(self, job: Job, ms: float) -> None:
        """The serving kernel's time in the lab; of several readings the least, as a busy machine only adds."""
        job.first_ms = job.first_ms or ms
        job.ms = min(job.ms, ms) if job.ms else ms
        if job.bound_ms > 0:
            self.slack = min(self.slack, max(ms / job.bound_ms, LEAST_SLACK))
        for other in self.jobs:
            if other.closed == AT_BOUND:
                other.closed = ""  # unless it still is
                self._at_bound(other)
        self._at_bound(job)

    def record(self, job: Job, schedule: Schedule, report: dict[str, Any]) -> Trial:
        """Takes a trial's report; `won` says that it should serve from now on."""
        trial = Trial(schedule, str(report["verdict"]))
        base, mine = list(report.get("base") or ()), list(report.get("mine") or ())
        if trial.verdict == "timed" and base and len(base) == len(mine):
            ratios = [b / a for a, b in zip(base, mine, strict=True) if a > 0]
            trial.ratio = median(ratios) if ratios else 0.0
            ahead = sum(r < max(1.0, WIN) for r in ratios)
            trial.won = 0 < trial.ratio <= WIN and ahead >= CLEAR * len(ratios)
        job.trials.append(trial)
        job.losses = 0 if trial.won else job.losses + 1
        if job.losses >= PATIENCE:
            job.closed = "others were no faster"
        return trial

    def again(self, trial: Trial, base: Sequence[float], mine: Sequence[float]) -> bool:
        """Whether a winner won its second duel too; the ratio of both is then its ratio."""
        ratios = [b / a for a, b in zip(base, mine, strict=True) if a > 0]
        if not ratios or median(ratios) > AGAIN:
            return False
        trial.ratio = (trial.ratio + median(ratios)) / 2
        return True

    def adopt(self, job: Job, trial: Trial) -> None:
        """The winner serves."""
        job.serving = trial.schedule
        job.ms *= trial.ratio
        job.factor *= trial.ratio
        self._at_bound(job)

    def _at_bound(self, job: Job) -> None:
        if job.ms <= NEAR * self.slack * job.bound_ms:
            job.closed = AT_BOUND

    def refuse(self, job: Job, trial: Trial, verdict: str) -> None:
        """A winner that did not stand the last check."""
        trial.won, trial.verdict = False, verdict

    def put_back(self, job: Job, schedule: Schedule) -> None:
        """Nothing is known of the schedule that was taken last: its turn comes once more."""
        job.next = min(job.next, job.schedules.index(schedule))
        job.batch = max(0, job.batch - 1)

    def close(self, job: Job, reason: str) -> None:
        job.closed = reason
