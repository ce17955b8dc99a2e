"""Passes to one spelling: fewer operators and fewer forms for lowering to know."""

from __future__ import annotations

from ..dtypes import TO_ONNX
from ..ir import Graph, Node, Value
from ..shape_rules import ints
from .rewrite import Builder, Rule, apply, is_float, made_by, only_use, scalar


def _variadic(b: Builder, node: Node) -> Value | None:
    """Sum(a, b, c) → Add(Add(a, b), c); Max, Min likewise; Mean(a, b) → Mul(Add(a, b), 1/2)"""
    values = [v for v in node.inputs if v is not None]
    op = {"Sum": "Add", "Mean": "Add"}.get(node.op, node.op)
    if len(values) < 2 or (len(values) == 2 and op == node.op) or any(v.shape is None for v in values):
        return None
    if node.op == "Mean" and not is_float(node.output):
        return None
    total = values[0]
    for value in values[1:]:
        total = b(op, [total, value])
    if node.op == "Mean":
        total = b("Div", [total, b.const(len(values), node.output.dtype)])
    return total


def _global_pool(b: Builder, node: Node) -> Value | None:
    """GlobalAveragePool(x) → ReduceMean(x, [2, 3]); GlobalMaxPool(x) → ReduceMax(x, [2, 3])"""
    x = node.inputs[0]
    if x is None or x.shape is None or len(x.shape) < 3:
        return None
    op = {"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}[node.op]
    return b(op, [x, b.const(list(range(2, len(x.shape))))], keepdims=1)


def _power(b: Builder, node: Node) -> Value | None:
    """Pow(x, 2) → Mul(x, x); Pow(x, 0.5) → Sqrt(x); Pow(x, -1) → Reciprocal(x)"""
    x, exponent = node.inputs[0], scalar(node.inputs[1])
    if x is None or exponent is None or not is_float(x) or x.shape is None or x.shape != node.output.shape:
        return None
    if exponent == 2:
        return b("Mul", [x, x])
    if exponent == 0.5:
        return b("Sqrt", [x])
    if exponent == -1:
        return b("Reciprocal", [x])
    return None


def _cast_like(b: Builder, node: Node) -> Value | None:
    """CastLike(x, y[f16]) → Cast(x) to=f16"""
    x, like = node.inputs
    if x is None or like is None or like.dtype not in TO_ONNX:
        return None
    kept = {k: v for k, v in node.attrs.items() if k in ("saturate", "round_mode")}
    return b("Cast", [x], to=TO_ONNX[like.dtype], **kept)


def _reduce_axes(b: Builder, node: Node) -> Value | None:
    """ReduceSum(x) over all axes → ReduceSum(x, [0, 1, …]); negative axes become positive"""
    x, axes = node.inputs[0], node.input(1)
    if x is None or x.shape is None:
        return None
    given = ints(axes)
    if axes is not None and given is None:
        return None
    if not given and node.attrs.get("noop_with_empty_axes", 0):
        return None
    rank = len(x.shape)
    wanted = sorted(a % rank for a in given) if given else list(range(rank))
    if given == wanted:
        return None
    return b(node.op, [x, b.const(wanted)], keepdims=node.attrs.get("keepdims", 1))


def _reduce_keepdims(b: Builder, node: Node) -> Value | None:
    """Reshape(ReduceMax(x) keepdims=0, [1, 1]) → ReduceMax(x) keepdims=1"""
    reduce = made_by(node.inputs[0], "ReduceMax", "ReduceMin", "ReduceSum", "ReduceMean")
    if reduce is None or reduce.attrs.get("keepdims", 1) or not only_use(b.graph, reduce.output):
        return None
    x, axes = reduce.inputs[0], ints(reduce.input(1))
    if x is None or x.shape is None or not axes:
        return None
    gone = {a % len(x.shape) for a in axes}
    if tuple(1 if i in gone else d for i, d in enumerate(x.shape)) != node.output.shape:
        return None
    return b(reduce.op, [x, reduce.input(1)], keepdims=1)


def _dropout(b: Builder, node: Node) -> list[Value] | None:
    """y, mask = Dropout(x) → x, true; training mode stays"""
    x, training = node.inputs[0], node.input(2)
    if x is None or x.shape is None or (training is not None and training.const is None):
        return None
    if training is not None and training.const is not None and training.const.numpy().any():
        return None
    b.graph.stands_for[node.name] = ""
    if len(node.outputs) == 1:
        return [x]
    return [x, b("Expand", [b.const(True, "bool"), b.const(list(x.shape))])]


_REDUCTIONS = [f"Reduce{n}" for n in "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare".split()]
_RULES: dict[str, list[Rule]] = {
    **{op: [_variadic] for op in ("Sum", "Max", "Min", "Mean")},
    **{op: [_global_pool] for op in ("GlobalAveragePool", "GlobalMaxPool")},
    **{op: [_reduce_axes] for op in _REDUCTIONS},
    "Pow": [_power],
    "CastLike": [_cast_like],
    "Dropout": [_dropout],
    "Reshape": [_reduce_keepdims],
}


def canonical_operators(graph: Graph) -> Graph:
    """Sum → Add, GlobalAveragePool → ReduceMean, Pow(x, 2) → Mul(x, x), CastLike → Cast, axes explicit"""
    return apply(graph, _RULES)
