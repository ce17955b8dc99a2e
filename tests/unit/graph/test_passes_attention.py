"""Attention as exporters write it becomes one node with the same values; what is only nearly attention does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nnjit.graph.ir import Graph, Node
from nnjit.graph.passes.attention_masks import Reach, reach
from tests.unit.graph.tools import bound, ops, randn, same

OP = "ScaledDotProductAttention"
B, H, M, N, D = 2, 3, 5, 5, 4
Q, K, V = (randn(B, M, H * D, seed=i) for i in (1, 2, 3))
FEEDS = {"q": Q, "k": K, "v": V, "keep": np.array([[1] * 5, [1, 1, 1, 0, 0]], np.int64)}
CONSTANTS = """
  split = Constant<value_ints = [0, 0, 3, 4]>()  join = Constant<value_ints = [0, 0, 12]>()
  flat = Constant<value_ints = [6, 5, 4]>()  scores4 = Constant<value_ints = [2, 3, 5, 5]>()
  scores3 = Constant<value_ints = [6, 5, 5]>()  heads4 = Constant<value_ints = [2, 3, 5, 4]>()
  mask4 = Constant<value_ints = [2, 1, 1, 5]>()  square = Constant<value_ints = [1, 1, 5, 5]>()
  half = Constant<value_float = 0.5>()  two = Constant<value_float = 2.0>()  r2 = Constant<value_float = 0.70710678>()
  zero = Constant<value_float = 0.0>()  low = Constant<value_float = -3.4028235e38>()
  tenk = Constant<value_float = -1e4>()  minus1 = Constant<value_float = -1.0>()
  inf = Div(minus1, zero)  cap = Constant<value_float = 5.0>()
  i0 = Constant<value_int = 0>()  i1 = Constant<value_int = 1>()  i5 = Constant<value_int = 5>()
  ax0 = Constant<value_ints = [0]>()  ax1 = Constant<value_ints = [1]>()  ax2 = Constant<value_ints = [2]>()
"""
HEADS = """
  qs = Reshape(q, split) qh = Transpose<perm = [0, 2, 1, 3]>(qs)
  ks = Reshape(k, split) kt = Transpose<perm = [0, 2, 3, 1]>(ks)
  vs = Reshape(v, split) vh = Transpose<perm = [0, 2, 1, 3]>(vs)
"""
KEEP = "kb = Cast<to = 9>(keep) kr = Reshape(kb, mask4) mask = Where(kr, zero, low)"
TRIANGLE = """
  span = Range(i0, i5, i1) rows = Unsqueeze(span, ax1) columns = Unsqueeze(span, ax0)
  seen = LessOrEqual(columns, rows) tri = Reshape(seen, square)
"""
BACK = "ot = Transpose<perm = [0, 2, 1, 3]>(o) y = Reshape(ot, join)"


def left(body: str, feeds: dict[str, Any] | None = None, empty: bool = False) -> Graph:
    text = (
        "g (float[2,5,12] q, float[2,5,12] k, float[2,5,12] v, int64[2,5] keep) => (float[N,M,C] y) "
        f"{{ {CONSTANTS} {body} }}"
    )
    with np.errstate(invalid="ignore" if empty else "warn"):
        return same(text, feeds or FEEDS, rtol=1e-4, atol=1e-5)


def node(graph: Graph) -> Node:
    found = [n for n in graph.nodes if n.op == OP]
    assert len(found) == 1, ops(graph)
    assert not {"Softmax", "MatMul"} & set(ops(graph))
    return found[0]


FAMILIES = {
    "bert": f"{HEADS} {KEEP} s = MatMul(qh, kt) d = Div(s, two) a = Add(d, mask) "
    f"p = Softmax<axis = -1>(a) o = MatMul(p, vh) {BACK}",
    "torch sdpa": f"{HEADS} {KEEP} q1 = Mul(qh, r2) k1 = Mul(kt, r2) s = MatMul(q1, k1) a = Add(s, mask) "
    f"p = Softmax<axis = -1>(a) n = IsNaN(p) w = Where(n, zero, p) o = MatMul(w, vh) {BACK}",
    "gpt2 where": f"{HEADS} {KEEP} {TRIANGLE} s = MatMul(qh, kt) d = Div(s, two) c = Where(tri, d, low) "
    f"a = Add(c, mask) p = Softmax<axis = -1>(a) o = MatMul(p, vh) {BACK}",
    "gpt2 -1e4": f"{HEADS} {TRIANGLE} s = MatMul(qh, kt) d = Mul(s, half) c = Where(tri, d, tenk) "
    f"p = Softmax<axis = -1>(c) o = MatMul(p, vh) {BACK}",
    "gpt2 and": f"{HEADS} {TRIANGLE} kb = Cast<to = 9>(keep) kr = Reshape(kb, mask4) both = And(tri, kr) "
    f"mask = Where(both, zero, low) s = MatMul(qh, kt) d = Mul(half, s) a = Add(d, mask) "
    f"p = Softmax<axis = -1>(a) o = MatMul(p, vh) {BACK}",
    "bart 3d": f"{HEADS} {KEEP} q1 = Mul(qh, half) q3 = Reshape(q1, flat) kh = Transpose<perm = [0, 2, 1, 3]>(ks) "
    "k3 = Reshape(kh, flat) kt3 = Transpose<perm = [0, 2, 1]>(k3) v3 = Reshape(vh, flat) s = MatMul(q3, kt3) "
    "s4 = Reshape(s, scores4) a = Add(s4, mask) a3 = Reshape(a, scores3) p = Softmax<axis = -1>(a3) "
    f"o3 = MatMul(p, v3) o = Reshape(o3, heads4) {BACK}",
    "whisper": f"{HEADS} q1 = Mul(qh, r2) kh = Mul(kt, r2) s = MatMul(q1, kh) p = Softmax<axis = 3>(s) "
    f"o = MatMul(p, vh) {BACK}",
    "gemma": f"{HEADS} {KEEP} s = MatMul(qh, kt) d = Mul(s, half) c = Div(d, cap) t = Tanh(c) u = Mul(t, cap) "
    f"a = Add(u, mask) p = Softmax<axis = -1>(a) o = MatMul(p, vh) {BACK}",
    "masked before scaled": f"{HEADS} {KEEP} s = MatMul(qh, kt) a = Add(s, mask) d = Mul(a, half) "
    f"p = Softmax<axis = -1>(d) o = MatMul(p, vh) {BACK}",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str) -> None:
    found = node(left(FAMILIES[family]))
    # of bart 3d it stays where it is, behind the product that makes q
    assert found.attrs["scale"] == pytest.approx(1.0 if family == "bart 3d" else 0.5, rel=1e-6)
    assert found.attrs["empty"] == ("guarded" if family == "torch sdpa" else "nan")
    assert ("softcap" in found.attrs) == (family == "gemma")


def test_added_position_bias() -> None:
    """T5: no scale, a bias of heads and places, and a mask; both become one input."""
    text = (
        "g (float[2,5,12] q, float[2,5,12] k, float[2,5,12] v, int64[2,5] keep, float[1,3,5,5] rel) => "
        f"(float[N,M,C] y) {{ {CONSTANTS} {HEADS} {KEEP} s = MatMul(qh, kt) a = Add(s, rel) b = Add(a, mask) "
        f"p = Softmax<axis = -1>(b) o = MatMul(p, vh) {BACK} }}"
    )
    found = node(same(text, {**FEEDS, "rel": randn(1, 3, 5, 5)}, rtol=1e-4, atol=1e-5))
    assert found.attrs["scale"] == 1.0
    assert found.inputs[3] is not None and found.inputs[3].shape == (2, 3, 5, 5)


def test_grouped_heads() -> None:
    """Llama: three query heads of each key head, repeated by Unsqueeze, Expand and Reshape; rotary halves of q."""
    text = f"""g (float[2,5,12] q, float[2,5,4] k, float[2,5,4] v, float[5,4] cos, float[5,4] sin)
      => (float[N,M,C] y) {{
      {CONSTANTS} one = Constant<value_ints = [0, 0, 1, 4]>() all = Constant<value_ints = [2, 1, 3, 5, 4]>()
      s0 = Constant<value_ints = [0]>() s2 = Constant<value_ints = [2]>() s4 = Constant<value_ints = [4]>()
      last = Constant<value_ints = [3]>()
      qs = Reshape(q, split) qh = Transpose<perm = [0, 2, 1, 3]>(qs)
      x1 = Slice(qh, s0, s2, last) x2 = Slice(qh, s2, s4, last) x3 = Neg(x2) turned = Concat<axis = -1>(x3, x1)
      qa = Mul(qh, cos) qb = Mul(turned, sin) qr = Add(qa, qb)
      ks = Reshape(k, one) kh = Transpose<perm = [0, 2, 1, 3]>(ks) ku = Unsqueeze(kh, ax2) ke = Expand(ku, all)
      kr = Reshape(ke, heads4) kt = Transpose<perm = [0, 1, 3, 2]>(kr)
      vs = Reshape(v, one) vh = Transpose<perm = [0, 2, 1, 3]>(vs) vu = Unsqueeze(vh, ax2) ve = Expand(vu, all)
      vr = Reshape(ve, heads4)
      s = MatMul(qr, kt) d = Mul(s, half) p = Softmax<axis = -1>(d) o = MatMul(p, vr) {BACK} }}"""
    feeds = {
        "q": Q,
        "k": randn(2, 5, 4, seed=5),
        "v": randn(2, 5, 4, seed=6),
        "cos": randn(5, 4),
        "sin": randn(5, 4, seed=9),
    }
    graph = same(text, feeds, rtol=1e-4, atol=1e-5)
    found = node(graph)
    assert "Expand" not in ops(graph), str(graph)
    assert [v.shape for v in found.inputs if v] == [(2, 3, 5, 4), (2, 1, 5, 4), (2, 1, 5, 4)]


@pytest.mark.parametrize(
    "body",
    [
        # the softmax runs over the queries
        f"{HEADS} s = MatMul(qh, kt) p = Softmax<axis = -2>(s) o = MatMul(p, vh) {BACK}",
        # the weights are read elsewhere too
        f"{HEADS} s = MatMul(qh, kt) p = Softmax<axis = -1>(s) o1 = MatMul(p, vh) m = ReduceSum(p) "
        f"o = Add(o1, m) {BACK}",
        # the scores are
        f"{HEADS} s = MatMul(qh, kt) p = Softmax<axis = -1>(s) o1 = MatMul(p, vh) m = ReduceMax(s) "
        f"o = Add(o1, m) {BACK}",
        # not a scale: it differs between heads
        f"{HEADS} c = ReduceMax<keepdims = 1>(q, ax2) c4 = Unsqueeze(c, ax1) s = MatMul(qh, kt) d = Mul(s, c4) "
        f"p = Softmax<axis = -1>(d) o = MatMul(p, vh) {BACK}",
        # no product before the softmax
        f"{HEADS} c = Concat<axis = 3>(qh, qh) five = Constant<value_ints = [5]>() "
        "three = Constant<value_ints = [3]>() "
        f"s = Slice(c, ax0, five, three) p = Softmax<axis = -1>(s) o = MatMul(p, vh) {BACK}",
    ],
)  # fmt: skip
def test_not_quite_attention(body: str) -> None:
    assert OP not in ops(left(body))


@pytest.mark.parametrize("low", ["tenk", "two", "low", "inf"])
def test_a_row_that_one_where_may_hide(low: str) -> None:
    """Told by the mask itself where the number is below 0, by the condition where it is not."""
    found = node(left(f"{HEADS} kb = Cast<to = 9>(keep) kr = Reshape(kb, mask4) s = MatMul(qh, kt) "
                      f"c = Where(kr, s, {low}) p = Softmax<axis = -1>(c) o = MatMul(p, vh) {BACK}"))  # fmt: skip
    assert ("replace" in found.attrs, len(found.inputs)) == ((False, 5) if low == "two" else (True, 4))


def test_a_where_beside_what_is_added() -> None:
    """What is seen comes as an input: the mask alone does not tell."""
    body = (f"{HEADS} {KEEP} {TRIANGLE} s = MatMul(qh, kt) a = Add(s, mask) c = Where(tri, a, tenk) "
            f"p = Softmax<axis = -1>(c) o = MatMul(p, vh) {BACK}")  # fmt: skip
    found = node(left(body))
    assert "replace" not in found.attrs and found.inputs[4] is not None and found.inputs[4].dtype == "bool"


# ---- what masks say ----


def mask_of(body: str, feeds: dict[str, Any] = FEEDS) -> Reach | None:
    """What `reach` finds of the mask that is the graph's output."""
    text = (
        "g (float[2,5,12] q, float[2,5,12] k, float[2,5,12] v, int64[2,5] keep) => (float[a,b,c,d] mask) "
        f"{{ {CONSTANTS} {body} }}"
    )
    return reach(bound(text, feeds).outputs[0], 5, 5)


@pytest.mark.parametrize("low", ["low", "tenk", "inf"])
def test_reach_of_a_constant_triangle(low: str) -> None:
    assert mask_of(f"{TRIANGLE} mask = Where(tri, zero, {low})") == Reach(0, True)


def test_reach_of_a_triangle_and_padding() -> None:
    """Which keys are padding is known at run time only: a row may have none left."""
    kb = "kb = Cast<to = 9>(keep) kr = Reshape(kb, mask4)"
    assert mask_of(f"{TRIANGLE} {kb} both = And(tri, kr) mask = Where(both, zero, low)") == Reach(0, False)
    assert mask_of(
        f"{TRIANGLE} {KEEP.replace('mask =', 'pad =')} c = Where(tri, zero, low) mask = Add(c, pad)"
    ) == Reach(0, False)


def test_reach_with_a_past() -> None:
    later = TRIANGLE.replace("rows)", "later)").replace("columns =", "later = Add(rows, i1) columns =")
    assert mask_of(f"{later} mask = Where(tri, zero, low)") == Reach(1, True)
    two = "two2 = Constant<value_int = -2>() "
    earlier = two + TRIANGLE.replace("rows)", "later)").replace(
        "columns =", "later = Add(rows, two2) columns ="
    )
    assert mask_of(f"{earlier} mask = Where(tri, zero, low)") == Reach(-2, False)


@pytest.mark.parametrize(
    "body",
    [
        KEEP,  # padding alone
        f"{TRIANGLE} mask = Where(tri, low, zero)",  # the upper triangle
        f"{TRIANGLE} minus = Constant<value_float = -100.0>() mask = Where(tri, zero, minus)",  # not low enough
        f"{TRIANGLE} kb = Cast<to = 9>(keep) kr = Reshape(kb, mask4) any = Or(tri, kr) mask = Where(any, zero, low)",
    ],
)
def test_no_reach(body: str) -> None:
    assert mask_of(body) is None


# ---- ONNX's own operator ----


def operator(attrs: str, inputs: str, feeds: dict[str, Any], outputs: str = "y", opset: int = 23) -> Graph:
    kinds = {"float32": "float", "bool": "bool"}
    head = ", ".join(f"{kinds[str(v.dtype)]}[{','.join(map(str, v.shape))}] {n}" for n, v in feeds.items())
    results = ", ".join(f"float[{','.join('abcd'[:4])}] {n}" for n in outputs.split(", "))
    if feeds["q"].ndim == 3:
        results = results.replace("[a,b,c,d] y", "[a,b,c] y")
    attrs = f"<{attrs}>" if attrs else ""
    text = f"g ({head}) => ({results}) {{ {outputs} = Attention{attrs}({inputs}) }}"
    return same(text, feeds, opset=opset, rtol=1e-4, atol=1e-5)


def four(heads: int, length: int, seed: int, depth: int = 4) -> Any:
    return randn(2, heads, length, depth, seed=seed)


@pytest.mark.parametrize("attrs", ["", "scale = 0.3", "softcap = 2.0", "is_causal = 1"])
def test_operator(attrs: str) -> None:
    feeds = {"q": four(4, 5, 1), "k": four(2, 6, 2), "v": four(2, 6, 3, 7)}
    assert node(operator(attrs, "q, k, v", feeds)).output.shape == (2, 4, 5, 7)


def test_operator_on_rows_of_heads() -> None:
    feeds = {"q": randn(2, 5, 12), "k": randn(2, 6, 4, seed=1), "v": randn(2, 6, 4, seed=2)}
    node(operator("q_num_heads = 3, kv_num_heads = 1", "q, k, v", feeds))


@pytest.mark.parametrize("attrs", ["", "is_causal = 1"])
def test_operator_with_masks(attrs: str) -> None:
    """Row 1 sees nothing, and gives zeros."""
    allowed = randn(2, 1, 5, 6) > -0.5
    allowed[:, :, :, 0] = True
    allowed[0, 0, 1] = False
    feeds = {"q": four(2, 5, 1), "k": four(2, 6, 2), "v": four(2, 6, 3), "m": allowed}
    node(operator(attrs, "q, k, v, m", feeds))
    feeds["m"] = np.where(allowed, randn(2, 1, 5, 6, seed=4), -np.inf).astype(np.float32)
    node(operator(attrs, "q, k, v, m", feeds))


def test_operator_with_a_cache() -> None:
    feeds = {
        "q": four(2, 3, 1),
        "k": four(2, 3, 2),
        "v": four(2, 3, 3),
        "pk": four(2, 4, 4),
        "pv": four(2, 4, 5),
    }
    graph = operator("is_causal = 1", "q, k, v, , pk, pv", feeds, "y, nk, nv")
    assert node(graph).attrs["causal_offset"] == 4
