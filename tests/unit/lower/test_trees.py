"""Trees of pointwise nodes: one kernel where all its operands fit, and right whatever the tree looks like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.frontend import BytesSource, load
from nnjit.runtime.gpu_compile import compile_gpu
from nnjit.runtime.gpu_memory import GpuMemory
from nnjit.runtime.local import LocalSession
from tests.support.small_models import model_of

NUMPY = {"Add": np.add, "Mul": np.multiply, "Sub": np.subtract, "Max": np.maximum}
Tree = Any  # an operator and two trees, or the number of an operand


def trees(depth: int) -> st.SearchStrategy[Tree]:
    leaf = st.integers(0, 5)
    if depth == 0:
        return leaf
    inner = trees(depth - 1)
    return st.one_of(leaf, st.tuples(st.sampled_from(sorted(NUMPY)), inner, inner))


def written(tree: Tree, arrays: list[Any], nodes: list[Any]) -> tuple[str, Any]:
    """The name and the value of a tree, its nodes appended."""
    if isinstance(tree, int):
        return f"x{tree}", arrays[tree]
    op, *sides = tree
    (a, x), (b, y) = (written(side, arrays, nodes) for side in sides)
    name = f"t{len(nodes)}"
    nodes.append(helper.make_node(op, [a, b], [name], name))
    return name, NUMPY[op](x, y)


def products(count: int) -> tuple[bytes, dict[str, Any]]:
    """x0 x1 + x2 x3 + …"""
    tree: Tree = ("Mul", 0, 1)
    for n in range(1, count):
        tree = ("Add", tree, ("Mul", 2 * n, 2 * n + 1))
    arrays = [np.full((4, 64), n + 1, np.float32) for n in range(2 * count)]
    nodes: list[Any] = []
    name, _ = written(tree, arrays, nodes)
    feeds = {f"x{n}": a for n, a in enumerate(arrays)}
    return model_of(nodes, feeds, {}, [name]), feeds


@given(
    tree=trees(4).filter(lambda t: not isinstance(t, int)),
    wide=st.sampled_from([1, 7, 33]),
    broad=st.booleans(),
)
def test_any_tree(tree: Tree, wide: int, broad: bool) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-4, 5, (1 if broad and n == 0 else 3, wide)).astype(np.float32) for n in range(6)]
    nodes: list[Any] = []
    name, wanted = written(tree, arrays, nodes)
    read = {i for n in nodes for i in n.input if i.startswith("x")}
    feeds = {f"x{n}": a for n, a in enumerate(arrays) if f"x{n}" in read}
    session = LocalSession(model_of(nodes, feeds, {}, [name]))
    np.testing.assert_array_equal(session.run(feeds)[name], wanted)  # small integers: exact in any order
    assert session.last is not None and not session.last.host_calls


@pytest.mark.parametrize("count", [2, 3])
def test_a_sum_of_products_is_one_kernel(count: int) -> None:
    model, feeds = products(count)
    session = LocalSession(model)
    session.run(feeds)
    assert session.last is not None and len(session.last.steps) == 1


def test_what_a_gpu_can_not_bind_is_computed_before() -> None:
    model, feeds = products(6)
    graph = load(BytesSource(model, "m"), {}).bind({n: a.shape for n, a in feeds.items()})
    plan = compile_gpu(graph, WgslTarget(), GpuMemory())
    assert not plan.host_calls and len(plan.steps) == 6
    assert all(len(step.bindings) <= 8 for step in plan.steps)


def test_what_reads_its_operand_twice_again_and_again() -> None:
    """The expression of one kernel would have 2^40 operands."""
    x = np.linspace(-3, 3, 64, dtype=np.float32)
    nodes = [helper.make_node("HardSwish", [f"v{n}"], [f"v{n + 1}"]) for n in range(40)]
    found = LocalSession(model_of(nodes, {"v0": x}, {}, ["v40"])).run({"v0": x})["v40"]
    for _ in range(40):
        x = x * np.clip(x / 6 + 0.5, 0, 1)
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-6)
