"""Operators of com.microsoft that ONNX took over later under other forms, and small ones beside them."""

from __future__ import annotations

import numpy as np

from ..dtypes import NUMPY
from ..ir import Node, Value
from ..shape_rules import ints, put, rule
from .body import Body
from .declare import FLOATS, MICROSOFT, declare, operator

_INTEGERS = "u8 u16 u32 u64 i8 i16 i32 i64"
_ANY = f"{_INTEGERS} f16 f32 f64 bool string"


@operator("Pad", "data:T pads:i64 value:T?", "output:T", "mode:str=constant", T="f16 f32 f64")
def pad(b: Body) -> Value:
    """Pad, as of opset 11"""
    pads = b.given("pads")
    return b(
        "Pad", b.given("data"), b.reshape(pads, (pads.size or 0,)), b.maybe("value"), mode=b.attr("mode")
    )


@operator("Trilu", "X:T k:i64?", "Y:T", "upper:int=1", T=f"{FLOATS} f64 {_INTEGERS} bool")
def trilu(b: Body) -> Value:
    """Trilu"""
    return b("Trilu", b.given("X"), b.maybe("k"), upper=b.attr("upper"))


@operator("Range", "start:T limit:T delta:T?", "Y:T", T="f32 f64 i16 i32 i64")
def range_(b: Body) -> Value:
    """Range, by 1 where no step is given"""
    start, limit, delta = b.given("start"), b.given("limit"), b.maybe("delta")
    delta = b.const(1, start.dtype) if delta is None else b.reshape(delta, ())
    return b("Range", b.reshape(start, ()), b.reshape(limit, ()), delta)


@operator("ExpandDims", "X:T axis:i32", "Y:T", T=_ANY)
def expand_dims(b: Body) -> Value | None:
    """Unsqueeze at one axis, which has to be constant"""
    axis = ints(b.given("axis"))
    return None if axis is None else b("Unsqueeze", b.given("X"), b.const(axis))


@operator("Unique", "x:T", "y:T idx:i64 counts:i64", T=_ANY)
def unique(b: Body) -> list[Value]:
    """Elements in the order they are first met, and for each of x which of them it is"""
    values, _, inverse, counts = b.many("Unique", b.given("x"), count=4, sorted=0)
    return [values, inverse, counts]


@operator("GatherND", "data:T indices:I", "output:T", T=_ANY, I="i32 i64")
def gather_nd(b: Body) -> Value:
    """GatherND, also by indices of 32 bits"""
    return b("GatherND", b.given("data"), b.cast(b.given("indices"), "i64"))


@operator("CDist", "A:T B:T", "C:T", "metric:str=sqeuclidean", T="f32 f64")
def cdist(b: Body) -> Value:
    """[m, k] x [n, k] → [m, n]: sums of squared differences, or their roots"""
    x, y = b.given("A"), b.given("B")
    m, k = b.dims(x, 2)
    n, _ = b.dims(y, 2)
    apart = b("Sub", b.reshape(x, (m, 1, k)), b.reshape(y, (1, n, k)))
    total = b("ReduceSum", b("Mul", apart, apart), b.const([2]), keepdims=0)
    metric = b.attr("metric")
    if metric not in ("euclidean", "sqeuclidean"):
        b.refuse(f"metric {metric!r}", "onnxruntime knows euclidean and sqeuclidean")
    return b("Sqrt", total) if metric == "euclidean" else total


@operator(
    "GridSample", "X:T Grid:T", "Y:U", "mode:str=bilinear padding_mode:str=zeros align_corners:int=0",
    T=f"{_INTEGERS} f16 f32 f64", U="f16 f32 f64",
)  # fmt: skip
def grid_sample(b: Body) -> Value:
    """GridSample of images, modes under their first names"""
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(b.attr("mode"), b.attr("mode"))
    attrs = {"padding_mode": b.attr("padding_mode"), "align_corners": b.attr("align_corners")}
    return b("GridSample", b.given("X"), b.given("Grid"), mode=mode, **attrs)


@operator(
    "CropAndResize", "X:T rois:T batch_indices:i32 crop_size:i32", "Y:T",
    "mode:str=bilinear extrapolation_value:float=0.0", T="f16 f32 f64",
)  # fmt: skip
def crop_and_resize(b: Body) -> Value | None:
    """Boxes [y1, x1, y2, x2], as shares of the image, each resampled to crop_size; what lies outside is one value"""
    x, rois, size = b.given("X"), b.given("rois"), ints(b.given("crop_size"))
    if size is None:
        return None
    mode, image, boxes = b.attr("mode"), b.dims(x, 4)[2:], b.dims(rois, 2)[0]
    if mode not in ("bilinear", "nearest"):
        b.refuse(f"mode {mode!r}", "onnxruntime knows bilinear and nearest")
    own = b("Gather", x, b.given("batch_indices"), axis=0)  # [boxes, channels, height, width]
    rows, columns = ([boxes, 1, size[0], 1], [boxes, 1, 1, size[1]])
    inside: Value | None = None
    found = b.cast(own, "f64") if x.dtype == "f64" else own
    for axis, (shape, extent, n) in enumerate(zip((rows, columns), image, size, strict=True)):
        first, last = (b.slice(rois, 1, axis + 2 * i, axis + 2 * i + 1) for i in (0, 1))
        longest = b.const(extent - 1, x.dtype)
        if n > 1:
            step = b("Div", b("Mul", b("Sub", last, first), longest), b.const(n - 1, x.dtype))
            at = b("Add", b("Mul", first, longest), b("Mul", b.const([range(n)], x.dtype), step))
        else:
            at = b("Mul", b("Mul", b("Add", first, last), b.const(0.5, x.dtype)), longest)
        here = b("And", b("GreaterOrEqual", at, b.const(0, x.dtype)), b("LessOrEqual", at, longest))
        here = b.reshape(here, shape)
        inside = here if inside is None else b("And", inside, here)
        at = b("Clip", at, b.const(0, x.dtype), longest)
        found = _along(b, found, 2 + axis, b.reshape(at, shape), mode)
    assert inside is not None
    outside = b.const(b.attr("extrapolation_value"), x.dtype)
    return b("Where", inside, found, outside)


def _along(b: Body, x: Value, axis: int, at: Value, mode: str) -> Value:
    """x at places `at` (not whole, one row a box) along an axis."""
    shape = list(b.shape(x))
    places = b.shape(at)
    shape[axis] = places[axis]

    def taken(place: Value) -> Value:
        index = b("Expand", b.cast(place, "i64"), b.const(shape))
        return b("GatherElements", x, index, axis=axis)

    if mode == "nearest":
        return taken(b("Floor", b("Add", at, b.const(0.5, at.dtype))))
    low, high = taken(b("Floor", at)), taken(b("Ceil", at))
    share = b("Sub", at, b("Floor", at))
    return b("Add", low, b("Mul", b("Sub", high, low), share))


# ---- Fourier ----

_FOURIER = "signal_ndim:int! normalized:int=0 onesided:int=1"


@operator("Rfft", "X:T", "Y:T", _FOURIER.replace("!", "=1"), T="f32 f64 f16")
def rfft(b: Body) -> Value:
    """[…, n] → […, n / 2 + 1, 2]"""
    _one_axis(b)
    x = b("Unsqueeze", b.given("X"), b.const([-1]))
    return b("DFT", x, None, b.const(-2), onesided=b.attr("onesided"))


@operator("Irfft", "X:T", "Y:T", _FOURIER, T="f32 f64 f16")
def irfft(b: Body) -> Value:
    """[…, n / 2 + 1, 2] → […, n], n even: the other half are the conjugates"""
    _one_axis(b)
    x = b.given("X")
    *lead, half, _ = b.shape(x)
    conjugate = b.const([1, -1], x.dtype)
    if b.attr("onesided"):
        mirror = b.const(list(range(half - 2, 0, -1)))
        x = b("Concat", x, b("Mul", b("Gather", x, mirror, axis=len(lead)), conjugate), axis=len(lead))
    # the real part of the inverse is that of the transform of the conjugates, over how many there are
    y = b("DFT", b("Mul", x, conjugate), None, b.const(-2))
    real = b("Gather", y, b.const(0), axis=len(lead) + 1)
    return b("Div", real, b.const(b.shape(real)[-1], real.dtype))


def _one_axis(b: Body) -> None:
    if b.attr("signal_ndim") != 1 or b.attr("normalized"):
        b.refuse("more than one axis, or normalised", "export the transform with ONNX's DFT")


# ---- weights of 4 bits by a table ----

_FP4 = (0, 5.208333333e-03, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25)
_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


@operator(
    "MatMulBnb4", "A:T1 B:T2 absmax:T1", "Y:T1",
    "K:int! N:int! block_size:int! quant_type:int! training_mode:int=0 transB:int=1", T1=FLOATS, T2="u8",
)  # fmt: skip
def matmul_bnb4(b: Body) -> Value:
    """A B', codes of 4 bits being places of a table (0: FP4, 1: NF4), times the largest of each block of weights

    Dettmers et al., QLoRA (2023). The first code of a byte is in its upper bits."""
    k, n, block = (b.attr(name) for name in ("K", "N", "block_size"))
    table = _NF4 if b.attr("quant_type") == 1 else (*_FP4, *(-v for v in _FP4))
    codes, count = b.given("B"), (n * k + 1) // 2
    if codes.size != count:
        b.fail("its weights do not fill N rows of K codes", count, codes.size)
    pairs = np.stack(np.divmod(np.arange(256), 16), -1)
    values = b.const(np.asarray(table, NUMPY["f32"])[pairs], "f32")
    wide = b("Gather", values, b.cast(b.reshape(codes, (count,)), "i32"), axis=0)  # [bytes, 2]
    blocks = -(-n * k // block)
    flat = b.slice(b.reshape(wide, (2 * count,)), 0, 0, n * k)
    if blocks * block != n * k:
        flat = b("Pad", flat, b.const([0, blocks * block - n * k]))
    largest = b.reshape(b.cast(b.given("absmax"), "f32"), (blocks, 1))
    w = b.reshape(b("Mul", b.reshape(flat, (blocks, block)), largest), (blocks * block,))
    w = b.reshape(b.slice(w, 0, 0, n * k), (n, k))
    x = b.given("A")
    y = b("MatMul", b.cast(x, "f32"), b.transpose(w, 1, 0) if b.attr("transB") else b.reshape(w, (k, n)))
    return b.cast(y, x.dtype)


declare(
    "Tokenizer",
    "X:S",
    "Y:S",
    "mark:int! mincharnum:int! pad_value:str! separators:strs tokenexp:str",
    S="string",
)


@rule(f"{MICROSOFT}.Tokenizer")
def tokenizer(node: Node) -> None:
    """How many words there are, the text says."""
    put(node, "string", None)
