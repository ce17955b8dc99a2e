"""What is told of a plan for a GPU while its kernels are written: constants as the plan will have them, before the
kernels that come later."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from onnx import helper

from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.frontend import BytesSource, load
from nnjit.lower.build import Build
from nnjit.lower.lowered import Kernel
from nnjit.runtime import gpu_early
from nnjit.runtime.gpu_compile import compile_gpu
from nnjit.runtime.gpu_memory import GpuMemory
from nnjit.runtime.gpu_plan import GpuPlan
from tests.support.small_models import model_of, vision

RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for what comes after it."""
    monkeypatch.setattr(gpu_early, "TELL_S", 0.0)


def products(widths: tuple[int, ...] = (64, 48, 80, 32)) -> tuple[bytes, Any]:
    """A chain of products with weights of 4 KiB and more, no two alike."""
    feeds = {"x": np.zeros((33, widths[0]), np.float32)}
    weights = {f"w{i}": RNG.normal(0, 1, s).astype(np.float32) for i, s in enumerate(pairwise(widths))}
    names = ["x", *(f"h{i}" for i in range(1, len(widths)))]
    nodes = [
        helper.make_node("MatMul", [a, w], [b]) for (a, b), w in zip(pairwise(names), weights, strict=True)
    ]
    return model_of(nodes, feeds, weights, names[-1:]), feeds


def wide_vision() -> tuple[bytes, Any]:
    """Convolutions whose weights are packed at load."""
    feeds = {"x": np.zeros((1, 32, 12, 12), np.float32)}
    weights = {"w0": RNG.normal(0, 1, (48, 32, 3, 3)).astype(np.float32)}
    weights["w1"] = RNG.normal(0, 1, (64, 48, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["y"]),
    ]
    return model_of(nodes, feeds, weights, ["y"]), feeds


def planned(
    model: bytes, feeds: Any, memory: GpuMemory | None = None, target: WgslTarget | None = None
) -> tuple[GpuPlan, list[tuple[str, Any]]]:
    """The plan, and what was told, in order."""
    told: list[tuple[str, Any]] = []

    def progress(stage: str, done: int, total: int, text: str = "") -> None:
        if text:
            told.append((stage, json.loads(text)))

    graph = load(BytesSource(model, "m.onnx"), {}).bind({n: a.shape for n, a in feeds.items()})
    return compile_gpu(graph, target or WgslTarget(), memory or GpuMemory(), progress), told


def messages(told: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    return [given for stage, given in told if stage == "constants"]


def test_constants_are_told_before_the_last_kernel_is_written() -> None:
    plan, told = planned(*products())
    stages = [stage for stage, _ in told]
    assert stages.count("constants") >= 3 and stages.count("shader") >= 3
    last = len(stages) - 1 - stages[::-1].index("shader")
    before = [i for _, given in told[:last] if "init" in given for i in given["init"] if i["kind"] == "range"]
    ranges = [i for i in plan.init if i["kind"] == "range"]
    assert len(before) == len(ranges) - 1, "all but what the last kernel reads"


@pytest.mark.parametrize("make", [products, wide_vision, vision])
def test_what_is_told_is_what_the_plan_does_at_load(make: Callable[[], tuple[bytes, Any]]) -> None:
    """Item by item: the same bytes in the same form, the same shaders over the same parts of buffers."""
    plan, told = planned(*make())
    shaders = [given["wgsl"] for stage, given in told if stage == "shader"]
    buffers = {at: nbytes for m in messages(told) for at, nbytes in m["buffers"]}
    number = {b.early: i for i, b in enumerate(plan.buffers) if b.early >= 0}
    assert set(number) == set(buffers), "none was told in vain"
    assert all(plan.buffers[i].nbytes == buffers[at] for at, i in number.items())
    assert len({m["making"] for m in messages(told)}) <= 1

    def named(item: dict[str, Any], text: Callable[[int], str], at: Callable[[int], int]) -> Any:
        if item["kind"] != "step":
            return {**item, "buffer": at(item["buffer"])}
        return text(item["shader"]), [(at(b), offset, size) for b, offset, size in item["bindings"]]

    mine = [named(i, shaders.__getitem__, number.__getitem__) for m in messages(told) for i in m["init"]]
    theirs = [
        named(i, lambda n: plan.shaders[n].wgsl, lambda b: b)
        for i in plan.init
        if i["kind"] == "range" or (i["kind"] == "step" and plan.buffers[i["bindings"][-1][0]].early >= 0)
    ]
    assert sorted(mine, key=repr) == sorted(theirs, key=repr)
    if make is wide_vision:
        assert any(isinstance(one, tuple) for one in mine), "no weight is packed"


def test_a_session_that_has_constants_is_told_none() -> None:
    memory, (model, feeds) = GpuMemory(), products()
    planned(model, feeds, memory)
    plan, told = planned(model, feeds, memory)
    assert not messages(told) and all(b.early < 0 for b in plan.buffers)


def test_a_step_that_is_taken_back_leaves_nothing_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it made is made by the plan."""
    model, feeds = wide_vision()
    kernel = Build.kernel
    undone: list[Kernel] = []

    def twice(self: Build, *given: Any) -> None:
        mark, places = len(self.steps), list(given[1])
        kernel(self, given[0], list(places), *given[2:])
        made = [s for s in self.steps[mark:] if isinstance(s, Kernel)]
        if not undone and any(s.once for s in made):
            undone.extend(made)
            self.undo(mark)
            kernel(self, given[0], places, *given[2:])

    monkeypatch.setattr(Build, "kernel", twice)
    plan, told = planned(model, feeds)
    assert undone
    number = {b.early for b in plan.buffers if b.early >= 0}
    made = {at for m in messages(told) for at, _ in m["buffers"]}
    assert len(made - number) == sum(s.once for s in undone), "what only the steps taken back made"
    assert number


def test_another_attempt_begins_anew() -> None:
    """The first one found that a buffer is too small; what it told is not wanted."""
    model, feeds = products((64, 48, 80, 2000))
    plan, told = planned(model, feeds, target=replace(WgslTarget(), max_buffer_bytes=300_000))
    assert plan.host_calls
    makings = [m["making"] for m in messages(told)]
    assert len(set(makings)) == 2 and makings == sorted(makings)
    last = {at for m in messages(told) if m["making"] == makings[-1] for at, _ in m["buffers"]}
    assert {b.early for b in plan.buffers if b.early >= 0} <= last


def test_numbers_of_shaders_go_on_in_another_attempt() -> None:
    """Those of the first one are in use as long as its constants are packed."""
    model, feeds = products((64, 48, 80, 2000))
    numbers: dict[int, list[str]] = {}

    def progress(stage: str, done: int, total: int, text: str = "") -> None:
        if stage == "shader":
            numbers.setdefault(done, []).append(text)

    graph = load(BytesSource(model, "m"), {}).bind({n: a.shape for n, a in feeds.items()})
    target = replace(WgslTarget(), max_buffer_bytes=300_000)
    plan = compile_gpu(graph, target, GpuMemory(), progress)
    assert plan.host_calls, "the first attempt found a buffer too small"
    assert len(numbers) > 1 and all(len(texts) == 1 for texts in numbers.values())
    assert plan.told is not None and set(plan.told[1].values()) == set(numbers)


def test_small_and_folded_constants_come_with_the_plan() -> None:
    feeds = {"x": np.zeros((3, 40), np.float32)}
    nodes = [helper.make_node("Add", ["x", "a"], ["y"])]
    plan, told = planned(model_of(nodes, feeds, {"a": np.arange(40, dtype=np.float32)}, ["y"]), feeds)
    assert not messages(told) and [i["kind"] for i in plan.init] == ["bytes"]
