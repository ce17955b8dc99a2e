"""The two targets behind one face: which schedule a spec gets, and its code.

Takes a Target (WebAssembly) or a WgslTarget (WebGPU); gives what that target's rules and emitter say.
"""

from __future__ import annotations

from typing import TypeAlias

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.schedule import inner
from nnjit.codegen.schedule.gpu_rules import gpu_schedule, plain
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.schedule.steps import Schedule
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm import cache as wasm
from nnjit.codegen.wasm.builder import FunctionBuilder
from nnjit.codegen.wasm.target import Target
from nnjit.codegen.wgsl import cache as wgsl
from nnjit.codegen.wgsl.emit import Shader
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.codegen.wgsl.types import STORED

AnyTarget: TypeAlias = "Target | WgslTarget"
Code: TypeAlias = "FunctionBuilder | Shader"


def stores(target: AnyTarget, dtype: str) -> bool:
    """Whether the target's memory holds elements of a type; values of others stay with the reference."""
    return dtype in STORED if isinstance(target, WgslTarget) else dtype in SIZES


def schedule_of(spec: KernelSpec, target: AnyTarget) -> Schedule:
    """A good schedule without measuring."""
    return gpu_schedule(spec, target) if isinstance(target, WgslTarget) else default_schedule(spec, target)


def in_place(spec: KernelSpec, target: AnyTarget) -> Schedule | None:
    """A schedule of a product that reads its constant where it lies; None if there is none as fast as panels."""
    return None if isinstance(target, WgslTarget) else inner.in_place(spec, target)


def plain_schedule(spec: KernelSpec, target: AnyTarget) -> Schedule:
    """The one that always fits: plain loops, on a GPU an element an invocation."""
    return plain(spec) if isinstance(target, WgslTarget) else ()


def emitted(spec: KernelSpec, schedule: Schedule, target: AnyTarget) -> tuple[Code, int, bool]:
    """The kernel's code, its number of tiles, and whether it was emitted just now."""
    if isinstance(target, WgslTarget):
        return wgsl.emitted(spec, schedule, target)
    return wasm.emitted(spec, schedule, target)


def fuses_attention(target: AnyTarget) -> bool:
    """Whether attention is one kernel with scratch memory; elsewhere it is three."""
    return isinstance(target, Target) and target.attention == "fused"
