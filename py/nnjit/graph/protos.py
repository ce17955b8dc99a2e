"""Between ONNX messages and IR: tensors, attributes and types, both ways.

TensorProto ↔ numpy, AttributeProto ↔ Python values, TypeProto ↔ (dtype, shape).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, TypeProto, numpy_helper

from . import dtypes, schemas
from .const import Shape
from .dtypes import Array

_A = AttributeProto


def tensor_to_numpy(tensor: TensorProto) -> Array:
    """The values of an in-memory TensorProto; strings as an object array of str (bytes where not UTF-8)."""
    if tensor.data_type == TensorProto.STRING:
        flat = np.empty(len(tensor.string_data), object)
        for i, raw in enumerate(tensor.string_data):
            flat[i] = text(raw)
        return flat.reshape(tuple(tensor.dims))
    return np.asarray(numpy_helper.to_array(tensor))


def numpy_to_tensor(array: Array, dtype: str, name: str = "") -> TensorProto:
    tensor = TensorProto(name=name, data_type=dtypes.TO_ONNX[dtype], dims=array.shape)
    if dtype == "string":
        tensor.string_data.extend(s if isinstance(s, bytes) else str(s).encode() for s in array.reshape(-1))
    else:
        tensor.raw_data = dtypes.to_raw(array, dtype)
    return tensor


def sparse_to_numpy(sparse: onnx.SparseTensorProto) -> Array:
    """The dense tensor of a SparseTensorProto (COO: linear indices [nnz], or coordinates [nnz, rank])."""
    values, indices = tensor_to_numpy(sparse.values), tensor_to_numpy(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 2:
        dense[tuple(indices.T)] = values
    else:
        dense.reshape(-1)[indices] = values
    return dense


def text(raw: bytes | str) -> Any:
    if isinstance(raw, str):
        return raw
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def attribute_value(attr: AttributeProto) -> Any:
    """Python value of an attribute: int, float, str, list of those, ndarray, GraphProto or TypeProto."""
    kind = attr.type
    if kind == _A.INT:
        return attr.i
    if kind == _A.FLOAT:
        return attr.f
    if kind == _A.STRING:
        return text(attr.s)
    if kind == _A.INTS:
        return list(attr.ints)
    if kind == _A.FLOATS:
        return list(attr.floats)
    if kind == _A.STRINGS:
        return [text(s) for s in attr.strings]
    if kind == _A.TENSOR:
        return tensor_to_numpy(attr.t)
    if kind == _A.TENSORS:
        return [tensor_to_numpy(t) for t in attr.tensors]
    if kind == _A.SPARSE_TENSOR:
        return sparse_to_numpy(attr.sparse_tensor)
    if kind == _A.SPARSE_TENSORS:
        return [sparse_to_numpy(t) for t in attr.sparse_tensors]
    if kind == _A.GRAPH:
        return attr.g
    if kind == _A.GRAPHS:
        return list(attr.graphs)
    if kind == _A.TYPE_PROTO:
        return attr.tp
    if kind == _A.TYPE_PROTOS:
        return list(attr.type_protos)
    raise ValueError(f"attribute {attr.name!r} is of unknown type {kind}")


def make_attribute(name: str, value: Any, kind: int = 0) -> AttributeProto:
    """The AttributeProto of a Python value; `kind` (the schema's type) settles what an empty list is."""
    attr = AttributeProto(name=name)
    kind = kind or _kind_of(value)
    attr.type = kind  # type: ignore[assignment]
    if kind == _A.INT:
        attr.i = int(value)
    elif kind == _A.FLOAT:
        attr.f = float(value)
    elif kind == _A.STRING:
        attr.s = _bytes(value)
    elif kind == _A.INTS:
        attr.ints.extend(int(v) for v in value)
    elif kind == _A.FLOATS:
        attr.floats.extend(float(v) for v in value)
    elif kind == _A.STRINGS:
        attr.strings.extend(_bytes(v) for v in value)
    elif kind in (_A.TENSOR, _A.SPARSE_TENSOR):
        attr.type = _A.TENSOR
        attr.t.CopyFrom(numpy_to_tensor(value, dtypes.from_numpy(value.dtype)))
    elif kind == _A.TENSORS:
        attr.tensors.extend(numpy_to_tensor(v, dtypes.from_numpy(v.dtype)) for v in value)
    elif kind == _A.GRAPH:
        attr.g.CopyFrom(value)
    elif kind == _A.GRAPHS:
        attr.graphs.extend(value)
    elif kind == _A.TYPE_PROTO:
        attr.tp.CopyFrom(value)
    else:
        raise ValueError(f"attribute {name!r}: no ONNX type for {type(value).__name__}")
    return attr


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _kind_of(value: Any) -> int:
    if isinstance(value, (bool, int, np.integer)):
        return _A.INT
    if isinstance(value, (float, np.floating)):
        return _A.FLOAT
    if isinstance(value, (str, bytes)):
        return _A.STRING
    if isinstance(value, np.ndarray):
        return _A.TENSOR
    if isinstance(value, onnx.GraphProto):
        return _A.GRAPH
    if isinstance(value, TypeProto):
        return _A.TYPE_PROTO
    if isinstance(value, (list, tuple)) and value:
        if any(isinstance(v, float) for v in value):
            return _A.FLOATS
        many: dict[int, int] = {
            _A.INT: _A.INTS,
            _A.STRING: _A.STRINGS,
            _A.TENSOR: _A.TENSORS,
            _A.GRAPH: _A.GRAPHS,
        }
        return many.get(_kind_of(value[0]), 0)
    return _A.INTS


def make_node(
    op: str,
    domain: str,
    version: int,
    inputs: Sequence[str],
    outputs: Sequence[str],
    attrs: dict[str, Any],
    name: str = "",
) -> onnx.NodeProto:
    node = onnx.NodeProto(op_type=op, domain=domain, name=name, input=inputs, output=outputs)
    if attrs:
        kinds = schemas.attributes(op, domain, version)
        for key, value in attrs.items():
            node.attribute.append(make_attribute(key, value, kinds.get(key, (0, False))[0]))
    return node


def type_of(proto: TypeProto) -> tuple[str, tuple[int | str | None, ...] | None]:
    """(dtype, dims) of a TypeProto: dims are ints, symbols or None; None altogether when the rank is unknown.

    Sequences, optionals, maps and sparse tensors give ('sequence' | 'optional' | 'map' | 'sparse', None).
    """
    which = proto.WhichOneof("value")
    if which == "tensor_type":
        tensor = proto.tensor_type
        dtype = dtypes.FROM_ONNX.get(tensor.elem_type, "")
        if not tensor.HasField("shape"):
            return dtype, None
        dims: list[int | str | None] = []
        for dim in tensor.shape.dim:
            kind = dim.WhichOneof("value")
            if kind == "dim_value" and dim.dim_value >= 0:
                dims.append(dim.dim_value)
            else:  # some exporters write -1 for an open dim
                dims.append((dim.dim_param or None) if kind == "dim_param" else None)
        return dtype, tuple(dims)
    if which is None:
        return "", None
    return {"sequence_type": "sequence", "optional_type": "optional", "map_type": "map"}.get(
        which, "sparse"
    ), None


def static_shape(dims: tuple[int | str | None, ...] | None) -> Shape | None:
    """The shape when every dim is a number, else None."""
    if dims is None or not all(isinstance(d, int) for d in dims):
        return None
    return dims  # type: ignore[return-value]


def make_type(dtype: str, shape: Sequence[int | str | None] | None) -> TypeProto:
    """A tensor TypeProto; an unknown dtype gives an empty one."""
    if dtype not in dtypes.TO_ONNX:
        return TypeProto()
    return onnx.helper.make_tensor_type_proto(dtypes.TO_ONNX[dtype], None if shape is None else list(shape))
