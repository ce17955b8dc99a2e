"""What lowering gives: steps over buffers. A kernel with its spec, schedule and operands, or a call of the reference;
kernels that are repeated share a `Loop`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from nnjit.codegen.schedule.steps import Schedule
from nnjit.codegen.spec import KernelSpec, Reach
from nnjit.codegen.wgsl.cache import Moves
from nnjit.graph.ir import Graph, Node, Value
from nnjit.lower.backend import Code
from nnjit.lower.forms import Choice
from nnjit.lower.tensors import Buffer, Tensors

Chosen: TypeAlias = "Callable[[KernelSpec], Schedule | None]"
Held: TypeAlias = "Callable[[KernelSpec, Buffer, int], bool]"
"""Whether memory has what a kernel makes of a constant (buffer, element offset), left there by an earlier plan."""
Placing: TypeAlias = "Callable[[KernelSpec, list[tuple[Buffer, int]], set[Buffer]], Moves]"
"""Before a kernel is emitted for a GPU: the moves that it will have, of its operands' places and which of their buffers
cannot be shared."""


@dataclass(eq=False, slots=True)
class Loop:
    """`times` turns; each does all kernels that refer to this object, in their order."""

    times: int


@dataclass(slots=True)
class Kernel:
    """A step that runs a kernel: operand i is `places[i]` = (buffer, element offset)."""

    spec: KernelSpec
    schedule: Schedule
    places: list[tuple[Buffer, int]]
    nodes: list[Node]
    once: bool
    code: Code
    tiles: int
    emit_ms: float
    """0 for a kernel that was emitted before."""
    anchor: Node | None = None
    """Of the region that it computes, or a part of it."""
    loop: Loop | None = None
    moves: tuple[int, ...] = ()
    """In a loop: elements by which each place moves from one turn to the next."""
    bound: Moves = ()
    """On a GPU: the binding of each operand in `code`, and where it begins; none where each has its own."""
    threads: str = ""
    """"alone" on one, shared by "all", or as the rules for shares say."""
    reach: Reach = ()
    """Which places of its axes a request has."""
    place: int = -1
    """The operand in whose memory it writes what changes, once it is linked; -1: it writes all."""

    @property
    def reads(self) -> list[Buffer]:
        return [b for (b, _), o in zip(self.places, self.spec.operands, strict=True) if o.role == "in"]

    @property
    def writes(self) -> list[Buffer]:
        return [b for (b, _), o in zip(self.places, self.spec.operands, strict=True) if o.role != "in"]


@dataclass(slots=True)
class HostCall:
    """Nodes that run on the reference: their inputs are shipped from memory (or from earlier host calls)."""

    nodes: list[Node]
    inputs: list[Value]
    outputs: list[Value]
    reason: str
    once: bool = False
    reads: list[Buffer] = field(default_factory=list)
    writes: list[Buffer] = field(default_factory=list)


@dataclass(slots=True)
class Lowered:
    """A graph as steps in the order they run, and where each value lies; before addresses, threads and modules."""

    graph: Graph
    steps: list[Kernel | HostCall]
    tensors: Tensors
    reasons: dict[Node, str]
    """Why a node runs on the reference."""
    choices: dict[tuple[Node, str], Choice] = field(default_factory=dict)
    """Of nodes that have several forms, which they got; by node and matter."""
    outputs: list[Value] = field(default_factory=list)
    """The graph's outputs as they were: lowering puts copies in the place of some."""
    shares: dict[str, str] = field(default_factory=dict)
    """Key of a spec -> whether its steps are done "alone" or by "all" threads, where that was measured."""
    reused: dict[str, Schedule] = field(default_factory=dict)
    """Key of a spec -> its schedule, which reads panels that an earlier plan has left in memory: who lowers the graph
    again gives them to `Build.reused`."""
