"""What lies between the product of q and k and the softmax: scales, a soft cap, added biases, masks by Where.

`product(graph, x, scores)` walks from the softmax's input `x` up to the MatMul and notes in `scores` what it passes.
`mask(b, scores, shape)` makes of all biases and masks what the attention node takes: in any order they come to

    score = seen ? s + bias : bias        s: the scaled, capped product

where `bias` is the sum of what is added to a score that is seen, and what the Where that hid it and all after that
made of one that is not. So what a Where puts in place of a score is exactly that, whatever q and k hold there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..dtypes import FLOATS
from ..ir import Graph, Node, Value
from .rewrite import Builder, made_by, only_use, scalar

LOWER_THAN_SCORES = -1e30
"""Added to a score, this or less leaves nothing of it."""


@dataclass(frozen=True, slots=True)
class Added:
    """Add(scores, bias), multiplied with `factor` behind it."""

    bias: Value
    factor: float


@dataclass(frozen=True, slots=True)
class Chosen:
    """Where(cond, scores, low), or Where(cond, low, scores) if `at`, the input that the scores are, is 2."""

    cond: Value
    low: Value
    number: float
    at: int


@dataclass(slots=True)
class Scores:
    """What was found, from the softmax upwards."""

    scale: float = 1.0
    softcap: float = 0.0
    links: list[Added | Chosen] = field(default_factory=list)
    """Biases and masks, the last applied first."""
    shape: tuple[int, ...] = ()
    """The scores' shape where they are applied."""


@dataclass(frozen=True, slots=True)
class Mask:
    """What is added to scores, if anything is, and how one that is not seen is told: `seen` is false there, or, if that
    is None, `bias` is `replace` or less there; if both are None, all are seen."""

    bias: Value | None = None
    seen: Value | None = None
    replace: float | None = None


def product(graph: Graph, x: Value, s: Scores) -> Node | None:
    """The MatMul that the scores `x` come from; fills `s`. Every value on the way is read once."""
    factor = 1.0
    while only_use(graph, x):
        n = x.producer
        if n is None or n.domain or x.shape is None:
            return None
        if n.op == "MatMul":
            s.scale *= factor
            return n
        if n.op == "Add":
            scores = _towards_product(n)
            if scores is None or s.softcap:
                return None
            at = next(i for i in (0, 1) if n.inputs[i] is scores)
            bias = n.inputs[1 - at]
            if bias is None or (s.shape and s.shape != x.shape):
                return None
            s.links.append(Added(bias, factor))
            s.shape, x = x.shape, scores
        elif n.op == "Where":
            found = _where(n)
            if found is None or s.softcap or factor != 1.0 or (s.shape and s.shape != x.shape):
                return None
            s.links.append(found[1])
            s.shape, x = tuple(x.shape or ()), found[0]
        elif n.op == "Mul" and (cap := _softcap(n)) is not None:
            if factor != 1.0 or s.softcap:
                return None
            x, s.softcap = cap
        elif n.op in ("Mul", "Div"):
            by = scalar(n.inputs[1])
            inner = n.inputs[0]
            if by is None and n.op == "Mul":
                by, inner = scalar(n.inputs[0]), n.inputs[1]
            if by is None or by == 0 or inner is None or inner.shape != x.shape:
                return None
            factor *= by if n.op == "Mul" else 1 / by
            x = inner
        elif (is_float_cast(n) or is_view(n)) and n.inputs[0] is not None:
            x = n.inputs[0]
        else:
            return None
    return None


def _towards_product(n: Node) -> Value | None:
    """The operand of an Add that has the Add's shape and comes from a product; the other is a bias."""
    for x in n.inputs:
        if x is None or x.shape != n.output.shape:
            continue
        y: Value | None = x
        for _ in range(8):
            m = None if y is None else y.producer
            if m is None or m.domain:
                break
            if m.op == "MatMul":
                return x
            if m.op not in ("Mul", "Div", "Add", "Cast", "Reshape", "Where", "Tanh"):
                break
            wide = [z for z in m.inputs if z is not None and z.size == n.output.size and z.const is None]
            y = wide[-1] if m.op == "Where" and wide else wide[0] if wide else None
    return None


def _where(n: Node) -> tuple[Value, Chosen] | None:
    """The scores and the mask of a Where that puts one number in place of some."""
    for at in (1, 2):
        cond, scores, low = n.inputs[0], n.inputs[at], n.inputs[3 - at]
        number = scalar(low)
        if number is None or cond is None or low is None or scores is None or scores.shape != n.output.shape:
            continue
        return scores, Chosen(cond, low, number, at)
    return None


def _softcap(n: Node) -> tuple[Value, float] | None:
    """(x, c) of c * tanh(x / c)"""
    for at in (0, 1):
        c, bent = scalar(n.inputs[1 - at]), made_by(n.inputs[at], "Tanh")
        inner = made_by(bent.inputs[0], "Div", "Mul") if bent is not None else None
        by = scalar(inner.inputs[1]) if inner is not None else None
        if c is None or c <= 0 or by is None or inner is None or inner.inputs[0] is None or bent is None:
            continue
        if len(bent.output.users) != 1 or len(inner.output.users) != 1:
            continue
        if abs((by if inner.op == "Div" else 1 / by if by else 0.0) - c) <= 1e-6 * c:
            return inner.inputs[0], c
    return None


def is_float_cast(n: Node) -> bool:
    """Between the float types: scores are computed in f32 whichever they are in."""
    x = n.inputs[0] if n.inputs else None
    return n.op == "Cast" and x is not None and x.dtype in ("f32", "f16", "bf16") and n.output.dtype in FLOATS


def is_view(n: Node) -> bool:
    """A Reshape that keeps the last two axes: between [B*H, M, N] and [B, H, M, N]."""
    x, shape = n.inputs[0] if n.inputs else None, n.output.shape
    return n.op == "Reshape" and x is not None and bool(x.shape and shape and x.shape[-2:] == shape[-2:])


def mask(b: Builder, s: Scores, shape: tuple[int, ...]) -> Mask | None:
    """The sum of everything added, and where it stands instead of the score; None if something of it does not fit the
    scores, whose shape is [batch, heads, rows, keys]."""
    total: Value | None = None
    seen: Value | None = None
    for link in reversed(s.links):
        x = link.bias if isinstance(link, Added) else link.cond
        if x.shape is None or len(x.shape) > 4:
            return None
        if len(s.shape) != 4 and len(x.shape) > 2:  # a leading axis would be batch times heads
            return None
        if any(n not in (1, m) for n, m in zip(x.shape[::-1], shape[::-1], strict=False)):
            return None
        if isinstance(link, Added):
            if x.dtype not in FLOATS or (total is not None and total.dtype != x.dtype):
                return None
            if link.factor != 1.0:
                x = b("Mul", [x, b.const(np.float32(link.factor), x.dtype)])
            total = x if total is None else b("Add", [total, x])
            continue
        if total is not None and total.dtype != link.low.dtype:
            return None
        kept = b.const(np.float32(0), link.low.dtype) if total is None else total
        total = b("Where", [x, kept, link.low] if link.at == 1 else [x, link.low, kept])
        here = x if link.at == 1 else b("Not", [x])
        seen = here if seen is None else b("And", [seen, here])
    numbers = [link.number for link in s.links if isinstance(link, Chosen)]
    if not numbers:
        return Mask(total)
    if len(numbers) < len(s.links) or not max(numbers) < 0:
        return Mask(total, seen)
    # nothing else is added: it is 0 where a score is seen
    top = max(numbers)
    return Mask(total, None, LOWER_THAN_SCORES if top <= LOWER_THAN_SCORES else top / 2)
