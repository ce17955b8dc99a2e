"""The compiler's side of a session: plans by shape, values that decide shapes, what is taken back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnjit.codegen.wasm.target import Target
from nnjit.errors import SessionError, ShapeError
from nnjit.frontend import BytesSource, load
from nnjit.runtime import session as module
from nnjit.runtime.plan import Plan
from nnjit.runtime.prepared import Options, Prepared, plan_key, static_shapes
from nnjit.runtime.session import CompilerSession

F = TensorProto.FLOAT
WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3)


def made(
    nodes: list[Any], inputs: dict[str, Any], outputs: list[str], **weights: np.ndarray
) -> CompilerSession:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, kind, dims) for n, (kind, dims) in inputs.items()],
        [helper.make_tensor_value_info(n, F, None) for n in outputs],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return CompilerSession(load(BytesSource(proto.SerializeToString())), Options(max_plans=2, strict=True))


def matmul(**inputs: Any) -> CompilerSession:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "mm")]
    return made(nodes, inputs or {"x": (F, ["n", 4])}, ["y"], w=WEIGHT)


def test_a_shape_is_compiled_once_and_the_oldest_goes() -> None:
    session = matmul()
    first, gone = session.prepare({"x": (1, 4)}, {})
    assert first.plan is not None and first.backend == "wasm" and gone == []
    again, _ = session.prepare({"x": (1, 4)}, {})
    assert again is first
    session.prepare({"x": (2, 4)}, {})
    session.settle(["x:2x4", "x:1x4"])  # the page ran 1x4 after 2x4
    _, gone = session.prepare({"x": (3, 4)}, {})
    assert gone == ["x:2x4"] and set(session.plans) == {"x:1x4", "x:3x4"}


def test_a_plan_given_up_may_be_run_until_the_page_has_dropped_it() -> None:
    """One that is made ahead takes the place of another, which a run beside it may still ask for its host calls."""
    session = matmul()
    first, _ = session.prepare({"x": (1, 4)}, {})
    session.prepare({"x": (2, 4)}, {})
    _, gone = session.prepare({"x": (3, 4)}, {})
    assert gone == ["x:1x4"] and session.plan("x:1x4") is first
    session.settle(["x:1x4", "x:2x4", "x:3x4"])  # not dropped yet
    assert session.plan("x:1x4") is first
    session.settle(["x:2x4", "x:3x4"])
    with pytest.raises(SessionError):
        session.plan("x:1x4")


def test_short_plans_may_run_on_the_callers_thread() -> None:
    session = matmul()
    bounds = [session.prepare({"x": (n, 4)}, {})[0].plan for n in (1, 1 << 24)]
    assert [plan and plan.to_js()["callerMs"] > 0 for plan in bounds] == [True, False]
    assert bounds[0] and 0 < bounds[0].stats["guessMs"] < bounds[0].caller_ms


def test_a_graph_is_bound_once_for_the_first_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    session = matmul()
    bound: list[dict[str, Any]] = []
    bind = session.model.bind

    def counted(**given: Any) -> Any:
        bound.append(given["shapes"])
        return bind(**given)

    monkeypatch.setattr(session.model, "bind", counted)
    assert session.can_compile({"x": (2, 4)})
    first, _ = session.prepare({"x": (2, 4)}, {})
    assert bound == [{"x": (2, 4)}] and first.plan is not None
    assert session.can_compile({"x": (3, 4)})
    for n in (5, 3):
        other, _ = session.prepare({"x": (n, 4)}, {})
        assert other.plan is not None and other.graph.inputs[0].shape == (n, 4)
    assert bound[1:] == [{"x": (3, 4)}, {"x": (5, 4)}] and first.graph.inputs[0].shape == (2, 4)


def weights_in(prepared: Prepared) -> bool:
    """Whether loading the plan writes the matrix."""
    assert prepared.plan is not None
    return any(WEIGHT.tobytes() in bytes(i.get("data", b"")) for i in prepared.plan.init)


def test_a_plan_that_never_arrived_is_taken_back() -> None:
    """Or else the next plan would count on weights that nobody loaded."""
    session = matmul()
    first, _ = session.prepare({"x": (1, 4)}, {})
    assert first.plan is not None
    session.settle([])
    second, _ = session.prepare({"x": (2, 4)}, {})
    assert second.plan is not None
    assert weights_in(first) and weights_in(second), "the second plan loads the weights again"
    session.settle(["x:2x4"])
    third, _ = session.prepare({"x": (1, 4)}, {})
    assert third.plan is not None
    assert not weights_in(third), "and the third need not"


def test_values_that_decide_shapes_make_the_key() -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    session = made(nodes, {"x": (F, [6]), "shape": (TensorProto.INT64, [2])}, ["y"])
    shapes = {"x": (6,), "shape": (2,)}
    assert not session.can_compile(shapes)
    keys = [session.prepare(shapes, {"shape": np.int64(s)})[0].key for s in ([2, 3], [3, 2], [2, 3])]
    assert keys[0] == keys[2] != keys[1]
    assert session.value_inputs == ("shape",)
    assert session.plan(keys[0]).plan is not None


def test_shapes_that_do_not_fit_leave_the_plans_alone() -> None:
    session = matmul()
    session.prepare({"x": (1, 4)}, {})
    top = session._memory.top
    with pytest.raises(ShapeError):
        session.prepare({"x": (1, 5)}, {})
    assert list(session.plans) == ["x:1x4"] and session._memory.top == top


def test_a_fault_of_the_compiler_goes_to_the_reference_unless_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("of the compiler")

    monkeypatch.setattr(module, "compile_plan", broken)
    session = matmul()
    with pytest.raises(ZeroDivisionError):
        session.prepare({"x": (1, 4)}, {})
    session.options = Options(max_plans=2)
    prepared, _ = session.prepare({"x": (1, 4)}, {})
    assert prepared.backend == "reference" and "ZeroDivisionError" in prepared.reason
    assert [(n["node"], n["backend"]) for n in prepared.nodes] == [("mm", "reference")]
    found = prepared.run_reference({"x": np.float32([[1, 2, 3, 4]])})
    np.testing.assert_array_equal(found["y"], np.float32([[60, 70, 80]]))


def test_kernels_explain_themselves() -> None:
    session = matmul()
    prepared, _ = session.prepare({"x": (2, 4)}, {})
    told = session.kernel(prepared.key, 0)
    assert told["spec"].startswith("f32_matmul over") and "acc = " in told["spec"]
    assert told["loops"].startswith("kernel f32_matmul(") and "(func" in told["listing"]
    assert told["codeBytes"] > 0
    with pytest.raises(SessionError):
        session.kernel(prepared.key, 99)


def test_description_names_inputs_with_overrides_in_place() -> None:
    session = matmul()
    session.options = Options(dims={"n": 7})
    told = session.describe()
    assert told["inputs"] == [
        {"name": "x", "kind": "tensor", "type": "float32", "dims": [7, 4], "optional": False}
    ]
    assert (told["nodes"], told["parameterBytes"], told["files"]) == (1, 48, ["model.onnx"])


@pytest.mark.parametrize(
    ("dims", "overrides", "expected"),
    [
        ([2, 4], {}, {"x": (2, 4)}),
        (["n", 4], {}, None),
        (["n", 4], {"n": 3}, {"x": (3, 4)}),
        ([None, 4], {"n": 3}, None),
        (None, {}, None),
    ],
)
def test_static_shapes(dims: Any, overrides: dict[str, int], expected: Any) -> None:
    assert static_shapes(matmul(x=(F, dims)).model, overrides) == expected


def test_keys_tell_shapes_and_values_apart() -> None:
    assert plan_key({"b": (), "a": (1, 2)}, {}) == "a:1x2;b:"
    one, two = (plan_key({}, {"s": np.int64(v)}) for v in ([1, 2], [2, 1]))
    assert one != two


def test_the_reference_is_an_oracle_without_passes() -> None:
    session = matmul()
    got = session.reference({"x": np.float32([[1, 0, 0, 0]])})
    np.testing.assert_array_equal(got["y"], np.float32([[0, 1, 2]]))


def test_target_comes_from_the_page() -> None:
    given = {
        "provider": "wasm",
        "target": {"simd": True, "relaxed": False, "threads": 2, "shared": True},
        "dims": {"n": 3.0},
        "maxPlans": 8,
        "strict": False,
    }
    options = Options.read(given)
    assert options.target == Target(relaxed=False, threads=2, shared=True) and options.dims == {"n": 3}


def test_constants_are_loaded_in_the_order_of_use() -> None:
    """The same model gives the same plan wherever Python's objects lie: a kept plan is compared byte for byte."""
    nodes, weights = [], {}
    for i in range(12):
        weights[f"w{i}"] = WEIGHT[:, :1] * np.ones(4, np.float32) + np.arange(i, i + 4, dtype=np.float32)
        nodes.append(helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]))
    session = made(nodes, {"x0": (F, [2, 4])}, ["x12"], **weights)
    plan = session.prepare({"x0": (2, 4)}, {})[0].plan
    assert isinstance(plan, Plan)
    # constants that runs read lie in the order of use, before argument blocks and arena
    wanted = [i for i in plan.init if i["kind"] == "bytes" and len(i["data"]) == 64]
    addresses = [i["address"] for i in wanted]
    assert len(addresses) == 12 and addresses == sorted(addresses)
