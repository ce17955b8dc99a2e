"""Pair: a session of the compiler beside an engine under wasmtime, for tests that tune a plan to its end.

`go` drives a Course as the page does, on times that the test makes up, and returns what was done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnjit.frontend import BytesSource, load
from nnjit.runtime.course import Course
from nnjit.runtime.local import LocalSession
from nnjit.runtime.memory import SessionMemory
from nnjit.runtime.plan import Plan
from nnjit.runtime.prepared import Options
from nnjit.runtime.session import CompilerSession
from nnjit.runtime.tuning import Tuning
from nnjit.tune.device import DeviceFacts
from tests.support.small_models import several_forms
from tests.support.tuning_lab import WasmLab, adopt

FACTS = DeviceFacts(fma_gflops=5e4, muladd_gflops=5e4, bandwidth=((1 << 30, 5e4),))
MODEL, FEEDS = several_forms()


class Pair:
    """The compiler's session and an engine's under wasmtime, over one map of the memory."""

    def __init__(self, model: bytes = MODEL, feeds: dict[str, Any] = FEEDS) -> None:
        self.feeds = feeds
        self.session = CompilerSession(load(BytesSource(model, "m.onnx"), {}), Options())
        shapes = {name: value.shape for name, value in feeds.items()}
        self.prepared, _ = self.session.prepare(shapes, {})
        self.key = self.prepared.key
        self.engine = LocalSession(model)
        self.load(self.plan, self.key)

    @property
    def plan(self) -> Plan:
        assert isinstance(self.prepared.plan, Plan)
        return self.prepared.plan

    @property
    def memory(self) -> SessionMemory:
        assert isinstance(self.session.memory, SessionMemory)
        return self.session.memory

    def load(self, plan: Plan, key: str) -> None:
        self.engine.load(plan)
        self.engine.plans[key] = self.engine.plans[plan.key]

    def run(self) -> dict[str, Any]:
        return self.engine.run(self.feeds)

    def course(self) -> Course:
        made = lambda plan: Tuning(plan, lambda: self.memory, self.session.options.target, FACTS)  # noqa: E731
        return Course(self.session, self.key, made)

    def go(
        self,
        course: Course,
        ratio: Callable[[dict[str, Any]], float],
        clock: Callable[[str], float] | None = None,
    ) -> list[dict[str, Any]]:
        """Drives the course to its end, as the page does; what was done. Without a clock kernels are left alone."""
        lab = WasmLab()
        done: list[dict[str, Any]] = []
        course.surveyed([{"step": i, "ms": 1.0} for i in range(len(self.plan.steps))])
        for _ in range(4000):
            todo = course.next()
            if todo["do"] == "done":
                return done
            if todo["do"] == "pair":
                found = course.forming.report(lab.pair(todo["pair"], ratio(todo["job"])))
                done.append({"do": "pair", **found["line"]})
            elif todo["do"] == "link":
                linked = course.link([self.key])
                done.append({"do": "link", "reason": linked["reason"]})
                if not linked["reason"]:
                    made = course.relinking.made
                    assert made is not None
                    done[-1]["loads"] = [i["kind"] for i in made.init if i["kind"] != "bytes"]
                    self.load(made, self.key)
                    done[-1].update(course.replaced())
            elif todo["do"] == "setup":
                if clock is None:
                    for other in course.tuning.search.jobs:
                        other.closed = "left alone"
                    continue
                job = course.tuning.by_key[todo["job"]["key"]].job
                assert course.tuning.measured(job.ms or 1.0, lab.setup(todo["setup"]))["ok"]
            elif todo["do"] == "trial":
                assert clock is not None
                report = lab.trial(todo["trial"], clock(todo["schedule"]), 1.0)
                if course.tuning.report(report)["won"]:
                    adoption = course.tuning.adoption(
                        {"ok": True, **{k: report[k] for k in ("base", "mine")}}
                    )
                    if adoption is not None:
                        adopt(self.engine, course.tuning, adoption, todo["trial"]["kernel"]["module"])
                        course.tuning.adopted_now()
                        done.append({"do": "swap"})
        raise AssertionError("it did not end")
