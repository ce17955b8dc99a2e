"""Attention on kernels against native onnxruntime: heads, groups, odd lengths, masks, one kernel and three."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from nnjit.codegen.wasm.target import Target
from nnjit.runtime.local import LocalSession
from tests.fuzz import masks
from tests.support.attention_models import LOW, model
from tests.support.single import native, on_kernels


def run(data: bytes, feeds: dict[str, Any], attention: str = "fused") -> tuple[Any, list[str]]:
    """The answer and the names of the kernels that gave it; fails if a node ran on the reference."""
    session = LocalSession(data, target=Target(attention=attention))
    out = session.run(feeds)["y"]
    slow = [row["op"] for row in session.placement() if row["backend"] == "reference"]
    assert not slow, f"{slow} ran on the reference"
    assert session.last is not None
    return out, [s.name for s in session.last.steps]


def feeds_of(data: bytes, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    feeds = {}
    for i in onnx.load_from_string(data).graph.input:
        dims = [d.dim_value for d in i.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type)
        feeds[i.name] = rng.standard_normal(dims).astype(dtype)
    return feeds


def triangle(rows: int, keys: int, low: float = LOW) -> Any:
    """A causal mask whose last row sees every key."""
    return np.where(np.tril(np.ones((rows, keys), bool), keys - rows), np.float32(0), np.float32(low))[
        None, None
    ]


LENGTHS = st.sampled_from([1, 2, 3, 5, 7, 12, 13, 16, 17, 31, 40, 49, 64, 97])
DEPTHS = st.sampled_from([1, 3, 4, 8, 12, 20])
MASKS = st.sampled_from(["none", "keys", "full", "causal"])


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3)),
    LENGTHS,
    LENGTHS,
    DEPTHS,
    DEPTHS,
    MASKS,
)
def test_shapes(heads: tuple[int, int, int], rows: int, keys: int, depth: int, width: int, kind: str) -> None:
    batch, count, group = heads
    wide = (1, count * group, rows, keys)
    mask: Any = {"none": None, "keys": (batch, 1, 1, keys), "full": wide, "causal": triangle(rows, keys)}[
        kind
    ]
    if kind == "causal" and rows > keys:
        mask = None
    data = model(batch, count, group, rows, keys, depth, width, np.float32, mask, 0.3)
    feeds = feeds_of(data)
    found, names = run(data, feeds)
    if min(rows, keys, depth, width) > 1:  # what has a side of 1 may be simpler than attention
        assert sum("attention" in n for n in names) == 1
        assert not any("softmax" in n or "matmul" in n for n in names)
    np.testing.assert_allclose(found, native(data, feeds)["y"], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("mask", [None, "causal"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_types(dtype: Any, mask: str | None) -> None:
    low = -np.inf if dtype == np.float16 else LOW
    data = model(1, 2, 2, 21, 30, 8, 8, dtype, triangle(21, 30, low) if mask else None, 0.5)
    feeds = feeds_of(data)
    found, names = run(data, feeds)
    assert any("attention" in n for n in names)
    tolerance = {np.float16: 4e-3, np.float32: 2e-5, np.float64: 1e-12}[dtype]
    np.testing.assert_allclose(found, native(data, feeds)["y"], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("rows", [1, 5, 37])
@pytest.mark.parametrize("mask", [None, "causal"])
def test_one_kernel_and_three(rows: int, mask: str | None) -> None:
    data = model(2, 3, 2, rows, 40, 8, 12, np.float32, triangle(rows, 40) if mask else None, 0.3)
    feeds = feeds_of(data)
    whole, one = run(data, feeds)
    parts, three = run(data, feeds, "split")
    assert sum("attention" in n for n in one) == 1 and sum("attention_" in n for n in three) == 3
    np.testing.assert_allclose(whole, parts, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("low", [float(LOW), -1e30, float("-inf")])
def test_rows_without_keys(low: float) -> None:
    """Padding at the start of a batch under a causal mask: a row whose keys are all masked sees all keys alike where
    the mask is finite, and is not a number where it is -inf, in ONNX as here."""
    rows = 50
    data = model(2, 2, 1, rows, rows, 8, 8, np.float32, (2, 1, rows, rows), 0.3)
    feeds = feeds_of(data)
    padding = np.zeros((2, 1, 1, rows), np.float32)
    padding[1, ..., :7] = low
    feeds["mask"] = np.maximum(np.minimum(triangle(rows, rows, low), padding), low).astype(np.float32)
    found, _ = run(data, feeds)
    wanted = native(data, feeds)["y"]
    assert np.isnan(wanted).any() == (low == float("-inf"))
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5)


def test_causal_and_padding_known_at_run_time() -> None:
    """Where(And(triangle, keep), 0, low): what is skipped depends on whether a batch's first key is kept."""
    rows, low = 49, LOW
    base = onnx.load_from_string(model(3, 2, 1, rows, rows, 8, 8, np.float32, (3, 1, rows, rows), 0.3))
    graph = base.graph
    del graph.input[3]
    graph.input.append(helper.make_tensor_value_info("keep", onnx.TensorProto.BOOL, [3, 1, 1, rows]))
    seen = np.tril(np.ones((1, 1, rows, rows), bool))
    graph.initializer.extend([numpy_helper.from_array(seen, "seen"), numpy_helper.from_array(np.float32(0), "zero"),
                              numpy_helper.from_array(low, "low")])  # fmt: skip
    graph.node.insert(0, helper.make_node("And", ["seen", "keep"], ["both"]))
    graph.node.insert(1, helper.make_node("Where", ["both", "zero", "low"], ["mask"]))
    data = base.SerializeToString()
    keep = np.ones((3, 1, 1, rows), bool)
    keep[1, ..., 40:] = False  # padding behind
    keep[2, ..., :9] = False  # in front: the first nine rows have no key
    feeds = {**feeds_of(data), "keep": keep}
    found, _ = run(data, feeds)
    np.testing.assert_allclose(found, native(data, feeds)["y"], rtol=2e-4, atol=2e-5)
    session = LocalSession(data)
    session.run(feeds)
    assert session.last is not None
    spec = next(k.spec for k in session.last.kernels if "attention" in k.spec.name)
    assert {name for name, _ in spec.useful} == {"n", "r", "k"}


def chosen(low: float, fed: bool, rows: int, keys: int, masked: Any, feeds: dict[str, Any]) -> bytes:
    """softmax(Where(masked, low, q k' * scale + bias)) v, the bias if it is fed"""
    shapes = {n: a.shape for n, a in feeds.items() if n != "masked"}
    n = helper.make_node
    nodes = [
        n("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        n("MatMul", ["q", "kt"], ["s"]),
        n("Mul", ["s", "scale"], ["m"]),
        *([n("Add", ["m", "bias"], ["b"])] if "bias" in feeds else []),
        n("Where", ["masked", "low", "b" if "bias" in feeds else "m"], ["w"]),
        n("Softmax", ["w"], ["p"], axis=-1),
        n("MatMul", ["p", "v"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info(name, 1, s) for name, s in shapes.items()]
    held = [numpy_helper.from_array(np.array(0.3, np.float32), "scale"),
            numpy_helper.from_array(np.array(low, np.float32), "low")]  # fmt: skip
    if fed:
        inputs.append(helper.make_tensor_value_info("masked", onnx.TensorProto.BOOL, masked.shape))
    else:
        held.append(numpy_helper.from_array(masked, "masked"))
    out = [helper.make_tensor_value_info("y", 1, None)]
    made = helper.make_model(
        helper.make_graph(nodes, "g", inputs, out, held), opset_imports=[helper.make_opsetid("", 17)]
    )
    made.ir_version = 8
    data: bytes = made.SerializeToString()
    return data


@pytest.mark.parametrize("way", ["fused", "split"])
@pytest.mark.parametrize("low", [float("-inf"), float(LOW), -1e4])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_chosen_score_does_not_see_its_key(way: str, low: float, poison: float) -> None:
    """What Where puts in place of a score stands there whatever the key holds, infinite or no number."""
    rows, keys = 5, 13
    masked = np.zeros((rows, keys), bool)
    masked[:, 9:] = True
    for fed, row in ((True, False), (False, False), (True, True)):
        gone = masked.copy()
        gone[2] |= row  # a row without any key
        feeds = {"q": (2, 3, rows, 8), "k": (2, 3, keys, 8), "v": (2, 3, keys, 8)}
        rng = np.random.default_rng(1)
        feeds = {name: rng.standard_normal(s).astype(np.float32) for name, s in feeds.items()}
        feeds["k"][:, :, 11] = poison
        data = chosen(low, fed, rows, keys, gone, feeds)
        given = {**feeds, "masked": gone} if fed else feeds
        found, names = run(data, given, way)
        wanted = native(data, given)["y"]
        assert any("attention" in n for n in names)
        assert np.isnan(wanted).any() == (row and low == float("-inf"))
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("way", ["fused", "split"])
@pytest.mark.parametrize("fed", [True, False])
@pytest.mark.parametrize("low", [float(LOW), -1e30])
def test_what_one_of_two_masks_hides(way: str, fed: bool, low: float) -> None:
    """A row whose keys are hidden, some by the one, some by the other and some by both, sees all of them alike."""
    rows, keys = 5, 13
    gone = np.triu(np.ones((rows, keys), bool), 1)
    rng = np.random.default_rng(1)
    shapes = {"q": (2, 3, rows, 8), "k": (2, 3, keys, 8), "v": (2, 3, keys, 8)}
    feeds = {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    feeds["bias"] = np.where(np.arange(keys) < [[[[2]]], [[[0]]]], low, 0).astype(np.float32)
    data = chosen(low, fed, rows, keys, gone, feeds)
    given = {**feeds, "masked": gone} if fed else feeds
    found, names = run(data, given, way)
    assert any("attention" in n for n in names)
    np.testing.assert_allclose(found, native(data, given)["y"], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("links", "every"), [(1, 7), (2, 701), (3, 86011)])
@pytest.mark.parametrize("bend", [False, True])
def test_chains_of_masks(links: int, every: int, bend: bool) -> None:
    """Added and selected by, fed and constant, with rows that nobody sees: a few of all the command tries."""
    for n, chain in enumerate(masks.chains(links, "float32", every)):
        data, feeds = masks.case(chain, np.dtype("float32"), bend)
        found, seen = masks.answers(data, feeds, ("fused", "split")[n % 2])
        assert seen
        off = masks.apart(found, native(data, feeds, optimised=False)["y"])
        assert off <= masks.bound(chain, "float32", bend), chain


@pytest.mark.parametrize("masked", [False, True])
def test_weights_that_are_no_numbers_are_replaced(masked: bool) -> None:
    """Where(IsNaN(p), 0, p) behind a softmax: rows with a NaN among their scores give zeros, not only rows of -inf."""
    rng = np.random.default_rng(5)
    q, v = (rng.normal(size=(1, 2, n, 4)).astype(np.float32) for n in (3, 5))
    k = rng.normal(size=(1, 2, 4, 5)).astype(np.float32)
    k[0, 0, 2, 1] = np.nan
    mask = np.zeros((1, 1, 3, 5), np.float32)
    mask[0, 0, 1] = -np.inf
    nodes = [
        helper.make_node("MatMul", ["q", "k"], ["dots"]),
        helper.make_node("Add", ["dots", "mask"], ["s"]),
        helper.make_node("Softmax", ["s" if masked else "dots"], ["p"], axis=-1),
        helper.make_node("IsNaN", ["p"], ["none"]),
        helper.make_node("Where", ["none", "zero", "p"], ["w"]),
        helper.make_node("MatMul", ["w", "v"], ["y"]),
    ]
    feeds = {"q": q, "k": k, "v": v} | ({"mask": mask} if masked else {})
    graph = helper.make_graph(
        nodes if masked else [nodes[0], *nodes[2:]],
        "guarded",
        [helper.make_tensor_value_info(n, 1, a.shape) for n, a in feeds.items()],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(np.float32(0), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    found = on_kernels(model.SerializeToString(), feeds)["y"]
    assert not found[0, 0].any() and found[0, 1, 0].all()
    np.testing.assert_allclose(found, native(model.SerializeToString(), feeds)["y"], rtol=1e-5, atol=1e-6)
