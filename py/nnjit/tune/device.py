"""DeviceFacts: what microbenchmarks found about this device, as numbers that rules and bounds are made from.

Takes plain data (stored by the page, or just measured); gives a checked record, the Target made from it, and the
shortest time that a kernel could take here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import prod
from typing import Any

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.expr import Expr
from nnjit.codegen.rewriting import walk
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.target import Target

VERSION = 1
"""Facts of another version are measured anew."""
TRANSCENDENTAL = frozenset({"exp", "log", "tanh", "erf", "sin", "cos", "pow", "sigmoid"})


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """Rates of one thread: GFLOP/s of f32, GB/s, microseconds, nanoseconds. Measured, or these typical ones.

    bandwidth: (bytes of working set, GB/s) from small to large. scaling: what all threads do together, in
    multiples of one. registers: SIMD values that live at once before the engine spills them."""

    measured: bool = False
    fma_gflops: float = 50.0
    muladd_gflops: float = 40.0
    registers: int = 15
    l1_bytes: int = 32 << 10
    l2_bytes: int = 1 << 20
    bandwidth: tuple[tuple[int, float], ...] = ((16 << 10, 100.0), (256 << 10, 50.0), (32 << 20, 12.0))
    threads: int = 1
    scaling: float = 1.0
    barrier_us: float = 1.0
    exp_ns: float = 1.0
    relaxed: tuple[str, ...] = ()
    version: int = VERSION

    @staticmethod
    def read(given: Mapping[str, Any] | None) -> DeviceFacts:
        """Stored facts; the typical ones where there are none, or none of this version and form. What else was stored
        with them (the page keeps how long they took) is left out."""
        if not given or given.get("version") != VERSION:
            return DeviceFacts()
        try:
            steps = tuple((int(n), float(rate)) for n, rate in given["bandwidth"])
            known = {f.name: given[f.name] for f in fields(DeviceFacts)}
            facts = DeviceFacts(**{**known, "bandwidth": steps, "relaxed": tuple(given["relaxed"])})
        except (TypeError, ValueError, KeyError):
            return DeviceFacts()
        numbers = (facts.fma_gflops, facts.muladd_gflops, facts.scaling, *(rate for _, rate in steps))
        sane = steps and all(0 < x < 1e6 for x in numbers) and 4 <= facts.registers <= 64
        return facts if sane else DeviceFacts()

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "bandwidth": [list(s) for s in self.bandwidth], "relaxed": list(self.relaxed)}

    def target(self, base: Target) -> Target:
        """`base` with the numbers that were measured."""
        return replace(base, registers=self.registers) if self.measured else base

    def rate(self, nbytes: int) -> float:
        """GB/s of one thread over a working set of so many bytes."""
        found = self.bandwidth[-1][1]
        for size, rate in reversed(self.bandwidth):
            if nbytes <= size:
                found = rate
        return found

    def gain(self, threads: int) -> float:
        """How much faster `threads` are than one, at most. Not `scaling`: on a machine that was busy while it was
        measured that comes out too low, and a bound must not be above what is possible."""
        return float(max(threads, 1))

    def bound_ms(self, spec: KernelSpec, target: Target) -> float:
        """No kernel of `spec` takes less here: the larger of arithmetic at peak and each byte moved once."""
        peak = self.fma_gflops if target.relaxed else self.muladd_gflops
        gain = self.gain(target.threads if target.shared else 1)
        touched = sum(o.size * SIZES[o.dtype] for o in spec.operands)
        moved = touched / (self.rate(touched) * 1e6 * gain)
        return max(flops(spec) / (peak * 1e6 * gain), moved, self._functions_ms(spec) / gain)

    def _functions_ms(self, spec: KernelSpec) -> float:
        """Time of exp and its like, by the measured cost of an exp."""
        total = 0.0
        shared = prod(a.extent for a in spec.axes)
        for s in spec.stages:
            points = shared * prod(a.extent for a in s.axes)
            count = _transcendental(s.result)
            total += points * count
            if s.body is not None:
                total += points * prod(a.extent for a in s.reduce) * _transcendental(s.body)
        return total * self.exp_ns / 1e6


def flops(spec: KernelSpec) -> int:
    """f32 operations that count: two a term of a sum of products, none where a kernel only moves values."""
    total = 0
    shared = prod(a.extent for a in spec.axes)
    for s in spec.stages:
        if s.body is None:
            continue
        product = s.combine == "sum" and s.body.op == "mul"
        total += shared * prod(a.extent for a in (*s.axes, *s.reduce)) * (2 if product else 1)
    return total


def _transcendental(root: Expr) -> int:
    return sum(1 for e in walk(root) if e.op in TRANSCENDENTAL)
