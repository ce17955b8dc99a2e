"""Mixtures of experts: MoE, and QMoE with weights of few bits.

Every expert sees every token, and what it says counts as much as the router says, which is nothing for all but k of
them: shapes are then known before the run, at the price of experts / k times the work.
"""

from __future__ import annotations

from ..ir import Value
from .body import Body
from .declare import FLOATS, MICROSOFT, operator

_ATTRIBUTES = (
    "k:int=1 activation_type:str=relu normalize_routing_weights:int=0 use_sparse_mixer:int=0 activation_alpha:float=1"
    " activation_beta:float=0 swiglu_fusion:int=0 swiglu_limit:float"
)


@operator(
    "MoE",
    "input:T router_probs:T fc1_experts_weights:T fc1_experts_bias:T? fc2_experts_weights:T fc2_experts_bias:T?"
    " fc3_experts_weights:T? fc3_experts_bias:T?",
    "output:T", _ATTRIBUTES, T=FLOATS,
)  # fmt: skip
def moe(b: Body) -> Value:
    """Σ over the k best experts of share · fc2(activation(fc1(x))), fc3(x) a factor of it if there is one"""
    x = _tokens(b)
    shares = _shares(b, b.shape(x)[0])

    def linear(x: Value, name: str) -> Value | None:
        weights, bias = b.maybe(f"{name}_experts_weights"), b.maybe(f"{name}_experts_bias")
        if weights is None:
            return None
        experts, columns, deep = b.dims(weights, 3)
        if b.shape(x)[-1] != deep or experts != b.shape(shares)[0]:
            b.fail(
                f"{name}_experts_weights does not go with what it reads",
                b.shape(x)[-1],
                list(b.shape(weights)),
            )
        y = b("MatMul", x, b.transpose(weights, 0, 2, 1))
        return y if bias is None else b("Add", y, b.reshape(bias, (experts, 1, columns)))

    first = linear(x, "fc1")
    assert first is not None
    y = linear(_activated(b, first, linear(x, "fc3")), "fc2")
    assert y is not None
    y = b("ReduceSum", b("Mul", y, shares), b.const([0]), keepdims=0)
    return b.reshape(y, b.shape(b.given("input")))


@operator(
    "QMoE",
    "input:T router_probs:T fc1_experts_weights:T1 fc1_scales:T2? fc1_experts_bias:T? fc2_experts_weights:T1"
    " fc2_scales:T2? fc2_experts_bias:T? fc3_experts_weights:T1? fc3_scales:T2? fc3_experts_bias:T?"
    " fc1_zero_points:T1? fc2_zero_points:T1? fc3_zero_points:T1? router_weights:T? fc1_global_scale:T4?"
    " fc2_global_scale:T4? fc1_act_scale:T4? fc2_act_scale:T4? fc1_act_block_scale:T2? fc2_act_block_scale:T2?",
    "output:T",
    f"{_ATTRIBUTES} block_size:int=0 expert_weight_bits:int=4 fc1_expert_weight_bits:int fc2_expert_weight_bits:int"
    " fc3_expert_weight_bits:int quant_type:str=int accuracy_level:int=0 weights_prepacked:int=-1",
    T=FLOATS, T1="u8 float8e4m3fn", T2=f"{FLOATS} float8e8m0 float8e4m3fn", T4="f32",
)  # fmt: skip
def qmoe(b: Body) -> Value:
    """MoE whose weights have 4 or 8 bits, with a scale for each row or each block of one: a MatMulNBits an expert"""
    if b.attr("quant_type") != "int" or b.given("fc1_experts_weights").dtype != "u8":
        b.refuse(f"quant_type {b.attr('quant_type')}", "quantise to integers of 4 or 8 bits")
    x = _tokens(b)
    shares = _shares(b, b.shape(x)[0])
    parts = b.split(shares, 0, [1] * b.shape(shares)[0])
    total: Value | None = None
    for expert, share in enumerate(parts):
        first = _few_bits(b, x, "fc1", expert)
        assert first is not None
        y = _few_bits(b, _activated(b, first, _few_bits(b, x, "fc3", expert)), "fc2", expert)
        assert y is not None
        y = b("Mul", y, b.reshape(share, b.shape(share)[1:]))
        total = y if total is None else b("Add", total, y)
    assert total is not None
    return b.reshape(total, b.shape(b.given("input")))


def _tokens(b: Body) -> Value:
    """The input as [tokens, hidden]"""
    x = b.given("input")
    shape = b.dims(x, 2, 3)
    return b.reshape(x, (shape[0] if len(shape) == 2 else shape[0] * shape[1], shape[-1]))


def _shares(b: Body, tokens: int) -> Value:
    """How much each expert counts for each token, [experts, tokens, 1] in the input's type"""
    if b.attr("use_sparse_mixer"):
        b.refuse("use_sparse_mixer", "export with plain routing")
    scores = b.given("router_probs")
    count, experts = b.dims(scores, 2)
    k = b.attr("k")
    if count != tokens:
        b.fail("router_probs has not one row a token", tokens, count)
    if not 1 <= k <= experts:
        b.fail(f"{k} of {experts} experts cannot be chosen", f"1 to {experts}", k)
    best = b.many("TopK", scores, b.const([k]), count=2, axis=1)[1]
    marks = b("OneHot", best, b.const(experts), b.const([0, 1], "f32"), axis=-1)
    chosen = b("ReduceSum", marks, b.const([1]), keepdims=0)
    wide = b.cast(scores, "f32")
    few = b.node.op == "QMoE"
    given = b.maybe("router_weights") if few else None
    p = b("Softmax", wide, axis=-1) if given is None else b.cast(given, "f32")
    p = b("Mul", p, chosen)
    # onnxruntime's QMoE takes the softmax over the chosen ones, whatever the attribute says
    if b.attr("normalize_routing_weights") or (few and given is None):
        p = b("Div", p, b("ReduceSum", p, b.const([1]), keepdims=1))
    return b.cast(b.reshape(b.transpose(p, 1, 0), (experts, tokens, 1)), scores.dtype)


def _activated(b: Body, x: Value, factor: Value | None) -> Value:
    """activation(x), times the third product if there is one"""
    kind = b.attr("activation_type")
    if kind == "swiglu":
        return _swiglu(b, x, factor)
    if kind == "gelu":
        y = b("Gelu", x, approximate="tanh")
    elif kind in ("relu", "silu", "identity"):
        y = {"relu": lambda: b("Relu", x), "silu": lambda: b("Swish", x), "identity": lambda: x}[kind]()
    else:
        b.refuse(f"activation_type {kind!r}", "it is relu, gelu, silu, identity or swiglu")
    return y if factor is None else b("Mul", y, factor)


def _swiglu(b: Body, x: Value, factor: Value | None) -> Value:
    """G sigmoid(alpha G) (L + beta): G and L lie in turns or behind each other in x, or L is the third product"""
    fusion, limit, shape = b.attr("swiglu_fusion"), b.attr("swiglu_limit"), b.shape(x)
    if fusion == 0:
        if factor is None:
            b.fail("swiglu that is not fused needs fc3_experts_weights")
        gate, line = x, factor
    else:
        half = shape[-1] // 2
        pairs = (half, 2) if fusion == 1 else (2, half)
        axis = len(shape) if fusion == 1 else len(shape) - 1
        both = b.split(b.reshape(x, (*shape[:-1], *pairs)), axis, [1, 1])
        gate, line = (b.reshape(part, (*shape[:-1], half)) for part in both)
    if limit is not None:
        low, high = b.const(-limit, x.dtype), b.const(limit, x.dtype)
        gate, line = b("Clip", gate, None, high), b("Clip", line, low, high)
    gate = b("Swish", gate, alpha=b.attr("activation_alpha"))
    return b("Mul", gate, b("Add", line, b.const(b.attr("activation_beta"), x.dtype)))


def _few_bits(b: Body, x: Value, name: str, expert: int) -> Value | None:
    """x times one expert's weights, whose codes lie as MatMulNBits has them"""
    weights = b.maybe(f"{name}_experts_weights")
    if weights is None:
        return None
    bits = b.attr(f"{name}_expert_weight_bits") or b.attr("expert_weight_bits")
    if bits not in (4, 8):
        b.refuse(f"weights of {bits} bits", "quantise to 4 or 8 bits")
    scales, zero, bias = (b.maybe(f"{name}_{part}") for part in ("scales", "zero_points", "experts_bias"))
    if scales is None:
        b.fail(f"{name}_scales is missing")
    _, columns, wide = b.dims(weights, 3)
    deep = wide * 8 // bits
    if b.shape(x)[-1] != deep:
        b.fail(f"{name}_experts_weights does not go with what it reads", b.shape(x)[-1], deep)
    block = b.attr("block_size")
    scale = _of_expert(b, scales, expert)
    if len(b.shape(scales)) == 2:  # one for a row: the same in each block
        if zero is not None:
            b.refuse("zero points of whole rows", "quantise in blocks")
        block = next((n for n in (256, 128, 64, 32, 16) if deep % n == 0), 0)
        if not block:
            b.refuse(f"rows of {deep} weights with one scale", "quantise in blocks")
        scale = b("Expand", b.reshape(scale, (columns, 1)), b.const([columns, deep // block]))
    codes = b.reshape(_of_expert(b, weights, expert), (columns, deep // block, block * bits // 8))
    operands = [codes, b.cast(scale, x.dtype), None if zero is None else _of_expert(b, zero, expert), None,
                None if bias is None else _of_expert(b, bias, expert)]  # fmt: skip
    while operands[-1] is None:
        operands.pop()
    return b("MatMulNBits", x, *operands, domain=MICROSOFT, K=deep, N=columns, bits=bits, block_size=block)


def _of_expert(b: Body, x: Value, expert: int) -> Value:
    """x[expert]; a constant stays where it lies"""
    shape = b.shape(x)[1:]
    if x.const is not None:
        return b.value(x.const.rows(expert, 1).reshaped(shape))
    return b.reshape(b.slice(x, 0, expert, expert + 1), shape)
