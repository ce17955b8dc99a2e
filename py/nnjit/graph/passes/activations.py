"""Recognises activations that exporters wrote out: Gelu, HardSwish, HardSigmoid, Swish, Mish."""

from __future__ import annotations

from math import pi, sqrt

from ..ir import Graph, Node, Value
from .rewrite import Builder, Rule, apply, is_float, made_by, near, other, scalar, split_scalar


def _factors(value: Value, depth: int = 3) -> list[Value]:
    """The operands of a tree of Mul (and Div by a constant stays a leaf)."""
    node = made_by(value, "Mul")
    if node is None or depth == 0:
        return [value]
    a, b = node.inputs
    assert a is not None and b is not None
    return _factors(a, depth - 1) + _factors(b, depth - 1)


def _gelu(b: Builder, node: Node) -> Value | None:
    """x · 0.5 · (1 + Erf(x / √2)), in any order → Gelu(x); with Tanh → Gelu(x) approximate=tanh"""
    if not is_float(node.output) or node.output.shape is None:
        return None
    # 0.5 may also come as a division by 2 of the whole.
    half = 1.0
    if node.op == "Div":
        divided, two = node.inputs
        if divided is None or not near(two, 2.0):
            return None
        factors, half = _factors(divided), 0.5
    else:
        factors = _factors(node.output)
    if len(factors) > 4:
        return None
    gates = [f for f in factors if made_by(f, "Add") is not None and _gate(f) is not None]
    for gate in gates:
        rest = [f for f in factors if f is not gate]
        scale = half
        xs: list[Value] = []
        for factor in rest:
            number = scalar(factor)
            divided_by = made_by(factor, "Div")
            if number is not None:
                scale *= number
            elif (
                divided_by is not None
                and near(divided_by.inputs[1], 2.0)
                and divided_by.inputs[0] is not None
            ):
                scale *= 0.5
                xs.append(divided_by.inputs[0])
            else:
                xs.append(factor)
        inner = _gate(gate)
        if inner is None or len(xs) != 1 or abs(scale - 0.5) > 1e-4:
            continue
        x = xs[0]
        if x.shape != node.output.shape:
            continue
        if inner.op == "Erf" and _times(inner.inputs[0], x, 1 / sqrt(2)):
            return b("Gelu", [x], approximate="none")
        if inner.op == "Tanh" and _tanh_argument(inner.inputs[0], x):
            return b("Gelu", [x], approximate="tanh")
    return None


def _gate(value: Value) -> Node | None:
    """The Erf or Tanh in `1 + Erf(…)`."""
    node = made_by(value, "Add")
    if node is None:
        return None
    for i in (0, 1):
        if near(node.inputs[i], 1.0):
            return made_by(node.inputs[1 - i], "Erf", "Tanh")
    return None


def _times(value: Value | None, x: Value, factor: float) -> bool:
    """value is x · factor, or x / (1 / factor)."""
    node = made_by(value, "Mul", "Div")
    if node is None:
        return False
    if node.op == "Div":
        return node.inputs[0] is x and near(node.inputs[1], 1 / factor)
    return near(other(node, x), factor)


def _tanh_argument(value: Value | None, x: Value) -> bool:
    """√(2/π) · (x + 0.044715 · x³), or √(2/π) · x · (1 + 0.044715 · x²)"""
    node = made_by(value, "Mul")
    if node is None:
        return False
    split = split_scalar(node)
    if split is not None:
        inner, factor = split
        add = made_by(inner, "Add")
        if abs(factor - sqrt(2 / pi)) > 1e-4 or add is None:
            return False
        cubic = other(add, x)
        return cubic is not None and _cube(cubic, x)
    return _factored_argument(_factors(node.output), x)


def _cube(value: Value, x: Value) -> bool:
    """0.044715 · x³ in any order of products, or with Pow(x, 3)"""
    factors = _factors(value, 3)
    numbers = [f for f in factors if scalar(f) is not None]
    rest = [f for f in factors if scalar(f) is None]
    if len(numbers) != 1 or not near(numbers[0], 0.044715, 1e-3):
        return False
    if len(rest) == 1:
        power = made_by(rest[0], "Pow")
        return power is not None and power.inputs[0] is x and near(power.inputs[1], 3.0)
    if len(rest) == 2 and any(f is x for f in rest):
        power = made_by(rest[0] if rest[1] is x else rest[1], "Pow")
        return power is not None and power.inputs[0] is x and near(power.inputs[1], 2.0)
    return len(rest) == 3 and all(f is x for f in rest)


def _factored_argument(factors: list[Value], x: Value) -> bool:
    """√(2/π), x and (1 + 0.044715 · x · x) as factors"""
    numbers = [f for f in factors if scalar(f) is not None]
    rest = [f for f in factors if scalar(f) is None]
    if (
        len(numbers) != 1
        or not near(numbers[0], sqrt(2 / pi))
        or len(rest) != 2
        or not any(f is x for f in rest)
    ):
        return False
    add = made_by(rest[0] if rest[1] is x else rest[1], "Add")
    if add is None:
        return False
    for i in (0, 1):
        square = add.inputs[1 - i]
        if near(add.inputs[i], 1.0) and square is not None:
            parts = _factors(square)
            plain = [f for f in parts if scalar(f) is None]
            coefficient = [f for f in parts if scalar(f) is not None]
            if len(coefficient) == 1 and near(coefficient[0], 0.044715, 1e-3):
                return len(plain) == 2 and all(f is x for f in plain)
    return False


def _hard_sigmoid(b: Builder, node: Node) -> Value | None:
    """Clip(x + 3, 0, 6) / 6 → HardSigmoid(x) alpha=1/6 beta=1/2"""
    sixth = split_scalar(node) if node.op == "Mul" else None
    clipped = sixth[0] if sixth is not None and abs(sixth[1] - 1 / 6) < 1e-5 else None
    if node.op == "Div" and near(node.inputs[1], 6.0):
        clipped = node.inputs[0]
    x = _shifted_clip(clipped)
    if x is None or x.shape != node.output.shape:
        return None
    return b("HardSigmoid", [x], alpha=1 / 6, beta=0.5)


def _shifted_clip(value: Value | None) -> Value | None:
    """x of Clip(x + 3, 0, 6)"""
    clip = made_by(value, "Clip")
    if clip is None or scalar(clip.input(1)) != 0.0 or scalar(clip.input(2)) != 6.0:
        return None
    add = made_by(clip.inputs[0], "Add")
    split = split_scalar(add) if add is not None else None
    return split[0] if split is not None and split[1] == 3.0 and is_float(split[0]) else None


def _hard_swish(b: Builder, node: Node) -> Value | None:
    """x · Clip(x + 3, 0, 6) / 6, x · HardSigmoid(x) alpha=1/6 beta=1/2 → HardSwish(x)"""
    if node.op == "Mul":
        for i in (0, 1):
            x, gate = node.inputs[i], made_by(node.inputs[1 - i], "HardSigmoid")
            if x is not None and gate is not None and gate.inputs[0] is x:
                sixth, half = gate.attrs.get("alpha", 0.2), gate.attrs.get("beta", 0.5)
                if abs(sixth - 1 / 6) < 1e-5 and abs(half - 0.5) < 1e-6:
                    return b("HardSwish", [x])
    sixth_of = split_scalar(node) if node.op == "Mul" else None
    product = sixth_of[0] if sixth_of is not None and abs(sixth_of[1] - 1 / 6) < 1e-5 else None
    if node.op == "Div" and near(node.inputs[1], 6.0):
        product = node.inputs[0]
    mul = made_by(product, "Mul")
    if mul is None:
        return None
    for i in (0, 1):
        x = mul.inputs[i]
        if x is not None and _shifted_clip(mul.inputs[1 - i]) is x and x.shape == node.output.shape:
            return b("HardSwish", [x])
    return None


def _swish(b: Builder, node: Node) -> Value | None:
    """x · Sigmoid(αx) → Swish(x) alpha=α; x · Tanh(Softplus(x)) → Mish(x)"""
    for i in (0, 1):
        x, gate = node.inputs[i], made_by(node.inputs[1 - i], "Sigmoid", "Tanh")
        if x is None or gate is None or not is_float(x):
            continue
        if gate.op == "Tanh":
            soft = made_by(gate.inputs[0], "Softplus")
            if soft is not None and soft.inputs[0] is x:
                return b("Mish", [x])
            continue
        if gate.inputs[0] is x:
            return b("Swish", [x], alpha=1.0)
        scaled = made_by(gate.inputs[0], "Mul")
        split = split_scalar(scaled) if scaled is not None else None
        if split is not None and split[0] is x:
            return b("Swish", [x], alpha=split[1])
    return None


_RULES: dict[str, list[Rule]] = {
    "Mul": [_gelu, _hard_swish, _hard_sigmoid, _swish],
    "Div": [_gelu, _hard_swish, _hard_sigmoid],
}


def recognise_activations(graph: Graph) -> Graph:
    """Mul(Mul(x, 0.5), Add(Erf(Div(x, 1.414)), 1)) → Gelu(x); likewise HardSwish, Swish, Mish"""
    return apply(graph, _RULES)
