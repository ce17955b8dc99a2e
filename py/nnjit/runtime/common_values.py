"""Common values of two ways to do a part of a model: what both read and both compute, in the same memory order.

Takes the steps of each way and the lowerings they are from; gives the values through which a lab feeds both and holds
their results against each other, or Refused where the rest of the model would see which way was taken.
"""

from __future__ import annotations

from collections.abc import Sequence

from nnjit.codegen.schedule.steps import ScheduleError
from nnjit.graph.ir import Value
from nnjit.lower.lowered import Kernel, Lowered
from nnjit.lower.tensors import Buffer


class Refused(ScheduleError):
    """These two ways cannot be held against each other in the lab."""


class Shared:
    """Values through which both sides get the same inputs, and those that both compute."""

    def __init__(
        self,
        steps: tuple[Sequence[Kernel], Sequence[Kernel]],
        base: Lowered,
        mine: Lowered,
        leaving: set[Value],
    ) -> None:
        self.base, self.mine = base, mine
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        written = [{b for s in side for b in s.writes} for side in steps]
        known = self._pairs()
        for side, whole in enumerate((base, mine)):
            for s in steps[side]:
                for b in s.reads:
                    if b.constant or b in written[side]:
                        continue
                    found = next((v for v in known if whole.tensors.places[v].buffer is b), None)
                    if found is None:
                        raise Refused(f"{b.name} lies otherwise on one side")
                    if found not in self.inputs:
                        self.inputs.append(found)
        mine_too = [v for v in known if mine.tensors.places[v].buffer in written[1]]
        needed = _read_outside(base, steps[0]) | {base.tensors.places[v].buffer for v in leaving
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
