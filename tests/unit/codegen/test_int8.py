"""Dot products of groups of small integers: every schedule computes what the spec says, and Wasm what a schedule says.

Three kinds of machine: one that multiplies i8 with i8 in fours ("s8", as wasmtime's deterministic mode does), one of
u8 with i8 ("u8": interpreted here, run in the browser's tests), and one without, which takes pairs of 16 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nnjit.codegen.expr import Access, Index, UnsupportedExpr, acc, op
from nnjit.codegen.groups import dot, elements, grouped
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.int8 import bytewise
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.schedule.steps import Dot, Pack, Schedule, ScheduleError, Tile, Vectorize, describe
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from nnjit.codegen.wasm.emit import emit
from nnjit.codegen.wasm.listing import listing
from nnjit.codegen.wasm.target import Target
from tests.support import kernels, specs
from tests.support.schedules import agree, interpreted, packed, schedules

QUICK = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)
SIDES = st.sampled_from(["i8", "u8"])
EXTENTS = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 17])
DEPTHS = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 16, 17])
KINDS = ["", "s8", "u8"]
Case = tuple[KernelSpec, list[Any]]


def window(rng: Any, size: int, taps: int, step: int, ci: int, co: int, left: str, right: str) -> Case:
    """A convolution of a channels-last image: y[p, q, o] = sum of x[p*step + r, q*step + s, i] * w[o, i, r, s]."""
    out = (size - taps) // step + 1
    x = Index(0, {"p": step * size * ci, "q": step * ci, "r": size * ci, "s": ci, "i": 1})
    w = Index(0, {"o": ci * taps * taps, "i": taps * taps, "r": taps, "s": 1})
    body = op("mul", specs.widened(0, x, left), specs.widened(1, w, right))
    operands = (
        Operand(left, size * size * ci, "in"), Operand(right, co * ci * taps * taps, "in", True),
        Operand("i32", out * out * co, "out"),
    )  # fmt: skip
    reduce = (Axis("r", taps), Axis("s", taps), Axis("i", ci))
    stage = Stage((), reduce, "sum", body, acc("i32"), 2, Index(0, {"p": out * co, "q": co, "o": 1}))
    axes = (Axis("o", co), Axis("p", out), Axis("q", out))
    inputs = [specs.filled(rng, (size, size, ci), left), specs.filled(rng, (co, ci, taps, taps), right)]
    return KernelSpec("window", axes, (stage,), operands), inputs


def rows(
    rng: Any, channels: int, size: int, taps: int, groups: int, step: int, left: str, right: str
) -> Case:
    """A window of each channel's own over an image of planes: y[c, p, q] = sum of x[c, p + r, q*step + s] * w[c, r, s],
    `taps` rows of 4 * groups numbers."""
    across = 4 * groups
    high, wide = size - taps + 1, (size - 1) // step + 1
    width = (wide - 1) * step + across
    x = Index(0, {"c": size * width, "p": width, "q": step, "r": width, "s": 1})
    w = Index(0, {"c": taps * across, "r": across, "s": 1})
    body = op("mul", specs.widened(0, x, left), specs.widened(1, w, right))
    operands = (
        Operand(left, channels * size * width, "in"), Operand(right, channels * taps * across, "in", True),
        Operand("i32", channels * high * wide, "out"),
    )  # fmt: skip
    reduce = (Axis("r", taps), Axis("s", across))
    stage = Stage((), reduce, "sum", body, acc("i32"), 2, Index(0, {"c": high * wide, "p": wide, "q": 1}))
    axes = (Axis("c", channels), Axis("p", high), Axis("q", wide))
    inputs = [
        specs.filled(rng, (channels, size, width), left),
        specs.filled(rng, (channels, taps, across), right),
    ]
    return KernelSpec("rows", axes, (stage,), operands), inputs


@st.composite
def windows_of_rows(draw: st.DrawFn) -> Case:
    rng, taps = np.random.default_rng(draw(st.integers(0, 1000))), draw(st.integers(1, 5))
    size, step = draw(st.integers(max(taps, 4), 60)), draw(st.integers(1, 4))
    return rows(
        rng, draw(st.integers(1, 3)), size, taps, draw(st.integers(1, 3)), step, draw(SIDES), draw(SIDES)
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    left, right = draw(SIDES), draw(SIDES)
    if draw(st.booleans()):
        flags = draw(st.booleans()), draw(st.booleans())
        return specs.byte_product(rng, draw(EXTENTS), draw(EXTENTS), draw(DEPTHS), left, right, *flags)
    taps, ci = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 4, 5, 8]))
    return window(
        rng, draw(st.integers(taps, 6)), taps, draw(st.integers(1, 2)), ci, draw(EXTENTS), left, right
    )


@st.composite
def dotted(draw: st.DrawFn, spec: KernelSpec) -> Schedule:
    """Any schedule of products whose last sum is in groups; not every one is legal."""
    steps = [s for s in draw(schedules(spec)) if not isinstance(s, Pack)]
    group = draw(st.sampled_from([2, 2, 4]))
    by = draw(st.sampled_from([a.name for a in spec.axes]))
    if not any(isinstance(s, Tile) and s.axis == by for s in steps):
        steps.append(Tile(by, 4))
    return (*steps, Dot(spec.stages[0].reduce[-1].name, group), Pack(1, by, group))


def compiled(spec: KernelSpec, schedule: Schedule, inputs: list[Any], target: Target) -> list[Any]:
    """Output buffers by the Wasm kernel, on an engine whose relaxed dot multiplies i8 with i8."""
    nest = apply(spec, schedule)
    buffers = specs.allocate(spec, inputs)
    for i, b in enumerate(packed(spec, schedule, inputs)):
        buffers[i] = b.reshape(-1)
    after = kernels.run_nest(nest, target, buffers, engine=kernels.deterministic())
    return [b for b, o in zip(after, nest.operands, strict=True) if o.role == "out"]


def told(spec: KernelSpec, schedule: Schedule) -> str:
    return f"{spec.describe()}\n{describe(schedule)}"


@QUICK
@given(cases(), st.data())
def test_a_dot_changes_nothing(case: Case, data: st.DataObject) -> None:
    spec, inputs = case
    schedule = data.draw(dotted(spec))
    try:
        found = interpreted(spec, schedule, inputs)
    except ScheduleError:
        assume(False)
    agree(found, specs.evaluate(spec, inputs), 0.0, told(spec, schedule))


@QUICK
@given(cases(), st.data(), st.sampled_from(["", "s8"]))
def test_wasm_computes_the_same(case: Case, data: st.DataObject, kind: str) -> None:
    spec, inputs = case
    schedule = data.draw(dotted(spec))
    try:
        found = compiled(spec, schedule, inputs, Target(dot=kind))
    except (ScheduleError, UnsupportedExpr):
        assume(False)
    agree(found, specs.evaluate(spec, inputs), 0.0, told(spec, schedule))


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_fit(kind: str) -> None:
    """The default schedule is legal for every spec, and right: run where an engine here has the instruction."""

    @QUICK
    @given(cases(), st.integers(1, 4))
    def holds(case: Case, threads: int) -> None:
        spec, inputs = canonical(case[0]), case[1]
        target = Target(dot=kind, threads=threads)
        schedule = default_schedule(spec, target)
        run = interpreted if kind == "u8" else lambda *given: compiled(*given, target)
        agree(run(spec, schedule, inputs), specs.evaluate(case[0], inputs), 0.0, told(spec, schedule))

    holds()


@pytest.mark.parametrize("kind", KINDS)
def test_lanes_along_a_row(kind: str) -> None:
    """Overlapping groups of four neighbours, lanes one to four bytes apart, whole tiles and tails; no panels."""

    @QUICK
    @given(windows_of_rows(), st.integers(1, 3))
    def holds(case: Case, threads: int) -> None:
        spec, inputs = canonical(case[0]), case[1]
        target = Target(dot=kind, threads=threads)
        schedule = default_schedule(spec, target)
        lanes = next(a.extent for a in case[0].axes if a.name == "q")
        if lanes >= 4 and bytewise(spec, *(Access(n, Index()) for n in (0, 1)), target):
            kinds = {type(s) for s in schedule}
            assert Dot in kinds and Pack not in kinds
        run = interpreted if kind == "u8" else lambda *given: compiled(*given, target)
        pairs = (Tile("q", 8), Vectorize("q", 4), Dot("s", 2))  # wider in registers than in memory
        for of, tried in ((spec, schedule), (case[0], pairs)):
            agree(run(of, tried, inputs), specs.evaluate(case[0], inputs), 0.0, told(of, tried))

    holds()


@pytest.mark.parametrize(("kind", "left", "instruction"), [
    ("", "u8", "i32x4.dot_i16x8_s"), ("s8", "i8", "i32x4.relaxed_dot_i8x16_i7x16_add_s"),
    ("s8", "u8", "i32x4.dot_i16x8_s"), ("u8", "u8", "i32x4.relaxed_dot_i8x16_i7x16_add_s"),
    ("u8", "i8", "i32x4.dot_i16x8_s"),
])  # fmt: skip
def test_each_machine_gets_its_instruction(kind: str, left: str, instruction: str) -> None:
    spec, _ = specs.byte_product(np.random.default_rng(0), 12, 16, 32, left, "i8", False, True)
    target = Target(dot=kind)
    text = listing(emit(apply(spec, default_schedule(spec, target)), target))
    assert instruction in text and "i32x4.mul" not in text


def test_a_group_is_the_bits_of_its_elements() -> None:
    x = np.array([[1, -1, -128, 127], [0, 5, -6, 7]])
    assert (elements(grouped(x, "i8x4"), "i8x4") == x).all()
    assert grouped(x[:1, :2], "i16x2").tolist() == [1 + (0xFFFF << 16) - (1 << 32)]
    ones = np.full((1, 4), 255)
    found = dot(grouped(ones, "u8x4"), "u8x4", grouped(-ones // 2, "i8x4"), "i8x4", np.array([7], np.int32))
    assert found.tolist() == [7 - 4 * 255 * 128]


def test_what_a_dot_needs() -> None:
    """One packed factor, the other contiguous, small integers, no lanes on the axis itself."""
    spec, _ = specs.byte_product(np.random.default_rng(0), 8, 8, 8, "u8", "i8", False, True)
    tile = (Tile("n", 8), Vectorize("n", 4))
    for wrong in (
        (*tile, Dot("k", 4)), (*tile, Pack(1, "n", 4)), (*tile, Dot("k", 4), Pack(1, "n", 2)),
        (*tile, Dot("k", 3), Pack(1, "n", 3)), (*tile, Tile("m", 4), Dot("k", 4), Pack(0, "m", 4)),
        (Dot("k", 4), Pack(1, "n", 4), Tile("n", 4), Vectorize("k", 4)),
    ):  # fmt: skip
        with pytest.raises(ScheduleError):
            apply(spec, wrong)
