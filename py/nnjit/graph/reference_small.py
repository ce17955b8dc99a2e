"""Nodes with bfloat16, fp8 and 4-bit values on onnx.reference, where ml_dtypes is not there to calculate.

Each such node runs on wider values: moves on the bits, arithmetic on f32 (rounded back at its end),
casts and (de)quantisation here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from . import dtypes, small_types
from .const import Const
from .dtypes import Array
from .ir import Node, Value
from .quantising import converted, quantized, spread
from .small_types import bits_only, decode, encode

# Operators that copy elements and never look at them.
_MOVES = frozenset(
    "Compress Concat ConstantOfShape DepthToSpace Expand Flatten Gather GatherElements GatherND Identity Pad "
    "Reshape ReverseSequence Slice SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze Where".split()
)

RunNode = Callable[[Node, Mapping[Value, Any]], "list[Any]"]


def needed(nodes: list[Node]) -> bool:
    """Some value is of a type that numpy holds as bits only."""
    return any(bits_only(v.dtype) for node in nodes for v in (*node.reads(), *node.outputs))


def run_small(node: Node, env: Mapping[Value, Any], run: RunNode) -> list[Any]:
    """The node's outputs. `run` evaluates a node of ordinary types."""
    if not needed([node]):
        return run(node, env)
    if node.op in ("Cast", "CastLike"):
        return [_cast(node, env)]
    if node.op == "QuantizeLinear":
        return [_quantize(node, env)]
    if node.op == "DequantizeLinear":
        return [_dequantize(node, env)]
    moves = node.op in _MOVES
    twins: dict[Value, Value] = {}
    feeds: dict[Value, Any] = {}
    for value in node.inputs:
        if value is not None and value not in twins:
            array = _array(value, env)
            twin = twins[value] = Value(value.name, _other(value.dtype, moves), value.shape)
            if bits_only(value.dtype) and array is not None:
                array = small_types.bits(array, value.dtype) if moves else decode(array, value.dtype)
            if isinstance(array, np.ndarray) and value.const is not None:
                twin.const = Const(twin.dtype, array.shape, array)
            feeds[twin] = array
    outputs = [Value(v.name, _other(v.dtype, moves), v.shape) for v in node.outputs]
    wide = Node(
        node.op,
        [None if v is None else twins[v] for v in node.inputs],
        outputs,
        {k: _attribute(k, v, moves) for k, v in node.attrs.items()},
        name=node.name,
        domain=node.domain,
        version=node.version,
    )
    found = iter(run(wide, feeds))
    return [_back(next(found), v.dtype, moves) for v in node.outputs if v.name]


def _other(dtype: str, moves: bool) -> str:
    if not bits_only(dtype):
        return dtype
    return ("u16" if dtype == "bf16" else "u8") if moves else small_types.wide(dtype)


def _attribute(name: str, value: Any, moves: bool) -> Any:
    """Types named by attributes, and tensors in them, follow."""
    if isinstance(value, np.ndarray) and bits_only(dtypes.from_numpy(value.dtype)):
        dtype = dtypes.from_numpy(value.dtype)
        return small_types.bits(value, dtype) if moves else decode(value, dtype)
    if name in ("dtype", "output_datatype") and bits_only(dtypes.FROM_ONNX.get(value, "")):
        return dtypes.TO_ONNX[_other(dtypes.FROM_ONNX[value], moves)]
    return value


def _back(array: Any, dtype: str, moves: bool) -> Any:
    if not bits_only(dtype) or not isinstance(array, np.ndarray):
        return array
    return small_types.from_bits(array, dtype) if moves else encode(array, dtype)


def _array(value: Value, env: Mapping[Value, Any]) -> Any:
    return value.const.numpy() if value.const is not None else env[value]


def _number(value: Value, env: Mapping[Value, Any]) -> Array:
    array = np.asarray(_array(value, env))
    return decode(array, value.dtype) if bits_only(value.dtype) else array


def _to(array: Array, dtype: str, node: Node) -> Array:
    if bits_only(dtype):
        saturate = bool(node.attrs.get("saturate", 1))
        return encode(array, dtype, saturate, node.attrs.get("round_mode", "up"))
    with np.errstate(all="ignore"):
        return converted(np.asarray(array), dtypes.NUMPY[dtype])


def _cast(node: Node, env: Mapping[Value, Any]) -> Array:
    x = node.inputs[0]
    assert x is not None
    return _to(_number(x, env), node.output.dtype, node)


def _quantize(node: Node, env: Mapping[Value, Any]) -> Array:
    x, scale, zero = node.inputs[0], node.inputs[1], node.input(2)
    assert x is not None and scale is not None
    numbers = _number(x, env).astype(np.float32)
    scaled = numbers / spread(_number(scale, env).astype(np.float32), numbers.shape, node.attrs)
    to = node.output.dtype
    shift = 0 if zero is None else spread(_number(zero, env), numbers.shape, node.attrs)
    if small_types.wide(to) == "f32":
        return _to(scaled if to.startswith("float8") else scaled + shift, to, node)
    return _to(quantized(scaled, shift, to), to, node)


def _dequantize(node: Node, env: Mapping[Value, Any]) -> Array:
    x, scale, zero = node.inputs[0], node.inputs[1], node.input(2)
    assert x is not None and scale is not None
    numbers = _number(x, env).astype(np.float32)
    if zero is not None:
        numbers = numbers - spread(_number(zero, env).astype(np.float32), numbers.shape, node.attrs)
    factor = spread(_number(scale, env).astype(np.float32), numbers.shape, node.attrs)
    return _to(numbers * factor, node.output.dtype, node)
