"""A GpuPlan carried out on CPython: constants go from the model's bytes to where the plan says, kernels are run by the
interpreter of their loop nests, through the plan's own bindings."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np

from nnjit.codegen import interp
from nnjit.codegen.dtypes import NUMPY, SIZES
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.wgsl.cache import Moves
from nnjit.lower.lowered import Kernel
from nnjit.runtime.gpu_plan import GpuPlan, GpuRef

SLACK = 1024
"""Bytes past a buffer's end, which the interpreter may look at and a device would not give."""


class Simulated:
    """A plan whose elements are stored as ONNX has them (f32, i32, f16 with shader-f16, 64-bit integers)."""

    def __init__(self, plan: GpuPlan, model: bytes, before: Simulated | None = None) -> None:
        """before: another plan of the same session, whose constants are there."""
        self.plan = plan
        self.constants: dict[int, Any] = dict(before.constants) if before else {}
        self.buffers = []
        for b in plan.buffers:
            made = np.full(b.nbytes + SLACK, 0xFF, np.uint8)  # NaNs, so that what was never written shows
            self.buffers.append(self.constants.setdefault(b.constant, made) if b.constant >= 0 else made)
        assert plan.lowered is not None
        kernels = (s for s in plan.lowered.steps if s.once and isinstance(s, Kernel))
        for item in plan.init:
            if item["kind"] == "step":
                # operands begin at their places: an init item does not say where in its bindings that is
                (s,) = islice(kernels, 1)
                self._step(item["shader"], item["bindings"], (), [at for _, at in s.places])
            elif item["kind"] in ("range", "bytes"):
                where = item.get("start", 0), item.get("start", 0) + item.get("length", 0)
                data = item["data"] if item["kind"] == "bytes" else model[slice(*where)]
                at = item.get("at", 0)
                self.buffers[item["buffer"]][at : at + len(data)] = np.frombuffer(data, np.uint8)

    def _step(self, shader: int, bindings: Any, moves: Moves, places: Any = None) -> None:
        info = self.plan.kernels[shader]
        assert places is None or len(bindings) == len(places), "operands of a step at load share a binding"
        arrays = []
        for n, o in enumerate(info.spec.operands):
            at, first = moves[n] if moves else (n, 0)
            buffer, offset, _ = bindings[at]
            whole = self.buffers[buffer].view(NUMPY[o.dtype])
            arrays.append(whole[offset // SIZES[o.dtype] + first :] if places is None else whole[places[n] :])
        interp.run(apply(info.spec, info.schedule), arrays)

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        """Outputs by name."""
        for ref in self.plan.inputs:
            assert isinstance(ref, GpuRef)
            data = np.frombuffer(feeds[ref.name].tobytes(), np.uint8)
            self.buffers[ref.buffer][: len(data)] = data
        for step in self.plan.steps:
            bindings = [(b.buffer, b.offset, b.size) for b in step.bindings]
            self._step(step.shader, bindings, step.moves)
        found = {}
        for ref in self.plan.outputs:
            assert isinstance(ref, GpuRef)
            dtype = {"float32": np.float32, "float16": np.float16, "int64": np.int64}[ref.type]
            found[ref.name] = self.buffers[ref.buffer][: ref.nbytes].view(dtype).reshape(ref.dims).copy()
        return found
