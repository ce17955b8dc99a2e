"""Bytes of an ONNX model → Model: the front door of the compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from ..errors import InvalidGraph, ModelFormatError, UnsupportedOpset
from ..graph import protos, schemas
from ..graph.ir import Graph, Value
from ..graph.model import Model
from ..graph.signature import Signature, TensorInfo
from . import messages, wire
from .importer import Importer
from .messages import AnyNode, AnyTensor
from .scope import Frame, Scope
from .source import ByteSource
from .tensors import Files


def load(
    source: ByteSource, external: Mapping[str, ByteSource] | None = None, stripped: bytes | None = None
) -> Model:
    """Reads a model without its weights, which stay where they are until somebody asks for their bytes.

    `external` are the files that TensorProto.external_data names (by path relative to the model, or by
    bare file name). `stripped`: what `wire.walk` has made of the source, where that is done already.
    Raises ModelFormatError, MissingExternalData, UnsupportedOpset, UnknownOperator or InvalidGraph.
    """
    try:
        proto, nodes, tensors = messages.parse(wire.strip(source) if stripped is None else stripped)
    except (DecodeError, UnicodeDecodeError) as error:  # the second where the protobuf package is Python
        raise ModelFormatError(
            f"{source.name} is not an ONNX model: {error}",
            hint="give the .onnx file itself; if this is it, it is damaged: fetch or export it again",
            file=source.name,
        ) from error
    if not proto.HasField("graph") or not (nodes or proto.graph.output):
        raise ModelFormatError(
            f"{source.name} parses as a protobuf message but holds no graph",
            hint="it may be a single tensor or another message: give the .onnx model",
            file=source.name,
        )
    try:
        return import_model(proto, nodes, tensors, Files(source, external or {}))
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        # protobuf lets through names that are no UTF-8, tensors that contradict themselves, and worse.
        raise ModelFormatError(
            f"{source.name} is damaged: {type(error).__name__}: {error}",
            hint="fetch or export the model again",
            file=source.name,
        ) from error


def import_model(
    proto: onnx.ModelProto, nodes: Sequence[AnyNode], tensors: Sequence[AnyTensor], files: Files
) -> Model:
    """The Model of a parsed ModelProto, its nodes and its initializers, whose stripped tensors `files` can read."""
    opsets = _opsets(proto)
    importer = Importer(files, proto.functions)
    graph_proto = proto.graph
    scope = Scope(Frame(), main=True)
    outer = {i.name for i in graph_proto.input} | {t.name for t in tensors}
    outer |= {name for node in nodes for name in node.output}
    importer.reserve(outer)
    defaults = {t.name for t in tensors} | {s.values.name for s in graph_proto.sparse_initializer}
    inputs: list[Value] = []
    infos: list[TensorInfo] = []
    for info in graph_proto.input:
        infos.append(_tensor_info(info, optional=info.name in defaults))
        if info.name not in defaults:
            inputs.append(importer.define_input(info, scope))
    initializers = importer.initializers(tensors, graph_proto.sparse_initializer, scope)
    importer.nodes(nodes, scope, opsets, {})
    outputs = [importer.resolve(scope, o.name, "the list of outputs") for o in graph_proto.output]
    graph = Graph(
        graph_proto.name, inputs, outputs, scope.frame.nodes, opsets, [o.name for o in graph_proto.output]
    )
    if not graph.outputs:
        raise InvalidGraph("the graph has no outputs", hint="export the model again")
    out_infos = [_tensor_info(o) for o in graph_proto.output]
    given = {i.name: initializers[i.name] for i in graph_proto.input if i.name in defaults}
    return Model(graph, Signature(infos, out_infos), given, files.sources, files.names, _metadata(proto))


def _opsets(proto: onnx.ModelProto) -> dict[str, int]:
    opsets: dict[str, int] = {}
    for entry in proto.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        newest = schemas.NEWEST_OF.get(domain)
        if newest is not None and not 1 <= entry.version <= newest:
            raise UnsupportedOpset(
                f"the model imports opset {entry.version} of {domain or 'ai.onnx'}, known are 1 to {newest}",
                hint="export the model with an older opset, or convert it with onnx.version_converter",
                domain=domain or "ai.onnx",
                version=entry.version,
            )
        opsets[domain] = entry.version
    if not opsets and proto.ir_version < 3:
        opsets[""] = 1  # before IR version 3 there was but one
    return opsets


def _tensor_info(info: onnx.ValueInfoProto, optional: bool = False) -> TensorInfo:
    dtype, dims = protos.type_of(info.type)
    which = info.type.WhichOneof("value") or "tensor_type"
    return TensorInfo(info.name, dtype, which.removesuffix("_type"), dims, optional, info.type)


def _metadata(proto: onnx.ModelProto) -> dict[str, Any]:
    found: dict[str, Any] = {
        "producer": f"{proto.producer_name} {proto.producer_version}".strip(),
        "irVersion": proto.ir_version,
        "opsets": {o.domain or "ai.onnx": o.version for o in proto.opset_import},
        "description": proto.doc_string,
    }
    found.update({p.key: p.value for p in proto.metadata_props})
    return found
