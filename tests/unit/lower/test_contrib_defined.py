"""Operators that onnxruntime has on other processors than this one, or had once, against their definitions in numpy."""

from __future__ import annotations

from collections.abc import Callable
from math import erf
from typing import Any

import numpy as np
import pytest

from nnjit.errors import NnjitError
from nnjit.runtime.local import LocalSession
from tests.support.contrib import Case, agree, codes, scale, zero_point
from tests.support.single import native, on_kernels

Rng = np.random.Generator
Array = Any
Made = tuple[Case, Callable[[], "list[Array | None]"]]


def normal(rng: Rng, *dims: int) -> Array:
    return rng.normal(0, 1, dims).astype(np.float32)


def gelu(x: Array) -> Array:
    return x * 0.5 * (1 + np.vectorize(erf)(x / 2**0.5))


def softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def convolved(x: Array, w: Array, bias: Array | None) -> Array:
    """[n, h, w, c] * [o, c, 3, 3] → [n, h, w, o], a border of 1 all around"""
    wide = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), axis=(1, 2))
    y = np.einsum("nhwcij,ocij->nhwo", windows, w)
    return y if bias is None else y + bias


# ---- images with their channels last ----


def nhwc_conv(rng: Rng) -> Made:
    x, w, c = normal(rng, 2, 5, 6, 3), normal(rng, 4, 3, 3, 3), normal(rng, 4)
    return Case("NhwcConv", [x, w, c], {"pads": [1] * 4}), lambda: [convolved(x, w, c)]


def nhwc_fused_conv(rng: Rng) -> Made:
    x, w, z = normal(rng, 2, 5, 6, 3), normal(rng, 4, 3, 3, 3), normal(rng, 2, 5, 6, 4)
    attrs = {"pads": [1] * 4, "activation": "LeakyRelu", "activation_params": [0.2]}

    def wanted() -> list[Array | None]:
        y = convolved(x, w, None) + z
        return [np.where(y < 0, 0.2 * y, y)]

    return Case("NhwcFusedConv", [x, w, None, z], attrs), wanted


def nhwc_max_pool(rng: Rng) -> Made:
    x = codes(rng, np.uint8, 2, 6, 4, 3)
    case = Case("NhwcMaxPool", [x], {"kernel_shape": [2, 2], "strides": [2, 2]}, outputs=[np.uint8])
    return case, lambda: [x.reshape(2, 3, 2, 2, 2, 3).max((2, 4))]


def normalised(x: Array, groups: int, gamma: Array, beta: Array) -> Array:
    """GroupNorm of [n, h, w, c]"""
    n, h, w, c = x.shape
    parts = x.reshape(n, h, w, groups, c // groups).astype(np.float64)
    mean, spread = (f(parts, axis=(1, 2, 4), keepdims=True) for f in (np.mean, np.var))
    return ((parts - mean) / np.sqrt(spread + 1e-5)).reshape(x.shape) * gamma + beta


def group_norm(rng: Rng) -> Made:
    x, gamma, beta = normal(rng, 2, 3, 5, 8), normal(rng, 8), normal(rng, 8)
    last, silu = int(rng.integers(2)), int(rng.integers(2))
    given = x if last else x.transpose(0, 3, 1, 2)
    attrs = {"groups": 4, "activation": silu, "channels_last": last}

    def wanted() -> list[Array | None]:
        y = normalised(x, 4, gamma, beta)
        y = y * sigmoid(y) if silu else y
        return [(y if last else y.transpose(0, 3, 1, 2)).astype(np.float32)]

    return Case("GroupNorm", [given, gamma, beta], attrs), wanted


def skip_group_norm(rng: Rng) -> Made:
    x, gamma, beta, bias = normal(rng, 2, 3, 5, 8), normal(rng, 8), normal(rng, 8), normal(rng, 8)
    skip = [normal(rng, 2, 3, 5, 8), normal(rng, 2, 1, 1, 8), normal(rng, 2, 8)][rng.integers(3)]
    total = x + skip.reshape(2, 1, 1, 8) + bias if skip.size == 16 else x + skip + bias

    def wanted() -> list[Array | None]:
        return [normalised(total, 2, gamma, beta).astype(np.float32), total]

    attrs = {"groups": 2, "activation": 0}
    return Case("SkipGroupNorm", [x, gamma, beta, skip, bias], attrs, (0, 3), [np.float32] * 2), wanted


# ---- what is fused on the way to a graphics card ----


def bias_add(rng: Rng) -> Made:
    x, bias, skip = normal(rng, 2, 3, 8), normal(rng, 8), normal(rng, 2, 3, 8)
    return Case("BiasAdd", [x, bias, skip], fed=(0, 2)), lambda: [x + bias + skip]


def bias_split_gelu(rng: Rng) -> Made:
    x, bias = normal(rng, 2, 3, 8), normal(rng, 8)
    left, right = np.split(x + bias, 2, -1)
    return Case("BiasSplitGelu", [x, bias]), lambda: [(left * gelu(right)).astype(np.float32)]


def bias_softmax(rng: Rng) -> Made:
    x, inner = normal(rng, 2, 3, 4, 5), int(rng.integers(2))
    bias = normal(rng, 4, 5) if inner else normal(rng, 2, 4, 5)
    wide = bias if inner else bias[:, None]
    axis = 3 if inner else 1
    if inner:
        return Case("BiasSoftmax", [x, bias], {"axis": axis, "is_inner_broadcast": 1}), lambda: [
            softmax(x + bias)
        ]
    case = Case("BiasSoftmax", [x, bias], {"axis": axis, "is_inner_broadcast": 0})
    return case, lambda: [softmax((x + wide).reshape(2, -1)).reshape(x.shape)]


def bias_dropout(rng: Rng) -> Made:
    x, bias, rest = normal(rng, 3, 8), normal(rng, 8), normal(rng, 3, 8)
    return Case("BiasDropout", [x, bias, rest, np.float32(0.5)], fed=(0, 2)), lambda: [x + bias + rest]


def matmul_activation(rng: Rng) -> Made:
    a, b = normal(rng, 3, 5), normal(rng, 4, 5)
    name = str(rng.choice(np.array(["Softmax", "Relu"])))
    attrs = {"transB": 1, "alpha": 0.5, "activation": name}
    y = 0.5 * a @ b.T
    return Case("FusedMatMulActivation", [a, b], attrs), lambda: [
        softmax(y) if name == "Softmax" else np.maximum(y, 0)
    ]


def is_all_finite(rng: Rng) -> Made:
    x, z = normal(rng, 3, 5), normal(rng, 7)
    if rng.random() < 0.7:
        x[1, 2] = [np.nan, np.inf, -np.inf][rng.integers(3)]
    which = [{}, {"isnan_only": 1}, {"isinf_only": 1}][rng.integers(3)]
    bad = np.isnan(x) * (which != {"isinf_only": 1}) + np.isinf(x) * (which != {"isnan_only": 1})
    return Case("IsAllFinite", [x, z], which, (0, 1), [np.bool_]), lambda: [~bad.any()]


def qlinear_reduce_mean(rng: Rng) -> Made:
    x, s, z = codes(rng, np.uint8, 3, 5, 4), scale(rng), zero_point(rng, np.uint8)
    keep = int(rng.integers(2))
    mean = ((x.astype(np.float64) - z) * s).mean((0, 2), keepdims=bool(keep))
    wanted = np.clip(np.rint(mean / s) + z, 0, 255).astype(np.uint8)
    attrs = {"axes": [0, 2], "keepdims": keep}
    return Case("QLinearReduceMean", [x, s, z, s, z], attrs, outputs=[np.uint8]), lambda: [wanted]


def matmul_integer16(rng: Rng) -> Made:
    a, b = (rng.integers(-3000, 3000, s).astype(np.int16) for s in ((3, 7), (7, 5)))
    case = Case("MatMulInteger16", [a, b], outputs=[np.int32])
    return case, lambda: [a.astype(np.int32) @ b.astype(np.int32)]


# ---- Fourier ----


def rfft(rng: Rng) -> Made:
    x = normal(rng, 3, 8)
    parts = np.fft.rfft(x)
    wanted = np.stack([parts.real, parts.imag], -1).astype(np.float32)
    return Case("Rfft", [x], {"signal_ndim": 1}), lambda: [wanted]


def irfft(rng: Rng) -> Made:
    x = normal(rng, 3, 5, 2)
    return Case("Irfft", [x], {"signal_ndim": 1}), lambda: [
        np.fft.irfft(x[..., 0] + 1j * x[..., 1]).astype(np.float32)
    ]


# ---- before opset 10 ----


def early(
    op: str, attrs: dict[str, Any], function: Callable[[Array], Array], dims: tuple[int, ...] = (2, 3, 6, 7)
) -> Any:
    def make(rng: Rng) -> Made:
        x = normal(rng, *dims)
        case = Case(op, [x], attrs, domain="", opset=8)
        return case, lambda: [function(x).astype(np.float32)]

    return make


MAKERS: dict[str, Callable[[Rng], Made]] = {
    "NhwcConv": nhwc_conv,
    "NhwcFusedConv": nhwc_fused_conv,
    "NhwcMaxPool": nhwc_max_pool,
    "GroupNorm": group_norm,
    "SkipGroupNorm": skip_group_norm,
    "BiasAdd": bias_add,
    "BiasSplitGelu": bias_split_gelu,
    "BiasSoftmax": bias_softmax,
    "BiasDropout": bias_dropout,
    "FusedMatMulActivation": matmul_activation,
    "IsAllFinite": is_all_finite,
    "QLinearReduceMean": qlinear_reduce_mean,
    "MatMulInteger16": matmul_integer16,
    "Rfft": rfft,
    "Irfft": irfft,
    "Affine": early("Affine", {"alpha": 2.0, "beta": 0.5}, lambda x: 2 * x + 0.5),
    "ScaledTanh": early("ScaledTanh", {"alpha": 2.0, "beta": 0.5}, lambda x: 2 * np.tanh(0.5 * x)),
    "ParametricSoftplus": early(
        "ParametricSoftplus", {"alpha": 2.0, "beta": 0.5}, lambda x: 2 * np.log1p(np.exp(0.5 * x))
    ),
    "Scale": early("Scale", {"scale": 3.0}, lambda x: 3 * x),
    "ThresholdedRelu": early("ThresholdedRelu", {"alpha": 0.5}, lambda x: np.where(x > 0.5, x, 0)),
    "ImageScaler": early(
        "ImageScaler",
        {"scale": 0.5, "bias": [1.0, 2.0, 3.0]},
        lambda x: 0.5 * x + np.float32([[[1]], [[2]], [[3]]]),
    ),
    "Crop": early("Crop", {"border": [1, 2, 0, 1]}, lambda x: x[:, :, 2:5, 1:7]),
    "Crop of a size": early("Crop", {"border": [1, 2, 0, 0], "scale": [3, 4]}, lambda x: x[:, :, 2:5, 1:5]),
}


@pytest.mark.parametrize("op", MAKERS)
def test_does_as_defined(op: str) -> None:
    for seed in range(3):
        case, wanted = MAKERS[op](np.random.default_rng([seed, *op.encode()]))
        found = on_kernels(case.model(), case.feeds())
        for i, value in enumerate(wanted()):
            agree(found[f"y{i}"], value, atol=1e-5)


def test_a_range_from_shapes() -> None:
    """Its length is known where its inputs are; the step may be absent."""
    for inputs in ([np.int64(2), np.int64(9), np.int64(3)], [np.int32(2), np.int32(5)]):
        case = Case("Range", inputs, fed=(), outputs=[inputs[0].dtype])
        np.testing.assert_array_equal(on_kernels(case.model(), {})["y0"], np.arange(*inputs))


def test_distinct_elements_in_the_order_of_their_first() -> None:
    case = Case("Unique", [np.float32([3, 1, 3, 2, 1])], outputs=[np.float32, np.int64, np.int64])
    found, wanted = LocalSession(case.model()).run(case.feeds()), native(case.model(), case.feeds())
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)


IMAGE, PAIR = np.ones((1, 1, 3, 3), np.float32), np.ones((2, 3), np.float32)
REFUSED = {
    "cosine": Case("CDist", [PAIR, PAIR], {"metric": "cosine"}),
    "Erfinv": Case("FusedConv", [IMAGE, IMAGE], {"activation": "Erfinv"}),
    "triples": Case("QLinearConcat", [np.float32(1), np.uint8(0), codes(np.random.default_rng(1), np.uint8, 3)],
                    {"axis": 0}, (2,), [np.uint8]),
    "more than one axis": Case("Rfft", [IMAGE], {"signal_ndim": 2}),
    "leaves nothing": Case("Crop", [IMAGE], {"border": [2, 0, 2, 0]}, domain="", opset=8),
    "do not fill": Case("MatMulBnb4", [np.ones((1, 4), np.float32), np.ones(3, np.uint8), np.ones(1, np.float32)],
                        {"K": 4, "N": 2, "block_size": 16, "quant_type": 1}),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_not_there_is_said(why: str) -> None:
    with pytest.raises(NnjitError, match=why):
        on_kernels(REFUSED[why].model(), REFUSED[why].feeds())
