"""Arithmetic, comparisons and casts of every type against numpy, vector lengths and odd tails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.support.single import model_of, on_kernels

INTS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
FLOATS = [np.float16, np.float32, np.float64]
ALL = [*INTS, *FLOATS]


def numbers(dtype: Any, n: int, seed: int, low: float = -100, high: float = 100) -> Any:
    """Numbers of the type's whole range for integers (its limits among them), `low` to `high` for floats."""
    rng = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        x = rng.integers(limits.min, limits.max, n, dtype=dtype, endpoint=True)
        x[: min(n, 4)] = [limits.min, limits.max, 0, 1][: min(n, 4)]
        return x
    return rng.uniform(low, high, n).astype(dtype)


def run(op: str, inputs: list[Any], out: Any, attrs: dict[str, Any] | None = None) -> Any:
    feeds = {f"x{i}": x for i, x in enumerate(inputs)}
    return on_kernels(model_of(op, feeds, [("y", out)], attrs), feeds)["y"]


def same(got: Any, want: Any, dtype: Any) -> None:
    if np.issubdtype(dtype, np.floating):
        tolerance = {2: 1e-3, 4: 2e-6, 8: 1e-14}[np.dtype(dtype).itemsize]
        np.testing.assert_allclose(
            got.astype(np.float64), want.astype(np.float64), rtol=tolerance, atol=1e-30
        )
    else:
        np.testing.assert_array_equal(got, want)


BINARY: dict[str, Callable[..., Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Min": np.minimum, "Max": np.maximum,
}  # fmt: skip


@pytest.mark.parametrize("n", [1, 7, 64])
@pytest.mark.parametrize("dtype", ALL, ids=lambda t: t.__name__)
@pytest.mark.parametrize("op", BINARY)
def test_arithmetic(op: str, dtype: Any, n: int) -> None:
    a, b = numbers(dtype, n, 1), numbers(dtype, n, 2)[::-1].copy()
    with np.errstate(all="ignore"):
        same(run(op, [a, b], dtype), BINARY[op](a, b), dtype)


@pytest.mark.parametrize("dtype", ALL, ids=lambda t: t.__name__)
def test_division(dtype: Any) -> None:
    """Integers towards 0; the remainder has the sign of the divisor, or with fmod of the dividend."""
    a, b = numbers(dtype, 61, 3), numbers(dtype, 61, 4)
    b[b == 0] = 3
    if np.issubdtype(dtype, np.integer):
        b[::2] = np.clip(b[::2] // 16, 1, 5)
        want = np.array(
            [
                abs(int(x)) // abs(int(y)) * (1 if (x < 0) == (y < 0) else -1)
                for x, y in zip(a, b, strict=True)
            ]
        )
        same(run("Div", [a, b], dtype), want.astype(dtype), dtype)
        same(run("Mod", [a, b], dtype), np.mod(a, b), dtype)
    else:
        same(run("Div", [a, b], dtype), a / b, dtype)
    same(run("Mod", [a, b], dtype, {"fmod": 1}), np.fmod(a, b), dtype)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, *FLOATS], ids=lambda t: t.__name__)
def test_sign_and_size(dtype: Any) -> None:
    x = numbers(dtype, 37, 5)
    with np.errstate(all="ignore"):
        for op, rule in (("Neg", np.negative), ("Abs", np.abs), ("Sign", np.sign)):
            same(run(op, [x], dtype), rule(x), dtype)


@pytest.mark.parametrize("dtype", ALL, ids=lambda t: t.__name__)
def test_comparison(dtype: Any) -> None:
    a, b = numbers(dtype, 37, 6), numbers(dtype, 37, 7)
    b[::3] = a[::3]
    rules = {"Equal": np.equal, "Less": np.less, "GreaterOrEqual": np.greater_equal}
    for op, rule in rules.items():
        np.testing.assert_array_equal(run(op, [a, b], np.bool_), rule(a, b))
    chosen = run("Where", [a < b, a, b], dtype)
    np.testing.assert_array_equal(chosen, np.where(a < b, a, b))


@pytest.mark.parametrize("dtype", INTS, ids=lambda t: t.__name__)
def test_bits(dtype: Any) -> None:
    a, b = numbers(dtype, 37, 8), numbers(dtype, 37, 9)
    for op, rule in (("And", np.bitwise_and), ("Or", np.bitwise_or), ("Xor", np.bitwise_xor)):
        np.testing.assert_array_equal(run(f"Bitwise{op}", [a, b], dtype), rule(a, b))
    np.testing.assert_array_equal(run("BitwiseNot", [a], dtype), np.invert(a))


@pytest.mark.parametrize("to", [*ALL, np.bool_, ml_dtypes.bfloat16], ids=lambda t: t.__name__)
@pytest.mark.parametrize("dtype", [*ALL, np.bool_, ml_dtypes.bfloat16], ids=lambda t: t.__name__)
def test_cast(dtype: Any, to: Any) -> None:
    """Integers wrap; floats whose value the other type holds are truncated."""
    if dtype == np.bool_:
        x = np.arange(37) % 3 == 0
    elif np.issubdtype(dtype, np.integer):
        x = numbers(dtype, 37, 10)
    else:
        x = numbers(np.float32, 37, 11, 0 if np.dtype(to).kind == "u" else -100, 100).astype(dtype)
    from onnx import helper

    with np.errstate(all="ignore"):
        want = x.astype(to)
    got = run("Cast", [x], to, {"to": helper.np_dtype_to_tensor_dtype(np.dtype(to))})
    np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))


@pytest.mark.parametrize(
    "shapes", [((3, 1, 5), (4, 1)), ((7,), (2, 3, 7)), ((1,), (5, 5)), ((2, 3, 1, 4), (3, 2, 1))]
)
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8], ids=lambda t: t.__name__)
def test_broadcast(shapes: tuple[tuple[int, ...], tuple[int, ...]], dtype: Any) -> None:
    a, b = (np.arange(np.prod(s)).reshape(s).astype(dtype) for s in shapes)
    same(run("Add", [a, b], dtype), a + b, dtype)


@pytest.mark.parametrize("dtype", [np.int32, np.int64], ids=lambda t: t.__name__)
def test_integer_power(dtype: Any) -> None:
    """Exact, wrapping included; a negative exponent leaves 0, 1 or -1."""
    a = np.array([0, 1, -1, 2, -2, 3, 10, -7, 5, 1, -1, -1, 2, 3], dtype)
    b = np.array([0, 5, 3, 30, 5, 19, 9, 3, 0, -3, -3, 101, -1, 40], dtype)
    want = [int(x) ** int(y) if y >= 0 else int(float(x) ** float(y)) for x, y in zip(a, b, strict=True)]
    bits = np.dtype(dtype).itemsize * 8
    wrapped = [(w + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1) for w in want]
    np.testing.assert_array_equal(run("Pow", [a, b], dtype), np.array(wrapped, dtype))
