"""Equal expressions are one object; the table forgets those that nobody holds; a template is a rewrite."""

from __future__ import annotations

import gc

from hypothesis import given, settings
from hypothesis import strategies as st

from nnjit.codegen.expr import LANE, Expr, Index, acc, axis, const, facts, guarded, load, op, reg
from nnjit.codegen.hashcons import TABLE, sweep
from nnjit.codegen.rewriting import rewrite
from nnjit.codegen.template import Template

NAMES = ("m", "n", "k", LANE)
numbers = st.integers(-9, 9)
plain_indices = st.builds(Index, numbers, st.dictionaries(st.sampled_from(NAMES), numbers, max_size=3))


def _loads(indices: st.SearchStrategy[Index]) -> st.SearchStrategy[Expr]:
    other = st.sampled_from((const(0, "i32"), acc("i32"), axis("n")))
    within = st.builds(
        lambda operand, i, g, n, e: guarded(operand, i, "i32", ((g, n),), e),
        st.integers(0, 2), indices, indices, st.integers(1, 9), other,
    )  # fmt: skip
    return st.builds(lambda operand, i: load(operand, i, "i32"), st.integers(0, 2), indices) | within


leaves = (
    _loads(plain_indices)
    | plain_indices.map(axis)
    | numbers.map(lambda n: const(n, "i32"))
    | st.just(acc("i32"))
)
gathers = leaves.flatmap(lambda e: _loads(numbers.map(lambda c: Index(c, {"m": 2, e: 3}))))
expressions = st.recursive(
    leaves | gathers,
    lambda below: st.builds(op, st.sampled_from(("add", "mul", "max")), below, below),
    max_leaves=8,
)


def test_equal_ones_are_one() -> None:
    a, b = Index(3, {"m": 4, "k": 1}), Index(3, {"k": 1, "m": 4, "n": 0})
    assert a is b and a + 0 is a and (a + 2) + -2 is a and a * 1 is a
    assert load(0, a, "f32") is load(0, b, "f32") is not load(1, a, "f32")
    assert Index(0, {load(0, a, "i32"): 1}) is Index(0, {load(0, b, "i32"): 1})


def test_constants_that_compare_oddly() -> None:
    zero, minus, nan = const(0.0, "f32"), const(-0.0, "f32"), const(float("nan"), "f32")
    assert (
        zero is not minus
        and nan is const(float("nan"), "f32")
        and const(0, "i32") is not const(False, "bool")
    )
    assert const(1, "f32") is const(1.0, "f32") is not const(1, "f64")


def test_the_table_forgets_what_nobody_holds() -> None:
    held = op("add", load(7, Index(123456, {"held": 9}), "f32"), const(0.123, "f32"))
    op("mul", load(7, Index(654321, {"dropped": 9}), "f32"), op("add", held, const(0.321, "f32")))
    gc.collect()
    assert sweep() >= 4
    text = {repr(v) for v in TABLE.values()}
    assert not any("654321" in t or "0.321" in t for t in text)
    assert held is op("add", load(7, Index(123456, {"held": 9}), "f32"), const(0.123, "f32"))
    assert sweep() == 0


def test_facts() -> None:
    inner = load(2, Index(0, {"k": 1}), "i32")
    e = op("add", load(5, Index(0, {inner: 4}), "f16"), reg("r", "f16"))
    for known in ("add", "load", "f16", "i32", "gather", 2, 5):
        assert e.facts & facts((known,)), known
    assert not e.facts & facts(("mul", "f32", "guard", 0, 1, 3))


@settings(deadline=None)
@given(expressions, st.lists(st.dictionaries(st.sampled_from(NAMES), plain_indices), max_size=4))
def test_a_template_is_a_rewrite(e: Expr, places: list[dict[str, Index]]) -> None:
    template = Template(e, lambda x: x.op == "acc" or (x.op == "load" and x.attr.operand == 2))
    for n, env in enumerate(places):

        def leaf(x: Expr, n: int = n) -> Expr | None:
            if x.op == "acc":
                return reg(f"r{n}", "i32")
            return load(9, x.attr.index + n, "i32") if x.op == "load" and x.attr.operand == 2 else None

        assert template(env, leaf) is rewrite(e, env, leaf)
