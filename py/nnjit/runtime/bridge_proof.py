"""The bridge's methods about kernels that a GPU gets wrong: looking at those a plan came with, and refusing some.

Arguments and answers are JSON text, as in `bridge_tuning`. What was found right on this adapter holds for all sessions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from nnjit.errors import SessionError
from nnjit.runtime.gpu_plan import GpuPlan
from nnjit.runtime.gpu_proof import Proof
from nnjit.runtime.session import CompilerSession
from nnjit.tune.policy import GPU_PROOF

PROVEN: set[str] = set()
"""Digests of shaders."""


def opened(session: CompilerSession, args: Mapping[str, Any]) -> None:
    """{key, proven: what earlier visits found right}: begins to look at a plan."""
    plan = session.plan(str(args["key"])).plan
    if not isinstance(plan, GpuPlan) or session.options.gpu is None:
        raise SessionError("Only kernels of a plan on WebGPU are looked at", plan=str(args["key"]))
    PROVEN.update(map(str, args["proven"]))
    session.proof = Proof(plan, session.options.gpu, PROVEN)


def told(session: CompilerSession, args: Mapping[str, Any]) -> dict[str, Any]:
    found = _proof(session).told(args["samples"])
    if not found["reason"]:
        PROVEN.add(found["digest"])
    return found


def _proof(session: CompilerSession) -> Proof:
    if session.proof is None:
        raise SessionError("No plan is being looked at")
    return session.proof


def methods(session: Callable[[Any], CompilerSession]) -> dict[str, Callable[[Any, Any], Any]]:
    """The table for bridge.METHODS."""

    def on(call: Callable[[CompilerSession, dict[str, Any]], Any]) -> Callable[[Any, Any], Any]:
        return lambda args, _: call(session(args), json.loads(str(args.json)))

    return {
        "proof.open": on(opened),
        "proof.next": on(lambda s, a: _proof(s).next()),
        "proof.told": on(told),
        "proof.policy": lambda args, _: GPU_PROOF,
        "refuse": on(lambda s, a: s.refuse(str(a["key"]), [int(i) for i in a["kernels"]], bool(a["loaded"]))),
    }
