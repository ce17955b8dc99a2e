"""Target: what the device that runs the kernels can do; every emitter decision reads it, none asks again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """relaxed: relaxed SIMD (f32x4.relaxed_madd). threads: how many run a plan. shared: memory is shared
    and plans have barriers. registers: SIMD registers usable before V8 spills (15 on x86-64, 30 on Arm64).
    dot: what i32x4.relaxed_dot_i8x16_i7x16_add_s multiplies i8 with, if its sums are exact: "u8" (vpdpbusd of x86
    with VNNI), "s8" (sdot of Arm); "" where only seven bits are, or where nobody tried. attention: "fused" as one
    kernel over blocks of rows, "split" as three with the scores in memory between them."""

    simd: bool = True
    relaxed: bool = True
    threads: int = 1
    shared: bool = False
    registers: int = 15
    dot: str = ""
    attention: str = "fused"
