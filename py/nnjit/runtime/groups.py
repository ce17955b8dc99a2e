"""Groups: where two lowerings of one graph differ, node by node, and both ways as small plans for the lab.

Takes two `Lowered` of the same Graph object; gives a Group for each place where their steps differ. `PairBench` lays
both sides of one out in a memory of their own: the same weights and the same activations, made up, and the outputs
that must agree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from nnjit.codegen.dtypes import FLOATS, SIZES
from nnjit.codegen.schedule.steps import Schedule, ScheduleError, describe
from nnjit.codegen.wasm.target import Target
from nnjit.graph.ir import Const, Graph, Node, Value
from nnjit.lower.lowered import HostCall, Kernel, Lowered
from nnjit.lower.tensors import Buffer
from nnjit.runtime.compile import Linker
from nnjit.runtime.memory import SessionMemory
from nnjit.runtime.plan import Plan
from nnjit.tune.bench import ELEMENT_KINDS, MOST_BYTES, fill_pattern, gather_operands

ACTUAL = 4 << 20
"""Constants of up to so many bytes keep their values: they may be places, scales, bounds or masks, which a rule has
read; larger ones are weights."""
TOLERANCE = {"f32": 1e-3, "f16": 2e-2, "bf16": 1e-1, "f64": 1e-9}
"""In parts of the largest output: another algorithm rounds elsewhere (Winograd's transforms lose some three digits)."""


class Refused(ScheduleError):
    """These two ways cannot be held against each other in the lab."""


@dataclass(slots=True)
class Group:
    """Steps of the same nodes, both ways. answers: the forms of `mine`, by question; was: those of `base`.
    at: where the first of base lies among the run's kernels."""

    anchors: list[Node | None]
    base: list[Kernel]
    mine: list[Kernel]
    at: int
    answers: dict[str, str] = field(default_factory=dict)
    was: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Alike groups have one key."""
        text = repr([[_ident(s) for s in side] for side in (self.base, self.mine)])
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def name(self) -> str:
        return "+".join(n.op for n in self.anchors if n is not None)

    @property
    def nodes(self) -> list[str]:
        return [n.name for n in self.anchors if n is not None]

    @property
    def text(self) -> str:
        """The forms, from and to."""
        asked = dict.fromkeys((self.was[q], self.answers[q]) for q in self.answers)
        return ", ".join(f"{mine} instead of {base}" for base, mine in asked)

    def schedules(self) -> list[str]:
        return [f"{s.spec.name}: {describe(s.schedule)}" for s in self.mine]


def differences(base: Lowered, mine: Lowered) -> list[Group]:
    """The places where two lowerings of a graph differ because a node has another form."""
    a, b = _by_anchor(base), _by_anchor(mine)
    groups: list[Group] = []
    matcher = SequenceMatcher(None, [n for n, _ in a], [n for n, _ in b], autojunk=False)
    starts = [0]
    for _, steps in a:
        starts.append(starts[-1] + sum(isinstance(s, Kernel) for s in steps))
    for tag, i, i2, j, j2 in matcher.get_opcodes():
        pairs = [(i, i2, j, j2)]
        if tag == "equal":
            pairs = [(i + n, i + n + 1, j + n, j + n + 1) for n in range(i2 - i)]
        for p, p2, q, q2 in pairs:
            left = [s for _, steps in a[p:p2] for s in steps]
            right = [s for _, steps in b[q:q2] for s in steps]
            if [_ident(s) for s in left] == [_ident(s) for s in right]:
                continue
            anchors = list(dict.fromkeys([n for n, _ in (*a[p:p2], *b[q:q2])]))
            kernels = [[s for s in side if isinstance(s, Kernel)] for side in (left, right)]
            if len(kernels[0]) < len(left) or len(kernels[1]) < len(right):
                continue
            group = Group(anchors, kernels[0], kernels[1], starts[p])
            for n in anchors:
                if n in base.choices and n in mine.choices:
                    was, now = base.choices[n], mine.choices[n]
                    if was.form != now.form:
                        group.answers[now.question] = now.form
                        group.was[now.question] = was.form
            if group.answers and group.base and group.mine:
                groups.append(group)
    return groups


def _by_anchor(lowered: Lowered) -> list[tuple[Node | None, list[Kernel | HostCall]]]:
    found: list[tuple[Node | None, list[Kernel | HostCall]]] = []
    for s in lowered.steps:
        if s.once:
            continue
        anchor = s.anchor if isinstance(s, Kernel) else s.nodes[0]
        if found and found[-1][0] is anchor:
            found[-1][1].append(s)
        else:
            found.append((anchor, [s]))
    return found


def _ident(s: Kernel | HostCall) -> tuple[str, Schedule]:
    return (s.spec.key, s.schedule) if isinstance(s, Kernel) else ("host", ())


class Side(Linker):
    """One way of a group as a plan of its own. Inputs and outputs stay where they are from before the first step to
    after the last, so that the steps may run again and again."""

    def __init__(
        self, whole: Lowered, steps: Sequence[Kernel], inputs: Sequence[Value], outputs: Sequence[Value],
        target: Target, memory: SessionMemory,
    ) -> None:  # fmt: skip
        graph = Graph("group", inputs, [*inputs, *outputs])
        made = Lowered(graph, [*_makers(whole, steps), *steps], whole.tensors, {})
        super().__init__(made, target, memory, f"lab {memory.next_slot}")

    def _load(self, b: Buffer) -> None:
        const = b.source
        assert const is not None
        if const.nbytes <= ACTUAL:
            self.init.append({"kind": "bytes", "address": self.address[b], "data": const.raw()})
            return
        self.init.append(
            {"kind": "pattern", "address": self.address[b], "nbytes": b.nbytes,
             "pattern": fill_pattern(const.dtype, _seed(const), False)}
        )  # fmt: skip


def _seed(const: Const) -> int:
    """The same for the same weights, whichever side reads them."""
    r = const.range
    if r is not None:
        return (r.file * 1000003 + r.start) % (1 << 31)
    return const.nbytes


def _makers(whole: Lowered, steps: Iterable[Kernel]) -> list[Kernel]:
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


class PairBench:
    """Both ways of a group in one memory. Raises Refused where they have no inputs or outputs in common."""

    def __init__(self, group: Group, base: Lowered, mine: Lowered, outputs: Sequence[Value], target: Target):
        self.group, self.base, self.mine = group, base, mine
        self.shared = _Shared(group, base, mine, set(outputs))
        memory = SessionMemory()
        sides = []
        for whole, steps in ((base, group.base), (mine, group.mine)):
            memory.arena = (0, 0)  # the other side's activations stay
            side = Side(whole, steps, self.shared.inputs, self.shared.outputs, target, memory)
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
        places = _read_as_places(side.run)
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


def _read_as_places(steps: Iterable[Kernel | HostCall]) -> set[Buffer]:
    """Buffers whose values are places in others."""
    found = set()
    for s in steps:
        if isinstance(s, Kernel):
            found |= {s.places[i][0] for i in gather_operands(s.spec)}
    return found


class _Shared:
    """Values through which both sides get the same inputs, and those that both compute."""

    def __init__(self, group: Group, base: Lowered, mine: Lowered, leaving: set[Value]) -> None:
        self.base, self.mine = base, mine
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        written = [{b for s in steps for b in s.writes} for steps in (group.base, group.mine)]
        known = self._pairs()
        for whole, steps, side in ((base, group.base, 0), (mine, group.mine, 1)):
            for s in steps:
                for b in s.reads:
                    if b.constant or b in written[side]:
                        continue
                    found = next((v for v in known if whole.tensors.places[v].buffer is b), None)
                    if found is None:
                        raise Refused(f"{b.name} lies otherwise on one side")
                    if found not in self.inputs:
                        self.inputs.append(found)
        mine_too = [v for v in known if mine.tensors.places[v].buffer in written[1]]
        needed = _read_outside(base, group.base) | {base.tensors.places[v].buffer for v in leaving
                                                    if v in base.tensors.places}  # fmt: skip
        for b in written[0]:
            found = next((v for v in mine_too if base.tensors.places[v].buffer is b), None)
            if found is not None:
                self.outputs.append(found)
            elif b in needed:
                raise Refused(f"{b.name} lies otherwise on one side")
        if not self.outputs:
            raise Refused("they have no output in common")

    def _pairs(self) -> list[Value]:
        """Values that lie in the same order on both sides, each in a buffer of its own."""
        found = []
        for v, place in self.base.tensors.places.items():
            other = self.mine.tensors.places.get(v)
            if other is None or place.buffer.constant or other.buffer.constant:
                continue
            if place.layout == other.layout and place.buffer.nbytes == other.buffer.nbytes:
                found.append(v)
        return found


def _read_outside(whole: Lowered, steps: Sequence[Kernel]) -> set[Buffer]:
    inside = {id(s) for s in steps}
    return {b for s in whole.steps if id(s) not in inside for b in s.reads}


__all__ = ["Group", "PairBench", "Refused", "differences"]
