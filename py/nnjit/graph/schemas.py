"""ONNX operator schemas, cached: get_schema crosses into C++ and copies, one call an operator is enough."""

from __future__ import annotations

import difflib
from functools import cache
from typing import Any

import onnx

from ..errors import UnknownOperator
from . import extensions

NEWEST: int = onnx.defs.onnx_opset_version()
# The newest opset of every domain with schemas: '', 'ai.onnx.ml', 'ai.onnx.preview', …
NEWEST_OF: dict[str, int] = {
    domain: newest for domain, (_, newest) in onnx.defs.C.schema_version_map().items()
}
NEWEST_OF[""] = NEWEST

EARLY = {("", "LayerNormalization"): 17, ("", "ThresholdedRelu"): 10}
"""(domain, operator) -> its opset, for what models of older ones have all the same: from onnxruntime's optimizer, or as
an experiment."""


@cache
def find(op: str, domain: str, version: int) -> Any | None:
    """The OpSchema in force at `version`, or None."""
    ours = extensions.schema(domain, op)
    if ours is not None:
        return ours
    version = max(version, EARLY.get((domain, op), 0))
    try:
        return onnx.defs.get_schema(op, max_inclusive_version=version, domain=domain)
    except onnx.defs.SchemaError:
        return None


@cache
def arity(op: str, domain: str, version: int) -> tuple[int, int, int, int]:
    """(least inputs, most inputs, least outputs, most outputs)."""
    schema = find(op, domain, version)
    assert schema is not None
    return schema.min_input, schema.max_input, schema.min_output, schema.max_output


@cache
def attributes(op: str, domain: str, version: int) -> dict[str, tuple[int, bool]]:
    """{attribute: (AttributeProto type number, required)}."""
    schema = find(op, domain, version)
    if schema is None:
        return {}
    return {name: (a.type.value, a.required) for name, a in schema.attributes.items()}


def unknown(op: str, domain: str, version: int, node: str) -> UnknownOperator:
    """The error for an operator without a schema; says what is different about it where that is known."""
    others = ", ".join(sorted(d for d in NEWEST_OF if d))
    hint = f"known are the operators of ai.onnx up to opset {NEWEST} and of {others}"
    if domain == "com.microsoft":
        hint = "it is onnxruntime's own, and not one that nnjit knows: export without onnxruntime's optimizations"
    elif domain == "com.microsoft.nchwc":
        hint = (
            "its weights lie as the processor that onnxruntime optimized the model on wants them: take the model "
            "from before that, or save it at level ORT_ENABLE_EXTENDED, not ORT_ENABLE_ALL"
        )
    elif domain in NEWEST_OF and find(op, domain, NEWEST_OF[domain]) is not None:
        hint = f"it exists in a newer opset than the {version} that the model imports"
    elif domain in NEWEST_OF:
        known = {s.name for s in onnx.defs.get_all_schemas() if s.domain == domain}
        # LayerNorm is near LayerNormalization (0.67); Frobnicate is near nothing (Concat: 0.63)
        near = difflib.get_close_matches(op, known, n=1, cutoff=0.65)
        hint = f"did you mean {near[0]}? {hint}" if near else hint
    elif domain:
        hint = f"{domain} is not a domain of ONNX: export the operator as standard ones, or as a function of the model"
    at = f" at opset {version}" if version else ""
    return UnknownOperator(
        f"node {node!r}: operator {domain + '.' if domain else ''}{op} is unknown{at}",
        hint=hint,
        node=node,
        op=op,
        domain=domain or "ai.onnx",
        version=version,
    )
