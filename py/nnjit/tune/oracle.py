"""What a kernel must give at a few elements, computed from its spec alone: no schedule, no loop nest, no emitter.

`probes` picks elements of the outputs; `expected` evaluates the spec there on the patterns that fill the operands.
The serving kernel is held against this once, before anything is held against the serving kernel.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import Any

import numpy as np

from nnjit.codegen.bfloat import bf16_value
from nnjit.codegen.dtypes import FLOATS, NUMPY
from nnjit.codegen.expr import Expr, Index, reg
from nnjit.codegen.interp import Machine
from nnjit.codegen.loops import Nest
from nnjit.codegen.rewriting import rewrite, walk
from nnjit.codegen.schedule.group_steps import HalfSums
from nnjit.codegen.schedule.half_sums import spread
from nnjit.codegen.schedule.steps import Schedule
from nnjit.codegen.spec import Axis, KernelSpec, Stage
from nnjit.tune.fills import buffers, every_point, patterns

FOLD = {
    "sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum, "pmax": np.fmax, "pmin": np.fmin,
    "any": np.logical_or, "all": np.logical_and,
}  # fmt: skip
MOST_TERMS = 1 << 19
"""Specs with more work than this for one element are not probed."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Element `at` of output `operand`, which is what stage `stage` stores at this point of its axes."""

    operand: int
    at: int
    stage: int
    point: tuple[tuple[str, int], ...]


def probes(spec: KernelSpec, count: int = 3) -> list[Probe]:
    """`count` elements of each stage that stores to fixed places of an output, the last one among them; none of a
    costly one."""
    if any(s.running or (s.terms is not None and not s.keep) for s in spec.stages):
        return []
    draw = random.Random(spec.key)
    found: list[Probe] = []
    work = sum(prod(a.extent for a in (*s.axes, *s.reduce)) for s in spec.stages)
    for n, s in enumerate(spec.stages):
        if (
            s.keep
            or s.out == spec.scratch
            or work > MOST_TERMS
            or any(not isinstance(a, str) for a, _ in s.index.terms)
        ):
            continue
        axes = (*spec.axes, *s.axes)
        for i in range(count):
            point = {a.name: a.extent - 1 if i == 0 else draw.randrange(a.extent) for a in axes}
            at = s.index.const + sum(c * point[str(a)] for a, c in s.index.terms)
            found.append(Probe(s.out, at, n, tuple(point.items())))
    return found


def expected(spec: KernelSpec, probe: Probe, filled: Mapping[int, bytes], off: float = 0.0) -> float:
    """The value at a probe, of operands that are filled so; NaN where it is none. off: what its last sum is off by, for
    each root of the sum of its terms' squares."""
    machine = Machine(Nest(spec.name, spec.operands, 0), buffers(spec, filled))
    kept: dict[str, Any] = {}
    point = dict(probe.point)
    with np.errstate(all="ignore"):
        for n, s in enumerate(spec.stages[: probe.stage + 1]):
            if not s.keep and (s.out == spec.scratch or (n < probe.stage and _read_later(spec, s.out, n))):
                _written(machine, s, point, kept)
            elif s.keep or n == probe.stage:
                value = _at(machine, s, point, kept, off if n == probe.stage else 0.0)
                if s.keep:
                    kept[s.keep] = value
    return float(np.asarray(value).reshape(-1)[0])


def _read_later(spec: KernelSpec, operand: int, stage: int) -> bool:
    """Whether stages after this one read what it stores."""
    later = (root for s in spec.stages[stage + 1 :] for root in (s.body, s.result) if root is not None)
    return any(e.op == "load" and e.attr.operand == operand for root in later for e in walk(root))


def doubt(spec: KernelSpec, probe: Probe, filled: Mapping[int, bytes], schedule: Schedule) -> float:
    """How much further off than by f32 sums an element may be whose sums are f16 for a while (`half_sums`)."""
    elements = next((s.elements for s in schedule if isinstance(s, HalfSums)), 0)
    if elements == 0:
        return 0.0
    value, off = expected(spec, probe, filled), spread(elements, 1.0)
    moved = [abs(expected(spec, probe, filled, sign * off) - value) for sign in (-1, 1)]
    return max((m for m in moved if m == m), default=0.0)


def _at(machine: Machine, s: Stage, point: Mapping[str, int], kept: dict[str, Any], off: float = 0.0) -> Any:
    """What a stage gives at one point of its axes."""
    registers = dict(kept)
    if s.body is not None:
        machine.lanes = _grid(machine, s.reduce, point)
        machine.regs = dict(kept)
        terms = machine.value(rewrite(s.body, {}, _register))
        if s.terms is not None:
            operand, index = s.terms
            written = machine.buffers[operand].written
            written.update(zip(map(int, machine.index(index)), terms, strict=True))
        sums = np.asarray(FOLD[s.combine].reduce(terms)).reshape(1)
        if off:
            sums = sums + off * np.sqrt(np.sum(np.square(terms)))
        registers["acc"] = sums.astype(terms.dtype)
    machine.lanes, machine.vars = 1, dict(point)
    machine.regs = registers
    return machine.value(rewrite(s.result, {}, _register))


def _written(machine: Machine, s: Stage, point: Mapping[str, int], kept: dict[str, Any]) -> None:
    """What a stage leaves in scratch memory, at all points of its axes."""
    registers = dict(kept)
    if s.body is not None:
        machine.lanes = _grid(machine, (*s.axes, *s.reduce), point)
        machine.regs = dict(kept)
        terms = machine.value(rewrite(s.body, {}, _register))
        rows = np.broadcast_to(terms, machine.lanes).reshape(prod(a.extent for a in s.axes), -1)
        registers["acc"] = np.asarray(FOLD[s.combine].reduce(rows, axis=1)).astype(terms.dtype)
    machine.lanes = _grid(machine, s.axes, point)
    machine.regs = registers
    values = np.broadcast_to(machine.value(rewrite(s.result, {}, _register)), machine.lanes)
    places = np.broadcast_to(machine.index(s.index), machine.lanes)
    machine.buffers[s.out].written.update(zip(map(int, places), values, strict=True))


def _grid(machine: Machine, axes: tuple[Axis, ...], point: Mapping[str, int]) -> int:
    """Every point of the reduced axes at once: the machine's variables become arrays."""
    grid = dict(zip([a.name for a in axes], every_point(axes), strict=True))
    machine.vars = {**point, **grid}
    return prod(a.extent for a in axes)


def _register(e: Expr) -> Expr | None:
    return reg(e.attr if e.op == "local" else "acc", e.dtype) if e.op in ("acc", "local") else None


def decoded(sample: bytes, dtype: str) -> float:
    """One element's bytes as a number."""
    value = np.frombuffer(sample, NUMPY[dtype])
    return float(bf16_value(value)[0]) if dtype == "bf16" else float(value[0])


def allowed(wanted: float, spec: KernelSpec, dtype: str) -> float:
    """How far a device's element may be off: a float sums up in some order and rounds its functions, a rounded integer
    may be its neighbour, others are exact, and so are infinities."""
    if abs(wanted) == inf:
        return 0.0
    if dtype not in FLOATS:
        return 1.0 if any(e.dtype in FLOATS for e in spec.exprs()) else 0.0
    rough = 2e-2 if dtype in ("f16", "bf16") else 2e-3
    return rough * (1.0 + abs(wanted))


def agrees(got: float, wanted: float, spec: KernelSpec, dtype: str, more: float = 0.0) -> bool:
    """Near enough; NaN where NaN is wanted. more: `doubt` of its schedule."""
    if wanted != wanted or got != got:
        return (wanted != wanted) == (got != got)
    return got == wanted or abs(got - wanted) <= allowed(wanted, spec, dtype) + more


def disagreement(
    spec: KernelSpec, wanted: Sequence[Probe], samples: Sequence[Sequence[int]], schedule: Schedule = ()
) -> str:
    """Where a kernel in the lab did not do what its spec says, its worst element; '' if it did. samples: an element's
    bytes a probe. schedule: the kernel's."""
    filled, wrong, worst = patterns(spec), 0, (-1.0, "")
    for probe, sample in zip(wanted, samples, strict=False):
        dtype = spec.operands[probe.operand].dtype
        value, got = expected(spec, probe, filled), decoded(bytes(sample), dtype)
        more = doubt(spec, probe, filled, schedule)
        if agrees(got, value, spec, dtype, more):
            continue
        wrong += 1
        off, most = abs(got - value), allowed(value, spec, dtype) + more
        far = inf if off != off else off / most if most else off
        text = (
            f"the serving kernel gives {got} where its definition gives {value}: element {probe.at} of operand "
            f"{probe.operand}, off by {off:.3g}, where {most:.3g} is allowed"
        )
        worst = max(worst, (far, text))
    return f"{worst[1]} ({wrong} of {len(wanted)} elements are)" if wrong else ""


__all__ = ["Index", "Probe", "agrees", "decoded", "disagreement", "doubt", "expected", "probes"]
