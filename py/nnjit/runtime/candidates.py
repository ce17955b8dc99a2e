"""Candidates for the kernels of a plan, on any backend: what to try next, what came of it, what serves.

`next()` gives one thing to do (lay out a kernel, try a candidate, stop), the page has the engine do it and hands the
report back. A winner becomes an adoption: what the engine must do so that it serves. Backends say how a kernel is laid
out and adopted (`tuning.Tuning`, `gpu_tuning.GpuTuning`). Runs on any Python: the browser is the caller's business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, Generic, TypeAlias, TypeVar

from nnjit.codegen.expr import UnsupportedExpr
from nnjit.codegen.schedule.steps import Schedule, ScheduleError, describe
from nnjit.codegen.spec import KernelSpec
from nnjit.errors import NnjitError, SessionError
from nnjit.runtime.repack import Refused
from nnjit.runtime.slots import Laid, Panels, Slot
from nnjit.tune import oracle, schedules
from nnjit.tune.policy import ROUNDS
from nnjit.tune.records import Record
from nnjit.tune.search import Search, Trial
from nnjit.tune.space import LIMIT, Space

NOTHING = "nothing more is worth a try"

APlan = TypeVar("APlan")
AMemory = TypeVar("AMemory")
ATarget = TypeVar("ATarget")
AFacts = TypeVar("AFacts")
APanels = TypeVar("APanels", bound=Panels)


class Candidates(ABC, Generic[APlan, AMemory, ATarget, AFacts, APanels]):
    """See the module: of a plan, its session's memory map, the target and the device's facts. own: what this browser
    found for a spec before, which its plan was then compiled with: one test against the default is all it gets.
    offered: what others found, tried first. failed: what is not tried again. alone: there is no other plan."""

    backend: str
    """As records name it."""

    def __init__(
        self,
        plan: APlan,
        memory: Callable[[], AMemory],
        target: ATarget,
        facts: AFacts,
        own: Callable[[KernelSpec], Schedule | None] = lambda spec: None,
        offered: Callable[[KernelSpec], list[Schedule]] = lambda spec: [],
        failed: Callable[[KernelSpec], set[Schedule]] = lambda spec: set(),
        alone: Callable[[], bool] = lambda: True,
    ) -> None:
        self.plan, self.memory, self.target, self.facts = plan, memory, target, facts
        self.own, self.offered, self.failed, self.alone = own, offered, failed, alone
        self.slots = self._slots()
        self.repacking = self._repacking()
        self.search = Search([s.job for s in self.slots])
        self.by_key = {s.job.key: s for s in self.slots}
        self.now: tuple[Slot, Schedule, float] | None = None
        self.asked = False
        """`now` is with the lab."""
        self.winner: Trial | None = None
        self.bench_of: Slot | None = None
        self.pending_probes: list[oracle.Probe] = []
        self.adopted: list[Slot] = []
        self.skipped: list[dict[str, Any]] = []

    def inherit(self, other: AnyCandidates) -> None:
        """Another plan had some of these kernels: what is known of them stays, and they are not tried again."""
        for slot in self.slots:
            found = other.by_key.get(slot.job.key)
            if found is None or found.job.serving != slot.job.serving:
                continue
            found.job.count = slot.job.count
            slot.job, slot.known = found.job, found.known
            if found in other.adopted:
                self.adopted.append(slot)
        slack = other.search.slack
        self.search = Search([s.job for s in self.slots])
        self.search.slack = slack

    def relinked(self, plan: APlan) -> None:
        """The same kernels serve from another plan: what is known of them stays."""
        self.plan = plan
        fresh = {s.job.key: s for s in self._slots()}
        for slot in self.slots:
            found = fresh.get(slot.job.key)
            if found is not None:
                slot.number, slot.steps = found.number, found.steps
        self.slots = [s for s in self.slots if s.job.key in fresh]
        self.repacking = self._repacking()
        self.relay()

    # ---- what a backend says ----

    @abstractmethod
    def _slots(self) -> list[Slot]:
        """A slot for each kernel of the plan; the lists of schedules are made when a slot is first looked at."""

    @abstractmethod
    def _repacking(self) -> APanels:
        """What makes over panels of the plan's constants."""

    @abstractmethod
    def _space(self, spec: KernelSpec) -> Space:
        """The schedules that are worth a try."""

    @abstractmethod
    def _usable(self, slot: Slot, schedule: Schedule) -> bool:
        """Whether a schedule may serve where the slot is in the plan."""

    @abstractmethod
    def _bench(self, slot: Slot) -> Laid:
        """The kernel by itself; ScheduleError where there is no room for it."""

    @abstractmethod
    def _swap(self, slot: Slot, before: Schedule, after: Schedule) -> dict[str, Any]:
        """What the engine does so that `after` serves; Refused where it cannot."""

    @abstractmethod
    def _serves(self, slot: Slot, schedule: Schedule) -> None:
        """The engine has swapped: the plan has this schedule now."""

    # ---- what there is to tune ----

    def _list(self, slot: Slot) -> None:
        """The schedules of a slot: records first, then the lite space, those that its place in the plan allows."""
        space = self._space(slot.spec)
        wanted = [slot.job.serving]
        slot.job.raw = space.raw
        if self.own(slot.spec) == slot.job.serving:
            slot.known = True
            wanted.append(space.default)
        else:
            wanted += [s for s in self.offered(slot.spec) if space.fits(s)]
            wanted += space.lite(checked=False)
        failed = self.failed(slot.spec)
        usable = [s for s in dict.fromkeys(wanted) if s not in failed and self._usable(slot, s)][:LIMIT]
        slot.job.schedules, slot.job.next = usable, 0

    def surveyed(self, steps: Sequence[Mapping[str, Any]]) -> None:
        """Times of steps in a real inference, [{step, ms}]: where the model's time goes, kernels not tried yet too."""
        ms = {int(s["step"]): float(s["ms"]) for s in steps}
        for slot in self.slots:
            found = [ms[i] for i in slot.steps if i in ms]
            if found:
                self.search.surveyed(slot.job, max(sum(found) / len(found), 1e-5))

    # ---- what to do next ----

    def next(self, most_ms: float | None = None) -> dict[str, Any]:
        """{do: 'setup' | 'trial' | 'done', ...}: for the lab. 'wait': what is left would take the lab
        more than `most_ms` of what a stream of inferences may still wait. skipped: candidates that did not fit, for the
        log."""
        self.skipped = []
        return {**self._next(inf if most_ms is None else most_ms), "skipped": self.skipped}

    def _next(self, most_ms: float) -> dict[str, Any]:
        while True:
            job = self.search.pick(most_ms)
            if job is None and self.search.put_off(most_ms):
                return {"do": "wait"}
            if job is None:
                return {"do": "done", "reason": NOTHING}
            slot = self.by_key[job.key]
            if len(job.schedules) == 1 and not job.trials:
                self._list(slot)
                if len(job.schedules) == 1:
                    self.search.close(job, "known" if slot.known else "one schedule")
                    continue
            try:
                if slot is not self.bench_of:
                    return {"do": "setup", "job": slot.about(), "setup": self._lay(slot)}
                made = self._candidate(slot)
            except (ScheduleError, UnsupportedExpr) as error:
                self.search.close(job, str(error))
                continue
            if made is not None:
                return made

    def _lay(self, slot: Slot) -> dict[str, Any]:
        """Lays the slot's operands out in the lab, and the serving kernel with them."""
        self.bench_of = None
        slot.laid = self._bench(slot)
        self.pending_probes = [] if slot.job.ms else oracle.probes(slot.spec)
        setup = slot.laid.setup(slot.job.serving, [(p.operand, p.at) for p in self.pending_probes])
        self.bench_of = slot
        return {**setup, "expectedMs": slot.job.ms or slot.job.estimate_ms}

    def _candidate(self, slot: Slot) -> dict[str, Any] | None:
        schedule = self.search.take(slot.job)
        if schedule is None or slot.laid is None:
            return None
        try:
            kernel, emit_ms = slot.laid.candidate(schedule)
        except (ScheduleError, UnsupportedExpr, NnjitError) as error:
            self.search.record(slot.job, schedule, {"verdict": "illegal", "reason": str(error)})
            self.skipped.append({**slot.about(), "text": describe(schedule), "verdict": "illegal"})
            return None
        self.now, self.asked = (slot, schedule, emit_ms), True
        trial = {"kernel": kernel, "rounds": ROUNDS}
        return {
            "do": "trial",
            "job": slot.about(),
            "schedule": describe(schedule),
            "emitMs": emit_ms,
            "trial": trial,
        }

    # ---- what came of it ----

    def measured(self, ms: float, samples: list[list[int]]) -> dict[str, Any]:
        """The lab has laid out a kernel: its time, and its values at the probes, which must be what the spec says."""
        slot = self._laid()
        wrong = oracle.disagreement(slot.spec, self.pending_probes, samples, slot.job.serving)
        if wrong:
            self.search.close(slot.job, wrong)
            return {"ok": False, "reason": wrong}
        self.search.timed(slot.job, ms)
        return {"ok": True, "reason": "", "ms": ms}

    def _laid(self) -> Slot:
        if self.bench_of is None:
            raise SessionError("Nothing is laid out in the lab")
        return self.bench_of

    def report(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """A trial's outcome: {won, ...} and the line for the log."""
        if self.now is None:
            raise SessionError("No candidate is being tried")
        slot, schedule, emit_ms = self.now
        self.asked = False
        trial = self.search.record(slot.job, schedule, dict(report))
        self.winner = trial if trial.won else None
        line = {
            **slot.about(),
            "schedule": schedules.to_json(schedule),
            "text": describe(schedule),
            "emitMs": emit_ms,
            "compileMs": report.get("compileMs", 0.0),
            "checked": report.get("checked", 0),
            "worst": report.get("worst", 0.0),
            "base": list(report.get("base") or ()),
            "mine": list(report.get("mine") or ()),
            "busyMs": report.get("busyMs", 0.0),
            "verdict": trial.verdict,
            "reason": report.get("reason", ""),
            "ratio": trial.ratio,
            "won": trial.won,
        }
        return {"won": trial.won, "line": line, "gained": self.search.gained}

    def adoption(self, confirmed: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the engine must do so that the last winner serves; None where it failed its last check or cannot."""
        if self.winner is None or self.now is None:
            return None
        slot, schedule, _ = self.now
        verdict = "" if confirmed["ok"] else "wrong"
        if not verdict and not self.search.again(self.winner, confirmed["base"], confirmed["mine"]):
            verdict = "timed"
        if verdict:
            self.search.refuse(slot.job, self.winner, verdict)
            self.winner = None
            return None
        try:
            return self._swap(slot, slot.job.serving, schedule)
        except Refused as error:
            self.search.refuse(slot.job, self.winner, f"refused: {error}")
            self.winner = None
            return None

    def adopted_now(self) -> dict[str, Any]:
        """The engine has swapped: the winner serves, here and in the record."""
        assert self.winner is not None and self.now is not None
        slot, schedule, _ = self.now
        self.repacking.commit()
        self.search.adopt(slot.job, self.winner)
        ratio = self.winner.ratio
        self._serves(slot, schedule)
        if slot.laid is not None:
            slot.laid.keep()
        if slot not in self.adopted:
            self.adopted.append(slot)
        self.winner = None
        return {
            "gained": self.search.gained,
            "ratio": ratio,
            "swapped": {**slot.about(), "serving": describe(schedule)},
        }

    def not_adopted(self, reason: str, again: bool = False) -> None:
        """The engine could not swap; the serving kernel stays. again: through no fault of the winner, which is tried
        once more."""
        if self.winner is not None and self.now is not None:
            slot, schedule, _ = self.now
            self.repacking.undo()
            self.search.refuse(slot.job, self.winner, f"refused: {reason}")
            if again:
                self.search.put_back(slot.job, schedule)
            self.bench_of = None  # the lab may have promoted it: lay out anew
            self.winner = None

    # ---- what is known ----

    def status(self) -> dict[str, Any]:
        """Counts and times, and a row for each kernel, the most expensive first."""
        search = self.search
        slots = sorted(self.slots, key=lambda s: -s.job.share_ms)
        return {
            "kernels": [slot.row(search.model_ms) for slot in slots],
            "tried": sum(len(s.job.trials) for s in self.slots),
            "kept": len(self.adopted),
            "modelMs": search.model_ms,
            "gained": search.gained,
            "leftMs": search.left_ms,
        }

    def dump(self) -> dict[str, Any]:
        """All the search was given, for a log that it can be replayed from: each job's list of schedules as texts."""
        jobs = [
            {"key": j.key, "name": j.name, "count": j.count, "boundMs": j.bound_ms, "estimateMs": j.estimate_ms,
             "raw": j.raw, "schedules": [describe(s) for s in j.schedules], "closed": j.closed}
            for j in self.search.jobs
        ]  # fmt: skip
        return {"jobs": jobs, "gained": self.search.gained}

    def records(self, device: str) -> list[Record]:
        """What was learnt: for each kernel that was tried, the schedule that serves and how it did; what failed."""
        return [record for slot in self.slots for record in slot.records(self.backend, device)]

    def relay(self) -> None:
        """The lab is a new one: whatever was laid out there is gone, and what was not told yet is tried once more."""
        if self.asked and self.now is not None:
            self.search.put_back(self.now[0].job, self.now[1])
        self.not_adopted("interrupted", again=True)
        self.bench_of = self.now = self.winner = None
        self.asked = False

    def forget(self) -> None:
        """Every kernel is to have the schedule that it came with."""
        for slot in self.slots:
            slot.job.serving = slot.job.first
        self.relay()

    def reset(self) -> list[dict[str, Any]]:
        """Adoptions (without a candidate) that bring back the kernels the plan came with. Ask again after each: the
        list is empty when none is left."""
        for slot in self.slots:
            if slot.job.serving == slot.job.first:
                continue
            try:
                adoption = self._swap(slot, slot.job.serving, slot.job.first)
            except Refused:
                continue
            self.repacking.commit()
            slot.job.serving = slot.job.first
            self._serves(slot, slot.job.first)
            return [adoption]
        return []


AnyCandidates: TypeAlias = "Candidates[Any, Any, Any, Any, Any]"
"""Of whichever backend."""
