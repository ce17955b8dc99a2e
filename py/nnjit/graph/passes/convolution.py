"""Passes around convolutions: what is constant per channel moves into weight and bias.

Large weights are not touched here: the product becomes a node that runs once at load.
"""

from __future__ import annotations

from ..ir import Graph, Node, Value
from ..shape_rules import ints
from .rewrite import Builder, Rule, apply, is_float, made_by, only_use


def _folds_into(b: Builder, value: Value | None) -> Node | None:
    """The convolution with constant weights that only this node reads."""
    conv = made_by(value, "Conv", "ConvTranspose")
    if (
        conv is None
        or value is None
        or not only_use(b.graph, value)
        or value.shape is None
        or not is_float(value)
    ):
        return None
    if conv.op == "ConvTranspose" and conv.attrs.get("group", 1) != 1:
        return None
    constant = all(v is None or v.once or v.const is not None for v in conv.inputs[1:])
    return conv if constant else None


def _per_channel(b: Builder, value: Value | None, shape: tuple[int, ...]) -> Value | None:
    """A constant that varies along axis 1 of `shape` at most, as a vector of its channels."""
    if value is None or value.const is None or value.shape is None or len(value.shape) > len(shape):
        return None
    padded = (1,) * (len(shape) - len(value.shape)) + value.shape
    if any(d != 1 for i, d in enumerate(padded) if i != 1) or padded[1] not in (1, shape[1]):
        return None
    return b("Expand", [b.reshape(value, (padded[1],)), b.const([shape[1]])])


def _scaled(b: Builder, conv: Node, scale: Value | None, shift: Value | None) -> Value:
    """conv(x, w, bias) * scale + shift → conv(x, w * scale, bias * scale + shift)"""
    x, w, bias = conv.inputs[0], conv.inputs[1], conv.input(2)
    assert w is not None and w.shape is not None
    if scale is not None:
        tail = (1,) * (len(w.shape) - 2)
        rows = (-1, 1, *tail) if conv.op == "Conv" else (1, -1, *tail)
        w = b("Mul", [w, b("Reshape", [scale, b.const(list(rows))])])
        bias = None if bias is None else b("Mul", [bias, scale])
    if shift is not None:
        bias = shift if bias is None else b("Add", [bias, shift])
    return b(conv.op, [x, w, bias] if bias is not None else [x, w], **conv.attrs)


def _batch_norm(b: Builder, node: Node) -> Value | None:
    """BatchNormalization(Conv(x, w), …) → Conv(x, w', b'); without a Conv → Add(Mul(x, s), t)"""
    x = node.inputs[0]
    if node.attrs.get("training_mode", 0) or x is None or x.shape is None or len(x.shape) < 2:
        return None
    scale, bias, mean, var = node.inputs[1:5]
    if any(v is None or v.const is None or v.dtype != x.dtype for v in (scale, bias, mean, var)):
        return None
    eps = b.const(node.attrs.get("epsilon", 1e-5), x.dtype)
    factor = b("Div", [scale, b("Sqrt", [b("Add", [var, eps])])])
    shift = b("Sub", [bias, b("Mul", [mean, factor])])
    conv = _folds_into(b, x)
    if conv is not None:
        return _scaled(b, conv, factor, shift)
    column = (x.shape[1], *(1,) * (len(x.shape) - 2))
    return b("Add", [b("Mul", [x, b.reshape(factor, column)]), b.reshape(shift, column)])


def _after_conv(b: Builder, node: Node) -> Value | None:
    """Mul(Conv(x, w, b), c) → Conv(x, w·c, b·c); Add(Conv(x, w), c) → Conv(x, w, c); Sub and Div likewise"""
    sides = (0, 1) if node.op in ("Mul", "Add") else (0,)
    for side in sides:
        value, operand = node.inputs[side], node.inputs[1 - side]
        conv = _folds_into(b, value)
        if conv is None or value is None or value.shape != node.output.shape or value.shape is None:
            continue
        vector = _per_channel(b, operand, value.shape)
        if vector is None:
            continue
        if node.op == "Mul":
            return _scaled(b, conv, vector, None)
        if node.op == "Div":
            return _scaled(b, conv, b("Reciprocal", [vector]), None)
        return _scaled(b, conv, None, vector if node.op == "Add" else b("Neg", [vector]))
    return None


def _pad_before(b: Builder, node: Node) -> Value | None:
    """Conv(Pad(x, zeros around the image)) → Conv(x) pads=…"""
    pad = made_by(node.inputs[0], "Pad")
    if pad is None or node.attrs.get("auto_pad", "NOTSET") != "NOTSET" or not only_use(b.graph, pad.output):
        return None
    x, pads, fill = pad.inputs[0], ints(pad.input(1)), pad.input(2)
    if x is None or x.shape is None or pads is None or pad.input(3) is not None:
        return None
    zero = fill is None or (fill.const is not None and not fill.const.numpy().any())
    if pad.attrs.get("mode", "constant") != "constant" or not zero or any(p < 0 for p in pads):
        return None
    rank = len(x.shape)
    if pads[0] or pads[1] or pads[rank] or pads[rank + 1]:
        return None
    own = node.attrs.get("pads") or [0] * (2 * (rank - 2))
    total = [a + p for a, p in zip(own, [*pads[2:rank], *pads[rank + 2 :]], strict=True)]
    return b("Conv", [x, *node.inputs[1:]], **{**node.attrs, "pads": total})


_RULES: dict[str, list[Rule]] = {
    "Conv": [_pad_before],
    "BatchNormalization": [_batch_norm],
    **{op: [_after_conv] for op in ("Mul", "Add", "Sub", "Div")},
}


def fold_into_convolutions(graph: Graph) -> Graph:
    """Relu(BatchNormalization(Conv(Pad(x), w))) → Relu(Conv(x, w', b') pads=…)"""
    return apply(graph, _RULES)
