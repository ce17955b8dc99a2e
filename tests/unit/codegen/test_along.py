"""A few rows by a matrix whose weights lie along the sum: the nest under the interpreter against the spec's meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnjit.codegen.expr import Expr, Index, axis, cast, const, load, op
from nnjit.codegen.loops import Swap
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.codes import codes_of
from nnjit.codegen.schedule.group_steps import Along
from nnjit.codegen.schedule.steps import ScheduleError
from nnjit.codegen.spec import KernelSpec
from tests.support import specs
from tests.support.few_bits import packed
from tests.support.schedules import agree, interpreted


def check(spec: KernelSpec, step: Along, inputs: list[Any]) -> None:
    """Whole numbers, so that the order of the sums makes no difference."""
    agree(
        interpreted(spec, (step,), inputs),
        specs.evaluate(spec, inputs),
        0.0,
        f"{spec.describe()}\n{step}",
        spec,
    )


@settings(max_examples=40, deadline=None)
@given(
    m=st.integers(1, 4), n=st.integers(1, 9), spans=st.integers(1, 9), span=st.sampled_from([4, 8, 12]),
    columns=st.integers(1, 8), threads=st.sampled_from([2, 4, 8, 16]), subgroup=st.sampled_from([1, 2, 4, 32]),
    bias=st.booleans(), dtype=st.sampled_from(["f32", "f16", "i32"]),
)  # fmt: skip
def test_products(
    m: int, n: int, spans: int, span: int, columns: int, threads: int, subgroup: int, bias: bool, dtype: str
) -> None:
    rng = np.random.default_rng(m)
    spec, inputs = specs.matmul(rng, m, n, spans * span, dtype, bias=bias, transposed=True)
    if n > 1:
        check(canonical(spec), Along("n", columns, threads, span, subgroup), inputs)
    spec, inputs = specs.matmul(rng, m, n, spans * span, dtype, batch=2, bias=bias, transposed=True)
    check(spec, Along("n", min(columns, 4), threads, span, subgroup), inputs)  # of 8 rows


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zero", ["const", "u8", "f32"])
@pytest.mark.parametrize(
    ("m", "n", "blocks", "words"), [(1, 5, 3, 4), (2, 4, 9, 8), (1, 1, 8, 2), (3, 2, 1, 1)]
)
def test_weights_in_words(bits: int, zero: str, m: int, n: int, blocks: int, words: int) -> None:
    spec, inputs = packed(np.random.default_rng(5), m, n, blocks, words, bits, zero)
    for span in (32 // bits, words * 32 // bits):
        for subgroup, turns in ((1, 1), (4, 1), (1, 2), (4, 3)):
            check(spec, Along("n", 2, 4, span, subgroup, turns), inputs)
            if turns * span // 4 * m <= 32:
                check(spec, Along("n", 2, 4, span, subgroup, turns, early=True), inputs)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zero", ["const", "u8", "f32"])
def test_codes_are_exact(bits: int, zero: str) -> None:
    """Where the sum has one term, weights are what a definition in doubles says, but for the last rounding."""
    rng = np.random.default_rng(7)
    spec, inputs = packed(rng, 1, 64, 1, 1, bits, zero)
    for k in range(32 // bits):
        inputs[0] = np.zeros_like(inputs[0])
        inputs[0].flat[k] = 1.1
        inputs[2] = rng.uniform(0.5, 1.5, inputs[2].shape).astype(np.float32)
        found = interpreted(spec, (Along("n", 2, 2, 32 // bits),), inputs)
        code = (inputs[1].astype(np.int64) >> bits * k) & ((1 << bits) - 1)
        middle = 3.0 if zero == "const" else inputs[4 - 1].astype(np.float64)
        wanted = np.float64(np.float32(1.1)) * (code - middle) * inputs[2].ravel().astype(np.float64)
        np.testing.assert_allclose(np.ravel(found), wanted, rtol=2.0**-22, atol=0)


def test_words_are_read_four_at_a_time() -> None:
    spec, _ = packed(np.random.default_rng(5), 1, 4, 8, 4, 4)
    assert "%w.0.0.0 x4 = $1[" in str(apply(spec, (Along("n", 2, 4, 32),)))
    assert "%w.0.0.0 = $1[" in str(apply(spec, (Along("n", 2, 4, 8),)))


@settings(max_examples=20, deadline=None)
@given(
    m=st.integers(1, 3), n=st.integers(1, 5), blocks=st.integers(1, 50), words=st.sampled_from([1, 2, 4]),
    bits=st.sampled_from([4, 8]), columns=st.sampled_from([1, 2, 4]), threads=st.sampled_from([8, 16]),
    turns=st.integers(1, 2), subgroup=st.sampled_from([1, 4, 32]), zero=st.sampled_from(["const", "u8"]),
)  # fmt: skip
def test_rows_that_go_through_a_shared_array(
    m: int, n: int, blocks: int, words: int, bits: int, columns: int, threads: int, turns: int, subgroup: int,
    zero: str,
) -> None:  # fmt: skip
    spec, inputs = packed(np.random.default_rng(m), m, n, blocks, words, bits, zero)
    span = words * 32 // bits
    check(spec, Along("n", columns, threads, span, subgroup, turns, staged=True), inputs)
    if words > 1:  # a word a span
        check(spec, Along("n", columns, threads, 32 // bits, subgroup, turns, staged=True), inputs)


def test_rows_that_cannot_be_staged() -> None:
    rng = np.random.default_rng(5)
    spec, _ = packed(rng, 1, 4, 12, 4, 4)
    plain, _ = specs.matmul(rng, 2, 4, 24, transposed=True)
    for s, step in (
        (spec, Along("n", 2, 4, 32, staged=True)),  # four threads for eight vectors
        (plain, Along("n", 2, 2, 4, staged=True)),
    ):
        with pytest.raises(ScheduleError):
            apply(s, (step,))


def test_what_does_not_fit_is_refused() -> None:
    spec, _ = specs.matmul(np.random.default_rng(5), 2, 4, 24, transposed=True)
    softmax, _ = specs.softmax(np.random.default_rng(5), 4, 12)
    for step in (
        Along("n", 2, 4, 7),
        Along("n", 2, 4, 16),
        Along("n", 2, 3, 8),
        Along("k", 2, 4, 8),
        Along("n", 20, 4, 8),
    ):
        with pytest.raises(ScheduleError):
            apply(spec, (step,))
    with pytest.raises(ScheduleError):
        apply(softmax, (Along("n", 2, 4, 4),))
    nest = apply(spec, (Along("n", 2, 4, 8, 4),))
    assert not nest.shared and any(isinstance(s, Swap) for s in nest.body[0].body)  # type: ignore[union-attr]


def test_codes_are_known_where_they_lie_in_one_word() -> None:
    """Along the last axis of a span, at multiples of their bits, by a scale that a span shares."""

    def factor(shift: Index, word: Index, scale: Index) -> Expr:
        bits = op("band", op("shr", load(0, word, "i32"), axis(shift)), const(15, "i32"))
        return op("mul", op("add", cast(bits, "f32"), const(-8, "f32")), load(1, scale, "f32"))

    shift, word, scale = Index(0, {"k": 4}), Index(0, {"n": 9, "b": 1}), Index.of("n")
    found = codes_of(factor(shift, word, scale), ["b", "k"])
    assert found is not None and (found.bits, found.zero.attr) == (4, -8)
    for other in (
        factor(Index(0, {"k": 6}), word, scale),
        factor(Index(2, {"k": 4}), word, scale),
        factor(Index(0, {"k": 4, "o": 16}), word, scale),
        factor(Index(0, {"b": 4}), word, scale),
        factor(shift, Index(0, {"k": 1}), scale),
        factor(shift, word, Index.of("b")),
    ):
        assert codes_of(other, ["b", "k"]) is None
