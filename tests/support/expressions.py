"""Hypothesis strategy of random expressions over random accesses: affine, strided, backward, guarded, gathered.

Every operation is exact in IEEE arithmetic or in integers, so targets must agree bit for bit (NaN to NaN). fma is left
out: the interpreter rounds it once, Wasm without relaxed SIMD twice. `plain` leaves out what WGSL does not
promise: infinities, NaNs, and exact division and square root.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from nnjit.codegen.dtypes import FLOATS, INTS, LIMITS, NUMPY, SIZES
from nnjit.codegen.expr import Expr, Index, axis, bitcast, cast, compare, const, guarded, load, op, select
from nnjit.codegen.schedule.steps import Schedule, Tile, Vectorize
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from tests.support import specs

ALL = ["f32", "f64", "i32", "u32", "i64", "u64", "i8", "u8", "i16", "u16", "bool"]
NARROW = ["f32", "i32", "u32", "i8", "u8", "i16", "u16", "bool"]
FLOAT_UNARY = ["neg", "abs", "floor", "ceil", "trunc", "round", "sqrt"]
FLOAT_BINARY = ["add", "sub", "mul", "min", "max", "pmin", "pmax", "div"]
INT_UNARY = ["neg", "abs", "bnot"]
INT_BINARY = "add sub mul min max pmin pmax band bor bxor div rem mod shl shr".split()
COMPARES = ["eq", "ne", "lt", "le", "gt", "ge"]


class Inputs:
    """The operands an expression has come to read, with their data."""

    def __init__(self, draw: st.DrawFn, shape: tuple[int, int], plain: bool = False) -> None:
        self.draw, self.shape, self.plain = draw, shape, plain
        self.operands: list[Operand] = []
        self.arrays: list[Any] = []
        self.rng = np.random.default_rng(draw(st.integers(0, 1000)))

    def add(self, dtype: str, size: int, below: int | None = None) -> int:
        if below is not None:
            data = self.rng.integers(0, below, size)
        elif dtype in INTS:
            low, high = LIMITS[dtype]
            data = self.rng.choice(np.array([low, high, high - 1, 0, 1, 2, 3, 7, 100], NUMPY[dtype]), size)
        elif dtype == "bool":
            data = self.rng.integers(0, 2, size)
        else:
            special = [] if self.plain else [np.inf, np.nan]
            data = self.rng.choice([-2.5, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.5, 3.0, 100.0, *special], size)
        self.operands.append(Operand(dtype, size, "in"))
        self.arrays.append(data.astype(NUMPY[dtype]))
        return len(self.operands) - 1

    def affine(self) -> tuple[Index, int, int]:
        """An index of i0 and i1, its smallest and its largest value."""
        i = Index(self.draw(st.integers(-3, 3)))
        low = high = i.const
        for d, n in enumerate(self.shape):
            c = self.draw(st.sampled_from([0, 1, 1, 2, -1, 5, n]))
            i = i + Index(0, {f"i{d}": c})
            low, high = low + min(0, c * (n - 1)), high + max(0, c * (n - 1))
        return i, low, high

    def leaf(self, dtype: str) -> Expr:
        how = self.draw(st.sampled_from(["const", "axis", "affine", "affine", "guard", "gather"]))
        i, low, high = self.affine()
        if how == "const":
            number = {"f": 1.5, "b": True}.get(dtype[0], 3)
            return const(number, dtype)
        if how == "axis":
            return cast(axis(i), dtype)
        if how == "affine":
            return load(self.add(dtype, high - low + 1), i + (-low), dtype)
        size = self.draw(st.integers(1, 9))
        if how == "guard":
            stride = self.draw(st.sampled_from([1, 1, 3]))
            at = self.add(dtype, size * stride)
            return guarded(at, i * stride, dtype, ((i, size),), self.leaf(dtype))
        kind = self.draw(st.sampled_from(["i32", "i64"] if self.plain else ["i32", "i64", "u8"]))
        place = load(self.add(kind, high - low + 1, below=size), i + (-low), kind)
        return load(self.add(dtype, size), Index(0, ((cast(place, "i32"), 1),)), dtype)

    def value(self, dtype: str, depth: int, types: list[str]) -> Expr:
        pick = lambda names: self.draw(st.sampled_from(names))  # noqa: E731
        again = lambda t=dtype: self.value(t, depth - 1, types)  # noqa: E731
        if depth == 0 or self.draw(st.integers(0, 4)) == 0:
            return self.leaf(dtype)
        how = pick(["unary", "binary", "binary", "select", "cast", "bits"])
        if how == "select":
            return select(again("bool"), again(), again())
        if how == "cast":
            return self.converted(again(pick(types)), dtype)
        if how == "bits" and dtype in ("f32", "i32", "u32"):
            if dtype == "f32" and self.plain:
                return again()
            return bitcast(again(pick(["i32", "u32"])), dtype)
        if dtype == "bool":
            if how == "unary":
                return op("not", again())
            if how == "binary":
                return op(pick(["and", "or", "xor"]), again(), again())
            t = pick(types)
            return compare(pick(COMPARES if t != "bool" else ["eq", "ne"]), again(t), again(t))
        floating = dtype in FLOATS
        if how == "unary":
            name = pick(FLOAT_UNARY[: -1 if self.plain else None] if floating else INT_UNARY)
            if name in ("abs", "neg") and dtype[0] == "u":
                name = "bnot"
            x = again()
            return op(name, op("abs", x) if name == "sqrt" else x)
        name = pick(FLOAT_BINARY[: -1 if self.plain else None] if floating else INT_BINARY)
        a, b = again(), again()
        if name in ("shl", "shr"):
            b = const(self.draw(st.integers(0, SIZES[dtype] * 8 - 1)), dtype)
        if name == "div" and floating:  # the sign of a zero divisor would be seen
            b = op("add", op("abs", b), const(1, dtype))
        return op(name, a, b)

    def converted(self, x: Expr, to: str) -> Expr:
        """Floats are brought into the range of an integer first: outside it nothing is promised."""
        if x.dtype in FLOATS and to in INTS:
            low = -100 if to in ("i8", "u8", "i16", "u16") else max(LIMITS[to][0], -(2**30))
            high = min(LIMITS[to][1], 2**31 + 2**30) if to != "i32" else 2**30
            x = op("min", op("max", x, const(low, x.dtype)), const(high, x.dtype))
        return cast(x, to)


@st.composite
def cases(draw: st.DrawFn, types: list[str], plain: bool = False) -> tuple[KernelSpec, list[Any], int]:
    """(spec, inputs, a number for `scheduled`)."""
    shape = (draw(st.integers(1, 3)), draw(st.sampled_from([1, 3, 4, 5, 8, 9])))
    inputs = Inputs(draw, shape, plain)
    dtype = draw(st.sampled_from(types))
    value = inputs.value(dtype, draw(st.integers(0, 4)), types)
    operands = (*inputs.operands, Operand(dtype, shape[0] * shape[1], "out"))
    stage = Stage((), (), "", None, value, len(operands) - 1, specs.row_major(shape))
    axes = tuple(Axis(f"i{d}", n) for d, n in enumerate(shape))
    return KernelSpec("random", axes, (stage,), operands), inputs.arrays, draw(st.integers(0, 2))


def scheduled(which: int) -> Schedule:
    """Scalar, or in vectors along the contiguous or the other axis of the output."""
    return () if which == 0 else (Tile(f"i{which - 1}", 4), Vectorize(f"i{which - 1}", 4))
