"""Random models with an axis that grows: chains of nodes of which many leave infinities and NaN beyond n.

`draw(seed)` -> Drawn: nodes, weights, and feeds for each n.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import helper

from nnjit.graph.room.lengths import Length

N = Length.of()
Dims = tuple[Any, ...]
"""Of a value: ints, and lengths that depend on n."""
FAR = 2**60
SMALLEST = (3,)
"""The n for which every axis has a place."""


@dataclass
class Drawn:
    seed: int
    nodes: list[Any] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)

    def feeds(self, n: int) -> dict[str, Any]:
        """x[2,n,6] and z[2,n+2,6] away from 0, ids[n]."""
        rng = np.random.default_rng(self.seed + n)
        sign = rng.choice([-1.0, 1.0], (2, n + 2, 6))
        far = (sign * rng.uniform(0.5, 1.5, (2, n + 2, 6))).astype(np.float32)
        return {"x": far[:, :n], "z": far[:, ::-1].copy(), "ids": rng.integers(0, 6, n)}


class _Draw:
    def __init__(self, seed: int) -> None:
        self.chance, self.rng = random.Random(seed), np.random.default_rng(seed)
        self.made = Drawn(seed)
        self.values: dict[str, Dims] = {"x": (2, N, 6), "z": (2, N + 2, 6)}
        self.count = 0

    def node(self, op: str, inputs: list[str], dims: Dims, **attrs: Any) -> str:
        self.count += 1
        name = f"v{self.count}"
        self.made.nodes.append(helper.make_node(op, inputs, [name], f"{op}_{self.count}", **attrs))
        self.values[name] = dims
        return name

    def hold(self, array: Any) -> str:
        self.count += 1
        self.made.weights[f"w{self.count}"] = np.asarray(array)
        return f"w{self.count}"

    def normal(self, *shape: int) -> str:
        return self.hold(self.rng.normal(0, 0.5, shape).astype(np.float32))

    def pick(self, rank: int | None = None) -> tuple[str, Dims]:
        names = [n for n, d in self.values.items() if rank is None or len(d) == rank]
        name = self.chance.choice(names[-5:])
        return name, self.values[name]

    def grown(self, dims: Dims) -> list[int]:
        return [i for i, d in enumerate(dims) if isinstance(d, Length)]


def _unary(d: _Draw) -> None:
    x, dims = d.pick()
    d.node(
        d.chance.choice(["Reciprocal", "Exp", "Relu", "Tanh", "Sigmoid", "Neg", "Abs", "Erf", "Gelu"]),
        [x],
        dims,
    )


def _log(d: _Draw) -> None:
    x, dims = d.pick()
    d.node("Log", [d.node("Abs", [x], dims)], dims)


def _binary(d: _Draw) -> None:
    x, dims = d.pick()
    same = [n for n, other in d.values.items() if other == dims]
    d.node(d.chance.choice(["Add", "Mul", "Sub", "Max", "Div"]), [x, d.chance.choice(same)], dims)


def _row(d: _Draw) -> None:
    x, dims = d.pick()
    if isinstance(dims[-1], int):
        d.node(d.chance.choice(["Add", "Mul"]), [x, d.normal(dims[-1])], dims)


def _where(d: _Draw) -> None:
    x, dims = d.pick()
    test = d.node(d.chance.choice(["Less", "Greater"]), [x, d.hold(np.float32(0.2))], dims)
    d.values.pop(test)
    d.node("Where", [test, x, d.hold(np.float32(d.chance.choice([0.0, -1.0])))], dims)


def _matmul(d: _Draw) -> None:
    x, dims = d.pick(3)
    if isinstance(dims[-1], int):
        wide = d.chance.choice([3, 6])
        d.node("MatMul", [x, d.normal(dims[-1], wide)], (*dims[:-1], wide))


def _attend(d: _Draw) -> None:
    """Scores of a tensor with itself, softmax or not, and back."""
    x, dims = d.pick(3)
    if d.grown(dims) != [1]:
        return
    turned = d.node("Transpose", [x], (dims[0], dims[2], dims[1]), perm=[0, 2, 1])
    s = d.node("MatMul", [x, turned], (dims[0], dims[1], dims[1]))
    if d.chance.random() < 0.7:
        s = d.node("Softmax", [s], d.values[s], axis=d.chance.choice([-1, -1, 1]))
    d.node("MatMul", [s, x], dims)


def _softmax(d: _Draw) -> None:
    x, dims = d.pick()
    axis = d.chance.randrange(len(dims))
    d.node(d.chance.choice(["Softmax", "LogSoftmax"]), [x], dims, axis=axis)


def _reduce(d: _Draw) -> None:
    x, dims = d.pick()
    op = d.chance.choice(["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceLogSumExp"])
    axes = sorted(d.chance.sample(range(len(dims)), d.chance.randint(1, min(2, len(dims)))))
    kept: Dims = tuple(1 if i in axes else v for i, v in enumerate(dims))
    y = d.node(op, [x, d.hold(np.array(axes))], kept, keepdims=1)
    if kept and any(isinstance(v, Length) for v in dims):  # and back against what it came from
        d.node(d.chance.choice(["Sub", "Mul", "Add"]), [x, y], dims)


def _arg(d: _Draw) -> None:
    x, dims = d.pick()
    y = d.node(
        d.chance.choice(["ArgMax", "ArgMin"]), [x], dims, axis=d.chance.randrange(len(dims)), keepdims=0
    )
    d.values.pop(y)
    d.made.outputs.append(y)


def _cumsum(d: _Draw) -> None:
    x, dims = d.pick()
    axis = d.hold(np.array(d.chance.randrange(len(dims))))
    d.node("CumSum", [x, axis], dims, reverse=d.chance.randint(0, 1), exclusive=d.chance.randint(0, 1))


def _slice(d: _Draw) -> None:
    x, dims = d.pick()
    grown = d.grown(dims)
    if not grown:
        return
    axis = grown[0]
    length = dims[axis]
    start, end, step, dim = d.chance.choice(
        [
            (0, -1, 1, length - 1),
            (1, FAR, 1, length - 1),
            (-2, FAR, 1, 2),
            (0, 3, 1, 3),
            (1, -1, 1, length - 2),
            (-1, FAR, 1, 1),
            (0, FAR, 2, (length + 1) // 2),
            (1, -1, 2, (length - 1) // 2),
            (-1, -FAR, -1, length),
            (-2, -FAR, -2, length // 2),
            (-1, 0, -1, length - 1),
        ]
    )
    if isinstance(dim, Length) and dim.at(SMALLEST) < 1:
        return
    bounds = [d.hold(np.array([i])) for i in (start, end, axis, step)]
    d.node("Slice", [x, *bounds], (*dims[:axis], dim, *dims[axis + 1 :]))


def _pick(d: _Draw) -> None:
    x, dims = d.pick()
    grown = d.grown(dims)
    if grown and len(dims) > 1:
        at = d.hold(np.array(d.chance.choice([0, 1, -1, -2])))
        d.node("Gather", [x, at], (*dims[: grown[0]], *dims[grown[0] + 1 :]), axis=grown[0])


def _look(d: _Draw) -> None:
    d.node("Gather", [d.normal(6, 6), "ids"], (N, 6))


def _concat(d: _Draw) -> None:
    x, dims = d.pick(3)
    grown = d.grown(dims)
    if grown != [1] or dims[1].b > 4 or dims[0] != 2 or not isinstance(dims[2], int):
        return
    size = d.chance.choice([1, 2])
    other = d.normal(2, size, dims[2])
    parts = [x, other] if d.chance.random() < 0.6 else [other, x]
    d.node("Concat", parts, (2, dims[1] + size, dims[2]), axis=1)


def _both(d: _Draw) -> None:
    """Two that grow, behind each other."""
    if d.chance.random() < 0.5:
        y = d.node("Concat", ["x", "z"], (2, 1, 6), axis=1)
        d.node("ReduceMean", [y, d.hold(np.array([1]))], (2, 1, 6), keepdims=1)
        d.values.pop(y)


def _turn(d: _Draw) -> None:
    x, dims = d.pick(3)
    perm = d.chance.sample(range(3), 3)
    d.node("Transpose", [x], tuple(dims[i] for i in perm), perm=perm)


def _view(d: _Draw) -> None:
    x, dims = d.pick(3)
    if isinstance(dims[2], int) and dims[2] % 3 == 0:
        y = d.node("Reshape", [x, d.hold(np.array([0, 0, 3, -1]))], (*dims[:2], 3, dims[2] // 3))
        d.node("Transpose", [y], (dims[0], 3, dims[1], dims[2] // 3), perm=[0, 2, 1, 3])


def _pad(d: _Draw) -> None:
    x, dims = d.pick(3)
    grown = d.grown(dims)
    if grown:
        axis, (first, last) = grown[0], d.chance.choice([(0, 1), (1, 0), (1, 2)])
        fill = d.hold(np.float32(d.chance.choice([0.0, 0.5])))
        wide = (*dims[:axis], dims[axis] + first + last, *dims[axis + 1 :])
        d.node("Pad", [x, d.hold(np.array([first, last])), fill, d.hold(np.array([axis]))], wide)


def _conv(d: _Draw) -> None:
    x, dims = d.pick(3)
    if d.grown(dims) != [2]:
        return
    size, dilation, step = d.chance.randint(1, 3), d.chance.randint(1, 2), d.chance.choice([1, 1, 2, 3])
    first, last = d.chance.randint(0, 1), d.chance.randint(0, 2)
    reach = dilation * (size - 1)
    length = (dims[2] + first + last - reach - 1) // step + 1
    if d.chance.random() < 0.5:
        if length.at(SMALLEST) >= 1:
            d.node("Conv", [x, d.normal(4, dims[1], size)], (dims[0], 4, length), dilations=[dilation],
                   pads=[first, last], strides=[step])  # fmt: skip
    elif reach + 1 - step >= first:
        d.node("ConvTranspose", [x, d.normal(dims[1], 4, size)],
               (dims[0], 4, dims[2] * step + reach + 1 - step - first), dilations=[dilation], pads=[first, 0],
               strides=[step])  # fmt: skip


def _pool(d: _Draw) -> None:
    x, dims = d.pick(3)
    if d.grown(dims) != [2]:
        return
    size, step = d.chance.randint(2, 3), d.chance.choice([1, 2, 3])
    first, last = d.chance.randint(0, 1), d.chance.randint(0, 1)
    ceil = step <= size - last and d.chance.random() < 0.3
    length = (dims[2] + first + last - size + (step - 1 if ceil else 0)) // step + 1
    if length.at(SMALLEST) < 1 or isinstance(dims[1], Length):
        return
    how = {"kernel_shape": [size], "strides": [step], "pads": [first, last], "ceil_mode": int(ceil)}
    if d.chance.random() < 0.5:
        d.node("MaxPool", [x], (*dims[:2], length), **how)
    else:
        d.node(
            "AveragePool",
            [x],
            (*dims[:2], length),
            count_include_pad=int(not ceil and d.chance.random() < 0.5),
            **how,
        )


def _norm(d: _Draw) -> None:
    x, dims = d.pick(3)
    if isinstance(dims[1], int):
        ones, some = d.hold(np.ones(dims[1], np.float32)), d.normal(dims[1])
        d.node("InstanceNormalization", [x, ones, some], dims)


def _scaled(d: _Draw) -> None:
    x, dims = d.pick(3)
    if d.grown(dims) != [2] or dims[2].b > 8:
        return
    by = d.chance.choice([2, 2, 3, 0.5])
    length = dims[2] * int(by) if by > 1 else dims[2] // 2
    if length.at(SMALLEST) < 2:
        return
    how = {"mode": d.chance.choice(["nearest", "linear"]),
           "coordinate_transformation_mode": d.chance.choice(["half_pixel", "asymmetric", "pytorch_half_pixel"]),
           "nearest_mode": d.chance.choice(["floor", "round_prefer_floor", "ceil"])}  # fmt: skip
    d.node("Resize", [x, "", d.hold(np.array([1, 1, by], np.float32))], (*dims[:2], length), **how)


STEPS: list[Callable[[_Draw], None]] = [
    _unary, _unary, _log, _binary, _row, _where, _matmul, _attend, _softmax, _reduce, _reduce, _arg, _cumsum, _slice,
    _pick, _look, _concat, _both, _turn, _turn, _view, _pad, _conv,
    _conv, _conv, _pool, _norm, _scaled,
]  # fmt: skip


def draw(seed: int) -> Drawn:
    d = _Draw(seed)
    for _ in range(d.chance.randint(3, 9)):
        d.chance.choice(STEPS)(d)
    d.made.outputs += [f"v{d.count}" if f"v{d.count}" in d.values else "", *list(d.values)[-2:]]
    made = {o for node in d.made.nodes for o in node.output}
    d.made.outputs = [name for name in dict.fromkeys(d.made.outputs) if name in made]
    return d.made
