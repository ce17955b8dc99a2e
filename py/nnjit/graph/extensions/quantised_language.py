"""BERT quantised by onnxruntime's transformer tools: QAttention and QEmbedLayerNormalization.

Their tensors of bytes are dequantised in front of the operator they are a form of; passes make the product one of
integers again, and let the tables be looked up as bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..ir import Value
from .body import Body
from .declare import MICROSOFT, operator
from .quantised import BYTES, dequantised


@operator(
    "QAttention",
    "input:T1 weight:T2 bias:F input_scale:F weight_scale:F mask_index:M? input_zero_point:T1?"
    " weight_zero_point:T2? past:F?",
    "output:F present:F?",
    "num_heads:int! unidirectional:int=0 scale:float mask_filter_value:float past_present_share_buffer:int=0"
    " do_rotary:int=0",
    T1=BYTES, T2=BYTES, F="f32 f16", M="i32",
)  # fmt: skip
def q_attention(b: Body) -> Sequence[Value | None]:
    """Attention whose input and weights are bytes; scales of the weights may differ by column"""
    x = dequantised(b, b.given("input"), b.given("input_scale"), b.maybe("input_zero_point"))
    w = dequantised(b, b.given("weight"), b.given("weight_scale"), b.maybe("weight_zero_point"), 1)
    attrs: dict[str, Any] = dict(b.node.attrs)
    inputs = [x, w, b.given("bias"), b.maybe("mask_index"), b.maybe("past")]
    return b.many("Attention", *inputs, count=2 if b.wants(1) else 1, domain=MICROSOFT, **attrs)


_TABLES = ("word_embedding", "position_embedding", "segment_embedding")


@operator(
    "QEmbedLayerNormalization",
    "input_ids:I segment_ids:I? word_embedding_quant:T position_embedding_quant:T segment_embedding:T? gamma_quant:T"
    " beta_quant:T mask:I? word_embedding_scale:F position_embedding_scale:F segment_embedding_scale:F?"
    " gamma_scale:F beta_scale:F word_embedding_zero_point:T position_embedding_zero_point:T"
    " segment_embedding_zero_point:T? gamma_zero_point:T beta_zero_point:T",
    "layernorm_out:F mask_index_out:I", "epsilon:float=1e-12", I="i32", T=BYTES, F="f32",
)  # fmt: skip
def q_embed_layer_normalization(b: Body) -> Sequence[Value | None]:
    """EmbedLayerNormalization whose tables, scale and shift are bytes, each with one scale and zero point"""

    def wide(name: str) -> Value | None:
        x = b.maybe(name if name == "segment_embedding" else f"{name}_quant")
        scale = b.maybe(f"{name}_scale")
        return None if x is None or scale is None else dequantised(b, x, scale, b.maybe(f"{name}_zero_point"))

    tables = [wide(n) for n in (*_TABLES, "gamma", "beta")]
    inputs = [b.given("input_ids"), b.maybe("segment_ids"), *tables, b.maybe("mask")]
    attrs: dict[str, Any] = {"epsilon": b.attr("epsilon")}
    return b.many("EmbedLayerNormalization", *inputs, count=2, domain=MICROSOFT, **attrs)
