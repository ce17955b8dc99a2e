"""Rounding to bytes in the integer unit, and bytes of neighbouring vectors stored together, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from nnjit.codegen.dtypes import LIMITS
from nnjit.codegen.expr import Index, cast, const, load, op
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.steps import Tile, Vectorize
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from nnjit.codegen.wasm.emit import emit
from nnjit.codegen.wasm.listing import listing
from nnjit.codegen.wasm.target import Target
from nnjit.lower.ops.quant import quantized
from tests.support.kernels import run_spec

EDGES = [
    0.0,
    -0.0,
    0.5,
    1.5,
    2.5,
    -0.5,
    -1.5,
    -2.5,
    126.5,
    127.5,
    254.5,
    255.5,
    -128.5,
    3e38,
    -3e38,
    4194305.0,
    1e-30,
]
EDGES += [np.inf, -np.inf, np.nan]


def spec(n: int, zero: int, dtype: str) -> KernelSpec:
    value = quantized(load(0, Index.of("n"), "f32"), const(zero, dtype), dtype)
    stage = Stage((), (), "", None, value, 1, Index.of("n"))
    return KernelSpec("bytes", (Axis("n", n),), (stage,), (Operand("f32", n, "in"), Operand(dtype, n, "out")))


@pytest.mark.parametrize("dtype", ["u8", "i8"])
@pytest.mark.parametrize("zero", [0, 1, 7, 100, 127])
@pytest.mark.parametrize("tile", [1, 4, 8, 12, 16, 24])
def test_rounds_as_numpy(dtype: str, zero: int, tile: int) -> None:
    rng = np.random.default_rng(zero)
    x = np.concatenate([EDGES, rng.normal(0, 100, 40), rng.integers(-300, 300, 33) + 0.5]).astype(np.float32)
    schedule = (Tile("n", tile), Vectorize("n", 4)) if tile > 1 else ()
    low, high = (
        np.iinfo({"u8": np.uint8, "i8": np.int8}[dtype]).min,
        np.iinfo({"u8": np.uint8, "i8": np.int8}[dtype]).max,
    )
    with np.errstate(invalid="ignore"):
        wanted = np.clip(np.where(np.isnan(x), low, np.round(x) + np.float32(zero)), low, high)
    found = run_spec(spec(len(x), zero, dtype), schedule, Target(), [x])[0]
    np.testing.assert_array_equal(found.astype(np.int32), wanted.astype(np.int32))


def test_neighbours_are_stored_together() -> None:
    """16 bytes of a tile are one store, eight one of 64 bits."""
    for tile, name in ((16, "v128.store "), (8, "v128.store64_lane")):
        text = listing(emit(apply(spec(64, 3, "u8"), (Tile("n", tile), Vectorize("n", 4))), Target()))
        assert name.strip() in text and "store32_lane" not in text


def held(n: int, dtype: str) -> KernelSpec:
    low, high = (const(bound, "i32") for bound in LIMITS[dtype])
    value = cast(op("min", high, op("max", low, load(0, Index.of("n"), "i32"))), dtype)
    stage = Stage((), (), "", None, value, 1, Index.of("n"))
    return KernelSpec("held", (Axis("n", n),), (stage,), (Operand("i32", n, "in"), Operand(dtype, n, "out")))


@pytest.mark.parametrize("dtype", ["u8", "i8"])
@pytest.mark.parametrize("tile", [1, 4, 8, 12, 16, 24])
def test_integers_are_held_to_the_range(dtype: str, tile: int) -> None:
    """By the packs that store whole vectors, by comparisons in a tail: whatever an i32 is."""
    rng = np.random.default_rng(tile)
    ends = [
        -(2**31),
        2**31 - 1,
        -32769,
        -32768,
        32767,
        32768,
        65535,
        65536,
        -129,
        -128,
        -1,
        0,
        127,
        128,
        255,
        256,
    ]
    x = np.concatenate([ends, rng.integers(-(2**31), 2**31, 30), rng.integers(-400, 400, 57)]).astype(
        np.int32
    )
    rng.shuffle(x)
    schedule = (Tile("n", tile), Vectorize("n", 4)) if tile > 1 else ()
    found = run_spec(held(len(x), dtype), schedule, Target(), [x])[0]
    np.testing.assert_array_equal(found.astype(np.int32), np.clip(x, *LIMITS[dtype]))


def test_packs_hold_whole_vectors_to_the_range() -> None:
    for tile in (4, 8, 16):
        text = listing(emit(apply(held(64, "u8"), (Tile("n", tile), Vectorize("n", 4))), Target()))
        assert "i32x4.min" not in text and "i32x4.max" not in text and "v128.bitselect" not in text
