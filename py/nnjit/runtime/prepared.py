"""What a session is asked for and what it answers with: options, and for concrete input shapes a Prepared.

`Prepared` holds the plan to load (or why the reference runs instead) and where each node runs; `plan_key` names it by
the shapes, and by the values that decide shapes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from ..codegen.wasm.target import Target
from ..codegen.wgsl.target import WgslTarget
from ..graph.dtypes import Array
from ..graph.ir import Graph
from ..graph.model import Model
from ..graph.room import Room
from .gpu_plan import GpuPlan
from .host import HostCalls, WholeGraph
from .plan import Plan

Dims: TypeAlias = "tuple[int, ...]"


@dataclass(frozen=True)
class Options:
    """What the page asked for. `strict`: a fault of the compiler surfaces instead of using the reference.
    `gpu`: the device, where provider is "webgpu"; `whole`: what its buffers are too small for is an error, because the
    other backend can do it, and not left to the reference.
    `room`: inputs whose lengths change with every run get plans that serve many lengths.
    `convolution`: "direct", "winograd" (wherever it is possible) or "auto" (where it is expected to be faster)."""

    provider: str = "wasm"
    target: Target = field(default_factory=Target)
    gpu: WgslTarget | None = None
    dims: Mapping[str, int] = field(default_factory=dict)
    max_plans: int = 8
    strict: bool = False
    convolution: str = "auto"
    whole: bool = False
    room: bool = False

    @staticmethod
    def read(given: Mapping[str, Any]) -> Options:
        """Options as JavaScript names them."""
        gpu = WgslTarget.read(given["gpu"]) if given.get("gpu") else None
        return Options(
            provider=given["provider"],
            target=Target(**given["target"]),
            gpu=_as_asked(gpu, given) if gpu else None,
            dims={name: int(n) for name, n in given["dims"].items()},
            max_plans=int(given["maxPlans"]),
            strict=bool(given["strict"]),
            convolution=str(given.get("convolution", "auto")),
            whole=bool(given.get("whole")),
            room=bool(given.get("room")),
        )


def _as_asked(gpu: WgslTarget, given: Mapping[str, Any]) -> WgslTarget:
    """The device, used as a session's options say."""
    return replace(
        gpu, merge=bool(given.get("mergeProducts", True)), half_sums=given.get("matrixSums", "f32") == "f16"
    )


@dataclass
class Prepared:
    """All that is known for one set of shapes. `plan` is None where the reference runs the whole graph."""

    key: str
    graph: Graph
    plan: Plan | GpuPlan | None = None
    reason: str = ""  # why there is no plan
    nodes: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    room: Room | None = None
    no_room: str = ""  # why a plan with room was not made, though lengths moved
    next: dict[str, Dims] | None = None  # shapes of the request that is expected to follow
    _whole: WholeGraph | None = None
    _calls: HostCalls | None = None

    @property
    def backend(self) -> str:
        return self.plan.backend if self.plan is not None else "reference"

    def run_reference(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The whole graph on onnx.reference: outputs by name."""
        if self._whole is None:
            self._whole = WholeGraph(self.graph)
        return self._whole.run(feeds)

    def host_call(self, call: str, inputs: Sequence[Any]) -> list[tuple[Any, str]]:
        """One host call of the plan: (value, short dtype) for each of its outputs."""
        if self._calls is None:
            self._calls = HostCalls(self.plan.host_calls if self.plan else {})
        return self._calls.run(call, inputs)


def plan_key(shapes: Mapping[str, Dims], values: Mapping[str, Array]) -> str:
    """`ids:1x128;x:1x3` and a digest of each value that decides shapes: the same inputs, the same key."""
    parts = [f"{name}:{'x'.join(map(str, dims))}" for name, dims in sorted(shapes.items())]
    for name, value in sorted(values.items()):
        content = np.ascontiguousarray(value)
        parts.append(f"{name}={hashlib.sha256(content.tobytes()).hexdigest()[:16]}")
    return ";".join(parts)


def static_shapes(model: Model, dims: Mapping[str, int]) -> dict[str, Dims] | None:
    """Every required input's shape, if declarations and overrides give them all; else None."""
    shapes: dict[str, Dims] = {}
    for info in model.signature.inputs:
        if info.optional:
            continue
        if info.kind != "tensor" or info.dims is None:
            return None
        known = [dims.get(d) if isinstance(d, str) else d for d in info.dims]
        if any(d is None for d in known):
            return None
        shapes[info.name] = tuple(d for d in known if d is not None)
    return shapes
