"""Nodes drawn at random that sum: reductions, norms, products, convolutions, pools."""

from __future__ import annotations

import numpy as np

from tests.fuzz.builder import Builder, Rejected, Value
from tests.fuzz.moves import axis_of

REDUCE = "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp".split()
FLOATS = ("float32", "float32", "float32", "float16", "float64")


def reduction(b: Builder) -> None:
    op = b.one(REDUCE)
    integer = op in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceSumSquare")
    x = b.of(*(("int64", "int32") if integer and b.often(0.2) else FLOATS), low=1)
    if x.array.size == 0 and op not in ("ReduceSum", "ReduceProd", "ReduceL1", "ReduceSumSquare"):
        raise Rejected
    axes = b.chance.sample(range(x.rank), b.chance.randint(0, x.rank))
    inputs = [x]
    attrs: dict[str, object] = {"keepdims": b.chance.randrange(2)}
    if axes or b.often(0.5):
        inputs.append(b.ints(*(a - x.rank if b.often(0.3) else a for a in axes)))
    if b.often(0.2):
        attrs["noop_with_empty_axes"] = 1
    b.emit(op, inputs, exact=op in ("ReduceMax", "ReduceMin"), **attrs)


def norm(b: Builder) -> None:
    way = b.chance.randrange(9)
    x = b.of(*FLOATS, low=1, high=4)
    if x.array.size == 0:
        raise Rejected
    axis = axis_of(b, x.rank)
    at = axis % x.rank
    if way <= 2:
        b.emit(b.one(["Softmax", "Softmax", "LogSoftmax"]), [x], axis=axis)
    elif way == 3:
        scale = b.fresh(x.dtype, x.shape[at:])
        bias = [b.fresh(x.dtype, x.shape[at:])] if b.often(0.7) else []
        b.emit("LayerNormalization", [x, scale, *bias], axis=axis, epsilon=b.one([1e-5, 1e-2]))
    elif way == 4 and b.opset >= 23:
        b.emit(
            "RMSNormalization", [x, b.fresh(x.dtype, x.shape[at:])], axis=axis, epsilon=b.one([1e-5, 1e-2])
        )
    elif way == 5:
        b.emit("LpNormalization", [x], axis=axis, p=b.one([1, 2]))
    elif way == 6 and x.rank >= 3:
        c = x.shape[1]
        b.emit("InstanceNormalization", [x, b.fresh(x.dtype, (c,)), b.fresh(x.dtype, (c,))])
    elif way == 7 and x.rank >= 2:
        c = x.shape[1]
        stats = [
            b.fresh(x.dtype, (c,)),
            b.fresh(x.dtype, (c,)),
            b.fresh(x.dtype, (c,)),
            b.fresh(x.dtype, (c,), 0.3, 2),
        ]
        b.emit("BatchNormalization", [x, *stats], epsilon=b.one([1e-5, 1e-2]))
    elif way == 8 and x.rank == 4 and b.often(0.6):
        if b.often(0.5):
            b.emit("LRN", [x], size=b.one([1, 3, 5]), alpha=0.1, beta=0.75, bias=1.0)
        else:
            b.emit("MeanVarianceNormalization", [x], axes=b.chance.sample(range(4), b.chance.randint(1, 4)))
    else:
        written_norm(b, x, axis)


def written_norm(b: Builder, x: Value, axis: int) -> None:
    """A layer norm as older exporters write it: mean, difference, square, mean, root, quotient."""
    axes = b.ints(axis)
    (mean,) = b.emit("ReduceMean", [x, axes], keepdims=1)
    (off,) = b.emit("Sub", [x, mean])
    two = b.leaf(np.array(2, x.array.dtype), True)
    (square,) = b.emit("Pow", [off, two]) if b.often(0.5) else b.emit("Mul", [off, off])
    (variance,) = b.emit("ReduceMean", [square, axes], keepdims=1)
    (safe,) = b.emit("Add", [variance, b.leaf(np.array(1e-2, x.array.dtype), True)])
    (root,) = b.emit("Sqrt", [safe])
    (y,) = b.emit("Div", [off, root])
    last = x.shape[-1:]
    (y,) = b.emit("Mul", [y, b.fresh(x.dtype, last)])
    b.emit("Add", [y, b.fresh(x.dtype, last)])


def product(b: Builder) -> None:
    x = b.of(*FLOATS, low=1, high=4)
    way = b.chance.randrange(6)
    if way <= 2:
        n, k = b.size(), x.shape[-1]
        batch = b.spread(x.shape[:-2]) if b.often(0.4) else ()
        w = b.weights(x.dtype, (*batch, k, n) if b.often(0.85) else (k,))
        (y,) = b.emit("MatMul", [x, w])
        if b.often(0.4) and y.rank:
            b.emit("Add", [y, b.fresh(x.dtype, y.shape[-1:])])
    elif way == 3:
        k, m = x.shape[-1], b.size()
        shape = (m, k) if b.often(0.7) else (*x.shape[:-2], m, k)
        b.emit("MatMul", [b.weights(x.dtype, shape), transposed(b, x)])
    elif way == 4:
        ta, tb = b.chance.randrange(2), b.chance.randrange(2)
        x = b.of(*FLOATS, low=2, high=2)
        k, m = (x.shape[0], x.shape[1]) if ta else (x.shape[1], x.shape[0])
        n = b.size()
        w = b.weights(x.dtype, (n, k) if tb else (k, n))
        c = [b.fresh(x.dtype, b.spread((m, n)))] if b.often(0.7) else []
        b.emit(
            "Gemm",
            [x, w, *c],
            transA=ta,
            transB=tb,
            alpha=b.one([1.0, 0.5, -2.0]),
            beta=b.one([1.0, 0.0, 0.3]),
        )
    else:
        einsum(b)


def transposed(b: Builder, x: Value) -> Value:
    if x.rank < 2:
        return x
    perm = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
    return b.emit("Transpose", [x], exact=True, perm=perm)[0]


EQUATIONS = ["ij,jk->ik", "bij,bjk->bik", "bhid,bhjd->bhij", "bhij,bhjd->bhid", "ij->ji", "ii->i", "ij,ij->", "i,j->ij",
             "bij->bj", "bid,bjd->bij", "...ij,...jk->...ik", "bqhd,bkhd->bhqk", "ijk,kl->ijl", "ij,kj",
             "abc,cd,ad->ab"]  # fmt: skip


def einsum(b: Builder) -> None:
    text = b.one(EQUATIONS)
    dtype = b.one(FLOATS)
    sizes: dict[str, int] = {}
    inputs = []
    for term in text.split("->")[0].split(","):
        dims = [3, 2] if term.startswith("...") and b.often(0.5) else []
        dims += [sizes.setdefault(c, b.one([1, 2, 3, 5, 8, 9])) for c in term.replace("...", "")]
        inputs.append(b.weights(dtype, tuple(dims)))
    b.emit("Einsum", inputs, equation=text)


def image(b: Builder, spatial: int, dtype: str = "") -> Value:
    def make() -> Value:
        kind = dtype or b.one(["float32", "float32", "float32", "float16"])
        size = tuple(b.one([1, 3, 5, 6, 8, 9, 11]) for _ in range(spatial))
        return b.fresh(kind, (b.one([1, 1, 2]), b.one([1, 2, 3, 4, 6, 8, 12]), *size))

    def fits(v: Value) -> bool:
        return (
            v.dtype in (dtype or "float32", dtype or "float16") and v.rank == spatial + 2 and 0 not in v.shape
        )

    return b.pick(fits, make)


def window(b: Builder, x: Value, kernel: list[int]) -> dict[str, object]:
    """Strides, dilations and padding with which at least one window fits."""
    if any(2 * k - 1 > n for k, n in zip(kernel, x.shape[2:], strict=True)):
        raise Rejected
    attrs: dict[str, object] = {}
    if b.often(0.5):
        attrs["strides"] = [b.one([1, 1, 2, 3]) for _ in kernel]
    if b.often(0.3):
        attrs["dilations"] = [b.one([1, 2]) for _ in kernel]
    if b.often(0.5):
        attrs["pads"] = [b.chance.randint(0, max(0, k - 1)) for k in kernel * 2]
    elif b.often(0.3):
        attrs["auto_pad"] = b.one(["SAME_UPPER", "SAME_LOWER", "VALID"])
        attrs.pop("dilations", None)
        if (
            "strides" in attrs
        ):  # a stride past the window would make pads less than nothing, where peers differ
            attrs["strides"] = [min(s, k) for s, k in zip(attrs["strides"], kernel, strict=True)]  # type: ignore[call-overload]
    return attrs


def convolution(b: Builder) -> None:
    spatial = b.one([1, 2, 2, 2, 2, 3])
    x = image(b, spatial)
    c = x.shape[1]
    group = b.one([g for g in range(1, c + 1) if c % g == 0])
    out = group * b.one([1, 1, 2, 3, 4, 5])
    kernel = [b.one([1, 1, 2, 3, 3, 5]) for _ in range(spatial)]
    if b.often(0.4):
        kernel = [3] * spatial
    w = b.weights(x.dtype, (out, c // group, *kernel))
    bias = [b.fresh(x.dtype, (out,))] if b.often(0.6) else []
    attrs = window(b, x, kernel)
    (y,) = b.emit("Conv", [x, w, *bias], group=group, **attrs)
    after(b, y)


def after(b: Builder, y: Value) -> None:
    """What models put behind a convolution."""
    way = b.chance.randrange(6)
    c = y.shape[1]
    if way == 0:
        stats = [
            b.fresh(y.dtype, (c,)),
            b.fresh(y.dtype, (c,)),
            b.fresh(y.dtype, (c,)),
            b.fresh(y.dtype, (c,), 0.3, 2),
        ]
        b.emit("BatchNormalization", [y, *stats])
    elif way == 1:
        zero, six = b.leaf(np.array(0, y.array.dtype), True), b.leaf(np.array(6, y.array.dtype), True)
        b.emit("Clip", [y, zero, six])
    elif way == 2:
        b.emit("Add", [y, b.partner(y)])
    elif way == 3:
        (s,) = b.emit("Sigmoid", [y])
        b.emit("Mul", [s, y])


def up_convolution(b: Builder) -> None:
    spatial = b.one([1, 2, 2, 3])
    x = image(b, spatial)
    c = x.shape[1]
    group = b.one([g for g in range(1, c + 1) if c % g == 0])
    kernel = [b.one([1, 2, 3, 4]) for _ in range(spatial)]
    w = b.weights(x.dtype, (c, b.one([1, 2, 3]), *kernel))
    attrs: dict[str, object] = {}
    if b.often(0.7):
        attrs["strides"] = [b.one([1, 2, 3]) for _ in kernel]
    if b.often(0.3):
        attrs["dilations"] = [b.one([1, 2]) for _ in kernel]
    if b.often(0.4):
        attrs["pads"] = [b.chance.randint(0, k - 1) for k in kernel * 2]
    if b.often(0.2) and "strides" in attrs:
        attrs["output_padding"] = [s - 1 for s in attrs["strides"]]  # type: ignore[attr-defined]
    bias = [b.fresh(x.dtype, (group * w.shape[1],))] if b.often(0.5) else []
    b.emit("ConvTranspose", [x, w, *bias], group=group, **attrs)


def pool(b: Builder) -> None:
    spatial = b.one([1, 2, 2, 2, 3])
    x = image(b, spatial)
    if (x.array != x.array).any():
        raise Rejected  # whether a NaN is the largest depends on where it stands, in onnxruntime too
    way = b.chance.randrange(5)
    if way == 0:
        b.emit(b.one(["GlobalAveragePool", "GlobalMaxPool"]), [x])
        return
    kernel = [b.one([1, 2, 3]) for _ in range(spatial)]
    attrs = window(b, x, kernel)
    if b.often(0.3) and "auto_pad" not in attrs:
        attrs["ceil_mode"] = 1
    if way <= 2:
        outputs = 2 if b.often(0.3) and x.exact else 1
        b.emit("MaxPool", [x], outputs, exact=True, kernel_shape=kernel, **attrs)
    elif way == 3:
        attrs["count_include_pad"] = b.chance.randrange(2)
        b.emit("AveragePool", [x], kernel_shape=kernel, **attrs)
    else:
        attrs.pop("ceil_mode", None)
        b.emit("LpPool", [x], kernel_shape=kernel, p=b.one([1, 2, 3]), **attrs)


SUMS = {reduction: 5, norm: 5, product: 6, convolution: 6, up_convolution: 2, pool: 3}
