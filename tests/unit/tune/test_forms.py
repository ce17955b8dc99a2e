"""Forms as candidates, without a browser: both ways of each node under wasmtime, plans replaced, memory given back."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import helper

from nnjit.codegen.wasm.target import Target
from nnjit.frontend import BytesSource, load
from nnjit.lower.build import lower
from nnjit.lower.forms import Forms, share_question
from nnjit.lower.lowered import Lowered
from nnjit.runtime import forming, known, relink
from nnjit.runtime.common_values import Refused
from nnjit.runtime.compile import compile_plan
from nnjit.runtime.course import CHANGE, END, KERNELS, UNITE
from nnjit.runtime.forming import Forming
from nnjit.runtime.groups import differences, sharing
from nnjit.runtime.memory import SessionMemory
from nnjit.runtime.pair_bench import PairBench
from nnjit.runtime.plan import Plan
from nnjit.runtime.prepared import Options
from nnjit.runtime.session import CompilerSession
from nnjit.runtime.shares import share
from tests.support.pairs import Pair
from tests.support.small_models import model_of, normal, several_forms
from tests.support.tuning_lab import WasmLab

MODEL, FEEDS = several_forms()
SHAPES = {name: value.shape for name, value in FEEDS.items()}


def test_both_ways_of_each_node_agree() -> None:
    """Whatever a matter is lowered as: the same numbers from the same inputs, run after run."""
    pair = Pair()
    done = pair.go(pair.course(), lambda job: 1.0)
    tried = [d for d in done if d["do"] == "pair"]
    assert {d["verdict"] for d in tried} == {"timed"}
    assert {(d["name"], d["text"]) for d in tried} == {
        ("Conv", "direct instead of winograd"),
        ("Conv+Reshape+MatMul", "rows instead of channels"),
        ("Conv+Sigmoid", "apart instead of fused"),
        ("MatMul+Gelu", "apart instead of fused"),
        ("ReduceMean+Exp", "apart instead of fused"),
        ("ScaledDotProductAttention", "split instead of fused"),
    }
    assert not any(d["do"] == "link" for d in done), "nothing won, so the plan must stay"


def test_forms_that_win_change_the_plan() -> None:
    pair = Pair()
    wanted = pair.run()
    before = {k.spec.name for k in pair.plan.kernels}
    course = pair.course()
    done = pair.go(course, lambda job: 0.5)
    links = [d for d in done if d["do"] == "link"]
    assert [link["phase"] for link in links] == [CHANGE, CHANGE], "algorithms, then the other matters"
    after = {k.spec.name for k in pair.plan.kernels}
    assert before != after and any("attention_softmax" in name for name in after - before)
    for name, value in pair.run().items():
        np.testing.assert_allclose(value, wanted[name], atol=1e-3 * np.abs(wanted[name]).max())
    # what was found is known: a plan made with it asks no more
    again = Forming(pair.plan, pair.session.options.target, course.forms, course.chosen)
    assert again.next() is None and again.reason == "no node has another form"
    assert course.status()["gained"] > 1


def test_a_mask_that_a_rule_has_read_keeps_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """A constant causal mask tells the fused kernel where to end; made up, the other way would see more than that."""
    monkeypatch.setattr("nnjit.runtime.pair_bench.ACTUAL", 16)
    n, length = helper.make_node, 61
    nodes = [
        n("Transpose", ["k"], ["t"], perm=[0, 1, 3, 2]),
        n("MatMul", ["q", "t"], ["s"]),
        n("Add", ["s", "mask"], ["m"]),
        n("Softmax", ["m"], ["p"], axis=-1),
        n("MatMul", ["p", "v"], ["o"]),
        n("Relu", ["o"], ["y"]),
    ]
    mask = np.triu(np.full((1, 1, length, length), np.finfo(np.float32).min), 1)
    feeds = {name: normal(1, 2, length, 16) for name in "qkv"}
    pair = Pair(model_of(nodes, feeds, {"mask": mask}, ["y"]), feeds)
    assert any(k.spec.useful for k in pair.plan.kernels), (
        "no kernel ends where the mask does: this tests nothing"
    )
    done = pair.go(pair.course(), lambda job: 1.0)
    assert [(d["name"], d["verdict"]) for d in done] == [("ScaledDotProductAttention+Relu", "timed")]


def test_each_matter_alone_changes_the_plan() -> None:
    """Of one matter all forms win, of the others none: the model computes the same, and nothing else has changed."""
    wanted = Pair().run()
    for text in ("rows instead of channels", "apart instead of fused", "split instead of fused"):
        pair = Pair()
        before = [k.spec.name for k in pair.plan.kernels]
        course = pair.course()
        done = pair.go(course, lambda job, text=text: 0.5 if job["text"] == text else 2.0)  # type: ignore[misc]
        assert [d["reason"] for d in done if d["do"] == "link"] == [""], text
        assert [k.spec.name for k in pair.plan.kernels] != before, text
        for name, value in pair.run().items():
            np.testing.assert_allclose(value, wanted[name], atol=1e-3 * np.abs(wanted[name]).max())


SHARED = Target(shared=True, threads=2)


def test_steps_near_what_sharing_costs_are_tried_both_ways() -> None:
    """A measured answer decides whether a step is shared, in the plan and nowhere else; others follow the rules."""
    session = CompilerSession(load(BytesSource(MODEL, "m.onnx"), {}), Options(target=SHARED))
    plan = session.prepare(SHAPES, {})[0].plan
    assert isinstance(plan, Plan) and isinstance(plan.lowered, Lowered)
    groups = sharing(plan.lowered, SHARED)
    forms = {form for g in groups for form in g.answers.values()}
    assert forms == {"alone", "all"}, "the model has steps on both sides of the rule"
    for group in groups:
        step = plan.steps[group.at]
        assert plan.kernel_of(group.at).spec == group.base[0].spec
        (was,) = group.was.values()
        assert step.parallel == (was == "all") and group.repeated == len(group.base) > 1
    # the lab's plans differ in that alone
    bench = PairBench(groups[0], plan.lowered, plan.lowered, plan.lowered.outputs, SHARED)
    sides = [{(s["parallel"], s["tiles"]) for s in p["steps"]} for p in bench.setup()["plans"]]
    assert [len(s) for s in sides] == [1, 1] and sides[0] != sides[1]
    answers = {q: form for g in groups for q, form in g.answers.items()}
    session.forms = Forms(answers=answers)
    tuned = compile_plan(plan.lowered.graph, SHARED, SessionMemory(), key="tuned", forms=session.forms)
    for i, step in enumerate(tuned.steps):
        asked = share_question(tuned.kernel_of(i).spec.key)
        how = share(tuned.kernel_of(i).spec, step.tiles, 2, answers.get(asked, ""))
        assert (step.parallel, step.unit, step.wake) == (how.parallel, how.unit, how.wake)
        if asked in answers:
            assert step.parallel == (answers[asked] == "all")


def test_a_share_is_measured_or_by_the_rules() -> None:
    """No answer takes a step of one tile apart, or a plan of one thread."""
    spec = Pair().plan.kernels[0].spec
    for tiles, threads, measured in itertools.product((1, 2, 7), (1, 2, 4), ("", "alone", "all")):
        how = share(spec, tiles, threads, measured)
        assert not how.parallel or (tiles > 1 and threads > 1 and measured != "alone")
        if measured == "all" and tiles > 1 and threads > 1:
            assert how.parallel and how.wake and 1 <= how.unit <= tiles


def test_what_costs_too_much_under_a_stream_waits_for_a_pause() -> None:
    """Nothing that takes the lab longer than inferences may wait is tried; in a pause it is, before the end."""
    pair = Pair()
    course = pair.course()
    course.surveyed([{"step": i, "ms": 40.0} for i in range(len(pair.plan.steps))])
    for job in course.tuning.search.jobs:
        job.closed = "left alone"
    while (todo := course.next(200.0))["do"] == "work":
        pass
    assert todo["do"] == "wait" and course.forming.put_off
    assert min(replace(c, share_ms=0.0).lab_ms for c in course.forming.contests) > forming.PAIR_MS
    assert course.next(0.0)["do"] == "wait"
    assert course.next()["do"] == "pair"
    course.forming.dropped()
    for _ in range(200):
        todo = course.next(200.0)
    assert todo["do"] == "done", "a pause is not waited for without end"


def test_algorithms_that_little_depends_on_wait_for_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    for early, first in ((0.0, "pair"), (1.01, "setup")):
        monkeypatch.setattr(forming, "EARLY", early)
        pair = Pair()
        course = pair.course()
        course.surveyed([{"step": i, "ms": 1.0} for i in range(len(pair.plan.steps))])
        while (todo := course.next())["do"] == "work":
            pass
        assert todo["do"] == first
    for job in course.tuning.search.jobs:
        job.closed = "left alone"
    while (todo := course.next())["do"] == "work":
        pass
    assert todo["do"] == "pair"


def test_a_kernel_that_is_in_both_plans_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan changes after kernels were tuned: winners come along, and what was tried stays known."""
    monkeypatch.setattr("nnjit.tune.search.PATIENCE", 3)
    pair = Pair()
    wanted = pair.run()
    course = pair.course()
    first = course.tuning
    tried: list[str] = []

    def clock(text: str) -> float:
        """The second candidate of all wins."""
        tried.append(text)
        return 0.5 if len(tried) == 2 else 2.0

    done = pair.go(course, lambda job: 0.5 if job["text"] == "apart instead of fused" else 2.0, clock)
    assert [d["phase"] for d in done if d["do"] == "link"] == [CHANGE], "the winner is in that plan already"
    assert course.tuning is not first
    both = [s for s in course.tuning.slots if s.job.key in first.by_key and s.job.trials]
    assert len(both) > 3 and all(s.job is first.by_key[s.job.key].job for s in both)
    for slot in both:
        assert len({t.schedule for t in slot.job.trials}) == len(slot.job.trials)
    assert [s.job.key for s in course.tuning.adopted] == [s.job.key for s in first.adopted]
    for name, value in pair.run().items():
        np.testing.assert_allclose(value, wanted[name], atol=1e-3 * np.abs(wanted[name]).max())


def test_one_question_has_one_answer() -> None:
    """Two alike convolutions, with other neighbours: the time of both decides, not the last one looked at."""
    pair = Pair()
    course = pair.course()
    seen: list[str] = []

    def ratio(job: dict[str, Any]) -> float:
        if job["text"] != "direct instead of winograd":
            return 1.0
        seen.append(job["key"])
        return 0.5 if len(seen) % 2 else 0.96

    pair.go(course, ratio)
    for contest in course.forming.contests:
        for q, form in contest.group.answers.items():
            assert course.forming.answers[q] in (form, contest.group.was[q])


def test_what_won_is_one_module_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels swapped slot by slot, their panels made over; then a plan that finds those panels and loads nothing."""
    pair = Pair()
    wanted = pair.run()
    monkeypatch.setattr("nnjit.tune.search.PATIENCE", 2)
    tried: list[str] = []

    def clock(text: str) -> float:
        """Every second one of the first twenty wins."""
        tried.append(text)
        return 0.9 if len(tried) % 2 and len(tried) < 20 else 2.0

    course = pair.course()
    done = pair.go(course, lambda job: 1.0, clock)
    assert sum(d["do"] == "swap" for d in done) > 4
    (link,) = [d for d in done if d["do"] == "link"]
    assert link["phase"] == UNITE and course.state == END
    assert link["loads"] == [], "weights that lie in memory were loaded again"
    for kernel in pair.plan.kernels:
        slot = course.tuning.by_key[kernel.spec.key]
        assert kernel.schedule == slot.job.serving and pair.plan.kernel_of(slot.steps[0]) is kernel
    for name, value in pair.run().items():
        np.testing.assert_allclose(value, wanted[name], atol=1e-4)
    # and back to what it was at first
    first = {k.spec.key: k.schedule for k in Pair().plan.kernels}
    assert course.reset()
    back = pair.go(course, lambda job: 1.0)
    assert [d["do"] for d in back] == ["link"]
    assert all(k.schedule == first[k.spec.key] for k in pair.plan.kernels)
    for name, value in pair.run().items():
        np.testing.assert_allclose(value, wanted[name], atol=1e-4)


def test_a_form_with_wrong_numbers_never_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other side is made to leave some of its work undone: it is found out, recorded, and not tried again."""
    real = PairBench.setup

    def broken(self: PairBench) -> dict[str, Any]:
        found = real(self)
        for o in found["outputs"]:
            o["other"] += 64  # not where it writes
        return found

    monkeypatch.setattr(PairBench, "setup", broken)
    pair = Pair()
    course = pair.course()
    done = pair.go(course, lambda job: 0.5)
    assert {d["verdict"] for d in done if d["do"] == "pair"} == {"wrong"}
    assert not any(d["do"] == "link" for d in done) and not course.forming.answers
    unfit = set(course.forming.failures())
    assert unfit
    monkeypatch.undo()
    again = Forming(pair.plan, pair.session.options.target, Forms(), course.chosen, unfit.__contains__)
    assert again.next() is None


def test_a_plan_that_would_take_too_much_memory_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relink, "MORE_BYTES", 64)
    monkeypatch.setattr(relink, "MORE_SHARE", 0.0)
    pair = Pair()
    top, steps = pair.memory.top, len(pair.plan.steps)
    course = pair.course()
    done = pair.go(course, lambda job: 0.5)
    links = [d for d in done if d["do"] == "link"]
    assert links and all("more memory" in link["reason"] for link in links)
    assert pair.memory.top == top and len(pair.plan.steps) == steps and course.state == END


def test_a_plan_that_the_engine_refuses_leaves_no_trace() -> None:
    pair = Pair()
    state = pair.memory.state()
    course = pair.course()
    lab = WasmLab()
    while (todo := course.next())["do"] != "link":
        if todo["do"] == "pair":
            course.forming.report(lab.pair(todo["pair"], 0.5))
    assert not course.link([pair.key])["reason"]
    assert pair.memory.state() != state
    course.refused("no memory")
    assert pair.memory.state() == state and course.state == KERNELS
    assert "no memory" in course.status()["notes"]


def test_what_a_refused_plan_brought_no_other_plan_counts_on() -> None:
    """Made while it was on its way, a plan for other shapes brings all constants that it reads itself."""
    pair = Pair()
    course = pair.course()
    lab = WasmLab()
    while (todo := course.next())["do"] != "link":
        if todo["do"] == "pair":
            course.forming.report(lab.pair(todo["pair"], 0.5))
    first = pair.memory.top
    assert not course.link([pair.key])["reason"]
    linked = pair.memory.top
    assert linked > first, "it needs no constants of its own: nothing is shown here"
    pair.session.forms = course.forming.forms  # what has won is how others are lowered
    made = compile_plan(
        pair.session.model.bind(shapes=SHAPES),
        pair.session.options.target,
        pair.memory,
        None,
        "other",
        None,
        pair.session.forms,
    )
    theirs = {at for at in pair.memory.constants.values() if first <= at < linked}
    assert not theirs and made.pages
    slots, top = pair.memory.next_slot, pair.memory.top
    course.refused("its loading was cancelled")
    assert (pair.memory.next_slot, pair.memory.top) == (slots, top), "the other plan's places are taken"


def test_lowering_goes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no time to spend, each call does one region; inferences have the cores in between."""
    monkeypatch.setattr("nnjit.runtime.forming.PART_MS", 0.0)
    pair = Pair()
    course = pair.course()
    calls = 0
    while course.next()["do"] == "work":
        calls += 1
    assert calls >= 3


def test_groups_are_refused_where_layouts_differ() -> None:
    """A pair needs inputs that lie alike on both sides."""
    pair = Pair()
    base = pair.plan.lowered
    assert isinstance(base, Lowered)
    mine = _other(base)
    found = differences(base, mine)
    assert found
    group = found[0]
    for b in {b for s in group.base for b in s.reads if not b.constant}:
        for v in list(mine.tensors.places):
            if base.tensors.places.get(v) and base.tensors.places[v].buffer is b:
                del mine.tensors.places[v]
    with pytest.raises(Refused):
        PairBench(group, base, mine, mine.outputs, pair.session.options.target)


def _other(base: Lowered) -> Lowered:
    base.graph.outputs[:] = base.outputs
    return lower(base.graph, Target(), forms=Forms(other="algorithm"))


def test_answers_are_kept_and_corrupt_ones_not_believed() -> None:
    known.forget({})
    good = known.form_line("Conv-1", "direct")
    unfit = known.form_line("Conv-2", "winograd", "unfit")
    old = good.replace('"compiler": ', '"compiler": 9')
    corrupt = [good[:-4], "null", "7", "[]", '{"question": "Conv-3"}', "\0", '{"format": 1}']
    try:
        told = known.know({"own": [old, *corrupt]})
        assert told["own"] == 0 and told["refused"] == len(corrupt)
        assert not known.KNOWN.forms and not known.KNOWN.unfit
        known.know({"own": [good, unfit]})
        assert known.KNOWN.forms == {"Conv-1": "direct"} and known.KNOWN.unfit == {"Conv-2 winograd"}
    finally:
        known.forget({})


def test_an_unknown_form_is_not_lowered() -> None:
    """Whatever storage says, only what a node can be lowered as counts."""
    base = Pair().plan.lowered
    assert isinstance(base, Lowered)
    answers = {c.question: "by magic" for c in base.choices.values()}
    base.graph.outputs[:] = base.outputs
    again = lower(base.graph, Target(), forms=Forms(answers=answers))
    assert {c.form for c in again.choices.values()} == {c.form for c in base.choices.values()}
