"""What lowering does when a rule fails: another schedule, then the reference, and nothing half-made stays behind."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnjit.codegen.schedule.steps import Pack, Schedule, ScheduleError
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm import cache
from nnjit.lower import steps
from nnjit.runtime.local import LocalSession


def two_products() -> tuple[bytes, np.ndarray, np.ndarray]:
    """y = relu(x @ w), z = (x + 1) @ w: both pack w alike."""
    rng = np.random.default_rng(3)
    w = rng.standard_normal((32, 24)).astype(np.float32)
    x = rng.standard_normal((16, 32)).astype(np.float32)
    one = np.ones(1, np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["p"], name="first"),
            helper.make_node("Relu", ["p"], ["y"]),
            helper.make_node("Add", ["x", "one"], ["q"]),
            helper.make_node("MatMul", ["q", "w"], ["z"], name="second"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [16, 32])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in "yz"],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(one, "one")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    return model.SerializeToString(), x, w


def test_a_schedule_that_does_not_fit_costs_only_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first product's kernel is refused once its panels are made: the second must make its own."""
    model, x, w = two_products()
    emitted, refused = cache.emitted, []

    def refuse(spec: KernelSpec, schedule: Schedule, target: object, *more: object) -> object:
        if not refused and any(isinstance(s, Pack) for s in schedule):
            refused.append(spec.name)
            raise ScheduleError("refused by the test")
        return emitted(spec, schedule, target)  # type: ignore[arg-type]

    monkeypatch.setattr(steps, "emitted", refuse)
    session = LocalSession(model)
    out = session.run({"x": x})
    assert refused
    np.testing.assert_allclose(out["y"], np.maximum(x @ w, 0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(out["z"], (x + 1) @ w, rtol=1e-5, atol=1e-5)
    assert {r["backend"] for r in session.placement()} <= {"wasm", "none", "folded"}
