"""Panels of constants that an earlier plan of the session has left in memory: a later one reads them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnjit.codegen.schedule.steps import Tile
from nnjit.codegen.wasm.target import Target
from nnjit.frontend import BytesSource, load
from nnjit.lower.lowered import Kernel
from nnjit.runtime.compile import compile_plan
from nnjit.runtime.local import LocalSession
from nnjit.runtime.memory import SessionMemory
from nnjit.runtime.plan import Plan

K, N, LAYERS = 192, 384, 3
rng = np.random.default_rng(5)


def model() -> bytes:
    """Rows through products with constants of one shape, to and fro."""
    nodes, constants, last = [], [], "x"
    for i in range(LAYERS):
        for name, shape in ((f"up{i}", (K, N)), (f"down{i}", (N, K))):
            constants.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32) / 8, name))
            nodes.append(helper.make_node("MatMul", [last, name], [f"y_{name}"]))
            last = f"y_{name}"
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", K])
    y = helper.make_tensor_value_info(last, TensorProto.FLOAT, ["rows", K])
    made = helper.make_model(helper.make_graph(nodes, "products", [x], [y], constants), ir_version=10,
                             opset_imports=[helper.make_opsetid("", 21)])  # fmt: skip
    return bytes(made.SerializeToString())


def plans(data: bytes, rows: tuple[int, ...], target: Target) -> list[Plan]:
    loaded, memory = load(BytesSource(data, "m"), {}), SessionMemory()
    return [compile_plan(loaded.bind(shapes={"x": (m, K)}), target, memory, key=str(m)) for m in rows]


def packed(plan: Plan) -> int:
    return sum(item["kind"] == "step" for item in plan.init)


def widths(plan: Plan) -> set[int]:
    """Of the panels that runs read."""
    assert plan.lowered is not None
    steps = [s for s in plan.lowered.steps if isinstance(s, Kernel) and not s.once]
    return {
        t.factor for s in steps for t in s.schedule if isinstance(t, Tile) and t.axis == s.spec.axes[-1].name
    }


@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_reads_the_panels_of_many(threads: int) -> None:
    target = Target(threads=threads, shared=threads > 1)
    many, one = plans(model(), (100, 1), target)
    assert packed(many) == 2 * LAYERS and packed(one) == 0
    (alone,) = plans(model(), (1,), target)
    assert widths(one) == widths(many) != widths(alone)  # or the test tells nothing


def test_many_rows_do_not_read_those_of_one() -> None:
    """A tile as wide as a row's holds too few rows: every row would read the panel again."""
    one, many = plans(model(), (1, 100), Target())
    assert packed(one) == packed(many) == 2 * LAYERS
    (alone,) = plans(model(), (100,), Target())
    assert widths(many) == widths(alone)


def test_a_plan_made_again_keeps_its_panels() -> None:
    """As the tuner lowers a graph again, in another form."""
    _, one = plans(model(), (100, 1), Target())
    assert one.lowered is not None and one.lowered.reused
    steps = [s for s in one.lowered.steps if isinstance(s, Kernel)]
    assert {s.spec.key: s.schedule for s in steps}.items() >= one.lowered.reused.items()


@pytest.mark.parametrize("rows", [(100, 1), (37, 3, 1), (1, 100, 2), (5, 4, 3, 2, 1)])
def test_results(rows: tuple[int, ...]) -> None:
    data = model()
    session = LocalSession(data)
    constants = {c.name: numpy_helper.to_array(c) for c in onnx.load_from_string(data).graph.initializer}
    for m in (*rows, *rows):
        x = rng.standard_normal((m, K)).astype(np.float32)
        expected = x.astype(np.float64)
        for i in range(LAYERS):
            expected = expected @ constants[f"up{i}"] @ constants[f"down{i}"]
        (found,) = session.run({"x": x}).values()
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
