"""Whole small models on the GPU through the public API, against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.browser.api_page import Api, model
from tests.device.running import on_device
from tests.support.single import native
from tests.support.small_models import language, vision

RNG = np.random.default_rng(23)
N = helper.make_node


def agrees(gpu: Api, data: bytes, feeds: dict[str, Any], tolerance: float = 2e-5) -> None:
    ran = on_device(gpu, data, feeds)
    assert ran.backend == "webgpu" and ran.reason == "" and not ran.elsewhere, ran
    wrong = []
    for name, wanted in native(data, feeds).items():
        found = ran.outputs[name]
        assert found.dtype == wanted.dtype
        if not np.allclose(found, wanted, rtol=tolerance, atol=tolerance):
            wrong.append((name, found.reshape(-1)[:4], wanted.reshape(-1)[:4]))
    assert not wrong, wrong


def made(nodes: list[Any], feeds: dict[str, Any], outputs: dict[str, int], weights: Any = None) -> bytes:
    kinds = {n: (helper.np_dtype_to_tensor_dtype(a.dtype), list(a.shape)) for n, a in feeds.items()}
    found = model(nodes, kinds, {n: (t, None) for n, t in outputs.items()}, weights, name="made")
    data: bytes = found.SerializeToString()
    return data


@pytest.mark.parametrize("make", [vision, language])
def test_small_models(gpu: Api, make: Callable[[], tuple[bytes, Any]]) -> None:
    agrees(gpu, *make())


def halved(data: bytes, feeds: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """The same model with f16 wherever there was f32."""
    whole = onnx.load_from_string(data)
    for tensor in whole.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), tensor.name))
    for value in (*whole.graph.input, *whole.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    half = {n: a.astype(np.float16) if a.dtype == np.float32 else a for n, a in feeds.items()}
    return whole.SerializeToString(), half


@pytest.mark.parametrize("make", [vision, language])
def test_small_models_in_f16(gpu: Api, make: Callable[[], tuple[bytes, Any]]) -> None:
    """onnxruntime computes most of these in f32, and rounds at other places."""
    agrees(gpu, *halved(*make()), tolerance=1e-2)


def test_products_of_every_kind(gpu: Api) -> None:
    """Tiles and their tails, several batches, a row by a matrix either way round."""
    f = lambda *shape: RNG.normal(0, 0.5, shape).astype(np.float32)  # noqa: E731
    feeds = {"a": f(3, 37, 50), "b": f(3, 50, 41), "v": f(1, 64), "t": f(3, 41, 50)}
    weights = {"w": f(64, 48), "u": f(48, 64), "c": f(50, 24)}
    nodes = [
        N("MatMul", ["a", "b"], ["ab"]),
        N("Transpose", ["t"], ["tt"], perm=[0, 2, 1]),
        N("MatMul", ["a", "tt"], ["at"]),
        N("MatMul", ["v", "w"], ["vw"]),
        N("Gemm", ["v", "u"], ["vu"], transB=1),
        N("MatMul", ["a", "c"], ["ac"]),
        N("Relu", ["ac"], ["acr"]),
    ]
    agrees(
        gpu,
        made(nodes, feeds, dict.fromkeys(["ab", "at", "vw", "vu", "acr"], TensorProto.FLOAT), weights),
        feeds,
    )


def test_rows_of_every_kind(gpu: Api) -> None:
    x = RNG.normal(0, 2, (5, 6, 130)).astype(np.float32)
    nodes = [
        N("Softmax", ["x"], ["last"]),
        N("Softmax", ["x"], ["middle"], axis=1),
        N("LayerNormalization", ["x", "s"], ["norm"]),
        N("ReduceSum", ["x"], ["total"], keepdims=0),
        N("ReduceMax", ["x", "axes"], ["most"]),
        N("ReduceMean", ["x", "last_axes"], ["mean"]),
        N("ArgMax", ["x"], ["place"], axis=2),
        N("CumSum", ["x", "one"], ["sums"]),
    ]
    weights = {
        "s": np.ones(130, np.float32),
        "axes": np.array([1]),
        "last_axes": np.array([-1]),
        "one": np.array(2),
    }
    outputs = dict.fromkeys(["last", "middle", "norm", "total", "most", "mean", "sums"], TensorProto.FLOAT)
    agrees(gpu, made(nodes, {"x": x}, {**outputs, "place": TensorProto.INT64}, weights), {"x": x}, 1e-4)


def test_integers_of_64_bits(gpu: Api) -> None:
    big = np.array(
        [0, 1, -1, 7, -7, 2**31, -(2**31), 2**40 + 5, -(2**40) - 3, 2**62, 123456789012, 99], np.int64
    )
    other = np.array([3, -1, 5, -2, 2, 2**33, 7, 1000, -999, 3, -12345, 2**45], np.int64)
    nodes = [
        N("Add", ["a", "b"], ["add"]), N("Sub", ["a", "b"], ["sub"]), N("Mul", ["a", "b"], ["mul"]),
        N("Div", ["a", "b"], ["div"]), N("Mod", ["a", "b"], ["mod"]), N("Less", ["a", "b"], ["less"]),
        N("Equal", ["a", "b"], ["same"]), N("Max", ["a", "b"], ["most"]), N("Neg", ["a"], ["neg"]),
        N("Abs", ["a"], ["size"]),
        N("Cast", ["a"], ["real"], to=TensorProto.FLOAT), N("Cast", ["a"], ["low"], to=TensorProto.INT32),
        N("Where", ["less", "a", "b"], ["least"]), N("ReduceSum", ["a"], ["total"], keepdims=0),
        N("Sign", ["a"], ["sign"]),
    ]  # fmt: skip
    whole = dict.fromkeys(
        ["add", "sub", "mul", "div", "mod", "most", "neg", "size", "least", "total", "sign"],
        TensorProto.INT64,
    )
    outputs = {
        **whole,
        "less": TensorProto.BOOL,
        "same": TensorProto.BOOL,
        "real": TensorProto.FLOAT,
        "low": TensorProto.INT32,
    }
    feeds = {"a": big, "b": other}
    ran = on_device(gpu, made(nodes, feeds, outputs), feeds)
    assert not ran.elsewhere
    for name, wanted in native(made(nodes, feeds, outputs), feeds).items():
        if name in ("total", "sign"):  # onnxruntime's own are off past 2^31
            np.testing.assert_array_equal(ran.outputs[name], big.sum() if name == "total" else np.sign(big))
        elif name == "real":
            np.testing.assert_allclose(ran.outputs[name], wanted, rtol=1e-6)
        else:
            np.testing.assert_array_equal(ran.outputs[name], wanted, err_msg=name)


def test_narrow_types(gpu: Api) -> None:
    """Elements of one and two bytes take four in a buffer: in, through arithmetic that wraps, and out again."""
    u8, i8 = RNG.integers(0, 256, 21).astype(np.uint8), RNG.integers(-128, 128, 21).astype(np.int8)
    f16 = (RNG.normal(0, 50, 21) * 10.0 ** -(np.arange(21) % 4)).astype(np.float16)
    feeds = {"u": u8, "i": i8, "h": f16, "m": u8 > 99}
    nodes = [
        N("Add", ["u", "u"], ["uu"]), N("Cast", ["i"], ["wide"], to=TensorProto.INT32), N("Mul", ["h", "h"], ["hh"]),
        N("Cast", ["wide"], ["narrow"], to=TensorProto.INT8), N("Not", ["m"], ["not"]),
        N("Where", ["m", "u", "v"], ["w"]),
        N("Cast", ["h"], ["f"], to=TensorProto.FLOAT), N("BitwiseXor", ["u", "v"], ["x"]),
    ]  # fmt: skip
    weights = {"v": RNG.integers(0, 256, 21).astype(np.uint8)}
    outputs = {
        "uu": TensorProto.UINT8, "wide": TensorProto.INT32, "hh": TensorProto.FLOAT16, "narrow": TensorProto.INT8,
        "not": TensorProto.BOOL, "w": TensorProto.UINT8, "f": TensorProto.FLOAT, "x": TensorProto.UINT8,
    }  # fmt: skip
    data = made(nodes, feeds, outputs, weights)
    ran = on_device(gpu, data, feeds)
    assert not ran.elsewhere
    v = weights["v"]
    wanted = {
        "uu": u8 + u8, "wide": i8.astype(np.int32), "hh": f16 * f16, "narrow": i8, "not": ~(u8 > 99),
        "w": np.where(u8 > 99, u8, v), "f": f16.astype(np.float32), "x": u8 ^ v,
    }  # fmt: skip
    for name, value in wanted.items():
        np.testing.assert_array_equal(ran.outputs[name], value, err_msg=name)


def test_a_node_without_a_shader_runs_on_the_reference(gpu: Api) -> None:
    """f64 is no type of WGSL: the nodes before and after stay on the GPU."""
    x = RNG.normal(0, 1, (4, 5)).astype(np.float32)
    nodes = [
        N("Relu", ["x"], ["a"], "before"), N("Cast", ["a"], ["d"], "there", to=TensorProto.DOUBLE),
        N("Cos", ["d"], ["e"], "cosine"), N("Cast", ["e"], ["f"], "back", to=TensorProto.FLOAT),
        N("Neg", ["f"], ["y"], "after"),
    ]  # fmt: skip
    ran = on_device(gpu, made(nodes, {"x": x}, {"y": TensorProto.FLOAT}), {"x": x})
    where = {row["node"]: row["backend"] for row in ran.placement}
    assert where["before"] == where["after"] == "webgpu" and where["cosine"] == "reference"
    assert "f64" in next(row["reason"] for row in ran.placement if row["node"] == "cosine")
    np.testing.assert_allclose(ran.outputs["y"], -np.cos(np.maximum(x, 0)), rtol=1e-6, atol=1e-6)


def test_slices_and_concatenations_share_buffers(gpu: Api) -> None:
    """Views that do not begin at an aligned place, and kernels that read the buffer they write."""
    x = RNG.normal(0, 1, (6, 40)).astype(np.float32)
    nodes = [
        N("Split", ["x"], ["p", "q", "r"], axis=1, num_outputs=3), N("Mul", ["p", "q2"], ["s"]),
        N("Slice", ["q", "zero", "thirteen", "one"], ["q2"]) , N("Concat", ["s", "r", "s"], ["c"], axis=1),
        N("Sigmoid", ["c"], ["y"]), N("Slice", ["x", "three", "six", "zero"], ["z"]),
    ]  # fmt: skip
    order = [nodes[0], nodes[2], nodes[1], nodes[3], nodes[4], nodes[5]]
    w = {
        "zero": np.array([0]),
        "thirteen": np.array([14]),
        "one": np.array([1]),
        "three": np.array([3]),
        "six": np.array([6]),
    }
    outputs = {"y": TensorProto.FLOAT, "z": TensorProto.FLOAT, "s": TensorProto.FLOAT}
    agrees(gpu, made(order, {"x": x}, outputs, w), {"x": x})


def test_nan_is_told(gpu: Api) -> None:
    """Compilers may assume that there is none, and fold x != x."""
    x = np.array([1, np.nan, -np.inf, np.inf, 0, np.nan, 3], np.float32)
    nodes = [N("IsNaN", ["x"], ["n"]), N("IsInf", ["x"], ["i"]), N("Where", ["n", "zero", "x"], ["y"])]
    outputs = {"n": TensorProto.BOOL, "i": TensorProto.BOOL, "y": TensorProto.FLOAT}
    data = made(nodes, {"x": x}, outputs, {"zero": np.zeros(1, np.float32)})
    ran = on_device(gpu, data, {"x": x})
    assert not ran.elsewhere
    np.testing.assert_array_equal(ran.outputs["n"].astype(bool), np.isnan(x))
    np.testing.assert_array_equal(ran.outputs["i"].astype(bool), np.isinf(x))
    np.testing.assert_array_equal(ran.outputs["y"], np.where(np.isnan(x), 0, x))
