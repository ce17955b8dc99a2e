"""Products of quantised tensors: QLinearConv, QGemm, DynamicQuantizeMatMul, MatMulIntegerToFloat of com.microsoft, and
an LSTM with weights of bytes. The products become MatMulInteger and QLinearConv, which have integer kernels.
"""

from __future__ import annotations

from ..ir import Value
from .body import Body
from .declare import operator
from .fused import channels_first, channels_last
from .quantised import BYTES, maybe_one, one, quantised

_WINDOW = "kernel_shape:ints auto_pad:str=NOTSET pads:ints strides:ints dilations:ints group:int=1"


@operator(
    "QLinearConv",
    "x:T1 x_scale:f32 x_zero_point:T1 w:T2 w_scale:f32 w_zero_point:T2 y_scale:f32 y_zero_point:T3 B:i32?",
    "y:T3", f"{_WINDOW} channels_last:int=0", T1=BYTES, T2=BYTES, T3=BYTES,
)  # fmt: skip
def qlinear_conv(b: Body) -> Value:
    """ONNX's own, whose images may have their channels last"""
    last = b.attr("channels_last")
    attrs = {k: v for k, v in b.node.attrs.items() if k != "channels_last"}
    x = channels_first(b, b.given("x")) if last else b.given("x")
    y = b("QLinearConv", x, *b.node.inputs[1:], **attrs)
    return channels_last(b, y) if last else y


@operator(
    "QGemm",
    "A:TA a_scale:f32 a_zero_point:TA B:TB b_scale:f32 b_zero_point:TB C:i32? y_scale:f32? y_zero_point:TYZ?",
    "Y:TY", "transA:int=0 transB:int=0 alpha:float=1.0", TA=BYTES, TB=BYTES, TYZ=BYTES, TY="f32 u8 i8",
)  # fmt: skip
def qgemm(b: Body) -> Value:
    """alpha * (A B' + C) times both scales, C being quantised by these scales as well; bytes if it has y_scale"""
    x = b.transpose(b.given("A"), 1, 0) if b.attr("transA") else b.given("A")
    w = b.transpose(b.given("B"), 1, 0) if b.attr("transB") else b.given("B")
    total = b("MatMulInteger", x, w, one(b, b.given("a_zero_point")), one(b, b.given("b_zero_point")))
    bias = b.maybe("C")
    total = total if bias is None else b("Add", total, bias)
    ratio = b("Mul", one(b, b.given("a_scale")), one(b, b.given("b_scale")))
    alpha = b.attr("alpha")
    ratio = ratio if alpha == 1 else b("Mul", ratio, b.const(alpha, "f32"))
    y = b("Mul", b.cast(total, "f32"), ratio)
    scale, zero = b.maybe("y_scale"), b.maybe("y_zero_point")
    return y if scale is None else quantised(b, y, scale, zero, "u8" if zero is None else zero.dtype)


def _to_float(
    b: Body, x: Value, x_scale: Value, x_zero: Value | None, w: Value, w_scale: Value, w_zero: Value | None,
    bias: Value | None,
) -> Value:  # fmt: skip
    """Cast(MatMulInteger(x, w)) * (x_scale * w_scale) + bias"""
    total = b("MatMulInteger", x, w, x_zero, w_zero)
    y = b("Mul", b.cast(total, x_scale.dtype), b("Mul", x_scale, w_scale))
    return y if bias is None else b("Add", y, bias)


@operator("DynamicQuantizeMatMul", "A:F B:T b_scale:F b_zero_point:T? bias:F?", "Y:F", F="f32", T=BYTES)
def dynamic_quantize_matmul(b: Body) -> Value:
    """A is quantised by its own range first"""
    x, scale, zero = b.many("DynamicQuantizeLinear", b.given("A"), count=3)
    w_scale = one(b, b.given("b_scale"))
    return _to_float(
        b, x, scale, zero, b.given("B"), w_scale, maybe_one(b, b.maybe("b_zero_point")), b.maybe("bias")
    )


@operator(
    "MatMulIntegerToFloat",
    "A:T1 B:T2 a_scale:F b_scale:F a_zero_point:T1? b_zero_point:T2? bias:F?", "Y:F",
    T1=BYTES, T2=BYTES, F="f32 f16",
)  # fmt: skip
def matmul_integer_to_float(b: Body) -> Value:
    """A B of bytes, times both scales, plus the bias"""
    zeros = [maybe_one(b, b.maybe(f"{n}_zero_point")) for n in "ab"]
    scales = [one(b, b.given(f"{n}_scale")) for n in "ab"]
    x, w = b.given("A"), b.given("B")
    return _to_float(b, x, scales[0], zeros[0], w, scales[1], zeros[1], b.maybe("bias"))


@operator(
    "DynamicQuantizeLSTM",
    "X:F W:T R:T B:F? sequence_lens:i32? initial_h:F? initial_c:F? P:F? W_scale:F W_zero_point:T R_scale:F "
    "R_zero_point:T",
    "Y:F? Y_h:F? Y_c:F?",
    "direction:str=forward hidden_size:int activations:strs activation_alpha:floats activation_beta:floats "
    "clip:float input_forget:int=0",
    F="f32", T=BYTES,
)  # fmt: skip
def dynamic_quantize_lstm(b: Body) -> list[Value]:
    """An LSTM whose weights [directions, inputs, 4 * hidden] are bytes: they are widened once, activations stay f32.

    onnxruntime quantises the activations as well, by their range at each step; this keeps what that rounds off."""
    weights = []
    for name in "WR":
        w, scale, zero = b.given(name), b.given(f"{name}_scale"), b.given(f"{name}_zero_point")
        b.dims(w, 3)
        wide = b("Sub", b.cast(w, "f32"), _per_direction(b, b.cast(zero, "f32")))
        weights.append(b.transpose(b("Mul", wide, _per_direction(b, scale)), 0, 2, 1))
    rest = [b.maybe(n) for n in ("B", "sequence_lens", "initial_h", "initial_c", "P")]
    return b.many("LSTM", b.given("X"), *weights, *rest, count=3, **b.node.attrs)


def _per_direction(b: Body, x: Value) -> Value:
    """[directions] or [directions, columns] so that it broadcasts against [directions, inputs, columns]."""
    shape = b.dims(x, 0, 1, 2)
    return b.reshape(x, (shape[0], 1, shape[1]) if len(shape) == 2 else (*shape, 1, 1)) if shape else x


@operator("MatMulInteger16", "A:T1 B:T2", "Y:i32", T1="i16", T2="i16")
def matmul_integer16(b: Body) -> Value:
    """A B of integers of 16 bits, summed in 32"""
    return b("MatMul", b.cast(b.given("A"), "i32"), b.cast(b.given("B"), "i32"))
