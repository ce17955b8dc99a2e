"""Products of 8-bit integers on the device, beside native onnxruntime: words of four where the types allow it, laid out
anew or as the bytes lie, tails of every tile; and weights in blocks of four bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.browser.api_page import Api
from tests.device.running import on_device
from tests.support.single import native

RNG = np.random.default_rng(37)


def model(
    op: str, feeds: dict[str, Any], constants: dict[str, Any], order: str, out: int, attrs: dict[str, Any]
) -> bytes:
    kinds = {n: helper.np_dtype_to_tensor_dtype(a.dtype) for n, a in feeds.items()}
    inputs = [helper.make_tensor_value_info(n, kinds[n], a.shape) for n, a in feeds.items()]
    node = helper.make_node(op, order.split(), ["y"], **attrs)
    kept = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", out, None)], kept)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = made.SerializeToString()
    return data


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("shape", [(33, 70, 20), (16, 64, 48), (7, 36, 5)], ids=str)
def test_matrix_products(gpu: Api, dtype: Any, shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    info = np.iinfo(dtype)
    feeds = {"a": RNG.integers(info.min, info.max + 1, (m, k)).astype(dtype)}
    constants = {"b": RNG.integers(-128, 128, (k, n)).astype(np.int8), "az": dtype(7), "bz": np.int8(0)}
    data = model("MatMulInteger", feeds, constants, "a b az bz", TensorProto.INT32, {})
    ran = on_device(gpu, data, feeds)
    assert ran.backend == "webgpu" and not ran.elsewhere
    wanted = (feeds["a"].astype(np.int32) - 7) @ constants["b"].astype(np.int32)
    np.testing.assert_array_equal(ran.outputs["y"], wanted)


def test_convolutions(gpu: Api) -> None:
    """Eight channels are whole words where they lie, five are not."""
    for channels in (8, 5):
        feeds = {"x": RNG.integers(0, 256, (1, channels, 9, 9)).astype(np.uint8)}
        constants = {
            "w": RNG.integers(-128, 128, (12, channels, 3, 3)).astype(np.int8), "wz": np.int8(0),
            "xs": np.float32(0.02), "xz": np.uint8(120), "ws": np.float32(0.01), "ys": np.float32(0.1),
            "yz": np.uint8(128),
        }  # fmt: skip
        order = "x xs xz w ws wz ys yz"
        data = model("QLinearConv", feeds, constants, order, TensorProto.UINT8, {"pads": [1, 1, 1, 1]})
        ran = on_device(gpu, data, feeds)
        assert not ran.elsewhere
        wanted = native(data, feeds)["y"].astype(int)
        assert np.abs(ran.outputs["y"].astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rows", [1, 9])
def test_weights_in_blocks(gpu: Api, bits: int, rows: int) -> None:
    """y[m, n] = sum over k of a[m, k] * (q[n, k] - zero) * scale[n, k // 32], q unpacked where it is read."""
    k, n, block = 96, 20, 32
    q = RNG.integers(0, 1 << bits, (n, k)).astype(np.uint8)
    packed = q if bits == 8 else (q[:, 0::2] | (q[:, 1::2] << 4)).astype(np.uint8)
    scales = RNG.uniform(0.01, 0.05, (n, k // block)).astype(np.float32)
    feeds = {"a": RNG.normal(0, 1, (rows, k)).astype(np.float32)}
    node = helper.make_node(
        "MatMulNBits", ["a", "b", "s"], ["y"], domain="com.microsoft", K=k, N=n, bits=bits, block_size=block
    )
    kept = [
        numpy_helper.from_array(packed.reshape(n, k // block, -1), "b"),
        numpy_helper.from_array(scales, "s"),
    ]
    inputs = [helper.make_tensor_value_info("a", TensorProto.FLOAT, [rows, k])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, n])]
    graph = helper.make_graph([node], "g", inputs, outputs, kept)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    ran = on_device(gpu, data, feeds)
    assert not ran.elsewhere
    weights = (q.astype(np.float64) - (1 << (bits - 1))) * np.repeat(scales, block, axis=1)
    np.testing.assert_allclose(ran.outputs["y"], feeds["a"] @ weights.T, rtol=1e-4, atol=1e-4)
