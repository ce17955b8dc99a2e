"""How an operator is declared: its schema as text, and the function that expands it.

    @operator("BiasGelu", "A:T B:T", "C:T", T="f16 f32 f64 bf16")
    def bias_gelu(b: Body) -> Value:
        return b("Gelu", b("Add", b.given("A"), b.given("B")))

An input is name:type, with ? where it may be absent and * where it repeats, its types mixed; a type is a variable
or a short name (f32, i64, …). An attribute is name:kind (int, float, str, ints, floats, strs), with ! where it is
required or =value for its default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import onnx
from onnx.defs import OpSchema

from .. import dtypes
from ..ir import Node, Value
from ..shape_rules import RULES, put

if TYPE_CHECKING:
    from .body import Body

MICROSOFT = "com.microsoft"
# Types that most float operators take.
FLOATS = "f32 f16 bf16"

Outputs: TypeAlias = "Value | Sequence[Value | None] | None"
Expansion: TypeAlias = "Callable[[Body], Outputs]"
"""The values of a node's outputs, made by standard nodes; None where this node has to stay for the reference."""

SCHEMAS: dict[tuple[str, str], Any] = {}
"""(domain, operator) -> OpSchema, the same at every version."""
EXPANSIONS: dict[tuple[str, str], Expansion] = {}
DEFAULTS: dict[tuple[str, str], dict[str, Any]] = {}
"""(domain, operator) -> {attribute: its default}"""

_KINDS: dict[str, Any] = {
    "int": int, "float": float, "str": str,
    "ints": lambda text: [int(t) for t in text.split(",") if t],
    "floats": lambda text: [float(t) for t in text.split(",") if t],
    "strs": lambda text: text.split(","),
}  # fmt: skip
_LONG = {short: long for long, short in dtypes.FROM_TYPE_STR.items()}


def operator(
    name: str, inputs: str, outputs: str, attributes: str = "", *, domain: str = MICROSOFT, **types: str
) -> Callable[[Expansion], Expansion]:
    """Registers an operator that the decorated function expands; `types` are the allowed types of each variable."""

    def register(function: Expansion) -> Expansion:
        declare(name, inputs, outputs, attributes, domain=domain, **types)
        EXPANSIONS[domain, name] = function
        RULES.setdefault(f"{domain}.{name}" if domain else name, by_types)
        return function

    return register


def declare(
    name: str, inputs: str, outputs: str, attributes: str = "", *, domain: str = MICROSOFT, **types: str
) -> None:
    """Registers an operator's schema alone; the arguments are those of `operator`."""
    attrs, defaults = [], {}
    for word in attributes.split():
        attribute, default = _attribute(word)
        attrs.append(attribute)
        if default is not None:
            defaults[attribute.name] = default
    SCHEMAS[domain, name] = OpSchema(
        name, domain, 1, "",
        inputs=[_formal(word, types) for word in inputs.split()],
        outputs=[_formal(word, types) for word in outputs.split()],
        type_constraints=[(v, [_type(t) for t in allowed.split()], "") for v, allowed in types.items()],
        attributes=attrs,
    )  # fmt: skip
    DEFAULTS[domain, name] = defaults


def _formal(word: str, types: dict[str, str]) -> Any:
    name, _, kind = word.rstrip("?*").partition(":")
    options = OpSchema.FormalParameterOption
    option = {"?": options.Optional, "*": options.Variadic}.get(word[-1], options.Single)
    many = word[-1] == "*"
    return OpSchema.FormalParameter(
        name, kind if kind in types else _type(kind), param_option=option, is_homogeneous=not many,
        min_arity=0 if many else 1,
    )  # fmt: skip


def _type(short: str) -> str:
    return f"tensor({_LONG[short]})"


def _attribute(word: str) -> tuple[Any, Any]:
    """(OpSchema.Attribute, its default or None)"""
    name, _, rest = word.partition(":")
    kind, has_default, text = rest.partition("=")
    required = kind.endswith("!")
    kind = kind.rstrip("!")
    types = OpSchema.AttrType
    if not has_default:
        of = {"int": types.INT, "float": types.FLOAT, "str": types.STRING, "ints": types.INTS,
              "floats": types.FLOATS, "strs": types.STRINGS}[kind]  # fmt: skip
        return OpSchema.Attribute(name, of, "", required=required), None
    default = _KINDS[kind](text)
    return OpSchema.Attribute(name, onnx.helper.make_attribute(name, default), ""), default


def by_types(node: Node) -> None:
    """Each output has the type of the input with the same variable, or the only one there is; shapes come with the
    expansion."""
    schema = SCHEMAS[node.domain, node.op]
    of: dict[str, str] = {}
    for formal, value in zip(schema.inputs, node.inputs, strict=False):
        if value is not None:
            of.setdefault(formal.type_str, value.dtype)
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    for index, formal in enumerate(schema.outputs):
        only = allowed.get(formal.type_str, [formal.type_str])
        dtype = of.get(formal.type_str, "")
        if not dtype and len(only) == 1:
            dtype = dtypes.FROM_TYPE_STR.get(only[0].removeprefix("tensor(").removesuffix(")"), "")
        put(node, dtype, None, index)
