"""Convolutions, transposed ones and pooling against onnxruntime: strides, dilations, pads, groups at random."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st

from tests.support.single import model_of, native, on_kernels

SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
SEEDS = st.integers(0, 2**31)


def check(op: str, feeds: dict[str, Any], attrs: dict[str, Any], constants: dict[str, Any] | None = None,
          outputs: Any = (("y", np.float32),), rtol: float = 1e-4, atol: float = 1e-5) -> None:  # fmt: skip
    """nnjit's kernels agree with onnxruntime; attributes that onnxruntime refuses are no example."""
    model = model_of(op, feeds, outputs, attrs, constants)
    try:
        expected = native(model, feeds)
    except Exception:
        reject()
    got = on_kernels(model, feeds)
    for name, _ in outputs:
        np.testing.assert_allclose(got[name], expected[name], rtol=rtol, atol=atol, err_msg=f"{op} {attrs}")


@st.composite
def windows(draw: Any) -> dict[str, Any]:
    """One to three spatial dimensions with their kernel, strides, dilations and pads."""
    n = draw(st.integers(1, 3))
    of = lambda low, high: draw(st.lists(st.integers(low, high), min_size=n, max_size=n))  # noqa: E731
    w = {
        "x": of(3, 9 if n < 3 else 5), "kernel": of(1, 4), "strides": of(1, 3), "dilations": of(1, 2),
        "pads": of(0, 1) + of(0, 2), "batch": draw(st.integers(1, 2)), "channels": draw(st.sampled_from([1, 3, 4, 8])),
    }  # fmt: skip
    for d in range(n):
        # a window that does not fit at all is an error here, and depends on the stride in onnxruntime
        assume(w["x"][d] + w["pads"][d] + w["pads"][d + n] > (w["kernel"][d] - 1) * w["dilations"][d])
    return w


@SETTINGS
@given(windows(), st.sampled_from([1, 2]), st.integers(1, 5), st.booleans(), SEEDS)
def test_conv_transpose(w: dict[str, Any], groups: int, per_out: int, bias: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels = w["channels"] * groups
    x = rng.normal(size=(w["batch"], channels, *w["x"])).astype(np.float32)
    constants = {"w": rng.normal(size=(channels, per_out, *w["kernel"])).astype(np.float32)}
    if bias:
        constants["b"] = rng.normal(size=per_out * groups).astype(np.float32)
    extra = [int(rng.integers(0, max(s, d))) for s, d in zip(w["strides"], w["dilations"], strict=True)]
    attrs = {n: w[n] for n in ("strides", "dilations", "pads")} | {"group": groups, "output_padding": extra}
    check("ConvTranspose", {"x": x}, attrs, constants)


@SETTINGS
@given(windows(), st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]), SEEDS)
def test_conv(w: dict[str, Any], auto_pad: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = int(rng.choice([g for g in (1, 2, 4, w["channels"]) if w["channels"] % g == 0]))
    x = rng.normal(size=(w["batch"], w["channels"], *w["x"])).astype(np.float32)
    weights = rng.normal(size=(groups * 3, w["channels"] // groups, *w["kernel"])).astype(np.float32)
    attrs = {n: w[n] for n in ("strides", "dilations")} | {"group": groups, "auto_pad": auto_pad}
    if auto_pad == "NOTSET":
        attrs["pads"] = w["pads"]
    check("Conv", {"x": x}, attrs, {"w": weights})


@SETTINGS
@given(windows(), st.booleans(), st.booleans(), SEEDS)
def test_max_pool_with_places(w: dict[str, Any], ceil: bool, by_column: bool, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(w["batch"], w["channels"], *w["x"])).astype(np.float32)
    attrs = {n: w[n] for n in ("strides", "dilations", "pads")}
    attrs |= {"kernel_shape": w["kernel"], "ceil_mode": int(ceil), "storage_order": int(by_column)}
    assume(all(p < k for p, k in zip(w["pads"], w["kernel"] * 2, strict=True)))
    check("MaxPool", {"x": x}, attrs, outputs=(("y", np.float32), ("places", np.int64)))


@SETTINGS
@given(windows(), st.sampled_from(["AveragePool", "LpPool"]), st.booleans(), st.booleans(), SEEDS)
def test_mean_and_norm_pools(w: dict[str, Any], op: str, ceil: bool, padding: bool, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(w["batch"], w["channels"], *w["x"])).astype(np.float32)
    attrs = {"kernel_shape": w["kernel"], "strides": w["strides"], "pads": w["pads"]}
    if sys.version_info < (3, 11) and len(w["kernel"]) == 3:
        padding = False  # onnxruntime 1.23, the last for Python 3.10, then counts padding wrongly
    attrs |= {"count_include_pad": int(padding), "ceil_mode": int(ceil)} if op == "AveragePool" else {"p": 3}
    assume(all(p < k for p, k in zip(w["pads"], w["kernel"] * 2, strict=True)))
    check(op, {"x": x}, attrs, rtol=1e-3)


@SETTINGS
@given(windows(), SEEDS)
def test_quantised_conv(w: dict[str, Any], seed: int) -> None:
    """Zero points and a scale for each filter; off by one where f32 and onnxruntime round a half apart."""
    rng = np.random.default_rng(seed)
    filters = 3
    x = rng.integers(0, 255, (w["batch"], w["channels"], *w["x"])).astype(np.uint8)
    constants = {
        "x_scale": np.float32(0.02), "x_zero": np.uint8(rng.integers(0, 255)),
        "w": rng.integers(-127, 127, (filters, w["channels"], *w["kernel"])).astype(np.int8),
        "w_scale": rng.uniform(0.01, 0.03, filters).astype(np.float32), "w_zero": np.zeros(filters, np.int8),
        "y_scale": np.float32(0.1), "y_zero": np.uint8(100),
        "b": rng.integers(-500, 500, filters).astype(np.int32),
    }  # fmt: skip
    attrs = {n: w[n] for n in ("strides", "dilations", "pads")}
    check("QLinearConv", {"x": x}, attrs, constants, (("y", np.uint8),), rtol=0, atol=1)
