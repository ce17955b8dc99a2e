"""Nodes drawn at random whose elements stay elements: arithmetic of every type, comparisons, casts, selections."""

from __future__ import annotations

from tests.fuzz.builder import Builder, Rejected, Value

FLOATS = ("float32", "float32", "float32", "float16", "float64")
INTS = ("int64", "int32", "uint8", "int8", "int16", "uint16", "uint32", "uint64")
SMOOTH = (
    "Relu LeakyRelu Sigmoid HardSigmoid HardSwish Gelu Elu Selu Celu Softplus Softsign Mish Tanh Erf Sin Cos Atan "
    "Asinh Neg Abs Identity Swish"
).split()
STEPS = "Floor Ceil Round Sign ThresholdedRelu Shrink IsNaN IsInf".split()
GUARDED = {"Exp": (-9, 4), "Sinh": (-3, 3), "Cosh": (-3, 3), "Tan": (-1, 1), "Asin": (-1, 1), "Acos": (-1, 1),
           "Atanh": (-0.9, 0.9), "Log": (0.1, 9), "Sqrt": (0, 9), "Reciprocal": (0.2, 4), "Acosh": (1, 9)}  # fmt: skip
ATTRIBUTES: dict[str, dict[str, tuple[float, ...]]] = {
    "LeakyRelu": {"alpha": (0.01, 0.3, -0.5)}, "HardSigmoid": {"alpha": (0.1, 0.2, -0.3), "beta": (0.5, 0.1)},
    "Elu": {"alpha": (1.0, 0.5)}, "Selu": {"alpha": (1.5, 0.7), "gamma": (1.05, 2.0)}, "Celu": {"alpha": (1.0, 2.5)},
    "ThresholdedRelu": {"alpha": (1.0, 0.0)}, "Shrink": {"lambd": (0.5, 0.1), "bias": (0.0, 0.3)},
    "Swish": {"alpha": (1.0, 1.702)},
}  # fmt: skip


def attributes(b: Builder, op: str) -> dict[str, object]:
    found: dict[str, object] = {
        name: b.one(values) for name, values in ATTRIBUTES.get(op, {}).items() if b.often(0.6)
    }
    if op == "Gelu" and b.often(0.5):
        found["approximate"] = "tanh"
    return found


def unary(b: Builder) -> None:
    if b.often(0.25):
        op = b.one(STEPS)
        b.emit(op, [b.of(*FLOATS, exact=True)], exact=True, **attributes(b, op))
    elif b.often(0.3):
        op = b.one(list(GUARDED))
        x = b.of(*FLOATS)
        low, high = GUARDED[op]
        if not b.extremes:
            bounds = [b.leaf(b.numbers_of(x.dtype, (), v, v), True) for v in (low, high)]
            (x,) = b.emit("Clip", [x, *bounds], exact=x.exact)
        elif b.huge and op == "Tan":
            raise Rejected  # as sin and cos, below
        b.emit(op, [x])
    else:
        op = b.one(SMOOTH)
        x = b.of(*FLOATS)
        if b.huge and op in ("Sin", "Cos"):
            raise Rejected  # above 1e5 they are some number from -1 to 1
        if op == "HardSwish" and x.dtype == "float64":
            raise Rejected  # the reference's 1/6 is of f32
        b.emit(op, [x], exact=op in ("Relu", "Neg", "Abs", "Identity"), **attributes(b, op))


def integers(b: Builder) -> None:
    x = b.of(*INTS, exact=True)
    way = b.chance.randrange(7)
    if way == 0:
        b.emit(b.one(["Neg", "Abs", "Sign", "BitwiseNot", "Identity"]), [x], exact=True)
    elif way == 1:
        b.emit(b.one(["Add", "Sub", "Mul", "Max", "Min"]), swapped(b, x, b.partner(x)), exact=True)
    elif way == 2:
        shape = b.spread(x.shape)
        y = b.fresh(x.dtype, shape, 1, 9)
        b.emit(b.one(["Div", "Mod"]), [x, y], exact=True)
    elif way == 3:
        b.emit(b.one(["BitwiseAnd", "BitwiseOr", "BitwiseXor"]), swapped(b, x, b.partner(x)), exact=True)
    elif way == 4 and x.dtype.startswith("u"):
        y = b.fresh(x.dtype, b.spread(x.shape), 0, 7)
        b.emit("BitShift", [x, y], exact=True, direction=b.one(["LEFT", "RIGHT"]))
    elif way == 5:
        low, high = sorted(b.chance.randint(0, 30) for _ in range(2))
        bounds = [b.leaf(b.numbers_of(x.dtype, (), v, v), True) for v in (low, high)]
        b.emit("Clip", [x, *(bounds if b.often(0.6) else [None, bounds[1]])], exact=True)
    else:
        b.emit("Mul", [x, x], exact=True)


def swapped(b: Builder, x: Value, y: Value) -> list[Value]:
    return [x, y] if b.often(0.6) else [y, x]


def binary(b: Builder) -> None:
    x = b.of(*FLOATS)
    way = b.chance.randrange(8)
    if way < 4:
        y = b.partner(x)
        op = b.one(["Add", "Sub", "Mul", "Max", "Min"])
        b.emit(op, swapped(b, x, y), exact=op in ("Max", "Min"))
    elif way == 4:
        y = b.fresh(x.dtype, b.spread(x.shape), 0.5, 2)
        b.emit("Div", [x, y])
    elif way == 5:
        slope = b.fresh(x.dtype, b.spread(x.shape), -0.5, 0.5)
        b.emit("PRelu", [x, slope])
    elif way == 6:
        (positive,) = b.emit("Abs", [x], exact=True)
        power = b.one([2.0, 3.0, 0.5, 1.0, 0.0, -1.0])
        if power < 0 or power == 0.5:
            (positive,) = b.emit("Add", [positive, b.leaf(b.numbers_of(x.dtype, (), 0.5, 0.5), True)])
        if b.often(0.7):
            exponent = b.leaf(b.numbers_of(x.dtype, (), power, power), True)
        else:
            exponent = b.fresh(x.dtype, b.spread(x.shape), 0.2, 2.5)
            (positive,) = b.emit("Add", [positive, b.leaf(b.numbers_of(x.dtype, (), 0.5, 0.5), True)])
        b.emit("Pow", [positive if power != 2.0 else x, exponent])
    else:
        many = [x, *(b.partner(x) for _ in range(b.chance.randint(0, 3)))]
        b.chance.shuffle(many)
        b.emit(b.one(["Sum", "Mean", "Max", "Min"]), many)


def logic(b: Builder) -> None:
    way = b.chance.randrange(4)
    if way == 0:
        x = b.of("float32", *INTS, "float16", exact=True)
        y = b.partner(x, exact=True)
        op = b.one(["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"])
        b.emit(op, swapped(b, x, y), exact=True)
    elif way == 1:
        x = b.of("bool")
        b.emit(b.one(["And", "Or", "Xor"]), swapped(b, x, b.partner(x)), exact=True)
    elif way == 2:
        b.emit("Not", [b.of("bool")], exact=True)
    else:
        x = b.of(*FLOATS, *INTS, "bool")
        y = b.partner(x)
        mask = b.pick(
            lambda v: v.dtype == "bool" and v.shape == x.shape, lambda: b.fresh("bool", b.spread(x.shape))
        )
        b.emit("Where", [mask, *swapped(b, x, y)], exact=True)


NUMBERS = {"float32": 1, "float64": 11, "float16": 10, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6,
           "int64": 7, "bool": 9, "uint32": 12, "uint64": 13}  # fmt: skip


def cast(b: Builder) -> None:
    """Between all types; what the target can't hold is brought into its range first, for that is not defined."""
    x = b.of(*FLOATS, *INTS, "bool")
    to = b.one(list(NUMBERS))
    floating = x.dtype.startswith("float")
    if floating and not to.startswith("float"):
        if not x.exact or b.extremes:
            raise Rejected
        low, high = (0, 100) if to.startswith("u") else (-100, 100)
        bounds = [b.leaf(b.numbers_of(x.dtype, (), v, v), True) for v in (low, high)]
        (x,) = b.emit("Clip", [x, *bounds], exact=True)
    if b.often(0.2) and not (floating and to != x.dtype and not to.startswith("float")):
        like = b.fresh(to, b.some_shape(0, 2))
        b.emit("CastLike", [x, like], exact=narrow(x.dtype, to))
    else:
        b.emit("Cast", [x], to=NUMBERS[to], exact=narrow(x.dtype, to))


def narrow(source: str, to: str) -> bool:
    """Whether a cast rounds the same everywhere and nothing after it would see a difference."""
    order = ["float16", "float32", "float64"]
    if source in order and to in order:
        return order.index(to) >= order.index(source)
    return True


ELEMENTS = {unary: 5, integers: 3, binary: 6, logic: 2, cast: 2}
