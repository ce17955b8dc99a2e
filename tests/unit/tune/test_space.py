"""Spaces: the default first, few after the rules, each legal one computing what the spec says."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest

from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.schedule.steps import Block, Pack, Tile, Vectorize
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.target import Target
from nnjit.tune.cost import spills
from nnjit.tune.device import DeviceFacts
from nnjit.tune.space import LIMIT, Space
from nnjit.tune.space_wasm import space_of
from tests.support import specs
from tests.support.schedules import agree, interpreted

TARGET = Target(threads=2, shared=True)


def examples() -> dict[str, tuple[KernelSpec, list[Any]]]:
    rng = np.random.default_rng(7)
    return {
        "gemm": specs.matmul(rng, 13, 24, 9, constant=True, bias=True),
        "odd": specs.matmul(rng, 7, 11, 5),
        "row": specs.matmul(rng, 1, 17, 19, constant=True),
        "batch": specs.matmul(rng, 5, 8, 6, batch=3),
        "conv": specs.conv(rng, 6, 6, 5, 8, 3, 1, 1, 1, "f32"),
        "depthwise": specs.conv(rng, 7, 7, 8, 8, 3, 1, 1, 8, "f32"),
        "softmax": specs.softmax(rng, 5, 19),
        "norm": specs.layer_norm(rng, 4, 33),
        "sum": specs.reduction(rng, 4, 5, 9, "sum", "f32", "b"),
        "bytes": specs.matmul(rng, 6, 8, 12, "i8"),
        "dots": specs.byte_product(rng, 7, 12, 10, "u8", "i8"),
    }


def space(name: str) -> tuple[Space, list[Any]]:
    spec, inputs = examples()[name]
    return space_of(canonical(spec), TARGET), inputs


@pytest.mark.parametrize("name", examples())
def test_the_default_comes_first_and_the_rest_is_few(name: str) -> None:
    found, _ = space(name)
    lite = found.lite()
    assert lite[0] == default_schedule(found.spec, TARGET)
    assert len(lite) <= LIMIT and len(set(lite)) == len(lite)
    assert found.raw >= len(lite) - 1
    assert all(found.fits(s) for s in lite)


@pytest.mark.parametrize("name", examples())
def test_candidates_compute_what_the_spec_says(name: str) -> None:
    found, inputs = space(name)
    wanted = specs.evaluate(found.spec, inputs)
    for schedule in found.lite()[:: 1 if name in ("row", "sum") else 6]:
        agree(interpreted(found.spec, schedule, inputs), wanted, 1e-5, str(schedule), found.spec)


def test_the_raw_space_holds_the_lite_one() -> None:
    found, _ = space("odd")
    every = list(found.every())
    assert every[0] == found.default and len(every) <= found.raw + 1
    assert set(found.lite()) <= set(every)


def test_no_candidate_needs_more_registers_than_there_are() -> None:
    spec = canonical(specs.matmul(np.random.default_rng(0), 64, 256, 64, constant=True)[0])
    few, many = (space_of(spec, Target(registers=n)).lite() for n in (15, 30))
    assert all(not spills(*tile(s), 15) for s in few[1:])
    assert any(spills(*tile(s), 15) for s in many)


def tile(schedule: Any) -> tuple[int, int]:
    """Rows and vectors of a product's register tile."""
    wide = next(s.axis for s in schedule if isinstance(s, Vectorize))
    tiles = {s.axis: s.factor for s in schedule if isinstance(s, Tile)}
    rows = [f for axis, f in tiles.items() if axis != wide]
    return max(rows, default=1), tiles[wide] // 4


def test_blocks_follow_the_measured_caches() -> None:
    spec = canonical(specs.matmul(np.random.default_rng(0), 512, 64, 768, constant=True)[0])
    sizes = []
    for cache in (256 << 10, 1 << 20):
        found = space_of(spec, Target(), DeviceFacts(measured=True, l2_bytes=cache))
        blocks = next(k.values for k in found.knobs if k.name == "block")
        sizes.append(max(blocks))
        assert all(b * 768 * 4 <= cache for b in blocks)
    assert sizes[0] < sizes[1]
    assert any(isinstance(s, Block) for schedule in found.every() for s in schedule)


def test_counts_shrink_from_thousands_to_dozens() -> None:
    rng = np.random.default_rng(0)
    for spec, _ in (
        specs.matmul(rng, 384, 768, 768, constant=True),
        specs.matmul(rng, 128, 128, 64, batch=12),
    ):
        found = space_of(canonical(spec), TARGET)
        assert found.raw > 1000 and len(found.lite()) <= 60


def test_panels_of_an_activation_stay_in_the_space() -> None:
    found, _ = space("gemm")
    assert any(isinstance(s, Pack) for s in found.default)
    assert any(not any(isinstance(s, Pack) for s in schedule) for schedule in found.every())


def test_schedules_are_drawn_from_the_whole_space() -> None:
    found, _ = space("odd")
    listed = set(found.lite())
    drawn = found.drawn(Random(1), 12, listed)
    assert len(drawn) == len(set(drawn)) == 12 and not listed & set(drawn)
    assert set(drawn) <= set(found.every())
