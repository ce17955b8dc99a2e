"""Lists of schedules that have much in common: others come between, and cheap ones stay first."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnjit.codegen.schedule.gpu_rules import gpu_schedule
from nnjit.codegen.schedule.group_steps import Cache, Threads
from nnjit.codegen.schedule.steps import Schedule, Tile, Unroll, describe
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.tune.space import ALIKE, LIMIT, Knob, Space
from nnjit.tune.space_gpu import gpu_space
from tests.bench.gpu import listed
from tests.bench.gpu.specs import product_spec
from tests.support import specs

RESULTS = Path(__file__).parents[2] / "bench/results"
SPEC = specs.matmul(np.random.default_rng(0), 4, 4, 4)[0]
LARGE = WgslTarget(
    max_workgroup=1024, max_shared_bytes=49152, max_binding_bytes=1 << 31, max_buffer_bytes=1 << 31,
    features=frozenset({"shader-f16", "subgroups"}),
    matrices=(("f16", "f32", 16, 16, 16), ("i8", "i32", 16, 16, 32)),
)  # fmt: skip
SHAPES = [(128, 768, 3072), (384, 768, 768), (640, 768, 2304), (640, 3072, 768), (127, 511, 1023)]
SHAPES += [(n, n, n) for n in (1024, 2048, 4096)]


def made(costs: dict[tuple[int, int], float]) -> Space:
    """Choices of tile and variant, by what they cost; a tile is a group of its own within all even, or odd, ones."""
    knobs = (
        Knob("tile", tuple({t: None for t, _ in costs})),
        Knob("variant", tuple({v: None for _, v in costs})),
    )

    def build(c: Any) -> Schedule:
        return (Tile("m", c["tile"]), Unroll("k", c["variant"]))

    return Space(
        SPEC, "made", build({"tile": 99, "variant": 99}), knobs, build,
        lambda c: costs.get((c["tile"], c["variant"])), lambda c: (("tile", c["tile"]), c["tile"] % 2),
    )  # fmt: skip


def read(listed: list[Schedule]) -> list[tuple[int, int]]:
    found = []
    for tile, unroll in listed[1:]:
        assert isinstance(tile, Tile) and isinstance(unroll, Unroll)
        found.append((tile.factor, unroll.factor))
    return found


def test_variants_of_a_tile_wait_for_tiles_that_cost_little_more() -> None:
    costs = {(t, v): 1 + 0.02 * t for t in range(8) for v in range(40)}
    space = made(costs)
    listed = space.lite(30, checked=False)
    assert listed[0] == space.default and len(listed) == len(set(listed)) == 30
    order = read(listed)
    assert order[0] == (0, 0) and len({t for t, _ in order}) == 8
    taken: Counter[int] = Counter()
    beside: Counter[int] = Counter()

    def counted(t: int) -> float:
        return (1 + 0.02 * t) * (1 + ALIKE[0]) ** taken[t] * (1 + ALIKE[1]) ** beside[t % 2]

    for t, v in order:
        assert v == taken[t], "cheapest first, and in their order where they cost the same"
        assert counted(t) == min(counted(u) for u in range(8))
        taken[t] += 1
        beside[t % 2] += 1
    alone = made({(0, v): 1.0 for v in range(40)}).lite(30, checked=False)
    assert read(alone) == [(0, v) for v in range(29)], "a group is cut short by others alone"


def test_what_is_much_dearer_comes_last_and_few_choices_are_all_listed() -> None:
    costs = {**{(0, v): 1.0 for v in range(10)}, (1, 0): 100.0}
    assert read(made(costs).lite(60, checked=False)) == [*((0, v) for v in range(10)), (1, 0)]


def test_without_groups_the_list_is_in_the_order_of_cost() -> None:
    space = made({(t, v): 7.0 * v + t for t in range(6) for v in range(6)})
    plain = Space(space.spec, "made", space.default, space.knobs, space.build, space.cost)
    assert plain.lite(1) == space.lite(1) == [plain.default]
    assert read(plain.lite(12, checked=False)) == [(t, v) for v in (0, 1) for t in range(6)][:11]


def tiles(listed: list[Schedule]) -> Counter[tuple[int, ...]]:
    """How often each tile of rows, columns and slices is on a list, with any threads."""
    found: Counter[tuple[int, ...]] = Counter()
    for schedule in listed:
        tile = [s.factor for s in schedule if isinstance(s, Tile)]
        threads = [s.count for s in schedule if isinstance(s, Threads)]
        assert any(isinstance(s, Cache) for s in schedule)
        found[(*tile, threads[2] if len(threads) > 2 else 1)] += 1
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_no_tile_fills_the_list_of_a_product(shape: tuple[int, int, int]) -> None:
    space = gpu_space(product_spec(*shape), LARGE)
    listed = space.lite(checked=False)
    assert len(listed) == len(set(listed)) == LIMIT and listed[0] == space.default
    cheapest = replace(space, groups=None).lite(checked=False)
    assert cheapest[1] in listed[:3]
    found, before = tiles(listed), tiles(cheapest)
    assert len(found) >= 12 and len(found) > len(before)
    assert max(found.values()) <= LIMIT // 4 and max(found.values()) < max(before.values())


MATRICES = "k cache 32 ahead · matrices 16x16x32 · words of $0 · words of $1"
MEASURED = (
    ((128, 768, 3072), "f32",
     "m tile 32 · m threads 4 · n tile 32 · n threads 8 · n x4 · k threads 4 · k cache 16 twice"),
    ((384, 768, 768), "f32",
     "m tile 32 · m threads 4 · n tile 32 · n threads 8 · n x4 · k threads 4 · k cache 16 twice"),
    ((128, 768, 3072), "i8", f"m tile 32 · m threads 1 · n tile 96 · n threads 2 · n x4 · {MATRICES}"),
    ((384, 768, 768), "i8", f"m tile 96 · m threads 2 · n tile 32 · n threads 1 · n x4 · {MATRICES}"),
    ((128, 768, 3072), "f16",
     "m tile 64 · m threads 2 · n tile 64 · n threads 4 · n x4 · k cache 64 ahead · matrices 16x16x16"),
)  # fmt: skip
"""The best on an H200 of the whole list and of as many others (tests/bench/results/gpu-*spaces.json)."""


@pytest.mark.parametrize(("shape", "kind", "best"), MEASURED)
def test_what_was_measured_as_best_is_listed(shape: tuple[int, int, int], kind: str, best: str) -> None:
    spec = product_spec(*shape, kind, "nk" if kind == "i8" else "kn")
    assert best in [describe(s) for s in gpu_space(spec, LARGE).lite(checked=False)][:45]


@pytest.mark.parametrize("record", sorted(RESULTS.glob("gpu-*-spaces-near.json")), ids=lambda path: path.stem)
def test_lists_hold_the_best_of_what_surveys_timed(record: Path) -> None:
    for found in json.loads(record.read_text()):
        *_, share, place, _, _ = (cell.strip() for cell in listed.row(found).split("|"))
        assert float(share.rstrip("%")) <= 103 and int(place) <= 20


def test_rules_choose_near_the_best_that_was_timed() -> None:
    """In one kernel, of the candidates of a record: short sums and odd rows too."""
    record = json.loads((RESULTS / "gpu-20261123-184345-products.json").read_text())
    for row in record["results"]["products"]:
        times = {c["schedule"]: c["ms"] for c in row["candidates"] if "ms" in c}
        chosen = describe(gpu_schedule(product_spec(*row["shape"]), LARGE))
        assert times[chosen] <= 1.135 * min(times.values()), row["shape"]


def test_a_small_tile_with_slices_is_listed_whose_cost_is_modelled() -> None:
    """One of 16 rows, 32 columns and 4 slices was 3.9% faster than all that were listed."""
    assert tiles(gpu_space(product_spec(128, 768, 3072), LARGE).lite(checked=False))[16, 32, 4]
