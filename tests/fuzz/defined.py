"""Operators of ONNX that the other areas leave out: those it defines by others, windows and losses, rarer norms and
pools, rotations, signals; opsets 20 to 24, odd attributes, inputs left out, dimensions of 1 and 0."""

from __future__ import annotations

import numpy as np
from onnx import helper

from tests.fuzz.builder import Builder, Rejected, Value
from tests.fuzz.sums import FLOATS, image

FLOAT_TYPES = {"float32": 1, "float16": 10, "float64": 11}


def _of(b: Builder, shape: tuple[int, ...], dtype: str = "") -> Value:
    return b.fresh(dtype or b.one(FLOATS), shape)


def grids(b: Builder) -> None:
    """AffineGrid of images and volumes: of one matrix, of a height of 1."""
    if b.opset < 20:
        raise Rejected
    size = (b.one([1, 1, 2, 3]), b.one([1, 3]), *(b.one([1, 2, 4, 5]) for _ in range(b.one([2, 2, 3]))))
    rank = len(size) - 2
    aligned = b.chance.randrange(2)
    if aligned and 1 in size[2:]:
        raise Rejected  # onnx.reference warns of a division by 0, and onnxruntime has another place
    theta = _of(b, (size[0], rank, rank + 1), "float32")
    b.emit("AffineGrid", [theta, b.ints(*size)], align_corners=aligned)


def cropped(b: Builder) -> None:
    x = _of(
        b,
        tuple(b.one([1, 2, 3, 5, 8]) for _ in range(b.chance.randint(1, 4))),
        b.one(["float32", "int64", "uint8"]),
    )
    axes = b.chance.sample(range(x.rank), b.chance.randint(1, x.rank))
    attrs = (
        {}
        if len(axes) == x.rank and axes == sorted(axes)
        else {"axes": [a - x.rank if b.often(0.3) else a for a in axes]}
    )
    b.emit("CenterCropPad", [x, b.ints(*(b.one([1, 2, 4, 7]) for _ in axes))], exact=True, **attrs)


def losses(b: Builder) -> None:
    n, c = b.one([1, 2, 5]), b.one([1, 3, 6])
    rest = b.one([(), (), (4,), (2, 3), (1,)])
    x = _of(b, (n, c, *rest), b.one(["float32", "float32", "float64"]))
    labels = b.numbers.integers(0, c, (n, *rest))
    attrs: dict[str, object] = {"reduction": b.one(["none", "sum", "mean"])}
    if b.often(0.4):
        attrs["ignore_index"] = b.one([0, c - 1])
        if attrs["reduction"] == "mean" and (labels == attrs["ignore_index"]).all():
            raise Rejected  # nothing over nothing
    weights = [b.leaf(b.numbers_of(x.dtype, (c,), 0.2, 2))] if b.often(0.5) else []
    op = b.one(["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
    b.emit(op, [x, b.leaf(labels.astype(b.one([np.int64, np.int32]))), *weights], **attrs)


def windows(b: Builder) -> None:
    dtype = b.one(["float32", "float32", "float16"])
    size = b.leaf(np.array(b.one([1, 2, 5, 16]), b.one([np.int64, np.int32])), True)
    (w,) = b.emit(
        b.one(["HannWindow", "HammingWindow", "BlackmanWindow"]), [size], periodic=b.chance.randrange(2),
        output_datatype=FLOAT_TYPES[dtype],
    )  # fmt: skip
    b.emit("Mul", [w, b.fresh(dtype, (b.one([1, 3]), w.shape[0]))])


def groups(b: Builder) -> None:
    if b.opset < 21:
        raise Rejected
    group, each = b.one([1, 2, 3]), b.one([1, 2, 4])
    # not f64: its default stash_type has means in f32, which this does not round to
    shape = (b.one([1, 2]), group * each, *(b.one([1, 3, 4]) for _ in range(b.one([1, 2, 3]))))
    x = _of(b, shape, b.one(["float32", "float32", "float16"]))
    c = group * each
    b.emit(
        "GroupNormalization",
        [x, _of(b, (c,), x.dtype), _of(b, (c,), x.dtype)],
        num_groups=group,
        epsilon=b.one([1e-5, 1e-2]),
    )


def rotations(b: Builder) -> None:
    if b.opset < 23:
        raise Rejected
    dtype = b.one(["float32", "float32", "float16"])
    batch, rows, heads, half = b.one([1, 2]), b.one([1, 3, 5]), b.one([1, 2, 3]), b.one([1, 2, 4])
    depth, turned = 2 * half, 0
    if b.often(0.3):
        turned = 2 * b.chance.randint(1, half)
    attrs: dict[str, object] = {"interleaved": b.chance.randrange(2)}
    if turned:
        attrs["rotary_embedding_dim"] = turned
    flat = turned > 0 or b.often(0.5)
    if flat:
        attrs["num_heads"] = heads
    x = _of(b, (batch, rows, heads * depth) if flat else (batch, heads, rows, depth), dtype)
    table = (turned or depth) // 2
    placed = b.often(0.5)
    angles = [b.fresh(dtype, (9, table) if placed else (batch, rows, table), -1, 1) for _ in range(2)]
    places = [b.leaf(b.numbers.integers(0, 9, (batch, rows)))] if placed else []
    b.emit("RotaryEmbedding", [x, *angles, *places], **attrs)


def rare_pools(b: Builder) -> None:
    x = image(b, b.one([1, 2, 3]), "float32")
    if b.often(0.5) or x.rank != 4:
        b.emit("GlobalLpPool", [x], p=b.one([1, 2, 3]))
        return
    if not x.exact or len(np.unique(x.array)) != x.array.size or min(x.shape[2:]) < 2:
        raise Rejected
    places = [2, 2]
    y, index = b.emit("MaxPool", [x], 2, exact=True, kernel_shape=places, strides=places)
    b.emit("MaxUnpool", [y, index], exact=True, kernel_shape=places, strides=places)


def sums_of_logs(b: Builder) -> None:
    x = b.fresh(b.one(["float32", "float64"]), b.some_shape(1, 4), 0.2, 3)
    if not x.array.size:
        raise Rejected
    axes = b.chance.sample(range(x.rank), b.chance.randint(0, x.rank))
    b.emit("ReduceLogSum", [x, *([b.ints(*axes)] if axes else [])], keepdims=b.chance.randrange(2))


def made(b: Builder) -> None:
    """Tensors out of shapes and numbers: ConstantOfShape, EyeLike, Range, Hardmax, Size."""
    way = b.chance.randrange(5)
    if way == 0:
        dtype = b.one(["float32", "int64", "int8", "bool", "float16"])
        value = helper.make_tensor(
            "v", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [1], [b.one([0, 1])]
        )
        (y,) = b.emit("ConstantOfShape", [b.ints(*b.some_shape(0, 3))], exact=True, value=value)
        if dtype == "float32" and y.rank:
            b.emit("Add", [y, _of(b, y.shape, "float32")])
    elif way == 1:
        x = _of(b, (b.size(), b.size()), b.one(["float32", "int32"]))
        attrs = {"dtype": b.one([1, 6, 7, 11])} if b.often(0.5) else {}
        b.emit("EyeLike", [x], exact=True, k=b.one([-2, 0, 0, 1]), **attrs)
    elif way == 2:
        dtype = b.one(["float32", "int64", "int32"])
        first, last, step = b.one([(0, 7, 1), (9, 2, -2), (3, 3, 1), (1, 8, 3), (5, 1, 1)])
        b.emit("Range", [b.constant(v, dtype) for v in (first, last, step)], exact=True)
    elif way == 3:
        x = b.of("float32", "float64", low=1, high=4, exact=True)
        if not x.array.size or (x.array != x.array).any():
            raise Rejected
        b.emit("Hardmax", [x], exact=True, axis=b.chance.randint(-x.rank, x.rank - 1))
    else:
        b.emit("Size", [b.of("float32", "int64", "bool", "float16")], exact=True)


def transforms(b: Builder) -> None:
    """DFT of real and complex signals, any axis and length."""
    if b.opset < 20:
        raise Rejected
    rank = b.one([2, 3])
    inverse = b.often(0.3)
    parts = 2 if inverse or b.often(0.4) else 1
    x = _of(b, (*(b.one([1, 2, 4, 5, 8]) for _ in range(rank)), parts), "float32")
    b.finite(x)  # which sums meet an infinity depends on how the transform is done
    axis = b.chance.randrange(rank)
    inputs: list[Value | None] = [x, None, b.leaf(np.array(axis, np.int64), True)]
    if b.often(0.4):
        inputs[1] = b.leaf(np.array(b.one([1, 3, 4, 8]), np.int64), True)
    attrs = {"inverse": 1} if inverse else {"onesided": 1} if parts == 1 and b.often(0.5) else {}
    b.emit("DFT", inputs, **attrs)


def columns(b: Builder) -> None:
    """Col2Im, with strides, dilations and pads."""
    block = [b.one([1, 2, 3]) for _ in range(2)]
    attrs = {"strides": [b.one([1, 2]) for _ in block], "dilations": [b.one([1, 2]) for _ in block]}
    pads = [b.one([0, 0, 1]) for _ in range(4)]
    size = [b.one([5, 6, 7]) for _ in block]
    counts = [
        (n + pads[d] + pads[d + 2] - (k - 1) * attrs["dilations"][d] - 1) // attrs["strides"][d] + 1
        for d, (n, k) in enumerate(zip(size, block, strict=True))
    ]
    if min(counts) < 1:
        raise Rejected
    x = _of(b, (b.one([1, 2]), b.one([1, 3]) * block[0] * block[1], counts[0] * counts[1]), "float32")
    b.emit("Col2Im", [x, b.ints(*size), b.ints(*block)], pads=pads, **attrs)


DEFINED = {
    grids: 2, cropped: 2, losses: 3, windows: 1, groups: 2, rotations: 3, rare_pools: 2, sums_of_logs: 1, made: 3,
    transforms: 2, columns: 1,
}  # fmt: skip
