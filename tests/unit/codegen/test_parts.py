"""Reductions of everything on several threads: when they are divided, and both kernels against the whole one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from nnjit.codegen.dtypes import NUMPY
from nnjit.codegen.expr import Index, load
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.parts import LEAST, MOST, parts_of
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.schedule.split import COMBINED, Split, halves
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.target import Target
from nnjit.frontend import BytesSource
from nnjit.frontend import load as load_model
from nnjit.lower.build import lower
from nnjit.lower.lowered import Kernel
from nnjit.runtime.shares import share
from tests.support import specs
from tests.support.schedules import COMBINES, interpreted

TWO = Target(threads=2, shared=True)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3), st.integers(2, 7), st.sampled_from([1, 2, 5, 16]), st.sampled_from(COMBINES),
    st.sampled_from(["f32", "f64", "i32", "i8", "u16", "i64", "f16"]), st.integers(0, 100),
)  # fmt: skip
def test_halves(outer: int, parts: int, length: int, combine: str, dtype: str, seed: int) -> None:
    """Whole numbers, so that the order of the terms makes no difference."""
    combine = combine.removeprefix("p") if dtype[0] in "iu" and combine != "prod" else combine
    spec, inputs = specs.reduction(
        np.random.default_rng(seed), outer, parts * length, 4, combine, dtype, "bc"
    )
    two = halves(spec, Split("b", parts))
    (found,) = run(two.partial, inputs)
    assert found.shape == (outer * parts,) and found.dtype == NUMPY[two.dtype]
    np.testing.assert_array_equal(run(two.total, [found])[0], specs.evaluate(spec, inputs)[0])


def run(spec: KernelSpec, inputs: list[Any]) -> list[Any]:
    spec = canonical(spec)
    return interpreted(spec, default_schedule(spec, TWO), inputs)


def split(outer: int, middle: int, inner: int, over: str, target: Target = TWO) -> Split | None:
    """Of a maximum over axes of such extents; nothing that large is made for it."""
    small, _ = specs.reduction(np.random.default_rng(0), 2, 2, 2, "max", "f32", over)
    sizes = {"a": outer, "b": middle, "c": inner}
    strides = {"a": middle * inner, "b": inner, "c": 1}
    body = load(0, Index(0, strides), "f32")
    (s,) = small.stages
    grown = replace(s, reduce=tuple(replace(a, extent=sizes[a.name]) for a in s.reduce), body=body)
    return parts_of(
        replace(small, stages=(grown,), axes=tuple(replace(a, extent=sizes[a.name]) for a in small.axes)),
        target,
    )


def test_when() -> None:
    assert split(64, 384, 96, "abc") == Split("a", 4), "parts far apart, as many for each thread"
    assert split(1, 50257 * 29, 1, "abc") == Split("b", 29), "no even number of parts: the fullest rounds"
    assert split(1, 2, LEAST // 2, "bc") == Split("c", 4), "an axis too short to divide"
    assert split(1, 2, LEAST // 2 - 1, "bc") is None, "soon done"
    assert split(2, 1024, 1024, "bc") is None, "a result for each thread"
    assert split(1, 1, 1048583, "bc") is None, "a prime"
    for alone in (Target(), Target(threads=2), Target(shared=True)):
        assert split(64, 384, 96, "abc", alone) is None
    eight = split(64, 384, 96, "abc", Target(threads=8, shared=True))
    assert eight == Split("a", 16) and eight.parts <= MOST


def test_two_steps_of_a_plan() -> None:
    """The second combines what threads found in the first, and does what the reduction was followed by."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["r"], keepdims=0), helper.make_node("Abs", ["r"], ["y"])], "all",
        [helper.make_tensor_value_info("x", 1, [64, 128, 72])], [helper.make_tensor_value_info("y", 1, [])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    bound = load_model(BytesSource(model.SerializeToString(), "m"), {}).bind()
    first, second = lower(bound, TWO).steps
    assert isinstance(first, Kernel) and isinstance(second, Kernel)
    assert first.writes[0] is second.places[0][0] and first.nodes == second.nodes and first.tiles == 4
    assert share(first.spec, first.tiles, 2).parallel and not share(second.spec, second.tiles, 2).parallel
    assert len(lower(bound, Target()).steps) == 1


def test_every_way_to_combine_is_covered() -> None:
    assert set(COMBINES) | {"any", "all"} == COMBINED
