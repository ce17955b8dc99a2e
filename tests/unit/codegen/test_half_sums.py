"""Sums of f16 in subgroup matrices over short stretches: the interpreter, which rounds after every product as the worst
device would, against numpy and the bound of `half_sums`; which sessions and devices use them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.gpu_parts import split_of
from nnjit.codegen.schedule.gpu_products import products
from nnjit.codegen.schedule.gpu_roles import usable
from nnjit.codegen.schedule.gpu_rules import gpu_schedule
from nnjit.codegen.schedule.group_steps import Cache, HalfSums, Matrix, Threads
from nnjit.codegen.schedule.half_sums import ROUNDING
from nnjit.codegen.schedule.legal import fits
from nnjit.codegen.schedule.steps import Schedule, Tile, Vectorize
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wgsl.emit import emit
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.lower.backend import plain_schedule
from nnjit.runtime.prepared import Options
from nnjit.runtime.session import CompilerSession
from nnjit.tune import oracle, schedules
from nnjit.tune.bench import tolerance
from nnjit.tune.fills import patterns
from nnjit.tune.space_gpu import gpu_space
from tests.bench.gpu.kept_sums import kept
from tests.bench.gpu.specs import half_sum_candidates, product_spec
from tests.support import specs
from tests.support.schedules import agree, interpreted

RNG = np.random.default_rng(29)
NVIDIA = WgslTarget(
    max_workgroup=1024, max_shared_bytes=49152, features=frozenset({"shader-f16", "subgroups"}), half_sums=True,
    matrices=(("f16", "f32", 16, 16, 16), ("f16", "f16", 16, 16, 16), ("f16", "f16", 16, 8, 16),
              ("f16", "f16", 16, 8, 8), ("i8", "i32", 16, 16, 32)),
)  # fmt: skip
APPLE = replace(NVIDIA, max_shared_bytes=32768, matrices=(("f16", "f16", 8, 8, 8), ("f32", "f32", 8, 8, 8)))
SIZES = {(16, 16, 16): 4, (16, 8, 16): 8, (16, 8, 8): 4, (8, 8, 8): 4}
"""Rows, columns and depth of matrices, and threads of a subgroup: few, because each is interpreted."""


def tiled(
    size: tuple[int, int, int], rows: tuple[int, int] = (1, 1), columns: tuple[int, int] = (1, 1), depth: int = 16,
    elements: int = 32, ahead: bool = False,
) -> Schedule:  # fmt: skip
    """rows, columns: matrices of a subgroup, and subgroups."""
    m, n, k = size
    return (
        Tile("m", m * rows[0] * rows[1]), Threads("m", rows[1]),
        Tile("n", n * columns[0] * columns[1]), Threads("n", columns[1]), Vectorize("n"),
        Cache("k", depth, ahead), Matrix(m, n, k, SIZES[size]), HalfSums(elements),
    )  # fmt: skip


def ran(schedule: Schedule, a: Any, b: Any) -> Any:
    """a @ b in f16 by a schedule."""
    (m, k), n = a.shape, b.shape[1]
    spec = specs.matmul(RNG, m, n, k, "f16")[0]
    found = interpreted(spec, schedule, [a[None].astype(np.float16), b.astype(np.float16)])
    return np.asarray(found[0], np.float64).reshape(m, n)


SCHEDULES = [
    tiled((16, 16, 16)),
    tiled((16, 16, 16), (2, 1), (1, 2), 16, 16, True),
    tiled((16, 8, 16), (1, 1), (2, 1), 32, 64),
    tiled((16, 8, 8), (1, 2), (1, 1), 8, 24, True),
    tiled((8, 8, 8), (2, 1), (2, 1), 8, 40),
    tiled((8, 8, 8), (1, 1), (3, 1), 16, 48, True),
]


@pytest.mark.parametrize("shape", [(16, 16, 16), (33, 20, 40), (7, 5, 3), (9, 11, 97)], ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: f"{s[-2]} {s[-1]}")
def test_whole_numbers_are_exact(schedule: Schedule, shape: tuple[int, int, int]) -> None:
    """As long as none is past 2048, with a bias and a relu behind; tails of rows, columns and stretches."""
    spec, inputs = specs.matmul(RNG, *shape, dtype="f16", bias=True, transposed=shape[2] == 40)
    agree(interpreted(spec, schedule, inputs), specs.evaluate(spec, inputs), 0.0, "", spec)


@settings(max_examples=12, deadline=None)
@given(
    m=st.sampled_from([1, 7, 16, 17]), n=st.sampled_from([1, 8, 13, 16]), k=st.integers(1, 150),
    size=st.sampled_from(list(SIZES)), stages=st.integers(1, 4), depth=st.sampled_from([16, 32]),
    columns=st.sampled_from([(1, 1), (2, 1), (3, 1), (1, 2)]), ahead=st.booleans(), positive=st.booleans(),
)  # fmt: skip
def test_any_product_is_as_near_as_the_bound_says(
    m: int, n: int, k: int, size: tuple[int, int, int], stages: int, depth: int, columns: tuple[int, int],
    ahead: bool, positive: bool,
) -> None:  # fmt: skip
    rng = np.random.default_rng(k)
    a, b = (rng.uniform(0 if positive else -1, 1, shape).astype(np.float16) for shape in ((m, k), (k, n)))
    found = ran(tiled(size, (1, 1), columns, depth, stages * depth, ahead), a, b)
    wide = a.astype(np.float64), b.astype(np.float64)
    wanted, most = wide[0] @ wide[1], np.abs(wide[0]) @ np.abs(wide[1])
    s = min(stages * depth, k) * ROUNDING
    # the result is rounded once more; products below 2^-14 lose bits to the smallest f16
    bound = s / (1 - s) * most + 2 * ROUNDING * np.abs(wanted) + (k + 1) * 2.0**-24
    assert (np.abs(found - wanted) <= bound).all()


def test_a_long_sum_of_ones_comes_through() -> None:
    """f16 alone stops at 2048, where the next one is half of its unit in the last place."""
    ones = np.ones((1, 2304)), np.ones((2304, 4))
    assert np.cumsum(ones[0][0].astype(np.float16), dtype=np.float16)[-1] == 2048
    assert (ran(tiled((8, 8, 8), depth=64, elements=128), *ones) == 2304).all()


def test_what_a_sum_is_off_by() -> None:
    """Of the sums' size, in roundings of f16: a few, for terms of one sign and of both; dozens of one sum in f16."""
    rng = np.random.default_rng(1)
    for low in (0.0, -1.0):
        a, b = (rng.uniform(low, 1, shape).astype(np.float16) for shape in ((8, 1536), (1536, 8)))
        wanted = a.astype(np.float64) @ b.astype(np.float64)
        scale = np.sqrt(np.square(wanted).mean())
        off = np.abs(ran(tiled((8, 8, 8), depth=64, elements=64), a, b) - wanted).max() / scale / ROUNDING
        whole = np.zeros((8, 8), np.float16)
        for k in range(1536):
            whole = (whole + np.outer(a[:, k], b[k]).astype(np.float32)).astype(np.float16)
        assert off < 6 < 30 < np.abs(whole - wanted).max() / scale / ROUNDING


def test_a_stretch_past_the_largest_f16_is_infinite() -> None:
    """What the option is for: a sum that comes back to 0 is finite in f32."""
    a = np.full((1, 64), 300.0)
    a[0, 32:] = -300
    assert not np.isfinite(ran(tiled((8, 8, 8), elements=64), a, np.full((64, 4), 100.0))).any()
    assert (ran(tiled((8, 8, 8), elements=64), a, np.full((64, 4), 1.0)) == 0).all()


def test_what_does_not_fit_is_refused() -> None:
    spec = specs.matmul(RNG, 16, 16, 64, "f16")[0]
    good = tiled((8, 8, 8))
    assert fits(spec, good)
    (cache,) = (s for s in good if isinstance(s, Cache))
    for elements in (0, 24, 256, -32):
        assert not fits(spec, (*good[:-1], HalfSums(elements))), elements
    assert not fits(spec, tuple(replace(cache, ahead=True, twice=True) if s is cache else s for s in good))
    assert not fits(spec, tuple(s for s in good if not isinstance(s, Matrix)))
    assert not fits(specs.matmul(RNG, 16, 16, 64)[0], good), "factors of f32"
    assert schedules.from_json(schedules.to_json(good)) == good


def has(schedule: Schedule) -> bool:
    return any(isinstance(s, HalfSums) for s in schedule)


SHAPES = [(384, 768, 768), (384, 64, 384), (64, 8192, 128)]


@pytest.mark.parametrize("shape", SHAPES)
def test_who_gets_them(shape: tuple[int, int, int]) -> None:
    """Only a session that asks; there by the rules where the device has nothing better, else by the tuner alone."""
    spec = product_spec(*shape, "f16")
    for target in (NVIDIA, APPLE):
        assert not any(map(has, products(spec, replace(target, half_sums=False))))
    listed = gpu_space(spec, replace(NVIDIA, half_sums=False)).lite(checked=False)
    assert not any(map(has, listed)) and gpu_schedule(spec, NVIDIA) == listed[0]
    listed = gpu_space(spec, NVIDIA).lite(checked=False)
    assert 0 < sum(map(has, listed)) < len(listed)
    assert has(gpu_schedule(spec, APPLE)) and all(map(has, gpu_space(spec, APPLE).lite(checked=False)))
    for apart in (replace(APPLE, features=frozenset({"shader-f16"})), replace(APPLE, features=frozenset())):
        assert not has(gpu_schedule(spec, apart)), "subgroups of several sizes, or no f16"
    if shape[1] == 8192:
        assert split_of(spec, APPLE) is not None


@pytest.mark.parametrize("target", [NVIDIA, APPLE], ids=["nvidia", "apple"])
def test_listed_schedules_fit_the_device(target: WgslTarget) -> None:
    """Also those that the bench times: every one is a shader of the device's own matrices."""
    for shape in SHAPES:
        spec = canonical(product_spec(*shape, "f16"))
        tried = [*gpu_space(spec, target).lite(12, checked=False), *half_sum_candidates(spec, target, 6)]
        assert sum(map(has, tried)) >= 6
        for schedule in tried:
            assert usable(schedule, target)
            text = emit(apply(spec, schedule), target).wgsl
            m, n, _ = (16, 16, 16) if target is NVIDIA else (8, 8, 8)
            kind = "f16" if has(schedule) else "f32"
            assert f"subgroup_matrix_result<{kind}, {n}, {m}>" in text and "enable f16;" in text
            # with a value: in a loop Tint leaves a variable without one its old sums, as an NVIDIA H200 showed
            assert not has(schedule) or f"= subgroup_matrix_result<f16, {n}, {m}>();" in text
    assert (
        not list(half_sum_candidates(spec, replace(target, matrices=target.matrices[:1]), 6))
        or target is APPLE
    )


def test_a_session_takes_only_what_it_asked_for() -> None:
    """Schedules that another session of the same class of devices has found."""
    spec = product_spec(384, 768, 768, "f16")
    found = next(s for s in gpu_space(spec, NVIDIA).lite(checked=False) if has(s))
    limits = {
        "maxComputeInvocationsPerWorkgroup": 1024, "maxComputeWorkgroupsPerDimension": 65535,
        "maxStorageBuffersPerShaderStage": 8, "maxStorageBufferBindingSize": 1 << 30, "maxBufferSize": 1 << 30,
        "maxComputeWorkgroupStorageSize": 49152, "minStorageBufferOffsetAlignment": 256,
    }  # fmt: skip
    facts = {"limits": limits, "features": ["shader-f16", "subgroups"], "subgroup": 32, "subgroupMax": 32}
    base = {"provider": "webgpu", "target": {}, "dims": {}, "maxPlans": 1, "strict": True}
    plain = plain_schedule(spec, NVIDIA)
    for sums, matrices, allowed in (
        ("f16", NVIDIA.matrices, found), ("f32", NVIDIA.matrices, None), ("f16", APPLE.matrices, None),
    ):  # fmt: skip
        given = {**base, "gpu": {**facts, "matrices": [list(x) for x in matrices]}, "matrixSums": sums}
        session = CompilerSession.__new__(CompilerSession)
        session.options, session.refused = Options.read(given), {}
        session.chosen = lambda spec: found
        assert session.allowed(spec) == allowed
        session.chosen = lambda spec: plain
        assert session.allowed(spec) == plain
    unasked = Options.read({**base, "gpu": facts}).gpu
    assert unasked is not None and not unasked.half_sums


def sample(value: Any) -> list[int]:
    return list(np.float16(value).tobytes())


def test_the_proof_allows_what_the_bound_says() -> None:
    """An element of a sum of 512 products from the patterns of the lab; what is further off is wrong."""
    spec: KernelSpec = product_spec(16, 512, 16, "f16")
    schedule = tiled((8, 8, 8), (1, 1), (2, 1), 32, 64)
    filled, wanted = patterns(spec), oracle.probes(spec)
    inputs = [np.resize(np.frombuffer(filled[i], np.float16), spec.operands[i].size) for i in (0, 1)]
    (out,) = interpreted(spec, schedule, inputs)
    flat = np.asarray(out).reshape(-1)
    assert oracle.disagreement(spec, wanted, [sample(flat[p.at]) for p in wanted], schedule) == ""
    for p in wanted:
        value, more = oracle.expected(spec, p, filled), oracle.doubt(spec, p, filled, schedule)
        assert 0 < more < 0.15 and oracle.doubt(spec, p, filled, schedule[:-1]) == 0
        limit = oracle.allowed(value, spec, "f16") + more
        assert oracle.agrees(value + 0.99 * limit, value, spec, "f16", more)
        assert not oracle.agrees(value + 1.01 * limit, value, spec, "f16", more)
    assert tolerance(spec, "f32")["absolute"] < 1e-4 < tolerance(spec, "f32", 64)["absolute"] < 2e-2


@pytest.mark.parametrize(("shape", "stretch", "found"), [
    ((384, 768, 768), 128, 0.2082), ((384, 768, 768), 64, 0.3882), ((1024, 1024, 1024), 128, 0.3295),
])  # fmt: skip
def test_what_matrices_that_are_not_begun_anew_are_off_by(
    shape: tuple[int, int, int], stretch: int, found: float
) -> None:
    """As an H200 had it (gpu-20261123-184752-half-sums.json); nothing where they are begun once."""
    m, k, n = shape
    assert abs(kept(m, k, n, stretch) / found - 1) < 2e-3
    assert kept(m, k, n, k) < 1e-3
