"""Kernels that a GPU gets wrong are found by a few elements; other kernels, at last the reference, take their place."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from nnjit.codegen.dtypes import NUMPY
from nnjit.codegen.schedule.gpu_rules import plain
from nnjit.codegen.schedule.group_steps import Online
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.errors import SessionError
from nnjit.frontend import BytesSource, load
from nnjit.runtime.gpu_memory import GpuMemory
from nnjit.runtime.gpu_plan import GpuPlan
from nnjit.runtime.gpu_proof import Proof
from nnjit.runtime.prepared import Options, Prepared
from nnjit.runtime.session import CompilerSession
from nnjit.tune import oracle
from nnjit.tune.fills import patterns
from tests.support.schedules import interpreted
from tests.support.small_models import model_of, vision

TARGET = WgslTarget(invocations=64, max_shared_bytes=32768)
DATA, FEEDS = vision()
SHAPES = {name: value.shape for name, value in FEEDS.items()}


def prepared(data: bytes = DATA) -> tuple[CompilerSession, Prepared]:
    session = CompilerSession(load(BytesSource(data, "m.onnx"), {}), Options("webgpu", gpu=TARGET))
    found, _ = session.prepare(SHAPES, {})
    return session, found


def right(plan: GpuPlan, proof: Proof, setup: dict[str, Any]) -> list[list[int]]:
    """What a device gives that does what the spec says."""
    assert proof._now is not None
    spec = plan.kernels[proof._now.number].spec
    assert [(p["operand"], p["at"]) for p in setup["probes"]] == [
        (p.operand, p.at) for p in proof._now.probes
    ]
    values = [
        (oracle.expected(spec, p, patterns(spec)), spec.operands[p.operand].dtype) for p in proof._now.probes
    ]
    return [list(np.array([value], NUMPY[dtype]).tobytes()) for value, dtype in values]


def test_what_is_right_is_not_looked_at_again_and_what_is_wrong_is_found() -> None:
    _, found = prepared()
    assert isinstance(found.plan, GpuPlan)
    proof, seen, bad = Proof(found.plan, TARGET, []), [], None
    while (todo := proof.next())["do"] == "setup":
        samples = right(found.plan, proof, todo["setup"])
        if bad is None:
            samples[-1] = list(np.float32(1e6).tobytes())
        told = proof.told(samples)
        assert bool(told["reason"]) == (bad is None)
        if bad is None:
            bad = told["kernel"]
            assert "1000000" in told["reason"] and proof.wrong == {bad: told["reason"]}
        else:
            seen.append(told["digest"])
    assert len(seen) >= 4 and set(seen) == proof.proven
    again = Proof(found.plan, TARGET, seen)
    assert again.next()["do"] == "setup" and again._now is not None and again._now.number == bad
    again.told(
        right(found.plan, again, {"probes": [{"operand": p.operand, "at": p.at} for p in again._now.probes]})
    )
    assert again.next() == {"do": "done"}
    with pytest.raises(SessionError, match="No kernel"):
        again.told([])


def test_a_refused_kernel_is_made_otherwise_and_at_last_by_the_reference() -> None:
    session, found = prepared()
    assert isinstance(found.plan, GpuPlan)
    step = next(
        s
        for s in found.plan.steps
        if s.nodes and found.plan.kernels[s.shader].schedule != plain(found.plan.kernels[s.shader].spec)
    )
    number, nodes, spec = step.shader, step.nodes, found.plan.kernels[step.shader].spec
    assert session.refuse(found.key, [number], True)
    session.settle([])
    second, _ = session.prepare(SHAPES, {})
    assert second is not found and isinstance(second.plan, GpuPlan)
    at = [i for i, k in enumerate(second.plan.kernels) if k.spec.key == spec.key]
    assert [second.plan.kernels[i].schedule for i in at] == [plain(spec)] and not second.plan.host_calls
    sizes = [{b.constant: b.nbytes for b in p.buffers if b.constant >= 0} for p in (found.plan, second.plan)]
    both = sizes[0].keys() & sizes[1].keys()
    assert both and all(sizes[0][i] == sizes[1][i] for i in both), "what the device has keeps its number"
    node, latest = nodes[0], second
    for _ in range(4):  # without what was fused with it, and that in plain loops
        assert isinstance(latest.plan, GpuPlan)
        at = list({s.shader for s in latest.plan.steps if node in s.nodes})
        if not at:
            break
        assert session.refuse(found.key, at, True)
        latest, _ = session.prepare(SHAPES, {})
    (placed,) = [row for row in latest.nodes if row["node"] == node]
    assert placed["backend"] == "reference" and "does not compute" in placed["reason"]
    others = {row["backend"] for row in latest.nodes if row["node"] not in nodes}
    assert "webgpu" in others and "reference" not in others


def test_attention_in_one_kernel_is_looked_at_and_made_of_three_where_it_is_refused() -> None:
    n = helper.make_node
    nodes = [
        n("MatMul", ["q", "k"], ["s"], "scores"), n("Mul", ["s", "by"], ["t"], "scaled"),
        n("Softmax", ["t"], ["p"], "softmax"), n("MatMul", ["p", "v"], ["y"], "values"),
    ]  # fmt: skip
    f = lambda *shape: np.zeros(shape, np.float32)  # noqa: E731
    feeds = {"q": f(1, 2, 24, 16), "k": f(1, 2, 16, 24), "v": f(1, 2, 24, 16)}
    data = model_of(nodes, feeds, {"by": np.float32(0.25).reshape(())}, ["y"])
    session = CompilerSession(load(BytesSource(data, "m.onnx"), {}), Options("webgpu", gpu=TARGET))
    shapes = {name: value.shape for name, value in feeds.items()}
    found, _ = session.prepare(shapes, {})
    assert isinstance(found.plan, GpuPlan) and len(found.plan.steps) == 1
    proof = Proof(found.plan, TARGET, [])
    todo = proof.next()
    assert todo["do"] == "setup"
    assert not proof.told(right(found.plan, proof, todo["setup"]))["reason"]
    assert session.refuse(found.key, [0], False)
    apart, _ = session.prepare(shapes, {})
    assert isinstance(apart.plan, GpuPlan) and len(apart.plan.steps) >= 3 and not apart.plan.host_calls


def test_attention_that_leaves_out_what_a_mask_hides_is_right() -> None:
    """What the kernel itself gives, by the interpreter: it looks at no block of keys that its rows' mask hides. The
    decoder of BART was taken apart into three kernels for that."""
    n = helper.make_node
    nodes = [n("MatMul", ["q", "k"], ["s"]), n("Add", ["s", "mask"], ["t"]), n("Softmax", ["t"], ["p"]),
             n("MatMul", ["p", "v"], ["y"])]  # fmt: skip
    f = lambda *shape: np.zeros(shape, np.float32)  # noqa: E731
    feeds = {"q": f(1, 1, 40, 4), "k": f(1, 1, 4, 40), "v": f(1, 1, 40, 4)}
    mask = np.triu(np.full((40, 40), -np.inf, np.float32), 1).reshape(1, 1, 40, 40)
    data = model_of(nodes, feeds, {"mask": mask}, ["y"])
    session = CompilerSession(load(BytesSource(data, "m.onnx"), {}), Options("webgpu", gpu=TARGET))
    found, _ = session.prepare({name: value.shape for name, value in feeds.items()}, {})
    assert isinstance(found.plan, GpuPlan)
    (info,) = found.plan.kernels
    (step,) = info.schedule
    assert info.spec.useful and isinstance(step, Online) and step.rows < 40 and step.keys < 40
    proof = Proof(found.plan, TARGET, [])
    assert "online" in proof.next()["name"] and proof._now is not None
    inputs = [np.resize(np.frombuffer(data, NUMPY[info.spec.operands[i].dtype]), info.spec.operands[i].size)
              for i, data in patterns(info.spec).items()]  # fmt: skip
    (out,) = interpreted(info.spec, info.schedule, inputs)
    samples = [list(out[p.at].tobytes()) for p in proof._now.probes]
    assert not proof.told(samples)["reason"]


def test_a_plan_under_way_is_taken_back_though_another_was_refused_meanwhile() -> None:
    """What the one made ahead would have brought is not on the device, whatever is found about the one that serves."""
    model = onnx.load_from_string(DATA)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    session, found = prepared(model.SerializeToString())
    session.settle([found.key])
    assert isinstance(found.plan, GpuPlan) and isinstance(session.memory, GpuMemory)
    session.prepare({"x": (4, *SHAPES["x"][1:])}, {})
    session.memory.constants["of what is under way"] = 10**6
    assert session.refuse(found.key, [0], True)
    session.settle([])
    assert "of what is under way" not in session.memory.constants
