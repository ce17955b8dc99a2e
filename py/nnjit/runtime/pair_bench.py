"""PairBench: two ways to do a part of a model, laid out in one memory of their own.

Takes a Group and the two lowerings; gives the lab both as small plans: the same weights and the same activations, made
up, and the outputs that must agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from nnjit.codegen.dtypes import FLOATS, SIZES
from nnjit.codegen.wasm.target import Target
from nnjit.graph.const import Const
from nnjit.graph.ir import Graph, Value
from nnjit.lower.lowered import HostCall, Kernel, Lowered
from nnjit.lower.tensors import Buffer
from nnjit.runtime.common_values import Refused, Shared
from nnjit.runtime.compile import Linker
from nnjit.runtime.groups import Group
from nnjit.runtime.memory import SessionMemory
from nnjit.runtime.plan import Plan
from nnjit.tune.bench import ELEMENT_KINDS, MOST_BYTES
from nnjit.tune.fills import fill_pattern, gather_operands

ACTUAL = 4 << 20
"""Constants of up to so many bytes keep their values: they may be places, scales or bounds, which a rule has read. So
do all that a kernel's useful ranges may come from (attention's masks); other large ones are weights."""
TOLERANCE = {"f32": 1e-3, "f16": 2e-2, "bf16": 1e-1, "f64": 1e-9}
"""In parts of the largest output: another algorithm rounds elsewhere (Winograd's transforms lose some three digits)."""


class Side(Linker):
    """One way of a group as a plan of its own. Inputs and outputs stay where they are from before the first step to
    after the last, so that the steps may run again and again."""

    def __init__(
        self, whole: Lowered, steps: Sequence[Kernel], inputs: Sequence[Value], outputs: Sequence[Value],
        target: Target, memory: SessionMemory, kept: set[Const],
    ) -> None:  # fmt: skip
        self.kept = kept
        graph = Graph("group", inputs, [*inputs, *outputs])
        made = Lowered(graph, [*makers(whole, steps), *steps], whole.tensors, {})
        super().__init__(made, target, memory, f"lab {memory.next_slot}")

    def _load(self, b: Buffer) -> None:
        const = b.source
        assert const is not None
        if const.nbytes <= ACTUAL or const in self.kept:
            self.init.append({"kind": "bytes", "address": self.address[b], "data": const.raw()})
            return
        self.init.append(
            {"kind": "pattern", "address": self.address[b], "nbytes": b.nbytes,
             "pattern": fill_pattern(const.dtype, seed_of(const), False)}
        )  # fmt: skip


def seed_of(const: Const) -> int:
    """The same for the same weights, whichever side reads them."""
    r = (const.parts[0] if const.parts else const).range
    if r is not None:
        return (r.file * 1000003 + r.start) % (1 << 31)
    return const.nbytes


def makers(whole: Lowered, steps: Iterable[Kernel]) -> list[Kernel]:
    """The steps at load that make what `steps` read."""
    wanted = {b for s in steps for b in s.reads if b.constant and b.source is None}
    found: list[Kernel] = []
    for s in reversed(whole.steps):
        if s.once and any(b in wanted for b in s.writes):
            if not isinstance(s, Kernel):
                raise Refused("a constant of it is made on the reference")
            found.append(s)
            wanted |= {b for b in s.reads if b.constant and b.source is None}
    return found[::-1]


def judged(whole: Lowered, steps: Iterable[Kernel]) -> set[Const]:
    """Constants from which a rule may know where a kernel has anything to do: with others it would do too little."""
    found = [s for s in steps if s.spec.useful]
    reads = (b for s in (*makers(whole, found), *found) for b in s.reads)
    return {b.source for b in reads if b.source is not None}


class PairBench:
    """Both ways of a group in one memory. Raises Refused where they have no inputs or outputs in common."""

    def __init__(self, group: Group, base: Lowered, mine: Lowered, outputs: Sequence[Value], target: Target):
        self.group, self.base, self.mine = group, base, mine
        self.shared = Shared((group.base, group.mine), base, mine, set(outputs))
        memory = SessionMemory()
        sides = []
        both = ((base, group.base), (mine, group.mine))
        kept = {const for whole, steps in both for const in judged(whole, steps)}
        for whole, steps in both:
            memory.arena = (0, 0)  # the other side's activations stay
            side = Side(whole, steps, self.shared.inputs, self.shared.outputs, target, memory, kept)
            sides.append((side, side.plan()))
            if memory.top > MOST_BYTES:
                raise Refused(f"it needs more than {MOST_BYTES >> 20} MiB to be tried out")
        self.sides = sides
        self.pages = memory.pages

    def setup(self) -> dict[str, Any]:
        """What the lab needs: memory, both plans, what fills the activations, which outputs must agree."""
        return {
            "pages": self.pages,
            "plans": [_lab_plan(plan) for _, plan in self.sides],
            "fills": [fill for side, _ in self.sides for fill in self._fills(side)],
            "outputs": self._outputs(),
        }

    def _fills(self, side: Side) -> list[dict[str, Any]]:
        found = []
        places = places_read(side.run)
        for seed, v in enumerate(self.shared.inputs):
            buffer = side.lowered.tensors.places[v].buffer
            pattern = fill_pattern(v.dtype, seed, buffer in places)
            found.append({"address": side.address[buffer], "nbytes": buffer.nbytes, "pattern": pattern})
        return found

    def _outputs(self) -> list[dict[str, Any]]:
        (base, _), (mine, _) = self.sides
        found = []
        for v in self.shared.outputs:
            a, b = (s.lowered.tensors.places[v].buffer for s in (base, mine))
            step = TOLERANCE.get(v.dtype, 0.0)
            found.append(
                {"address": base.address[a], "other": mine.address[b], "nbytes": a.nbytes,
                 "kind": v.dtype if v.dtype in FLOATS else ELEMENT_KINDS[SIZES[v.dtype]],
                 "tolerance": {"absolute": step, "relative": step if step else 0.0}}
            )  # fmt: skip
        return found


def _lab_plan(plan: Plan) -> dict[str, Any]:
    return {
        "module": plan.module,
        "tableBase": plan.table_base,
        "slots": plan.slots,
        "steps": [s.to_js() for s in plan.steps],
        "init": plan.init,
    }


def places_read(steps: Iterable[Kernel | HostCall]) -> set[Buffer]:
    """Buffers whose values are places in others."""
    found = set()
    for s in steps:
        if isinstance(s, Kernel):
            found |= {s.places[i][0] for i in gather_operands(s.spec)}
    return found
