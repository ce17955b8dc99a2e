"""Einsum: the labels are the axes of one kernel, those missing from the output are summed over."""

from __future__ import annotations

from math import prod

from nnjit.codegen.expr import Expr, Index, cast, op
from nnjit.codegen.spec import Axis
from nnjit.graph.ir import Node
from nnjit.lower.context import Context
from nnjit.lower.ops.compose import shape_of
from nnjit.lower.ops.linear import accumulate, result
from nnjit.lower.ops.pointwise import text
from nnjit.lower.registry import Computation, Unsupported, computation

MANY = 1 << 28
"""Products of more than two factors are not split into pairs: this is how many points are still worth it."""


def labels(node: Node) -> tuple[list[list[str]], list[str]]:
    """The labels of each input and of the output; what `...` stands for is numbered from the right."""
    equation = text(node, "equation").replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(node.inputs):
        raise Unsupported(f"Einsum {equation} of {len(node.inputs)} inputs")
    inputs, widest = [], 0
    for term, v in zip(terms, node.inputs, strict=True):
        rank = len(shape_of(v)) - len(term.replace("...", ""))
        widest = max(widest, rank)
        inputs.append(_spelled(term, rank))
    if arrow:
        return inputs, _spelled(right, widest)
    named = [c for c in left if c.isalpha()]
    once = sorted({c for c in named if named.count(c) == 1})
    return inputs, _spelled("..." if "..." in left else "", widest) + once


def _spelled(term: str, rank: int) -> list[str]:
    before, dots, after = term.partition("...")
    middle = [f"_{rank - 1 - i}" for i in range(rank)] if dots else []
    return [*before, *middle, *after]


@computation("Einsum")
def einsum(ctx: Context, node: Node, out: int) -> Computation:
    """y[output labels] = sum over the other labels of the product of the inputs at theirs."""
    inputs, kept = labels(node)
    extents: dict[str, int] = {}
    for names, v in zip(inputs, node.inputs, strict=True):
        for name, n in zip(names, shape_of(v), strict=True):
            extents[name] = max(extents.get(name, 1), n) if n else 0
    dtype = node.outputs[0].dtype
    wide = accumulate(dtype)
    factors: list[Expr] = []
    for names, v in zip(inputs, node.inputs, strict=True):
        # a dimension of 1 under a longer label is broadcast; a label twice in one input reads its diagonal
        at = [Index() if n == 1 else Index.of(name) for name, n in zip(names, shape_of(v), strict=True)]
        factors.append(cast(ctx.read(v, at), wide))
    body = factors[0]
    for f in factors[1:]:
        body = op("mul", body, f)
    if len(factors) > 2 and prod(extents.values()) > MANY:
        raise Unsupported("Einsum of so many large inputs")
    axes = [Axis(name, extents[name]) for name in kept]
    gone = [Axis(name, n) for name, n in extents.items() if name not in kept]
    idx = [Index.of(name) for name in kept]
    if not gone:
        return Computation(axes, idx, cast(body, dtype), name="einsum")
    if any(a.extent == 0 for a in gone):
        raise Unsupported("Einsum over an empty dimension")
    return Computation(axes, idx, result(dtype), reduce=gone, combine="sum", body=body, name="einsum")
