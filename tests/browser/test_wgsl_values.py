"""Element-wise expressions as WGSL, run in Chromium on SwiftShader against numpy: functions, types, constants."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nnjit.codegen.expr import (
    Expr,
    Index,
    axis,
    bitcast,
    cast,
    compare,
    const,
    load,
    op,
    select,
)
from nnjit.codegen.functions import log1p
from nnjit.codegen.schedule.codes import Codes
from nnjit.codegen.schedule.digits import MIDDLE_BITS, joined
from nnjit.codegen.schedule.steps import (
    Parallel,
    Tile,
    Vectorize,
)
from tests.support import specs

from .wgsl_page import NEAR, RNG, Run, check, number

pytestmark = pytest.mark.swiftshader


# ---- element-wise chains ----


def unary(name: str, x: Expr) -> Expr:
    return Expr(name, x.dtype, (x,))


def gelu(x: Expr) -> Expr:
    bell = unary("erf", op("mul", x, number(math.sqrt(0.5))))
    return op("mul", op("mul", x, number(0.5)), op("add", bell, number(1)))


X = load(0, specs.row_major((3, 37)), "f32")
CHAINS = {
    "gelu": gelu(op("add", X, load(1, specs.row_major((3, 37), (1, 37)), "f32"))),
    "gelu_tanh": op("mul", X, unary("tanh", op("mul", X, number(0.8)))),
    "sigmoid": op("div", number(1), op("add", number(1), unary("exp", unary("neg", X)))),
    "log_sqrt_pow": op(
        "pow",
        unary("sqrt", op("add", unary("abs", X), number(1))),
        op("add", unary("log", op("add", unary("abs", X), number(1))), number(1)),
    ),
    "trigonometry": op(
        "add", unary("sin", op("mul", X, number(3))), op("mul", unary("cos", X), unary("atan", X))
    ),
    "clip_select": select(compare("lt", X, number(0)), op("mul", X, number(0.1)), op("min", X, number(6))),
    "rounding": op(
        "add",
        unary("round", op("mul", X, number(0.5))),
        op("sub", unary("floor", X), unary("ceil", unary("trunc", X))),
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_elementwise_chains(run: Run, name: str) -> None:
    """With 1 + 37 extents: full vectors, and a tail of one."""
    value = CHAINS[name]
    inputs = [("f32", (3, 37)), ("f32", (37,))][: 2 if name == "gelu" else 1]
    spec, _ = specs.pointwise(RNG, value, (3, 37), inputs)
    arrays = [RNG.normal(0, 2, s).astype(np.float32) for _, s in inputs]
    # pow multiplies the error of a logarithm; rounding is exact
    check(run, (spec, arrays), {"log_sqrt_pow": 1e-5, "rounding": 0.0}.get(name, NEAR))
    check(
        run,
        (spec, arrays),
        {"log_sqrt_pow": 1e-5, "rounding": 0.0}.get(name, NEAR),
        (Parallel(("i0", "i1")),),
    )


F = load(0, Index.of("i0"), "f32")
W = load(0, Index.of("i0"), "u32")


def byte_less_half(by: float) -> Expr:
    """(w >> 8 & 255) - by: in shaders by way of a float of 2^23 and more."""
    return op("sub", cast(op("band", op("shr", W, const(8, "u32")), const(255, "u32")), "f32"), number(by))


# Compilers rearrange sums of f32: spirv-opt adds up constants, Mesa sums of one factor's multiples as well.
REARRANGED: dict[str, tuple[Expr, Any, Callable[[Any], Any], float]] = {
    "sin": (unary("sin", F), np.geomspace(1, 1e5, 409), np.sin, 1.2e-7),
    "cos": (unary("cos", F), -np.geomspace(1, 1e5, 409), np.cos, 1.2e-7),
    "log1p": (log1p(F), np.geomspace(1e-30, 1e30, 409), np.log1p, 0.0),
    "byte": (byte_less_half(0.5), np.arange(409) * 7919, lambda w: (w >> 8 & 255) - 0.5, 0.0),
    "byte_in_steps": (
        op("add", op("mul", byte_less_half(3.0), number(2.0)), number(0.25)),
        np.arange(409) * 7919, lambda w: ((w >> 8 & 255) - 3) * 2 + 0.25, 0.0,
    ),
    "code_and_zero": (
        Codes(W, Index(4), 4, number(-7.53), number(1)).larger(Index(4), bitcast(W, "i32"), number(-7.53)),
        np.arange(409) * 7919, lambda w: 16 * ((w >> 4 & 15) + np.float64(np.float32(-7.53))), 1e-5,
    ),
    "digits": (
        joined([bitcast(op("add", W, const(MIDDLE_BITS + 1000 * i, "u32")), "i32") for i in range(3)]),
        np.arange(409) * 1601, lambda w: w + 256 * (w + 1000) + 65536 * (w + 2000), 2048.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("name", REARRANGED)
def test_sums_that_compilers_rearrange(run: Run, name: str, lanes: int) -> None:
    value, x, reference, absolute = REARRANGED[name]
    x = x.astype(np.uint32 if x.dtype.kind == "i" else np.float32)
    spec, _ = specs.pointwise(RNG, value, x.shape, [("u32" if x.dtype.kind == "u" else "f32", x.shape)])
    vector = (Tile("i0", 4), Vectorize("i0")) if lanes == 4 else ()
    (found,) = run(spec, (*vector, Parallel(("i0",))), [x])
    want = reference(x.astype(np.int64 if x.dtype.kind == "u" else np.float64))
    off = np.abs(found - want)
    worst = int(np.argmax(off - absolute - 4e-7 * np.abs(want) * (name == "log1p")))
    bound = absolute + 4e-7 * abs(want[worst]) * (name == "log1p")
    assert off[worst] <= bound, f"{name}({x[worst]}) is {found[worst]}, not {want[worst]}"


A = load(0, Index.of("i0"), "i32")
B = load(1, Index.of("i0"), "i32")
U = bitcast(A, "u32")
INTEGERS = {
    "wrap": op("mul", op("add", A, B), op("sub", A, const(-7, "i32"))),
    "divide": op("div", A, B),
    "rem": op("rem", A, B),
    "mod": op("mod", A, B),
    "by_constant": op("div", A, const(-3, "i32")),
    "bits": op("bxor", op("band", A, B), unary("bnot", op("bor", A, const(12, "i32")))),
    "shifts": op("add", op("shl", A, const(3, "i32")), op("shr", A, const(2, "i32"))),
    "unsigned": op("add", op("shr", U, const(2, "u32")), op("div", U, const(7, "u32"))),
    "abs_neg": op("max", unary("abs", A), unary("neg", B)),
    "bools": select(
        op(
            "xor",
            compare("lt", A, B),
            op("and", compare("ne", A, const(0, "i32")), unary("not", compare("ge", B, A))),
        ),
        A,
        B,
    ),
    "to_bool": op("or", cast(A, "bool"), compare("eq", B, const(3, "i32"))),
    "casts": cast(op("mul", cast(A, "f32"), cast(compare("gt", A, B), "f32")), "i32"),
    "lane": op("add", axis(Index(5, {"i0": 3})), A),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_and_bools(run: Run, name: str) -> None:
    spec, _ = specs.pointwise(RNG, INTEGERS[name], (11,), [("i32", (11,)), ("i32", (11,))])
    a = np.array([0, 1, -1, 7, -7, 100, 3, 2**20, -(2**20), 12345, -2], np.int32)
    b = np.array([3, 0, -1, -2, 2, 7, 3, 5, -3, 100, 12345], np.int32)
    for schedule in ((Tile("i0", 4), Vectorize("i0"), Parallel(("i0",))), (Parallel(("i0",)),)):
        check(run, (spec, [a, b]), schedule=schedule)


def test_bools_in_buffers(run: Run) -> None:
    at = Index.of("i0")
    spec, inputs = specs.pointwise(
        RNG,
        op("and", load(0, at, "bool"), compare("gt", load(1, at, "f32"), number(0))),
        (10,),
        [("bool", (10,)), ("f32", (10,))],
    )
    for schedule in ((Tile("i0", 4), Vectorize("i0"), Parallel(("i0",))), ()):
        check(run, (spec, inputs), schedule=schedule)


def test_infinities_and_nan_as_constants(run: Run) -> None:
    at = Index.of("i0")
    x = load(0, at, "f32")
    value = select(
        compare("gt", x, number(0)),
        number(math.inf),
        select(compare("lt", x, number(0)), number(-math.inf), number(math.nan)),
    )
    spec, inputs = specs.pointwise(RNG, value, (9,), [("f32", (9,))])
    check(run, (spec, inputs))
