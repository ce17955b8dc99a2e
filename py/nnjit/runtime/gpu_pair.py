"""GpuPairBench: two ways to do a part of a model on a GPU, as small plans with buffers of their own.

Takes a Group and the two lowerings; gives the lab in web/engine/webgpu both plans: the same weights, loaded once for
both, the same activations, made up, and the outputs that must agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nnjit.codegen.dtypes import FLOATS, SIZES
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.codegen.wgsl.types import stored_bytes
from nnjit.graph.const import Const
from nnjit.graph.ir import Graph, Value
from nnjit.lower.lowered import Kernel, Lowered
from nnjit.lower.tensors import Buffer
from nnjit.runtime.common_values import Refused, Shared
from nnjit.runtime.gpu_compile import GpuLinker
from nnjit.runtime.gpu_memory import GpuMemory
from nnjit.runtime.groups import Group
from nnjit.runtime.pair_bench import ACTUAL, TOLERANCE, judged, makers, places_read, seed_of
from nnjit.tune.bench import ELEMENT_KINDS, MOST_BYTES
from nnjit.tune.fills import fill_pattern
from nnjit.tune.policy import GPU_LAB


class GpuSide(GpuLinker):
    """One way of a group as a plan of its own. Inputs and outputs have their buffers from before the first step to
    after the last, so that the steps may run again and again."""

    def __init__(
        self, whole: Lowered, steps: Sequence[Kernel], inputs: Sequence[Value], outputs: Sequence[Value],
        target: WgslTarget, memory: GpuMemory, kept: set[Const], key: str,
    ) -> None:  # fmt: skip
        self.kept = kept
        graph = Graph("group", inputs, [*inputs, *outputs])
        made = Lowered(graph, [*makers(whole, steps), *steps], whole.tensors, {})
        super().__init__(made, target, memory, key)

    def _load(self, b: Buffer) -> Iterator[dict[str, Any]]:
        const = b.source
        assert const is not None
        if const.nbytes <= ACTUAL or const in self.kept:
            yield {"kind": "bytes", **self.where(b), "data": const.raw()}
        else:
            yield self.filling(b, fill_pattern(self.dtypes[b], seed_of(const), False))

    def filling(self, b: Buffer, pattern: bytes) -> dict[str, Any]:
        """A buffer full of a pattern over and over."""
        nbytes = self.buffers[self.number[b]].nbytes
        return {"kind": "pattern", **self.where(b), "nbytes": nbytes, "pattern": pattern}

    def used(self, b: Buffer) -> int:
        """Bytes of the elements in a buffer."""
        dtype = self.dtypes[b]
        return b.nbytes // SIZES[dtype] * stored_bytes(dtype, self.target.half)


class GpuPairBench:
    """Both ways of a group. Raises Refused where they have no inputs or outputs in common, or no room in the lab."""

    def __init__(
        self, group: Group, base: Lowered, mine: Lowered, outputs: Sequence[Value], target: WgslTarget
    ) -> None:
        self.shared = Shared((group.base, group.mine), base, mine, set(outputs))
        both = ((base, group.base), (mine, group.mine))
        kept = {const for whole, steps in both for const in judged(whole, steps)}
        memory = GpuMemory()
        self.sides: list[GpuSide] = []
        self.plans: list[dict[str, Any]] = []
        total = 0
        for number, (whole, steps) in enumerate(both):
            side = GpuSide(
                whole, steps, self.shared.inputs, self.shared.outputs, target, memory, kept, f"lab {number}"
            )
            plan = side.plan()
            total += plan.stats["arenaBytes"]
            if total + memory.top > MOST_BYTES:
                raise Refused(f"it needs more than {MOST_BYTES >> 20} MiB to be tried out")
            self.sides.append(side)
            self.plans.append(plan.to_js())

    def setup(self) -> dict[str, Any]:
        """What the lab needs: both plans, what fills the activations of each, which outputs must agree."""
        return {
            "plans": self.plans,
            "fills": [self._fills(side) for side in self.sides],
            "outputs": self._outputs(),
            "policy": GPU_LAB,
        }

    def _fills(self, side: GpuSide) -> list[dict[str, Any]]:
        places = places_read(side.run)
        buffers = (
            (seed, v, side.lowered.tensors.places[v].buffer) for seed, v in enumerate(self.shared.inputs)
        )
        return [side.filling(b, fill_pattern(v.dtype, seed, b in places)) for seed, v, b in buffers]

    def _outputs(self) -> list[dict[str, Any]]:
        base, mine = self.sides
        found = []
        for v in self.shared.outputs:
            a, b = (s.lowered.tensors.places[v].buffer for s in (base, mine))
            step = TOLERANCE.get(v.dtype, 0.0)
            found.append(
                {"name": v.name, **base.where(a), "other": mine.number[b], "used": base.used(a),
                 "kind": v.dtype if v.dtype in FLOATS else ELEMENT_KINDS[SIZES[v.dtype]],
                 "tolerance": {"absolute": step, "relative": step}}
            )  # fmt: skip
        return found
