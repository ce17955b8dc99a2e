"""GpuPlan: what the WebGPU engine needs to run a model, as data: shaders, buffers, and steps that bind them.

Buffers are numbered. A constant buffer has an id that is the same in every plan of the session; the others belong to
the plan. `to_js()` gives the plain object that web/engine/webgpu reads (web/engine/webgpu/types.d.ts).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from nnjit.codegen.wgsl.cache import Moves
from nnjit.codegen.wgsl.emit import Shader
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.lower.lowered import Lowered
from nnjit.runtime.outputs import SPARES
from nnjit.runtime.plan import PLAN_VERSION, HostRef, HostSite, KernelInfo

WAIT = {
    # runs that are waited for in each way, with empty submissions and without, before the faster one stays; the best
    # of the last so many counts, and one run in so many is waited for in the other way
    "tries": 3,
    "again": 16,
    # ms from one empty submission to the next, and for how long there are any
    "everyMs": 0.2,
    "mostMs": 5.0,
    # a run that usually takes longer is slept through up to so many ms before its end
    "earlyMs": 2.0,
}
"""How the engine waits for a run: browsers look whether a GPU is done when commands come, and else every few ms."""


SUBMIT = {
    # operations in one submission, of a GPU and of a software adapter: a driver takes a queue that is silent for
    # seconds for one that hangs
    "flops": 4e11,
    "softwareFlops": 4e8,
    # runs whose outputs stay on the device, in its queue at a time
    "runs": 16,
}
"""How much the engine submits at a time."""


@dataclass(frozen=True, slots=True)
class GpuBuffer:
    """constant: its id in the session, -1 for one of the plan's own. staged: only steps at load use it. early: the
    number it was told by before there was a plan (gpu_early.py), -1 for none."""

    nbytes: int
    constant: int = -1
    staged: bool = False
    early: int = -1

    def to_js(self) -> dict[str, Any]:
        plain = {"nbytes": self.nbytes, "constant": self.constant, "staged": self.staged}
        return plain if self.early < 0 else {**plain, "early": self.early}


@dataclass(frozen=True, slots=True)
class GpuRef:
    """A row-major tensor at the start of a buffer. nbytes: of the tensor as ONNX has it. stored: WGSL's element."""

    name: str
    type: str
    dims: tuple[int, ...]
    buffer: int
    nbytes: int
    stored: str

    def to_js(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": self.type,
            "dims": list(self.dims),
            "buffer": self.buffer,
            "nbytes": self.nbytes,
            "stored": self.stored,
        }


AnyRef: TypeAlias = "GpuRef | HostRef"


@dataclass(frozen=True, slots=True)
class GpuBinding:
    """Bytes offset .. offset + size of a buffer."""

    buffer: int
    offset: int
    size: int


@dataclass(slots=True)
class GpuStep:
    """Dispatches shader number `shader` over its bindings. flops, bytes: of one run, at least. moves: where the
    operands lie in the bindings (see wgsl/cache.py); none if each has its own from the start."""

    shader: int
    bindings: list[GpuBinding]
    name: str
    kernel: str
    nodes: list[str]
    flops: int
    bytes: int
    moves: Moves = ()

    def to_js(self) -> dict[str, Any]:
        return {
            "shader": self.shader,
            "bindings": [[b.buffer, b.offset, b.size] for b in self.bindings],
            "name": self.name,
            "kernel": self.kernel,
            "nodes": self.nodes,
            "flops": self.flops,
            "bytes": self.bytes,
        }


@dataclass(slots=True)
class GpuPlan:
    """All that the page needs to run a graph on WebGPU, and what its compiler must remember of it.

    segments: ranges of steps between host calls. init: what is carried out once, at load."""

    key: str
    shaders: list[Shader]
    buffers: list[GpuBuffer]
    steps: list[GpuStep]
    segments: list[dict[str, Any]]
    init: list[dict[str, Any]]
    inputs: list[AnyRef]
    outputs: list[AnyRef]
    kernels: list[KernelInfo]
    """One a shader."""
    host_calls: dict[str, HostSite] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    once: dict[str, str] = field(default_factory=dict)
    stats: dict[str, Any] = field(default_factory=dict)
    backend: str = "webgpu"
    lowered: Lowered | None = None
    """What it was linked from, for what target: so that it can be lowered anew."""
    target: WgslTarget = field(default_factory=WgslTarget)
    told: tuple[object, Mapping[Shader, int]] | None = None
    """Who was told of its shaders while they were written, and by which numbers."""

    def kernel_of(self, step: int) -> KernelInfo:
        return self.kernels[self.steps[step].shader]

    def to_js(self, told: Mapping[Shader, int] | None = None) -> dict[str, Any]:
        """told: shaders that the page has been given, which go by number: their texts are most of a plan."""
        told = told or {}
        return {
            "version": PLAN_VERSION,
            "backend": self.backend,
            "key": self.key,
            "shaders": [told[s] if s in told else s.to_js() for s in self.shaders],
            "buffers": [b.to_js() for b in self.buffers],
            "steps": [s.to_js() for s in self.steps],
            "segments": self.segments,
            "init": self.init,
            "inputs": [r.to_js() for r in self.inputs],
            "outputs": [r.to_js() for r in self.outputs],
            "wait": WAIT,
            "submit": SUBMIT,
            "spares": SPARES,
            "stats": self.stats,
        }
