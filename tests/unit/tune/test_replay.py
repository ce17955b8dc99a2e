"""Logs of `serve.py tune` replayed without a browser: given the same reports, the same is asked next and wins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nnjit.codegen.schedule.steps import Tile
from nnjit.codegen.wasm.target import Target
from nnjit.frontend import BytesSource, load
from nnjit.runtime.course import Course
from nnjit.runtime.memory import SessionMemory
from nnjit.runtime.prepared import Options
from nnjit.runtime.session import CompilerSession
from nnjit.runtime.tuning import Tuning
from nnjit.tune.device import DeviceFacts
from nnjit.tune.search import Job, Search
from tests.support.small_models import several_forms

HERE = Path(__file__).parent
Lines = list[dict[str, Any]]


def read(name: str) -> tuple[dict[str, Any], Lines]:
    """The head of a log, and what happened."""
    lines = [json.loads(line) for line in (HERE / name).read_text().splitlines()]
    return next(line for line in lines if line["kind"] == "head"), lines


def test_a_search_replays() -> None:
    """log.jsonl: a model whose forms were not asked for. The search, given its times, takes the same candidates in
    the same order and keeps the same ones."""
    head, lines = read("log.jsonl")
    jobs = {}
    for j in head["jobs"]:
        schedules = [(Tile(text, 1),) for text in j["schedules"]]
        first = schedules[0]
        jobs[j["key"]] = Job(
            j["key"], j["name"], j["count"], j["boundMs"], list(schedules), first, first, j["estimateMs"]
        )
    search = Search(list(jobs.values()))
    laid = {line["key"] for line in lines if line["kind"] == "timed"}

    def upto(key: str) -> Job:
        """What the search picks, without kernels that were found to have no choice before they were laid out."""
        while (now := search.pick()) is not None and now.key != key:
            assert now.key not in laid
            search.close(now, "one schedule")
        assert now is not None
        return now

    for line in lines:
        if line["kind"] == "timed" and not line["ok"]:
            search.close(upto(line["key"]), "its definition says otherwise")
        elif line["kind"] == "timed":
            search.timed(upto(line["key"]), line["ms"])
        elif line["kind"] == "trial":
            now = upto(line["key"])
            schedule = search.take(now)
            assert schedule == (Tile(line["text"], 1),)
            trial = search.record(now, schedule, line)
            assert trial.won == line["won"]
            if line.get("adopted"):
                trial.ratio = line["adoptedRatio"]
                search.adopt(now, trial)
    assert search.gained == pytest.approx(head["gained"], rel=1e-6)
    assert any(line.get("adopted") for line in lines) and len(lines) > 20


class Replay:
    """A course of tuning whose lab and engine are a log: what it asks next must be the log's next line."""

    def __init__(self, head: dict[str, Any], lines: Lines) -> None:
        code, feeds = several_forms()
        self.session = CompilerSession(
            load(BytesSource(code, "m.onnx"), {}), Options(target=Target(**head["target"]))
        )
        prepared, _ = self.session.prepare({name: value.shape for name, value in feeds.items()}, {})
        facts = DeviceFacts.read(head["facts"])
        self.course = Course(
            self.session,
            prepared.key,
            lambda plan: Tuning(plan, self.memory, self.session.options.target, facts),
        )
        self.surveys = list(head["surveys"])
        self.log: Iterator[dict[str, Any]] = (
            x for x in lines if x["kind"] in ("form", "plan", "timed", "trial")
        )
        self.swaps: list[str] = []
        self.plans: list[str] = []

    def memory(self) -> SessionMemory:
        assert isinstance(self.session.memory, SessionMemory)
        return self.session.memory

    def line(self, kind: str) -> dict[str, Any]:
        found = next(self.log)
        assert found["kind"] == kind, (kind, found)
        return found

    def go(self) -> str:
        """To its end; why it ended."""
        while True:
            while self.surveys and self.due(self.surveys[0]):
                self.course.surveyed(self.surveys.pop(0)["steps"])
            todo = self.course.next()
            for skipped in todo["skipped"]:
                assert skipped["text"] == self.line("trial")["text"]
            if todo["do"] == "done":
                assert next(self.log, None) is None
                return str(todo["reason"])
            if todo["do"] != "work":
                getattr(self, todo["do"])(todo)

    def pair(self, todo: dict[str, Any]) -> None:
        line = self.line("form")
        assert (todo["job"]["key"], todo["schedule"]) == (line["key"], line["text"])
        assert self.course.forming.report(line)["won"] == line["won"]

    def link(self, todo: dict[str, Any]) -> None:
        line = self.line("plan")
        self.plans.append(line["name"])
        linked = self.course.link([self.course.key])
        assert linked["reason"] == "" or line["name"] == "kept"
        if line["name"] == "kept":
            self.course.refused(line["text"])
        else:
            self.course.replaced()

    def due(self, survey: dict[str, Any]) -> bool:
        return (self.course.plans, self.course.reports) == (survey["plans"], survey["reports"])

    def setup(self, todo: dict[str, Any]) -> None:
        line = self.line("timed")
        assert todo["job"]["key"] == line["key"] and line["ok"]
        assert self.course.tuning.measured(line["ms"], [])["ok"]

    def trial(self, todo: dict[str, Any]) -> None:
        line = self.line("trial")
        tuning = self.course.tuning
        assert (todo["job"]["key"], todo["schedule"]) == (line["key"], line["text"])
        assert tuning.report(line)["won"] == line["won"]
        if not line["won"]:
            return
        # the second duel's times are not in the log, but what came of both is
        again = 2 * line["adoptedRatio"] - line["ratio"] if line.get("adopted") else 2.0
        adoption = tuning.adoption({"ok": True, "base": [1.0], "mine": [again]})
        assert (adoption is not None) == bool(line.get("adopted"))
        if adoption is not None:
            self.swaps.append(tuning.adopted_now()["swapped"]["serving"])


def test_a_course_with_forms_replays() -> None:
    """forms.jsonl, of `serve.py tune several-forms --gap -1 --seconds 60` without inferences and lists of schedules:
    forms tried before and after the kernels, kernels swapped, a plan linked anew."""
    head, lines = read("forms.jsonl")
    replay = Replay(head, lines)
    assert replay.go() == head["status"]["reason"]
    assert replay.swaps == [x["text"] for x in lines if x["kind"] == "swap"]
    mine = {row["key"]: (row["verdict"], row["kept"]) for row in replay.course.forming.rows()}
    assert mine == {row["key"]: (row["verdict"], row["kept"]) for row in head["status"]["forms"]}
    assert replay.course.status()["gained"] == pytest.approx(head["status"]["speedup"], rel=1e-6)
    # the log is worth replaying
    assert not replay.surveys
    matters = {x["text"].split(" ")[0] for x in lines if x["kind"] == "form"}
    assert len(matters) >= 3 and replay.plans and any(kept for _, kept in mine.values())
