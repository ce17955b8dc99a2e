"""Proof: a GPU plan's kernels, looked at once on a device before it is trusted with them.

Takes a plan and the digests of shaders that this device has got right before; gives the lab one kernel after another,
on operands of its own, and holds a few elements of what came out against the spec's definition. What is wrong is the
driver's doing, and `CompilerSession.refuse` puts another kernel in its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nnjit.codegen.expr import UnsupportedExpr
from nnjit.codegen.schedule.steps import ScheduleError, describe
from nnjit.codegen.wgsl.emit import Shader
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.errors import SessionError
from nnjit.runtime.gpu_bench import GpuBench
from nnjit.runtime.gpu_plan import GpuPlan
from nnjit.tune import oracle
from nnjit.tune.policy import GPU_LAB, GPU_PROOF, PAUSES


@dataclass(frozen=True, slots=True)
class Looked:
    """A kernel in the lab: its number in the plan, its shader's digest, and which elements come back."""

    number: int
    digest: str
    probes: list[oracle.Probe]


class Proof:
    """See the module. Kernels that no element can be computed of by itself, or that have no room in the lab, are left
    out."""

    def __init__(self, plan: GpuPlan, target: WgslTarget, proven: Collection[str]) -> None:
        self.plan, self.target = plan, target
        self.proven = set(proven)
        self.wrong: dict[int, str] = {}
        self._now: Looked | None = None
        self._left = self._kernels()

    def _kernels(self) -> Iterator[tuple[Looked, dict[str, Any]]]:
        serving = dict.fromkeys(step.shader for step in self.plan.steps)
        for number in serving:
            digest = digest_of(self.plan.shaders[number])
            if digest in self.proven:
                continue
            info = self.plan.kernels[number]
            probes = oracle.probes(info.spec, GPU_PROOF["probes"])
            if not probes:
                continue
            try:
                bench = GpuBench(info.spec, self.target)
                setup = bench.setup(info.schedule, [(p.operand, p.at) for p in probes])
            except (ScheduleError, UnsupportedExpr):
                continue
            pace = {name: GPU_PROOF[name] for name in ("quietMs", "giveUpMs", *PAUSES)}
            policy = {**GPU_LAB, "sampleMs": 0.0, "wallMs": 0.0, "pace": {**GPU_LAB["pace"], **pace}}
            yield Looked(number, digest, probes), {**setup, "policy": policy}

    def next(self) -> dict[str, Any]:
        """{do: 'setup', setup, name}: for the lab; {do: 'done'}. name: with the spec's key, its sizes and the schedule,
        so that a warning says which kernel it was."""
        found = next(self._left, None)
        if found is None:
            return {"do": "done"}
        self._now, setup = found
        info = self.plan.kernels[self._now.number]
        name = f"{info.spec.name} {info.spec.key} ({info.spec.sizes}; {describe(info.schedule)})"
        return {"do": "setup", "setup": setup, "name": name}

    def told(self, samples: Sequence[Sequence[int]]) -> dict[str, Any]:
        """What the lab gave at the probes: {kernel, digest, reason}; reason: what is wrong, '' if nothing is."""
        now = self._now
        if now is None:
            raise SessionError("No kernel is being looked at")
        self._now = None
        info = self.plan.kernels[now.number]
        reason = oracle.disagreement(info.spec, now.probes, samples, info.schedule)
        if reason:
            self.wrong[now.number] = reason
        else:
            self.proven.add(now.digest)
        return {"kernel": now.number, "digest": now.digest, "reason": reason}


def digest_of(shader: Shader) -> str:
    """Of its text, which says all but where it runs."""
    return hashlib.sha256(shader.wgsl.encode()).hexdigest()[:16]
