"""Operators that onnxruntime's optimizer fuses from several of ONNX's: products with transposes, activations, sums.

They fall apart into what they were made of; regions fuse that again, for the kernels here.
"""

from __future__ import annotations

from math import prod
from typing import Any

from ..ir import Value
from ..shape_rules import axis_of, ints
from .body import Body
from .declare import FLOATS, operator

_ALL = f"{FLOATS} f64"
_WINDOW = "kernel_shape:ints auto_pad:str=NOTSET pads:ints strides:ints dilations:ints group:int=1"
_TRANSPOSED = "transA:int=0 transB:int=0 alpha:float=1.0"
_BATCHED = f"{_TRANSPOSED} transBatchA:int=0 transBatchB:int=0"
# Activations of one number by name, and how onnxruntime names their parameters, in order, where they have any.
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "Relu": (), "Tanh": (), "Sigmoid": (), "Softplus": (), "Softsign": (), "Erf": (), "Gelu": (), "HardSwish": (),
    "LeakyRelu": ("alpha",), "Elu": ("alpha",), "ThresholdedRelu": ("alpha",), "Celu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"), "Selu": ("alpha", "gamma"),
}  # fmt: skip


def activated(b: Body, x: Value, name: str, given: list[float] | None = None) -> Value:
    """The activation `name` of x, its parameters in order; '' for none."""
    given = list(given or [])
    if not name:
        return x
    if name == "Clip":
        bounds = [b.const(v, x.dtype) for v in given]
        return b("Clip", x, *bounds)
    if name in ("ScaledTanh", "Affine", "ParametricSoftplus"):
        return scaled(b, x, name, *given)
    if name not in _PARAMETERS:
        b.refuse(f"activation {name!r}", f"known are {', '.join(sorted([*_PARAMETERS, 'Clip']))}")
    attrs: dict[str, Any] = dict(zip(_PARAMETERS[name], given, strict=False))
    return b(name, x, **attrs)


def scaled(b: Body, x: Value, name: str, alpha: float, beta: float = 0.0) -> Value:
    """ScaledTanh alpha tanh(beta x), ParametricSoftplus alpha log(1 + e^(beta x)), Affine alpha x + beta"""
    first, second = (b.const(v, x.dtype) for v in (alpha, beta))
    if name == "Affine":
        return b("Add", b("Mul", x, first), second)
    inner = b("Mul", x, second)
    return b("Mul", b("Tanh" if name == "ScaledTanh" else "Softplus", inner), first)


def _named(b: Body, prefix: str = "activation") -> list[float]:
    """activation_alpha, activation_beta and activation_gamma, as far as they are given."""
    found = [b.attr(f"{prefix}_{n}") for n in ("alpha", "beta", "gamma")]
    return [v for v in found if v is not None]


# ---- products ----


@operator("FusedMatMul", "A:T B:T", "Y:T", _BATCHED, T=_ALL)
def fused_matmul(b: Body) -> Value:
    """alpha * A' B', either factor with its last two axes exchanged, or with its first axis behind the batch"""
    return _product(b)


@operator("TransposeMatMul", "A:T B:T", "Y:T", _TRANSPOSED, T=_ALL)
def transpose_matmul(b: Body) -> Value:
    """alpha * A' B', either factor with its last two axes exchanged"""
    return _product(b)


def _product(b: Body) -> Value:
    x = _transposed(b, b.given("A"), b.attr("transA"), b.attr("transBatchA", 0))
    y = b("MatMul", x, _transposed(b, b.given("B"), b.attr("transB"), b.attr("transBatchB", 0)))
    alpha = b.attr("alpha")
    return y if alpha == 1 else b("Mul", y, b.const(alpha, y.dtype))


def _transposed(b: Body, x: Value, swap: int, batch: int) -> Value:
    """[m, batch…, k] → [batch…, m, k] for `batch`; then the last two exchanged for `swap`. Vectors stay."""
    axes = list(range(len(b.shape(x))))
    if len(axes) < 2:
        return x
    if batch:
        axes = [*axes[1:-1], axes[0], axes[-1]]
    if swap:
        axes[-2:] = axes[-1], axes[-2]
    return x if axes == sorted(axes) else b.transpose(x, *axes)


@operator(
    "FusedMatMulActivation", "A:T B:T", "Y:T",
    f"{_BATCHED} activation:str! activation_alpha:float activation_beta:float activation_gamma:float "
    "activation_axis:int", T=_ALL,
)  # fmt: skip
def fused_matmul_activation(b: Body) -> Value:
    """activation(alpha * A' B')"""
    y, name = _product(b), b.attr("activation")
    if name == "Softmax":
        return b("Softmax", y, axis=b.attr("activation_axis", -1))
    return activated(b, y, name, _named(b))


@operator(
    "FusedGemm", "A:T B:T C:T?", "Y:T",
    f"{_TRANSPOSED} beta:float=1.0 activation:str activation_alpha:float activation_beta:float "
    "activation_gamma:float", T=f"{_ALL} u32 u64 i32 i64",
)  # fmt: skip
def fused_gemm(b: Body) -> Value:
    """activation(Gemm(A, B, C))"""
    attrs = {k: b.attr(k) for k in ("transA", "transB", "alpha", "beta")}
    y = b("Gemm", b.given("A"), b.given("B"), b.maybe("C"), **attrs)
    return activated(b, y, b.attr("activation", ""), _named(b))


# ---- convolutions ----


def _conv(b: Body, x: Value) -> Value:
    attrs = {k: v for k, v in b.node.attrs.items() if k not in ("activation", "activation_params")}
    return b("Conv", x, b.given("W"), b.maybe("B"), **attrs)


_FUSED = f"{_WINDOW} activation:str activation_params:floats"


@operator("FusedConv", "X:T W:T B:T? Z:T?", "Y:T", _FUSED, T="f32 f16 f64")
def fused_conv(b: Body) -> Value:
    """activation(Conv(X, W, B) + Z)"""
    y, z = _conv(b, b.given("X")), b.maybe("Z")
    y = y if z is None else b("Add", y, z)
    return activated(b, y, b.attr("activation", ""), b.attr("activation_params"))


@operator("NhwcFusedConv", "X:T W:T B:T? Z:T?", "Y:T", _FUSED, T="f32 f16")
def nhwc_fused_conv(b: Body) -> Value:
    """The same on images whose channels are last; the weights lie as ONNX has them"""
    y, z = channels_last(b, _conv(b, channels_first(b, b.given("X")))), b.maybe("Z")
    y = y if z is None else b("Add", y, z)
    return activated(b, y, b.attr("activation", ""), b.attr("activation_params"))


@operator("NhwcConv", "X:T W:T B:T?", "Y:T", _WINDOW, T="f32 f16 f64")
def nhwc_conv(b: Body) -> Value:
    """Conv of images with their channels last"""
    return channels_last(b, _conv(b, channels_first(b, b.given("X"))))


@operator(
    "NhwcMaxPool", "x:T", "y:T",
    "kernel_shape:ints! auto_pad:str=NOTSET pads:ints strides:ints dilations:ints ceil_mode:int=0", T="i8 u8",
)  # fmt: skip
def nhwc_max_pool(b: Body) -> Value:
    """MaxPool of images with their channels last"""
    return channels_last(b, b("MaxPool", channels_first(b, b.given("x")), **b.node.attrs))


@operator(
    "ConvTransposeWithDynamicPads", "X:T W:T Pads:i64? B:T?", "Y:T",
    "kernel_shape:ints output_padding:ints dilations:ints strides:ints auto_pad:str=NOTSET group:int=1",
    T="f32 f16 f64",
)  # fmt: skip
def conv_transpose_with_dynamic_pads(b: Body) -> Value | None:
    """ConvTranspose whose pads are an input; the reference runs it where they are not constant"""
    attrs, pads = dict(b.node.attrs), b.maybe("Pads")
    if pads is not None:
        attrs["pads"] = ints(pads)
        if attrs["pads"] is None:
            return None
    return b("ConvTranspose", b.given("X"), b.given("W"), b.maybe("B"), **attrs)


def channels_first(b: Body, x: Value) -> Value:
    """[n, …, c] → [n, c, …]"""
    rank = len(b.shape(x))
    return b.transpose(x, 0, rank - 1, *range(1, rank - 1))


def channels_last(b: Body, x: Value) -> Value:
    """[n, c, …] → [n, …, c]"""
    rank = len(b.shape(x))
    return b.transpose(x, 0, *range(2, rank), 1)


# ---- sums, softmax, dropout ----


@operator("BiasAdd", "X:T bias:T skip:T", "Y:T", T="f32 f16")
def bias_add(b: Body) -> Value:
    """X + bias + skip"""
    return b("Add", b("Add", b.given("X"), b.given("bias")), b.given("skip"))


@operator("BiasSplitGelu", "X:T bias:T", "Y:T", T="f32 f16")
def bias_split_gelu(b: Body) -> Value:
    """The first half of X + bias times the Gelu of the second"""
    x = b("Add", b.given("X"), b.given("bias"))
    last = len(b.shape(x)) - 1
    half = b.shape(x)[last] // 2
    left, right = b.split(x, last, [half, half])
    return b("Mul", left, b("Gelu", right))


@operator("BiasSoftmax", "data:T bias:T", "output:T", "axis:int=1 is_inner_broadcast:int!", T="f32 f16 f64")
def bias_softmax(b: Body) -> Value:
    """Softmax(data + bias) over the axes from `axis` on as one; an outer bias repeats along axes before `axis`"""
    x, bias = b.given("data"), b.given("bias")
    shape = b.shape(x)
    axis = axis_of(b.node, b.attr("axis"), len(shape))
    if not b.attr("is_inner_broadcast") and len(b.shape(bias)) < len(shape):
        lead = len(shape) - len(b.shape(bias))
        bias = b.reshape(bias, (*b.shape(bias)[:axis], *(1,) * lead, *b.shape(bias)[axis:]))
    flat = b.reshape(b("Add", x, bias), (prod(shape[:axis]), prod(shape[axis:])))
    return b.reshape(b("Softmax", flat, axis=1), shape)


_DROPOUT: dict[str, Any] = {"T": _ALL, "T1": _ALL, "T2": "bool"}


@operator(
    "BiasDropout",
    "data:T bias:T residual:T? ratio:T1? training_mode:T2?",
    "output:T mask:T2?",
    "seed:int",
    **_DROPOUT,
)
def bias_dropout(b: Body) -> list[Value | None]:
    """Dropout(data + bias) + residual"""
    training = [] if b.maybe("training_mode") is None else [b.maybe("ratio"), b.maybe("training_mode")]
    y, mask = b.many("Dropout", b("Add", b.given("data"), b.given("bias")), *training, count=2)
    residual = b.maybe("residual")
    return [y if residual is None else b("Add", y, residual), mask]


@operator("IsAllFinite", "input:V*", "output:bool", "isinf_only:int=0 isnan_only:int=0", V=_ALL)
def is_all_finite(b: Body) -> Value:
    """Whether no element of any input is infinite or NaN"""
    found: Value | None = None
    for x in b.rest("input"):
        size = b.reshape(x, (x.size or 0,))
        bad = []
        if not b.attr("isnan_only"):
            bad.append(b("IsInf", size))
        if not b.attr("isinf_only"):
            bad.append(b("IsNaN", size))
        either = bad[0] if len(bad) == 1 else b("Or", *bad)
        worst = b("ReduceMax", b.cast(either, "i32"), keepdims=0)
        found = worst if found is None else b("Max", found, worst)
    if found is None:
        b.fail("it has no inputs")
    return b("Equal", found, b.const(0, "i32"))


# ---- image norms ----

_NORM = "groups:int! activation:int! epsilon:float=1e-5 channels_last:int=1"


@operator("GroupNorm", "X:T gamma:M beta:M", "Y:T", _NORM, T="f32 f16", M="f32 f16")
def group_norm(b: Body) -> Value:
    """GroupNormalization of images with their channels last, or first; then x sigmoid(x) if asked for"""
    return _group_norm(b, b.given("X"))


@operator("SkipGroupNorm", "X:T gamma:M beta:M skip:T bias:T?", "Y:T S:T?", _NORM, T="f32 f16", M="f32 f16")
def skip_group_norm(b: Body) -> list[Value | None]:
    """GroupNorm(X + skip + bias), the skip of the same shape or one row an image"""
    x, skip, bias = b.given("X"), b.given("skip"), b.maybe("bias")
    shape = b.shape(skip)
    if len(shape) == 2:
        skip = b.reshape(skip, (shape[0], 1, 1, shape[1]) if b.attr("channels_last") else (*shape, 1, 1))
    elif len(shape) == 4 and not b.attr("channels_last") and shape[1:3] == (1, 1):
        skip = b.reshape(skip, (shape[0], shape[3], 1, 1))
    total = b("Add", x, skip)
    if bias is not None:
        total = b("Add", total, bias if b.attr("channels_last") else b.reshape(bias, (-1, 1, 1)))
    return [_group_norm(b, total), total]


def _group_norm(b: Body, x: Value) -> Value:
    last = b.attr("channels_last")
    image = channels_first(b, x) if last else x
    gamma, beta = (b.cast(b.given(n), x.dtype) for n in ("gamma", "beta"))
    y = b("GroupNormalization", image, gamma, beta, num_groups=b.attr("groups"), epsilon=b.attr("epsilon"))
    y = b("Swish", y, alpha=1.0) if b.attr("activation") else y
    return channels_last(b, y) if last else y
