"""Tuning of WebGPU plans on CPython: every listed schedule fits its spec and the device's limits, panels made over are
those that the new schedule reads, and a plan made anew afterwards finds them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from nnjit.codegen import interp
from nnjit.codegen.expr import UnsupportedExpr
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.gpu_rules import gpu_schedule
from nnjit.codegen.schedule.steps import Pack, Schedule, ScheduleError, Tile, describe
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wgsl.cache import emitted
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.frontend import BytesSource, load
from nnjit.runtime.gpu_compile import compile_gpu
from nnjit.runtime.gpu_memory import GpuMemory
from nnjit.runtime.gpu_plan import GpuPlan
from nnjit.runtime.gpu_tuning import GpuTuning
from nnjit.runtime.repack import unpacking
from nnjit.tune.bench import packing
from nnjit.tune.gpu_device import GpuFacts, facts_of, probes
from nnjit.tune.space import LIMIT
from nnjit.tune.space_gpu import gpu_space
from tests.support import specs
from tests.support.schedules import agree, interpreted
from tests.support.small_models import language, model_of, vision

RNG = np.random.default_rng(43)
TARGET = WgslTarget(invocations=64, max_shared_bytes=32768)
HALF = WgslTarget(
    max_workgroup=1024,
    max_shared_bytes=49152,
    features=frozenset(["shader-f16"]),
    matrices=(("f16", "f32", 16, 16, 16), ("i8", "i32", 16, 16, 32)),
)

SPECS = [
    specs.matmul(RNG, 17, 12, 20, transposed=True, constant=True),
    specs.matmul(RNG, 5, 9, 33, bias=True),
    specs.matmul(RNG, 1, 24, 40),
    specs.matmul(RNG, 2, 16, 40, transposed=True),
    specs.softmax(RNG, 3, 70),
    specs.layer_norm(RNG, 2, 64),
]


@pytest.mark.parametrize(("spec", "inputs"), SPECS, ids=lambda x: getattr(x, "name", ""))
def test_listed_schedules_do_what_the_spec_means(spec: KernelSpec, inputs: list[Any]) -> None:
    """The first of the list is the rules' own; a few of the others, drawn, are run by the interpreter."""
    spec = canonical(spec)
    listed = gpu_space(spec, TARGET).lite()
    assert 1 <= len(listed) <= LIMIT and listed[0] == gpu_schedule(spec, TARGET)
    wanted = specs.evaluate(spec, inputs)
    for at in {0, len(listed) - 1, *RNG.integers(0, len(listed), 2)}:
        found = interpreted(spec, listed[at], inputs)
        agree(found, wanted, 1e-5, describe(listed[at]), spec)


@pytest.mark.parametrize("target", [TARGET, HALF], ids=["small", "matrices"])
@pytest.mark.parametrize("make", [vision, language])
def test_listed_schedules_fit_the_device(make: Any, target: WgslTarget) -> None:
    """Few candidates are made for nothing: nearly all listed ones can be emitted within the device's limits."""
    plan = planned(make, target)
    made = refused = 0
    for spec in {k.spec.key: k.spec for k in plan.kernels}.values():
        for schedule in gpu_space(spec, target).lite(limit=6, checked=False):
            try:
                emitted(spec, schedule, target)
                made += 1
            except (ScheduleError, UnsupportedExpr):
                refused += 1
    assert made > 20 and refused <= made // 20


def planned(make: Any, target: WgslTarget, memory: GpuMemory | None = None, chosen: Any = None) -> GpuPlan:
    model, feeds = make()
    graph = load(BytesSource(model, "m.onnx"), {}).bind({n: a.shape for n, a in feeds.items()})
    return compile_gpu(graph, target, memory or GpuMemory(), key="p", chosen=chosen)


def packed_model(mixed: bool = False) -> tuple[bytes, Any]:
    """Two products by the same weights, which lie along the sum: they are packed. mixed: they are two kernels."""
    feeds = {"x": np.zeros((20, 48), np.float32)}
    weight = RNG.normal(0, 1, (40, 48)).astype(np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], transB=1),
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Gemm", ["r", "w"], ["b"], transB=1),
        *([helper.make_node("Add", ["a", "b"], ["y"])] if mixed else []),
    ]
    return model_of(nodes, feeds, {"w": weight}, ["y"] if mixed else ["a", "b"]), feeds


def other_panels(tuning: GpuTuning) -> tuple[Any, Schedule]:
    """A slot, and a schedule for it whose panels are others."""
    for slot in tuning.slots:
        serving = slot.job.serving
        tile = {s.axis: s.factor for s in serving if isinstance(s, Tile)}
        pack = next((s for s in serving if isinstance(s, Pack)), None)
        if pack is None:
            continue
        for schedule in gpu_space(slot.spec, TARGET).every():
            other = {s.axis: s.factor for s in schedule if isinstance(s, Tile)}
            if tuning._usable(slot, schedule) and other[pack.axis] != tile[pack.axis]:
                return slot, schedule
    raise AssertionError("no packed product")


def test_panels_made_over_are_found_by_a_plan_made_anew() -> None:
    memory = GpuMemory()
    plan = planned(packed_model, TARGET, memory)
    tuning = GpuTuning(plan, lambda: memory, TARGET, GpuFacts())
    slot, schedule = other_panels(tuning)
    steps = {n: plan.steps[n] for n in slot.steps}
    before = {n: list(s.bindings) for n, s in steps.items()}
    adoption = tuning._swap(slot, slot.job.serving, schedule)
    assert {s["step"] for s in adoption["steps"]} == set(steps)
    # old panels are taken apart into a staged buffer, new ones put together from there; then the old ones go
    staged, fresh = adoption["buffers"]
    assert staged["staged"] and fresh["constant"] >= 0
    assert len(adoption["work"]) >= 2 and len(adoption["free"]) == 1
    assert all(list(s.bindings) == before[n] for n, s in steps.items()), "nothing has changed yet"
    tuning.repacking.commit()
    tuning._serves(slot, schedule)
    for n, s in steps.items():
        assert plan.shaders[s.shader] == emitted(slot.spec, schedule, TARGET, s.moves)[0]
        changed = [b for a, b in zip(before[n], s.bindings, strict=True) if a != b]
        assert [b.buffer for b in changed] == [len(plan.buffers) - 1]
    again = planned(
        packed_model, TARGET, memory, lambda spec: schedule if spec.key == slot.spec.key else None
    )
    assert again.init == [], "the panels are there"
    unchanged = planned(packed_model, TARGET, memory)
    assert unchanged.init, "the first panels are not"


def test_panels_that_another_kernel_reads_stay() -> None:
    memory = GpuMemory()
    plan = planned(lambda: packed_model(mixed=True), TARGET, memory)
    tuning = GpuTuning(plan, lambda: memory, TARGET, GpuFacts())
    slot, schedule = other_panels(tuning)
    assert tuning._swap(slot, slot.job.serving, schedule)["free"] == []
    alone = GpuTuning(
        planned(packed_model, TARGET, memory), lambda: memory, TARGET, GpuFacts(), alone=lambda: False
    )
    slot, schedule = other_panels(alone)
    assert alone._swap(slot, slot.job.serving, schedule)["free"] == [], "another plan may read them"


def test_a_swap_that_failed_leaves_no_trace() -> None:
    memory = GpuMemory()
    plan = planned(packed_model, TARGET, memory)
    tuning = GpuTuning(plan, lambda: memory, TARGET, GpuFacts())
    slot, schedule = other_panels(tuning)
    constants, buffers, bindings = (
        dict(memory.constants),
        list(plan.buffers),
        [s.bindings for s in plan.steps],
    )
    tuning._swap(slot, slot.job.serving, schedule)
    tuning.repacking.undo()
    tuning.repacking.commit()
    assert (memory.constants, plan.buffers, [s.bindings for s in plan.steps]) == (
        constants,
        buffers,
        bindings,
    )


def test_panels_are_taken_apart_and_put_together() -> None:
    spec, inputs = specs.matmul(RNG, 17, 22, 13, transposed=True, constant=True)
    spec, pack = canonical(spec), Pack(1, "n")
    weight = inputs[1].reshape(-1)
    for tile in (8, 12, 32):
        schedule: Schedule = (Tile("n", tile), pack)
        into = packing(spec, schedule, pack)
        panels = interpreted_into(into, weight)
        back = np.zeros_like(weight)
        for unpack in unpacking(spec, schedule, pack):
            back = interpreted_into(unpack, panels, back)
        np.testing.assert_array_equal(back, weight)


def interpreted_into(spec: KernelSpec, source: Any, target: Any = None) -> Any:
    """What a kernel of one input leaves in its output."""
    spec = canonical(spec)
    out = np.zeros(spec.operands[1].size, source.dtype) if target is None else target.copy()
    interp.run(apply(spec, gpu_schedule(spec, TARGET)), [source, out])
    return out


def test_facts_bound_what_a_kernel_takes() -> None:
    found = probes(TARGET)
    assert len({p.name for p in found}) == 4 and all(p.shader.wgsl.count("@compute") == 1 for p in found)
    facts = facts_of(found, {"fma": 1.0, "far": 2.0, "near": 1.0, "nothing": 0.01})
    assert GpuFacts.read(facts.to_json()) == facts
    amount = {p.name: p.amount for p in found}
    assert facts.gflops == pytest.approx(amount["fma"] / 1e6) and facts.dispatch_us == pytest.approx(10)
    spec, _ = specs.matmul(RNG, 64, 64, 64)
    assert facts.bound_ms(spec, TARGET) >= 2 * 64**3 / (facts.gflops * 1e6)
    for bad in (
        {"version": 0},
        {"version": 1},
        {**facts.to_json(), "gflops": "much"},
        {**facts.to_json(), "gbytes": -1},
    ):
        assert not GpuFacts.read(bad).measured
