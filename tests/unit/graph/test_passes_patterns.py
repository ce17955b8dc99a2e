"""Activations and normalisations written out by exporters are recognised; what is only nearly one is not."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.graph.tools import bound, ops, randn, same

X = randn(2, 5, 8)
G, B = randn(8, seed=1), randn(8, seed=2)
FEEDS = {"x": X, "g": G, "b": B}
CONSTANTS = """
  half = Constant<value_float = 0.5>()  one = Constant<value_float = 1.0>()
  two = Constant<value_float = 2.0>()
  three = Constant<value_float = 3.0>()  six = Constant<value_float = 6.0>()
  zero = Constant<value_float = 0.0>()
  r2 = Constant<value_float = 1.4142135>()  ir2 = Constant<value_float = 0.70710678>()
  k = Constant<value_float = 0.044715>()  s2pi = Constant<value_float = 0.7978845608>()
  sixth = Constant<value_float = 0.16666667>()  eps = Constant<value_float = 1e-5>()
  last = Constant<value_ints = [-1]>()  mid = Constant<value_ints = [1]>()
  tail = Constant<value_ints = [1, 2]>()
"""


def left(body: str, rtol: float = 1e-4) -> list[str]:
    text = f"g (float[2,5,8] x, float[8] g, float[8] b) => (float[N,M,K] y) {{ {CONSTANTS} {body} }}"
    return ops(same(text, FEEDS, rtol=rtol, atol=1e-5))


@pytest.mark.parametrize(
    "body",
    [
        "d = Div(x, r2) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)",
        "d = Mul(x, ir2) e = Erf(d) a = Add(one, e) h = Mul(half, x) y = Mul(h, a)",
        "d = Mul(ir2, x) e = Erf(d) a = Add(e, one) h = Mul(a, half) y = Mul(x, h)",
        "d = Div(x, r2) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Div(m, two)",
    ],
)
def test_gelu_by_erf(body: str) -> None:
    assert left(body) == ["Gelu"]


@pytest.mark.parametrize(
    "body",
    [
        "p = Pow(x, three) c = Mul(p, k) s = Add(x, c) t = Mul(s, s2pi) "
        "h = Tanh(t) a = Add(h, one) m = Mul(x, half) y = Mul(m, a)",
        "q = Mul(x, x) p = Mul(q, x) c = Mul(k, p) s = Add(c, x) t = Mul(s2pi, s) "
        "h = Tanh(t) a = Add(one, h) m = Mul(half, a) y = Mul(x, m)",
        "c = Mul(x, k) c1 = Mul(c, x) c2 = Add(c1, one) n = Mul(x, s2pi) "
        "t = Mul(n, c2) h = Tanh(t) a = Add(h, one) m = Mul(a, half) y = Mul(m, x)",
    ],
)
def test_gelu_by_tanh(body: str) -> None:
    graph_ops = left(body)
    assert graph_ops == ["Gelu"]


@pytest.mark.parametrize(
    "body",
    [
        "d = Div(x, r2) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, two)",  # twice, not half
        "d = Div(x, two) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)",  # another scale
        "z = Neg(x) d = Div(x, r2) e = Erf(d) "
        "a = Add(e, one) m = Mul(z, a) y = Mul(m, half)",  # another factor
        "d = Div(x, r2) e = Erf(d) a = Add(e, two) m = Mul(x, a) y = Mul(m, half)",  # 2 + erf
        "p = Pow(x, two) c = Mul(p, k) s = Add(x, c) t = Mul(s, s2pi) "
        "h = Tanh(t) a = Add(h, one) m = Mul(x, half) y = Mul(m, a)",
        "p = Pow(x, three) c = Mul(p, half) s = Add(x, c) t = Mul(s, s2pi) "
        "h = Tanh(t) a = Add(h, one) m = Mul(x, half) y = Mul(m, a)",
    ],
)
def test_not_quite_gelu(body: str) -> None:
    assert "Gelu" not in left(body)


def test_gelu_whose_inner_values_are_wanted_too() -> None:
    text = (
        f"g (float[4] x) => (float[4] y, float[4] e) {{ {CONSTANTS} d = Div(x, r2) "
        f"e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half) }}"
    )
    assert sorted(ops(same(text, {"x": randn(4)}, rtol=1e-4))) == ["Div", "Erf", "Gelu"]


@pytest.mark.parametrize(
    ("body", "op"),
    [
        ("s = Sigmoid(x) y = Mul(x, s)", "Swish"),
        ("m = Mul(x, two) s = Sigmoid(m) y = Mul(s, x)", "Swish"),
        ("s = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x) y = Mul(x, s)", "HardSwish"),
        ("a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)", "HardSwish"),
        ("a = Add(x, three) c = Clip(a, zero, six) m = Mul(c, x) y = Mul(m, sixth)", "HardSwish"),
        ("a = Add(x, three) c = Clip(a, zero, six) d = Div(c, six) y = Mul(x, d)", "HardSwish"),
        ("a = Add(three, x) c = Clip(a, zero, six) y = Div(c, six)", "HardSigmoid"),
        ("p = Softplus(x) t = Tanh(p) y = Mul(x, t)", "Mish"),
    ],
)
def test_gated_activations(body: str, op: str) -> None:
    assert left(body) == [op]


@pytest.mark.parametrize(
    "body",
    [
        "z = Neg(x) s = Sigmoid(z) y = Mul(x, s)",
        "s = HardSigmoid(x) y = Mul(x, s)",  # slope 0.2
        "a = Add(x, two) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)",
        "a = Add(x, three) c = Clip(a, zero, three) m = Mul(x, c) y = Div(m, six)",
        "a = Add(x, three) c = Clip(a, zero) m = Mul(x, c) y = Div(m, six)",
        "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, three)",
    ],
)
def test_not_quite_gated(body: str) -> None:
    assert not {"Swish", "HardSwish", "Mish"} & set(left(body))


LN = (
    "m = ReduceMean(x, last) d = Sub(x, m) "
    "{square} v = ReduceMean(q, last) e = Add(v, eps) s = Sqrt(e) {divide}"
)


@pytest.mark.parametrize("square", ["q = Pow(d, two)", "q = Mul(d, d)"])
@pytest.mark.parametrize(
    "divide", ["n = Div(d, s)", "r = Reciprocal(s) n = Mul(d, r)", "r = Div(one, s) n = Mul(r, d)"]
)
def test_layer_normalization(square: str, divide: str) -> None:
    body = LN.format(square=square, divide=divide)
    assert left(body + " h = Mul(n, g) y = Add(h, b)")[0] == "LayerNormalization"
    assert left(body.replace("n = ", "y = ")) == ["LayerNormalization"]


def test_layer_normalization_takes_scale_and_bias_that_are_constant() -> None:
    body = LN.format(square="q = Mul(d, d)", divide="n = Div(d, s)")
    text = f"""g (float[2,5,8] x) => (float[2,5,8] y) {{ {CONSTANTS}
      g = Constant<value = float[8] {{1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0}}>()  b = Constant<value_float = 0.25>()
      {body} h = Mul(g, n) y = Add(b, h) }}"""
    graph = same(text, {"x": X}, rtol=1e-4, atol=1e-5)
    assert ops(graph) == ["LayerNormalization"]
    assert graph.nodes[0].attrs["axis"] == 2 and graph.nodes[0].attrs["epsilon"] == pytest.approx(1e-5)
    assert [None if v is None else v.shape for v in graph.nodes[0].inputs] == [(2, 5, 8), (8,), (8,)]


def test_layer_normalization_over_two_axes() -> None:
    body = LN.format(square="q = Mul(d, d)", divide="y = Div(d, s)").replace("last", "tail")
    assert left(body) == ["LayerNormalization"]


def test_two_subtractions_of_one_mean() -> None:
    """PyTorch's older exporter writes Sub twice."""
    body = (
        "m = ReduceMean(x, last) d = Sub(x, m) c = Sub(x, m) q = Pow(c, two) "
        "v = ReduceMean(q, last) e = Add(v, eps) s = Sqrt(e) y = Div(d, s)"
    )
    assert left(body) == ["LayerNormalization"]


@pytest.mark.parametrize(
    "body",
    [
        LN.format(square="q = Mul(d, d)", divide="y = Div(d, s)").replace("last", "mid"),  # not the last axis
        LN.format(square="q = Mul(d, x)", divide="y = Div(d, s)"),  # not a square
        LN.format(square="q = Mul(d, d)", divide="y = Div(x, s)"),  # not centred
        LN.format(square="q = Mul(d, d)", divide="y = Div(s, d)"),  # upside down
    ],
)
def test_not_quite_layer_normalization(body: str) -> None:
    assert "LayerNormalization" not in left(body, rtol=1e-3)


def test_rms_normalization() -> None:
    body = (
        "q = Pow(x, two) v = ReduceMean(q, last) e = Add(v, eps) s = Sqrt(e) r = Reciprocal(s) n = Mul(x, r)"
    )
    assert left(body + " y = Mul(n, one)") == ["RMSNormalization"]
    text = f"""g (float[2,5,8] x) => (float[2,5,8] y) {{ {CONSTANTS}
      g = Constant<value = float[8] {{1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0}}>() {body} y = Mul(g, n) }}"""
    assert ops(same(text, {"x": X}, rtol=1e-4)) == ["RMSNormalization"]


SOFTMAX = "m = ReduceMax(x, {a}) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, {b}) y = Div(e, s)"


@pytest.mark.parametrize("axis", ["last", "mid"])
def test_softmax(axis: str) -> None:
    assert left(SOFTMAX.format(a=axis, b=axis)) == ["Softmax"]


def test_softmax_over_two_different_axes_is_none() -> None:
    assert "Softmax" not in left(SOFTMAX.format(a="last", b="mid"))


def test_old_softmax_over_the_last_axis_needs_no_reshape() -> None:
    graph = bound("g (float[2,5,8] x) => (float[2,5,8] y) { y = Softmax<axis = 2>(x) }", {"x": X}, opset=11)
    assert ops(graph) == ["Softmax"]


CONV = "g (float[1,2,6,6] x) => (float[1,4,N,M] y) { w = Constant<value = float[4,2,3,3] {%s}>() %s }"
WEIGHTS = ",".join(f"{v:.3f}" for v in randn(72))


def conv(body: str) -> list[str]:
    extra = """ c4 = Constant<value = float[4] {0.5, -1.0, 2.0, 0.1}>()
      p4 = Constant<value = float[4] {0.5, 1.0, 2.0, 0.1}>()
      c411 = Constant<value = float[4,1,1] {0.5, -1.0, 2.0, 0.1}>()  k = Constant<value = float[1] {3.0}>()
      col = Constant<value = float[4] {0.5, -1.0, 2.0, 0.1}>()
      pads = Constant<value_ints = [0, 0, 1, 2, 0, 0, 0, 1]>()
      cpads = Constant<value_ints = [0, 1, 0, 0, 0, -1, 0, 0]>()
      five = Constant<value_float = 5.0>() """
    return ops(same(CONV % (WEIGHTS, extra + body), {"x": randn(1, 2, 6, 6)}, rtol=1e-4, atol=1e-4))


@pytest.mark.parametrize(
    "body",
    [
        "a = Conv(x, w) y = BatchNormalization(a, c4, c4, c4, p4)",
        "a = Conv(x, w, c4) y = BatchNormalization(a, c4, c4, c4, p4)",
        "a = Conv(x, w) y = Add(a, c411)",
        "a = Conv(x, w, c4) m = Mul(k, a) y = Add(m, k)",
        "a = Conv(x, w, c4) m = Div(a, k) y = Sub(m, c411)",
        "p = Pad(x, pads) y = Conv<pads = [1, 0, 0, 0]>(p, w)",
    ],
)
def test_folded_into_the_convolution(body: str) -> None:
    assert conv(body) == ["Conv"]


@pytest.mark.parametrize(
    ("body", "stays"),
    [
        ("a = Conv(x, w) b = Neg(a) c = Add(a, c411) y = Mul(b, c)", "Add"),  # the result is read twice
        ("a = Conv(x, w) y = Add(a, col)", "Add"),  # along the last axis
        ("a = Conv(x, w) y = Sub(k, a)", "Sub"),
        ("a = Conv(x, w) y = Div(k, a)", "Div"),
        ("p = Pad(x, pads, five) y = Conv(p, w)", "Pad"),  # not zeros
        ('p = Pad<mode = "edge">(x, pads) y = Conv(p, w)', "Pad"),
        ("p = Pad(x, cpads) y = Conv(p, w)", "Pad"),  # along the channels
        ('p = Pad(x, pads) y = Conv<auto_pad = "SAME_UPPER">(p, w)', "Pad"),
    ],
)
def test_not_folded_into_the_convolution(body: str, stays: str) -> None:
    assert stays in conv(body)


def test_batchnorm_alone_is_multiply_and_add() -> None:
    text = """g (float[2,3,4] x) => (float[2,3,4] y) { s = Constant<value = float[3] {0.5, -1.0, 2.0}>()
      v = Constant<value = float[3] {0.5, 1.0, 2.0}>()
      y = BatchNormalization<epsilon = 0.01>(x, s, s, s, v) }"""
    assert ops(same(text, {"x": randn(2, 3, 4)}, rtol=1e-4, atol=1e-5)) == ["Mul", "Add"]


def test_transposed_convolution_scales_its_second_weight_axis() -> None:
    text = """g (float[1,2,4,4] x) => (float[1,3,5,5] y) {
      w = Constant<value = float[2,3,2,2] {%s}>() s = Constant<value = float[3] {0.5, -1.0, 2.0}>()
      v = Constant<value = float[3] {0.5, 1.0, 2.0}>()
      a = ConvTranspose(x, w) y = BatchNormalization(a, s, s, s, v) }"""
    weights = ",".join(f"{v:.3f}" for v in randn(24))
    assert ops(same(text % weights, {"x": randn(1, 2, 4, 4)}, rtol=1e-4, atol=1e-5)) == ["ConvTranspose"]


def test_large_weights_are_scaled_once_at_load() -> None:
    text = """g (float[1,200,3,3] x, float[200,200,2,2] w0) => (float[1,200,2,2] y) {
      n = Constant<value_ints = [200,200,2,2]>() w = ConstantOfShape<value = float[1] {0.01}>(n)
      a = Conv(x, w) k = Constant<value = float[1] {3.0}>() y = Mul(a, k) }"""
    graph = bound(text, {"x": randn(1, 200, 3, 3), "w0": np.zeros((200, 200, 2, 2), np.float32)})
    assert [(n.op, n.once) for n in graph.nodes] == [
        ("ConstantOfShape", True),
        ("Mul", True),
        ("Conv", False),
    ]
