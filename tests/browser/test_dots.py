"""Products of bytes with the dot product that this browser has: the same numbers as numpy's, exactly."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from .api_page import Api, model

RUN = """async ([path, values, dims]) => {
  const session = await create(path);
  const { y } = await session.run({ a: T(values[0] < 0 ? 'int8' : 'uint8', values, dims) });
  const { dotKind } = await import('/engine/features.js');
  await session.release();
  return { kind: dotKind(), y: Array.from(y.data) };
}"""


@pytest.mark.parametrize("signed", [False, True])
def test_extremes_are_exact(api: Api, signed: bool) -> None:
    """255 times -128 in every place: what saturates in 16 bits would show, and so would a wrong sign."""
    rng = np.random.default_rng(0)
    ends = [-128, -127, -1, 0, 1, 127] if signed else [0, 1, 127, 128, 254, 255]
    a = rng.choice(ends, (23, 70))
    a[0, 0] = ends[0]
    b = rng.choice([-128, -127, -1, 0, 1, 126, 127], (70, 29)).astype(np.int8)
    kind, dtype = (3, np.int8) if signed else (2, np.uint8)
    node = helper.make_node("MatMulInteger", ["a", "b", "z"], ["y"])
    weights = {"b": b, "z": np.array(3, dtype)}
    path = api.put("dots.onnx", model([node], {"a": (kind, [23, 70])}, {"y": (6, None)}, weights))
    found = api.run(RUN, [path, a.reshape(-1).tolist(), list(a.shape)])
    assert found["kind"] in ("", "u8", "s8")
    np.testing.assert_array_equal(np.reshape(found["y"], (23, 29)), (a - 3) @ b.astype(np.int64))


CONV = """async ([path, values, dims]) => {
  const session = await create(path);
  const { y } = await session.run({ x: T('uint8', values, dims) });
  await session.release();
  return { y: Array.from(y.data), dims: y.dims };
}"""


@pytest.mark.parametrize(("taps", "stride"), [(3, 1), (3, 2), (5, 1), (5, 3)])
def test_windows_of_a_row_are_exact(api: Api, taps: int, stride: int) -> None:
    """A depthwise convolution of an image as ONNX has it: four taps at a time, of the extremes of bytes."""
    rng = np.random.default_rng(taps + stride)
    x = rng.choice([0, 1, 127, 128, 254, 255], (1, 3, 21, 30)).astype(np.uint8)
    w = rng.choice([-128, -127, -1, 0, 1, 127], (3, 1, taps, taps)).astype(np.int8)
    pads = [taps // 2] * 4
    node = helper.make_node("ConvInteger", ["x", "w", "z"], ["y"], group=3, strides=[stride] * 2, pads=pads)
    weights = {"w": w, "z": np.array(7, np.uint8)}
    path = api.put("rows.onnx", model([node], {"x": (2, list(x.shape))}, {"y": (6, None)}, weights))
    found = api.run(CONV, [path, x.reshape(-1).tolist(), list(x.shape)])
    wide = np.pad(x.astype(np.int64) - 7, [(0, 0), (0, 0), *[(taps // 2,) * 2] * 2])
    seen = np.lib.stride_tricks.sliding_window_view(wide, (taps, taps), (2, 3))[:, :, ::stride, ::stride]
    wanted = np.einsum("bchwrs,crs->bchw", seen, w[:, 0].astype(np.int64))
    np.testing.assert_array_equal(np.reshape(found["y"], found["dims"]), wanted)
