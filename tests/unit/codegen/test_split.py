"""Reductions in parts, for workgroups and for threads: both kernels one after the other against what the spec means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from nnjit.codegen.dtypes import NUMPY
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.gpu_parts import split_of
from nnjit.codegen.schedule.gpu_rules import gpu_schedule
from nnjit.codegen.schedule.group_steps import Matrix
from nnjit.codegen.schedule.split import Split, halves
from nnjit.codegen.schedule.steps import ScheduleError
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.frontend import BytesSource, load
from nnjit.lower.build import lower
from nnjit.lower.lowered import Kernel
from tests.support import specs
from tests.support.schedules import interpreted

TARGET = WgslTarget()


def check(spec: KernelSpec, split: Split, inputs: list[Any]) -> None:
    """Whole numbers, so that the order of the sums makes no difference."""
    two = halves(spec, split)
    for half in (two.partial, two.total):
        assert {e.attr.operand for e in half.exprs() if e.op == "load"} == set(range(len(half.operands) - 1))
    (found,) = run(two.partial, [inputs[n] for n in two.first if n >= 0])
    assert found.shape == (two.size,) and found.dtype == NUMPY[two.dtype]
    given = [found if n < 0 else inputs[n] for n in two.second[:-1]]
    np.testing.assert_array_equal(run(two.total, given)[0], specs.evaluate(spec, inputs)[0])


def run(spec: KernelSpec, inputs: list[Any]) -> list[Any]:
    spec = canonical(spec)
    return interpreted(spec, gpu_schedule(spec, TARGET), inputs)


def test_parts_in_matrices() -> None:
    """Halves of a product of f16 go through subgroup matrices, with sums in f32 between the two kernels."""
    target = replace(
        TARGET, features=frozenset({"shader-f16", "subgroups"}), matrices=(("f16", "f32", 16, 16, 16),)
    )
    spec, inputs = specs.matmul(np.random.default_rng(3), 20, 36, 64, "f16")
    two = halves(spec, Split("k", 2))
    partial = canonical(two.partial)
    schedule = gpu_schedule(partial, target)
    assert any(isinstance(step, Matrix) for step in schedule) and two.dtype == "f32"
    (found,) = interpreted(partial, schedule, [inputs[n] for n in two.first if n >= 0])
    given = [found if n < 0 else inputs[n] for n in two.second[:-1]]
    np.testing.assert_array_equal(run(two.total, given)[0], specs.evaluate(spec, inputs)[0])


@settings(max_examples=25, deadline=None)
@given(
    m=st.integers(1, 20), n=st.integers(1, 20), length=st.integers(1, 12), parts=st.integers(2, 5),
    batch=st.integers(1, 2), bias=st.booleans(), transposed=st.booleans(), dtype=st.sampled_from(["f32", "f16", "i32"]),
)  # fmt: skip
def test_products(
    m: int, n: int, length: int, parts: int, batch: int, bias: bool, transposed: bool, dtype: str
) -> None:
    rng = np.random.default_rng(m)
    spec, inputs = specs.matmul(rng, m, n, parts * length, dtype, batch, bias, transposed)
    check(spec, Split("k", parts), inputs)
    check(canonical(spec), Split("k", parts), inputs)


@pytest.mark.parametrize("axis", ["i", "ky"])
def test_convolutions(axis: str) -> None:
    spec, inputs = specs.conv(np.random.default_rng(3), 5, 6, 9, 5, 3, 2, 1)
    check(spec, Split(axis, 3), inputs)


def test_what_is_no_sum_in_equal_parts_is_refused() -> None:
    spec, _ = specs.matmul(np.random.default_rng(3), 4, 4, 12)
    softmax, _ = specs.softmax(np.random.default_rng(3), 4, 12)
    running = replace(spec, stages=(replace(spec.stages[0], running=True),))
    for wrong, split in (
        (spec, Split("k", 5)),
        (spec, Split("m", 2)),
        (softmax, Split("k", 2)),
        (running, Split("k", 2)),
    ):
        with pytest.raises(ScheduleError):
            halves(wrong, split)
    with pytest.raises(ScheduleError, match="already"):
        halves(halves(spec, Split("k", 2)).partial, Split("k", 2))


def test_when_a_sum_is_split() -> None:
    """Few tiles and a long sum, on a device that does many at a time."""
    rng = np.random.default_rng(3)

    def split(m: int, n: int, k: int, **target: Any) -> Split | None:
        return split_of(canonical(specs.matmul(rng, m, n, k)[0]), WgslTarget(**target))

    assert split(49, 512, 4608) is not None
    assert split(49, 512, 64) is None
    assert split(1, 512, 4608) is None, "a row by a matrix divides its sum among threads"
    assert split(1024, 2048, 256) is None, "tiles enough"
    assert split(49, 512, 4608, invocations=64) is None
    assert split(49, 512, 4608, max_binding_bytes=100_000) is None, "what lies between must be bound"
    assert split(49, 512, 4603) is None, "a prime"


def test_two_steps_of_a_plan() -> None:
    """The second adds up what the first one wrote, and does what the product was followed by."""
    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Add", ["y", "b"], ["z"]),
        helper.make_node("Relu", ["z"], ["r"]),
    ]  # fmt: skip
    inputs = [
        info("x", TensorProto.FLOAT, [49, 4608]),
        info("w", TensorProto.FLOAT, [4608, 512]),
        info("b", TensorProto.FLOAT, [512]),
    ]
    graph = helper.make_graph(nodes, "g", inputs, [info("r", TensorProto.FLOAT, [49, 512])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    bound = load(BytesSource(model.SerializeToString(), "m"), {}).bind()
    first, second = lower(bound, TARGET).steps
    assert isinstance(first, Kernel) and isinstance(second, Kernel)
    assert first.writes[0] is second.places[0][0] and first.nodes == second.nodes
    assert first.writes[0].nbytes == 4 * 49 * 512 * first.spec.axes[0].extent
    assert len(second.places) == 3 and len(lower(bound, WgslTarget(invocations=64)).steps) == 1
