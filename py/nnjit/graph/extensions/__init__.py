"""Operators of other domains than ONNX's own, and operators that ONNX had once: what they take and what they mean.

A file an operator family, each entry written with `declare.operator`: inputs, outputs, types and attributes as
onnxruntime declares them, and a function that says the operator in ONNX's own. Wherever a graph is bound,
`expanding.expand` puts those nodes in its place, so that every pass and kernel serves them; `nbits` has a
kernel of its own. The families are imported when a model has such a node: most have none.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from .declare import EXPANSIONS, MICROSOFT, SCHEMAS, Expansion

__all__ = ["DOMAINS", "MICROSOFT", "NAMELESS", "Expansion", "expansion", "expansions", "schema", "schemas"]

FAMILIES = (
    "activations embedding experts fused grouped learned legacy multihead nbits norms quantised quantised_language "
    "quantised_products rotary sundry trees"
).split()
DOMAINS = (MICROSOFT, "ai.onnx.ml")
NAMELESS = frozenset(
    "Affine Crop DynamicSlice ImageScaler ParametricSoftplus Scale ScaledTanh SimplifiedLayerNormalization".split()
)
"""Operators of the families that stand in ONNX's own domain."""


def schema(domain: str, op: str) -> Any | None:
    """The OpSchema of an operator that a family declares, the same at every version; None for others."""
    return schemas().get((domain, op)) if _may_be(domain, op) else None


def expansion(domain: str, op: str) -> Expansion | None:
    """The function that says an operator in ONNX's own; None for those that are, or have none."""
    return expansions().get((domain, op)) if _may_be(domain, op) else None


def schemas() -> dict[tuple[str, str], Any]:
    """(domain, operator) -> OpSchema, of all families."""
    _import()
    return SCHEMAS


def expansions() -> dict[tuple[str, str], Expansion]:
    """(domain, operator) -> expansion, of all families; those of ai.onnx.ml have onnx's own schemas."""
    _import()
    return EXPANSIONS


def _may_be(domain: str, op: str) -> bool:
    return domain in DOMAINS or (not domain and op in NAMELESS)


@cache
def _import() -> None:
    for name in FAMILIES:
        import_module(f"{__name__}.{name}")
