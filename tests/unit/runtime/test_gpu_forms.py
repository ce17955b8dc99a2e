"""Forms of a plan for WebGPU without a device: which questions its nodes ask, that both ways of each give the same
numbers by the interpreter, and what becomes of plans and constants when forms win or a new plan is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from nnjit.codegen import interp
from nnjit.codegen.dtypes import NUMPY, SIZES
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.frontend import BytesSource, load
from nnjit.lower.build import lower
from nnjit.lower.forms import LOWERED, Forms
from nnjit.lower.lowered import Kernel, Lowered
from nnjit.lower.tensors import Buffer
from nnjit.runtime import relink
from nnjit.runtime.course import CHANGE, KERNELS, Course
from nnjit.runtime.gpu_memory import GpuMemory
from nnjit.runtime.gpu_pair import GpuPairBench
from nnjit.runtime.gpu_plan import GpuPlan
from nnjit.runtime.gpu_tuning import GpuTuning
from nnjit.runtime.groups import differences
from nnjit.runtime.pair_bench import TOLERANCE
from nnjit.runtime.prepared import Options
from nnjit.runtime.session import CompilerSession
from nnjit.tune.gpu_device import GpuFacts
from tests.support.small_models import GPU_FORMS as WAYS
from tests.support.small_models import several_gpu_forms

MODEL, FEEDS = several_gpu_forms()
SHAPES = {name: value.shape for name, value in FEEDS.items()}
TARGET = WgslTarget(invocations=64, max_shared_bytes=32768)


class Gpu:
    """A compiler's session for a GPU."""

    def __init__(self, answers: dict[str, str] | None = None, model: bytes = MODEL) -> None:
        self.session = CompilerSession(
            load(BytesSource(model, "m.onnx"), {}), Options(provider="webgpu", gpu=TARGET)
        )
        self.session.forms = Forms(answers=answers or {})
        self.prepared, _ = self.session.prepare(SHAPES, {})
        self.key = self.prepared.key

    @property
    def plan(self) -> GpuPlan:
        assert isinstance(self.prepared.plan, GpuPlan)
        return self.prepared.plan

    @property
    def lowered(self) -> Lowered:
        assert self.plan.lowered is not None
        return self.plan.lowered

    @property
    def memory(self) -> GpuMemory:
        assert isinstance(self.session.memory, GpuMemory)
        return self.session.memory

    def course(self, failed: Callable[[str], bool] = lambda q: False) -> Course:
        def made(plan: GpuPlan) -> GpuTuning:
            return GpuTuning(plan, lambda: self.memory, TARGET, GpuFacts())

        course = Course(self.session, self.key, made, failed)
        for job in course.tuning.search.jobs:
            job.closed = "left alone"
        return course

    def go(self, course: Course, ratio: Callable[[str], float]) -> list[dict[str, Any]]:
        """To its end, as the page does it, kernels left alone; what was done."""
        done: list[dict[str, Any]] = []
        for _ in range(1000):
            todo = course.next()
            if todo["do"] == "done":
                return done
            if todo["do"] == "pair":
                times = {"base": [1.0] * 7, "mine": [ratio(todo["schedule"])] * 7}
                found = course.forming.report({"verdict": "timed", **times})
                done.append({"do": "pair", **found["line"]})
            elif todo["do"] == "link":
                linked = course.link([self.key])
                done.append({"do": "link", **linked})
                if not linked["reason"]:
                    done[-1] |= course.replaced()
                    for job in course.tuning.search.jobs:
                        job.closed = "left alone"
            else:
                assert todo["do"] == "work", todo
        raise AssertionError("it did not end")


def numbers(steps: list[Kernel], given: dict[Buffer, Any]) -> dict[Buffer, Any]:
    """What steps leave in their buffers, by the interpreter; constants are random, the same for the same source."""
    memory = dict(given)
    for s in steps:
        arrays = []
        for (b, offset), o in zip(s.places, s.spec.operands, strict=True):
            if b not in memory:
                count = b.nbytes // SIZES[o.dtype]
                if b.source is not None:
                    memory[b] = np.frombuffer(b.source.raw(), NUMPY[o.dtype]).copy()
                else:
                    memory[b] = np.zeros(count + 64, NUMPY[o.dtype])
            arrays.append(memory[b][offset:])
        interp.run(apply(s.spec, s.schedule), arrays)
    return memory


def kernels(lowered: Lowered) -> list[str]:
    return [s.spec.name for s in lowered.steps if isinstance(s, Kernel)]


def test_both_ways_of_each_node_give_the_same() -> None:
    base = Gpu().lowered
    rng = np.random.default_rng(3)
    seen = set()
    for about in LOWERED:
        base.graph.outputs[:] = base.outputs
        mine = lower(base.graph, TARGET, forms=Forms(other=about))
        for group in differences(base, mine):
            bench = GpuPairBench(group, base, mine, mine.graph.outputs, TARGET)
            seen.add((group.name, group.text))
            results = []
            filled = {v: rng.normal(0, 1, v.size or 0) for v in bench.shared.inputs}
            for side, whole in zip(bench.sides, (base, mine), strict=True):
                given = {}
                for v, values in filled.items():
                    b = whole.tensors.places[v].buffer
                    given[b] = np.resize(values.astype(NUMPY[v.dtype]), b.nbytes // SIZES[v.dtype] + 64)
                steps = [s for s in (*side.once, *side.run) if isinstance(s, Kernel)]
                memory = numbers(steps, given)
                results.append([memory[whole.tensors.places[v].buffer] for v in bench.shared.outputs])
            for v, a, b in zip(bench.shared.outputs, *results, strict=True):
                n = base.tensors.places[v].buffer.nbytes // SIZES[v.dtype]
                np.testing.assert_allclose(b[:n], a[:n], atol=TOLERANCE["f32"] * np.abs(a[:n]).max())
                assert np.abs(a[:n]).max() > 0
    assert seen == WAYS


def test_a_pair_is_two_plans_with_the_same_weights_and_inputs() -> None:
    base = Gpu().lowered
    base.graph.outputs[:] = base.outputs
    mine = lower(base.graph, TARGET, forms=Forms(other="parts"))
    (group,) = differences(base, mine)
    setup = GpuPairBench(group, base, mine, mine.graph.outputs, TARGET).setup()
    first, second = setup["plans"]
    assert len(second["steps"]) == len(first["steps"]) + 1
    for plan, fills in zip(setup["plans"], setup["fills"], strict=True):
        assert plan["outputs"] and {f["buffer"] for f in fills} == {r["buffer"] for r in plan["inputs"]}
        for f in fills:
            assert plan["buffers"][f["buffer"]]["constant"] < 0 and f["pattern"]
            # nothing writes an input: the steps run again and again
            bound = [b[0] for s in plan["steps"] for b in s["bindings"][-1:]]
            assert f["buffer"] not in bound
    ids = [{b["constant"] for b in p["buffers"] if b["constant"] >= 0} for p in setup["plans"]]
    assert ids[0] and {i["kind"] for i in first["init"]} <= {"bytes", "pattern", "step", "free"}
    loaded = {i["buffer"] for i in second["init"] if i["kind"] in ("bytes", "pattern")}
    assert all(second["buffers"][b]["constant"] not in ids[0] for b in loaded), "weights are loaded once"
    for o in setup["outputs"]:
        assert o["used"] <= first["buffers"][o["buffer"]]["nbytes"]
        assert o["used"] <= second["buffers"][o["other"]]["nbytes"]


def test_large_weights_are_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnjit.runtime.gpu_pair.ACTUAL", 16)
    base = Gpu().lowered
    base.graph.outputs[:] = base.outputs
    mine = lower(base.graph, TARGET, forms=Forms(other="parts"))
    (group,) = differences(base, mine)
    plan = GpuPairBench(group, base, mine, mine.graph.outputs, TARGET).setup()["plans"][0]
    (made,) = [i for i in plan["init"] if i["kind"] == "pattern"]
    assert made["nbytes"] == plan["buffers"][made["buffer"]]["nbytes"] >= 4 * 512 * 8


def test_forms_that_win_change_the_plan() -> None:
    gpu = Gpu()
    before = kernels(gpu.lowered)
    course = gpu.course()
    done = gpu.go(course, lambda text: 0.5)
    links = [d for d in done if d["do"] == "link"]
    assert links and all(d["reason"] == "" and d["phase"] == CHANGE for d in links)
    assert {(d["name"], d["text"]) for d in done if d["do"] == "pair"} == WAYS
    after = kernels(gpu.lowered)
    assert before != after and any("attention_softmax" in n for n in after) and "f32_matmul_parts" in after
    assert gpu.plan.key == gpu.key and gpu.prepared.nodes
    # the constants are those that the new plan reads, and the engine was told which are no more
    used = {b.constant for b in gpu.plan.buffers if b.constant >= 0}
    assert set(gpu.memory.constants.values()) == used
    assert all(not used & set(d["free"]) for d in links)
    status = course.status()
    assert all(row["kept"] for row in status["forms"]) and status["gained"] > 1
    # a plan that is made with the answers is that plan, and asks no more
    again = Gpu(dict(course.forms.answers))
    assert kernels(again.lowered) == after
    assert again.course().forming.next() is None


@pytest.mark.parametrize("in_parts", [False, True])
def test_what_has_changed_can_be_undone(in_parts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a large device a product starts in parts, which win nothing there: a whole one takes their place."""
    if in_parts:
        monkeypatch.setattr("tests.unit.runtime.test_gpu_forms.TARGET", replace(TARGET, invocations=16384))
        monkeypatch.setattr("nnjit.codegen.schedule.gpu_parts.WORTH", 0.98)
    gpu = Gpu()
    assert ("f32_matmul_parts" in kernels(gpu.lowered)) is in_parts
    before = kernels(gpu.lowered)
    course = gpu.course()
    gpu.go(course, lambda text: 0.5)
    assert course.reset()
    assert [d["do"] for d in gpu.go(course, lambda text: 1.0)] == ["link"]
    assert kernels(gpu.lowered) == before
    assert not gpu.course().reset(), "nothing was linked anew"


def test_forms_that_lose_change_nothing() -> None:
    gpu = Gpu()
    plan = gpu.plan
    course = gpu.course()
    done = gpu.go(course, lambda text: 1.0)
    assert len(done) == len(WAYS) and gpu.plan is plan
    assert set(course.forming.answers) and not course.forming.changes


def test_one_backend_has_no_answers_for_another() -> None:
    gpu, wasm = Gpu(), CompilerSession(load(BytesSource(MODEL, "m.onnx"), {}), Options())
    plan = wasm.prepare(SHAPES, {})[0].plan
    assert plan is not None and plan.lowered is not None
    ours = {c.question for c in gpu.lowered.choices.values()}
    assert ours and not ours & {c.question for c in plan.lowered.choices.values()}
    assert all(q.startswith("webgpu-") for q in ours)


def test_a_plan_that_the_engine_refuses_leaves_no_trace() -> None:
    gpu = Gpu()
    constants, plan = dict(gpu.memory.constants), gpu.plan
    course = gpu.course()
    while (todo := course.next())["do"] != "link":
        if todo["do"] == "pair":
            course.forming.report({"verdict": "timed", "base": [1.0] * 7, "mine": [0.5] * 7})
    assert not course.link([gpu.key])["reason"]
    number = gpu.memory.next
    course.refused("no memory")
    assert gpu.memory.constants == constants and gpu.plan is plan and course.state == KERNELS
    assert gpu.memory.next == number, "a number that the engine may know is never that of something else"
    assert "no memory" in course.status()["notes"]


def test_a_plan_that_would_take_too_much_memory_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relink, "MORE_BYTES", -(1 << 30))
    monkeypatch.setattr(relink, "MORE_SHARE", -1e9)
    gpu = Gpu()
    constants = dict(gpu.memory.constants)
    done = gpu.go(gpu.course(), lambda text: 0.5)
    links = [d for d in done if d["do"] == "link"]
    assert links and all("more memory" in d["reason"] for d in links)
    assert gpu.memory.constants == constants


def test_what_failed_here_is_not_tried_again() -> None:
    gpu = Gpu()
    course = gpu.course()
    while (todo := course.next())["do"] != "done":
        if todo["do"] == "pair":
            course.forming.report({"verdict": "refused", "reason": "a driver's"})
    failures = set(course.forming.failures())
    assert len(failures) == len(WAYS)
    assert gpu.course(failures.__contains__).forming.next() is None


def test_constants_that_were_freed_do_not_come_back() -> None:
    """A plan for other shapes was made and never arrived: what a new plan has let go meanwhile is gone all the same."""
    model = onnx.load_from_string(MODEL)
    for given in model.graph.input:
        given.type.tensor_type.shape.dim[0].dim_param = f"{given.name}_0"
    gpu = Gpu(model=model.SerializeToString())
    course = gpu.course()
    while (todo := course.next())["do"] != "link":
        if todo["do"] == "pair":
            course.forming.report({"verdict": "timed", "base": [1.0] * 7, "mine": [0.5] * 7})
    assert not course.link([gpu.key])["reason"]
    gpu.memory.constants["of an old plan"] = 10**6
    gpu.session.prepare({**SHAPES, **{name: (2, *SHAPES[name][1:]) for name in "qkv"}}, {})
    assert 10**6 in course.replaced()["free"]
    gpu.session.settle([gpu.key])
    assert 10**6 not in gpu.memory.constants.values()
