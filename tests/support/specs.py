"""Specs to test with, and what a spec means: `evaluate(spec, buffers)` without any loop nest.

`evaluate` computes each stage at all of its points at once, so nothing of `apply` has a part in it.
The builders return (spec, input arrays); inputs hold small whole numbers, so that sums are exact in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from nnjit.codegen.bfloat import bf16_bits
from nnjit.codegen.dtypes import LIMITS, NUMPY
from nnjit.codegen.expr import Expr, Index, acc, axis, cast, const, guarded, load, local, op, reg
from nnjit.codegen.interp import Machine
from nnjit.codegen.loops import Nest
from nnjit.codegen.rewriting import rewrite
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage

FOLD = {
    "sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum, "pmax": np.fmax, "pmin": np.fmin,
    "any": np.logical_or, "all": np.logical_and,
}  # fmt: skip


def evaluate(spec: KernelSpec, inputs: Sequence[Any]) -> list[Any]:
    """The output buffers of `spec`, in operand order."""
    buffers = allocate(spec, inputs)
    machine = Machine(Nest(spec.name, spec.operands, 0), buffers)
    with np.errstate(all="ignore"):
        for s in spec.stages:
            _stage(spec, s, machine)
    return [b for b, o in zip(buffers, spec.operands, strict=True) if o.role == "out"]


def allocate(spec: KernelSpec, inputs: Sequence[Any], scratch: int = 0) -> list[Any]:
    """A flat buffer for each operand: the inputs in order, zeros for outputs, NaN for scratch memory, of which every
    point has its own unless a size is given."""
    given = iter(inputs)
    points = prod(a.extent for a in spec.axes)
    return [
        np.ascontiguousarray(next(given)).reshape(-1) if o.role == "in"
        else np.full(scratch or points * o.size, np.nan, NUMPY[o.dtype]) if o.role == "scratch"
        else np.zeros(o.size, NUMPY[o.dtype])
        for o in spec.operands
    ]  # fmt: skip


def _stage(spec: KernelSpec, s: Stage, machine: Machine) -> None:
    kept = machine.regs
    shared, own = [a.extent for a in spec.axes], [a.extent for a in s.axes]
    points, terms = prod(shared) * prod(own), prod(a.extent for a in s.reduce)

    def at(axes: Sequence[Axis], names: dict[str, Any]) -> int:
        grid = np.indices([a.extent for a in axes]).reshape(len(axes), -1) if axes else np.zeros((0, 1), int)
        machine.vars = {a.name: grid[i] for i, a in enumerate(axes)}
        machine.lanes = prod(a.extent for a in axes)
        machine.regs = names
        return machine.lanes

    def spread(n: int) -> dict[str, Any]:
        """Locals of the shared axes, repeated for each of the n points inside."""
        return {k: np.repeat(v, n) for k, v in kept.items()}

    def leaf(e: Expr) -> Expr | None:
        if e.op == "load" and e.attr.operand == spec.scratch:
            return load(spec.scratch, placed(spec.scratch, e.attr.index), e.dtype)
        return reg(e.attr, e.dtype) if e.op in ("acc", "local") else None

    def placed(operand: int, i: Index) -> Index:
        """An index, of scratch memory in the row of the shared axes' point."""
        if operand != spec.scratch:
            return i
        size = spec.operands[operand].size
        for a in reversed(spec.axes):
            i, size = i + Index(0, {a.name: size}), size * a.extent
        return i

    total = {}
    if s.body is not None:
        at((*spec.axes, *s.axes, *s.reduce), spread(prod(own) * terms))
        value = machine.value(rewrite(s.body, {}, leaf))
        if s.terms is not None:
            machine.buffers[s.terms[0]][machine.index(placed(*s.terms))] = value
        value = value.reshape(points, terms)
        total = {"acc": FOLD[s.combine].reduce(value, axis=1).astype(value.dtype)}
    at((*spec.axes, *s.axes), {**spread(prod(own)), **total})
    value = machine.value(rewrite(s.result, {}, leaf))
    place = None if s.keep else machine.index(placed(s.out, s.index))
    machine.regs = kept
    if s.keep:
        machine.regs[s.keep] = value
        return
    machine.buffers[s.out][place] = bf16_bits(value) if spec.operands[s.out].dtype == "bf16" else value


# ---- inputs ----


def whole(rng: np.random.Generator, shape: Sequence[int], dtype: str, limit: int = 4) -> Any:
    """Small whole numbers as `dtype` (bf16 as its bits)."""
    low = -limit if dtype[0] in "if" or dtype == "bf16" else 0
    x = rng.integers(low, limit + 1, tuple(shape))
    if dtype == "bf16":
        return bf16_bits(x.astype(np.float32))
    return (x > 0) if dtype == "bool" else x.astype(NUMPY[dtype])


# ---- builders ----


def matmul(
    rng: np.random.Generator, m: int, n: int, k: int, dtype: str = "f32", batch: int = 1, bias: bool = False,
    transposed: bool = False, constant: bool = False,
) -> tuple[KernelSpec, list[Any]]:  # fmt: skip
    """c[b, m, n] = sum over k of a[b, m, k] * w[k, n] (or w[n, k]), then + bias[n] and relu."""
    wide = "f32" if dtype in ("f16", "bf16") else dtype
    left = Index(0, {"b": m * k, "m": k, "k": 1})
    right = Index(0, {"k": 1, "n": k}) if transposed else Index(0, {"k": n, "n": 1})
    body = op("mul", cast(load(0, left, dtype), wide), cast(load(1, right, dtype), wide))
    operands = [Operand(dtype, batch * m * k, "in"), Operand(dtype, n * k, "in", constant)]
    inputs = [whole(rng, (batch, m, k), dtype), whole(rng, (n, k) if transposed else (k, n), dtype)]
    value = acc(wide)
    if bias:
        value = op("add", value, cast(load(2, Index.of("n"), dtype), wide))
        value = op("max", value, const(0, wide))
        operands.append(Operand(dtype, n, "in", constant))
        inputs.append(whole(rng, (n,), dtype))
    operands.append(Operand(dtype, batch * m * n, "out"))
    stage = Stage(
        (), (Axis("k", k),), "sum", body, cast(value, dtype), len(operands) - 1,
        Index(0, {"b": m * n, "m": n, "n": 1}),
    )  # fmt: skip
    axes = (Axis("b", batch), Axis("m", m), Axis("n", n))
    return KernelSpec(f"{dtype}_matmul", axes, (stage,), tuple(operands)), inputs


def bytes_matmul(
    rng: np.random.Generator, m: int, n: int, k: int, transposed: bool = False
) -> tuple[KernelSpec, list[Any]]:
    """c[m, n] = sum over k of a[m, k] * w[k, n] (or w[n, k]) of i8, in i32."""
    spec, _ = matmul(rng, m, n, k, "i32", transposed=transposed)
    (stage,) = spec.stages
    assert stage.body is not None
    body = op("mul", *(cast(load(e.attr.operand, e.attr.index, "i8"), "i32") for e in stage.body.args))
    operands = tuple(replace(o, dtype="i8") if o.role == "in" else o for o in spec.operands)
    inputs = [rng.integers(-128, 128, o.size).astype(np.int8) for o in operands if o.role == "in"]
    return replace(spec, stages=(replace(stage, body=body),), operands=operands), inputs


def conv(
    rng: np.random.Generator, h: int, w: int, ci: int, co: int, kernel: int, stride: int = 1, pad: int = 0,
    groups: int = 1, dtype: str = "f32",
) -> tuple[KernelSpec, list[Any]]:  # fmt: skip
    """y[p, q, g, o] over an image x[y, x, g, i] (channels last) by weights w[g, o, i, ky, kx]; guarded reads."""
    oh, ow = (h + 2 * pad - kernel) // stride + 1, (w + 2 * pad - kernel) // stride + 1
    y = Index(-pad, {"p": stride, "ky": 1})
    x = Index(-pad, {"q": stride, "kx": 1})
    channel = Index(0, {"g": ci, "i": 1})
    source = y * (w * groups * ci) + x * (groups * ci) + channel
    left = guarded(0, source, dtype, ((y, h), (x, w)), const(0, dtype)) if pad else load(0, source, dtype)
    taps = kernel * kernel
    weight = Index(0, {"g": co * ci * taps, "o": ci * taps, "i": taps, "ky": kernel, "kx": 1})
    out = Index(0, {"p": ow * groups * co, "q": groups * co, "g": co, "o": 1})
    reduce = (Axis("ky", kernel), Axis("kx", kernel), Axis("i", ci))
    stage = Stage((), reduce, "sum", op("mul", left, load(1, weight, dtype)), acc(dtype), 2, out)
    operands = (
        Operand(dtype, h * w * groups * ci, "in"),
        Operand(dtype, groups * co * ci * taps, "in", True),
        Operand(dtype, oh * ow * groups * co, "out"),
    )
    axes = (Axis("g", groups), Axis("o", co), Axis("p", oh), Axis("q", ow))
    inputs = [whole(rng, (h, w, groups, ci), dtype), whole(rng, (groups, co, ci, kernel, kernel), dtype)]
    return KernelSpec(f"{dtype}_conv", axes, (stage,), operands), inputs


def attention(
    rng: np.random.Generator, heads: int, group: int, rows: int, keys: int, depth: int, width: int,
    causal: bool = False, dtype: str = "f32",
) -> tuple[KernelSpec, list[Any]]:  # fmt: skip
    """o[h, g, m, e] = sum over k of softmax(q k' / 4 + bias[m, k]) v: scores in scratch memory, four stages. Causal:
    the bias leaves row m only keys up to m + keys - rows, and the spec says so."""
    Q, K, BIAS, V, SCORES, OUT = range(6)
    wide = "f32" if dtype in ("f16", "bf16") else dtype
    q_at = Index(0, {"h": group * rows * depth, "g": rows * depth, "m": depth, "d": 1})
    dot = op("mul", cast(load(Q, q_at, dtype), wide),
             cast(load(K, Index(0, {"h": keys * depth, "n": depth, "d": 1}), dtype), wide))  # fmt: skip
    bias = cast(load(BIAS, Index(0, {"m": keys, "n": 1}), "f32"), wide)
    score = op("add", op("mul", acc(wide), const(0.25, wide)), bias)
    s = load(SCORES, Index.of("r"), wide)
    power = Expr("exp", wide, (op("sub", s, local("top", wide)),))
    along = (Axis("r", keys),)
    v_at = Index(0, {"h": keys * width, "k": width, "e": 1})
    mix = op("mul", load(SCORES, Index.of("k"), wide), cast(load(V, v_at, dtype), wide))
    out = Index(0, {"h": group * rows * width, "g": rows * width, "m": width, "e": 1})
    stages = (
        Stage((Axis("n", keys),), (Axis("d", depth),), "sum", dot, score, SCORES, Index.of("n")),
        Stage((), along, "pmax", s, acc(wide), keep="top"),
        Stage((), along, "sum", power, op("div", const(1, wide), acc(wide)), keep="total",
              terms=(SCORES, Index.of("r"))),
        Stage((Axis("e", width),), (Axis("k", keys),), "sum", mix,
              cast(op("mul", acc(wide), local("total", wide)), dtype), OUT, out),
    )  # fmt: skip
    sizes = [heads * group * rows * depth, heads * keys * depth, rows * keys, heads * keys * width]
    kinds = (dtype, dtype, "f32", dtype)
    operands = (*(Operand(t, n, "in") for t, n in zip(kinds, sizes, strict=True)), Operand(wide, keys, "scratch"),
                Operand(dtype, heads * group * rows * width, "out"))  # fmt: skip
    inputs = [whole(rng, (n,), t) for t, n in zip(kinds, sizes, strict=True)]
    useful: tuple[tuple[str, Expr], ...] = ()
    if causal:
        offset = max(0, keys - rows)
        seen = np.arange(keys) <= np.arange(rows)[:, None] + offset
        inputs[2] = np.where(seen, 0, -3.4e38).astype(np.float32).reshape(-1)
        end = axis(Index(offset + 1, {"m": 1}))
        useful = tuple((name, end) for name in ("n", "r", "k"))
    axes = (Axis("h", heads), Axis("g", group), Axis("m", rows))
    return KernelSpec(f"{dtype}_attention", axes, stages, operands, useful), inputs


def softmax(rng: np.random.Generator, rows: int, n: int) -> tuple[KernelSpec, list[Any]]:
    """y[i, r] = e^(x - max) / sum e^(x - max): two stages that keep a local, one over its own axis."""
    at = Index(0, {"i": n, "r": 1})
    own = (Axis("r", n),)
    v = load(0, at, "f32")
    power = Expr("exp", "f32", (op("sub", v, local("top", "f32")),))
    stages = (
        Stage((), own, "max", v, acc("f32"), keep="top"),
        Stage((), own, "sum", power, op("div", const(1, "f32"), acc("f32")), keep="total"),
        Stage(own, (), "", None, op("mul", power, local("total", "f32")), 1, at),
    )
    operands = (Operand("f32", rows * n, "in"), Operand("f32", rows * n, "out"))
    return KernelSpec("softmax", (Axis("i", rows),), stages, operands), [
        rng.normal(0, 2, (rows, n)).astype(np.float32)
    ]


def layer_norm(rng: np.random.Generator, rows: int, n: int) -> tuple[KernelSpec, list[Any]]:
    """(x - mean) / sqrt(variance + 1e-5) * weight + bias over rows of n."""
    at = Index(0, {"i": n, "r": 1})
    own = (Axis("r", n),)
    part = const(1 / n, "f32")
    v = load(0, at, "f32")
    centred = op("sub", v, local("mean", "f32"))
    root = Expr("sqrt", "f32", (op("add", op("mul", acc("f32"), part), const(1e-5, "f32")),))
    y = op("mul", op("mul", centred, local("scale", "f32")), load(1, Index.of("r"), "f32"))
    stages = (
        Stage((), own, "sum", v, op("mul", acc("f32"), part), keep="mean"),
        Stage((), own, "sum", op("mul", centred, centred), op("div", const(1, "f32"), root), keep="scale"),
        Stage(own, (), "", None, op("add", y, load(2, Index.of("r"), "f32")), 3, at),
    )
    operands = (
        Operand("f32", rows * n, "in"),
        Operand("f32", n, "in"),
        Operand("f32", n, "in"),
        Operand("f32", rows * n, "out"),
    )
    inputs = [rng.normal(1, 2, s).astype(np.float32) for s in ((rows, n), (n,), (n,))]
    return KernelSpec("layer_norm", (Axis("i", rows),), stages, operands), inputs


def reduction(
    rng: np.random.Generator, outer: int, middle: int, inner: int, combine: str, dtype: str, over: str
) -> tuple[KernelSpec, list[Any]]:
    """x[a, b, c] reduced by `combine` over the axes named in `over`, e.g. "b" or "ac". Sums of 8- and 16-bit
    integers wrap around; they are stored as f32, which shows whether they did."""
    extents = {"a": outer, "b": middle, "c": inner}
    wide = "f32" if dtype in ("f16", "bf16") else dtype
    at = Index(0, {"a": middle * inner, "b": inner, "c": 1})
    axes = tuple(Axis(n, e) for n, e in extents.items() if n not in over)
    index, step = Index(), 1
    for a in reversed(axes):
        index, step = index + Index(0, {a.name: step}), step * a.extent
    reduce = tuple(Axis(n, extents[n]) for n in over)
    body = cast(load(0, at, dtype), wide)
    to = "f32" if dtype in ("i8", "u8", "i16", "u16") else dtype
    stage = Stage((), reduce, combine, body, cast(acc(wide), to), 1, index)
    operands = (Operand(dtype, outer * middle * inner, "in"), Operand(to, step, "out"))
    limit = 1 if combine == "prod" else 4
    return KernelSpec(f"{dtype}_{combine}", axes, (stage,), operands), [
        whole(rng, (outer, middle, inner), dtype, limit)
    ]


def pointwise(
    rng: np.random.Generator, value: Expr, shape: Sequence[int], inputs: Sequence[tuple[str, Sequence[int]]]
) -> tuple[KernelSpec, list[Any]]:
    """out[i0, i1, ...] = value, which reads operands numbered as `inputs` (dtype, shape) is."""
    axes = tuple(Axis(f"i{d}", n) for d, n in enumerate(shape))
    operands = [Operand(t, prod(s), "in") for t, s in inputs]
    stage = Stage((), (), "", None, value, len(operands), row_major(shape))
    operands.append(Operand(value.dtype, prod(shape), "out"))
    return KernelSpec("pointwise", axes, (stage,), tuple(operands)), [whole(rng, s, t) for t, s in inputs]


def row_major(shape: Sequence[int], of: Sequence[int] | None = None) -> Index:
    """The index of element [i0, i1, ...] in a dense buffer of shape `of` (1 where it is broadcast)."""
    index, step = Index(), 1
    sizes = list(shape if of is None else of)
    for d in range(len(shape) - 1, -1, -1):
        if sizes[d] != 1:
            index = index + Index(0, {f"i{d}": step})
        step *= sizes[d]
    return index


# ---- products of bytes ----


def filled(rng: np.random.Generator, shape: Sequence[int], dtype: str) -> Any:
    """The whole range of a type, its ends more often than not."""
    low, high = LIMITS[dtype] if dtype != "i16" else (-255, 255)
    x = rng.integers(low, high + 1, shape)
    return np.where(rng.random(shape) < 0.3, rng.choice([low, high], shape), x).astype(NUMPY[dtype])


def widened(operand: int, index: Index, dtype: str) -> Expr:
    return cast(load(operand, index, dtype), "i32")


def byte_product(
    rng: np.random.Generator, m: int, n: int, k: int, left: str, right: str, transposed: bool = False,
    constant: bool = True,
) -> tuple[KernelSpec, list[Any]]:  # fmt: skip
    """c[m, n] = bias[n] + sum over k of a[m, k] * b[k, n] (or b[n, k])."""
    at = Index(0, {"n": k, "k": 1} if transposed else {"k": n, "n": 1})
    body = op("mul", widened(0, Index(0, {"m": k, "k": 1}), left), widened(1, at, right))
    operands = (
        Operand(left, m * k, "in"), Operand(right, n * k, "in", constant), Operand("i32", n, "in", True),
        Operand("i32", m * n, "out"),
    )  # fmt: skip
    value = op("add", acc("i32"), load(2, Index.of("n"), "i32"))
    stage = Stage((), (Axis("k", k),), "sum", body, value, 3, Index(0, {"m": n, "n": 1}))
    inputs = [filled(rng, (m, k), left), filled(rng, (n, k) if transposed else (k, n), right)]
    inputs.append(rng.integers(-1000, 1000, n).astype(np.int32))
    return KernelSpec("product", (Axis("m", m), Axis("n", n)), (stage,), operands), inputs
