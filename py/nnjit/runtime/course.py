"""Course: the tuning of one plan from its beginning to its end, as plain data for the page.

First the algorithms of its nodes, which change the plan; then its kernels, slot by slot; then the other matters that
nodes have forms of, and the kernels that come with them; at last all that won is
linked into one module again, where plans are modules.
`next()` says what to do; what came of it is told to `forming`, `tuning` or `relinking`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nnjit.codegen.schedule.steps import Schedule
from nnjit.codegen.spec import KernelSpec
from nnjit.lower.forms import Forms
from nnjit.lower.lowered import Chosen
from nnjit.runtime.candidates import NOTHING, AnyCandidates
from nnjit.runtime.forming import Forming
from nnjit.runtime.gpu_plan import GpuPlan
from nnjit.runtime.plan import Plan
from nnjit.runtime.relink import Relinking

if TYPE_CHECKING:
    from nnjit.runtime.session import CompilerSession

FORMS, CHANGE, KERNELS, UNITE, END = "forms", "change", "kernels", "unite", "end"


PATIENCE = 120
"""How often a pause is waited for in which what was put off could be tried."""
TOO_LONG = "what is left would keep inferences waiting too long"
"""Why a course ends that no pause came for."""


class Course:
    """See the module. make: the candidates for the kernels of a plan, on its backend. failed: whether "question form"
    went wrong here before."""

    def __init__(
        self, session: CompilerSession, key: str, make: Callable[[Any], AnyCandidates],
        failed: Callable[[str], bool] = lambda q: False,
    ) -> None:  # fmt: skip
        self.session, self.key, self._make = session, key, make
        plan = session.plan(key).plan
        assert plan is not None
        self.tuning = make(plan)
        self.chosen: Chosen = session.allowed
        self.first: dict[str, Schedule] = {k.spec.key: k.schedule for k in plan.kernels}
        target = plan.target if isinstance(plan, GpuPlan) else session.options.target
        self.forming = Forming(plan, target, session.forms, self.chosen, failed)
        self.modular = isinstance(plan, Plan)
        """Kernels that won are modules of their own until the plan is linked anew; a GPU's shaders always are."""
        if (
            not self.modular
        ):  # until its steps are timed one by one, in a pause, what they should take has to do
            self.forming.surveyed({i: s.job.estimate_ms for s in self.tuning.slots for i in s.steps})
        self.relinking = Relinking(session, key)
        self.surveys: list[dict[str, Any]] = []
        """What steps took, and when that was told: after how many plans and reports."""
        self.plans = 0
        self._undone = False
        """What kernels of the plan that serves have is no reason to keep them."""
        self.state = FORMS
        self.begun = False
        self.changed = False
        """Another plan than the first one serves."""
        self.reason = NOTHING
        """Why the kernels' turn ended."""
        self.notes: list[str] = []
        self._applied: dict[str, str] = {}
        """What had changed by the last plan that was begun."""
        self._waits = 0
        self._late = False
        """Kernels have had their turn."""
        self._linked = 0
        """Winners among kernels that are in the plan already."""

    def surveyed(self, steps: Sequence[Mapping[str, Any]]) -> None:
        """Times of the steps in a real inference."""
        told = [{"step": int(s["step"]), "ms": float(s["ms"])} for s in steps]
        self.surveys.append({"plans": self.plans, "reports": self.reports, "steps": told})
        self.tuning.surveyed(steps)
        if self.state == FORMS:
            self.forming.surveyed({int(s["step"]): float(s["ms"]) for s in steps})

    # ---- what to do next ----

    def next(self, most_ms: float | None = None) -> dict[str, Any]:
        """{do, ...}: 'work' (ask again), 'pair', 'setup' and 'trial' for the lab, 'link' (call `link`), 'wait' (ask
        again later), 'done'. most_ms: under a stream of inferences, what the lab may take for one thing."""
        while True:
            if self.state == FORMS:
                found = self.forming.next(most_ms, self._late)
                if found is None:
                    self._go(KERNELS if self.forming.changes == self._applied else CHANGE)
            elif self.state in (CHANGE, UNITE):
                found = self._relink()
                if found is None:
                    self.notes.append(self.relinking.reason)
                    self._go(KERNELS if self.state == CHANGE else END)
            elif self.state == KERNELS:
                found = self.tuning.next(most_ms)
                if found["do"] == "wait":
                    self._waits += 1
                    if self._waits > PATIENCE:
                        found = {"do": "done", "reason": TOO_LONG}
                if found["do"] == "done":
                    self.reason = str(found["reason"])
                    found = self._after_kernels(most_ms)
            else:
                found = {"do": "done", "reason": self.reason}
            if found is not None:
                return {"skipped": [], **found, "phase": self.state}

    def _after_kernels(self, most_ms: float | None) -> dict[str, Any] | None:
        """Forms of other matters than algorithms, and those that were put off until there is a pause."""
        self._late = True
        if self.forming.put_off and self._waits < PATIENCE:
            if most_ms is not None and self.forming.least_ms > most_ms:
                self._waits += 1
                return {"do": "wait"}
            self._go(FORMS)
            return None
        self._go(UNITE if self.modular and len(self.tuning.adopted) > self._linked else END)
        return None

    def _go(self, state: str) -> None:
        self.state, self.begun = state, False

    def _relink(self) -> dict[str, Any] | None:
        if not self.begun:
            self.begun = True
            self._applied = self.forming.changes
            if not self.relinking.begin(self.winners, self.forms):
                return None
        return self.relinking.next()

    @property
    def forms(self) -> Forms:
        """With all that was found."""
        known = self.session.forms
        return Forms(known.convolution, {**known.answers, **self.forming.answers})

    def winners(self, spec: KernelSpec) -> Schedule | None:
        """The schedule that serves for a spec; None: the rules decide, about its form too."""
        slot = None if self._undone else self.tuning.by_key.get(spec.key)
        return slot.job.serving if slot is not None else self.chosen(spec)

    # ---- what came of it ----

    def link(self, loaded: Sequence[str]) -> dict[str, Any]:
        """The plan to load; see Relinking."""
        found = self.relinking.link(loaded)
        if found["reason"]:
            self.refused(found["reason"])
        return found

    def replaced(self) -> dict[str, Any]:
        """The engine has put the new plan in the old one's place."""
        old, state = self.tuning, self.state
        gone = self.relinking.done()
        plan = self.relinking.plan
        self.changed = True
        self.plans += 1
        if state == UNITE:
            old.relinked(plan)
            self._go(END)
        else:
            self.tuning = self._make(plan)
            self.tuning.inherit(old)
            self._linked = len(self.tuning.adopted)
            self.first = {k.spec.key: k.schedule for k in plan.kernels} | self.first
            self._go(KERNELS)
        return {"phase": state, "steps": len(plan.steps), "kernels": len(plan.kernels), "free": gone}

    def refused(self, reason: str) -> None:
        """The old plan stays."""
        self.relinking.failed(reason)
        self.notes.append(reason)
        if self.state == CHANGE:
            self._go(KERNELS)
        elif self.state == UNITE:
            self._go(END)

    def relay(self) -> None:
        """The lab is a new one: whatever was laid out there is gone, and a plan half made is begun anew."""
        self.tuning.relay()
        self.forming.dropped()
        if self.state in (CHANGE, UNITE):
            self.relinking.failed("interrupted")
            self.begun = False
        elif self.state == END:
            self._go(KERNELS)

    def reset(self) -> bool:
        """The plan as it was first made comes next, if another one serves: ask `next` until it is linked."""
        if not self.changed:
            return False
        self.tuning.forget()
        self.forming.contests.clear()
        self.chosen, self._undone = self.session.trusted, True
        self._go(UNITE)
        return True

    @property
    def reports(self) -> int:
        """How many came of what serves, and of its forms."""
        tried = sum(len(slot.job.trials) for slot in self.tuning.slots)
        return tried + sum(bool(c.verdict) for c in self.forming.contests)

    def dump(self) -> dict[str, Any]:
        """All that decisions came from but reports, for a log that the course can be replayed from."""
        gpu = self.session.options.gpu
        target = asdict(gpu or self.session.options.target)
        if gpu:
            target["features"] = sorted(gpu.features)
        return {**self.tuning.dump(), "surveys": self.surveys, "target": target}

    def status(self) -> dict[str, Any]:
        """Of kernels and forms together."""
        found = self.tuning.status()
        before = found["modelMs"]
        saved = self.forming.gained_ms if self.changed else 0.0
        factor = (before + saved) / before if before > 0 else 1.0
        return {
            **found,
            "gained": found["gained"] * factor,
            "phase": self.state,
            "forms": self.forming.rows(),
            "notes": [n for n in self.notes if n],
        }
