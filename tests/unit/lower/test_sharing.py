"""A table that Gather reads and the last product reads transposed is held once, and both read it right; rows of one
are constants by themselves."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnjit.codegen.schedule.steps import Pack
from nnjit.codegen.wasm.target import Target
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.frontend import BytesSource, load
from nnjit.lower import sharing
from nnjit.lower.build import lower
from nnjit.lower.lowered import Kernel
from nnjit.runtime import gpu_compile, link
from nnjit.runtime.gpu_compile import compile_gpu
from nnjit.runtime.gpu_memory import GpuMemory
from nnjit.runtime.local import LocalSession

WORDS, WIDTH, LENGTH = 4099, 68, 21
TABLE = 48, 8192


def tied(transposed: bool) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Embedding and logits from one table, as GPT-2 has it; not transposed: a product with the table itself."""
    rng = np.random.default_rng(1)
    table = rng.standard_normal((WORDS, WIDTH)).astype(np.float32)
    ids = rng.integers(0, WORDS, LENGTH)
    nodes = [helper.make_node("Gather", ["table", "ids"], ["x"])]
    if transposed:
        nodes += [
            helper.make_node("Transpose", ["table"], ["t"]),
            helper.make_node("MatMul", ["x", "t"], ["y"]),
        ]
        want = table[ids] @ table.T
    else:
        p = rng.standard_normal((LENGTH, WORDS)).astype(np.float32)
        nodes += [
            helper.make_node("MatMul", ["p", "table"], ["q"]),
            helper.make_node("Add", ["q", "x"], ["y"]),
        ]
        want = p @ table + table[ids]
    held = [numpy_helper.from_array(table, "table")]
    held += [] if transposed else [numpy_helper.from_array(p, "p")]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("ids", TensorProto.INT64, [LENGTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], held,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    return model.SerializeToString(), ids, want


def packings(model: bytes) -> int:
    """How many steps of the model's plan read panels."""
    graph = load(BytesSource(model, "m"), {}).bind()
    steps = [s for s in lower(graph, Target()).steps if isinstance(s, Kernel)]
    return sum(isinstance(p, Pack) for s in steps for p in s.schedule)


@pytest.mark.parametrize("transposed", [True, False])
def test_a_shared_table(transposed: bool) -> None:
    """Transposed, its rows run along the sum and no panels are made; otherwise panels are worth a second copy."""
    model, ids, want = tied(transposed)
    got = LocalSession(model).run({"ids": ids})["y"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)
    assert packings(model) == (0 if transposed else 1)


def test_what_counts_as_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small table does not: its second copy is nothing beside the speed of panels."""
    monkeypatch.setattr(sharing, "WORTH", 1 << 30)
    assert packings(tied(True)[0]) == 1


def positions(length: int | str) -> bytes:
    """x and a table's first rows, as many as x has; z and the whole table. Too large for folding to copy them."""
    table = np.random.default_rng(2).standard_normal(TABLE).astype(np.float32)
    nodes = [
        helper.make_node("Shape", ["x"], ["n"], start=0, end=1),
        helper.make_node("Squeeze", ["n"], ["m"]),
        helper.make_node("Range", ["zero", "m", "one"], ["at"]),
        helper.make_node("Gather", ["table", "at"], ["rows"]),
        helper.make_node("Add", ["x", "rows"], ["y"]),
        helper.make_node("Add", ["z", "table"], ["v"]),
    ]
    held = [numpy_helper.from_array(table, "table"), *(
        numpy_helper.from_array(np.array(n, np.int64), name) for n, name in ((0, "zero"), (1, "one"))
    )]  # fmt: skip
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", 1, [length, TABLE[1]]), value("z", 1, TABLE)],
        [value("y", 1, None), value("v", 1, None)], held,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()


def test_rows_of_a_table_are_not_taken_for_more_of_them() -> None:
    """They begin at the same byte of the file, in one plan and in those of other lengths."""
    table = np.random.default_rng(2).standard_normal(TABLE).astype(np.float32)
    session = LocalSession(positions("n"))
    z = np.ones(TABLE, np.float32)
    for length in (9, 40, 12):
        x = np.full((length, TABLE[1]), 2, np.float32)
        got = session.run({"x": x, "z": z})
        np.testing.assert_array_equal(got["y"], x + table[:length])
        np.testing.assert_array_equal(got["v"], z + table)


def test_rows_of_a_table_on_a_gpu() -> None:
    model, memory = load(BytesSource(positions("n"), "m"), {}), GpuMemory()
    for length in (9, 40):
        compile_gpu(model.bind({"x": (length, TABLE[1]), "z": TABLE}), WgslTarget(), memory)
    assert len(memory.constants) == 3  # the table, and two parts of it


def test_what_the_reference_makes_at_load_is_made_again_for_a_plan_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under the same key, though an object of the plan before left its address to one of the new plan."""
    graph = helper.make_graph(
        [helper.make_node("Det", ["w"], ["d"]), helper.make_node("Mul", ["x", "d"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros((600, 600), np.float32), "w")],
    )  # fmt: skip
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()
    model, memory = load(BytesSource(data, "m"), {}), GpuMemory()
    for module in (gpu_compile, link):
        monkeypatch.setattr(module, "id", lambda made: 7, raising=False)
    for made in (1, 2):
        assert compile_gpu(model.bind({}), WgslTarget(), memory, key="same").init
        assert len([k for k in memory.constants if k.startswith("plan")]) == made


def test_names_of_what_is_made_at_load_stay_short() -> None:
    """A long chain of products at load, each of two that came before, by which a name would double at every step."""
    side, depth = 257, 48  # too large to be folded
    w = np.random.default_rng(2).normal(0, side**-0.5, (side, side)).astype(np.float32)
    nodes, wanted = [], w
    for k in range(depth):
        nodes.append(helper.make_node("Softmax", [f"x{k}"], [f"p{k}"]))
        nodes.append(helper.make_node("MatMul", [f"p{k}", f"x{k}"], [f"x{k + 1}"]))
        e = np.exp(wanted - wanted.max(-1, keepdims=True))
        wanted = (e / e.sum(-1, keepdims=True)) @ wanted
    nodes.append(helper.make_node("Mul", [f"x{depth}", "s"], ["y"]))
    graph = helper.make_graph(
        nodes, "chain", [helper.make_tensor_value_info("s", TensorProto.FLOAT, [side, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], [numpy_helper.from_array(w, "x0")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = LocalSession(model.SerializeToString())
    s = np.arange(side, dtype=np.float32)[:, None]
    np.testing.assert_allclose(session.run({"s": s})["y"], wanted * s, rtol=1e-4, atol=1e-5)
    placed = {row["node"]: row for row in session.placement()}
    assert all(row["backend"] == "wasm" for row in placed.values())
