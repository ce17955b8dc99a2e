"""Products of one left factor as one: the numbers stay, by the interpreter of the plan's kernels and under wasmtime;
weights are loaded once, in parts, whichever plan of a session reads them; placement names all nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.errors import Cancelled, OutOfMemory
from nnjit.frontend import BytesSource, load
from nnjit.graph.ir import Graph
from nnjit.graph.passes.merging import MOST_PARTS, Joined, merge_products
from nnjit.graph.reference import run_graph
from nnjit.runtime import compile as wasm
from nnjit.runtime.gpu_compile import compile_gpu
from nnjit.runtime.gpu_memory import GpuMemory
from nnjit.runtime.gpu_plan import GpuPlan
from nnjit.runtime.local import LocalSession
from nnjit.runtime.prepared import Options
from nnjit.runtime.session import CompilerSession
from tests.support.branches import Branch, N, decoder, model
from tests.support.gpu_plans import Simulated

TARGET = WgslTarget(features=frozenset({"shader-f16"}), max_shared_bytes=32768)


def session(data: bytes, merge: bool = True) -> CompilerSession:
    target = TARGET if merge else WgslTarget(features=TARGET.features, max_shared_bytes=32768, merge=False)
    options = Options(provider="webgpu", gpu=target, strict=True)
    return CompilerSession(load(BytesSource(data, "m"), {}), options)


def planned(made: CompilerSession, feeds: dict[str, Any]) -> GpuPlan:
    prepared, _ = made.prepare({n: a.shape for n, a in feeds.items()}, {})
    made.settle([prepared.key])
    assert isinstance(prepared.plan, GpuPlan) and not prepared.plan.host_calls
    return prepared.plan


def wanted(data: bytes, feeds: dict[str, Any]) -> dict[str, Any]:
    graph = load(BytesSource(data, "m"), {}).bind({n: a.shape for n, a in feeds.items()}, passes=[])
    return run_graph(graph, dict(feeds))


def holds(made: tuple[bytes, dict[str, Any]], merged: bool | None = True) -> GpuPlan:
    """The plan gives what the reference gives of the model as it is; merged: whether some products are one."""
    data, feeds = made
    plan = planned(session(data), feeds)
    assert plan.lowered is not None
    if merged is not None:
        assert bool(plan.lowered.graph.merged) == merged, plan.lowered.graph
    found, right = Simulated(plan, data).run(feeds), wanted(data, feeds)
    bound = 4e-3 if feeds["x"].dtype == np.float16 else 2e-5
    for name, value in right.items():
        np.testing.assert_allclose(found[name], value, rtol=bound, atol=bound, err_msg=name)
    return plan


def products(plan: GpuPlan) -> list[list[str]]:
    return [s.nodes for s in plan.steps if any(n.startswith("product") for n in s.nodes)]


branch = st.builds(
    Branch,
    width=st.sampled_from([26, 27, 36, 52]),
    form=st.sampled_from(["matmul", "gemm", "gemm turned", "transpose"]),
    bias=st.booleans(),
    scale=st.booleans(),
    after=st.sampled_from(["", "", "Relu", "Tanh"]),
    reader=st.sampled_from(["heads", "heads", "heads", "output", "residual", "concat"]),
)


@settings(max_examples=12, deadline=None)
@given(
    st.lists(branch, min_size=2, max_size=5),
    st.sampled_from([(3,), (1, 7), (8, 3), (1, 1)]),
    st.sampled_from([40, 41]),
    st.sampled_from([np.float32, np.float32, np.float16]),
)
def test_numbers_stay(branches: list[Branch], batch: tuple[int, ...], k: int, dtype: Any) -> None:
    holds(model(branches, k, batch, dtype), merged=None)


QKV = [Branch(36), Branch(36), Branch(36)]


@pytest.mark.parametrize("form", ["matmul", "gemm", "gemm turned", "transpose"])
@pytest.mark.parametrize("batch, dtype", [((1, 5), np.float32), ((8, 3), np.float16), ((1, 1), np.float32)])
def test_three_are_one(form: str, batch: tuple[int, ...], dtype: Any) -> None:
    plan = holds(model([Branch(36, form)] * 3, 64, batch, dtype))
    (nodes,) = products(plan)
    assert {"product0", "product1", "product2"} <= set(nodes)


@pytest.mark.parametrize("form", ["matmul", "gemm", "gemm turned", "transpose"])
def test_widths_differ(form: str) -> None:
    plan = holds(model([Branch(64, form), Branch(27, form, bias=False), Branch(32, form)], 40, (2, 5)))
    assert len(products(plan)) == 1


def test_what_only_some_have() -> None:
    """A bias, a scale: the others get what changes nothing."""
    plan = holds(model([Branch(36, scale=True), Branch(36, bias=False), Branch(36)], 40, (2, 5)))
    (nodes,) = products(plan)
    assert {"scale0", "bias2"} <= set(nodes)


def test_signs_of_zero_stay() -> None:
    data, feeds = model([Branch(36, bias=False), Branch(36, scale=True)], 40, (2, 3))
    feeds["x"][:] = -0.0
    found = Simulated(planned(session(data), feeds), data).run(feeds)
    right = Simulated(planned(session(data, merge=False), feeds), data).run(feeds)
    for name in right:
        assert found[name].tobytes() == right[name].tobytes()


def test_a_reader_of_two_parts() -> None:
    holds(model(QKV, 40, (2, 5), pairs=True))


@pytest.mark.parametrize("reader", ["output", "residual", "concat"])
def test_what_would_take_a_step_more_stays(reader: str) -> None:
    plan = holds(model([Branch(36), Branch(36), Branch(36, reader=reader)], 40, (2, 5)))
    assert sorted(sum(n.startswith("product") for n in nodes) for nodes in products(plan)) == [1, 2]


def test_activations_that_differ_stay() -> None:
    plan = holds(model([Branch(36, after="Relu"), Branch(36, after="Tanh")], 40, (2, 5)), merged=False)
    assert len(products(plan)) == 2
    assert len(products(holds(model([Branch(36, after="Relu")] * 2, 40, (2, 5))))) == 1


def test_a_weight_that_something_else_reads_stays_alone() -> None:
    """Else it would be in memory twice."""
    data, feeds = model(QKV, 40, (2, 5))
    whole = onnx.load_from_string(data)
    whole.graph.node.append(N("Exp", ["a"], ["e"], "other"))
    whole.graph.node.append(N("MatMul", ["e", "w1"], ["z"], "again"))
    whole.graph.output.append(helper.make_tensor_value_info("z", 1, None))
    data = whole.SerializeToString()
    plan = holds((data, feeds))
    assert sorted(len([n for n in nodes if n.startswith("product")]) for nodes in products(plan)) == [1, 2]


def test_no_more_than_so_many() -> None:
    plan = holds(model([Branch(26)] * (MOST_PARTS + 2), 40, (2, 3)))
    assert [sum(n.startswith("product") for n in nodes) for nodes in products(plan)] == [MOST_PARTS, 2]


def test_weights_that_no_buffer_holds_together_stay() -> None:
    """f16 takes twice the bytes of the model on a device that has it not."""
    data, feeds = model([Branch(80), Branch(80)], 40, (3,), np.float16)
    graph = load(BytesSource(data, "m"), {}).bind({"x": feeds["x"].shape})
    target = WgslTarget(max_shared_bytes=32768, max_binding_bytes=16384, max_buffer_bytes=16384)
    plan = compile_gpu(graph, target, GpuMemory())
    assert not plan.host_calls and len(products(plan)) == 2


@pytest.mark.parametrize("form", ["matmul", "gemm turned"])
def test_weights_come_from_where_the_model_has_them_once(form: str) -> None:
    """No step at load puts them together, each byte is read once, none is kept twice."""
    data, feeds = model([Branch(36, form)] * 3, 64, (1, 5))
    apart, plan = planned(session(data, merge=False), feeds), planned(session(data), feeds)
    ranges = [(i["source"], i["start"], i["length"]) for i in plan.init if i["kind"] == "range"]
    before = [(i["source"], i["start"], i["length"]) for i in apart.init if i["kind"] == "range"]
    assert sorted(ranges) == sorted(before) and len(ranges) == len(set(ranges)) == 3
    steps = [sum(i["kind"] == "step" for i in p.init) for p in (plan, apart)]
    assert steps[0] <= steps[1]
    assert plan.stats["constantBytes"] <= apart.stats["constantBytes"] + 256


def test_plans_of_a_session_share_the_weights() -> None:
    """Also where one of them can not merge: an output of one model's shapes that the other's has not."""
    data, feeds = model(QKV, 64, (1, 5))
    made = session(data)
    first = planned(made, feeds)
    one = Simulated(first, data)
    # the same weights in a graph whose second product is an output: it stays by itself and reads a part
    other, _ = model([QKV[0], Branch(36, reader="output"), QKV[2]], 64, (1, 5))
    graph = load(BytesSource(other, "m"), {}).bind({"x": (1, 5, 64)})
    moved = _same_data(graph, made)
    second = compile_gpu(moved, TARGET, made.memory, key="second")  # type: ignore[arg-type]
    assert not _loaded(second), "a weight is loaded again"
    got, right = Simulated(second, data, one).run(feeds), wanted(other, feeds)
    for name in right:
        np.testing.assert_allclose(got[name], right[name], rtol=2e-5, atol=2e-5)


def _loaded(plan: GpuPlan) -> list[Any]:
    """What is read of the model for a plan, and data of Python's as large as a weight."""
    return [i for i in plan.init if i["kind"] == "range" or (i["kind"] == "bytes" and len(i["data"]) > 4096)]


def _same_data(graph: Graph, made: CompilerSession) -> Graph:
    """The graph with the constants of a session's model in the place of its own, by name."""
    mine = {v.name: v.const for v in made.model.graph.constants()}
    for v in graph.constants():
        if v.name in mine:
            v.const = mine[v.name]
    return graph


def test_the_other_way_round() -> None:
    """What is in memory by itself is not loaded again with others."""
    data, feeds = model([QKV[0], Branch(36, reader="output"), QKV[2]], 64, (1, 5))
    other, _ = model(QKV, 64, (1, 5))
    made = session(data)
    one = Simulated(planned(made, feeds), data)
    graph = _same_data(load(BytesSource(other, "m"), {}).bind({"x": (1, 5, 64)}), made)
    second = compile_gpu(graph, TARGET, made.memory, key="second")  # type: ignore[arg-type]
    assert not _loaded(second), "a weight is loaded again"
    assert len(products(second)) == 2
    got, right = Simulated(second, data, one).run(feeds), wanted(other, feeds)
    for name in right:
        np.testing.assert_allclose(got[name], right[name], rtol=2e-5, atol=2e-5)


@settings(max_examples=8, deadline=None)
@given(st.lists(branch, min_size=2, max_size=4), st.sampled_from([(1, 7), (8, 3), (1, 1)]))
def test_kernels_of_the_other_target(branches: list[Branch], batch: tuple[int, ...]) -> None:
    """WebAssembly's plans do not merge; the pass means the same there."""
    data, feeds = model(branches, 40, batch)
    right = LocalSession(data).run(feeds)
    before = wasm.primitive
    wasm.primitive = lambda graph: merge_products(before(graph))
    try:
        found = LocalSession(data).run(feeds)
    finally:
        wasm.primitive = before
    for name, value in right.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-5, err_msg=name)


def test_placement_names_every_node() -> None:
    data, feeds = model([Branch(36, scale=True), Branch(36), Branch(36, "gemm")], 40, (2, 5))
    made = session(data)
    prepared, _ = made.prepare({"x": feeds["x"].shape}, {})
    where = {row["node"]: row for row in prepared.nodes}
    steps = {where[n]["step"] for n in ("product0", "product1", "scale0", "bias0", "bias1")}
    assert len(steps) == 1 and where["product2"]["step"] not in steps
    assert all(row["backend"] != "reference" for row in prepared.nodes)
    plan = prepared.plan
    assert plan is not None
    (step,) = steps
    assert {"product0", "product1", "scale0", "bias0", "bias1"} <= set(plan.steps[step].nodes)


def test_steps_of_a_decoder() -> None:
    """Q, K and V of each layer are one step, and what all layers read of the encoder is one."""
    data, feeds = decoder(layers=2)
    plan = planned(session(data), feeds)
    found = Simulated(plan, data).run(feeds)["y"]
    np.testing.assert_allclose(found, wanted(data, feeds)["y"], rtol=1e-4, atol=1e-5)
    steps = [len(planned(session(data, merge=merge), feeds).steps) for merge in (True, False)]
    # apart: 2 layers of 2 attentions of 3 products, 3 kernels (of few rows), a product and a norm
    assert steps == [32 - 2 * 2 - 3, 32]
    assert any({"cross0.k", "cross0.v", "cross1.k", "cross1.v"} <= set(s.nodes) for s in plan.steps)


@pytest.mark.parametrize("how", ["stopped", "never loaded", "too large"])
def test_a_plan_that_does_not_serve_decides_nothing_for_later_ones(how: str) -> None:
    """Its weights were not loaded: how they would have lain binds no other plan."""
    data, feeds = model(QKV, 40, (2, 5))
    made = session(data)
    empty = Joined()

    def stop(stage: str, *_: Any) -> None:
        if stage == "compile":
            raise Cancelled("not wanted any more")

    shapes = {n: a.shape for n, a in feeds.items()}
    if how == "stopped":
        with pytest.raises(Cancelled):
            made.prepare(shapes, {}, stop)
    elif how == "never loaded":
        made.prepare(shapes, {})
        assert isinstance(made.memory, GpuMemory) and made.memory.joined != empty
        made.settle([])
    else:
        memory = GpuMemory()
        graph = load(BytesSource(data, "m"), {}).bind(shapes)
        with pytest.raises(OutOfMemory):
            compile_gpu(graph, replace(TARGET, max_buffer_bytes=1000), memory, whole=True)
        assert memory == GpuMemory()
        return
    assert isinstance(made.memory, GpuMemory) and made.memory.joined == empty
