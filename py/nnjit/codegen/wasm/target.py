"""Target: what the device that runs the kernels can do; every emitter decision reads it, none asks again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """relaxed: relaxed SIMD (f32x4.relaxed_madd). threads: how many run a plan. shared: memory is shared
    and plans have barriers. registers: SIMD registers usable before V8 spills (15 on x86-64, 30 on Arm64)."""

    simd: bool = True
    relaxed: bool = True
    threads: int = 1
    shared: bool = False
    registers: int = 15
