"""A session on the compiler's side: one model, its memory map, and a plan for each set of input shapes.

Takes a Model and options; gives its signature as plain data, and for concrete shapes a Prepared: the
plan to load (or why the reference runs instead), where each node runs, and which old plans to drop.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..codegen.schedule.apply import apply
from ..codegen.schedule.gpu_roles import usable
from ..codegen.schedule.steps import Schedule, describe
from ..codegen.spec import KernelSpec
from ..codegen.wasm.emit import emit
from ..codegen.wasm.listing import listing
from ..codegen.wgsl.cache import emitted
from ..errors import Cancelled, CompileError, NnjitError, SessionError
from ..graph.dtypes import Array
from ..graph.fitting import Fitting, fitting
from ..graph.ir import Graph
from ..graph.model import Model
from ..graph.room import NoRoom
from ..graph.signature import TensorInfo
from ..lower.backend import plain_schedule
from ..lower.forms import Forms
from ..lower.lowered import Chosen
from ..lower.registry import Unsupported
from . import placement, shape_inputs
from .ahead import foreseen
from .compile import compile_plan
from .course import Course
from .gpu_compile import compile_gpu
from .gpu_memory import GpuMemory
from .gpu_plan import GpuPlan
from .gpu_proof import Proof
from .host import WholeGraph
from .memory import SessionMemory
from .plan import Plan
from .prepared import Dims, Options, Prepared, plan_key
from .rooms import Rooms
from .tensor_types import api_name

Progress = Callable[..., None]  # stage, done, total; a fourth in what compile_gpu tells


class CompilerSession:
    """See the module. Not thread-safe: the bridge makes one call at a time. chosen and forms: tuned schedules and forms
    for plans to come; tunings: those under way, by plan."""

    def __init__(self, model: Model, options: Options) -> None:
        self.model = model
        self.options = options
        self.plans: OrderedDict[str, Prepared] = OrderedDict()
        self._leaving: dict[str, Prepared] = {}
        """Given up for others, and perhaps still run: a plan made beside runs takes their place between two of them."""
        self.value_inputs: tuple[str, ...] = ()
        self.chosen: Chosen | None = None
        self.forms = Forms(options.convolution)
        self.tunings: dict[str, Course] = {}
        self.refused: dict[str, set[Schedule]] = {}
        """By a spec's key: the schedules whose kernels this device rejected or computed wrongly."""
        self.proof: Proof | None = None
        self.rooms = Rooms(reach=not options.gpu)
        # What `can_compile` bound, and the shapes: the first plan's graph, usually.
        self._bound: tuple[str, Graph | None] = "", None
        self._memory: SessionMemory | GpuMemory = GpuMemory() if options.gpu else SessionMemory()
        # The plan made last and the memory before it, until the page says that it is loaded.
        self._unloaded: tuple[str, SessionMemory | GpuMemory] = "", self._memory

    def describe(self) -> dict[str, Any]:
        """Names, types and dims of inputs and outputs, and the size of the model, as plain data."""
        graph = self.model.graph
        return {
            "name": graph.name,
            "inputs": [self._info(info) for info in self.model.signature.inputs],
            "outputs": [self._info(info) for info in self.model.signature.outputs],
            "opset": {domain or "ai.onnx": version for domain, version in graph.opset.items()},
            "nodes": len(self.model.nodes),
            "parameterBytes": sum(value.const.nbytes for value in graph.constants() if value.const),
            "files": list(self.model.file_names),
        }

    def _info(self, info: TensorInfo) -> dict[str, Any]:
        dims = info.dims and [self.options.dims.get(d, d) if isinstance(d, str) else d for d in info.dims]
        return {
            "name": info.name,
            "kind": info.kind,
            "type": api_name(info.dtype),
            "dims": None if info.dims is None else list(dims or ()),
            "optional": info.optional,
        }

    def prepare(
        self,
        shapes: Mapping[str, Dims],
        values: Mapping[str, Array],
        progress: Progress | None = None,
        exact: bool = False,
    ) -> tuple[Prepared, list[str]]:
        """The plan for these input shapes, compiled unless it is there, and keys of plans given up for it.

        `values` holds the small inputs' contents: those that decide shapes become part of the plan's key. With the
        option `room`, shapes that moved against earlier ones get a plan with room; `exact`: not so.
        Raises ShapeError and the like for shapes that do not fit; the session's other plans stay as they are.
        """
        used = {name: values[name] for name in self.value_inputs if name in values}
        key = plan_key(shapes, used)
        if key in self.plans:
            self.plans.move_to_end(key)
            return self.plans[key], []
        no_room = ""
        if self.options.room and not exact and self.options.provider != "reference":
            try:
                prepared = self._with_room(shapes, used, progress)
            except NoRoom as refusal:
                prepared, no_room = None, str(refusal)
            if prepared is not None:
                self.plans[prepared.key] = prepared
                self.plans.move_to_end(prepared.key)
                return prepared, self._evict()
        started = time.perf_counter()
        graph, used = self._bind(shapes, values)
        bound = time.perf_counter()
        key = plan_key(shapes, used)
        prepared = self._compile(key, graph, progress)
        prepared.seconds = {"bind": bound - started, "compile": time.perf_counter() - bound}
        prepared.no_room = no_room
        self.plans[key] = prepared
        self.rooms.saw(shapes, plan_key({}, used))
        if self.options.room and prepared.plan is not None and not used and not exact:
            prepared.next = foreseen(self.model.signature, shapes)
        return prepared, self._evict()

    def _with_room(
        self, shapes: Mapping[str, Dims], used: Mapping[str, Array], progress: Progress | None
    ) -> Prepared | None:
        """A plan that serves these shapes and others, if they moved against earlier ones; NoRoom says why not."""
        fixed = plan_key({}, used)
        known = [(p, p.room) for p in self.plans.values() if p.room and p.key.endswith(f"|{fixed}")]
        served = [(room, n, p) for p, room in known if (n := room.n_of(shapes)) is not None]
        found = [(room.run.exact(n), p) for room, n, p in served]
        if found:
            return min(found, key=lambda pair: pair[0])[1]
        started = time.perf_counter()
        try:
            room = self.rooms.make(self.model, shapes, fixed, self.options.dims, used)
            if room is None:
                return None
            bound = time.perf_counter()
            key = f"{room.text()}|{fixed}"
            prepared = self._compile(key, room.graph, progress)
        except (NoRoom, Cancelled):
            raise
        except Exception as error:  # a plan of these shapes alone may go, or fit
            if self.options.strict and _is_fault(error):
                raise
            raise self.rooms.refuse(shapes, fixed, f"{type(error).__name__}: {error}") from error
        if prepared.plan is None:
            raise self.rooms.refuse(shapes, fixed, prepared.reason)
        prepared.seconds = {"bind": bound - started, "compile": time.perf_counter() - bound}
        prepared.room = room
        self.rooms.saw(shapes, fixed, room)
        return prepared

    def _bind(
        self, shapes: Mapping[str, Dims], values: Mapping[str, Array]
    ) -> tuple[Graph, dict[str, Array]]:
        """The graph for these shapes. Inputs found to decide shapes are bound by value and remembered."""
        used = {name: values[name] for name in self.value_inputs if name in values}
        key, bound = self._bound
        if bound is not None and key == plan_key(shapes, used):
            self._bound = "", None  # lowering changes it
            return bound, used
        graph = self.model.bind(shapes=shapes, dims=self.options.dims, values=used)
        if self.options.provider == "reference":
            return graph, used  # the reference finds shapes as it goes
        found = [name for name in shape_inputs.find(graph) if name in values and name not in used]
        if not found:
            return graph, used
        self.value_inputs = (*self.value_inputs, *found)
        return self._bind(shapes, values)

    def can_compile(self, shapes: Mapping[str, Dims]) -> bool:
        """False when the contents of some input decide shapes, so that nothing is known before a run."""
        graph = self.model.bind(shapes=shapes, dims=self.options.dims)
        if shape_inputs.find(graph):
            return False
        self._bound = plan_key(shapes, {}), graph
        return True

    def suggest(self, shapes: Mapping[str, Dims], made: Mapping[str, int | None]) -> Fitting:
        """Shapes near these that the graph takes, for inputs that are made up; see `fitting`."""
        return fitting(self.model, shapes, made)

    def _compile(self, key: str, graph: Graph, progress: Progress | None) -> Prepared:
        if self.options.provider == "reference":
            return self._on_reference(key, graph, "asked for by executionProviders")
        before, outputs = self._memory.copy(), list(graph.outputs)
        try:
            plan = self._planned(graph, progress, key)
        except Exception as error:
            if self.options.strict or not _is_fault(error):
                raise
            graph.outputs = outputs  # lowering may have put copies in their place
            return self._on_reference(key, graph, f"{type(error).__name__}: {error}")
        self._unloaded = key, before
        return Prepared(key, graph, plan, nodes=placement.of_plan(self.model, graph, plan))

    def _planned(self, graph: Graph, progress: Progress | None, key: str) -> Plan | GpuPlan:
        if isinstance(self._memory, GpuMemory):
            assert self.options.gpu is not None
            return compile_gpu(
                graph,
                self.options.gpu,
                self._memory,
                progress,
                key,
                self.allowed,
                self.options.whole,
                self.forms,
            )
        return compile_plan(graph, self.options.target, self._memory, progress, key, self.chosen, self.forms)

    def allowed(self, spec: KernelSpec) -> Schedule | None:
        """The schedule chosen for a spec, as far as the device can be trusted with it."""
        known, gpu = self.chosen(spec) if self.chosen else None, self.options.gpu
        if known is not None and gpu is not None and not usable(known, gpu):
            known = None  # of another session of this class of devices: with other options, or another browser's flags
        return self.trusted(spec, known)

    def trusted(self, spec: KernelSpec, known: Schedule | None = None) -> Schedule | None:
        """`known`, a schedule for a spec, or None for the rules' own. Where the device does not get that right, plain
        loops; Unsupported, so that the reference has its node, where it does not get these right either."""
        refused = self.refused.get(spec.key) if self.refused else None
        if refused is None or (known is not None and known not in refused):
            return known
        assert self.options.gpu is not None
        plain = plain_schedule(spec, self.options.gpu)
        if plain in refused:
            raise Unsupported(f"this device does not compute {spec.name} as it should")
        return plain

    def refuse(self, key: str, kernels: Sequence[int], loaded: bool) -> bool:
        """Kernels (shaders) of a GPU plan that its device rejected or computed wrongly: the plan is forgotten, and
        those to come have others. loaded: its constants are on the device. False where that changes nothing."""
        plan = self.plan(key).plan
        if loaded and self._unloaded[0] == key:
            self._unloaded = "", self._memory
        if not isinstance(plan, GpuPlan):
            raise SessionError("Only kernels of a plan on WebGPU are refused", plan=key)
        fresh = False
        for info in (plan.kernels[i] for i in kernels):
            refused = self.refused.setdefault(info.spec.key, set())
            fresh = fresh or info.schedule not in refused
            refused.add(info.schedule)
        self.plans.pop(key, None)
        self._leaving.pop(key, None)
        self.tunings.pop(key, None)
        return fresh

    def _on_reference(self, key: str, graph: Graph, reason: str) -> Prepared:
        return Prepared(key, graph, reason=reason, nodes=placement.all_reference(self.model, reason))

    def _evict(self) -> list[str]:
        """Gives up the plans used longest ago, down to the limit."""
        gone = []
        while len(self.plans) > self.options.max_plans:
            key, prepared = self.plans.popitem(last=False)
            self._leaving[key] = prepared
            gone.append(key)
        return gone

    @property
    def memory(self) -> SessionMemory | GpuMemory:
        """Where constants and arena lie now."""
        return self._memory

    def settle(self, loaded: Sequence[str]) -> None:
        """Takes over what the page has loaded, least recently used first: it runs known plans without asking.

        A plan that never arrived (its loading failed or was cancelled) is taken back with the memory it had,
        or else the next one would count on constants that nobody wrote.
        """
        key, before = self._unloaded
        self._unloaded = "", self._memory
        if key and key not in loaded:
            self._memory = before
        for gone in [key for key in self.plans if key not in loaded]:
            del self.plans[gone]
        self._leaving = {key: plan for key, plan in self._leaving.items() if key in loaded}
        for key in loaded:
            if key in self.plans:
                self.plans.move_to_end(key)

    def unread(self) -> list[int]:
        """Forgets the constants on a GPU that no plan reads any more, for the engine to free: their ids."""
        if not isinstance(self._memory, GpuMemory):
            return []
        kept = [*self.plans.values(), *self._leaving.values()]
        plans = [p.plan for p in kept if isinstance(p.plan, GpuPlan)]
        used = {b.constant for plan in plans for b in plan.buffers}
        _, before = self._unloaded
        if isinstance(before, GpuMemory):
            before.keep(used)  # where the plan made last never arrives they are gone as well
        return self._memory.keep(used)

    def kernel(self, key: str, step: int) -> dict[str, Any]:
        """What a step was made from and into: spec, schedule, loop nest and WebAssembly, as text."""
        plan = self.plan(key).plan
        if plan is None or not 0 <= step < len(plan.steps):
            raise SessionError(f"The plan has no step {step}", plan=key, step=step)
        info = plan.kernel_of(step)
        nest = apply(info.spec, info.schedule, info.reach, info.place)
        if self.options.gpu is not None:
            code = emitted(info.spec, info.schedule, self.options.gpu)[0].wgsl
        else:
            code = listing(emit(nest, self.options.target))
        return {
            "key": info.spec.key,
            "spec": info.spec.describe(),
            "schedule": describe(info.schedule),
            "loops": str(nest),
            "listing": code,
            "codeBytes": info.code_bytes,
        }

    def plan(self, key: str) -> Prepared:
        """What was prepared under a key; SessionError when it is gone."""
        prepared = self.plans.get(key) or self._leaving.get(key)
        if prepared is None:
            raise SessionError(f"This session has no plan {key!r}", plan=key)
        return prepared

    def reference(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The whole model on the reference, as an oracle that no pass has touched."""
        shapes = {
            name: tuple(np.shape(value)) for name, value in feeds.items() if isinstance(value, np.ndarray)
        }
        graph = self.model.bind(shapes=shapes, dims=self.options.dims, passes=[])
        return WholeGraph(graph).run(feeds)


def _is_fault(error: Exception) -> bool:
    """A fault of the compiler, and not of the model or the input: the reference can still run the model."""
    return isinstance(error, CompileError) or not isinstance(error, (NnjitError, MemoryError))
