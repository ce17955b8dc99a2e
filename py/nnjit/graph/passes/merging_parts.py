"""Which products can become one with others (merging.py): their constant right factors, and what follows them alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from ..ir import Graph, Node, Value
from .rewrite import only_use
from .sinking import BINARY, UNARY

NEUTRAL = {"Add": -0.0, "Sub": 0.0, "Mul": 1.0, "Div": 1.0}
"""What changes no number, on the right of an operator."""
_JOINING = frozenset(
    {*UNARY, *BINARY, "Cast", "Clip", "Where", "Pow", "Max", "Min", "Swish", "PRelu", "QuantizeLinear", "Sum"}
)
"""What would join the kernel of a product that it follows."""


@dataclass
class Step:
    """A pointwise node after a product and its constant operand; no node for the bias of a Gemm."""

    op: str
    attrs: dict[str, Any]
    const: Value | None
    node: Node | None


@dataclass
class Part:
    """A product, its constant right factor [k, n] (turned: [n, k]), and what follows it alone, up to `end`."""

    node: Node
    left: Value
    weight: Value
    turned: bool
    steps: list[Step]
    end: Value

    @property
    def width(self) -> int:
        shape = self.weight.shape or ()
        return shape[0] if self.turned else shape[1]

    @property
    def data(self) -> Any:
        assert self.weight.const is not None
        return self.weight.const.data

    @property
    def kind(self) -> tuple[Any, ...]:
        """The same for products that can be one."""
        steps = [(s.op, repr(sorted(s.attrs.items()))) for s in self.steps if s.op not in NEUTRAL]
        return id(self.left), self.turned, tuple(steps)


def part_of(graph: Graph, n: Node) -> Part | None:
    """A product of something that a run computes with a constant matrix."""
    if n.domain or n.once or n.op not in ("MatMul", "Gemm"):
        return None
    x, w = n.inputs[0], n.inputs[1]
    if x is None or w is None or x.shape is None or x.once or x.dtype not in ("f32", "f16", "bf16"):
        return None
    turned = False
    if n.op == "Gemm":
        plain = n.attrs.get("alpha", 1.0) == 1.0 and not n.attrs.get("transA", 0)
        bias = n.input(2)
        if not plain or (bias is not None and n.attrs.get("beta", 1.0) != 1.0):
            return None
        turned = bool(n.attrs.get("transB", 0))
    elif w.const is None and w.producer is not None and w.producer.op == "Transpose" and only_use(graph, w):
        perm, source = w.producer.attrs.get("perm"), w.producer.inputs[0]
        if source is None or (perm is not None and list(perm) != [1, 0]):
            return None
        w, turned = source, True
    if w.const is None or w.shape is None or len(w.shape) != 2 or w.dtype != x.dtype or len(x.shape) < 2:
        return None
    if 0 in (*w.shape, *x.shape) or w.const.nbytes % 4:  # a GPU's buffers are written in whole words
        return None
    part = Part(n, x, w, turned, [], n.output)
    bias = n.input(2) if n.op == "Gemm" else None
    if bias is not None:
        if not _spreads(bias, part):
            return None
        part.steps.append(Step("Add", {}, bias, None))
    _follow(graph, part)
    return part


def _spreads(c: Value, part: Part) -> bool:
    """Whether a constant is one number for all, or one for each column."""
    const, shape = c.const, c.shape or ()
    if const is None or c.dtype != part.left.dtype or len(shape) > len(part.left.shape or ()):
        return False
    if const.array is None and const.nbytes % 4:  # it would have to be read
        return False
    return prod(shape) == 1 or (shape[-1] == part.width == prod(shape))


def _follow(graph: Graph, part: Part) -> None:
    """Goes from the product to the end of the pointwise nodes with constants that follow it by themselves."""
    while only_use(graph, part.end):
        n = part.end.users[0]
        if n.domain or n.captures or n.output.shape != part.end.shape:
            return
        const = None
        if n.op in NEUTRAL:
            at = next(i for i, v in enumerate(n.inputs) if v is part.end)
            const = n.inputs[1 - at]
            if const is None or not _spreads(const, part) or (at and n.op in ("Sub", "Div")):
                return
        elif n.op not in UNARY or len([v for v in n.inputs if v is not None]) != 1:
            return
        part.steps.append(Step(n.op, dict(n.attrs), const, n))
        part.end = n.output


def may_merge(graph: Graph, part: Part) -> bool:
    """Not where what follows joins the product's kernel and would be a step of its own behind a merged one: pointwise
    nodes with other operands, an output of the graph, a Concat or Pad that the kernel writes into."""
    v = part.end
    if graph.is_output(v) or not v.users:
        return False
    if len(v.users) == 1 and v.users[0].op in ("Concat", "Pad", "Transpose"):
        return False
    return not all(n.op in _JOINING and n.output.shape == v.shape for n in v.users)


def even(group: Sequence[Part]) -> bool:
    return len({p.width for p in group}) == 1


def axis_of(group: Sequence[Part]) -> int:
    """Along which axis of the weights as the model has them they are joined; -1: they are stacked."""
    return -1 if even(group) else 0 if group[0].turned else 1
