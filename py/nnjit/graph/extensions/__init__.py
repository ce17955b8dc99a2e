"""Operators of other domains than ONNX's own, and operators that ONNX had once: what they take and what they mean.

A file an operator family, each entry written with `declare.operator`: inputs, outputs, types and attributes as
onnxruntime declares them, and a function that says the operator in ONNX's own. Wherever a graph is bound,
`expanding.expand` puts those nodes in its place, so that every pass and kernel serves them; `nbits` has a
kernel of its own.
"""

from . import (
    activations,
    embedding,
    experts,
    fused,
    grouped,
    learned,
    legacy,
    multihead,
    nbits,
    norms,
    quantised,
    quantised_language,
    quantised_products,
    rotary,
    sundry,
    trees,
)
from .declare import EXPANSIONS, MICROSOFT, SCHEMAS, Expansion

# Imported for what they declare.
FAMILIES = (
    activations,
    embedding,
    experts,
    fused,
    grouped,
    learned,
    legacy,
    multihead,
    nbits,
    norms,
    quantised,
    quantised_language,
    quantised_products,
    rotary,
    sundry,
    trees,
)

__all__ = ["EXPANSIONS", "FAMILIES", "MICROSOFT", "SCHEMAS", "Expansion"]
