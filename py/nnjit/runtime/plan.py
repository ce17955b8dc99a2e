"""Plan: what the engine needs to run a model, as data. Python makes it, JavaScript executes it.

A plan holds a module with all its kernels, the steps with their arguments, where feeds go and outputs come
from, and what is done once at load. `to_js()` gives the plain object that the engine reads.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from nnjit.codegen.schedule.steps import Schedule
from nnjit.codegen.spec import KernelSpec, Reach
from nnjit.codegen.wasm.target import Target
from nnjit.graph.ir import Node, Value
from nnjit.lower.lowered import Lowered
from nnjit.runtime.outputs import SPARES
from nnjit.runtime.rehearsal import CALLS, MOST_MS
from nnjit.runtime.shares import CALLER_FRESH_MS, CALLER_PATIENCE_MS, CALLER_STREAK_MS, CALLER_TRIES

PLAN_VERSION = 1


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A row-major tensor in memory. type: as JavaScript names it (float32)."""

    name: str
    type: str
    dims: tuple[int, ...]
    address: int
    nbytes: int

    def to_js(self) -> dict[str, Any]:
        return {**asdict(self), "dims": list(self.dims)}


@dataclass(frozen=True, slots=True)
class HostRef:
    """A value that only the host (the reference) holds: no address, its shape perhaps unknown."""

    name: str
    type: str

    def to_js(self) -> dict[str, Any]:
        return {"name": self.name, "type": self.type, "host": True}


Ref: TypeAlias = TensorRef | HostRef


@dataclass(slots=True)
class Step:
    """call table[slot](args, begin, end) over `tiles` tiles; parallel: threads share them.

    barrier: all threads wait for each other after it. flops, bytes: what one run of the step does and touches,
    at least. Neighbours with the same `loop` (not 0) are done in turn, all of them `times` times; in turn t they
    pass args + t * advance. stride: thread n passes args + n * stride. unit: tiles that a thread takes together;
    wake: worth waking sleeping threads for."""

    slot: int
    args: int
    tiles: int
    parallel: bool
    barrier: bool
    name: str
    kernel: str
    nodes: list[str]
    flops: int
    bytes: int
    stride: int = 0
    unit: int = 1
    wake: bool = True
    loop: int = 0
    times: int = 1
    advance: int = 0

    def to_js(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}  # asdict would copy each field deeply


@dataclass(slots=True)
class HostSite:
    """A host call: `nodes` on the reference, with the values that go in and come out."""

    nodes: list[Node]
    inputs: list[Value]
    outputs: list[Value]
    reason: str


@dataclass(slots=True)
class KernelInfo:
    """What a step was made from, for listings and the tuner."""

    spec: KernelSpec
    schedule: Schedule
    code_bytes: int
    reach: Reach = ()
    place: int = -1
    """The operand in whose memory it writes what changes; -1: it writes all."""


@dataclass(slots=True)
class Plan:
    """All that the engine needs to run a graph on WebAssembly, and what its compiler must remember of it.

    pages: 64 KiB each, of the session's memory. module: one Wasm module with every kernel and the plan function.
    Kernels are in `slots` slots of each thread's table, from table_base on. segments: ranges of steps between host
    calls. init: what is carried out once, at load (copies from the model's file, fills, packing)."""

    key: str
    shared: bool
    pages: int
    module: bytes
    table_base: int
    slots: int
    steps: list[Step]
    segments: list[dict[str, Any]]
    init: list[dict[str, Any]]
    inputs: list[Ref]
    outputs: list[Ref]
    kernels: list[KernelInfo]
    host_calls: dict[str, HostSite] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    """Outputs that are constants no memory holds (strings): by the model's name, as numpy."""
    once: dict[str, str] = field(default_factory=dict)
    """Nodes computed at load: name -> kernel."""
    stats: dict[str, Any] = field(default_factory=dict)
    backend: str = "wasm"
    pointers: list[tuple[int, ...]] = field(default_factory=list)
    """Where the operands of each step lie, for who makes panels over."""
    caller_ms: float = 0.0
    """The caller's own thread may run it if that takes at most so long; 0: the engine's threads do."""
    rehearsal: list[int] = field(default_factory=list)
    """Slots of the kernels that are called on no tiles before the first run: see rehearsal.py."""
    extends: dict[str, str] = field(default_factory=dict)
    """By output that is made in an input's own place: that input. Its first places are the input's before, during and
    after the run, and zeros lie behind it (`Graph.extends`)."""
    lowered: Lowered | None = None
    """What it was linked from, for who lowers the graph in other forms."""

    def kernel_of(self, step: int) -> KernelInfo:
        return self.kernels[self.steps[step].slot - self.table_base]

    def to_js(self) -> dict[str, Any]:
        """The engine's plan object (web/engine/types.d.ts); bytes stay bytes."""
        return {
            "version": PLAN_VERSION,
            "key": self.key,
            "threads": self.shared,
            "pages": self.pages,
            "module": self.module,
            "tableBase": self.table_base,
            "slots": self.slots,
            "steps": [s.to_js() for s in self.steps],
            "segments": self.segments,
            "init": self.init,
            "inputs": [r.to_js() for r in self.inputs],
            "outputs": [r.to_js() for r in self.outputs],
            "callerMs": self.caller_ms,
            "callerFreshMs": CALLER_FRESH_MS,
            "callerTries": CALLER_TRIES,
            "callerPatienceMs": CALLER_PATIENCE_MS,
            "callerStreakMs": CALLER_STREAK_MS,
            "rehearsal": {"slots": self.rehearsal, "calls": CALLS, "mostMs": MOST_MS},
            "spares": SPARES,
            "extends": self.extends,
            "stats": self.stats,
        }


__all__ = ["HostRef", "HostSite", "KernelInfo", "Plan", "Ref", "Step", "Target", "TensorRef"]
