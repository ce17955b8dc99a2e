"""GraphProto → Graph: names become Values, old operator versions become new ones, local functions are
inlined, Constant nodes and initializers become constants. Every inconsistency is a typed error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import onnx

from ..errors import InvalidGraph, UnsupportedOpset
from ..graph import export, extensions, protos, schemas
from ..graph.const import Const
from ..graph.ir import Value
from .constants import constant_of
from .draft import Draft
from .messages import AnyNode, AnyTensor, Attribute
from .order import ordered
from .scope import Frame, Scope
from .tensors import Files, tensor_const
from .upgrade import upgrade

_GRAPH, _GRAPHS = onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS
# Attributes of operators older than opset 7 that only steered an executor long gone.
_IGNORED_ATTRIBUTES = frozenset({"consumed_inputs", "is_test"})


def _kind(number: int) -> str:
    return str(onnx.AttributeProto.AttributeType.Name(number))


def _value(attr: Attribute | onnx.AttributeProto) -> Any:
    return attr.value() if isinstance(attr, Attribute) else protos.attribute_value(attr)


def _invalid(
    proto: AnyNode,
    why: str,
    hint: str = "the model is damaged or was made for another opset",
    **fields: str | int,
) -> InvalidGraph:
    """The error of a node that its operator's schema does not allow."""
    return InvalidGraph(why, hint=hint, node=proto.name, op=proto.op_type, **fields)


class Importer:
    """Imports one model. `functions` are its model-local ones by (domain, name, overload)."""

    def __init__(self, files: Files, functions: Iterable[onnx.FunctionProto] = ()) -> None:
        self.files = files
        self.functions = {(f.domain, f.name, f.overload): f for f in functions}
        self.used: set[str] = set()
        self._active: list[str] = []  # functions being inlined, for recursion
        self._serial = 0
        self._reserved: set[str] = set()

    # -- names

    def reserve(self, names: Iterable[str]) -> None:
        """Keeps the main graph's names for the main graph: bodies and functions must step aside."""
        self._reserved = set(names)

    def _name(self, scope: Scope, name: str) -> str:
        """The name of a value that the scope defines: the model's own in the main graph."""
        if scope.main:
            self.used.add(name)
            return name
        return self.fresh(scope.prefix + name)

    def fresh(self, stem: str) -> str:
        """A name nothing else in the model has."""
        name = stem
        while name in self.used or name in self._reserved or not name:
            self._serial += 1
            name = f"{stem}~{self._serial}"
        self.used.add(name)
        return name

    def _define(self, scope: Scope, name: str, value: Value | None) -> None:
        if name in scope.values:
            raise InvalidGraph(
                f"the name {name!r} is given to two values",
                hint="ONNX wants each value made once: export the model again",
                value=name,
            )
        scope.values[name] = value

    # -- graphs

    def initializers(
        self, tensors: Iterable[AnyTensor], sparse: Iterable[onnx.SparseTensorProto], scope: Scope
    ) -> dict[str, Value]:
        """Defines a graph's initializers, dense and sparse; returns them by name."""
        found: dict[str, Value] = {}
        dense = [(t.name, tensor_const(t, self.files)) for t in tensors]
        dense += [(s.values.name, Const.of(protos.sparse_to_numpy(s))) for s in sparse]
        for name, const in dense:
            value = Value(self._name(scope, name), const.dtype, const.shape, const)
            self._define(scope, name, value)
            found[name] = value
        return found

    def body(self, graph: onnx.GraphProto, outer: Scope, opsets: dict[str, int], env: dict[str, Any]) -> Any:
        """(normalised GraphProto, captures) of a body of If, Loop, Scan or SequenceMap."""
        scope = Scope(Frame(), outer)
        inputs = []
        defaults = {t.name for t in graph.initializer}
        for info in graph.input:
            if info.name in defaults:
                continue
            inputs.append(self.define_input(info, scope))
        self.initializers(graph.initializer, graph.sparse_initializer, scope)
        self.nodes(graph.node, scope, opsets, env)
        outputs = []
        for info in graph.output:
            value = self.resolve(scope, info.name, f"body {graph.name!r}")
            if not value.dtype:
                value.dtype, _ = protos.type_of(info.type)
                value.type = info.type if info.type.WhichOneof("value") not in (None, "tensor_type") else None
            outputs.append(value)
        captures = scope.frame.captures
        names = export.Names()
        for value in captures.values():
            names[value]  # captured values take their own names first
        proto = export.graph_proto(
            graph.name, scope.frame.nodes, inputs, outputs, names, skip=captures.values()
        )
        for (
            value
        ) in captures.values():  # the exported body owns the uses now; its Node will hold the captures
            value.users = [n for n in value.users if n not in set(scope.frame.nodes)]
        return proto, captures

    def define_input(self, info: onnx.ValueInfoProto, scope: Scope) -> Value:
        dtype, dims = protos.type_of(info.type)
        value = Value(self._name(scope, info.name), dtype, protos.static_shape(dims))
        self._define(scope, info.name, value)
        if info.type.WhichOneof("value") not in (None, "tensor_type"):
            value.type = info.type
        return value

    def resolve(self, scope: Scope, name: str, where: str, **fields: str) -> Value:
        """The value of a name, seen from a scope; InvalidGraph, naming the reader `where`, if nothing makes it, with
        these fields (node, op)."""
        try:
            value = scope.find(name)
        except KeyError:
            value = None
        if value is None:
            raise InvalidGraph(
                f"{where} reads {name!r}, which nothing makes: no input, initializer or node has that name",
                hint="the model is incomplete, or its nodes form a cycle: export it again",
                value=name,
                **fields,
            )
        return value

    # -- nodes

    def nodes(
        self, protos_: Sequence[AnyNode], scope: Scope, opsets: dict[str, int], env: dict[str, Any]
    ) -> None:
        for proto in ordered(protos_, scope):
            self._node(proto, scope, opsets, env)

    def _node(self, proto: AnyNode, scope: Scope, opsets: dict[str, int], env: dict[str, Any]) -> None:
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        where = (
            f"node {proto.name!r} ({proto.op_type})"
            if proto.name
            else f"the {proto.op_type} node that makes {', '.join(proto.output)!r}"
        )
        inputs: list[Value | None] = []
        for name in proto.input:
            # A name that a function's caller left out resolves to None, as an absent input does.
            absent = not name or (name in scope.values and scope.values[name] is None)
            inputs.append(
                None if absent else self.resolve(scope, name, where, node=proto.name, op=proto.op_type)
            )
        function = self.functions.get((proto.domain, proto.op_type, proto.overload))
        function = function or self.functions.get((domain, proto.op_type, proto.overload))
        if function is not None:
            self._inline(proto, function, inputs, scope, opsets, env)
            return
        version = opsets.get(domain)
        if version is None and extensions.schema(domain, proto.op_type) is not None:
            version = 1  # its optimizer does not write the import, and it has but one version
        if version is None and domain in schemas.NEWEST_OF:
            raise UnsupportedOpset(
                f"{where} belongs to domain {domain or 'ai.onnx'!r}, for which the model imports no opset",
                hint="add the opset import, or export the model again",
                domain=domain or "ai.onnx",
                node=proto.name,
            )
        if version is None or schemas.find(proto.op_type, domain, version) is None:
            raise schemas.unknown(proto.op_type, domain, version or 0, proto.name)
        self._check_arity(proto, domain, version, where)
        attrs, captures = self._attributes(proto, scope, opsets, env, domain, version, where)
        if proto.op_type == "Constant" and not domain:
            const = constant_of(proto, attrs, self.files)
            name = proto.output[0]
            self._define(scope, name, Value(self._name(scope, name), const.dtype, const.shape, const))
            return
        while inputs and inputs[-1] is None:
            inputs.pop()
        outputs = []
        for name in proto.output:
            value = Value(self._name(scope, name) if name else "")
            if name:
                self._define(scope, name, value)
            outputs.append(value)
        draft = Draft(
            proto.op_type,
            domain,
            version,
            inputs,
            outputs,
            attrs,
            scope.prefix + proto.name,
            captures,
            self.fresh,
        )
        scope.frame.nodes.extend(upgrade(draft))

    def _check_arity(self, proto: AnyNode, domain: str, version: int, where: str) -> None:
        least, most, least_out, most_out = schemas.arity(proto.op_type, domain, version)
        given = len(proto.input)
        while given and not proto.input[given - 1]:
            given -= 1
        for what, n, lo, hi in (
            ("inputs", given, least, most),
            ("outputs", len(proto.output), least_out, most_out),
        ):
            if not lo <= n <= hi:
                bounds = str(lo) if lo == hi else f"{lo} to {hi}"
                raise _invalid(proto, f"{where} has {n} {what}, the operator takes {bounds}", version=version)

    def _attributes(
        self,
        proto: AnyNode,
        scope: Scope,
        opsets: dict[str, int],
        env: dict[str, Any],
        domain: str,
        version: int,
        where: str,
    ) -> tuple[dict[str, Any], dict[str, Value]]:
        attrs: dict[str, Any] = {}
        captures: dict[str, Value] = {}
        known = schemas.attributes(proto.op_type, domain, version)
        for attr in proto.attribute:
            name = attr.name
            if name in _IGNORED_ATTRIBUTES:
                continue
            if name not in known:
                why = (
                    f"{where} has an attribute {name!r}, which the operator does not take at opset {version}"
                )
                raise _invalid(proto, why, hint=f"it takes {', '.join(known) or 'none'}", attribute=name)
            if attr.ref_attr_name:
                if attr.ref_attr_name in env:
                    attrs[name] = env[attr.ref_attr_name]
            elif attr.type in (_GRAPH, _GRAPHS) and not isinstance(attr, Attribute):
                bodies = []
                for graph in [attr.g] if attr.type == _GRAPH else attr.graphs:
                    body, seen = self.body(graph, scope, opsets, env)
                    bodies.append(body)
                    captures.update(seen)
                attrs[name] = bodies[0] if attr.type == _GRAPH else bodies
            elif proto.op_type == "Constant" and name == "value":
                attrs[name] = attr.t  # may be a reference to bytes that stay in the file
            else:
                attrs[name] = _value(attr)
            kind = attr.type
            if not attr.ref_attr_name and kind != known[name][0]:
                why = f"{where}: its attribute {name!r} is of type {_kind(kind)}, not {_kind(known[name][0])}"
                raise _invalid(proto, why, attribute=name)
        for name, (_, required) in known.items():
            if required and name not in attrs:
                raise _invalid(proto, f"{where} lacks its attribute {name!r}", attribute=name)
        return attrs, captures

    def _inline(
        self,
        proto: AnyNode,
        function: onnx.FunctionProto,
        inputs: list[Value | None],
        scope: Scope,
        opsets: dict[str, int],
        env: dict[str, Any],
    ) -> None:
        """f(a, b) becomes f's nodes, their values prefixed with the call's name."""
        key = f"{function.domain}.{function.name}"
        if key in self._active:
            raise InvalidGraph(f"function {key} calls itself", hint="ONNX forbids recursion", node=proto.name)
        own = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in function.opset_import}
        inner = Scope(scope.frame, None, f"{scope.prefix}{proto.name or function.name}/")
        for i, name in enumerate(function.input):
            inner.values[name] = inputs[i] if i < len(inputs) else None
        bound: dict[str, Any] = {a.name: protos.attribute_value(a) for a in function.attribute_proto}
        for attr in proto.attribute:
            if not attr.ref_attr_name:
                bound[attr.name] = _value(attr)
            elif attr.ref_attr_name in env:
                bound[attr.name] = env[attr.ref_attr_name]
        self._active.append(key)
        self.nodes(function.node, inner, {**opsets, **own}, bound)
        self._active.pop()
        for outer_name, inner_name in zip(proto.output, function.output, strict=False):
            if outer_name:
                self._define(scope, outer_name, self.resolve(inner, inner_name, f"function {key}"))
