"""A Reshape behind a product moves behind the pointwise nodes that follow it; where it may not, it stays."""

from __future__ import annotations

import pytest

from tests.unit.graph.tools import ops, randn, same

FEEDS = {"x": randn(2, 3, 8), "w": randn(8, 12, seed=1), "c": randn(12, seed=2), "r": randn(2, 3, 12, seed=3)}
HEAD = """
  flat = Constant<value_ints = [6, 8]>()  deep = Constant<value_ints = [2, 3, 12]>()
  half = Constant<value_float = 0.5>()  halves = Constant<value_ints = [4, 3, 6]>()
  f = Reshape(x, flat)  p = Gemm(f, w, c)
"""


def left(body: str, result: str = "float[N,M,K] y") -> list[str]:
    text = (
        f"g (float[2,3,8] x, float[8,12] w, float[12] c, float[2,3,12] r) => ({result}) {{ {HEAD} {body} }}"
    )
    return ops(same(text, FEEDS, rtol=1e-5, atol=1e-5))


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("q = Reshape(p, deep) y = Gelu(q)", ["Reshape", "Gemm", "Gelu", "Reshape"]),
        ("q = Reshape(p, deep) y = Add(q, r)", ["Reshape", "Gemm", "Reshape", "Add", "Reshape"]),
        ("q = Reshape(p, deep) y = Sub(r, q)", ["Reshape", "Gemm", "Reshape", "Sub", "Reshape"]),
        ("q = Reshape(p, deep) y = Mul(q, half)", ["Reshape", "Gemm", "Mul", "Reshape"]),
        ("q = Reshape(p, deep) y = Add(c, q)", ["Reshape", "Gemm", "Add", "Reshape"]),
        (
            "q = Reshape(p, deep) s = Add(q, c) t = Tanh(s) y = Add(t, r)",
            ["Reshape", "Gemm", "Add", "Tanh", "Reshape", "Add", "Reshape"],
        ),
    ],
)
def test_moves(body: str, after: list[str]) -> None:
    assert left(body) == after


@pytest.mark.parametrize(
    ("body", "stays"),
    [
        ("q = Reshape(p, deep) s = Relu(q) y = Add(q, s)", "read twice"),
        ("q = Reshape(p, halves) h = Constant<value_floats = [1.0,2.0,3.0,4.0,5.0,6.0]>() y = Add(q, h)", "cut rows"),
        ("q = Reshape(p, deep) t = Transpose<perm = [0, 1, 2]>(r) u = Transpose<perm = [1, 0, 2]>(t) "
         "v = Transpose<perm = [1, 0, 2]>(u) e = Relu(f) z = Reshape(e, flat) k = Gemm(z, w) n = Relu(k) "
         "m = Reshape(n, deep) o = Mul(m, v) y = Add(q, o)", ""),
    ],
)  # fmt: skip
def test_stays_right(body: str, stays: str) -> None:
    after = left(body)
    if stays == "cut rows":
        assert after[-2:] == ["Reshape", "Add"]
    if stays == "read twice":
        assert after == ["Reshape", "Gemm", "Reshape", "Relu", "Add"]
