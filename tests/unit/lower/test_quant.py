"""Quantised products and their relatives against onnx.reference, bit for bit: shapes at tile edges, signedness, zero
points, scales for all and for each channel, on machines with and without a dot product of bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from nnjit.codegen.wasm.target import Target
from nnjit.runtime.local import LocalSession

SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
SEEDS = st.integers(0, 2**31)
SIDES = st.sampled_from([np.int8, np.uint8])
EXTENTS = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 33])
KINDS = st.sampled_from(["", "s8", "plain"])
"""wasmtime multiplies i8 with i8 in its deterministic mode; "u8" needs a browser. "plain" is without relaxed SIMD."""


def session(model: bytes, kind: str) -> LocalSession:
    target = Target(relaxed=False) if kind == "plain" else Target(dot=kind)
    return LocalSession(model, target=target)


def model_of(op: str, named: dict[str, Any], feeds: set[str], output: Any, attrs: dict[str, Any]) -> bytes:
    """One node; what is not fed is a constant. An absent input is None."""
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in named.items()
        if v is not None and n in feeds
    ]
    constants = [numpy_helper.from_array(v, n) for n, v in named.items() if v is not None and n not in feeds]
    node = helper.make_node(op, [n if v is not None else "" for n, v in named.items()], ["y"], **attrs)
    out = helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(np.dtype(output)), None)
    graph = helper.make_graph([node], "one", inputs, [out], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())


def check(op: str, named: dict[str, Any], feeds: set[str], output: Any, kind: str, **attrs: Any) -> None:
    """Equal to onnx.reference."""
    model = model_of(op, named, feeds, output, attrs)
    given_feeds = {n: named[n] for n in feeds}
    wanted = ReferenceEvaluator(onnx.load_from_string(model)).run(None, given_feeds)[0]
    local = session(model, kind)
    found = local.run(given_feeds)["y"]
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    assert not local.last.host_calls, "ran on the reference"
    np.testing.assert_array_equal(found, wanted, err_msg=f"{op} {attrs} {kind!r}")


def whole(rng: np.random.Generator, shape: Any, dtype: Any) -> Any:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def zero(rng: np.random.Generator, how: str, count: int, dtype: Any) -> Any:
    """A zero point: absent, 0, the middle, any for all, or one for each column."""
    if how == "absent":
        return None
    middle = 128 if dtype == np.uint8 else 0
    fixed = {"nil": 0, "middle": middle}.get(how)
    if fixed is not None:
        return np.array(fixed, dtype)
    return whole(rng, (count,) if how == "columns" else (), dtype)


ZEROS = st.sampled_from(["absent", "nil", "middle", "any"])


@SETTINGS
@given(
    EXTENTS, EXTENTS, EXTENTS, SIDES, SIDES, ZEROS, ZEROS | st.just("columns"), st.booleans(), KINDS, SEEDS
)
def test_matmul_integer(m: int, n: int, k: int, left: Any, right: Any, za: str, zb: str, constant: bool,
                        kind: str, seed: int) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    named = {
        "a": whole(rng, (m, k), left), "b": whole(rng, (k, n), right),
        "za": zero(rng, za, m, left), "zb": zero(rng, zb, n, right),
    }  # fmt: skip
    check("MatMulInteger", named, {"a"} if constant else {"a", "b"}, np.int32, kind)


@SETTINGS
@given(EXTENTS, EXTENTS, EXTENTS, SIDES, SIDES, SIDES, st.sampled_from(["nil", "middle", "any"]),
       st.sampled_from(["nil", "middle", "any"]), st.booleans(), st.integers(0, 2), KINDS, SEEDS)  # fmt: skip
def test_qlinear_matmul(m: int, n: int, k: int, left: Any, right: Any, out: Any, za: str, zb: str,
                        constant: bool, batch: int, kind: str, seed: int) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    lead = (batch,) if batch else ()
    named = {
        "a": whole(rng, (*lead, m, k), left), "sa": np.float32(rng.random() / 64), "za": zero(rng, za, m, left),
        "b": whole(rng, (k, n), right), "sb": np.float32(rng.random() / 64), "zb": zero(rng, zb, n, right),
        "sy": np.float32(rng.random() / 16 + 1e-3), "zy": whole(rng, (), out),
    }  # fmt: skip
    check(
        "QLinearMatMul",
        {n: np.asarray(v) for n, v in named.items()},
        {"a"} if constant else {"a", "b"},
        out,
        kind,
    )


@st.composite
def windows(draw: Any) -> dict[str, Any]:
    n = draw(st.integers(1, 2))
    of = lambda low, high: draw(st.lists(st.integers(low, high), min_size=n, max_size=n))  # noqa: E731
    w = {
        "x": of(3, 8),
        "kernel": of(1, 3),
        "strides": of(1, 2),
        "dilations": of(1, 2),
        "pads": of(0, 1) + of(0, 2),
    }
    for d in range(n):
        assume(w["x"][d] + w["pads"][d] + w["pads"][d + n] > (w["kernel"][d] - 1) * w["dilations"][d])
    return w


@SETTINGS
@given(windows(), st.sampled_from([(1, 1), (3, 8), (4, 5), (8, 16), (17, 3)]), st.sampled_from([1, 1, 2]), SIDES,
       ZEROS, st.sampled_from(["absent", "nil", "any"]), KINDS, SEEDS)  # fmt: skip
def test_conv_integer(w: dict[str, Any], channels: tuple[int, int], groups: int, left: Any, zx: str, zw: str,
                      kind: str, seed: int) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    ci, co = channels
    named = {
        "x": whole(rng, (2, ci * groups, *w["x"]), left), "w": whole(rng, (co * groups, ci, *w["kernel"]), np.int8),
        "zx": zero(rng, zx, 1, left), "zw": zero(rng, zw, 1, np.int8),
    }  # fmt: skip
    attrs = {n: w[n] for n in ("strides", "dilations", "pads")} | {"group": groups}
    assume(named["zx"] is not None or named["zw"] is None)
    x, z = named["x"].astype(np.int64), int(named["zx"] if named["zx"] is not None else 0)
    wanted = convolved(
        x - z, named["w"].astype(np.int64) - int(named["zw"] if named["zw"] is not None else 0), attrs
    )
    local = session(model_of("ConvInteger", named, {"x"}, np.int32, attrs), kind)
    found = local.run({"x": named["x"]})["y"]
    assert not local.last.host_calls
    np.testing.assert_array_equal(found, wanted, err_msg=f"{attrs} {kind!r}")


def convolved(x: Any, w: Any, attrs: dict[str, Any]) -> Any:
    """A convolution of integers written out: onnx.reference computes ConvInteger in floats and without groups."""
    n, groups = w.ndim - 2, attrs["group"]
    pads = attrs["pads"]
    x = np.pad(x, [(0, 0), (0, 0), *((pads[d], pads[d + n]) for d in range(n))])
    out = [
        (x.shape[2 + d] - (w.shape[2 + d] - 1) * attrs["dilations"][d] - 1) // attrs["strides"][d] + 1
        for d in range(n)
    ]
    y = np.zeros((x.shape[0], w.shape[0], *out), np.int64)
    per_out = w.shape[0] // groups
    for tap in np.ndindex(*w.shape[2:]):
        cut = tuple(
            slice(t * dil, t * dil + (o - 1) * s + 1, s)
            for t, dil, o, s in zip(tap, attrs["dilations"], out, attrs["strides"], strict=True)
        )
        part = x[(slice(None), slice(None), *cut)]
        for g in range(groups):
            rows = slice(g * per_out, (g + 1) * per_out)
            channels = slice(g * w.shape[1], (g + 1) * w.shape[1])
            y[:, rows] += np.einsum("oi,bi...->bo...", w[(rows, slice(None), *tap)], part[:, channels])
    return y.astype(np.int32)


@SETTINGS
@given(windows(), st.sampled_from([(1, 1), (3, 8), (4, 5), (8, 16), (17, 3)]), st.sampled_from([1, 1, 3]), SIDES,
       st.sampled_from(["i8", "columns", "u8 middle", "u8 any"]), st.booleans(), KINDS, SEEDS)  # fmt: skip
def test_qlinear_conv(w: dict[str, Any], channels: tuple[int, int], groups: int, out: Any, weights: str, bias: bool,
                      kind: str, seed: int) -> None:  # fmt: skip
    """Per-tensor and per-channel scales; unsigned weights with a zero point; a bias."""
    rng = np.random.default_rng(seed)
    ci, co = channels
    filters = co * groups
    x, zx = whole(rng, (1, ci * groups, *w["x"]), out), whole(rng, (), out)
    each = weights == "columns"
    kernel = whole(rng, (filters, ci, *w["kernel"]), np.uint8 if weights[0] == "u" else np.int8)
    zw = zero(rng, weights.removeprefix("u8 ") if weights[0] == "u" else "nil", filters, kernel.dtype.type)
    if each:
        zw = np.zeros(filters, np.int8)
    scale = (rng.random(filters if each else ()) / 64 + 1e-4).astype(np.float32)
    named = {
        "x": x, "sx": np.float32(0.02), "zx": zx, "w": kernel, "sw": scale, "zw": zw, "sy": np.float32(0.3),
        "zy": whole(rng, (), out), "b": rng.integers(-5000, 5000, filters).astype(np.int32) if bias else None,
    }  # fmt: skip
    named = {n: None if v is None else np.asarray(v) for n, v in named.items()}
    attrs = {n: w[n] for n in ("strides", "dilations", "pads")} | {"group": groups}
    total = convolved(x.astype(np.int64) - int(zx), kernel.astype(np.int64) - int(zw.flat[0]), attrs).astype(
        np.int64
    )
    spread = (-1, *(1,) * len(w["x"]))
    if bias:
        total = total + named["b"].reshape(spread)
    ratio = np.float32(0.02) * named["sw"] / np.float32(0.3)
    scaled = np.rint(total.astype(np.float32) * (ratio.reshape(spread) if each else ratio))
    info = np.iinfo(out)
    wanted = np.clip(scaled + np.float32(named["zy"]), info.min, info.max).astype(out)
    local = session(model_of("QLinearConv", named, {"x"}, out, attrs), kind)
    found = local.run({"x": x})["y"]
    assert not local.last.host_calls
    np.testing.assert_array_equal(found, wanted, err_msg=f"{attrs} {weights} {kind!r}")


@pytest.mark.parametrize("kind", ["", "s8"])
def test_a_chain_of_layers(kind: str) -> None:
    """Two convolutions and a product, quantised all through: what one leaves is what the next one takes."""
    rng = np.random.default_rng(3)
    weights = {
        "w0": whole(rng, (16, 3, 3, 3), np.int8), "w1": whole(rng, (24, 16, 1, 1), np.int8),
        "w2": whole(rng, (24, 10), np.int8), "s": np.array(0.0213, np.float32), "zx": np.array(7, np.uint8),
        "z0": np.array(0, np.int8), "big": np.array(3.07, np.float32), "flat": np.array([-1, 24]),
    }  # fmt: skip
    stem = {"pads": [1, 1, 1, 1], "strides": [2, 2]}
    nodes = [
        helper.make_node("QLinearConv", ["x", "s", "zx", "w0", "s", "z0", "s", "zx"], ["c"], **stem),
        helper.make_node("QLinearConv", ["c", "s", "zx", "w1", "s", "z0", "s", "zx"], ["d"]),
        helper.make_node("Transpose", ["d"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["t", "flat"], ["r"]),
        helper.make_node("QLinearMatMul", ["r", "s", "zx", "w2", "s", "z0", "big", "zx"], ["y"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "chain", [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 3, 13, 13])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        [numpy_helper.from_array(v, n) for n, v in weights.items()],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    feeds = {"x": whole(rng, (1, 3, 13, 13), np.uint8)}
    wanted = ReferenceEvaluator(proto).run(None, feeds)[0]
    local = session(proto.SerializeToString(), kind)
    np.testing.assert_array_equal(local.run(feeds)["y"], wanted)
    assert not local.last.host_calls


@SETTINGS
@given(st.lists(st.sampled_from([1, 2, 3, 5, 8, 17]), min_size=0, max_size=3), EXTENTS, KINDS, SEEDS)
def test_dynamic_quantisation_of_a_product(lead: list[int], n: int, kind: str, seed: int) -> None:
    """DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul, as quantised transformers have it."""
    rng = np.random.default_rng(seed)
    k = lead[-1] if lead else 5
    x = (rng.normal(size=lead or (5,)) * 3 + 1).astype(np.float32)
    weights = {
        "w": whole(rng, (k, n), np.int8),
        "wz": np.zeros(n, np.int8),
        "ws": rng.random(n).astype(np.float32),
    }
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "ws"], ["m"]),
        helper.make_node("Mul", ["f", "m"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "dynamic", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(v, t, None) for v, t in (("y", 1), ("q", 2), ("s", 1), ("z", 2))],
        [numpy_helper.from_array(v, n) for n, v in weights.items()],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    wanted = dict(zip("yqsz", ReferenceEvaluator(proto).run(None, {"x": x}), strict=True))
    local = session(proto.SerializeToString(), kind)
    found = local.run({"x": x})
    assert not local.last.host_calls
    np.testing.assert_allclose(found["s"], wanted["s"], rtol=2e-7)
    for name in "zq":
        # a tie of a quotient that differs in its last bit goes the other way
        assert np.abs(found[name].astype(int) - wanted[name].astype(int)).max() <= 1
        assert (found[name] != wanted[name]).mean() <= 0.1
    exact = found["q"].astype(np.int64) - int(found["z"])
    np.testing.assert_allclose(
        found["y"], (exact @ weights["w"].astype(np.int64)) * (found["s"] * weights["ws"]), rtol=1e-5
    )
