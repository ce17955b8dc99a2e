"""Constant folding of one node: `fold_node(node)` gives the arrays of its outputs, or None.

Shape and Size need no constant operand, only a known shape. The common operators have a small numpy
evaluator of their own (this runs a thousand times a model); the rest is evaluated by onnx.reference.
Large results are not folded: such nodes run once at load.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, TypeAlias

import numpy as np

from . import dtypes
from .dtypes import Array
from .ir import Node
from .quantising import converted, quantized, spread
from .registering import registering
from .shape_rules import axis_of
from .shape_rules_move import slices

LIMIT = 64 * 1024  # elements of a result that is folded
KEPT = 32  # elements from which a dequantised weight stays bytes: a product may want it so
INPUT_LIMIT = 256 * 1024  # elements that may be read for it

Evaluator: TypeAlias = "Callable[[Node, list[Any]], Any]"
EVALUATORS: dict[str, Evaluator] = {}
# Results differ from run to run, or are wanted for their effect.
RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
_PLAIN = frozenset({"f32", "f64", "f16", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bool"})
# These only move elements, so that any dtype will do.
_MOVES = frozenset(
    "Concat ConstantOfShape Expand Flatten Gather GatherElements Identity Reshape Slice Split Squeeze "
    "Tile Transpose Unsqueeze Where".split()
)


def deterministic(node: Node) -> bool:
    """Same inputs, same outputs. Dropout in training draws random numbers."""
    if node.op in RANDOM and not node.domain:
        return False
    return not (node.op == "Dropout" and node.input(2) is not None) and not _random_body(node)


def _random_body(node: Node) -> bool:
    return any(_has_random(a) for a in node.attrs.values() if hasattr(a, "node"))


def _has_random(graph: Any) -> bool:
    return any(
        n.op_type in RANDOM or any(_has_random(a.g) for a in n.attribute if a.HasField("g"))
        for n in graph.node
    )


def fold_node(node: Node) -> list[Any] | None:
    """The outputs of a node whose inputs are known and small, else None. Needs inferred shapes."""
    op = node.op
    if op == "Shape" or op == "Size":
        value = node.inputs[0]
        if value is None or value.shape is None:
            return None
        shape = np.array(value.shape, np.int64)
        if op == "Size":
            return [np.array(prod(value.shape), np.int64)]
        return [shape[slice(node.attrs.get("start", 0), node.attrs.get("end", len(shape)))]]
    if not all(v.const is not None for v in node.reads()):
        return None
    sizes = [v.size for v in node.outputs if v.name]
    if any(n is not None and n > LIMIT for n in sizes):
        return None
    if op == "DequantizeLinear" and any(n is None or n > KEPT for n in sizes):
        return None
    if sum(v.const.size for v in node.reads() if v.const is not None) > INPUT_LIMIT or not deterministic(
        node
    ):
        return None
    return evaluate(node)


def evaluate(node: Node) -> list[Any] | None:
    """The outputs of a node whose inputs are all constant; None when it cannot be evaluated."""
    evaluator = EVALUATORS.get(node.op) if not node.domain else None
    if evaluator is not None:
        read = [v for v in node.inputs if v is not None]
        if node.op in _MOVES or (
            all(v.dtype in _PLAIN for v in read) and all(v.dtype in _PLAIN for v in node.outputs if v.dtype)
        ):
            arrays = [None if v is None or v.const is None else v.const.numpy() for v in node.inputs]
            try:
                with np.errstate(all="ignore"):
                    found = evaluator(node, arrays)
            except (ArithmeticError, LookupError, ValueError):
                return None  # 1 / 0, an index out of range: it fails where it runs, if it runs
            results = found if isinstance(found, list) else [found]
            return [np.asarray(r) for r in results]
    from .reference import run_nodes  # the reference imports onnx.reference, which takes a while

    try:
        outputs = [v for v in node.outputs if v.name]
        return run_nodes([node], {}, outputs)
    except Exception:  # the reference lacks the operator or the type: the node stays and runs once
        return None


evaluator = registering(EVALUATORS)
"""Registers what computes operators on arrays."""


def _div(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return np.divide(a, b)
    if not np.all(b):
        raise ZeroDivisionError
    quotient = np.abs(a) // np.abs(b)  # towards zero, as C does
    return np.where((a < 0) != (b < 0), -quotient, quotient).astype(a.dtype)


def _mod(node: Node, arrays: list[Any]) -> Array:
    a, b = arrays
    return np.asarray(np.fmod(a, b) if node.attrs.get("fmod", 0) else np.mod(a, b))


def _pow(a: Array, b: Array) -> Array:
    return np.power(a, b).astype(a.dtype)


_BINARY: dict[str, Callable[[Array, Array], Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _div, "Pow": _pow,
    "Equal": np.equal, "Less": np.less, "LessOrEqual": np.less_equal, "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal, "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
}  # fmt: skip
_UNARY: dict[str, Callable[[Array], Any]] = {
    "Abs": np.abs, "Neg": np.negative, "Not": np.logical_not, "Floor": np.floor, "Ceil": np.ceil,
    "Sqrt": np.sqrt, "Exp": np.exp, "Log": np.log, "Sin": np.sin, "Cos": np.cos, "Tanh": np.tanh,
    "Sign": np.sign, "Identity": lambda x: x, "Round": np.rint,
    "Reciprocal": lambda x: (1 / x).astype(x.dtype),
}  # fmt: skip
_VARIADIC: dict[str, Callable[[Array, Array], Any]] = {"Max": np.maximum, "Min": np.minimum, "Sum": np.add}
_REDUCE: dict[str, Callable[..., Any]] = {
    "ReduceSum": np.sum, "ReduceProd": np.prod, "ReduceMax": np.max, "ReduceMin": np.min,
    "ReduceMean": np.mean,
}  # fmt: skip


def _binary(function: Callable[[Array, Array], Any]) -> Evaluator:
    return lambda node, arrays: function(arrays[0], arrays[1])


def _unary(function: Callable[[Array], Any]) -> Evaluator:
    return lambda node, arrays: function(arrays[0])


def _variadic(function: Callable[[Array, Array], Any]) -> Evaluator:
    return lambda node, arrays: _chain(function, arrays)


def _reduction(function: Callable[..., Any]) -> Evaluator:
    return lambda node, arrays: _reduce(function, node, arrays)


def _chain(function: Callable[[Array, Array], Any], arrays: list[Any]) -> Any:
    result = arrays[0]
    for other in arrays[1:]:
        result = function(result, other)
    return result


def _reduce(function: Callable[..., Any], node: Node, arrays: list[Any]) -> Any:
    x: Array = arrays[0]
    axes = tuple(int(a) for a in arrays[1]) if len(arrays) > 1 and arrays[1] is not None else ()
    if not axes:
        if node.attrs.get("noop_with_empty_axes", 0):
            return x
        axes = tuple(range(x.ndim))
    keep = bool(node.attrs.get("keepdims", 1))
    if x.size == 0 and function in (np.max, np.min):
        raise ValueError("reduction over nothing")
    if function is np.mean and x.dtype.kind in "iu":
        total = np.sum(x, axis=axes, keepdims=keep, dtype=np.float64)
        return (total / prod(x.shape[a] for a in axes)).astype(x.dtype)
    return function(x, axis=axes, keepdims=keep).astype(x.dtype)


EVALUATORS.update({op: _binary(f) for op, f in _BINARY.items()})
EVALUATORS.update({op: _unary(f) for op, f in _UNARY.items()})
EVALUATORS.update({op: _variadic(f) for op, f in _VARIADIC.items()})
EVALUATORS.update({op: _reduction(f) for op, f in _REDUCE.items()})
EVALUATORS["Mod"] = _mod


@evaluator("Cast")
def _cast(node: Node, arrays: list[Any]) -> Array:
    return converted(np.asarray(arrays[0]), dtypes.NUMPY[dtypes.FROM_ONNX[node.attrs["to"]]])


@evaluator("CastLike")
def _cast_like(node: Node, arrays: list[Any]) -> Array:
    return converted(np.asarray(arrays[0]), arrays[1].dtype)


@evaluator("QuantizeLinear")
def _quantize(node: Node, arrays: list[Any]) -> Array:
    x = np.asarray(arrays[0]).astype(np.float32)
    scaled = x / spread(arrays[1].astype(np.float32), x.shape, node.attrs)
    zero = spread(arrays[2], x.shape, node.attrs) if len(arrays) > 2 and arrays[2] is not None else 0
    to = node.output.dtype
    return quantized(scaled, zero, to).astype(dtypes.NUMPY[to])


@evaluator("Where")
def _where(node: Node, arrays: list[Any]) -> Array:
    return np.asarray(np.where(arrays[0], arrays[1], arrays[2]))


@evaluator("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(node: Node, arrays: list[Any]) -> Array:
    shape = node.output.shape
    assert shape is not None
    return np.asarray(arrays[0]).reshape(shape)


@evaluator("Expand")
def _expand(node: Node, arrays: list[Any]) -> Array:
    shape = node.output.shape
    assert shape is not None
    return np.array(np.broadcast_to(arrays[0], shape))


@evaluator("Tile")
def _tile(node: Node, arrays: list[Any]) -> Array:
    return np.tile(arrays[0], arrays[1])


@evaluator("Concat")
def _concat(node: Node, arrays: list[Any]) -> Array:
    return np.concatenate(arrays, axis=node.attrs["axis"])


@evaluator("Split")
def _split(node: Node, arrays: list[Any]) -> list[Array]:
    axis = node.attrs.get("axis", 0)
    sizes = [v.shape[axis] for v in node.outputs if v.shape is not None]
    return np.split(arrays[0], np.cumsum(sizes)[:-1], axis=axis)


@evaluator("Slice")
def _slice(node: Node, arrays: list[Any]) -> Array:
    taken = slices(node, arrays[0].shape)
    assert taken is not None
    return np.ascontiguousarray(arrays[0][tuple(taken)])


@evaluator("Transpose")
def _transpose(node: Node, arrays: list[Any]) -> Array:
    return np.ascontiguousarray(np.transpose(arrays[0], node.attrs.get("perm")))


@evaluator("Gather")
def _gather(node: Node, arrays: list[Any]) -> Array:
    # mode=None raises on an index out of range; negative ones count from the end, as in ONNX
    return np.asarray(np.take(arrays[0], arrays[1], axis=node.attrs.get("axis", 0)))


@evaluator("GatherElements")
def _gather_elements(node: Node, arrays: list[Any]) -> Array:
    data, indices = arrays
    axis = axis_of(node, node.attrs.get("axis", 0), data.ndim)
    grid = list(np.ogrid[tuple(slice(d) for d in indices.shape)])
    grid[axis] = indices
    return np.asarray(data[tuple(grid)])


@evaluator("ConstantOfShape")
def _constant_of_shape(node: Node, arrays: list[Any]) -> Array:
    value = node.attrs.get("value")
    fill: Any = np.zeros(1, np.float32) if value is None else value
    return np.full(tuple(int(d) for d in arrays[0]), fill.reshape(-1)[0], fill.dtype)


@evaluator("Range")
def _range(node: Node, arrays: list[Any]) -> Array:
    start, _, step = (a.reshape(-1)[0] for a in arrays)
    shape = node.output.shape
    assert shape is not None
    return np.asarray(start + np.arange(shape[0], dtype=start.dtype) * step).astype(start.dtype)


@evaluator("CumSum")
def _cumsum(node: Node, arrays: list[Any]) -> Array:
    x, axis = arrays[0], int(arrays[1].reshape(-1)[0])
    back = bool(node.attrs.get("reverse", 0))
    x = np.flip(x, axis) if back else x
    total = np.cumsum(x, axis=axis, dtype=x.dtype)
    if node.attrs.get("exclusive", 0):
        # moved on by one: a difference would lose what an infinite term leaves
        ahead = np.zeros_like(total)
        np.moveaxis(ahead, axis, 0)[1:] = np.moveaxis(total, axis, 0)[:-1]
        total = ahead
    return np.ascontiguousarray(np.flip(total, axis) if back else total)
