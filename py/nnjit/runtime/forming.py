"""Forming: which form each node of a plan should have, found by trying the others: Winograd or direct, attention as
one kernel or three, an epilogue fused or not, the order of an output, a sum in parts, a step on one thread or on all.

Takes a plan with what it was lowered from; `next()` gives a thing to do, or None at the end. For each matter in turn
the graph is lowered once more with all the other forms of it, a little at a time; where the steps differ, both ways
are laid out in the lab, held against each other and timed in turn. `answers` then says, by question, what to lower the
graph with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from nnjit.codegen.wasm.target import Target
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.errors import NnjitError
from nnjit.lower.backend import AnyTarget
from nnjit.lower.build import Build
from nnjit.lower.forms import ALGORITHM, LOWERED, Forms
from nnjit.lower.lowered import Chosen, HostCall, Kernel, Lowered
from nnjit.runtime.common_values import Refused
from nnjit.runtime.gpu_pair import GpuPairBench
from nnjit.runtime.gpu_plan import GpuPlan
from nnjit.runtime.groups import Group, differences, sharing
from nnjit.runtime.pair_bench import PairBench
from nnjit.runtime.plan import Plan
from nnjit.runtime.slots import FAILURES
from nnjit.tune.policy import EARLY, LAB, PAIR_ROUNDS, PAIR_WIN, PART_MS, WORTH

LEAST_MS = 0.7
"""What one reading of a group takes at least."""
PAIR_MS = 60.0
"""What it takes besides: both ways are laid out and linked, and run through with code that is not fast yet."""


@dataclass(slots=True)
class Contest:
    """Alike groups. ratio: the other form's time over the serving one's; verdict as of a candidate."""

    group: Group
    other: Lowered
    count: int
    share_ms: float
    verdict: str = ""
    reason: str = ""
    base_ms: float = 0.0
    ratio: float = 0.0
    base: list[float] = field(default_factory=list)
    mine: list[float] = field(default_factory=list)

    @property
    def lab_ms(self) -> float:
        """About what it takes to try it: both ways, for what they give, for their fast code, then in rounds."""
        return PAIR_MS + 2 * max(self.share_ms / self.count * self.group.repeated, LEAST_MS) * (
            5 + PAIR_ROUNDS
        )

    @property
    def won(self) -> bool:
        ahead = sum(b <= a for a, b in zip(self.base, self.mine, strict=True))
        return self.verdict == "timed" and self.ratio <= PAIR_WIN and ahead >= 0.8 * len(self.base)


class Forming:
    """See the module. chosen: the schedules that the plan was lowered with. known: answers that were found before;
    they are not asked again. failed: "question form" of what was wrong or trapped here before."""

    def __init__(
        self, plan: Plan | GpuPlan, target: AnyTarget, forms: Forms, chosen: Chosen,
        failed: Callable[[str], bool] = lambda q: False,
    ) -> None:  # fmt: skip
        self.plan, self.target, self.forms, self.chosen, self.failed = plan, target, forms, chosen, failed
        self.contests: list[Contest] = []
        self.step_ms: dict[int, float] = {}
        self.reason = ""
        self._base = plan.lowered
        self._other: Build | None = None
        self._parts: Iterator[Any] | None = None
        self._about: list[str] = []
        """Matters that are yet to be looked at; the first one now."""
        self._now: Contest | None = None
        self._over = False
        if self._base is None or any(isinstance(s, HostCall) for s in self._base.steps):
            self._end("parts of the model run on the reference")
        else:
            asked = {
                about
                for (_, about), q in self._base.choices.items()
                if self._open(q.question, q.options, q.form)
            }
            self._about = [about for about in LOWERED if about in asked]
            self._shares()
            if not self._about and not self.contests:
                self._end("no node has another form")

    def _open(self, question: str, options: tuple[str, ...], form: str) -> bool:
        others = [o for o in options if o != form]
        return (
            bool(others) and question not in self.forms.answers and not self.failed(f"{question} {others[0]}")
        )

    def _end(self, reason: str) -> None:
        self._over, self.reason = True, reason
        self._parts = self._other = None

    def surveyed(self, ms: Mapping[int, float]) -> None:
        """Times of steps in a real inference."""
        self.step_ms = dict(ms)
        if not self._over:
            self._shares()

    # ---- what to do next ----

    def next(self, most_ms: float | None = None, late: bool = True) -> dict[str, Any] | None:
        """{do: 'work'}: ask again, {do: 'pair', pair, job}: for the lab; None: all is known, or is put off because it
        would take the lab more than `most_ms` of what a stream of inferences may still wait. late: kernels have had
        their turn; before that only algorithms are looked at, and only where much of the model's time is theirs."""
        if self._over:
            return None
        if self._about and (late or (self._about[0] == ALGORITHM and self._weight(ALGORITHM) >= EARLY)):
            return self._lower()
        early = 0.0 if late else EARLY * sum(self.step_ms.values())
        for contest in self.contests:
            if (
                contest.verdict
                or (most_ms is not None and contest.lab_ms > most_ms)
                or contest.share_ms < early
            ):
                continue
            try:
                setup = self._laid(contest)
            except (Refused, NnjitError) as error:
                contest.verdict, contest.reason = "illegal", str(error)
                continue
            self._now = contest
            pair = {"policy": LAB, **setup, "rounds": PAIR_ROUNDS}
            return {"do": "pair", "job": self.about(contest), "schedule": contest.group.text, "pair": pair}
        if not self.put_off:
            self._end("")
        return None

    def _laid(self, contest: Contest) -> dict[str, Any]:
        """Both ways, for the lab of the target."""
        assert self._base is not None
        group, other = contest.group, contest.other
        if isinstance(self.target, WgslTarget):
            return GpuPairBench(group, self._base, other, other.graph.outputs, self.target).setup()
        return PairBench(group, self._base, other, other.graph.outputs, self.target).setup()

    def _weight(self, about: str) -> float:
        """The part of the model's time that nodes with such a question take; 1 where no times are known."""
        total = sum(self.step_ms.values())
        if self._base is None or not total:
            return 1.0
        asked = {
            node
            for (node, matter), q in self._base.choices.items()
            if matter == about and self._open(q.question, q.options, q.form)
        }
        steps = enumerate(s for s in self._base.steps if not s.once)
        theirs = (i for i, s in steps if isinstance(s, Kernel) and s.anchor in asked)
        return sum(self.step_ms.get(i, 0.0) for i in theirs) / total

    @property
    def put_off(self) -> bool:
        """Whether something is left to try."""
        return not self._over and (bool(self._about) or any(not c.verdict for c in self.contests))

    @property
    def least_ms(self) -> float:
        """What the next thing takes the lab."""
        return 0.0 if self._about else min((c.lab_ms for c in self.contests if not c.verdict), default=0.0)

    def _lower(self) -> dict[str, Any] | None:
        """A part of the other lowering: at most PART_MS at a time, so that inferences keep their cores."""
        assert self._base is not None
        graph = self._base.graph
        if self._parts is None:
            graph.outputs[:] = self._base.outputs
            self._other = Build(
                graph, self.target, self.chosen, Forms("auto", self.forms.answers, other=self._about[0])
            )
            self._other.reused.update(self._base.reused)
            self._parts = self._other.parts()
        until = time.perf_counter() + PART_MS / 1e3
        try:
            while next(self._parts, None) is not None:
                if time.perf_counter() >= until:
                    return {"do": "work", "what": "other forms"}
            assert self._other is not None
            mine = self._other.lowered()
            self._compare(differences(self._base, mine), mine)
        except NnjitError as error:
            self.reason = str(error)
        self._parts = self._other = None
        self._about.pop(0)
        return {"do": "work", "what": "other forms"}

    def _shares(self) -> None:
        """The contests about threads: they need no other lowering, and the times of the steps."""
        if not isinstance(self.target, Target):
            return
        assert self._base is not None
        self.contests = [c for c in self.contests if c.other is not self._base]
        self._compare(sharing(self._base, self.target), self._base)

    def _compare(self, groups: Iterable[Group], mine: Lowered) -> None:
        """More contests, those with the most to gain first."""
        alike: dict[str, Contest] = {}
        for group in groups:
            if not all(self._open(q, (was, group.answers[q]), was) for q, was in group.was.items()):
                continue
            ms = sum(self.step_ms.get(group.at + i, 0.0) for i in range(group.steps))
            contest = alike.setdefault(group.key, Contest(group, mine, 0, 0.0))
            contest.count += 1
            contest.share_ms += ms
        total = sum(self.step_ms.values())
        worth = [c for c in alike.values() if not total or c.share_ms > 4 * WORTH * total]
        self.contests = sorted([*self.contests, *worth], key=lambda c: -c.share_ms)

    def about(self, c: Contest) -> dict[str, Any]:
        """A contest as the page shows it."""
        return {"key": c.group.key, "name": c.group.name, "step": c.group.at, "count": c.count,
                "nodes": c.group.nodes, "text": c.group.text, "shareMs": c.share_ms}  # fmt: skip

    # ---- what came of it ----

    def report(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """The lab's report on a pair: the line for the log."""
        c = self._now
        if c is None:
            return {"won": False, "line": {}}
        self._now = None
        c.verdict, c.reason = str(report["verdict"]), str(report.get("reason", ""))
        c.base, c.mine = list(report.get("base") or ()), list(report.get("mine") or ())
        if c.verdict == "timed" and c.base and len(c.base) == len(c.mine):
            c.base_ms = median(c.base) / c.group.repeated
            c.ratio = median(b / a for a, b in zip(c.base, c.mine, strict=True) if a > 0)
        line = {
            **self.about(c),
            "schedules": c.group.schedules(),
            **{k: report.get(k, 0) for k in ("compileMs", "checked", "worst", "busyMs")},
            "base": c.base, "mine": c.mine, "verdict": c.verdict, "reason": c.reason, "ratio": c.ratio, "won": c.won,
        }  # fmt: skip
        return {"won": c.won, "line": line}

    def dropped(self) -> None:
        """The lab is a new one: what it was asked last is asked again."""
        self._now = None

    @property
    def answers(self) -> dict[str, str]:
        """Question -> form, of all that was timed. Where the same question stood in several contests (with other
        neighbours), the time of all of them decides."""
        before: dict[str, float] = {}
        after: dict[str, float] = {}
        forms: dict[str, tuple[str, str]] = {}
        for c in self.contests:
            if c.verdict not in ("timed", "slow"):
                continue
            each = c.base_ms or 1.0
            ratio = (c.ratio if c.won else max(1.0, c.ratio)) if c.verdict == "timed" else 2.0
            for q, form in c.group.answers.items():
                forms[q] = c.group.was[q], form
                before[q] = before.get(q, 0.0) + each * c.count
                after[q] = after.get(q, 0.0) + each * c.count * ratio
        return {q: forms[q][after[q] < before[q]] for q in forms}

    @property
    def changes(self) -> dict[str, str]:
        """The answers that differ from what the plan had at first: with any the plan should be lowered anew."""
        was = {q: form for c in self.contests for q, form in c.group.was.items()}
        return {q: form for q, form in self.answers.items() if was[q] != form}

    @property
    def gained_ms(self) -> float:
        """What an inference gains by the answers."""
        answers = self.answers
        return sum(
            c.base_ms * c.count * (1 - c.ratio)
            for c in self.contests
            if c.verdict == "timed" and any(answers.get(q) == form for q, form in c.group.answers.items())
        )

    def failures(self) -> list[str]:
        """ "question form" of each that was wrong, trapped or was refused by the browser."""
        return [
            f"{q} {form}" for c in self.contests if c.verdict in FAILURES for q, form in c.group.answers.items()
        ]  # fmt: skip

    def rows(self) -> list[dict[str, Any]]:
        """A row for each contest, for the page."""
        answers = self.answers
        return [
            {**self.about(c), "verdict": c.verdict, "reason": c.reason, "ms": c.base_ms, "ratio": c.ratio,
             "kept": any(answers.get(q) == form for q, form in c.group.answers.items())}
            for c in self.contests
        ]  # fmt: skip
