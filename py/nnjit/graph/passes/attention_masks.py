"""What a mask that is added to attention scores says before anything runs.

`reach(bias, rows, keys)`: how far each row of scores can see, if that grows with the row as under a causal mask. It is
found by value, never by the names or the shape of the nodes: constants are looked at, and so is what folds to one;
through Where, And, Or and Add it is followed which places are masked whatever the inputs hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..const import Const
from ..fold import deterministic, evaluate
from ..ir import Node, Value

MASKED = -9.9e3
"""A score with this or less added has no weight: exporters write -1e4, the smallest float or -inf. Next to a score that
is not masked its exponential is 0 in f32 unless true scores lie thousands apart, where -1e4 would mask nothing."""
FREE = -2e3
"""More than this leaves a score far above any masked one: no mask, a position bias, a slope."""
LIMIT = 1 << 22
"""Elements of a mask that are looked at."""
WORTH = 0.9
"""Share of the scores up to which leaving out the others pays."""

Array = Any


@dataclass(frozen=True, slots=True)
class Reach:
    """Row m sees keys 0..m + offset at most. certain: each row surely sees one of them; otherwise a row may be masked
    altogether, and then (plain softmax, finite masks) it sees all keys alike."""

    offset: int
    certain: bool


@dataclass(frozen=True, slots=True)
class Known:
    """Of each place: surely masked (false), surely free (true). Both of the mask's own, broadcastable shape."""

    masked: Array
    free: Array


def reach(bias: Value, rows: int, keys: int) -> Reach | None:
    """How far rows see under `bias` [..., rows, keys] (or broadcast to it); None if that is no use."""
    known = _added(bias, {})
    if known is None or not rows * keys:
        return None
    masked, free = (_plane(a, rows, keys) for a in (known.masked, known.free))
    last = keys - 1 - np.argmin(masked[:, ::-1], axis=1) - np.arange(rows)  # the last key each row may see
    seeing = last[~masked.all(axis=1)]
    if not len(seeing):
        return None
    offset = int(seeing.max())
    ends = np.clip(np.arange(rows) + offset + 1, 1, keys)
    if ends.sum() > WORTH * rows * keys:
        return None
    return Reach(offset, bool(free.any(axis=1).all()))


def _plane(a: Array, rows: int, keys: int) -> Array:
    """What holds for [row, key] in every batch and head."""
    a = np.broadcast_to(a, np.broadcast_shapes(np.shape(a), (rows, keys)))
    return a.reshape(-1, rows, keys).all(axis=0)


Memo = dict[Value, Any]


def _added(v: Value, memo: Memo) -> Known | None:
    """Of a float mask."""
    array = constant(v, memo)
    if array is not None:
        return Known(array <= MASKED, array > FREE)
    n = _node(v)
    if n is None or any(x is None or x.shape is None for x in n.inputs):
        return None
    if n.op == "Where":
        test, a, b = (_truth(n.inputs[0], memo), *(_added(x, memo) for x in n.inputs[1:] if x is not None))
        if test is None or (a is None and b is None):
            return None
        nothing = np.zeros((1, 1), bool)
        a, b = a or Known(nothing, nothing), b or Known(nothing, nothing)
        no, yes = test.masked, test.free
        return Known((no | a.masked) & (yes | b.masked), (no | a.free) & (yes | b.free))
    if n.op == "Add":
        one, two = (_added(x, memo) for x in n.inputs if x is not None)
        either = [k for k in (one, two) if k is not None]
        if not either:
            return None
        nothing = np.zeros((1, 1), bool)
        masked = either[0].masked if len(either) == 1 else either[0].masked | either[1].masked
        return Known(masked, either[0].free & either[1].free if len(either) == 2 else nothing)
    return _passed(n, memo, _added)


def _truth(v: Value | None, memo: Memo) -> Known | None:
    """Of a condition: masked where it surely is false, free where it surely is true."""
    if v is None:
        return None
    array = constant(v, memo)
    if array is not None:
        return Known(array == 0, array != 0)
    n = _node(v)
    if n is not None and n.op in ("And", "Or"):
        a, b = (_truth(x, memo) for x in n.inputs)
        if a is not None and b is not None:
            if n.op == "And":
                return Known(a.masked | b.masked, a.free & b.free)
            return Known(a.masked & b.masked, a.free | b.free)
    if n is not None and n.op == "Not":
        a = _truth(n.inputs[0], memo)
        return None if a is None else Known(a.free, a.masked)
    inner = None if n is None else _passed(n, memo, _truth)
    nothing = np.zeros((1, 1), bool)
    return inner or Known(nothing, nothing)


def _passed(n: Node, memo: Memo, of: Callable[[Value, Memo], Known | None]) -> Known | None:
    """Through nodes that show the same values: an Expand, a Reshape that adds or takes away leading ones."""
    x = n.inputs[0] if n.inputs else None
    if x is None or x.shape is None or n.output.shape is None:
        return None
    if n.op == "Expand":
        return of(x, memo)
    if n.op in ("Reshape", "Unsqueeze", "Squeeze"):
        a, b = list(x.shape), list(n.output.shape)
        while a[:1] == [1]:
            a.pop(0)
        while b[:1] == [1]:
            b.pop(0)
        return of(x, memo) if a == b else None
    return None


def _node(v: Value) -> Node | None:
    return v.producer if v.producer is not None and not v.producer.domain else None


def constant(v: Value, memo: Memo) -> Array | None:
    """The array of a constant, or of what small deterministic nodes make of constants; None where inputs or weights
    of the model come in."""
    if v in memo:
        return memo[v]
    memo[v] = None
    if v.const is not None:
        memo[v] = v.const.numpy() if v.const.size <= LIMIT else None
        return memo[v]
    n = _node(v)
    if (
        n is None
        or not n.once
        or n.captures
        or not deterministic(n)
        or not v.shape
        or (v.size or LIMIT + 1) > LIMIT
    ):
        return None
    inputs = [None if x is None else constant(x, memo) for x in n.inputs]
    if any(a is None and x is not None for a, x in zip(inputs, n.inputs, strict=True)):
        return None
    given = [None if x is None or a is None else Value(x.name, x.dtype, x.shape, Const.of(a, x.dtype))
             for a, x in zip(inputs, n.inputs, strict=True)]  # fmt: skip
    outputs = [Value(o.name, o.dtype, o.shape) for o in n.outputs]
    found = evaluate(Node(n.op, given, outputs, n.attrs, name=n.name, version=n.version))
    if found is not None:
        for o, array in zip((o for o in n.outputs if o.name), found, strict=False):
            memo[o] = np.asarray(array)
    return memo[v]
