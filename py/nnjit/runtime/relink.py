"""Relinking: a plan of a running session made anew, in other forms or with the schedules that won, to take its place.

`begin` says how to lower; `next` does a part of it, then says that it is ready; `link` gives the plan to load beside
the old one, in the same memory: constants that lie there already are found and not loaded again. Then `done` or
`failed`, by what the engine made of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from nnjit.codegen.dtypes import FLOATS, SIZES
from nnjit.errors import NnjitError
from nnjit.lower.build import Build
from nnjit.lower.forms import Forms
from nnjit.lower.lowered import Chosen, Lowered
from nnjit.runtime import placement
from nnjit.runtime.compile import link_plan
from nnjit.runtime.gpu_compile import link_gpu
from nnjit.runtime.gpu_memory import GpuMemory
from nnjit.runtime.gpu_plan import GpuPlan, GpuRef
from nnjit.runtime.memory import SessionMemory
from nnjit.runtime.pair_bench import TOLERANCE
from nnjit.runtime.plan import Plan, TensorRef
from nnjit.runtime.tensor_types import short_name
from nnjit.tune.bench import ELEMENT_KINDS
from nnjit.tune.fills import gather_operands
from nnjit.tune.policy import MORE_BYTES, MORE_SHARE, PACE, PART_MS, PATIENCE_MS, PAUSE_MS

if TYPE_CHECKING:
    from nnjit.runtime.session import CompilerSession


class Relinking:
    """See the module; `key` is the plan's."""

    def __init__(self, session: CompilerSession, key: str) -> None:
        self.session, self.key = session, key
        self.reason = ""
        self.made: Plan | GpuPlan | None = None
        self._parts: Iterator[Any] | None = None
        self._build: Build | None = None
        self._before: tuple[SessionMemory | GpuMemory, Any, Any] | None = None
        self._fresh: dict[str, int] = {}
        self._count = 0

    @property
    def plan(self) -> Plan | GpuPlan:
        """The one in use."""
        plan = self.session.plan(self.key).plan
        assert plan is not None
        return plan

    def begin(self, chosen: Chosen | None, forms: Forms) -> bool:
        """False where it cannot be done; `reason` says why."""
        lowered = self.plan.lowered
        self.made, self.reason = None, ""
        if lowered is None or self.plan.host_calls:
            self.reason = "parts of the model run on the reference"
            return False
        lowered.graph.outputs[:] = lowered.outputs
        target = self.plan.target if isinstance(self.plan, GpuPlan) else self.session.options.target
        self._build = Build(lowered.graph, target, chosen, forms)
        self._build.reused.update(lowered.reused)
        self._parts = self._build.parts()
        return True

    def next(self) -> dict[str, Any] | None:
        """{do: 'work'}: ask again; {do: 'link'}: call `link`; None: it failed, see `reason`."""
        assert self._parts is not None
        until = time.perf_counter() + PART_MS / 1e3
        try:
            while next(self._parts, None) is not None:
                if time.perf_counter() >= until:
                    return {"do": "work", "what": "one module"}
        except NnjitError as error:
            self.reason = str(error)
            return None
        return {"do": "link"}

    def link(self, loaded: Sequence[str]) -> dict[str, Any]:
        """{plan, warm, outputs, placement}, or {reason}. loaded: the session's plans that the engine has."""
        session = self.session
        session.settle(loaded)
        memory = session.memory
        assert self._build is not None
        lowered: Lowered = self._build.lowered()
        state, before = memory.state(), taken(memory, self.plan)
        known = set(memory.constants)
        self._count += 1
        try:
            made = self._linked(lowered, memory)
        except NnjitError as error:
            self.reason = str(error)
            return {"reason": self.reason}
        more = taken(memory, made) - before
        if more > max(MORE_BYTES, MORE_SHARE * before):
            self._restore(memory, state)
            self.reason = f"it would take {more >> 20} MiB more memory"
            return {"reason": self.reason}
        # What came with it may never be written: until it serves no other plan counts on that.
        self._fresh = {name: at for name, at in memory.constants.items() if name not in known}
        for name in self._fresh:
            del memory.constants[name]
        self._before = memory, state, memory.state()
        self.made = made
        return {
            "plan": made.to_js(),
            "warm": warm(made),
            "outputs": agreement(made),
            "placement": placement.of_plan(session.model, lowered.graph, made),
            "moreBytes": more,
            "pace": PACE,
            "pauseMs": PAUSE_MS,
            "patienceMs": PATIENCE_MS,
            "reason": "",
        }

    def _linked(self, lowered: Lowered, memory: SessionMemory | GpuMemory) -> Plan | GpuPlan:
        key = f"{self.key}@{self._count}"
        if isinstance(memory, SessionMemory):
            return link_plan(lowered, self.session.options.target, memory, key)
        assert isinstance(self.plan, GpuPlan)
        return link_gpu(lowered, self.plan.target, memory, key)

    def _restore(self, memory: SessionMemory | GpuMemory, state: Any) -> None:
        """As it was before the plan was linked; on a GPU with numbers of constants that nothing had before."""
        number = memory.next if isinstance(memory, GpuMemory) else 0
        memory.restore(state)
        if isinstance(memory, GpuMemory):
            memory.next = number

    def done(self) -> list[int]:
        """The engine runs it under the old one's key. The ids of constants that no plan reads any more, on a GPU."""
        made = self.made
        assert made is not None
        made.key = self.key
        prepared = self.session.plan(self.key)
        prepared.plan = made
        prepared.nodes = placement.of_plan(self.session.model, prepared.graph, made)
        constants = self.session.memory.constants
        constants.update({name: at for name, at in self._fresh.items() if name not in constants})
        self._end()
        return self.session.unread()

    def failed(self, reason: str) -> None:
        """The engine did not take it: its memory is free again, unless something else was placed since."""
        self.reason = reason
        if self._before is not None:
            memory, state, linked = self._before
            if memory is self.session.memory and memory.state() == linked:
                self._restore(memory, state)
        self._end()

    def _end(self) -> None:
        self.made = self._build = self._parts = self._before = None
        self._fresh = {}


def taken(memory: SessionMemory | GpuMemory, plan: Plan | GpuPlan) -> int:
    """Bytes of a session's memory: on a GPU each plan has buffers of its own besides the constants."""
    return memory.top + (plan.stats["arenaBytes"] if isinstance(plan, GpuPlan) else 0)


def warm(plan: Plan | GpuPlan) -> list[int]:
    """A step of each kernel that may run by itself on whatever lies in the arena, so that its fast code is made before
    it serves: not those that read or write at places which they read. None on a GPU, where all code is fast."""
    if isinstance(plan, GpuPlan):
        return []
    found: dict[int, int] = {}
    for i, step in enumerate(plan.steps):
        if step.slot not in found and step.tiles and not gather_operands(plan.kernel_of(i).spec):
            found[step.slot] = i
    return list(found.values())


def agreement(plan: Plan | GpuPlan) -> list[dict[str, Any]]:
    """How near each output must be to the serving plan's: as `compare` in the engine takes it."""
    found = []
    for ref in plan.outputs:
        dtype = short_name(ref.type) if isinstance(ref, (TensorRef, GpuRef)) else ""
        step = TOLERANCE.get(dtype, 0.0)
        kind = dtype if dtype in FLOATS else ELEMENT_KINDS.get(SIZES.get(dtype, 0), "8")
        found.append({"name": ref.name, "kind": kind, "tolerance": {"absolute": step, "relative": step}})
    return found
