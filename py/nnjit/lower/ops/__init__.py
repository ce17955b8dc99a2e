"""Lowering rules of the ONNX operators, a family a file; importing this fills the registry."""

from nnjit.lower.ops import (
    activation,
    einsum,
    gather,
    linear,
    norm,
    pad,
    pointwise,
    pool,
    quant,
    recurrent,
    reduce,
    resize,
    scatter,
    shape,
    transposed,
    trig,
)

__all__ = [
    "activation",
    "einsum",
    "gather",
    "linear",
    "norm",
    "pad",
    "pointwise",
    "pool",
    "quant",
    "recurrent",
    "reduce",
    "resize",
    "scatter",
    "shape",
    "transposed",
    "trig",
]
