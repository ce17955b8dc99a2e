"""Quantised convolutions in both orders of memory against onnx.reference, bit for bit: depthwise windows (unpadded
images with guarded borders, and copies), and windows over few channels, whose sums run along the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import assume, example, given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.unit.lower.test_quant import KINDS, SEEDS, SETTINGS, SIDES, session, whole, zero

Window = dict[str, Any]


@st.composite
def windows(draw: Any, taps: list[int], most: int) -> Window:
    """An image and a window on it, borders of any kind."""
    of = lambda *values: [draw(st.sampled_from(values)) for _ in range(2)]  # noqa: E731
    w = {
        "kernel": of(*taps),
        "strides": of(1, 1, 2, 3),
        "dilations": of(1, 1, 2),
        "pads": of(0, 1, 2) + of(0, 1, 2),
    }
    w["x"] = [draw(st.integers(1, most)) for _ in range(2)]
    for d in range(2):
        assume(w["x"][d] + w["pads"][d] + w["pads"][d + 2] > (w["kernel"][d] - 1) * w["dilations"][d])
    return w


def check(named: dict[str, Any], linear: bool, last: bool, kind: str, attrs: dict[str, Any]) -> None:
    """The convolution of a fed image that lies channels-last or as ONNX has it."""
    x = named["x"]
    fed = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if last else x
    as_tensor = helper.np_dtype_to_tensor_dtype
    names = ["x" if n == "x" else n if v is not None else "" for n, v in named.items()]
    nodes = [helper.make_node("Transpose", ["f"], ["x"], perm=[0, 3, 1, 2])] if last else []
    nodes.append(helper.make_node("QLinearConv" if linear else "ConvInteger", names, ["y"], **attrs))
    output = named["zy"].dtype if linear else np.dtype(np.int32)
    graph = helper.make_graph(
        nodes, "one",
        [helper.make_tensor_value_info("f" if last else "x", as_tensor(x.dtype), fed.shape)],
        [helper.make_tensor_value_info("y", as_tensor(output), None)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in named.items() if n != "x" and v is not None],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    feeds = {"f" if last else "x": fed}
    local = session(model.SerializeToString(), kind)
    found = local.run(feeds)["y"]
    assert local.last is not None and not local.last.host_calls, "ran on the reference"
    for low, high in zip(
        *(reference(model, feeds, ulps) for ulps in ((-2, 2) if linear else (0, 0))), strict=True
    ):
        wanted = np.clip(found, np.minimum(low, high), np.maximum(low, high))
        np.testing.assert_array_equal(found, wanted, err_msg=f"{attrs} {kind!r} last {last}")


def reference(model: onnx.ModelProto, feeds: dict[str, Any], ulps: int) -> list[Any]:
    """Outputs with the scale of the image that many units off in the last place: the reference multiplies sums in f64,
    kernels in f32, so that what lies as near as that to the middle of two bytes may go either way."""
    moved = onnx.load_from_string(model.SerializeToString())
    for tensor in moved.graph.initializer:
        if ulps and tensor.name == "sx":
            scale = numpy_helper.to_array(tensor) * np.float32(1 + ulps * 2.0**-23)
            tensor.CopyFrom(numpy_helper.from_array(scale, "sx"))
    found: list[Any] = ReferenceEvaluator(moved).run(None, feeds)
    return found


def tensors(
    rng: Any, w: Window, channels: int, out: int, inner: int, side: Any, zx: str, zw: str
) -> dict[str, Any]:
    return {
        "x": whole(rng, (2, channels, *w["x"]), side), "w": whole(rng, (out, inner, *w["kernel"]), np.int8),
        "zx": zero(rng, zx, 1, side), "zw": zero(rng, zw, 1, np.int8),
    }  # fmt: skip


def linear(rng: Any, t: dict[str, Any], out: Any, per_channel: bool) -> dict[str, Any]:
    """The same as inputs of QLinearConv, with a bias."""
    channels = t["w"].shape[0]
    return {
        "x": t["x"], "sx": np.float32(rng.random() / 64), "zx": np.asarray(t["zx"]), "w": t["w"],
        "sw": ((rng.random(channels) + 0.1) / 64).astype(np.float32) if per_channel else np.float32(1 / 64),
        "zw": np.zeros(channels if per_channel else (), np.int8),
        "sy": np.float32(rng.random() / 8 + 1e-2), "zy": whole(rng, (), out),
        "b": rng.integers(-(2**20), 2**20, channels).astype(np.int32),
    }  # fmt: skip


@SETTINGS
@given(windows([1, 3, 5], 16), st.sampled_from([2, 4, 7, 8, 12]), SIDES, st.sampled_from(["absent", "nil", "any"]),
       st.sampled_from(["absent", "any"]), st.booleans(), KINDS, SEEDS)  # fmt: skip
def test_depthwise(
    w: Window, channels: int, side: Any, zx: str, zw: str, last: bool, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    attrs = {n: w[n] for n in ("strides", "dilations", "pads")} | {"group": channels}
    check(tensors(rng, w, channels, channels, 1, side, zx, zw), False, last, kind, attrs)


@SETTINGS
@given(windows([1, 3, 4, 7], 20), st.sampled_from([1, 2, 3, 4]), st.sampled_from([1, 4, 9]), SIDES,
       st.sampled_from(["absent", "nil", "any"]), st.booleans(), KINDS, SEEDS)  # fmt: skip
def test_few_channels(
    w: Window, channels: int, out: int, side: Any, zx: str, last: bool, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    attrs = {n: w[n] for n in ("strides", "dilations", "pads")}
    check(tensors(rng, w, channels, out, channels, side, zx, "absent"), False, last, kind, attrs)


@example(
    {"kernel": [3, 1], "strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0], "x": [12, 4]},
    (16, 16, 16),
    np.int8,
    np.int8,
    False,
    False,
    "",
    282,
)  # 57289 * 0.002120826 is 121.499997, in f32 121.5
@SETTINGS
@given(windows([1, 3, 5], 12), st.sampled_from([(8, 8, 8), (16, 16, 16), (3, 8, 1), (8, 12, 1)]), SIDES, SIDES,
       st.booleans(), st.booleans(), KINDS, SEEDS)  # fmt: skip
def test_requantised(w: Window, channels: tuple[int, int, int], side: Any, out: Any, each: bool, last: bool, kind: str,
                     seed: int) -> None:  # fmt: skip
    """QLinearConv, with scales for all channels or for each, depthwise and not."""
    rng = np.random.default_rng(seed)
    ins, outs, groups = channels
    t = tensors(rng, w, ins, outs, ins // groups, side, "any", "absent")
    attrs = {n: w[n] for n in ("strides", "dilations", "pads")} | {"group": groups}
    check(linear(rng, t, out, each), True, last, kind, attrs)
