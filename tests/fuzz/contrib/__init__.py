"""Operators of com.microsoft for language models, drawn at random and judged by native onnxruntime.

`CASES` has a function an operator: from a random generator, the node's attributes, its operands and which of them are
constants of the model. `python -m tests.fuzz.contrib` runs them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .attention import attention, decoder_masked, grouped, multi_head
from .drawn import Drawn, Rng
from .layers import activation, embed, experts, norm, quantised_rows, rotary

CASES: dict[str, Callable[[Rng], Drawn]] = {
    "activation": activation, "norm": norm, "RotaryEmbedding": rotary, "MultiHeadAttention": multi_head,
    "Attention": attention, "DecoderMaskedMultiHeadAttention": decoder_masked, "GroupQueryAttention": grouped,
    "EmbedLayerNormalization": embed, "GatherBlockQuantized": quantised_rows,
    "experts": experts,
}  # fmt: skip


def draw(name: str, seed: int) -> Drawn:
    return CASES[name](np.random.default_rng([seed, *name.encode()]))
