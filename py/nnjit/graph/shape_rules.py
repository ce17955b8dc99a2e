"""What shape rules are written with: the registry, broadcasting, constants, errors.

A rule takes a node whose inputs are inferred and sets dtype and shape of its outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

from ..errors import ShapeError
from .const import Shape
from .ir import Node, Value
from .registering import registering

Rule: TypeAlias = "Callable[[Node], None]"
RULES: dict[str, Rule] = {}


rule = registering(RULES)
"""Registers the rule of operators of the domain ai.onnx."""


def put(node: Node, dtype: str, shape: Sequence[int] | None, index: int = 0) -> None:
    """Output `index` is dtype[shape]."""
    if index < len(node.outputs):
        value = node.outputs[index]
        if dtype:
            value.dtype = dtype
        value.shape = None if shape is None else tuple(shape)


def given(node: Node, index: int = 0) -> Value:
    """Input `index`, which the operator demands."""
    value = node.inputs[index]
    assert value is not None
    return value


def ints(value: Value | None) -> list[int] | None:
    """The integers of a constant, flat; None when it is absent or not known yet."""
    if value is None or value.const is None:
        return None
    flat: list[Any] = value.const.numpy().reshape(-1).tolist()
    return flat


def broadcast(node: Node, shapes: Sequence[Shape | None]) -> Shape | None:
    """Multidirectional broadcasting; None when a shape is unknown."""
    result = shapes[0]
    for other in shapes[1:]:
        if result is None or other is None:
            return None
        if result == other:
            continue
        if len(result) < len(other):
            result, other = other, result
        pad = len(result) - len(other)
        dims = list(result)
        for i, b in enumerate(other, pad):
            a = dims[i]
            if a == 1:
                dims[i] = b
            elif b not in (1, a):
                fail(
                    node, "its operands do not broadcast", "equal dims or 1", [s and list(s) for s in shapes]
                )
        result = tuple(dims)
    return result


def axis_of(node: Node, axis: int, rank: int, past: int = 0) -> int:
    """A non-negative axis; `past` lets it be one behind the last."""
    if not -rank - past <= axis < rank + past:
        fail(node, f"axis {axis} is out of range", f"-{rank} to {rank - 1}", axis)
    return axis + rank + past if axis < 0 else axis


def fail(node: Node, why: str, expected: Any = None, got: Any = None) -> NoReturn:
    """Raises ShapeError with the node, its operands' types and shapes, and why."""
    operands = ", ".join(v.text() if v is not None else "_" for v in node.inputs)
    raise ShapeError(
        f"node {node.name!r}: {node.op}({operands}): {why}",
        hint="check the shapes of the model's inputs; the model may have been exported for other sizes",
        node=node.name,
        op=node.op,
        expected=expected,
        got=got,
    )
