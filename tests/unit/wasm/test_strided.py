"""Lanes that lie apart: transpositions, shuffles and masked reads against the interpreter."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnjit.codegen.dtypes import NUMPY
from nnjit.codegen.expr import Expr, Index, acc, axis, cast, const, guarded, load
from nnjit.codegen.interp import run
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.steps import Order, Parallel, Schedule, Tile, Unroll, Vectorize
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from nnjit.codegen.wasm.emit import emit
from nnjit.codegen.wasm.listing import listing
from nnjit.codegen.wasm.target import Target
from tests.support import specs
from tests.support.kernels import run_nest

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
TYPES = ("f32", "i32", "u16", "i8", "u8", "bool", "f16")


def agree(spec: KernelSpec, schedule: Schedule, inputs: list[Any]) -> None:
    """The kernel leaves what the interpreter does, bit for bit: elements are moved, not computed."""
    nest = apply(spec, schedule)
    buffers = [*inputs, *(np.zeros(o.size, NUMPY[o.dtype]) for o in spec.operands[len(inputs) :])]
    wanted = [b.copy() for b in buffers]
    run(nest, wanted)
    for got, want in zip(run_nest(nest, Target(), buffers), wanted, strict=True):
        np.testing.assert_array_equal(got, want)


def numbers(dtype: str, size: int) -> Any:
    rng = np.random.default_rng(size)
    return rng.integers(0, 2 if dtype == "bool" else 100, size).astype(NUMPY[dtype])


def copy(source: Expr, axes: dict[str, int], index: Index, size: int, dtype: str) -> KernelSpec:
    operands = (Operand(dtype, size, "in"), Operand(source.dtype, 1 + span(index, axes), "out"))
    stage = Stage((), (), "", None, source, 1, index)
    return KernelSpec("copy", tuple(Axis(a, n) for a, n in axes.items()), (stage,), operands)


def span(i: Index, axes: dict[str, int]) -> int:
    return sum(abs(c) * (axes[a] - 1) for a, c in i.terms if isinstance(a, str))


@QUICK
@given(st.sampled_from(TYPES), st.tuples(*[st.integers(1, 21)] * 3), st.permutations("abc"), st.permutations("abc"),
       st.sampled_from((4, 8, 16)), st.sampled_from((1, 4, 8)))  # fmt: skip
def test_any_transposition(
    dtype: str, extents: tuple[int, ...], inner: list[str], outer: list[str], tile: int, other: int
) -> None:
    axes = dict(zip("abc", extents, strict=True))
    from_, to = (Index(0, {a: prod(axes[b] for b in order[n + 1 :]) for n, a in enumerate(order)})
                 for order in (inner, outer))  # fmt: skip
    size = prod(extents)
    spec = copy(load(0, from_, dtype), axes, to, size, dtype)
    schedule: Schedule = (Tile(outer[2], tile), Vectorize(outer[2]), Parallel(("a",)))
    if inner[2] != outer[2]:
        schedule = (Tile(inner[2], other), *schedule)
    agree(spec, schedule, [numbers(dtype, size)])
    # lanes along the source: the stores are the ones that lie apart
    back: Schedule = (Tile(inner[2], tile), Vectorize(inner[2]), Parallel(("a",)))
    if inner[2] != outer[2]:
        back = (Tile(outer[2], other), *back)
    agree(spec, back, [numbers(dtype, size)])


def test_a_block_takes_no_single_lanes() -> None:
    """16 by 16 elements: as many vector loads as vectors, and no access of a lane."""
    axes = {"a": 16, "b": 16}
    spec = copy(load(0, Index(0, {"a": 1, "b": 16}), "f32"), axes, Index(0, {"a": 16, "b": 1}), 256, "f32")
    nest = apply(spec, (Tile("a", 16), Tile("b", 8), Vectorize("b"), Parallel(("a",))))
    text = listing(emit(nest, Target()))
    assert "lane" not in text
    assert text.count("v128.load") == text.count("v128.store") == 32


@QUICK
@given(st.sampled_from(TYPES), st.integers(1, 40), st.sampled_from((-2, -1, 2, 3, 4, 5)), st.integers(1, 4),
       st.sampled_from((4, 8, 16)))  # fmt: skip
def test_lanes_apart_in_a_window(dtype: str, n: int, step: int, taps: int, tile: int) -> None:
    """max over k of x[q * step + k]: neighbouring taps share their contiguous reads."""
    size = abs(step) * (n - 1) + taps
    place = Index(0 if step > 0 else -step * (n - 1), {"q": step, "k": 1})
    wide = "i32" if dtype == "bool" else dtype
    body = cast(load(0, place, dtype), wide)
    stage = Stage((), (Axis("k", taps),), "max", body, acc(wide), 1, Index.of("q"))
    spec = KernelSpec(
        "window", (Axis("q", n),), (stage,), (Operand(dtype, size, "in"), Operand(wide, n, "out"))
    )
    agree(
        spec, (Tile("q", tile), Vectorize("q"), Unroll("k", taps), Parallel(("q",))), [numbers(dtype, size)]
    )


@QUICK
@given(st.sampled_from(("f32", "i32", "u8", "i8")), st.integers(1, 30), st.integers(0, 6),
       st.sampled_from((-1, 1, 2, 3)), st.sampled_from((4, 16)), st.booleans())  # fmt: skip
def test_guards_that_differ_between_lanes(
    dtype: str, n: int, pad: int, step: int, tile: int, second: bool
) -> None:
    """Elements of a row with a border; another guard may hold for all lanes or none."""
    count = (n + 2 * pad - 1) // abs(step) + 1
    place = Index(-pad if step > 0 else n - 1 + pad, {"q": step})
    bounds = [(place, n)] + ([(Index(-1, {"r": 1}), 2)] if second else [])
    value = guarded(0, place + Index(0, {"r": n}), dtype, tuple(bounds), const(7, dtype))
    spec = copy(value, {"r": 4, "q": count}, Index(0, {"r": count, "q": 1}), 4 * n, dtype)
    agree(spec, (Tile("q", tile), Vectorize("q"), Parallel(("r",))), [numbers(dtype, 4 * n)])


@QUICK
@given(
    st.integers(1, 20),
    st.integers(1, 9),
    st.sampled_from((4, 8)),
    st.sampled_from(("i32", "u32", "u8", "i16")),
)
def test_smaller_integers_stored_as_64_bits(n: int, apart: int, tile: int, dtype: str) -> None:
    """Places in lanes, and numbers read, stored `apart` elements from one another."""
    value = cast(axis(Index(-3, {"q": 5})) if dtype == "i32" else load(0, Index.of("q"), dtype), "i64")
    spec = copy(value, {"q": n}, Index(0, {"q": apart}), n, dtype)
    agree(spec, (Tile("q", tile), Vectorize("q"), Parallel(("q",))), [numbers(dtype, n)])


def test_what_the_run_writes_is_read_anew() -> None:
    """Scores, their exponentials in the same places, then the weighted sum: all in one run of statements."""
    spec, inputs = specs.attention(np.random.default_rng(0), 1, 1, 4, 2, 1, 1)
    schedule = (
        Tile("m", 4),
        Vectorize("m", 4),
        Unroll("r", 2),
        Unroll("k", 2),
        Order(("h", "g", "m")),
        Parallel(()),
    )
    nest = apply(spec, schedule)
    buffers = specs.allocate(spec, inputs, nest.operands[spec.scratch].size)
    found = run_nest(nest, Target(), [b.reshape(-1) for b in (*inputs, *buffers[len(inputs) :])])
    np.testing.assert_allclose(found[-1], specs.evaluate(spec, inputs)[0], rtol=2e-5)
