"""fewer(value): fewer operations, the same value but for rounding, and nothing where a last bit may be a step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnjit.codegen.epilogue import fewer, operations
from nnjit.codegen.expr import Expr, Index, acc, cast, const, load, op
from nnjit.codegen.rewriting import walk
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from tests.support import specs

POINTS = 64


def f(x: float) -> Expr:
    return const(x, "f32")


def read(operand: int) -> Expr:
    return load(operand, Index.of("i"), "f32")


def hard_swish(x: Expr) -> Expr:
    gate = op("add", op("mul", x, f(1 / 6)), f(0.5))
    return op("mul", x, op("min", op("max", gate, f(0)), f(1)))


def values(e: Expr, inputs: list[np.ndarray]) -> np.ndarray:
    """The interpreter's answer at each of the points."""
    stage = Stage((), (), "", None, e, len(inputs), Index.of("i"))
    operands = (*(Operand("f32", POINTS, "in") for _ in inputs), Operand("f32", POINTS, "out"))
    spec = KernelSpec("e", (Axis("i", POINTS),), (stage,), operands)
    return np.asarray(specs.evaluate(spec, inputs)[0])


@pytest.mark.parametrize(
    ("name", "value", "count"),
    [
        ("scale and shift", op("add", op("mul", f(3.0), read(0)), read(1)), 1),
        ("hard swish", hard_swish(op("add", read(0), read(1))), 5),
        (
            "scaled and shifted",
            op("add", op("mul", f(0.6), hard_swish(op("add", read(0), read(1)))), f(-0.5)),
            5,
        ),
        ("a scale behind a clip", op("mul", op("min", op("max", read(0), f(0)), f(6)), f(0.5)), 3),
        ("a negative scale", op("mul", f(-2.0), op("max", op("mul", read(0), f(3.0)), f(0))), 3),
        ("shift taken off", op("sub", op("mul", read(0), read(1)), f(2.0)), 1),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_counts(name: str, value: Expr, count: int) -> None:
    less = fewer(value)
    assert operations(less) == count, str(less)
    rng = np.random.default_rng(3)
    inputs = [rng.normal(0, 4, POINTS).astype(np.float32) for _ in range(2)]
    np.testing.assert_allclose(values(less, inputs), values(value, inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("large", [3.4028234663852886e38, 1e30, 1e-30])
def test_constants_that_f32_cannot_hold_are_not_made(large: float) -> None:
    """A clip without bounds behind a scale, and scales whose product alone would be infinity or 0."""
    clip = op("mul", f(6.0), op("min", op("max", op("mul", read(0), f(0.5)), f(-large)), f(large)))
    scales = op("mul", f(large), op("mul", f(large), read(0)))
    x = np.linspace(-2, 2, POINTS).astype(np.float32)
    for value, inputs in ((clip, [x]), (scales, [(x / np.float32(large)).astype(np.float32)])):
        less = fewer(value)
        assert all(np.isfinite(np.float32(e.attr)) and e.attr for e in walk(less) if e.op == "const")
        np.testing.assert_allclose(values(less, inputs), values(value, inputs), rtol=1e-6)


@pytest.mark.parametrize("x", [np.nan, np.inf, -np.inf, -0.0, 1e38])
def test_odd_numbers_stay_what_they_were(x: float) -> None:
    inputs = [np.full(POINTS, x, np.float32)]
    for value in (
        op("mul", op("min", op("max", op("mul", read(0), f(2)), f(0)), f(6)), f(0.5)),
        op("mul", op("min", op("max", op("mul", read(0), f(2)), f(-np.inf)), f(np.inf)), f(0.5)),
        op("mul", f(0.5), hard_swish(read(0))),
        op("sub", op("mul", read(0), f(2.0)), f(0.0)),
        op("add", op("mul", read(0), f(3.0)), f(-0.0)),
    ):
        less, found = fewer(value), values(value, inputs)
        assert less is not value
        np.testing.assert_array_equal(values(less, inputs), found)
        np.testing.assert_array_equal(np.signbit(values(less, inputs)), np.signbit(found))


def test_what_is_rounded_stays() -> None:
    y = op("add", op("mul", read(0), f(0.1)), f(3.0))
    for value in (cast(Expr("round", "f32", (y,)), "u8"), Expr("floor", "f32", (y,)), cast(y, "i32")):
        assert fewer(value) is value
    wide = op("add", op("mul", acc("f64"), const(2, "f64")), const(1, "f64"))
    assert fewer(wide) is wide


@st.composite
def expressions(draw: st.DrawFn, depth: int = 4) -> Expr:
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        leaf = draw(st.integers(0, 4))
        return read(leaf) if leaf < 2 else f(draw(st.sampled_from([-2.0, -0.5, 0.0, 0.25, 1.0, 3.0])))
    name = draw(st.sampled_from(["add", "sub", "mul", "mul", "min", "max", "fma"]))
    args = [draw(expressions(depth - 1)) for _ in range(3 if name == "fma" else 2)]
    return Expr(name, "f32", tuple(args))


@settings(max_examples=150, deadline=None)
@given(value=expressions(), seed=st.integers(0, 9))
def test_any_value_stays_what_it_is(value: Expr, seed: int) -> None:
    """Errors are those of roundings: of the largest number on the way, which is below 5^16 here."""
    less = fewer(value)
    assert operations(less) <= operations(value)
    rng = np.random.default_rng(seed)
    inputs = [rng.uniform(-2, 2, POINTS).astype(np.float32) for _ in range(2)]
    exact = values(value, inputs)
    most = magnitude(value, inputs)
    assert (np.abs(values(less, inputs) - exact) <= 1e-5 * most + 1e-6).all(), f"{value} as {less}"


def magnitude(e: Expr, inputs: list[np.ndarray]) -> np.ndarray:
    """What the value could be if all its parts had one sign: rounding errors are parts of it."""
    if e.op == "const":
        return np.full(POINTS, abs(e.attr), np.float64)
    if e.op == "load":
        return np.abs(inputs[e.attr.operand].astype(np.float64))
    args = [magnitude(a, inputs) for a in e.args]
    if e.op == "mul":
        return args[0] * args[1]
    if e.op == "fma":
        return args[0] * args[1] + args[2]
    return args[0] + args[1]
