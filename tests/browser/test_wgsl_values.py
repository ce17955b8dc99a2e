"""Element-wise expressions as WGSL, run in Chromium on SwiftShader against numpy: functions, types, constants."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

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
from nnjit.codegen.schedule.steps import (
    Parallel,
    Tile,
    Vectorize,
)
from tests.support import specs

if TYPE_CHECKING:
    pass
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
