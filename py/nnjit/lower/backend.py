"""The two targets behind one face: which schedule a spec gets, and its code.

Takes a Target (WebAssembly) or a WgslTarget (WebGPU); gives what that target's rules and emitter say.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import prod
from typing import TypeAlias

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.schedule import contraction, inner
from nnjit.codegen.schedule.gpu_attention import FEW_ROWS
from nnjit.codegen.schedule.gpu_parts import best_split, split_of
from nnjit.codegen.schedule.gpu_rules import gpu_schedule, plain
from nnjit.codegen.schedule.parts import parts_of
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.schedule.split import Split
from nnjit.codegen.schedule.stagewise import Passes, passes_of
from nnjit.codegen.schedule.steps import Schedule
from nnjit.codegen.spec import KernelSpec, Reach
from nnjit.codegen.wasm import cache as wasm
from nnjit.codegen.wasm.builder import FunctionBuilder
from nnjit.codegen.wasm.target import Target
from nnjit.codegen.wgsl import cache as wgsl
from nnjit.codegen.wgsl.emit import Shader
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.codegen.wgsl.types import STORED, stored_bytes
from nnjit.graph.ir import Node, Value

AnyTarget: TypeAlias = "Target | WgslTarget"
Code: TypeAlias = "FunctionBuilder | Shader"


def stores(target: AnyTarget, dtype: str) -> bool:
    """Whether the target's memory holds elements of a type; values of others stay with the reference."""
    return dtype in STORED if isinstance(target, WgslTarget) else dtype in SIZES


def holds(target: AnyTarget, v: Value) -> bool:
    """Whether the target's memory holds a value: elements of its type, and as many of them where that is looked at."""
    if not stores(target, v.dtype):
        return False
    if not isinstance(target, WgslTarget) or not target.bounded or v.size is None:
        return True
    return v.size * stored_bytes(v.dtype, target.half) <= target.max_buffer_bytes


def packs_bytes(target: AnyTarget) -> bool:
    """Whether bytes would take a word each, so that those which are only read are left four to a word."""
    return isinstance(target, WgslTarget)


DECISIONS = 4096
"""Specs whose schedules and splits are remembered: the layers of a model are the same kernel again and again."""


@lru_cache(DECISIONS)
def schedule_of(spec: KernelSpec, target: AnyTarget) -> Schedule:
    """A good schedule without measuring."""
    return gpu_schedule(spec, target) if isinstance(target, WgslTarget) else default_schedule(spec, target)


def in_place(spec: KernelSpec, target: AnyTarget) -> Schedule | None:
    """A schedule of a product that reads its constant where it lies; None if there is none as fast as panels."""
    return None if isinstance(target, WgslTarget) else inner.in_place(spec, target)


def panel_schedules(spec: KernelSpec, target: AnyTarget) -> Iterator[Schedule]:
    """Schedules of a product about as good as the rules' own, for panels of other widths."""
    if isinstance(target, WgslTarget) or contraction.contraction(spec, target) != schedule_of(spec, target):
        return iter(())
    return contraction.other_panels(spec, target)


@lru_cache(DECISIONS)
def split_sum(spec: KernelSpec, target: AnyTarget) -> Split | None:
    """How a sum is divided into kernels, where a GPU or several threads would have too little to do at a time."""
    return split_of(spec, target) if isinstance(target, WgslTarget) else parts_of(spec, target)


UNSURE = 1.5
"""Two ways of which one should take at most so many times as long as the other are worth a try."""


@lru_cache(DECISIONS)
def other_split(spec: KernelSpec, target: AnyTarget) -> Split | None:
    """How the sum of a product could be divided on a GPU, where it is not clear whether that pays."""
    if not isinstance(target, WgslTarget):
        return None
    split, ratio = best_split(spec, target)
    return split if 1 / UNSURE < ratio < UNSURE else None


@lru_cache(DECISIONS)
def split_rows(spec: KernelSpec, target: AnyTarget) -> Passes | None:
    """The kernels, one a pass, of a few rows so long that threads share each; a GPU's workgroup has a row by itself."""
    return None if isinstance(target, WgslTarget) else passes_of(spec, target)


def clear() -> None:
    """Forgets what was decided, as a benchmark of compiling needs it."""
    for decision in (schedule_of, split_sum, other_split, split_rows):
        decision.cache_clear()


def plain_schedule(spec: KernelSpec, target: AnyTarget) -> Schedule:
    """The one that always fits: plain loops, on a GPU an element an invocation."""
    return plain(spec) if isinstance(target, WgslTarget) else ()


def emitted(
    spec: KernelSpec, schedule: Schedule, target: AnyTarget, moves: wgsl.Moves = (), reach: Reach = ()
) -> tuple[Code, int, bool]:
    """The kernel's code, its number of tiles, and whether it was emitted just now. moves: of a GPU's operands."""
    if isinstance(target, WgslTarget):
        return wgsl.emitted(spec, schedule, target, moves)
    return wasm.emitted(spec, schedule, target, reach)


MOST_SCORES = 64 << 20
"""Bytes of attention scores that may lie in memory between kernels where that is only another way to do it."""


def attention_forms(node: Node, target: AnyTarget) -> tuple[str, tuple[str, ...]]:
    """How attention is lowered, and how it can be: "fused" as one kernel with scratch memory (a workgroup's own on
    WebGPU, which few rows are not worth), or "split" as three."""
    q, k = (v.shape if v is not None else None for v in node.inputs[:2])
    if isinstance(target, WgslTarget) and q and q[2] < FEW_ROWS:
        return "split", ("split",)
    scores = 4 * prod(q[:3]) * k[2] if q and k else 0
    both = scores <= MOST_SCORES or target.attention == "split"
    return target.attention, ("fused", "split") if both else ("fused",)
