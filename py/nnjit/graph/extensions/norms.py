"""Normalisations over rows: (Skip)(Simplified)LayerNormalization, as language models carry them."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir import Value
from .body import Body
from .declare import FLOATS, Outputs, operator

_WIDTH = {"f16": 2, "bf16": 2, "f32": 4, "f64": 8}


def rms(b: Body, x: Value, scale: Value, epsilon: float, axis: int = -1) -> Value:
    """x / sqrt(mean(x²) + ε) · scale"""
    return b("RMSNormalization", x, scale, axis=axis, epsilon=epsilon)


def inverse_rms(b: Body, x: Value, epsilon: float, axis: int = -1) -> Value:
    """1 / sqrt(mean(x²) + ε) over the axes from `axis` on, which stay with one element, as f32"""
    rank = len(b.shape(x))
    wide = b.cast(x, "f32") if _WIDTH[x.dtype] < 4 else x
    mean = b("ReduceMean", b("Mul", wide, wide), b.const(list(range(axis % rank, rank))), keepdims=1)
    return b("Reciprocal", b("Sqrt", b("Add", mean, b.const(epsilon, mean.dtype))))


@operator(
    "SimplifiedLayerNormalization", "X:T scale:V", "Y:V inv_std_var:U?",
    "axis:int=-1 epsilon:float=1e-05 stash_type:int=1",
    domain="", T=f"{FLOATS} f64", V=f"{FLOATS} f64", U="f32 f64",
)  # fmt: skip
@operator(
    "SimplifiedLayerNormalization", "X:T scale:V", "Y:V inv_std_var:U?",
    "axis:int=-1 epsilon:float=1e-05 stash_type:int=1",
    T=f"{FLOATS} f64", V=f"{FLOATS} f64", U="f32 f64",
)  # fmt: skip
def simplified_layer_normalization(b: Body) -> Outputs:
    """RMSNormalization that may read and write different types"""
    x, scale = b.given("X"), b.given("scale")
    axis, epsilon, to = b.attr("axis"), b.attr("epsilon"), scale.dtype
    wide = x.dtype if _WIDTH[x.dtype] >= _WIDTH[to] else to
    x = b.cast(x, wide)
    y = b.cast(rms(b, x, b.cast(scale, wide), epsilon, axis), to)
    return [y, inverse_rms(b, x, epsilon, axis) if b.wants(1) else None]


def _summed(b: Body) -> Value:
    """input + skip + bias; skip may lack the batch, or have one of it"""
    x, skip, bias = b.given("input"), b.given("skip"), b.maybe("bias")
    shape = b.dims(x, 2, 3)
    other = b.shape(skip)
    if other not in (shape, shape[1:], (1, *shape[1:])):
        b.fail("skip is neither as large as the input nor one row of its batch", list(shape), list(other))
    x = b("Add", x, skip)
    return x if bias is None else b("Add", x, bias)


def _rows(b: Body, *names: str) -> None:
    """Fails unless each of these is as long as a row."""
    wide = b.shape(b.given("input"))[-1]
    for name in names:
        value = b.maybe(name)
        if value is not None and value.shape != (wide,):
            b.fail(f"{name} is not as long as a row of the input", [wide], list(b.shape(value)))


@operator(
    "SkipLayerNormalization", "input:T skip:T gamma:T beta:T? bias:T?",
    "output:T mean:U? inv_std_var:U? input_skip_bias_sum:T?", "epsilon:float=1e-12", T=FLOATS, U="f32",
)  # fmt: skip
def skip_layer_normalization(b: Body) -> Sequence[Value | None]:
    """LayerNormalization of input + skip + bias; the sum is an output too"""
    _rows(b, "gamma", "beta", "bias")
    x = _summed(b)
    count = 3 if b.wants(1) or b.wants(2) else 1
    found = b.many(
        "LayerNormalization", x, b.given("gamma"), b.maybe("beta"), count=count, axis=-1,
        epsilon=b.attr("epsilon"),
    )  # fmt: skip
    return [*found, *[None] * (3 - count), x]


@operator(
    "SkipSimplifiedLayerNormalization", "input:T skip:T gamma:T bias:T?",
    "output:T mean:U? inv_std_var:U? input_skip_bias_sum:T?", "epsilon:float=1e-12", T=FLOATS, U="f32",
)  # fmt: skip
def skip_simplified_layer_normalization(b: Body) -> Sequence[Value | None]:
    """RMSNormalization of input + skip + bias; the sum is an output too"""
    if b.wants(1):
        b.refuse("the output 'mean'", "RMS normalisation has no mean: leave that output out")
    _rows(b, "gamma", "bias")
    x = _summed(b)
    epsilon = b.attr("epsilon")
    return [
        rms(b, x, b.given("gamma"), epsilon), None, inverse_rms(b, x, epsilon) if b.wants(2) else None, x,
    ]  # fmt: skip
