"""Panels of constants made over on a GPU, so that a kernel with other tiles can read them.

Takes a plan, the steps of a kernel, its schedule before and after; gives an adoption for the engine: the shaders that
take old panels apart and put new ones together, buffers for them, and each step's new shader and bindings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nnjit.codegen.schedule.steps import Pack, Schedule
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wgsl.cache import emitted
from nnjit.codegen.wgsl.emit import Shader
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.codegen.wgsl.types import stored_bytes
from nnjit.runtime.gpu_bench import default_shader
from nnjit.runtime.gpu_memory import GpuMemory, padded
from nnjit.runtime.gpu_plan import GpuBinding, GpuBuffer, GpuPlan, GpuStep
from nnjit.runtime.repack import Refused, other_panels, unpacking
from nnjit.tune.bench import packing


@dataclass(slots=True)
class _Made:
    """What an adoption changes, until the engine has carried it out."""

    buffers: list[GpuBuffer] = field(default_factory=list)
    steps: dict[int, list[GpuBinding]] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    dropped: list[int] = field(default_factory=list)


class GpuRepacking:
    """See the module. `alone`: whether the session has no other plan. `commit` after the engine has done it, `undo`
    where it did not."""

    def __init__(
        self, plan: GpuPlan, memory: Callable[[], GpuMemory], target: WgslTarget, alone: Callable[[], bool]
    ) -> None:
        self.plan, self._memory, self.target, self.alone = plan, memory, target, alone
        self._made = _Made()

    def plan_for(
        self, steps: Sequence[int], spec: KernelSpec, before: Schedule, after: Schedule
    ) -> dict[str, Any]:
        """{steps, buffers, work, free}: see `GpuAdoption` in web/engine/webgpu/types.d.ts. Raises Refused."""
        made = self._made = _Made()
        work: list[dict[str, Any]] = []
        bindings = {n: list(self.plan.steps[n].bindings) for n in steps}
        for operand, o, n in other_panels(spec, before, after):
            panels: dict[GpuBinding, GpuBinding] = {}  # steps that share a constant share its panels
            for number in steps:
                at, shift = _place(self.plan.steps[number], operand)
                if shift:
                    raise Refused("its constant is a part of another")
                source = bindings[number][at]
                if source not in panels:
                    panels[source] = self._made_over(spec, operand, source, before, o, after, n, work)
                bindings[number][at] = panels[source]
            for source in panels:
                if o and self.alone() and not self._read_elsewhere(source.buffer, steps):
                    made.dropped.append(source.buffer)
        made.steps = bindings
        changed = []
        for number in steps:
            shader = emitted(spec, after, self.target, self.plan.steps[number].moves)[0]
            changed.append({"step": number, "shader": shader.to_js(), "bindings": _plain(bindings[number])})
        return {
            "steps": changed,
            "buffers": [b.to_js() for b in made.buffers],
            "work": work,
            "free": list(dict.fromkeys(made.dropped)),
        }

    def commit(self) -> None:
        """The engine has done it: who makes a plan anew finds the panels by what they hold."""
        made, memory = self._made, self._memory()
        self.plan.buffers += made.buffers
        for number, bindings in made.steps.items():
            self.plan.steps[number].bindings = bindings
        gone = {self.plan.buffers[n].constant for n in made.dropped}
        for key in [k for k, at in memory.constants.items() if at in gone]:
            del memory.constants[key]
        memory.constants |= made.held
        self._made = _Made()

    def undo(self) -> None:
        self._made = _Made()

    def _read_elsewhere(self, buffer: int, steps: Sequence[int]) -> bool:
        return any(
            b.buffer == buffer
            for n, step in enumerate(self.plan.steps)
            if n not in steps
            for b in step.bindings
        )

    def _made_over(
        self, spec: KernelSpec, operand: int, source: GpuBinding, before: Schedule, old: Pack | None,
        after: Schedule, new: Pack | None, work: list[dict[str, Any]],
    ) -> GpuBinding:  # fmt: skip
        """Where a constant lies for the new schedule; appends the shaders that put it there to `work`."""
        memory = self._memory()
        if spec.operands[operand].packed:
            raise Refused("its bytes lie four to a word")
        size = stored_bytes(spec.operands[operand].dtype, self.target.half)
        plain = padded(spec.operands[operand].size * size)
        if new is None:
            raise Refused("it would read a constant in the model's order")
        packed = packing(spec, after, new)
        nbytes = padded(packed.operands[1].size * size)
        if max(nbytes, plain) > min(self.target.max_buffer_bytes, self.target.max_binding_bytes):
            raise Refused("a buffer is too small for its panels")
        from_ = source
        if old is not None:
            from_ = self._buffer(GpuBuffer(plain, staged=True))
            for unpack in unpacking(spec, before, old):
                work.append(self._work(default_shader(unpack, self.target), source, from_))
        held = self._keys(spec, source.buffer, before, old, packed)
        number = memory.next
        memory.next += 1
        memory.sizes[number] = nbytes
        to = self._buffer(GpuBuffer(nbytes, number))
        self._made.held |= dict.fromkeys(held, number)
        work.append(self._work(default_shader(packed, self.target), from_, to))
        return to

    def _buffer(self, buffer: GpuBuffer) -> GpuBinding:
        self._made.buffers.append(buffer)
        return GpuBinding(len(self.plan.buffers) + len(self._made.buffers) - 1, 0, buffer.nbytes)

    def _work(self, shader: Shader, source: GpuBinding, target: GpuBinding) -> dict[str, Any]:
        return {"shader": shader.to_js(), "bindings": _plain([source, target])}

    def _keys(
        self, spec: KernelSpec, buffer: int, before: Schedule, old: Pack | None, packed: KernelSpec
    ) -> list[str]:
        """What the new panels hold, as a plan asks for it: the pack kernel's key and where its source came from."""
        if old is None:
            return []
        was, number = packing(spec, before, old).key, self.plan.buffers[buffer].constant
        return [f"({packed.key}{key[len(was) + 1:]}" for key, at in self._memory().constants.items()
                if at == number and key.startswith(f"({was} ")]  # fmt: skip


def _place(step: GpuStep, operand: int) -> tuple[int, int]:
    """Which binding an operand is read through, from which element on; one that is packed has one of its own."""
    return step.moves[operand] if step.moves else (operand, 0)


def _plain(bindings: Sequence[GpuBinding]) -> list[list[int]]:
    return [[b.buffer, b.offset, b.size] for b in bindings]
