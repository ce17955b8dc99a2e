"""The tiles that rules rank: what they need of a device, and that those for small and large ones fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.expr import cast, load, op
from nnjit.codegen.schedule import matrix_tiles, product_tiles
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.gpu_parts import split_of
from nnjit.codegen.schedule.gpu_products import in_matrices, in_words, products
from nnjit.codegen.schedule.gpu_roles import roles
from nnjit.codegen.schedule.group_steps import Matrix
from nnjit.codegen.schedule.matrix_tiles import STAGES, MatrixTile
from nnjit.codegen.schedule.product_tiles import Shape
from nnjit.codegen.schedule.steps import Tile, Unroll
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.tune.space_gpu import gpu_space
from tests.support import specs

LARGE = WgslTarget(
    max_workgroup=1024, max_shared_bytes=49152, features=frozenset({"shader-f16", "subgroups"}),
    matrices=(("f16", "f32", 16, 16, 16), ("i8", "i32", 16, 16, 32)),
)  # fmt: skip
HALVES = replace(LARGE, half_sums=True, matrices=(*LARGE.matrices, ("f16", "f16", 16, 16, 16)))


def product(m: int, k: int, n: int, dtype: str) -> KernelSpec:
    byte = dtype == "i8"
    spec, _ = specs.matmul(np.random.default_rng(0), m, n, k, "i32" if byte else dtype, transposed=byte)
    (stage,) = spec.stages
    if byte and stage.body is not None:
        reads = (cast(load(e.attr.operand, e.attr.index, "i8"), "i32") for e in stage.body.args)
        operands = tuple(replace(o, dtype="i8") if o.role == "in" else o for o in spec.operands)
        spec = replace(spec, stages=(replace(stage, body=op("mul", *reads)),), operands=operands)
    return canonical(spec)


@pytest.mark.parametrize("sums", ["f32", "f16", "i32"])
@pytest.mark.parametrize("tile", STAGES, ids=str)
def test_shared_memory_of_matrices(tile: MatrixTile, sums: str) -> None:
    spec = product(256, 256, 256, "i8" if sums == "i32" else "f16")
    p = roles(spec)
    assert p is not None
    shape = Shape(tile.rows, tile.down, tile.columns, tile.across, tile.depth)
    if sums == "i32":
        nest = apply(spec, in_words(spec, p, shape, LARGE))
    else:
        nest = apply(spec, in_matrices(spec, p, shape, HALVES, sums))
    nbytes = sum(o.size * SIZES[o.dtype] for o in nest.shared)
    assert nbytes == tile.shared_bytes(sums) and nest.threads == 32 * tile.groups


def test_only_what_fits_a_device_is_ranked() -> None:
    for shared, threads in ((49152, 1024), (32768, 256), (16384, 128), (16384, 64)):
        target = replace(LARGE, max_shared_bytes=shared, max_workgroup=threads)
        for sums in ("f32", "f16", "i32"):
            found = matrix_tiles.ranked(512, 1024, 512, 1, sums, target)
            assert found and found == sorted(found, key=lambda x: x[0])
            for us, t in found:
                assert us > 0 and t.shared_bytes(sums) <= shared and 32 * t.groups <= threads
        tiles = product_tiles.ranked(512, 1024, 512, 1, target)
        assert tiles and all(s.threads <= threads and s.shared_bytes() <= shared for _, s in tiles)


def test_short_products_start_with_what_a_driver_compiles_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a small tile, or where that would be much slower in the fastest one, rolled; that one follows, and serves at
    once where a run is long."""

    def listed(m: int) -> list[Any]:
        return list(products(product(m, 512, 512, "f32"), LARGE))

    fastest = product_tiles.ranked(2048, 512, 512, 1, LARGE)[0][1]
    light = product_tiles.soon(2048, 512, 512, 1, LARGE)
    assert light is not None and fastest.turned and not light.turned
    assert light.rows // light.down * light.columns // light.across <= 4 * product_tiles.LIGHT
    short, long = listed(2048), listed(16384)
    assert {s.axis: s.factor for s in short[0] if isinstance(s, Tile)} == {
        "m": light.rows,
        "n": light.columns,
    }
    assert not any(isinstance(s, Unroll) for s in short[0]) and any(isinstance(s, Unroll) for s in short[1])
    assert any(isinstance(s, Unroll) for s in long[0])
    assert product_tiles.soon(16384, 512, 512, 1, LARGE) is None
    monkeypatch.setattr(product_tiles, "WORTH", 1.0)
    again = listed(2048)
    assert again[0] == tuple(s for s in again[1] if not isinstance(s, Unroll)) != again[1]
    assert again[1] == short[1]


def test_the_fastest_tile_is_next_where_a_small_one_serves() -> None:
    """On the tuner's list, though none of the usual sizes may be its."""
    for m, k, n in ((2048, 512, 512), (640, 768, 2304)):
        spec, fastest = product(m, k, n, "f32"), product_tiles.ranked(m, k, n, 1, LARGE)[0][1]
        first, second, *_ = gpu_space(spec, LARGE).lite()
        assert first == next(iter(products(spec, LARGE))) and second != first
        tile = {s.axis: s.factor for s in second if isinstance(s, Tile)}
        assert tile == {"m": fastest.rows, "n": fastest.columns}


def test_a_tile_takes_longer_for_more_work() -> None:
    roomy = replace(LARGE, max_shared_bytes=98304)
    for tile in (*STAGES, MatrixTile(96, 2, 128, 2, 32), MatrixTile(32, 1, 32, 1, 16)):
        for sums in ("f32", "f16", "i32"):
            stages = matrix_tiles.stage(tile, sums)
            assert list(stages) == sorted(stages) and stages[0] > 0
            times = [
                matrix_tiles.microseconds(tile, m, k, 768, 1, sums, roomy)
                for m, k in ((128, 768), (4096, 768), (4096, 3072))
            ]
            assert times[0] <= times[1] < times[2]
    for shape in product_tiles.SHAPES:
        times = [
            product_tiles.microseconds(shape, m, k, 768, 1, LARGE)
            for m, k in ((128, 768), (4096, 768), (4096, 3072))
        ]
        assert times[0] <= times[1] < times[2]


def test_few_tiles_and_a_long_sum_are_split() -> None:
    """Of f16 too, where matrices do the parts; not where there are tiles enough."""
    for dtype in ("f32", "f16"):
        split = split_of(product(64, 8192, 128, dtype), LARGE)
        assert split is not None and split.parts >= 4
        assert split_of(product(4096, 512, 4096, dtype), LARGE) is None
    assert any(isinstance(s, Matrix) for s in next(products(product(64, 2048, 128, "f16"), LARGE)))
