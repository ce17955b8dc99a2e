"""Elements that are only moved keep their bytes: every narrow type, joined, padded, chosen by one truth, against numpy;
and whole vectors of them are one load and one store."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from nnjit.codegen.expr import LANE, Index, load
from nnjit.codegen.loops import For, Nest, Store
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from nnjit.codegen.wasm.emit import emit
from nnjit.codegen.wasm.listing import listing
from nnjit.codegen.wasm.target import Target
from nnjit.runtime.local import LocalSession
from tests.support.kernels import run_nest

TYPES: list[Any] = [np.int8, np.uint8, np.bool_, np.int16, np.uint16, np.float16]
LENGTHS = st.integers(1, 70)
SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def session(nodes: list[Any], x: Any, out: Any, constants: dict[str, Any]) -> LocalSession:
    of = helper.np_dtype_to_tensor_dtype
    inputs = [helper.make_tensor_value_info("x", of(x.dtype), x.shape)]
    if "c" not in constants:
        inputs.append(helper.make_tensor_value_info("c", of(np.dtype(bool)), ()))
    graph = helper.make_graph(
        nodes, "moved", inputs, [helper.make_tensor_value_info("y", of(np.dtype(out)), None)],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return LocalSession(bytes(model.SerializeToString()))


def drawn(rng: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    if dtype == np.bool_:
        return rng.random(shape) < 0.5
    if dtype == np.float16:
        return rng.standard_normal(shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, int(info.max) + 1, shape).astype(dtype)


@SETTINGS
@given(st.sampled_from(TYPES), st.integers(1, 5), LENGTHS, LENGTHS, st.booleans(), st.integers(0, 1000))
def test_chosen_and_joined(dtype: Any, rows: int, n: int, m: int, truth: bool, seed: int) -> None:
    """Concat(Where(c, x, other), more): whole vectors, their tails, rows that begin anywhere."""
    rng = np.random.default_rng(seed)
    x, other, more = (drawn(rng, (rows, e), dtype) for e in (n, n, m))
    nodes = [helper.make_node("Where", ["c", "x", "other"], ["w"]),
             helper.make_node("Concat", ["w", "more"], ["y"], axis=1)]  # fmt: skip
    local = session(nodes, x, dtype, {"other": other, "more": more})
    found = local.run({"x": x, "c": np.array(truth)})["y"]
    assert local.last is not None and not local.last.host_calls
    np.testing.assert_array_equal(found, np.concatenate([x if truth else other, more], 1))


@SETTINGS
@given(st.sampled_from(TYPES), st.integers(1, 3), LENGTHS, st.integers(0, 9), st.integers(0, 9),
       st.sampled_from(["constant", "edge"]), st.integers(0, 1000))  # fmt: skip
def test_padded(dtype: Any, rows: int, n: int, before: int, after: int, mode: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = drawn(rng, (rows, n), dtype)
    pads = np.array([1, before, 2, after])
    nodes = [helper.make_node("Pad", ["x", "pads"], ["y"], mode=mode)]
    local = session(nodes, x, dtype, {"pads": pads, "c": np.array(True)})
    wanted = np.pad(x, [(1, 2), (before, after)], mode=mode)  # type: ignore[call-overload]
    np.testing.assert_array_equal(local.run({"x": x})["y"], wanted)


@pytest.mark.parametrize(
    ("dtype", "far"), [("u8", 16), ("i8", 16), ("bool", 16), ("i16", 8), ("f16", 8), ("bf16", 8)]
)
def test_a_vector_is_one_load_and_one_store(dtype: str, far: int) -> None:
    value = load(0, Index(far, {"n": 1}), dtype)
    stage = Stage((), (), "", None, value, 1, Index.of("n"))
    operands = (Operand(dtype, 256 + far, "in"), Operand(dtype, 256, "out"))
    spec = KernelSpec("moved", (Axis("n", 256),), (stage,), operands)
    text = listing(emit(apply(spec, default_schedule(spec, Target())), Target()))
    assert "v128.load " in text and "v128.store " in text
    assert "extend" not in text and "narrow" not in text and "v128.load32_zero" not in text


def test_what_is_written_in_between_is_seen() -> None:
    """y = x, four elements at a time, with some of x replaced after the first of them."""

    def four(operand: int, source: int, at: int) -> Store:
        place = Index(at, {LANE: 1})
        return Store(operand, place, load(source, place, "u8"), 4, 4)

    body = [four(2, 1, 0), four(1, 0, 4), *(four(2, 1, at) for at in (4, 8, 12))]
    operands = (Operand("u8", 16, "in"), Operand("u8", 16, "out"), Operand("u8", 16, "out"))
    nest = Nest("between", operands, 1, [For("p", 1, list(body), "parallel")])
    z, x = np.arange(16, dtype=np.uint8), np.arange(100, 116, dtype=np.uint8)
    found = run_nest(nest, Target(), [z, x, np.zeros(16, np.uint8)])[2]
    np.testing.assert_array_equal(found, [*x[:4], *z[4:8], *x[8:]])
