"""Reshapes behind a product move behind the pointwise nodes that follow, so that these join the product's kernel."""

from __future__ import annotations

from ..ir import Graph, Node, Value
from .rewrite import Builder, Rule, apply, made_by, only_use

_PRODUCTS = ("MatMul", "Gemm")
UNARY = (
    "Abs", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Neg", "Relu", "Selu",
    "Sigmoid", "Softplus", "Softsign", "Sqrt", "Tanh",
)  # fmt: skip
BINARY = ("Add", "Sub", "Mul", "Div")
_NOT_DENSE = ("Transpose", "Slice", "Split", "Expand", "Conv", "ConvTranspose")
"""What makes values that may not lie in row-major order: another shape of them could be a copy."""


def _sink(b: Builder, node: Node) -> Value | None:
    """Add(Reshape(MatMul(a, w)), x) → Reshape(Add(MatMul(a, w), Reshape(x)))"""
    shape = node.output.shape
    for i, v in enumerate(node.inputs):
        reshape = made_by(v, "Reshape")
        source = reshape.inputs[0] if reshape is not None else None
        if v is None or source is None or source.shape is None or shape is None or v.shape != shape:
            continue
        if not only_use(b.graph, v) or not _behind_product(b.graph, source):
            continue
        inputs = [source if x is v else _reshaped(b, x, shape, source.shape) for x in node.inputs]
        if any(x is None and given is not None for x, given in zip(inputs, node.inputs, strict=True)):
            continue
        if i and node.op not in BINARY:
            continue
        return b.reshape(b(node.op, inputs, **node.attrs), shape)
    return None


def _reshaped(b: Builder, x: Value | None, shape: tuple[int, ...], target: tuple[int, ...]) -> Value | None:
    """An operand that meets `shape`, as it meets `target`; None if that takes more than another shape."""
    if x is None or x.shape is None or made_by(x, *_NOT_DENSE) is not None:
        return None
    if x.shape == shape:
        return b.reshape(x, target)
    if x.size == 1:
        return b.reshape(x, ())
    row = len(x.shape) <= len(shape) and x.size == x.shape[-1] == shape[-1] == target[-1]
    return b.reshape(x, x.shape[-1:]) if row else None


def _behind_product(graph: Graph, v: Value) -> bool:
    """Whether `v`, read in one place, is a product or made from one by pointwise nodes alone."""
    node = made_by(v, *_PRODUCTS, *UNARY, *BINARY) if only_use(graph, v) else None
    while node is not None and node.op not in _PRODUCTS:
        makers = (made_by(x, *_PRODUCTS, *UNARY, *BINARY) for x in node.inputs)
        node = next((n for n in makers if n is not None), None)
    return node is not None


_RULES: dict[str, list[Rule]] = {op: [_sink] for op in (*UNARY, *BINARY)}


def sink_reshapes(graph: Graph) -> Graph:
    """Gelu(Reshape(Gemm(a, w, c))) → Reshape(Gelu(Gemm(a, w, c))): the Gelu joins the product's kernel"""
    return apply(graph, _RULES)
