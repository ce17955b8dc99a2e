"""Rows in digits by weights of few bits: the nest under the interpreter against the spec's meaning, exactly for whole
numbers and within the bound of `schedule/digits` for others; infinities, NaNs and numbers of all sizes."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.digits import places
from nnjit.codegen.schedule.group_steps import Along, Digits
from nnjit.codegen.schedule.steps import ScheduleError, describe
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wgsl.emit import emit
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.tune.oracle import agrees, expected, probes
from nnjit.tune.schedules import from_json, to_json
from tests.bench.gpu.specs import bits_spec
from tests.support import specs
from tests.support.few_bits import bound, packed, weights
from tests.support.schedules import agree, interpreted
from tests.unit.lower.test_nbits import case
from tests.unit.runtime.test_gpu_merging import Simulated, planned, session

LARGEST = float(np.finfo(np.float32).max)


@settings(max_examples=40, deadline=None)
@given(
    m=st.integers(1, 4), n=st.integers(1, 9), blocks=st.integers(1, 20), block=st.sampled_from([16, 32, 64, 128]),
    bits=st.sampled_from([4, 8]), columns=st.sampled_from([1, 2, 4, 8]), threads=st.sampled_from([4, 8, 16]),
    turns=st.integers(1, 2), subgroup=st.sampled_from([1, 4, 32]), zero=st.sampled_from(["const", "u8", "f32"]),
    rounds=st.integers(1, 3), way=st.sampled_from(["", "staged", "early"]),
)  # fmt: skip
def test_whole_numbers_are_exact(
    m: int, n: int, blocks: int, block: int, bits: int, columns: int, threads: int, turns: int, subgroup: int,
    zero: str, rounds: int, way: str,
) -> None:  # fmt: skip
    words = block * bits // 32
    spec, inputs = packed(np.random.default_rng(m), m, n, blocks, words, bits, zero)
    staged = way == "staged" and threads % (block // 4) == 0
    early = way == "early" and turns * block // 4 * m <= 32
    step = Along("n", columns, threads, block, subgroup, turns, staged, early)
    held = -(-blocks // threads) * block * m * 3 // 4
    several = held <= 96 and not (early and blocks < threads)
    schedule = step, Digits(rounds if several else 1)
    agree(interpreted(spec, schedule, inputs), specs.evaluate(spec, inputs), 0.0, describe(schedule), spec)


def exact(spec: KernelSpec, inputs: list[Any], bits: int, zero: str) -> tuple[Any, Any]:
    """The sums in doubles, and how far digits may be from them."""
    w = weights(spec, inputs, bits, zero)
    x = inputs[0].astype(np.float64).reshape(-1, w.shape[1], w.shape[2])
    sizes = weights(spec, inputs, bits, zero, sizes=True) if zero == "f32" else w
    return np.einsum("mbk,nbk->mn", x, w), bound(x, sizes)


@settings(max_examples=30, deadline=None)
@given(
    m=st.integers(1, 3), block=st.sampled_from([16, 32, 64]), bits=st.sampled_from([4, 8]),
    zero=st.sampled_from(["const", "u8", "f32"]), spread=st.sampled_from([0.0, 1.0, 6.0]), seed=st.integers(0, 999),
)  # fmt: skip
def test_reals_are_within_their_bound(
    m: int, block: int, bits: int, zero: str, spread: float, seed: int
) -> None:
    """spread: of the logarithms of sizes, so that neighbours may differ a million times."""
    rng = np.random.default_rng(seed)
    spec, inputs = packed(rng, m, 6, 9, block * bits // 32, bits, zero)
    x = rng.normal(size=inputs[0].shape) * np.exp(spread * rng.normal(size=inputs[0].shape))
    inputs[0] = x.astype(np.float32)
    inputs[2] = rng.uniform(-0.2, 0.2, inputs[2].shape).astype(np.float32)
    wanted, off = exact(spec, inputs, bits, zero)
    (found,) = interpreted(spec, (Along("n", 2, 4, block), Digits()), inputs)
    assert (np.abs(found.reshape(wanted.shape) - wanted) <= off).all()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("size", [LARGEST, 3.3e38, 1.0, 1.99999, 2.0**-100, 2.0**-104, 1e-37, 1e-45, 0.0])
def test_numbers_of_all_sizes(bits: int, size: float) -> None:
    """A large, a small and a middling number by each code in turn; below 2^-105 multiples of 2^-127 are told apart."""
    spec, inputs = packed(np.random.default_rng(3), 1, 8, 4, bits // 2, bits)
    x = np.zeros_like(inputs[0])
    k = x.size
    x.flat[[0, k // 4 + 3, k // 2 + 1, k // 2 + 2]] = np.array([size, -size, size, size / 3])
    inputs[0] = x
    inputs[2] = np.full_like(inputs[2], 2.0**-10)
    wanted, off = exact(spec, inputs, bits, "const")
    (found,) = interpreted(spec, (Along("n", 2, 4, k // 4), Digits()), inputs)
    least = 2.0**-126 * np.abs(weights(spec, inputs, bits, "const")).sum((1, 2)) + 2.0**-140
    assert (np.abs(found.astype(np.float64).reshape(wanted.shape) - wanted) <= off + least).all()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zero", ["const", "u8", "f32"])
@pytest.mark.parametrize(("rounds", "early"), [(1, False), (3, False), (3, True)])
def test_infinities_and_nans_are_those_of_floats(bits: int, zero: str, rounds: int, early: bool) -> None:
    """Of one row: an infinity, two of both signs in one group, one in each of two groups, a NaN; the others are what
    they were."""
    rng = np.random.default_rng(7)
    spec, inputs = packed(rng, 4, 6, 8, bits, bits, zero)  # blocks of 32
    inputs[0] = rng.normal(size=inputs[0].shape).astype(np.float32)
    inputs[2] = rng.uniform(-0.2, 0.2, inputs[2].shape).astype(np.float32)
    inputs[0][0, 5] = np.inf
    inputs[0][1, [40, 41]] = -np.inf, np.inf
    inputs[0][2, [0, 255]] = np.inf, -np.inf
    inputs[0][3, 100] = np.nan
    step = Along("n", 2, 8, 32, early=early)
    floats = interpreted(spec, (step,), inputs)[0].reshape(4, 6)
    found = interpreted(spec, (step, Digits(rounds)), inputs)[0].reshape(4, 6)
    assert not np.isfinite(found).any() and np.isinf(found).any() and np.isnan(found[3]).all()
    np.testing.assert_array_equal(found, floats)
    inputs[0][0, 5] = 1.0
    found = interpreted(spec, (step, Digits(rounds)), inputs)[0].reshape(4, 6)
    wanted, off = exact(spec, inputs, bits, zero)
    assert (np.abs(found[0] - wanted[0]) <= off[0]).all() and not np.isfinite(found[1:]).any()


@pytest.mark.parametrize("bits", [4, 8])
def test_which_codes_a_mask_leaves(bits: int) -> None:
    """All codes of a word once, four at a time."""
    found = places(bits)
    assert sorted(p for four in found for p in four) == list(range(32 // bits))
    assert {len(four) for four in found} == {4}


def test_digits_are_made_once_for_all_rounds() -> None:
    spec, _ = packed(np.random.default_rng(5), 1, 32, 16, 4, 4)
    text = str(apply(spec, (Along("n", 4, 16, 32), Digits(4))))
    assert text.index(".fixed.0 x4") < text.index("for round in 4") and text.count(".fixed.0 x4 =") == 1
    assert "%w.0.0.0 x4 = $1[" in text, "words are read four at a time"


def test_words_of_the_next_round_are_asked_for_before_those_of_this_one_are_used() -> None:
    """Two turns of a thread and three rounds: rows, the first words, digits, then words one span ahead."""
    spec, _ = packed(np.random.default_rng(5), 1, 32, 16, 4, 4)
    text = str(apply(spec, (Along("n", 2, 8, 32, early=True), Digits(3))))
    places = [m.start() for m in re.finditer(r"%w\.[01]\.0\.0 x4 = ", text)]
    used = [m.start() for m in re.finditer(r"%c\.0\.0 x4 = ", text)][::2]  # of two columns the first
    assert len(places) == len(used) == 6
    assert text.index("%x.1.7.0") < places[0] < text.index(".fixed.0 x4") < places[1] < used[0]
    assert all(read < use for read, use in zip(places[1:], used, strict=False))
    assert all(use < read for read, use in zip(places[2:], used, strict=False))


@pytest.mark.parametrize(("bits", "dots", "masks"), [(4, 24, 3), (8, 24, 2)])
def test_how_many_dots_and_masks_a_weight_takes(bits: int, dots: int, masks: int) -> None:
    """Of 32 weights of a column, in the loop over rounds: three dots for four codes; operations on vectors of words."""
    spec = bits_spec(512, 64, bits)
    text = emit(apply(spec, (Along("n", 4, 16, 32), Digits(2))), WgslTarget()).wgsl
    loop = text[text.index("for (var round") : text.index("if (d_")]
    assert loop.count("dot4I8Packed(") == 4 * dots
    taken = [line for line in loop.split("\n") if re.search(r"\bc_\d_\d\b[^=]*= ", line)]
    assert sum(len(re.findall(r" [&^]|>>", line)) for line in taken) == 4 * masks


def test_what_does_not_fit_is_refused() -> None:
    rng = np.random.default_rng(5)
    spec, _ = packed(rng, 1, 4, 12, 4, 4)
    floats, _ = specs.matmul(rng, 2, 4, 32, transposed=True)
    few, _ = packed(rng, 1, 4, 12, 2, 2)
    long, _ = packed(rng, 1, 4, 12, 16, 4)
    for s, schedule in (
        (spec, (Along("n", 2, 4, 8), Digits())),  # a word
        (spec, (Digits(),)),
        (spec, (Digits(), Along("n", 2, 4, 32))),
        (spec, (Along("n", 2, 4, 32), Digits(0))),
        (spec, (Along("n", 2, 8, 32, staged=True, early=True), Digits())),
        (spec, (Along("n", 2, 16, 32, early=True), Digits(2))),  # a thread without a span
        (floats, (Along("n", 2, 4, 8, early=True),)),
        (floats, (Along("n", 2, 4, 8), Digits())),
        (few, (Along("n", 2, 4, 32), Digits())),
        (long, (Along("n", 2, 4, 128), Digits(2))),  # three spans of a thread, 96 registers each
    ):
        with pytest.raises(ScheduleError):
            apply(s, schedule)


def test_it_is_a_schedule_like_others() -> None:
    schedule = Along("n", 8, 128, 32), Digits(4)
    assert from_json(to_json(schedule)) == schedule
    assert describe(schedule) == "n tile 8 · along the sum by 128 x 32 · digits for 4 rounds"


@pytest.mark.parametrize("bits", [4, 8])
def test_the_oracle_takes_it(bits: int) -> None:
    """At the places where a serving kernel is looked at in the lab."""
    spec, inputs = packed(np.random.default_rng(5), 1, 16, 12, bits, bits)
    inputs[0] = np.random.default_rng(6).normal(size=inputs[0].shape).astype(np.float32)
    (found,) = interpreted(spec, (Along("n", 4, 8, 32), Digits(2)), inputs)
    given = {at: x.tobytes() for at, x in zip((0, 1, 2), inputs, strict=True)}
    looked = probes(spec)
    assert looked
    for p in looked:
        value = expected(spec, p, given)
        assert agrees(float(found[p.at]), value, spec, "f32")
        assert not agrees(float(found[p.at]) + 0.01 * (1 + abs(value)), value, spec, "f32")


@pytest.mark.parametrize(
    ("rows", "k", "n", "bits", "block", "zero", "dtype"),
    [
        ((1,), 512, 24, 4, 32, "absent", np.float32),
        ((1, 1), 500, 20, 4, 16, "packed", np.float32),
        ((3,), 250, 9, 8, 64, "packed", np.float32),
        ((2, 2), 512, 24, 4, 128, "float", np.float32),
        ((1,), 256, 17, 4, 32, "packed", np.float16),
        ((3,), 320, 12, 8, 32, "absent", np.float16),
    ],
)
def test_models(rows: tuple[int, ...], k: int, n: int, bits: int, block: int, zero: str, dtype: Any) -> None:
    """The kernel of a MatMulNBits, as a plan for WebGPU has it: f16, a sum that ends within a block, a bias."""
    model, feeds, wanted = case(5, rows, k, n, bits, block, zero, True, dtype)
    plan = planned(session(model), feeds)
    (at,) = [i for i, info in enumerate(plan.kernels) if f"{bits}bits" in info.spec.name]
    info = plan.kernels[at]
    step = info.schedule[0]
    assert isinstance(step, Along) and len(info.schedule) == 1, "digits are not the rules' own"
    schedule = replace(step, span=block, turns=1, staged=False), Digits()
    plan.kernels[at] = replace(info, schedule=schedule)
    found = Simulated(plan, model).run(feeds)["y"].astype(np.float64)
    # f16 rounds what comes out; else a few times the last place of the largest
    near = 6e-4 if dtype is np.float16 else 1e-6
    assert np.abs(found - wanted).max() <= near * np.abs(wanted).max()
