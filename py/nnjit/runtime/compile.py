"""compile_plan: a bound graph becomes a Plan for one session's memory.

lower -> lifetimes and in-place reuse -> addresses -> link all kernels into one module -> Plan
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.schedule.steps import ScheduleError
from nnjit.codegen.schedule.unchanged import changed, conditions_first
from nnjit.codegen.wasm.builder import FunctionBuilder
from nnjit.codegen.wasm.cache import emitted
from nnjit.codegen.wasm.planfn import MAX_TILES, PlanStep, plan_module
from nnjit.codegen.wasm.target import Target
from nnjit.codegen.wasm.team_words import LENGTHS
from nnjit.errors import CompileError, OutOfMemory
from nnjit.frontend.expand import expand
from nnjit.graph.infer import mark_once
from nnjit.graph.ir import Graph, Value
from nnjit.graph.passes import PASSES
from nnjit.lower.build import lower
from nnjit.lower.forms import Forms
from nnjit.lower.lowered import Chosen, HostCall, Kernel, Loop, Lowered
from nnjit.lower.registry import has_kernel
from nnjit.lower.tensors import Buffer
from nnjit.runtime.inplace import reuse
from nnjit.runtime.link import Link, held, linked, root_of
from nnjit.runtime.memory import LIMIT, SessionMemory, Span, place
from nnjit.runtime.plan import HostRef, KernelInfo, Plan, Ref, Step, TensorRef
from nnjit.runtime.rehearsal import rehearsed
from nnjit.runtime.shares import caller_ms, share
from nnjit.runtime.tensor_types import api_name

Progress = Callable[[str, int, int], None]


def compile_plan(
    graph: Graph,
    target: Target,
    memory: SessionMemory,
    progress: Progress | None = None,
    key: str = "",
    chosen: Chosen | None = None,
    forms: Forms | None = None,
) -> Plan:
    """The plan of `graph`; its constants and arena are placed in `memory`, which is left as it was on failure.
    chosen: gives tuned schedules. forms: see lower.

    Raises OutOfMemory where 4 GiB do not hold the model, CompileError for a bug of the compiler."""
    start = time.perf_counter()
    report = (lambda i, n: progress("compile", i, n)) if progress else None
    lowered = lower(primitive(graph), target, report, chosen, forms, held=held(memory.constants))
    took = 1e3 * (time.perf_counter() - start)
    plan = link_plan(lowered, target, memory, key)
    plan.stats["lowerMs"] = took
    return plan


def link_plan(lowered: Lowered, target: Target, memory: SessionMemory, key: str) -> Plan:
    """The plan of a lowered graph. `memory` is left as it was on failure."""
    return linked(lambda: Linker(lowered, target, memory, key).plan(), lowered, memory)


def primitive(graph: Graph) -> Graph:
    """`graph` with ONNX's function operators that have no kernel replaced by their definitions."""
    if all(has_kernel(n) for n in graph.nodes):
        return graph
    graph = expand(graph, has_kernel)
    mark_once(graph)
    for step in PASSES:
        graph = step(graph)
    mark_once(graph)
    return graph


class Linker(Link):
    """Addresses, argument blocks and steps of a lowered graph."""

    loops = True

    def __init__(self, lowered: Lowered, target: Target, memory: SessionMemory, key: str) -> None:
        super().__init__(lowered)
        self.target, self.memory, self.key = target, memory, key
        self.address: dict[Buffer, int] = {}
        self.slots: dict[int, int] = {}
        self.kernels: list[KernelInfo] = []
        self.functions: list[FunctionBuilder] = []
        self.init: list[dict[str, Any]] = []
        self.pointers: dict[int, tuple[int, ...]] = {}
        self.ns = 0.0

    def plan(self) -> Plan:
        extends = self._extends()
        alias = reuse(self.run, self._pinned(), dict(extends.values()))
        self.run = [s if isinstance(s, HostCall) else self._in_place(s, alias) for s in self.run]
        spans = self._spans(alias, lambda b: b.nbytes)
        for i, v in enumerate(self.lowered.graph.lengths):  # kernels look for them among the control words
            buffer = self.lowered.tensors.places[v].buffer
            spans.pop(buffer, None)
            self.address[buffer] = LENGTHS + 8 * i
        arena = place(list(spans.values()))
        persistent, staged = self._constants()
        needed = max(arena, place(list(staged.values())))
        fresh = self._place_constants(persistent)
        base = self.memory.arena_of(needed)
        for buffer, span in spans.items():
            self.address[buffer] = base + span.address
        for buffer, root in alias.items():
            self.address[buffer] = self.address[root_of(alias, root)]
        for buffer, span in staged.items():
            self.address[buffer] = base + span.address
        self.slot_base = self.memory.next_slot
        steps, segments = self._steps()
        self._init(fresh, staged)
        if self.memory.top > LIMIT:
            raise OutOfMemory(
                f"The model needs {self.memory.top / 2**30:.1f} GiB; WebAssembly memory holds 4 GiB",
                hint="use smaller input shapes or a model with smaller weights",
            )
        flags = [
            PlanStep(
                s.slot, s.args, s.tiles, s.parallel, s.barrier, s.stride, s.unit, s.wake, s.loop, s.times, s.advance
            )
            for s in steps
        ]  # fmt: skip
        module = plan_module(self.functions, flags, self.slot_base, self.target.shared)
        self.memory.next_slot = self.slot_base + len(self.functions)
        return Plan(
            self.key, self.target.shared, self.memory.pages, module, self.slot_base, len(self.functions), steps,
            segments, self.init, [self._ref(v) for v in self.lowered.graph.inputs], self._output_refs(),
            self.kernels, self.host_calls, self._constant_outputs(), self._once_nodes(),
            {
                "arenaBytes": arena,
                "constantBytes": sum(b.nbytes for b in persistent),
                "moduleBytes": len(module),
                "kernels": len(self.functions),
                "steps": len(steps),
                "guessMs": self.ns / 1e6,
            },
            pointers=[self.pointers[s.args] for s in steps],
            caller_ms=caller_ms(self.ns, len(module)),
            rehearsal=rehearsed((s.slot, s.flops) for s in steps),
            extends={
                name: self.lowered.graph.extends[name]
                for name, (out, fed) in extends.items()
                if alias.get(out) is fed
            },
        )  # fmt: skip

    def _extends(self) -> dict[str, tuple[Buffer, Buffer]]:
        """By output that goes on from an input: its buffer and the input's, where both are as wide."""
        g, places = self.lowered.graph, self.lowered.tensors.places
        inputs, outputs = {v.name: v for v in g.inputs}, dict(zip(g.output_names, g.outputs, strict=True))
        found: dict[str, tuple[Buffer, Buffer]] = {}
        for name, of in g.extends.items():
            out, fed = outputs[name], inputs[of]
            if out in places and fed in places and out.shape == fed.shape and out.dtype == fed.dtype:
                found[name] = places[out].buffer, places[fed].buffer
        return found

    def _place_constants(self, kept: Sequence[Buffer]) -> dict[Buffer, None]:
        """Addresses of constants; returns those that no earlier plan of the session has loaded, in the order of use: a
        set's order is that of Python's addresses, and the same model is to give the same plan."""
        keys = self._content_keys()
        fresh: dict[int, Buffer] = {}
        for b in kept:
            at, new = self.memory.constant(self._key_of(b, keys), b.nbytes)
            self.address[b] = at
            if new:
                fresh[at] = b
            elif at in fresh:
                self.twins[b] = fresh[at]
        return dict.fromkeys(fresh.values())

    def _init(self, fresh: dict[Buffer, None], staged: dict[Buffer, Span]) -> None:
        """Loads in the order of use; steps whose results an earlier plan left in memory are skipped."""
        needed = self._needed(fresh)
        loaded: set[Buffer] = set()
        written = {b for s in self.once for b in s.writes}

        def load(b: Buffer) -> None:
            if b in loaded or b in written or not b.constant:
                return
            loaded.add(b)
            self._load(b)

        for i, s in enumerate(self.once):
            if i not in needed:
                continue
            for b in (self.twins.get(b, b) for b in s.reads):
                if b in staged or b in fresh:
                    load(b)
            if isinstance(s, HostCall):
                self.init.append({**self._host(s), "kind": "host"})
            else:
                slot, args = self._bind(s)
                self.init.append(
                    {
                        "kind": "step",
                        "slot": slot,
                        "args": args,
                        "tiles": _tiles(s),
                        "parallel": s.spec.scratch < 0,
                    }
                )
        for b in fresh:
            load(b)
        # argument blocks are written first: steps at load need theirs
        self.init.sort(key=lambda item: not item.pop("first", False))

    def _load(self, b: Buffer) -> None:
        const = b.source
        if const is None:
            raise CompileError(f"constant {b.name} has no source", value=b.name)
        address = self.address[b]
        for part in const.parts or (const,):
            r = part.range
            if part.array is None and r is not None:
                self.init.append(
                    {
                        "kind": "range",
                        "address": address,
                        "source": r.file,
                        "start": r.start,
                        "length": r.length,
                    }
                )
            elif part.nbytes:
                self.init.append({"kind": "bytes", "address": address, "data": part.raw()})
            address += part.nbytes

    # ---- steps ----

    def _bind(self, s: Kernel) -> tuple[int, int]:
        """The table slot of a step's kernel and the address of its argument block."""
        code = s.code
        assert isinstance(code, FunctionBuilder)
        at = self.slots.get(id(code))
        if at is None:
            at = self.slots[id(code)] = len(self.functions)
            self.functions.append(code)
            self.kernels.append(KernelInfo(s.spec, s.schedule, len(code.code), s.reach, s.place))
        pointers = [
            self.address[b] + offset * SIZES[o.dtype]
            for (b, offset), o in zip(s.places, s.spec.operands, strict=True)
        ]
        blocks = [pointers]
        if s.spec.scratch >= 0:  # a block of pointers for each thread, equal but for its own memory
            each = s.places[s.spec.scratch][0].nbytes // max(1, self.target.threads)
            for thread in range(1, self.target.threads):
                blocks.append(list(pointers))
                blocks[-1][s.spec.scratch] += thread * each
        words = np.array(blocks, np.int64)[None]
        if s.loop is not None:  # blocks for each turn
            by = [n * SIZES[o.dtype] for n, o in zip(s.moves, s.spec.operands, strict=True)]
            turns = np.arange(s.loop.times, dtype=np.int64)  # numpy's own have 32 bits in a browser
            words = words + turns[:, None, None] * np.array(by, np.int64)
        address = self.memory.take(4 * words.size)
        self.pointers[address] = tuple(pointers)
        data = words.astype(np.uint32).tobytes()
        self.init.append({"kind": "bytes", "address": address, "data": data, "first": True})
        return self.slot_base + at, address

    def _in_place(self, s: Kernel, alias: Mapping[Buffer, Buffer]) -> Kernel:
        """The step as one that writes only what changes, where it writes in the place of an operand."""
        if len(s.writes) != 1 or s.writes[0] not in alias or s.loop is not None:
            return s
        out = s.writes[0]
        there = alias[out], next(at for b, at in s.places if b is out)
        if there not in s.places:  # another step wrote there first, or this one writes behind what it reads
            return s
        place = s.places.index(there)
        where = changed(s.spec, place)
        if where is None:
            return s
        schedule = conditions_first(s.schedule, where)
        try:
            code, tiles, _ = emitted(s.spec, schedule, self.target, s.reach, place)
        except ScheduleError:
            return s
        return replace(s, schedule=schedule, code=code, tiles=tiles, place=place)

    def _steps(self) -> tuple[list[Step], list[dict[str, Any]]]:
        steps: list[Step] = []
        segments: list[dict[str, Any]] = []
        pending: list[tuple[set[tuple[int, int]], set[tuple[int, int]]]] = []
        first = count = 0
        loop: Loop | None = None
        for s in self.run:
            if isinstance(s, HostCall):
                if len(steps) > first:
                    segments.append({"kind": "wasm", "first": first, "last": len(steps)})
                first = len(steps)
                pending = []
                segments.append({**self._host(s), "kind": "host"})
                continue
            slot, args = self._bind(s)
            reads, writes = self._touched(s.reads), self._touched(s.writes)
            if steps and len(steps) > first and _conflict(pending, reads, writes):
                steps[-1].barrier = True
                pending = []
            pending.append((reads, writes))
            tiles = _tiles(s)
            spec = s.spec
            how = share(spec, tiles, self.target.threads, s.threads or self.lowered.shares.get(spec.key, ""))
            times = s.loop.times if s.loop else 1
            if s.loop is not None and s.loop is not loop:
                count += 1
            loop = s.loop
            each = 4 * len(spec.operands)
            self.ns += how.ns * times
            steps.append(
                Step(slot, args, tiles, how.parallel, loop is not None, spec.name,
                     f"{spec.name}_{spec.key[:6]}", self.lowered.graph.names(s.nodes), times * flops(s),
                     times * sum(o.size * SIZES[o.dtype] for o in spec.operands if o.role != "scratch"),
                     each if spec.scratch >= 0 else 0, how.unit, how.wake, count if loop else 0, times,
                     each * (self.target.threads if spec.scratch >= 0 else 1) if loop else 0)
            )  # fmt: skip
            if loop is not None:  # the next turn waits for this one
                pending = []
        if len(steps) > first:
            segments.append({"kind": "wasm", "first": first, "last": len(steps)})
        return steps, segments

    def _touched(self, buffers: Sequence[Buffer]) -> set[tuple[int, int]]:
        return {(self.address[b], self.address[b] + b.nbytes) for b in buffers if not b.constant}

    def _ref(self, v: Value, name: str = "") -> Ref:
        place = self.lowered.tensors.places.get(v)
        if place is None or v.shape is None or place.buffer not in self.address:
            return HostRef(v.name, api_name(v.dtype))  # the engine finds host values by the value's own name
        nbytes = v.size * SIZES[v.dtype] if v.size is not None else 0
        return TensorRef(name or v.name, api_name(v.dtype), v.shape, self.address[place.buffer], nbytes)

    def _output_refs(self) -> list[Ref]:
        g = self.lowered.graph
        return [self._ref(v, name) for v, name in zip(g.outputs, g.output_names, strict=True)]


def _conflict(
    before: list[tuple[set[tuple[int, int]], set[tuple[int, int]]]],
    reads: set[tuple[int, int]],
    writes: set[tuple[int, int]],
) -> bool:
    """Whether a step touches what a step since the last barrier writes, or writes what one reads."""

    def meet(a: set[tuple[int, int]], b: set[tuple[int, int]]) -> bool:
        return any(x[0] < y[1] and y[0] < x[1] for x in a for y in b)

    return any(meet(w, reads) or meet(w, writes) or meet(r, writes) for r, w in before)


def _tiles(s: Kernel) -> int:
    if s.tiles >= MAX_TILES:
        raise CompileError(f"{s.spec.name} has {s.tiles} tiles", kernel=s.spec.name)
    return s.tiles


def flops(s: Kernel) -> int:
    return s.spec.points * (2 if any(st.body is not None for st in s.spec.stages) else 1)
