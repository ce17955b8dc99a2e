"""Shape rules: element-wise operators, casts, reductions, matrix products."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np

from . import dtypes
from .const import Const, Shape
from .ir import Node
from .shape_rules import axis_of, broadcast, fail, given, ints, put, rule
from .small_types import bits_only, decode

_SAME = """
    Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Clip Cos Cosh CumProd CumSum Elu Erf
    Exp Floor Gelu HardSigmoid HardSwish Hardmax Identity LeakyRelu Log LogSoftmax LpNormalization
    LRN MeanVarianceNormalization Mish Neg Not PRelu Reciprocal Relu ReverseSequence Round Scatter
    ScatterElements ScatterND Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Swish
    Tan Tanh TensorScatter ThresholdedRelu Trilu GroupNormalization InstanceNormalization
    RotaryEmbedding
"""


@rule(*_SAME.split())
def same_as_input(node: Node) -> None:
    """x: T[s] → T[s]"""
    x = given(node)
    put(node, x.dtype, x.shape)
    if x.type is not None:  # Identity of a sequence or optional
        node.output.type = x.type


@rule("IsNaN", "IsInf")
def predicate(node: Node) -> None:
    put(node, "bool", given(node).shape)


@rule(
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Mod",
    "And",
    "Or",
    "Xor",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
)
@rule("Max", "Min", "Sum", "Mean")
def arithmetic(node: Node) -> None:
    """Operands broadcast; the first one's type is the result's."""
    values = [given(node, i) for i in range(len(node.inputs))]
    put(node, values[0].dtype, broadcast(node, [v.shape for v in values]))


@rule("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
def compare(node: Node) -> None:
    put(node, "bool", broadcast(node, [given(node).shape, given(node, 1).shape]))


@rule("Where")
def where(node: Node) -> None:
    a, b = given(node, 1), given(node, 2)
    put(node, a.dtype or b.dtype, broadcast(node, [given(node).shape, a.shape, b.shape]))


@rule("Cast")
def cast(node: Node) -> None:
    put(node, dtypes.FROM_ONNX[node.attrs["to"]], given(node).shape)


@rule("CastLike")
def cast_like(node: Node) -> None:
    put(node, given(node, 1).dtype, given(node).shape)


@rule("Dropout")
def dropout(node: Node) -> None:
    x = given(node)
    put(node, x.dtype, x.shape)
    put(node, "bool", x.shape, 1)


@rule("QuantizeLinear")
def quantize(node: Node) -> None:
    zero = node.input(2)
    to = node.attrs.get("output_dtype", 0)
    put(node, zero.dtype if zero is not None else dtypes.FROM_ONNX[to] if to else "u8", given(node).shape)


@rule("DequantizeLinear")
def dequantize(node: Node) -> None:
    to = node.attrs.get("output_dtype", 0)
    put(node, dtypes.FROM_ONNX[to] if to else given(node, 1).dtype, given(node).shape)


@rule("DynamicQuantizeLinear")
def dynamic_quantize(node: Node) -> None:
    put(node, "u8", given(node).shape)
    put(node, "f32", (), 1)
    put(node, "u8", (), 2)


# -- reductions


def reduced(
    node: Node, shape: Shape | None, axes: list[int] | None, keepdims: bool, noop: bool
) -> Shape | None:
    """`shape` without `axes` (without all of them where none is named, unless `noop`); they are 1 if `keepdims`."""
    if shape is None:
        return None
    if not axes:
        if noop:
            return shape
        axes = list(range(len(shape)))
    gone = {axis_of(node, a, len(shape)) for a in axes}
    if keepdims:
        return tuple(1 if i in gone else d for i, d in enumerate(shape))
    return tuple(d for i, d in enumerate(shape) if i not in gone)


@rule(*(f"Reduce{n}" for n in "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare".split()))
def reduce(node: Node) -> None:
    x, axes = given(node), node.input(1)
    known = ints(axes)
    if axes is not None and known is None:
        # Unknown axes still tell nothing but the rank; the shape has to wait.
        put(node, x.dtype, None)
        return
    keep = bool(node.attrs.get("keepdims", 1))
    put(node, x.dtype, reduced(node, x.shape, known, keep, bool(node.attrs.get("noop_with_empty_axes", 0))))


@rule("ArgMax", "ArgMin")
def arg_reduce(node: Node) -> None:
    axis = [node.attrs.get("axis", 0)]
    put(node, "i64", reduced(node, given(node).shape, axis, bool(node.attrs.get("keepdims", 1)), False))


@rule("TopK")
def top_k(node: Node) -> None:
    x, k = given(node), ints(node.input(1))
    shape = None
    if x.shape is not None and k:
        axis = axis_of(node, node.attrs.get("axis", -1), len(x.shape))
        if k[0] > x.shape[axis]:
            fail(node, f"k = {k[0]} is more than axis {axis} holds", x.shape[axis], k[0])
        shape = (*x.shape[:axis], k[0], *x.shape[axis + 1 :])
    put(node, x.dtype, shape)
    put(node, "i64", shape, 1)


# -- products


def matmul_shape(node: Node, a: Shape | None, b: Shape | None) -> Shape | None:
    """numpy.matmul's result shape."""
    if a is None or b is None:
        return None
    if not a or not b:
        fail(node, "a scalar cannot be multiplied", "rank 1 or more", [list(a), list(b)])
    left = a if len(a) > 1 else (1, *a)
    right = b if len(b) > 1 else (*b, 1)
    if left[-1] != right[-2]:
        fail(node, f"inner dims differ: {left[-1]} and {right[-2]}", left[-1], right[-2])
    batch = broadcast(node, [left[:-2], right[:-2]])
    assert batch is not None
    return (*batch, *left[-2:-1][: len(a) > 1], *right[-1:][: len(b) > 1])


@rule("MatMul")
def matmul(node: Node) -> None:
    a, b = given(node), given(node, 1)
    put(node, a.dtype, matmul_shape(node, a.shape, b.shape))


@rule("MatMulInteger")
def matmul_integer(node: Node) -> None:
    put(node, "i32", matmul_shape(node, given(node).shape, given(node, 1).shape))


@rule("QLinearMatMul")
def qlinear_matmul(node: Node) -> None:
    put(node, given(node, 7).dtype, matmul_shape(node, given(node).shape, given(node, 3).shape))


@rule("Gemm")
def gemm(node: Node) -> None:
    a, b = given(node), given(node, 1)
    shape = None
    if a.shape is not None and b.shape is not None:
        if len(a.shape) != 2 or len(b.shape) != 2:
            fail(node, "A and B must be matrices", "rank 2", [list(a.shape), list(b.shape)])
        m, k = a.shape[::-1] if node.attrs.get("transA", 0) else a.shape
        kb, n = b.shape[::-1] if node.attrs.get("transB", 0) else b.shape
        if k != kb:
            fail(node, f"inner dims differ: {k} and {kb}", k, kb)
        shape = (m, n)
    put(node, a.dtype, shape)


@rule("Einsum")
def einsum(node: Node) -> None:
    values = [given(node, i) for i in range(len(node.inputs))]
    shapes = [v.shape for v in values]
    put(
        node,
        values[0].dtype,
        None if None in shapes else _einsum_shape(node, [s for s in shapes if s is not None]),
    )


def _einsum_shape(node: Node, shapes: list[Shape]) -> Shape:
    equation = node.attrs["equation"].replace(" ", "")
    left, arrow, right = equation.partition("->")
    sizes: dict[str, int] = {}
    rest: list[Shape] = []  # what each ellipsis stands for
    for term, shape in zip(left.split(","), shapes, strict=True):
        head, dots, tail = term.partition("...")
        if len(head) + len(tail) > len(shape) or (not dots and len(head) != len(shape)):
            fail(node, f"{term!r} does not fit {list(shape)}", term, list(shape))
        for letter, dim in [*zip(head, shape, strict=False), *zip(tail[::-1], shape[::-1], strict=False)]:
            if sizes.setdefault(letter, dim) != dim and dim != 1:
                if sizes[letter] != 1:
                    fail(node, f"{letter!r} is both {sizes[letter]} and {dim}", sizes[letter], dim)
                sizes[letter] = dim
        if dots:
            rest.append(shape[len(head) : len(shape) - len(tail)])
    dims = broadcast(node, rest) if rest else ()
    assert dims is not None
    if not arrow:
        letters = left.replace(",", "").replace(".", "")
        right = ("..." if rest else "") + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    head, dots, tail = right.partition("...")
    return (*(sizes[c] for c in head), *(dims if dots else ()), *(sizes[c] for c in tail))


def _scalar(const: Const) -> Any:
    """The number in a constant of one element; bfloat16 may be there as bits only."""
    array = const.numpy().reshape(-1)[:1]
    return (decode(array, const.dtype) if bits_only(const.dtype) else array)[0].item()


@rule("Range")
def range_(node: Node) -> None:
    start = given(node)
    bounds = [_scalar(v.const) for v in node.inputs if v is not None and v.const is not None]
    shape = None
    if len(bounds) == 3:
        if bounds[2] == 0:
            fail(node, "its step is 0", "a step other than 0", 0)
        count = max(ceil((bounds[1] - bounds[0]) / bounds[2]), 0)
        if isinstance(bounds[0], float) and start.dtype == "f32":  # count in the type's own precision
            lo, hi, step = (np.float32(b) for b in bounds)
            count = max(int(np.ceil((hi - lo) / step)), 0)
        shape = (count,)
    put(node, start.dtype, shape)
