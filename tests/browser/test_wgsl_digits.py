"""Rows in digits by weights of few bits, run in Chromium on SwiftShader (the adapter is asserted): exact for whole
numbers, within the bound of `schedule/digits` for others, infinities and NaNs as numpy has them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nnjit.codegen.schedule.group_steps import Along, Digits
from nnjit.codegen.spec import KernelSpec
from tests.support.few_bits import bound, packed, weights

from .wgsl_page import TARGET, Run, check

# A software adapter takes as long to compile a shader as there are columns times rows times words of a block in it:
# eight columns are tried once, and long blocks with two.
pytestmark = pytest.mark.swiftshader
DEVICE = replace(TARGET, max_shared_bytes=32768)


def made(
    rng: np.random.Generator, m: int, n: int, blocks: int, block: int, bits: int, zero: str
) -> tuple[KernelSpec, list[Any]]:
    """With zero points of bytes as a plan has such constants: four to a word."""
    spec, inputs = packed(rng, m, n, blocks, block * bits // 32, bits, zero)
    kept = tuple(replace(o, packed=o.dtype == "u8") for o in spec.operands)
    return replace(spec, operands=kept), inputs


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    ("zero", "m", "block", "step", "rounds"),
    [
        ("const", 1, 32, Along("n", 4, 16, 32), 1),
        ("u8", 1, 32, Along("n", 4, 8, 32, 4, 2), 3),
        ("u8", 3, 16, Along("n", 2, 16, 16, 4), 2),
        ("f32", 2, 64, Along("n", 1, 16, 64, staged=True), 1),
        ("const", 1, 128, Along("n", 2, 4, 128, 4), 1),
        ("f32", 1, 32, Along("n", 8, 16, 32, staged=True), 2),
    ],
)
def test_whole_numbers(run: Run, bits: int, zero: str, m: int, block: int, step: Along, rounds: int) -> None:
    case = made(np.random.default_rng(m), m, 21, 19, block, bits, zero)
    check(run, case, schedule=(step, Digits(rounds)))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zero", ["const", "u8", "f32"])
def test_reals(run: Run, bits: int, zero: str) -> None:
    rng = np.random.default_rng(11)
    spec, inputs = made(rng, 2, 16, 40, 32, bits, zero)
    x = rng.normal(size=inputs[0].shape) * np.exp(2 * rng.normal(size=inputs[0].shape))
    inputs[0] = x.astype(np.float32)
    inputs[2] = rng.uniform(-0.2, 0.2, inputs[2].shape).astype(np.float32)
    w = weights(spec, inputs, bits, zero)
    x = inputs[0].astype(np.float64).reshape(2, 40, 32)
    off = bound(x, weights(spec, inputs, bits, zero, sizes=True) if zero == "f32" else w)
    (found,) = run(spec, (Along("n", 2, 32, 32, 4), Digits(2)), inputs, DEVICE)
    assert (np.abs(found.reshape(2, 16) - np.einsum("mbk,nbk->mn", x, w)) <= off).all()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rounds", [1, 2])
def test_infinities_and_nans(run: Run, bits: int, rounds: int) -> None:
    """A row of each: an infinity, two of both signs among 32 neighbours, a NaN, none. No weight is 0."""
    rng = np.random.default_rng(3)
    spec, inputs = made(rng, 4, 8, 12, 32, bits, "f32")
    inputs[0] = rng.normal(size=inputs[0].shape).astype(np.float32)
    inputs[0][0, 37] = np.inf
    inputs[0][1, [100, 101]] = np.inf, -np.inf
    inputs[0][2, 8] = np.nan
    w = weights(spec, inputs, bits, "f32").reshape(8, -1)
    with np.errstate(invalid="ignore"):
        wanted = np.array([[np.sum(row * column) for column in w] for row in inputs[0].astype(np.float64)])
    (found,) = run(spec, (Along("n", 2, 16, 32), Digits(rounds)), inputs, DEVICE)
    found = found.reshape(4, 8)
    np.testing.assert_array_equal(found[:3], wanted[:3].astype(np.float32))
    off = bound(inputs[0][3:].astype(np.float64).reshape(1, 12, 32), weights(spec, inputs, bits, "f32", True))
    assert np.isfinite(found[3]).all() and (np.abs(found[3] - wanted[3]) <= off).all()
