"""Hypothesis strategies of specs at tile edges and of schedules for them, and how both are run."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from nnjit.codegen import interp
from nnjit.codegen.bfloat import bf16_value
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.group_steps import Words
from nnjit.codegen.schedule.pack import pack_kernel
from nnjit.codegen.schedule.steps import (
    Block,
    Distribute,
    Fold,
    Order,
    Pack,
    Parallel,
    Partial,
    Peel,
    Schedule,
    Skip,
    Step,
    Tile,
    Unroll,
    Vectorize,
)
from nnjit.codegen.schedule.words import word_kernel
from nnjit.codegen.spec import KernelSpec
from tests.support import specs

EXTENTS = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 16, 17])
"""One off a tile on either side, primes, one."""
TYPES = ["f32", "f32", "i32", "u32", "i8", "u8", "i16", "u16", "f64", "i64", "u64", "f16", "bf16"]
COMBINES = ["sum", "prod", "max", "min", "pmax", "pmin"]
PRODUCT: Schedule = (
    Tile("n", 8),
    Vectorize("n"),
    Tile("m", 2),
    Unroll("k", 2),
    Pack(1, "n"),
    Order(("b", "n", "m")),
    Parallel(("b", "n")),
)
"""Of `specs.matmul`, with panels and tails."""


@st.composite
def contractions(draw: st.DrawFn, types: list[str] = TYPES) -> tuple[KernelSpec, list[Any]]:
    """A matrix product or a convolution."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    dtype = draw(st.sampled_from(types))
    if draw(st.booleans()):
        m, n, k = draw(EXTENTS), draw(EXTENTS), draw(EXTENTS)
        flags = {f: draw(st.booleans()) for f in ("bias", "transposed", "constant")}
        return specs.matmul(rng, m, n, k, dtype, draw(st.integers(1, 2)), **flags)
    kernel, pad = draw(st.integers(1, 3)), draw(st.integers(0, 1))
    side = st.integers(max(1, kernel - 2 * pad), 6)
    channels = st.sampled_from([1, 3, 4, 5])
    dtype = dtype if dtype not in ("f16", "bf16") else "f32"
    return specs.conv(rng, draw(side), draw(side), draw(channels), draw(channels), kernel,
                      draw(st.integers(1, 2)), pad, draw(st.sampled_from([1, 1, 3, 4])), dtype)  # fmt: skip


@st.composite
def reductions(draw: st.DrawFn, types: list[str] = TYPES) -> tuple[KernelSpec, list[Any]]:
    """One reduction over some of three axes, or softmax, or layer normalisation."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    which = draw(st.integers(0, 3))
    if which == 0:
        return specs.softmax(rng, draw(EXTENTS), draw(EXTENTS))
    if which == 1:
        return specs.layer_norm(rng, draw(EXTENTS), draw(EXTENTS))
    dtype = draw(st.sampled_from([*types, "bool"]))
    combine = draw(st.sampled_from(["any", "all"] if dtype == "bool" else COMBINES))
    over = draw(st.sampled_from(["a", "b", "c", "ab", "bc", "ac", "abc"]))
    side = st.sampled_from([1, 2, 3, 4, 5, 9])
    return specs.reduction(rng, draw(side), draw(side), draw(EXTENTS), combine, dtype, over)


@st.composite
def attentions(draw: st.DrawFn) -> tuple[KernelSpec, list[Any]]:
    """Attention with its scores in scratch memory, some with keys that rows do not see."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    dtype = draw(st.sampled_from(["f32", "f32", "f32", "f16", "f64"]))
    side = st.sampled_from([1, 2, 3, 4, 5, 8])
    return specs.attention(rng, draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(EXTENTS), draw(EXTENTS),
                           draw(side), draw(side), draw(st.booleans()), dtype)  # fmt: skip


@st.composite
def schedules(draw: st.DrawFn, spec: KernelSpec, vectors: bool = True) -> Schedule:
    """Any schedule for `spec`; not every one is legal."""
    spatial = {a.name: a for s in spec.stages for a in (*spec.axes, *s.axes)}
    reduced = {a.name: a for s in spec.stages for a in s.reduce}
    steps: list[Step] = []
    wide = draw(st.sampled_from([None, *spatial, *reduced])) if vectors else None
    tiles = {}
    for name in spatial:
        if name == wide:
            tiles[name] = draw(st.sampled_from([4, 8, 12]))
        else:
            tiles[name] = draw(st.sampled_from([1, 1, 2, 3, 4, 5, 6]))
    steps += [Tile(n, t) for n, t in tiles.items() if t > 1]
    if wide is not None:
        steps.append(Vectorize(wide, 4))
        if wide in reduced and draw(st.booleans()):
            steps.append(Partial(wide, draw(st.integers(2, 3))))
    for name in reduced:
        if draw(st.booleans()):
            steps.append(Unroll(name, draw(st.integers(1, 4))))
    order = list(draw(st.permutations([a.name for a in spec.axes])))
    outer = draw(st.integers(0, len(order)))
    if outer < len(order) and draw(st.booleans()):
        name = draw(st.sampled_from(order[outer:]))
        steps.append(Block(name, tiles[name] * draw(st.integers(1, 3))))
        at = draw(st.integers(0, order.index(name)))
        order.insert(at, name + "/")
        outer += at < outer
    blocked = {s.axis for s in steps if isinstance(s, Block)}
    for a in spec.axes:
        if a.name not in blocked and draw(st.integers(0, 3)) == 0:
            steps.append(Peel(a.name, draw(st.integers(0, 2)), draw(st.integers(0, 2))))
    inner = [n for n in order[outer:] if not n.endswith("/")]
    if spec.scratch >= 0 and inner and draw(st.booleans()):
        late = tuple(inner[draw(st.integers(0, len(inner) - 1)) :])
        order = [n for n in order if n not in late] + list(late)
        steps.append(Distribute(late))
    if spec.useful and draw(st.booleans()):
        steps.append(Skip(draw(st.sampled_from([4, 8, 12, 24, 48]))))
    steps += [Fold(n) for n in order[:outer] if draw(st.integers(0, 3)) == 0]
    steps += [Order(tuple(order)), Parallel(tuple(order[:outer]))]
    for i, o in enumerate(spec.operands):
        if o.role == "in" and draw(st.integers(0, 3)) == 0:
            steps.append(Pack(i, draw(st.sampled_from([*spatial, "none"]))))
    return tuple(steps)


def packed(spec: KernelSpec, schedule: Schedule, inputs: list[Any]) -> list[Any]:
    """`inputs` with the operands that the schedule packs as panels, or as words."""
    out = list(inputs)
    tiles = {s.axis: s.factor for s in schedule if isinstance(s, Tile)}
    for s in schedule:
        if isinstance(s, Pack):
            out[s.operand] = specs.evaluate(pack_kernel(spec, s, tiles.get(s.axis, 1)), [inputs[s.operand]])[
                0
            ]
        elif isinstance(s, Words):
            making = word_kernel(spec, s.operand)
            words = np.zeros(making.operands[1].size, np.int32)
            interp.run(apply(making, ()), [inputs[s.operand], words])
            out[s.operand] = words
    return out


def interpreted(spec: KernelSpec, schedule: Schedule, inputs: list[Any]) -> list[Any]:
    """Output buffers by the interpreter of the loop nest."""
    nest = apply(spec, schedule)
    given = iter(packed(spec, schedule, inputs))
    fresh = specs.allocate(spec, inputs, nest.operands[spec.scratch].size)
    buffers = [next(given) if o.role == "in" else b for o, b in zip(nest.operands, fresh, strict=True)]
    # in two parts, as two threads would
    interp.run(nest, buffers, 0, nest.tiles // 2)
    interp.run(nest, buffers, nest.tiles // 2, nest.tiles)
    return [b for b, o in zip(buffers, nest.operands, strict=True) if o.role == "out"]


def agree(
    found: list[Any], wanted: list[Any], rtol: float, what: str, spec: KernelSpec | None = None
) -> None:
    """Every output buffer equal (rtol 0) or near; with `spec`, bf16 is compared by value, so that -0 is 0."""
    types = [o.dtype for o in spec.operands if o.role == "out"] if spec is not None else [""] * len(found)
    for f, w, dtype in zip(found, wanted, types, strict=True):
        if dtype == "bf16":
            f, w = bf16_value(f), bf16_value(w)
        np.testing.assert_allclose(
            f.astype(np.float64), w.astype(np.float64), rtol=rtol, atol=rtol, err_msg=what
        )
