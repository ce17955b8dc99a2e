"""compile_gpu: a bound graph becomes a GpuPlan for one session on WebGPU.

lower with the WGSL target -> lifetimes and in-place reuse -> buffers -> bindings -> GpuPlan
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.wgsl.cache import Moves
from nnjit.codegen.wgsl.emit import Shader
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.codegen.wgsl.types import operand_bytes, stored_type
from nnjit.errors import CompileError, OutOfMemory
from nnjit.graph.ir import Graph, Value
from nnjit.graph.passes.merging import merge_products
from nnjit.lower.backend import Code
from nnjit.lower.build import lower
from nnjit.lower.forms import Forms
from nnjit.lower.lowered import Chosen, HostCall, Kernel, Lowered
from nnjit.lower.tensors import Buffer
from nnjit.runtime.compile import flops, primitive
from nnjit.runtime.gpu_bindings import ahead, bound, operands_of
from nnjit.runtime.gpu_early import Early, Form, form_of, loading
from nnjit.runtime.gpu_memory import GpuMemory, shared
from nnjit.runtime.gpu_plan import AnyRef, GpuBinding, GpuBuffer, GpuPlan, GpuRef, GpuStep
from nnjit.runtime.inplace import reuse
from nnjit.runtime.link import Link, linked, root_of
from nnjit.runtime.memory import Span
from nnjit.runtime.plan import HostRef, KernelInfo
from nnjit.runtime.tensor_types import api_name

Progress = Callable[..., None]
"""Stage, how much of it is done, of how much. At the stage "shader" its number and JSON, for who compiles it meanwhile;
at the stage "constants" which compilation it is, and the JSON of what can be loaded by now (GpuEarly in types.d.ts)."""


def compile_gpu(
    graph: Graph,
    target: WgslTarget,
    memory: GpuMemory,
    progress: Progress | None = None,
    key: str = "",
    chosen: Chosen | None = None,
    whole: bool = False,
    forms: Forms | None = None,
) -> GpuPlan:
    """The plan of `graph`; its constants get ids in `memory`, which is left as it was on failure. chosen: gives
    schedules that replace the rules' own; forms: the same for nodes that can be lowered in several ways. A node whose
    tensors are larger than the device's buffers stays with the reference, unless all is to be on the device (`whole`).

    Raises OutOfMemory where the device's buffers are too small, CompileError for a bug of the compiler."""
    outputs, saved = list(graph.outputs), memory.state()
    tell = _Telling(progress) if progress else None
    try:
        try:
            return _compiled(graph, target, memory, tell, key, chosen, forms)
        except OutOfMemory:
            if whole:
                raise
        graph.outputs[:] = outputs  # lowering may have put copies in their place
        return _compiled(graph, replace(target, bounded=True), memory, tell, key, chosen, forms)
    except Exception:
        memory.restore(saved)  # which weights lie together, too
        raise


def _compiled(
    graph: Graph,
    target: WgslTarget,
    memory: GpuMemory,
    tell: _Telling | None,
    key: str,
    chosen: Chosen | None,
    forms: Forms | None,
) -> GpuPlan:
    start = time.perf_counter()
    report = (lambda i, n: tell.progress("compile", i, n)) if tell else None
    early = None
    if tell and not memory.constants:  # else most of them are on the device, for another plan of the session
        early = Early(target, tell.number, tell.constants)
    graph = primitive(graph)
    if target.merge:
        graph = merge_products(graph, memory.joined, target.max_binding_bytes)
    made, step = (tell.made if tell else None), (early.step if early else None)
    lowered = lower(graph, target, report, chosen, forms, made=made, placing=ahead(target), told=step)
    if early:
        early.flush()
    took = 1e3 * (time.perf_counter() - start)
    plan = link_gpu(lowered, target, memory, key, early)
    plan.stats["lowerMs"] = took
    plan.told = (tell.progress, tell.told) if tell else None
    return plan


def link_gpu(
    lowered: Lowered, target: WgslTarget, memory: GpuMemory, key: str, early: Early | None = None
) -> GpuPlan:
    """The plan of a lowered graph. early: what was told of it already. `memory` is left as it was on failure."""
    plan = linked(lambda: GpuLinker(lowered, target, memory, key, early).plan(), lowered, memory)
    plan.target = target
    return plan


class _Telling:
    """Tells of each shader once, by number, and of constants. Numbers go on where a plan is made once more: what packs
    constants of the first attempt may be under way still, by its shaders' numbers."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.told: dict[Shader, int] = {}

    def made(self, code: Code) -> None:
        if isinstance(code, Shader):
            self.number(code)

    def number(self, shader: Shader) -> int:
        known = self.told.get(shader)
        if known is None:
            known = self.told[shader] = len(self.told)
            self.progress("shader", known, 0, json.dumps(shader.to_js()))
        return known

    def constants(self, making: int, text: str) -> None:
        self.progress("constants", making, 0, text)


class GpuLinker(Link):
    """Buffers, bindings and steps of a lowered graph."""

    def __init__(
        self, lowered: Lowered, target: WgslTarget, memory: GpuMemory, key: str, early: Early | None = None
    ) -> None:
        super().__init__(lowered)
        self.target, self.memory, self.key = target, memory, key
        self.packed: set[Buffer] = set()
        self.dtypes = self._element_types()
        self.early = early.numbers(self.once, self._form) if early else {}
        self.number: dict[Buffer, int] = {}
        self.buffers: list[GpuBuffer] = []
        self.shaders: dict[Shader, int] = {}
        self.kernels: list[KernelInfo] = []
        self.init: list[dict[str, Any]] = []

    def plan(self) -> GpuPlan:
        alias = self._alias()
        spans = self._spans(alias, self._nbytes)
        for b, span in spans.items():
            self._checked(span.nbytes, name=b.name)
        at, sizes = shared(spans)
        self.buffers += [GpuBuffer(n) for n in sizes]
        self.number |= at
        for buffer, other in alias.items():
            self.number[buffer] = at[root_of(alias, other)]
        kept, staged = self._constants()
        fresh = self._place_constants(kept)
        for b in staged:
            self.number[b] = len(self.buffers)
            self.buffers.append(
                self._checked(self._nbytes(b), staged=True, early=self.early.get(b, -1), name=b.name)
            )
        steps, segments = self._steps()
        self._init(fresh, staged)
        g = self.lowered.graph
        outputs = [self._ref(v, name) for v, name in zip(g.outputs, g.output_names, strict=True)]
        return GpuPlan(
            self.key, list(self.shaders), self.buffers, steps, segments, self.init,
            [self._ref(v) for v in g.inputs], outputs, self.kernels, self.host_calls, self._constant_outputs(),
            self._once_nodes(),
            {
                "arenaBytes": sum(sizes),
                "constantBytes": sum(self._nbytes(b) for b in kept),
                "kernels": len(self.shaders),
                "steps": len(steps),
            },
        )  # fmt: skip

    # ---- buffers ----

    def _element_types(self) -> dict[Buffer, str]:
        """The element type of each buffer: a storage buffer's elements may be wider than ONNX's."""
        found: dict[Buffer, str] = {}

        def put(b: Buffer, dtype: str) -> None:
            if found.setdefault(b, dtype) != dtype:
                raise CompileError(f"{b.name} is read as {dtype} and as {found[b]}", value=b.name)

        for s in self.lowered.steps:
            if isinstance(s, Kernel) and isinstance(s.code, Shader):
                for (b, _), bound in zip(s.places, operands_of(s), strict=True):
                    put(b, bound.dtype)
                    if bound.packed:
                        self.packed.add(b)
        for v, place in self.lowered.tensors.places.items():
            if v.dtype in SIZES:
                found.setdefault(place.buffer, v.dtype)
        return found

    def _form(self, b: Buffer) -> Form | None:
        """None: no kernel of the plan and no tensor of the model says what its elements are."""
        return form_of(b, self.dtypes[b], b in self.packed, self.target.half) if b in self.dtypes else None

    def _known(self, b: Buffer) -> Form:
        form = self._form(b)
        if form is None:
            raise CompileError(f"nothing says what the elements of {b.name} are", value=b.name)
        return form

    def _nbytes(self, b: Buffer) -> int:
        return self._known(b).nbytes

    def _checked(
        self, nbytes: int, constant: int = -1, staged: bool = False, early: int = -1, *, name: str = ""
    ) -> GpuBuffer:
        limit = self.target.max_buffer_bytes
        if nbytes > limit:
            raise OutOfMemory(
                f"The tensor {name!r} takes {nbytes / 2**20:.4g} MiB; a buffer of this GPU holds "
                f"{limit / 2**20:.4g} MiB",
                hint="use smaller input shapes, or executionProviders: ['wasm']",
                value=name,
                needed=nbytes,
                available=limit,
            )
        return GpuBuffer(nbytes, constant, staged, early)

    def _alias(self) -> dict[Buffer, Buffer]:
        """Outputs in place of inputs, where both have the same kind of elements."""
        alias = reuse(self.run, self._pinned())
        return {out: b for out, b in alias.items() if self.dtypes[out] == self.dtypes[b]}

    def _place_constants(self, kept: list[Buffer]) -> set[Buffer]:
        """Numbers for constants; returns those that no earlier plan of the session has loaded."""
        keys = self._content_keys()
        fresh: dict[int, Buffer] = {}
        numbers: dict[int, int] = {}
        for b in kept:
            at, new = self.memory.constant(self._key_of(b, keys), self._nbytes(b))
            if at not in numbers:  # else the same bytes under another name
                numbers[at] = len(self.buffers)
                early = self.early.get(b, -1) if new else -1
                self.buffers.append(self._checked(self._nbytes(b), at, early=early, name=b.name))
            self.number[b] = numbers[at]
            if new:
                fresh[at] = b
            elif at in fresh:
                self.twins[b] = fresh[at]
        return set(fresh.values())

    # ---- steps ----

    def _bind(self, s: Kernel) -> tuple[int, list[GpuBinding], Moves]:
        """The shader of a step, its bindings, and where operands lie in them (see `grouped`)."""
        shader, bindings, moves = bound(s, self.number, lambda at: self.buffers[at].nbytes, self.target)
        at = self.shaders.setdefault(shader, len(self.shaders))
        if at == len(self.kernels):
            self.kernels.append(KernelInfo(s.spec, s.schedule, len(shader.wgsl)))
        return at, bindings, moves

    def _steps(self) -> tuple[list[GpuStep], list[dict[str, Any]]]:
        steps: list[GpuStep] = []
        segments: list[dict[str, Any]] = []
        first = 0

        def close() -> None:
            if len(steps) > first:
                segments.append({"kind": "gpu", "first": first, "last": len(steps)})

        for s in self.run:
            if isinstance(s, HostCall):
                close()
                first = len(steps)
                segments.append({**self._host(s), "kind": "host"})
                continue
            shader, bindings, moves = self._bind(s)
            spec = s.spec
            touched = sum(operand_bytes(o, self.target.half) for o in spec.operands)
            steps.append(
                GpuStep(shader, bindings, spec.name, f"{spec.name}_{spec.key[:6]}", self.lowered.graph.names(s.nodes),
                        flops(s), touched, moves)
            )  # fmt: skip
        close()
        return steps, segments

    def _ref(self, v: Value, name: str = "") -> AnyRef:
        place = self.lowered.tensors.places.get(v)
        if place is None or v.shape is None or place.buffer not in self.number:
            return HostRef(v.name, api_name(v.dtype))
        nbytes = v.size * SIZES[v.dtype] if v.size is not None else 0
        stored = stored_type(v.dtype, self.target.half)
        return GpuRef(name or v.name, api_name(v.dtype), v.shape, self.number[place.buffer], nbytes, stored)

    # ---- what is done at load ----

    def _init(self, fresh: set[Buffer], staged: dict[Buffer, Span]) -> None:
        """Loads in the order of use; staged buffers are given back after their last."""
        needed = self._needed(fresh)
        loaded: set[Buffer] = set()
        written = {b for s in self.once for b in s.writes}
        for i, s in enumerate(self.once):
            if i not in needed:
                continue
            for b in (self.twins.get(b, b) for b in s.reads):
                if (b in staged or b in fresh) and b not in loaded and b not in written and b.constant:
                    loaded.add(b)
                    self.init += self._load(b)
            if isinstance(s, HostCall):
                self.init.append({**self._host(s), "kind": "host"})
            else:
                shader, bindings, _ = self._bind(s)
                places = [[b.buffer, b.offset, b.size] for b in bindings]
                self.init.append({"kind": "step", "shader": shader, "bindings": places})
            for b, span in staged.items():
                if span.last == i:
                    self.init.append({"kind": "free", "buffer": self.number[b]})
        for b in [b for b in self.number if b in fresh]:
            if b not in loaded and b not in written:
                self.init += self._load(b)

    def _load(self, b: Buffer) -> Iterator[dict[str, Any]]:
        if b.source is None:
            raise CompileError(f"constant {b.name} has no source", value=b.name)
        return loading(b, {"buffer": self.number[b]}, self._known(b), self.target.half)

    def where(self, b: Buffer) -> dict[str, Any]:
        """A buffer, the type of its elements as the model has them, and as they are stored."""
        return {"buffer": self.number[b], **self._known(b).filling()}
