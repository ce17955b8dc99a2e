"""Passes on operators that move no value: chains of Reshape, Squeeze, Transpose become one."""

from __future__ import annotations

from ..ir import Graph, Node, Value
from ..shape_rules import ints
from .rewrite import Builder, Rule, apply, made_by

_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def _reshape(b: Builder, node: Node) -> Value | None:
    """Unsqueeze(Squeeze(x)) → Reshape(x, [2, 3]); every such node to Reshape with a full shape"""
    x, shape = node.inputs[0], node.output.shape
    if x is None or shape is None or x.shape is None:
        return None
    inner = made_by(x, *_RESHAPES)
    root = x
    while inner is not None and inner.inputs[0] is not None and inner.inputs[0].shape is not None:
        root = inner.inputs[0]
        inner = made_by(root, *_RESHAPES)
    if root is x and node.op == "Reshape" and ints(node.inputs[1]) == list(shape):
        return None
    return b.reshape(root, shape)


def _transpose(b: Builder, node: Node) -> Value | None:
    """Transpose(Transpose(x)) → one Transpose; one that only moves axes of extent 1 → Reshape"""
    x = node.inputs[0]
    if x is None or x.shape is None or node.output.shape is None:
        return None
    shape = x.shape
    perm = list(node.attrs.get("perm") or list(range(len(shape)))[::-1])
    inner = made_by(x, "Transpose")
    if inner is not None and inner.inputs[0] is not None and inner.inputs[0].shape is not None:
        x, shape = inner.inputs[0], inner.inputs[0].shape
        first = inner.attrs.get("perm") or list(range(len(shape)))[::-1]
        perm = [first[p] for p in perm]
    moved = [p for p in perm if shape[p] != 1]
    if moved == sorted(moved):
        return b.reshape(x, node.output.shape)
    if inner is None and node.attrs.get("perm"):
        return None
    return b("Transpose", [x], perm=perm)


_RULES: dict[str, list[Rule]] = {**{op: [_reshape] for op in _RESHAPES}, "Transpose": [_transpose]}


def merge_layout(graph: Graph) -> Graph:
    """Reshape(Unsqueeze(x)) → Reshape(x); Transpose(Transpose(x)) → Transpose(x)"""
    return apply(graph, _RULES)
