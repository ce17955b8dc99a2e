"""What fills a kernel's operands in a lab: whoever leaves out what the spec calls useless computes the same of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nnjit.codegen.dtypes import NUMPY
from nnjit.codegen.expr import Expr, Index, acc, axis, compare, const, load, op, select
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.group_steps import Online
from nnjit.codegen.schedule.steps import Skip
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.target import Target
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.tune import fills, oracle
from nnjit.tune.bench import Bench
from nnjit.tune.space_gpu import gpu_space
from nnjit.tune.space_wasm import space_of
from tests.support import specs
from tests.support.schedules import agree, interpreted

RNG = np.random.default_rng(5)
GPU = WgslTarget(invocations=64, max_shared_bytes=32768)
ONLINE = Online("m", 8, 4, 16, 4, 8)


def causal(rows: int = 24, dtype: str = "f32") -> KernelSpec:
    return specs.attention(RNG, 2, 1, rows, rows, 8, 8, causal=True, dtype=dtype)[0]


def scored(spec: KernelSpec, score: Expr) -> KernelSpec:
    first, *rest = spec.stages
    return replace(spec, stages=(replace(first, result=score), *rest))


def by_head() -> KernelSpec:
    """As T5 has it: each head adds a bias of its own, which the mask is a part of."""
    spec = causal()
    keys = spec.stages[0].axes[0].extent
    bias = load(2, Index(0, {"h": keys * keys, "m": keys, "n": 1}), "f32")
    own = (*spec.operands[:2], replace(spec.operands[2], size=2 * keys * keys), *spec.operands[3:])
    return scored(replace(spec, operands=own), op("add", acc("f32"), bias))


def asking() -> KernelSpec:
    """As GPT-2 has it: a row whose first key is masked sees all keys alike."""
    spec = causal()
    keys = spec.stages[0].axes[0].extent
    free = compare("gt", load(2, Index(0, {"m": keys}), "f32"), const(-2000.0, "f32"))
    return replace(spec, useful=tuple((n, select(free, end, const(keys, "i32"))) for n, end in spec.useful))


def told_by_place() -> KernelSpec:
    """The score itself says so; what is added may be anything."""
    spec = causal()
    seen = compare("le", axis(Index.of("n")), axis(Index.of("m")))
    return scored(spec, select(seen, spec.stages[0].result, const(float("-inf"), "f32")))


def told_by_bool() -> KernelSpec:
    spec = causal()
    keys = spec.stages[0].axes[0].extent
    seen = load(2, Index(0, {"m": keys, "n": 1}), "bool")
    own = (*spec.operands[:2], replace(spec.operands[2], dtype="bool"), *spec.operands[3:])
    score = select(seen, op("mul", acc("f32"), const(0.25, "f32")), const(-1e9, "f32"))
    return scored(replace(spec, operands=own), score)


CASES: dict[str, Callable[[], KernelSpec]] = {
    "f32": causal, "f16": lambda: causal(dtype="f16"), "bf16": lambda: causal(dtype="bf16"), "by head": by_head,
    "asking": asking, "by place": told_by_place, "by bool": told_by_bool, "one row": lambda: causal(1),
}  # fmt: skip


def filled(spec: KernelSpec) -> list[Any]:
    made = fills.patterns(spec)
    return [np.resize(np.frombuffer(made[i], NUMPY[o.dtype]), o.size)
            for i, o in enumerate(spec.operands) if o.role == "in"]  # fmt: skip


def unmasked(spec: KernelSpec) -> list[Any]:
    """As operands were filled that no promise holds for."""
    return [np.resize(np.frombuffer(fills.fill_pattern(o.dtype, i, False), NUMPY[o.dtype]), o.size)
            for i, o in enumerate(spec.operands) if o.role == "in"]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_listed_schedule_computes_the_same_of_what_is_made_up(name: str) -> None:
    spec = canonical(CASES[name]())
    inputs = filled(spec)
    wanted = specs.evaluate(spec, inputs)
    assert np.isfinite(np.float64(wanted[0])).all()
    listed = space_of(spec, Target(threads=2)).lite()
    some = listed[:: max(1, len(listed) // 2)]
    if name != "one row":
        some += [*gpu_space(spec, GPU).lite()[:1], (ONLINE,)]
        assert any(isinstance(step, Skip) for schedule in some for step in schedule)
    for schedule in some:
        agree(
            interpreted(spec, schedule, inputs), wanted, 2e-2 if name == "bf16" else 2e-3, str(schedule), spec
        )


def test_a_kernel_that_leaves_out_blocks_was_called_wrong_of_any_numbers() -> None:
    """The decoder's attention of BART: 16 keys of 24 are enough for the first rows, if the rest is masked."""
    spec = canonical(causal())
    probes = oracle.probes(spec, 12)

    def reason(inputs: list[Any], cut: KernelSpec) -> str:
        (out,) = interpreted(cut, (ONLINE,), inputs)
        return oracle.disagreement(spec, probes, [list(out[p.at].tobytes()) for p in probes])

    assert not reason(filled(spec), spec)
    told = reason(unmasked(spec), spec)
    assert "definition gives" in told and "is allowed" in told and f"of {len(probes)} elements" in told


def test_a_warning_has_the_worst_element_and_what_is_allowed() -> None:
    spec = canonical(specs.matmul(RNG, 5, 7, 9)[0])
    probes = oracle.probes(spec, 3)
    values = [oracle.expected(spec, p, fills.patterns(spec)) for p in probes]
    off = [values[0] + 1.0, values[1], values[2] + 100.0]
    told = oracle.disagreement(spec, probes, [list(np.float32(x).tobytes()) for x in off])
    assert f"element {probes[2].at} of operand {probes[2].operand}, off by 100" in told
    assert f"{oracle.allowed(values[2], spec, 'f32'):.3g} is allowed (2 of 3 elements are)" in told
    nothing = oracle.disagreement(spec, probes, [list(np.float32(np.nan).tobytes())] * 3)
    assert "gives nan" in nothing and "(3 of 3 elements are)" in nothing


def test_a_promise_that_nothing_hides_is_not_tried() -> None:
    spec = canonical(scored(causal(), op("mul", acc("f32"), const(0.25, "f32"))))
    with pytest.raises(fills.Unkept, match="not hidden"):
        fills.patterns(spec)
    with pytest.raises(fills.Unkept):
        Bench(spec, Target(), 1, False).setup(())


def test_operands_without_a_promise_are_filled_as_ever() -> None:
    spec = canonical(specs.matmul(RNG, 5, 7, 9)[0])
    assert fills.patterns(spec) == {i: fills.fill_pattern("f32", i, False) for i in (0, 1)}
    free = canonical(specs.attention(RNG, 1, 1, 8, 8, 4, 4)[0])
    assert {len(p) for p in fills.patterns(free).values()} == {4 * fills.PERIOD}
    plane = fills.patterns(canonical(by_head()))[2]
    assert len(plane) == 4 * 24 * 24, "a plane of rows and keys serves all heads"
