"""Accuracy of the functions that are polynomials, over all exponents of f32, and of the 16-bit conversions.

Every 4,099th bit pattern (a prime: all exponents, both signs, varied mantissas), four lanes wide and scalar,
with fused multiply-adds and without, against numpy in f64. The bounds are those of the docstrings.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nnjit.codegen.bfloat import bf16_bits, bf16_value
from nnjit.codegen.expr import Expr, Index, cast, const, load
from nnjit.codegen.schedule.steps import Schedule, Tile, Vectorize
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from nnjit.codegen.wasm.target import Target
from nnjit.graph.ir import Node
from nnjit.lower.ops import activation, trig
from tests.support.kernels import run_spec

Array = Any
PATTERNS = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
SMALLEST = 2.0**-126
WAYS = [(4, True), (4, False), (1, True)]
IDS = ["vector-fma", "vector", "scalar"]


def run(rule: Callable[..., Expr], *inputs: Array, dtype: str = "f32", out: str = "f32", lanes: int = 4,
        relaxed: bool = True) -> Array:  # fmt: skip
    """rule(elements...) over flat arrays, as one kernel."""
    n, i = len(inputs[0]), Index.of("i")
    value = rule(*(load(k, i, dtype) for k in range(len(inputs))))
    spec = KernelSpec(
        "math", (Axis("i", n),), (Stage((), (), "", None, value, len(inputs), i),),
        (*(Operand(dtype, n, "in") for _ in inputs), Operand(out, n, "out")),
    )  # fmt: skip
    schedule: Schedule = (Tile("i", lanes), Vectorize("i", lanes)) if lanes > 1 else ()
    return run_spec(spec, schedule, Target(relaxed=relaxed), inputs)[0]


def ulps(got: Array, want: Array) -> Array:
    """Distance in units of the last place of the right f32 answer; inf where only one is a NaN or infinite.
    An answer of 0 for a denormal counts as right."""
    with np.errstate(all="ignore"):
        right = want.astype(np.float32)
        unit = np.maximum(np.spacing(np.abs(right)).astype(np.float64), 2.0**-149)
        off = np.abs(got.astype(np.float64) - want) / unit
        same = (got == right) | (np.isnan(got) & np.isnan(right)) | ((got == 0) & (np.abs(want) < SMALLEST))
        return np.where(same, 0.0, np.where(np.isnan(off), np.inf, off))


def function(name: str) -> Callable[[Expr], Expr]:
    return lambda x: Expr(name, x.dtype, (x,))


def vector_erf(x: Array) -> Array:
    return np.array([math.erf(v) for v in x])


@pytest.mark.parametrize(("lanes", "relaxed"), WAYS, ids=IDS)
@pytest.mark.parametrize(
    ("name", "reference", "bound"),
    [
        ("exp", np.exp, 1.5),
        ("decay", np.exp, 1.5),
        ("log", np.log, 1),
        ("tanh", np.tanh, 6),
        ("atan", np.arctan, 3),
        ("erf", vector_erf, 1.5),
    ],
)
def test_function(
    name: str, reference: Callable[[Array], Array], bound: float, lanes: int, relaxed: bool
) -> None:
    x = PATTERNS if name != "erf" else PATTERNS[::8]
    x = x[~(x > 0)] if name == "decay" else x
    with np.errstate(all="ignore"):
        want = reference(x.astype(np.float64))
    off = ulps(run(function(name), x, lanes=lanes, relaxed=relaxed), want)
    worst = int(np.argmax(off))
    assert off[worst] <= bound, f"{name}({x[worst]!r}) is {off[worst]} ulp off"


NEAR_QUARTERS = np.array(
    [1.6367173e7 * 2.0**72, -(1.6367173e7 * 2.0**72), 1e5, -1e5, 2.0**17, 3.4e38], np.float32
)
"""The f32 that lies next to a multiple of pi / 2, and where the method changes."""


@pytest.mark.parametrize(("lanes", "relaxed"), WAYS, ids=IDS)
@pytest.mark.parametrize(("name", "reference"), [("sin", np.sin), ("cos", np.cos)])
def test_sine_and_cosine(name: str, reference: Callable[[Array], Array], lanes: int, relaxed: bool) -> None:
    x = np.concatenate([PATTERNS, NEAR_QUARTERS])
    got = run(function(name), x, lanes=lanes, relaxed=relaxed).astype(np.float64)
    with np.errstate(all="ignore"):
        want = reference(x.astype(np.float64))
    assert np.array_equal(np.isnan(got), np.isnan(want))
    assert np.nanmax(np.abs(got - want)) <= 1.2e-7
    far = np.abs(x) > 1e5
    assert np.nanmax(ulps(got.astype(np.float32), want)[far]) <= 3


@pytest.mark.parametrize(
    ("name", "reference", "bound"),
    [
        ("Tan", np.tan, 4), ("Asin", np.arcsin, 3), ("Acos", np.arccos, 2), ("Sinh", np.sinh, 4),
        ("Cosh", np.cosh, 3), ("Asinh", np.arcsinh, 3), ("Acosh", np.arccosh, 3), ("Atanh", np.arctanh, 2),
    ],
)  # fmt: skip
def test_composed(name: str, reference: Callable[[Array], Array], bound: float) -> None:
    x = PATTERNS if name != "Tan" else PATTERNS[(np.abs(PATTERNS) < 1e4) | (np.abs(PATTERNS) > 1e5)]
    with np.errstate(all="ignore"):
        want = reference(x.astype(np.float64))
    for relaxed in (True, False):
        off = ulps(run(trig.FUNCTIONS[name], x, relaxed=relaxed), want)
        worst = int(np.argmax(off))
        assert off[worst] <= bound, f"{name}({x[worst]!r}) is {off[worst]} ulp off"


@pytest.mark.parametrize(
    ("rule", "reference"),
    [
        (activation.softplus, lambda x: np.logaddexp(0, x)),
        (activation.mish, lambda x: x * np.tanh(np.logaddexp(0, x))),
        (activation.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
        (activation.gelu, lambda x: 0.5 * x * (1 + vector_erf(x * math.sqrt(0.5)))),
        (activation.swish, lambda x: x / (1 + np.exp(-x))),
    ],
    ids=["softplus", "mish", "sigmoid", "gelu", "swish"],
)
def test_activation(rule: Callable[[Node, Expr], Expr], reference: Callable[[Array], Array]) -> None:
    """Within 7e-7 of the larger of 1 and the answer, and NaN or infinite where that is."""
    x = PATTERNS[::4]
    with np.errstate(all="ignore"):
        want = reference(x.astype(np.float64))
        want = np.where(x == -np.inf, {"mish": 0, "gelu": 0, "swish": 0}.get(rule.__name__, want), want)
        got = run(lambda e: rule(Node("", [], []), e), x).astype(np.float64)
        off = np.abs(got - want) / np.maximum(1, np.abs(want))
    unlike = np.isnan(got) != np.isnan(want)
    unlike &= x != -np.inf  # -inf * 0 is a NaN in every implementation by these formulas
    assert not unlike.any(), x[unlike][:5]
    assert np.nanmax(off[np.isfinite(want)]) <= 7e-7


def test_exponential_minus_one() -> None:
    with np.errstate(all="ignore"):
        want = np.expm1(PATTERNS.astype(np.float64))
    for relaxed in (True, False):
        assert ulps(run(activation.exp_minus_1, PATTERNS, relaxed=relaxed), want).max() <= 4


def test_power() -> None:
    rng = np.random.default_rng(0)
    a = np.exp(rng.uniform(-20, 20, 100_000)).astype(np.float32)
    b = rng.uniform(-8, 8, 100_000).astype(np.float32)
    with np.errstate(all="ignore"):
        want = np.power(a.astype(np.float64), b.astype(np.float64))
    got = run(lambda x, y: Expr("pow", "f32", (x, y)), a, b)
    fits = (want > SMALLEST) & (want < 3e38)
    assert np.abs(got[fits] / want[fits] - 1).max() <= 1e-5
    edge = np.array([0.0, 1.0, -1.0, 2.0, -2.0, np.inf, -np.inf, np.nan, 0.5], np.float32)
    x, y = (g.reshape(-1).copy() for g in np.meshgrid(edge, edge))
    with np.errstate(all="ignore"):
        want = np.power(x, y)
    got = run(lambda x, y: Expr("pow", "f32", (x, y)), x, y, lanes=1)
    fractional = np.isinf(x) & (x < 0) & (y == 0.5)  # a NaN here, inf in C: a negative base all the same
    wrong = ~fractional & ~(
        (got == want) | (np.isnan(got) & np.isnan(want)) | np.isclose(got, want, rtol=1e-5)
    )
    assert not wrong.any(), list(zip(x[wrong], y[wrong], got[wrong], want[wrong], strict=True))


@pytest.mark.parametrize("exponent", [2.0, 3.0, 7.0, -1.0, -2.0, 0.5, 0.0, 1.0, 16.0])
def test_power_of_a_constant(exponent: float) -> None:
    x = np.random.default_rng(1).uniform(0.1, 9, 1000).astype(np.float32)
    got = run(lambda e: Expr("pow", "f32", (e, const(exponent, "f32"))), x)
    np.testing.assert_allclose(got, np.power(x.astype(np.float64), exponent), rtol=1e-5)


@pytest.mark.parametrize("lanes", [4, 1])
@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_from_16_bits(dtype: str, lanes: int) -> None:
    """All 65,536 values."""
    bits = np.arange(65536, dtype=np.uint16)
    got = run(
        lambda x: cast(x, "f32"), bits.view(np.float16) if dtype == "f16" else bits, dtype=dtype, lanes=lanes
    )
    want = bits.view(np.float16).astype(np.float32) if dtype == "f16" else bf16_value(bits)
    assert np.array_equal(got, want, equal_nan=True)
    assert np.array_equal(np.signbit(got), np.signbit(want))


@pytest.mark.parametrize("lanes", [4, 1])
@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_to_16_bits(dtype: str, lanes: int) -> None:
    """Patterns of f32, and each 16-bit value with what lies halfway to the next and beside that."""
    bits = np.arange(65536, dtype=np.uint16)
    exact = bits.view(np.float16).astype(np.float32) if dtype == "f16" else bf16_value(bits)
    finite = exact[np.isfinite(exact)]
    with np.errstate(all="ignore"):
        up = np.nextafter(finite, np.float32(np.inf))
        step = np.spacing(finite.astype(np.float16)).astype(np.float32) / 2 if dtype == "f16" else up - finite
        halves = finite + step if dtype == "f16" else (finite.view(np.uint32) + 0x8000).view(np.float32)
        around = np.concatenate([np.nextafter(halves, d) for d in np.float32([-np.inf, np.inf])])
        x = np.concatenate([PATTERNS, exact, halves, around])
        want = x.astype(np.float16).view(np.uint16) if dtype == "f16" else bf16_bits(x)
    got = run(lambda e: cast(e, dtype), x, out=dtype, lanes=lanes).view(np.uint16)
    back = (lambda b: b.view(np.float16).astype(np.float32)) if dtype == "f16" else bf16_value
    same = (got == want) | (np.isnan(back(got)) & np.isnan(back(want)))
    assert same.all(), [(x[i], hex(got[i]), hex(want[i])) for i in np.flatnonzero(~same)[:5]]


def test_16_bit_functions_round_once() -> None:
    """exp of an f16 is computed in f32 and rounded on the way to memory."""
    x = np.linspace(-9, 9, 4096).astype(np.float16)
    got = run(function("exp"), x, dtype="f16", out="f16")
    want = np.exp(x.astype(np.float64))
    assert np.all(np.abs(got.astype(np.float64) - want) <= np.spacing(want.astype(np.float16)) * 0.51)


@pytest.mark.parametrize("name", ["exp", "log", "tanh"])
def test_function_of_f64(name: str) -> None:
    """All exponents, and the range where the answer is neither 0 nor infinite, to 2 ulp of f64."""
    patterns = np.arange(0, 2**64 - 2**46, 2**46 + 4099, dtype=np.uint64).view(np.float64)
    x = np.concatenate([patterns, np.linspace(-750, 750, 50_001), np.linspace(-2, 2, 50_001)])
    reference = {"exp": np.exp, "log": np.log, "tanh": np.tanh}[name]
    with np.errstate(all="ignore"):
        want = reference(x)
        got = run(function(name), x, dtype="f64", out="f64", lanes=1)
        off = np.abs(got - want) / np.spacing(np.abs(want))
    same = (got == want) | (np.isnan(got) & np.isnan(want)) | ((got == 0) & (np.abs(want) < 2.0**-1022))
    off = np.where(same, 0, np.where(np.isnan(off), np.inf, off))
    worst = int(np.argmax(off))
    assert off[worst] <= 2, f"{name}({x[worst]!r}) is {off[worst]} ulp off"
