"""A few random models of each area, and the smallest cases of what larger runs (`python -m tests.fuzz`) have found."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from tests.fuzz.areas import AREAS, draw
from tests.fuzz.judge import judge
from tests.support.single import model_of, on_kernels

F32 = np.float32
INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("block", range(3))
@pytest.mark.parametrize("area", sorted(AREAS))
def test_random_models(area: str, block: int) -> None:
    """The node's own values by onnx.reference; where nnjit differs from them, onnxruntime decides."""
    ran = 0
    for seed in range(10_000 + 12 * block, 10_012 + 12 * block):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case = draw(area, seed)
            if not case.outputs:
                continue
            ran += 1
            fault = judge(case)
        assert fault is None or fault.peers_differ, f"{area} {seed}: {fault}\n{case.text()}"
    assert ran > 6


def one(op: str, dtype: Any, attrs: dict[str, Any], constants: set[str] | None = None, **arrays: Any) -> Any:
    """What the operator's kernels answer; `constants` names the arrays that are not fed."""
    held = constants or set()
    feeds = {n: np.asarray(a) for n, a in arrays.items() if n not in held}
    kept = {n: np.asarray(a) for n, a in arrays.items() if n in held}
    return on_kernels(model_of(op, feeds, [("y", dtype)], attrs, kept, list(arrays)), feeds)["y"]


@pytest.mark.parametrize("reduction", ["none", "add", "max"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32, np.int64, np.uint8, np.bool_])
def test_lanes_scatter_to_places_of_their_own(dtype: Any, reduction: str) -> None:
    """The four lanes of a vector of updates went to where the first one goes."""
    if dtype == np.bool_ and reduction != "none":
        return
    rng = np.random.default_rng(3)
    x, updates = rng.integers(0, 2 if dtype == np.bool_ else 90, (2, 7)), rng.integers(0, 2, (2, 7))
    at = np.array([[0, 1, -1, 0, 1, 0, -2], [1, 0, 0, 1, 0, 1, 1]])
    wanted = x.astype(dtype)
    for place in np.ndindex(*at.shape):
        old, new = wanted[at[place], place[1]], updates[place].astype(dtype)
        wanted[at[place], place[1]] = {"none": new, "add": old + new, "max": max(old, new)}[reduction]
    attrs = {"axis": 0, "reduction": reduction}
    found = one("ScatterElements", dtype, attrs, x=x.astype(dtype), at=at, updates=updates.astype(dtype))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("constants", [set(), {"b"}, {"a", "b"}])
@pytest.mark.parametrize(("a", "b"), [((3, 0), (0,)), ((1, 0), (0, 16)), ((2, 5, 0), (0, 9)), ((0,), (0,))])
def test_products_of_nothing(a: tuple[int, ...], b: tuple[int, ...], constants: set[str]) -> None:
    left, right = np.zeros(a, F32), np.zeros(b, F32)
    if "a" in constants:
        c = np.ones((7, 13), F32)
        arrays = {"a": np.zeros((7, 0), F32), "b": np.zeros((0, 13), F32), "c": c}
        np.testing.assert_array_equal(one("Gemm", F32, {"beta": 0.5}, constants, **arrays), c / 2)
        return
    found = one("MatMul", F32, {}, constants, a=left, b=right)
    np.testing.assert_array_equal(found, np.matmul(left, right))


def test_tanh_reaches_one() -> None:
    x = F32([9.7, 100, INF, -9.7, -1e30, -INF])
    np.testing.assert_array_equal(one("Tanh", F32, {}, x=x), np.sign(x))
    gelu = one("Gelu", F32, {"approximate": "tanh"}, x=F32([-50, -1e6, -3e38, 50]))
    np.testing.assert_array_equal(gelu, [0, 0, 0, 50])


def test_power_of_minus_infinity() -> None:
    a, b = F32([-INF, -INF, -INF, -INF, -2, INF]), F32([1.5, -1.5, 3, 2, 1.5, 0.5])
    np.testing.assert_array_equal(one("Pow", F32, {}, a=a, b=b), np.power(a, b))


def test_log_sum_exp_of_infinities() -> None:
    x = F32([[1, INF, 2], [-INF, -INF, -INF], [0, -INF, 0], [1, NAN, INF]])
    found = one("ReduceLogSumExp", F32, {"keepdims": 0}, {"axes"}, x=x, axes=np.int64([1]))
    np.testing.assert_allclose(found, [INF, -INF, np.log(2), NAN], rtol=1e-6)


def test_folded_sums_before_an_infinity() -> None:
    attrs = {"exclusive": 1, "reverse": 1}
    for constants in ({"axis"}, {"axis", "x"}):
        found = one("CumSum", F32, attrs, constants, x=F32([1, -INF, 3, 4]), axis=np.int64(0))
        np.testing.assert_array_equal(found, [-INF, 7, 4, 0])
