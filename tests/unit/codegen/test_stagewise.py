"""Rows whose passes are kernels by themselves: when, and all kernels together against the whole one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from nnjit.codegen.dtypes import NUMPY
from nnjit.codegen.schedule import stagewise as stagewise_rule
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.schedule.split import Split, halves
from nnjit.codegen.schedule.stagewise import LEAST, Passes, passes_of, stagewise, work
from nnjit.codegen.schedule.steps import ScheduleError
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.target import Target
from nnjit.frontend import BytesSource
from nnjit.frontend import load as load_model
from nnjit.lower import steps
from nnjit.lower.build import lower
from nnjit.lower.lowered import Kernel
from nnjit.runtime.local import LocalSession
from tests.support import specs
from tests.support.schedules import interpreted
from tests.support.single import model_of

TWO = Target(threads=2, shared=True)
ROWS = {"softmax": specs.softmax, "layer norm": specs.layer_norm}


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(ROWS)), st.integers(1, 4), st.integers(1, 7), st.sampled_from([1, 2, 3, 5, 16, 33]),
    st.integers(0, 100),
)  # fmt: skip
def test_all_passes_together(kind: str, rows: int, parts: int, length: int, seed: int) -> None:
    """Scheduled as the rules do, their reductions divided or whole."""
    spec, inputs = ROWS[kind](np.random.default_rng(seed), rows, parts * length)
    found = stagewise(spec)
    want = specs.evaluate(spec, inputs)[0]
    for split in (parts, 1):
        got = carried_out(found, spec, inputs, split)
        np.testing.assert_allclose(got, want, rtol=2e-6 * rows * parts * length, atol=1e-6)


def carried_out(found: Passes, spec: KernelSpec, inputs: list[Any], parts: int) -> Any:
    """What the passes leave in the last operand, each reduction in so many parts."""
    whole = {n: np.ravel(x) for n, x in enumerate(inputs)}
    whole |= {-1 - i: np.zeros(found.rows, NUMPY[dtype]) for i, dtype in enumerate(found.kept)}
    last = len(spec.operands) - 1
    for p in found.passes:
        (s,) = p.spec.stages
        if s.body is None or parts == 1:
            run(p.spec, p.operands, whole)
            continue
        two = halves(p.spec, Split(s.reduce[0].name, parts))
        whole[99] = np.zeros(two.size, NUMPY[two.dtype])
        for half, numbers in ((two.partial, two.first), (two.total, two.second)):
            run(half, tuple(99 if n < 0 else p.operands[n] for n in numbers), whole)
    return whole[last]


def run(spec: KernelSpec, operands: tuple[int, ...], whole: dict[int, Any]) -> None:
    """One kernel: reads from `whole`, writes what it stores there."""
    spec = canonical(spec)
    reads = [whole[n] for n, o in zip(operands, spec.operands, strict=True) if o.role == "in"]
    written = [n for n, o in zip(operands, spec.operands, strict=True) if o.role == "out"]
    for n, value in zip(written, interpreted(spec, default_schedule(spec, TWO), reads), strict=True):
        whole[n] = value


def grown(kind: str, rows: int, n: int) -> KernelSpec:
    """Of any size; nothing that large is made for it."""
    spec, _ = ROWS[kind](np.random.default_rng(0), rows, 2)
    stages = tuple(
        replace(
            s,
            axes=tuple(replace(a, extent=n) for a in s.axes),
            reduce=tuple(replace(a, extent=n) for a in s.reduce),
        )
        for s in spec.stages
    )
    return replace(spec, stages=stages)


def test_when() -> None:
    split = passes_of(grown("softmax", 1, 262144), TWO)
    assert split and [p.split.parts if p.split else 0 for p in split.passes] == [4, 4, 0]
    assert passes_of(grown("softmax", 3, 262144), TWO), "two rows for one thread, one for the other"
    assert passes_of(grown("softmax", 2, 262144), TWO) is None, "a row for each thread"
    assert passes_of(grown("softmax", 7, 262144), TWO), "half a long row is worth it"
    assert passes_of(grown("softmax", 31, 20000), TWO) is None, "sixteen and fifteen short ones: near enough"
    assert passes_of(grown("softmax", 1, 50256), TWO) is None, "soon done"
    assert passes_of(grown("layer norm", 3, 65536), TWO) is None, (
        "cheap passes: two rows and one are near enough"
    )
    eight = Target(threads=8, shared=True)
    assert (
        passes_of(grown("softmax", 5, 262144), eight)
        and passes_of(grown("softmax", 7, 262144), eight) is None
    )
    assert passes_of(grown("softmax", 1, 262147), TWO) is None, "a prime"
    for alone in (Target(), Target(threads=2), Target(shared=True)):
        assert passes_of(grown("softmax", 1, 262144), alone) is None
    norm = grown("layer norm", 1, 1 << 20)
    assert work(norm) >= 2 * LEAST and passes_of(norm, TWO)
    assert passes_of(grown("layer norm", 1, 4096), TWO) is None, "soon done"


def test_other_kernels_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    for spec in (
        specs.matmul(rng, 2, 3, 4)[0],
        specs.attention(rng, 1, 1, 2, 5, 4, 4)[0],
        specs.reduction(rng, 1, 4, 4, "max", "f32", "bc")[0],
    ):
        with pytest.raises(ScheduleError):
            stagewise(spec)


def test_steps_of_a_plan() -> None:
    """Softmax of one row: two kernels for the maximum, two for the sum, and one over the row's places."""
    graph = helper.make_graph(
        [helper.make_node("Softmax", ["x"], ["y"])], "one",
        [helper.make_tensor_value_info("x", 1, [1, 262144])], [helper.make_tensor_value_info("y", 1, [1, 262144])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    bound = load_model(BytesSource(model.SerializeToString(), "m"), {}).bind()
    steps = [s for s in lower(bound, TWO).steps if isinstance(s, Kernel)]
    assert [s.tiles > 1 for s in steps] == [True, False, True, False, True]
    out = steps[-1].writes[0]
    assert out in steps[2].writes and out in steps[-1].reads, (
        "powers are stored once, where their quotients go"
    )
    assert len(lower(bound, Target()).steps) == 1


@pytest.mark.parametrize("rows, n", [(1, 4), (1, 64), (3, 20), (1, 1000), (3, 132)])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization"])
def test_results_of_plans(op: str, rows: int, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the memory that a plan gives the passes, on one thread after another; beside the kernel that does it all."""
    rng = np.random.default_rng(n)
    x = rng.standard_normal((rows, n)).astype(np.float32)
    scale = {} if "Softmax" in op else {"scale": rng.standard_normal(n).astype(np.float32)}
    model = model_of(op, {"x": x}, [("y", np.float32)], {"axis": -1}, scale, opset=23)
    whole, one = answer(model, x)
    monkeypatch.setattr(stagewise_rule, "LEAST", 0)
    monkeypatch.setattr(steps, "split_rows", lambda spec, target: passes_of(spec, TWO))
    passes, many = answer(model, x)
    assert one == 1 and many >= 3
    np.testing.assert_allclose(passes, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization"])
@pytest.mark.parametrize("rows, n", [(2, 0), (0, 16)])
def test_rows_of_nothing(op: str, rows: int, n: int) -> None:
    x = np.zeros((rows, n), np.float32)
    scale = {} if "Softmax" in op else {"scale": np.ones(n, np.float32)}
    model = model_of(op, {"x": x}, [("y", np.float32)], {"axis": -1}, scale, opset=23)
    assert answer(model, x)[0].shape == (rows, n)
    assert not lower(load_model(BytesSource(model, "m"), {}).bind(shapes={"x": x.shape}), TWO).steps


def answer(model: bytes, x: Any) -> tuple[Any, int]:
    """The output, and how many steps gave it."""
    session = LocalSession(model)
    (y,) = session.run({"x": x}).values()
    assert session.last is not None and session.last.lowered is not None
    return y, len(session.last.lowered.steps)
