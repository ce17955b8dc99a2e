"""The tiles that rules rank: what they need of a device, and that those for small and large ones fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.schedule import matrix_tiles, product_tiles
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.gpu_parts import split_of
from nnjit.codegen.schedule.gpu_products import in_matrices, in_words, products
from nnjit.codegen.schedule.gpu_roles import roles, usable
from nnjit.codegen.schedule.gpu_rules import gpu_schedule
from nnjit.codegen.schedule.group_steps import Matrix
from nnjit.codegen.schedule.matrix_tiles import STAGES, MatrixTile, abreast, configuration
from nnjit.codegen.schedule.product_tiles import Shape
from nnjit.codegen.schedule.steps import ScheduleError, Tile, Unroll
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wgsl.target import WgslTarget, listed_matrices
from nnjit.tune.space_gpu import gpu_space
from tests.support import specs

LARGE = WgslTarget(
    max_workgroup=1024, max_shared_bytes=49152, features=frozenset({"shader-f16", "subgroups"}),
    matrices=(("f16", "f32", 16, 16, 16), ("i8", "i32", 16, 16, 32)),
)  # fmt: skip
HALVES = replace(LARGE, half_sums=True, matrices=(*LARGE.matrices, ("f16", "f16", 16, 16, 16)))
KINDS = {"f32": "f16", "f16": "f16", "i32": "i8"}


def device(size: tuple[int, int, int], subgroup: int) -> WgslTarget:
    """One whose matrices are all of a size."""
    listed = tuple((factors, sums, *size) for sums, factors in KINDS.items())
    return replace(HALVES, subgroup=subgroup, matrices=listed, max_shared_bytes=1 << 17, max_workgroup=1024)


DEVICES = {
    "NVIDIA": HALVES,
    "Intel": device((8, 16, 16), 16),
    "AMD": device((16, 16, 16), 64),
    "llvmpipe": device((8, 8, 8), 8),
    "small": device((8, 8, 8), 32),  # matrices that have fewer vectors than their subgroup has threads
}


def product(m: int, k: int, n: int, dtype: str) -> KernelSpec:
    rng = np.random.default_rng(0)
    return canonical(
        (specs.bytes_matmul(rng, m, n, k, True) if dtype == "i8" else specs.matmul(rng, m, n, k, dtype))[0]
    )


@pytest.mark.parametrize("sums", KINDS)
@pytest.mark.parametrize("name", DEVICES)
def test_tiles_of_any_matrices(name: str, sums: str) -> None:
    """What `fits` lets through can be made, in as many bytes as `shared_bytes` says; what it does not, cannot."""
    target = DEVICES[name]
    spec = product(256, 256, 256, KINDS[sums])
    p, size, fit = roles(spec), configuration(sums, target), 0
    assert p is not None and size is not None
    for tile in (
        *STAGES,
        MatrixTile(32, 4, 32, 1, 8),
        MatrixTile(48, 1, 40, 1, 16),
        MatrixTile(128, 1, 64, 1, 16),
    ):
        shape = Shape(tile.rows, tile.down, tile.columns, tile.across, tile.depth)
        steps = (
            in_words(spec, p, shape, target) if sums == "i32" else in_matrices(spec, p, shape, target, sums)
        )
        if not tile.fits(size, target.subgroup, sums):
            with pytest.raises(ScheduleError):
                apply(spec, steps)
            continue
        fit, nest = fit + 1, apply(spec, steps)
        nbytes = sum(o.size * SIZES[o.dtype] for o in nest.shared)
        assert nbytes == tile.shared_bytes(sums, size, target.subgroup), tile
        assert nest.threads == target.subgroup * tile.groups
    assert fit >= len(STAGES) - 2


@pytest.mark.parametrize("name", DEVICES)
def test_matrices_of_a_device_are_used(name: str) -> None:
    """By the rules, and by all that the tuner tries, whatever their size."""
    target = replace(DEVICES[name], half_sums=False)
    for sums in ("f32", "i32"):
        spec = product(256, 512, 256, KINDS[sums])
        matrix = Matrix(*(configuration(sums, target) or ()), target.subgroup)
        listed = gpu_space(spec, target).lite(12, checked=False)
        assert len(listed) == 12 and all(matrix in s and usable(s, target) for s in listed)
        assert matrix in gpu_schedule(spec, target)
        apart = replace(target, features=frozenset({"shader-f16"}))  # subgroups of several sizes
        assert not any(isinstance(s, Matrix) for s in gpu_schedule(spec, apart))


def test_a_software_adapter_multiplies_no_matrices() -> None:
    limits = {
        "maxComputeInvocationsPerWorkgroup": 1024, "maxComputeWorkgroupsPerDimension": 65535,
        "maxStorageBuffersPerShaderStage": 8, "maxStorageBufferBindingSize": 1 << 30, "maxBufferSize": 1 << 30,
        "maxComputeWorkgroupStorageSize": 32768, "minStorageBufferOffsetAlignment": 256,
    }  # fmt: skip
    facts = {"limits": limits, "matrices": [["f16", "f32", 8, 8, 8]], "features": [], "subgroup": 8}
    assert WgslTarget.read(facts).matrices == listed_matrices(facts) == (("f16", "f32", 8, 8, 8),)
    assert not WgslTarget.read({**facts, "software": True}).matrices


def test_matrices_side_by_side() -> None:
    assert [abreast(8, 8, s, 4) for s in (8, 16, 32, 64, 128)] == [1, 1, 2, 4, 0]
    assert [abreast(8, 8, 32, wide) for wide in (1, 3, 6)] == [0, 0, 2]
    assert abreast(16, 16, 64, 3) == 1


def test_only_what_fits_a_device_is_ranked() -> None:
    for shared, threads in ((49152, 1024), (32768, 256), (16384, 128), (16384, 64)):
        target = replace(HALVES, max_shared_bytes=shared, max_workgroup=threads)
        for sums in ("f32", "f16", "i32"):
            found = matrix_tiles.ranked(512, 1024, 512, 1, sums, target)
            size = configuration(sums, target)
            assert size is not None and found and found == sorted(found, key=lambda x: x[0])
            for us, t in found:
                assert us > 0 and t.shared_bytes(sums, size, 32) <= shared and 32 * t.groups <= threads
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
    roomy = replace(HALVES, max_shared_bytes=98304)
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
