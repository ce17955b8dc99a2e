"""A norm behind a product in parts is one kernel with what adds up the parts: the numbers, and who reads the sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nnjit.codegen.dtypes import NUMPY
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.frontend import BytesSource, load
from nnjit.graph.reference import run_graph
from nnjit.lower.build import Build, lower
from nnjit.lower.forms import PARTS, Forms
from nnjit.lower.registry import Unsupported
from nnjit.runtime.gpu_compile import compile_gpu
from nnjit.runtime.gpu_memory import GpuMemory
from nnjit.runtime.gpu_pair import GpuPairBench
from nnjit.runtime.gpu_plan import GpuPlan
from nnjit.runtime.groups import differences
from nnjit.tune import oracle
from nnjit.tune.fills import fill_pattern
from tests.support import specs
from tests.support.gpu_plans import Simulated
from tests.support.row_blocks import Block

TARGET = WgslTarget(features=frozenset({"shader-f16"}), max_shared_bytes=32768)


def planned(data: bytes, feeds: dict[str, Any], target: WgslTarget = TARGET) -> GpuPlan:
    graph = load(BytesSource(data, "m"), {}).bind({n: a.shape for n, a in feeds.items()})
    return compile_gpu(graph, target, GpuMemory())


def names(plan: GpuPlan) -> list[str]:
    return [s.name.split("_", 1)[1] for s in plan.steps]


def right(plan: GpuPlan, block: Block) -> None:
    data, feeds = block.model()
    graph = load(BytesSource(data, "m"), {}).bind({n: a.shape for n, a in feeds.items()}, passes=[])
    found, bound = Simulated(plan, data).run(feeds), 6e-3 if block.dtype == np.float16 else 3e-5
    for name, value in run_graph(graph, dict(feeds)).items():
        np.testing.assert_allclose(found[name], value, rtol=bound, atol=bound, err_msg=name)


BLOCKS = [
    Block((6,)),
    Block((2, 5)),
    Block((2, 5), "RMSNormalization"),
    Block((1, 7), "LayerNormalization", np.float16),
]


@pytest.mark.parametrize("block", BLOCKS)
def test_one_kernel(block: Block) -> None:
    plan = planned(*block.model())
    assert names(plan) == ["matmul_parts", f"{block.norm.lower()}_of_sums"]
    assert plan.steps[-1].nodes == ["product", "bias", "residual", "norm"]
    right(plan, block)


@pytest.mark.parametrize("flat", [False, True])
def test_others_read_the_sum_too(flat: bool) -> None:
    block = Block((2, 5), other="reader", flat=flat)
    plan = planned(*block.model())
    assert [n for n in names(plan) if "sum" in n] == ["layernormalization_of_sums"]
    right(plan, block)


def test_an_output_of_the_graph_is_made_by_itself() -> None:
    block = Block((2, 5), other="output")
    plan = planned(*block.model())
    assert names(plan) == ["matmul_parts", "matmul_sum", "layernormalization"]
    right(plan, block)


def test_a_norm_of_some_rows_stores_no_sum() -> None:
    """It would store those rows alone, and the norm of all of them reads the others."""
    block = Block((6,), other="part")
    plan = planned(*block.model())
    assert names(plan)[:2] == ["matmul_parts", "matmul_sum"]
    right(plan, block)


def test_a_second_sum_is_there_for_the_norm_that_reads_it() -> None:
    """One kernel makes one sum: another one that waits for its own norm is made before."""
    block = Block((6,), other="second")
    plan = planned(*block.model())
    assert [n for n in names(plan) if "sum" in n] == ["matmul_sum", "layernormalization_of_sums"]
    right(plan, block)


def test_the_reference_finds_the_sum() -> None:
    """Whichever comes first, the norm or a call of the reference."""
    data, feeds = Block((2, 5), other="reference").model()
    plan = planned(data, feeds)
    written = {b.buffer for s in plan.steps for b in s.bindings}
    calls = [s for s in plan.segments if s["kind"] == "host"]
    found = {ref["buffer"] for call in calls for ref in call["inputs"] if "buffer" in ref}
    assert found and found <= written
    assert not {"matmul_sum", "layernormalization_of_sums"} <= set(names(plan))


def test_a_device_with_few_bindings_gets_two() -> None:
    block = Block()
    data, feeds = block.model()
    plan = planned(data, feeds, WgslTarget(max_shared_bytes=32768, max_bindings=6))
    assert names(plan) == ["matmul_parts", "matmul_sum", "layernormalization"]
    right(plan, block)


def test_it_is_off_with_the_rest() -> None:
    data, feeds = Block().model()
    plan = planned(data, feeds, WgslTarget(max_shared_bytes=32768, merge=False))
    assert names(plan) == ["matmul_parts", "matmul_sum", "layernormalization"]


def test_a_norm_that_fails_leaves_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """A region that is taken back after its kernel was added: the sum waits again, and is made for who reads it."""
    block = Block((2, 5))
    data, feeds = block.model()
    kernel = Build._kernel

    def once(self: Build, r: Any) -> None:
        kernel(self, r)
        if r.anchor.op == "LayerNormalization":
            raise Unsupported("for the test")

    monkeypatch.setattr(Build, "_kernel", once)
    plan = planned(data, feeds)
    assert names(plan) == ["matmul_parts", "matmul_sum"]
    assert [s["kind"] for s in plan.segments] == ["gpu", "host"]


def test_elements_of_it_are_computed_by_themselves() -> None:
    """As a device's kernels are proved: both outputs."""
    plan = planned(*Block().model())
    spec = plan.kernel_of(len(plan.steps) - 1).spec
    patterns = {i: fill_pattern(o.dtype, i, False) for i, o in enumerate(spec.operands) if o.role == "in"}
    inputs = [np.resize(np.frombuffer(p, NUMPY[spec.operands[i].dtype]), spec.operands[i].size)
              for i, p in patterns.items()]  # fmt: skip
    places = [i for i, o in enumerate(spec.operands) if o.role == "out"]
    outputs = dict(zip(places, specs.evaluate(spec, inputs), strict=True))
    found = oracle.probes(spec, 4)
    assert {p.operand for p in found} == set(outputs)
    for p in found:
        assert oracle.agrees(float(outputs[p.operand][p.at]), oracle.expected(spec, p, patterns), spec, "f32")


@pytest.mark.parametrize("rows, form", [((6,), "whole"), ((16,), "parts")])
def test_whole_or_in_parts_is_still_a_question(rows: tuple[int, ...], form: str) -> None:
    """The lab gets the norm with the product, on both sides."""
    data, feeds = Block(rows, deep=2048).model()
    graph = load(BytesSource(data, "m"), {}).bind({n: a.shape for n, a in feeds.items()})
    target = WgslTarget(invocations=64, max_shared_bytes=32768)
    base = lower(graph, target)
    (asked,) = (q.question for (_, about), q in base.choices.items() if about == PARTS)
    other = lower(graph, target, forms=Forms(answers={asked: form}))
    (group,) = differences(base, other)
    ways = [[s.spec.name.split("_", 1)[1] for s in side] for side in (group.base, group.mine)]
    assert sorted(ways) == [["matmul", "layernormalization"], ["matmul_parts", "layernormalization_of_sums"]]
    GpuPairBench(group, base, other, other.graph.outputs, target)
