"""Plans for WebGPU, as data: buffers that are alive together are never one, bindings keep WebGPU's rules, constants
of a session are loaded once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.errors import OutOfMemory
from nnjit.frontend import BytesSource, load
from nnjit.lower.tensors import Buffer
from nnjit.runtime.gpu_compile import compile_gpu
from nnjit.runtime.gpu_memory import GpuMemory, padded, shared
from nnjit.runtime.gpu_plan import GpuPlan
from nnjit.runtime.memory import Span
from tests.support import single
from tests.support.small_models import language, model_of, vision

Make = Callable[[], tuple[bytes, Any]]


def planned(model: bytes, feeds: Any, memory: GpuMemory | None = None, **target: Any) -> GpuPlan:
    graph = load(BytesSource(model, "m.onnx"), {}).bind({n: a.shape for n, a in feeds.items()})
    return compile_gpu(graph, WgslTarget(**target), memory or GpuMemory())


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(-1, 9), st.integers(0, 4)), max_size=12))
def test_buffers_alive_together_are_never_one(given_spans: list[tuple[int, int, int]]) -> None:
    spans = {Buffer(str(i), n): Span(n, at, at + for_) for i, (n, at, for_) in enumerate(given_spans)}
    at, sizes = shared(spans)
    for a, x in spans.items():
        assert sizes[at[a]] >= padded(x.nbytes)
        for b, y in spans.items():
            if a is not b and not (x.last < y.first or y.last < x.first):
                assert at[a] != at[b]


@pytest.mark.parametrize("make", [vision, language])
def test_bindings_keep_the_rules(make: Make) -> None:
    plan = planned(*make())
    assert not plan.host_calls
    for step in plan.steps:
        shader = plan.shaders[step.shader]
        assert len(step.bindings) == len(shader.bindings) <= 8
        for place, binding in zip(step.bindings, shader.bindings, strict=True):
            assert place.offset % 256 == 0 and place.size % 16 == 0
            assert place.offset + place.size <= plan.buffers[place.buffer].nbytes
            beside = [b for b in step.bindings if b.buffer == place.buffer]
            assert binding.role == "in" or len(beside) == 1, "a buffer that is written is bound once"


def test_a_binding_reaches_no_further_than_its_shader() -> None:
    """Also where it begins before its operand, at an aligned place: the device limits how large one is."""
    feeds = {"x": np.zeros((40, 37), np.float32)}
    nodes = [
        helper.make_node("Softmax", ["x"], ["a"]),
        helper.make_node("Slice", ["a", "from", "to", "axis"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"]),
    ]
    weights = {"from": np.array([1]), "to": np.array([21]), "axis": np.array([0])}
    plan = planned(model_of(nodes, feeds, weights, ["y"]), feeds)
    step = plan.steps[-1]
    assert step.moves[0] == (0, 37)
    assert [b.size for b in step.bindings] == [b.nbytes for b in plan.shaders[step.shader].bindings]


@pytest.mark.parametrize("make", [vision, language])
def test_shaders_are_told_as_the_plan_has_them(make: Make) -> None:
    """While Python still writes, so none may be told that the plan lacks, where residuals are added in place; and none
    comes only with the plan."""
    model, feeds = make()
    told: list[str] = []

    def progress(stage: str, done: int, total: int, shader: str = "") -> None:
        if stage == "shader":
            told.append(json.loads(shader)["wgsl"])

    graph = load(BytesSource(model, "m.onnx"), {}).bind({n: a.shape for n, a in feeds.items()})
    plan = compile_gpu(graph, WgslTarget(), GpuMemory(), progress)
    assert any(len({place for place, _ in step.moves}) < len(step.moves) for step in plan.steps), (
        "none in place"
    )
    assert len(told) == len(set(told)) and set(told) == {shader.wgsl for shader in plan.shaders}


@pytest.mark.parametrize("make", [vision, language])
def test_a_second_plan_loads_no_constant_again(make: Make) -> None:
    memory, (model, feeds) = GpuMemory(), make()
    first, second = planned(model, feeds, memory), planned(model, feeds, memory)
    assert any(item["kind"] in ("bytes", "range") for item in first.init)
    assert second.init == []
    assert {b.constant for b in first.buffers} == {b.constant for b in second.buffers}


def test_equal_constants_are_one_buffer() -> None:
    """Under two names: the second was bound to a buffer that nothing filled."""
    feeds = {"x": np.zeros((3, 40), np.float32)}
    same = np.arange(40, dtype=np.float32)
    nodes = [helper.make_node("Add", ["x", "a"], ["s"]), helper.make_node("Mul", ["s", "b"], ["y"])]
    plan = planned(model_of(nodes, feeds, {"a": same, "b": same.copy()}, ["y"]), feeds)
    constants = [b.constant for b in plan.buffers if b.constant >= 0]
    assert len(constants) == len(set(constants)) == 1


def test_constants_of_the_same_bytes_and_other_types_are_two_buffers() -> None:
    """True takes a word, 1 of u8 a byte of one."""
    bits = np.array([1, 0, 1, 1, 0, 0, 1, 0], np.uint8)
    nodes = [
        helper.make_node("Where", ["mask", "x", "v"], ["a"]),
        helper.make_node("BitwiseAnd", ["b", "bits"], ["c"]),
        helper.make_node("Cast", ["c"], ["d"], to=1),
        helper.make_node("Mul", ["a", "d"], ["y"]),
    ]
    feeds = {"x": np.zeros(8, np.float32), "v": np.zeros(8, np.float32), "b": np.zeros(8, np.uint8)}
    plan = planned(model_of(nodes, feeds, {"mask": bits.astype(bool), "bits": bits}, ["y"]), feeds)
    stored = {i["type"]: i["stored"] for i in plan.init if i["kind"] == "bytes"}
    assert stored == {"bool": "u32", "uint8": "bytes"}


def test_one_place_in_a_file_may_hold_constants_of_two_types() -> None:
    """Floats and integers of the same bits, which whoever wrote the file put there once."""
    feeds = {"x": np.zeros(2048, np.float32), "i": np.zeros(2048, np.int32)}
    nodes = [
        helper.make_node("Add", ["x", "floats"], ["y"]),
        helper.make_node("Add", ["i", "integers"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["z"], to=1),
    ]
    model = onnx.load_from_string(model_of(nodes, feeds, {}, ["y", "z"]))
    for name, dtype in (("floats", onnx.TensorProto.FLOAT), ("integers", onnx.TensorProto.INT32)):
        tensor = model.graph.initializer.add(name=name, data_type=dtype, dims=[2048])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", "w.bin"), ("offset", "0"), ("length", "8192")):
            tensor.external_data.add(key=key, value=value)
    weights = BytesSource(np.arange(2048, dtype=np.int32).tobytes(), "w.bin")
    graph = load(BytesSource(model.SerializeToString(), "m.onnx"), {"w.bin": weights}).bind(
        {n: a.shape for n, a in feeds.items()}
    )
    plan = compile_gpu(graph, WgslTarget(), GpuMemory())
    loaded = [i for i in plan.init if i["kind"] == "range"]
    assert {i["stored"] for i in loaded} == {"f32", "i32"} and len({i["buffer"] for i in loaded}) == 2


def test_a_slice_that_runs_backwards_is_bound_from_its_lowest_element() -> None:
    feeds = {"x": np.zeros((20, 10), np.float32)}
    weights = {
        n: np.array(v) for n, v in {"from": [19, 9], "to": [0, 0], "axes": [0, 1], "by": [-1, -3]}.items()
    }
    nodes = [helper.make_node("Slice", ["x", "from", "to", "axes", "by"], ["y"])]
    plan = planned(model_of(nodes, feeds, weights, ["y"]), feeds)
    (step,) = plan.steps
    # the last element read is x[1, 3], 13 elements from the start
    assert step.bindings[0].offset == 0
    assert "199" in plan.shaders[step.shader].wgsl


def test_what_only_loading_reads_is_given_back() -> None:
    plan = planned(*vision())
    staged = [i for i, b in enumerate(plan.buffers) if b.staged]
    freed = [item["buffer"] for item in plan.init if item["kind"] == "free"]
    assert staged and sorted(freed) == staged
    assert not {b.buffer for s in plan.steps for b in s.bindings} & set(staged)


def test_a_tensor_larger_than_a_buffer_is_out_of_memory_where_all_is_to_be_on_the_device() -> None:
    feeds = {"x": np.zeros((64, 64), np.float32)}
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], feeds, {}, ["y"])
    graph = load(BytesSource(model, "m.onnx"), {}).bind({"x": (64, 64)})
    with pytest.raises(OutOfMemory, match=r"'[xy]' takes .* GPU holds") as raised:
        compile_gpu(graph, WgslTarget(max_buffer_bytes=1024), GpuMemory(), whole=True)
    assert raised.value.fields["needed"] == 64 * 64 * 4 and raised.value.fields["available"] == 1024
    assert "wasm" in raised.value.hint


def test_nodes_whose_tensors_are_larger_than_a_buffer_stay_with_the_reference() -> None:
    """An input, a weight, what is between two nodes, an output; the others are on the device."""
    rng = np.random.default_rng(3)
    f = lambda *shape: rng.normal(0, 1, shape).astype(np.float32)  # noqa: E731
    nodes = [
        helper.make_node("Relu", ["big"], ["a"], "reads_an_input"),
        helper.make_node("ReduceSum", ["a", "last"], ["b"], "reads_between"),
        helper.make_node("Sigmoid", ["b"], ["c"], "small"),
        helper.make_node("Gemm", ["c", "w"], ["d"], "reads_a_weight", transB=1),
        helper.make_node("Softmax", ["d"], ["y"], "last"),
        helper.make_node("Expand", ["y", "shape"], ["z"], "makes_an_output"),
    ]
    feeds = {"big": f(8, 1024)}
    weights = {"w": f(512, 8), "last": np.array([0], np.int64), "shape": np.array([64, 512], np.int64)}
    nodes[1].attribute.extend([helper.make_attribute("keepdims", 1)])
    nodes.insert(2, helper.make_node("Slice", ["b", "from", "to", "axes"], ["cut"], "cut"))
    nodes[3].input[0] = "cut"
    weights |= {
        "from": np.array([0], np.int64),
        "to": np.array([8], np.int64),
        "axes": np.array([1], np.int64),
    }
    model = model_of(nodes, feeds, weights, ["y", "z"])
    plan = planned(model, feeds, max_buffer_bytes=8192)
    assert max(b.nbytes for b in plan.buffers) <= 8192
    away = {n.name for site in plan.host_calls.values() for n in site.nodes}
    here = {n for s in plan.steps for n in s.nodes}
    assert away == {"reads_an_input", "reads_between", "reads_a_weight", "makes_an_output"}
    assert {"small", "last"} <= here


def test_a_folded_output_that_no_buffer_holds_is_part_of_the_plan() -> None:
    """Doubles are not stored on a GPU: what folds to some reaches the caller with the plan."""
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    plan = planned(single.model_of("MatMul", {}, [("y", np.float64)], {}, {"a": a, "b": b}), {})
    np.testing.assert_array_equal(plan.constants["y"], a @ b)
