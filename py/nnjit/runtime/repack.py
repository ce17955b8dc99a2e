"""Repacking: a constant's panels made over in a loaded session, so that a kernel with other tiles can read them.

Takes the plan, the steps of a kernel, its schedule before and after; gives the kernels that take the old panels apart
into the arena (free between two inferences) and put the new ones together, and the words that point to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.expr import Index, load
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.pack import clipped, packed_spec, panels
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.schedule.steps import Pack, Schedule, Tile
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from nnjit.codegen.wasm.emit import emit_module
from nnjit.codegen.wasm.target import Target
from nnjit.runtime.memory import LIMIT, SessionMemory
from nnjit.runtime.plan import Plan
from nnjit.tune.bench import packing


class Refused(Exception):
    """These panels cannot be made over here; the kernel keeps its schedule."""


class Repacking:
    """See the module. `alone`: whether the session has no other plan. `commit` after the engine has done it, `undo`
    where it failed before it began."""

    def __init__(
        self, plan: Plan, memory: Callable[[], SessionMemory], target: Target, alone: Callable[[], bool]
    ) -> None:
        self.plan, self._memory, self.target = plan, memory, target
        self.alone = alone
        self._args = 0
        self._moves: list[tuple[int, int, int]] = []  # step, operand, new address
        self._held: list[tuple[str, int]] = []  # what new panels hold, as a plan asks for it, and where
        self._top = 0

    @property
    def memory(self) -> SessionMemory:
        """The session's; it is another object after a plan was taken back."""
        return self._memory()

    def plan_for(
        self, steps: Sequence[int], spec: KernelSpec, before: Schedule, after: Schedule
    ) -> list[dict[str, Any]]:
        """Nothing where the panels are the same. Raises Refused."""
        self._moves, self._held, self._top = [], [], self.memory.top
        repacks: list[dict[str, Any]] = []
        for operand, o, n in other_panels(spec, before, after):
            done: dict[int, int] = {}  # steps that share a constant share its panels
            for step in steps:
                source = self.plan.pointers[step][operand]
                if source not in done:
                    made, place = self._one(spec, operand, source, before, o, after, n)
                    repacks.append(made)
                    done[source] = place
                now = self.plan.steps[step]
                blocks = range(self.target.threads) if now.stride else (0,)
                words = [now.args + 4 * operand + now.stride * thread + now.advance * turn
                         for turn in range(now.times) for thread in blocks]  # fmt: skip
                next(r for r in repacks if r["source"] == source)["words"] += words
                self._moves.append((step, operand, done[source]))
        return repacks

    def commit(self) -> None:
        """The engine has made them over: who makes the plan anew finds them by what they hold."""
        for key, address in self._held:
            self.memory.constants.setdefault(key, address)
        self._held = []
        for step, operand, address in self._moves:
            pointers = list(self.plan.pointers[step])
            pointers[operand] = address
            self.plan.pointers[step] = tuple(pointers)
        self._moves = []

    def undo(self) -> None:
        self._moves, self._held = [], []

    def _one(
        self, spec: KernelSpec, operand: int, source: int, before: Schedule, old: Pack | None, after: Schedule,
        new: Pack | None,
    ) -> tuple[dict[str, Any], int]:  # fmt: skip
        """The repack of one constant, and where its new panels lie: over the old ones if nobody else reads those."""
        size = SIZES[spec.operands[operand].dtype]
        plain = spec.operands[operand].size * size
        kernels: list[dict[str, Any]] = []
        scratch, room = self.memory.arena
        if new is None:
            raise Refused("it would read a constant that is no longer in the model's order")
        if old is None:
            raise Refused("the constant is read where it lies, by another step too")
        if plain > room:
            raise Refused("the arena is too small to take its panels apart")
        kernels += [self._kernel(u, source, scratch) for u in unpacking(spec, before, old)]
        made = packing(spec, after, new)
        was = packing(spec, before, old).key
        held = [f"({made.key}{k[len(was) + 1:]}" for k, at in self.memory.constants.items()
                if at == source and k.startswith(f"({was} ")]  # fmt: skip
        wanted = made.operands[1].size * size
        place = source
        if wanted > _panel_bytes(spec, before, old) or self._others(spec, source):
            place = self.memory.take(wanted)
            if self.memory.top > LIMIT:
                self.memory.top = self._top
                raise Refused("there is no memory for its panels")
        else:
            # what lies there is no longer what a later plan would look for under its key
            for key in [k for k, at in self.memory.constants.items() if at == place]:
                del self.memory.constants[key]
        kernels.append(self._kernel(made, scratch, place))
        self._held += [(key, place) for key in held]
        return {"kernels": kernels, "source": source, "place": place, "words": []}, place

    def _others(self, spec: KernelSpec, address: int) -> bool:
        """Whether a step with another kernel, or another plan of the session, reads this constant."""
        if not self.alone():
            return True
        mine = {s for s, _ in enumerate(self.plan.steps) if self.plan.kernel_of(s).spec.key == spec.key}
        return any(
            address in pointers for step, pointers in enumerate(self.plan.pointers) if step not in mine
        )

    def _kernel(self, spec: KernelSpec, source: int, target: int) -> dict[str, Any]:
        self._args = self._args or self.memory.take(8)
        spec = canonical(spec)
        nest = apply(spec, default_schedule(spec, self.target))
        module = emit_module(nest, self.target)
        return {"module": module, "args": self._args, "pointers": [source, target], "tiles": nest.tiles}


def unpacking(spec: KernelSpec, schedule: Schedule, pack: Pack) -> list[KernelSpec]:
    """Kernels that put panels back into the order the operand had: whole tiles, and what the last one holds."""
    tile = clipped(spec, pack, _tile(schedule, pack))
    p = panels(spec, pack, tile)
    dtype = spec.operands[pack.operand].dtype
    full, rest = divmod(p.axis.extent, tile)
    to, i = Axis(p.axis.name + "_t", full), Axis(p.axis.name + "_i", tile)
    found = []
    operands = (Operand(dtype, p.size, "in"), replace(spec.operands[pack.operand], role="out", const=False))
    for outer, inner, number in (
        ((to,), i, Index.of(to.name)),
        ((), Axis(i.name, rest), Index(full)),
    ):
        if inner.extent == 0 or any(a.extent == 0 for a in outer):
            continue
        value = load(0, p.at(number, Index.of(inner.name)), dtype)
        place = p.index.subst({p.axis.name: number * tile + Index.of(inner.name)})
        stage = Stage((), (), "", None, value, 1, place)
        axes = (*p.outer, *p.reduce, *outer, inner)
        found.append(KernelSpec(f"unpack_{dtype}_{tile}", axes, (stage,), operands))
    return found


def other_panels(
    spec: KernelSpec, before: Schedule, after: Schedule
) -> Iterator[tuple[int, Pack | None, Pack | None]]:
    """Operands whose panels a change of schedules changes, with their steps in both. Raises Refused where they cannot
    be made over."""
    old, new = packs_of(before), packs_of(after)
    for operand in sorted({*old, *new}):
        o, n = old.get(operand), new.get(operand)
        if o and n and pack_shape(spec, before, o) == pack_shape(spec, after, n):
            continue
        if not spec.operands[operand].const:
            raise Refused("another step makes its panels")
        if (o and o.group > 1) or (n and n.group > 1):
            raise Refused("its panels are grouped")
        yield operand, o, n


def packs_of(schedule: Schedule) -> dict[int, Pack]:
    """The packed operands of a schedule."""
    return {s.operand: s for s in schedule if isinstance(s, Pack)}


def _tile(schedule: Schedule, pack: Pack) -> int:
    return next((s.factor for s in schedule if isinstance(s, Tile) and s.axis == pack.axis), 1)


def pack_shape(spec: KernelSpec, schedule: Schedule, pack: Pack) -> tuple[str, int, int]:
    """Equal for panels that lie the same: axis, tile, group."""
    return pack.axis, clipped(spec, pack, _tile(schedule, pack)), pack.group


def _panel_bytes(spec: KernelSpec, schedule: Schedule, pack: Pack) -> int:
    packed = packed_spec(spec, pack, _tile(schedule, pack)).operands[pack.operand]
    return packed.size * SIZES[packed.dtype]
