"""What onnxruntime's optimizer fuses, and com.microsoft's small operators, against native onnxruntime or numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.support.contrib import Case, agree
from tests.support.single import native, on_kernels

Rng = np.random.Generator
Array = Any


def normal(rng: Rng, *dims: int) -> Array:
    return rng.normal(0, 1, dims).astype(np.float32)


def pick(rng: Rng, *values: Any) -> Any:
    return values[rng.integers(len(values))]


def size(rng: Rng) -> int:
    return int(pick(rng, 1, 2, 3, 5, 8, 17))


# ---- products ----


def fused_matmul(rng: Rng) -> Case:
    m, k, n = size(rng), size(rng), size(rng)
    batch = [size(rng) for _ in range(rng.integers(0, 3))]
    attrs: dict[str, Any] = {"alpha": float(pick(rng, 1.0, 0.125, -2.0))}
    inputs = []
    for name, rows, columns in (("A", m, k), ("B", k, n)):
        swap, lead = int(rng.integers(2)), int(len(batch) > 0 and rng.integers(2))
        dims = [columns, rows] if swap else [rows, columns]
        attrs |= {f"trans{name}": swap, f"transBatch{name}": lead}
        inputs.append(normal(rng, *([dims[0], *batch, dims[1]] if lead else [*batch, *dims])))
    return Case("FusedMatMul", inputs, attrs, fed=pick(rng, (0,), (0, 1)))


def transpose_matmul(rng: Rng) -> Case:
    case = fused_matmul(rng)
    attrs = {k: v for k, v in case.attrs.items() if not k.startswith("transBatch")}
    if any(case.attrs[f"transBatch{n}"] for n in "AB"):
        return transpose_matmul(rng)
    return Case("TransposeMatMul", case.inputs, attrs)


def fused_gemm(rng: Rng) -> Case:
    m, k, n = size(rng), size(rng), size(rng)
    ta, tb = int(rng.integers(2)), int(rng.integers(2))
    name, names = pick(
        rng, ("Relu", ()), ("Tanh", ()), ("Sigmoid", ()), ("LeakyRelu", ("alpha",)), ("Elu", ("alpha",)),
        ("HardSigmoid", ("alpha", "beta")), ("Softplus", ()), ("ThresholdedRelu", ("alpha",)),
        ("Selu", ("alpha", "gamma")), ("ScaledTanh", ("alpha", "beta")), ("ParametricSoftplus", ("alpha", "beta")),
    )  # fmt: skip
    attrs = {"transA": ta, "transB": tb, "alpha": 0.5, "beta": 2.0, "activation": name}
    attrs |= {f"activation_{p}": float(0.2 + rng.random()) for p in names}
    a, b = normal(rng, *((k, m) if ta else (m, k))), normal(rng, *((n, k) if tb else (k, n)))
    return Case("FusedGemm", [a, b, normal(rng, *pick(rng, (n,), (m, n), (1, 1), (m, 1)))], attrs)


def fused_conv(rng: Rng) -> Case:
    groups = pick(rng, 1, 1, 2)
    cin, cout, kernel = groups * size(rng), groups * size(rng), [int(v) for v in rng.integers(1, 4, 2)]
    attrs: dict[str, Any] = {"kernel_shape": kernel, "group": groups, "pads": [1, 0, 0, 1], "strides": [1, 2]}
    name, params = pick(
        rng, ("Relu", []), ("Tanh", []), ("Sigmoid", []), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 0.7]),
        ("HardSigmoid", [0.3, 0.4]),
    )  # fmt: skip
    attrs |= {"activation": name} | ({"activation_params": params} if params else {})
    x = normal(rng, int(rng.integers(1, 3)), cin, 6, 7)
    z = normal(rng, x.shape[0], cout, 6 + 1 - kernel[0] + 1, (7 + 1 - kernel[1]) // 2 + 1)
    inputs = [
        x,
        normal(rng, cout, cin // groups, *kernel),
        pick(rng, None, normal(rng, cout)),
        pick(rng, None, z),
    ]
    return Case("FusedConv", inputs, attrs)


# ---- small operators ----


def pad(rng: Rng) -> Case:
    x = normal(rng, 3, 4, 5)
    pads = rng.integers(0, 3, 6)
    value = pick(rng, None, np.float32(1.5))
    attrs = {"mode": pick(rng, "constant", "reflect", "edge")}
    return Case("Pad", [x, pads if rng.random() < 0.5 else pads[None], value], attrs)


def trilu(rng: Rng) -> Case:
    k = pick(rng, None, np.array(int(rng.integers(-3, 4))))
    return Case("Trilu", [normal(rng, size(rng), size(rng), size(rng)), k], {"upper": int(rng.integers(2))})


def expand_dims(rng: Rng) -> Case:
    return Case("ExpandDims", [normal(rng, 3, 5), np.array(int(rng.integers(-3, 3)), np.int32)])


def gather_nd(rng: Rng) -> Case:
    t = pick(rng, np.int32, np.int64)
    return Case(
        "GatherND", [normal(rng, 4, 5, 3), rng.integers(0, 4, (6, int(rng.integers(1, 3)))).astype(t)]
    )


def cdist(rng: Rng) -> Case:
    k = size(rng)
    x = [normal(rng, size(rng), k), normal(rng, size(rng), k)]
    return Case("CDist", x, {"metric": pick(rng, "euclidean", "sqeuclidean")}, fed=(0, 1))


def grid_sample(rng: Rng) -> Case:
    grid = rng.uniform(-1.2, 1.2, (2, 4, 3, 2)).astype(np.float32)
    attrs = {
        "mode": pick(rng, "bilinear", "nearest", "bicubic"), "align_corners": int(rng.integers(2)),
        "padding_mode": pick(rng, "zeros", "border", "reflection"),
    }  # fmt: skip
    return Case("GridSample", [normal(rng, 2, 3, 5, 6), grid], attrs, fed=(0, 1))


def crop_and_resize(rng: Rng) -> Case:
    boxes = int(rng.integers(1, 5))
    rois = rng.uniform(-0.2, 1.2, (boxes, 4)).astype(np.float32)
    crop = np.array([size(rng), size(rng)], np.int32)
    attrs = {"mode": pick(rng, "bilinear", "nearest"), "extrapolation_value": float(pick(rng, 0.0, 2.5))}
    where = rng.integers(0, 2, boxes).astype(np.int32)
    return Case("CropAndResize", [normal(rng, 2, 3, 5, 7), rois, where, crop], attrs, fed=(0, 1))


def dynamic_pads(rng: Rng) -> Case:
    x, w = normal(rng, 1, 4, 5, 5), normal(rng, 4, 3, 3, 3)
    attrs = {"strides": [2, 2], "kernel_shape": [3, 3]}
    inputs = [x, w, rng.integers(0, 2, 4), pick(rng, None, normal(rng, 3))]
    return Case("ConvTransposeWithDynamicPads", inputs, attrs)


def bnb4(rng: Rng) -> Case:
    k, n, block = int(pick(rng, 16, 48, 64)), size(rng), int(pick(rng, 16, 32))
    blocks = -(-n * k // block)
    packed = rng.integers(0, 256, (n * k + 1) // 2).astype(np.uint8)
    attrs = {"K": k, "N": n, "block_size": block, "quant_type": int(rng.integers(2))}
    return Case(
        "MatMulBnb4",
        [normal(rng, 2, size(rng), k), packed, 0.1 + rng.random(blocks).astype(np.float32)],
        attrs,
    )


MAKERS: dict[str, Callable[[Rng], Case]] = {
    "FusedMatMul": fused_matmul,
    "TransposeMatMul": transpose_matmul,
    "FusedGemm": fused_gemm,
    "FusedConv": fused_conv,
    "Pad": pad,
    "Trilu": trilu,
    "ExpandDims": expand_dims,
    "GatherND": gather_nd,
    "CDist": cdist,
    "GridSample": grid_sample,
    "CropAndResize": crop_and_resize,
    "ConvTransposeWithDynamicPads": dynamic_pads,
    "MatMulBnb4": bnb4,
}
SAMPLE = 2
"""Cases of each operator in CI."""


def check(op: str, seed: int) -> None:
    case = MAKERS[op](np.random.default_rng([seed, *op.encode()]))
    wanted, found = native(case.model(), case.feeds()), on_kernels(case.model(), case.feeds())
    for name, value in wanted.items():
        agree(found[name], value)


@pytest.mark.parametrize("op", MAKERS)
def test_agrees_with_onnxruntime(op: str) -> None:
    for seed in range(SAMPLE):
        check(op, seed)
