"""What happens where a fused region has no kernel: its nodes are lowered on their own, on right inputs."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.frontend import BytesSource, load
from nnjit.lower.build import lower
from nnjit.lower.lowered import HostCall
from nnjit.runtime.compile import primitive
from nnjit.runtime.gpu_compile import compile_gpu
from nnjit.runtime.gpu_memory import GpuMemory
from nnjit.runtime.local import LocalSession
from tests.support.single import model_of, native


def test_padding_is_made_again_after_a_refusal() -> None:
    """Conv + Erf of f64: the region is refused for Erf after its padded input was made; Conv alone needs it too."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 2, 6, 6)), rng.normal(size=(3, 2, 3, 3))
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]), helper.make_node("Erf", ["c"], ["y"])],
        "g", [helper.make_tensor_value_info("x", TensorProto.DOUBLE, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, (1, 3, 6, 6))], [onnx.numpy_helper.from_array(w, "w")],
    )  # fmt: skip
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    ).SerializeToString()
    session = LocalSession(model)
    got = session.run({"x": x})["y"]
    want = onnx.reference.ReferenceEvaluator(onnx.load_model_from_string(model)).run(None, {"x": x})[0]
    np.testing.assert_allclose(got, want, rtol=1e-12)
    assert {r["op"]: r["backend"] for r in session.placement()} == {"Conv": "wasm", "Erf": "reference"}


def test_a_node_without_a_kernel_is_done_once_for_all_its_outputs() -> None:
    """Each output was refused for itself: the reference did the node three times, and a GPU's plan failed."""
    rng = np.random.default_rng(0)
    feeds = {n: rng.random((4, 3, 5) if n == "x" else 3).astype(np.float32) for n in "xsbmv"}
    named = [(n, np.float32) for n in ("y", "mean", "var")]
    model = model_of("BatchNormalization", feeds, named, {"training_mode": 1}, opset=15)
    graph = load(BytesSource(model, "m.onnx"), {}).bind({n: a.shape for n, a in feeds.items()})
    steps = lower(primitive(graph), WgslTarget()).steps
    assert [type(s) for s in steps] == [HostCall]
    plan = compile_gpu(graph, WgslTarget(), GpuMemory())
    assert [s["kind"] for s in plan.segments] == ["host"]
    got, wanted = LocalSession(model).run(feeds), native(model, feeds)
    for name, _ in named:
        np.testing.assert_allclose(got[name], wanted[name], rtol=1e-5, atol=1e-6)
