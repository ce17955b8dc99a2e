"""Nodes large enough for packed panels, Winograd, split sums and rows of many keys: whole tiles and tails of each."""

from __future__ import annotations

from tests.fuzz.builder import Builder, Rejected
from tests.fuzz.sums import after

SIDES = [16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 96, 127, 130]
TYPES = ["float32", "float32", "float32", "float16"]


def wide_convolution(b: Builder) -> None:
    dtype = b.one(TYPES)
    c, out = b.one([8, 16, 17, 24, 32, 33]), b.one([8, 16, 24, 31, 32, 48])
    size = (b.one([7, 12, 14, 15, 19, 23]), b.one([8, 13, 14, 16, 21]))
    kernel = b.one([(3, 3), (3, 3), (3, 3), (1, 1), (5, 5), (1, 3), (7, 7)])
    group = b.one([1, 1, 1, c]) if out % c == 0 else 1
    x = b.fresh(dtype, (b.one([1, 1, 2]), c, *size))
    if kernel not in ((1, 1), (7, 7)):
        b.finite(x)  # tiles of Winograd
    w = b.weights(dtype, (out, c // group, *kernel))
    bias = [b.fresh(dtype, (out,))] if b.often(0.6) else []
    attrs: dict[str, object] = {"pads": [b.one([0, k // 2]) for k in kernel * 2]}
    if b.often(0.3):
        attrs["strides"] = [b.one([1, 2]) for _ in kernel]
    if b.often(0.2):
        attrs["dilations"] = [b.one([1, 2]) for _ in kernel]
    (y,) = b.emit("Conv", [x, w, *bias], group=group, **attrs)
    after(b, y)


def wide_product(b: Builder) -> None:
    dtype = b.one(TYPES)
    m, k, n = b.one([1, 2, 5, *SIDES]), b.one(SIDES), b.one([1, 3, *SIDES])
    batch = b.one([(), (), (2,), (2, 3)])
    x = b.fresh(dtype, (*batch, m, k))
    kind = b.chance.randrange(4)
    w = b.weights(dtype, (n, k) if kind == 1 else (*(batch if kind == 2 else ()), k, n))
    if kind == 1:
        (w,) = b.emit("Transpose", [w], exact=True, perm=[1, 0])
    (y,) = b.emit("MatMul", [x, w])
    if b.often(0.5):
        (y,) = b.emit("Add", [y, b.fresh(dtype, (n,))])
    if b.often(0.5):
        (y,) = b.emit(b.one(["Relu", "Gelu", "Sigmoid", "Tanh"]), [y])
    if b.often(0.4):
        (y,) = b.emit("Add", [y, b.partner(y)])
    if b.often(0.3):
        b.emit("Softmax", [y], axis=-1)


def wide_rows(b: Builder) -> None:
    x = b.fresh(b.one(TYPES), (b.one([1, 3, 17]), b.one([1, 5, 33]), b.one([63, 64, 128, 255, 520])))
    way = b.chance.randrange(4)
    if way == 0:
        b.emit("Softmax", [x], axis=b.one([-1, 1]))
    elif way == 1:
        b.emit(
            "LayerNormalization", [x, b.fresh(x.dtype, x.shape[-1:]), b.fresh(x.dtype, x.shape[-1:])], axis=-1
        )
    elif way == 2:
        b.emit(b.one(["ReduceSum", "ReduceMax", "ReduceMean"]), [x, b.ints(b.one([-1, 1, 0]))], keepdims=0)
    elif x.exact:
        b.emit("TopK", [b.finite(x), b.ints(b.one([1, 5, 50]))], 2, exact=True, axis=-1)
    else:
        raise Rejected


LARGE = {wide_convolution: 4, wide_product: 5, wide_rows: 2}
