"""The activation functions that LSTM, GRU and RNN name in their attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nnjit.codegen.expr import Expr, compare, op, select
from nnjit.graph.ir import Node
from nnjit.lower.ops.pointwise import like, unary
from nnjit.lower.registry import Unsupported

Activation = Callable[[Expr], Expr]
DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
SLOPES = {"LeakyRelu": 0.01, "ThresholdedRelu": 1, "ScaledTanh": 1, "HardSigmoid": 0.2, "Elu": 1, "Affine": 1}
OFFSETS = {"ScaledTanh": 1, "HardSigmoid": 0.5, "Affine": 0}
"""Activations that take alpha or beta, with ONNX's defaults."""


def activations(node: Node, directions: int) -> list[list[Activation]]:
    """The functions of each direction, alpha and beta given out in order to those that take them."""
    default = DEFAULTS[node.op]
    names = [str(n.decode() if isinstance(n, bytes) else n) for n in node.attrs.get("activations") or ()]
    names = names or list(default) * directions
    alphas: Iterator[float] = iter(node.attrs.get("activation_alpha") or ())
    betas: Iterator[float] = iter(node.attrs.get("activation_beta") or ())
    made = []
    for name in names:
        known = {n.lower(): n for n in (*SIMPLE, *SLOPES)}
        if name.lower() not in known:
            raise Unsupported(f"{node.op} with activation {name}")
        name = known[name.lower()]
        alpha = next(alphas, SLOPES[name]) if name in SLOPES else 0.0
        beta = next(betas, OFFSETS[name]) if name in OFFSETS else 0.0
        made.append(SIMPLE[name] if name in SIMPLE else _with(name, alpha, beta))
    n = len(default)
    return [made[d * n : (d + 1) * n] for d in range(directions)]


def sigmoid(x: Expr) -> Expr:
    return op("div", like(x, 1), op("add", like(x, 1), unary("exp", unary("neg", x))))


SIMPLE: dict[str, Activation] = {
    "Sigmoid": sigmoid,
    "Tanh": lambda x: unary("tanh", x),
    "Relu": lambda x: op("max", x, like(x, 0)),
    "Softsign": lambda x: op("div", x, op("add", unary("abs", x), like(x, 1))),
}


def _with(name: str, alpha: float, beta: float) -> Activation:
    def scaled(x: Expr) -> Expr:
        return op("mul", x, like(x, alpha))

    def below_zero(x: Expr, y: Expr) -> Expr:
        return select(compare("lt", x, like(x, 0)), y, x)

    rules: dict[str, Activation] = {
        "LeakyRelu": lambda x: below_zero(x, scaled(x)),
        "ThresholdedRelu": lambda x: select(compare("gt", x, like(x, alpha)), x, like(x, 0)),
        "ScaledTanh": lambda x: scaled(unary("tanh", op("mul", x, like(x, beta)))),
        "HardSigmoid": lambda x: op(
            "min", op("max", op("add", scaled(x), like(x, beta)), like(x, 0)), like(x, 1)
        ),
        "Elu": lambda x: below_zero(x, scaled(op("sub", unary("exp", x), like(x, 1)))),
        "Affine": lambda x: op("add", scaled(x), like(x, beta)),
    }
    return rules[name]
