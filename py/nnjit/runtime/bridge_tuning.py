"""The tuner's half of the bridge: methods that the page calls to tune a session's plan, one step at a time.

What all sessions share, the device's facts and records, is in `known`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.steps import describe
from nnjit.codegen.wasm.emit import emit
from nnjit.codegen.wasm.listing import listing
from nnjit.codegen.wgsl.cache import emitted
from nnjit.errors import SessionError
from nnjit.runtime.candidates import AnyCandidates
from nnjit.runtime.course import Course
from nnjit.runtime.gpu_memory import GpuMemory
from nnjit.runtime.gpu_plan import GpuPlan
from nnjit.runtime.gpu_tuning import GpuTuning
from nnjit.runtime.known import KNOWN, device_name, forget, form_line, know
from nnjit.runtime.memory import SessionMemory
from nnjit.runtime.plan import Plan
from nnjit.runtime.prepared import Options
from nnjit.runtime.session import CompilerSession
from nnjit.runtime.tuning import Tuning
from nnjit.tune import policy, records
from nnjit.tune.gpu_device import facts_of, probes
from nnjit.tune.probes import BARRIERS, Probing


def open_tuning(session: CompilerSession, args: Mapping[str, Any]) -> dict[str, Any]:
    """Begins, or goes on with, tuning a plan."""
    key = str(args["key"])
    found = session.tunings.get(key)
    if found is None:
        plan = session.plan(key).plan
        for gone in [k for k in session.tunings if k not in session.plans]:
            del session.tunings[gone]
        if isinstance(plan, Plan):
            found = _wasm_course(session, key)
        elif isinstance(plan, GpuPlan):
            found = _gpu_course(session, key)
        else:
            raise SessionError("A model on the reference has no kernels to tune", plan=key)
        session.tunings[key] = found
    found.relay()
    return found.status()


def _wasm_course(session: CompilerSession, key: str) -> Course:
    known = KNOWN.found["wasm"]

    def memory() -> SessionMemory:
        assert isinstance(session.memory, SessionMemory)
        return session.memory

    def make(plan: Plan) -> Tuning:
        return Tuning(
            plan, memory, session.options.target, KNOWN.facts, own=known.chosen, offered=known.offered,
            failed=known.failed, alone=lambda: len(session.plans) == 1,
        )  # fmt: skip

    return Course(session, key, make, KNOWN.unfit.__contains__)


def _gpu_course(session: CompilerSession, key: str) -> Course:
    known = KNOWN.found["webgpu"]

    def memory() -> GpuMemory:
        assert isinstance(session.memory, GpuMemory)
        return session.memory

    def make(plan: GpuPlan) -> GpuTuning:
        assert session.options.gpu is not None
        return GpuTuning(
            plan, memory, session.options.gpu, KNOWN.gpu, own=known.chosen, offered=known.offered,
            failed=known.failed, alone=lambda: len(session.plans) == 1,
        )  # fmt: skip

    return Course(session, key, make, KNOWN.unfit.__contains__)


def with_facts(options: Options) -> Options:
    """The target of a session takes its numbers from the device's facts, once they are measured."""
    return replace(options, target=KNOWN.facts.target(options.target))


def prefer(session: CompilerSession) -> bool:
    """Plans of this session that are made from now on take the schedules found on earlier visits."""
    session.chosen = KNOWN.found["webgpu" if session.options.gpu is not None else "wasm"].chosen
    session.forms = replace(session.forms, answers=dict(KNOWN.forms))
    return True


def course_of(session: CompilerSession, args: Mapping[str, Any]) -> Course:
    found = session.tunings.get(str(args["key"]))
    if found is None:
        raise SessionError("This plan is not being tuned", plan=str(args["key"]))
    return found


def before(session: CompilerSession, key: str, step: int) -> dict[str, str]:
    """A tuned step's kernel as it was at first: schedule and listing; nothing for a step that was not changed."""
    course = session.tunings.get(key)
    slot = next((s for s in course.tuning.slots if step in s.steps), None) if course else None
    first = course.first.get(slot.spec.key) if course and slot else None
    if slot is None or first is None or slot.job.serving == first:
        return {}
    gpu = session.options.gpu
    if gpu is not None:
        code = emitted(slot.spec, first, gpu)[0].wgsl
    else:
        code = listing(emit(apply(slot.spec, first), session.options.target))
    return {"scheduleBefore": describe(first), "listingBefore": code}


def record_lines(session: CompilerSession, args: Mapping[str, Any]) -> list[dict[str, str]]:
    """[{key, line}]: what the tuning of a plan found (without `key`: of each plan of the session), as records of a
    device class; keys tell them apart."""
    if not args["key"]:
        device = args["device"]
        every = (record_lines(session, {"key": key, "device": device}) for key in session.tunings)
        return [line for lines in every for line in lines]
    course = course_of(session, args)
    lines = [{"key": f"form!{q}", "line": form_line(q, form)} for q, form in course.forming.answers.items()]
    KNOWN.forms |= course.forming.answers
    for failed in course.forming.failures():
        KNOWN.unfit.add(failed)
        question, form = failed.split(" ")
        lines.append({"key": f"form!{failed}", "line": form_line(question, form, "unfit")})
    for r in course.tuning.records(str(args["device"])):
        name = r.key
        KNOWN.found[r.target].keep(r)
        if r.verdict != "timed":
            name += "!" + hashlib.sha256(repr(r.schedule).encode()).hexdigest()[:12]
        lines.append({"key": name, "line": records.encode(r)})
    return lines


def probing(args: Mapping[str, Any]) -> dict[str, Any]:
    """The microbenchmarks' kernels: {pages, kernels, ...} for the engine's lab."""
    KNOWN.probing = Probing(
        relaxed=bool(args["relaxed"]), threads=int(args["threads"]), shared=bool(args["shared"])
    )
    return KNOWN.probing.work()


def probed(args: Mapping[str, Any]) -> dict[str, Any]:
    """What the engine measured becomes this device's facts."""
    if KNOWN.probing is None:
        raise SessionError("No microbenchmarks were asked for")
    KNOWN.facts = KNOWN.probing.facts(
        args["times"], args["values"], 1e3 * float(args["barriersMs"]) / BARRIERS
    )
    return KNOWN.facts.to_json()


def gpu_probing(session: CompilerSession) -> dict[str, Any]:
    """The microbenchmarks' shaders for the GPU of a session."""
    if session.options.gpu is None:
        raise SessionError("This session is not on WebGPU")
    KNOWN.gpu_probes = probes(session.options.gpu)
    return {"probes": [p.to_js() for p in KNOWN.gpu_probes], "pace": policy.GPU_PROBING}


def gpu_probed(args: Mapping[str, Any]) -> dict[str, Any]:
    """What the engine measured, ms by name, becomes this GPU's facts."""
    if not KNOWN.gpu_probes:
        raise SessionError("No microbenchmarks were asked for")
    KNOWN.gpu = facts_of(KNOWN.gpu_probes, args["ms"])
    return KNOWN.gpu.to_json()


def methods(session: Callable[[Any], CompilerSession]) -> dict[str, Callable[[Any, Any], Any]]:
    """The table for bridge.METHODS; arguments come as JSON text under `json`."""

    def plain(args: Any) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(str(args.json))
        return found

    def on_course(call: Callable[[Course, dict[str, Any]], Any]) -> Callable[[Any, Any], Any]:
        return lambda args, _: call(course_of(session(args), a := plain(args)), a)

    def on_tuning(call: Callable[[AnyCandidates, dict[str, Any]], Any]) -> Callable[[Any, Any], Any]:
        return on_course(lambda course, a: call(course.tuning, a))

    return {
        "tune.know": lambda args, _: know(plain(args)),
        "tune.forget": lambda args, _: forget(plain(args)),
        "tune.device": lambda args, _: device_name(plain(args)),
        "tune.probing": lambda args, _: probing(plain(args)),
        "tune.probed": lambda args, _: probed(plain(args)),
        "tune.moving": lambda args, _: policy.MOVING,
        "tune.gpuProbing": lambda args, _: gpu_probing(session(args)),
        "tune.gpuProbed": lambda args, _: gpu_probed(plain(args)),
        "tune.policy": lambda args, _: {"factsMs": policy.FACTS_MS, "stream": policy.STREAM},
        "tune.prefer": lambda args, _: prefer(session(args)),
        "tune.open": lambda args, _: open_tuning(session(args), plain(args)),
        "tune.records": lambda args, _: record_lines(session(args), plain(args)),
        "tune.surveyed": on_course(lambda c, a: c.surveyed(a["steps"])),
        "tune.next": on_course(lambda c, a: c.next(a.get("most"))),
        "tune.paired": on_course(lambda c, a: c.forming.report(a["report"])),
        "tune.link": on_course(lambda c, a: c.link(a["loaded"])),
        "tune.replaced": on_course(lambda c, a: c.replaced()),
        "tune.unlinked": on_course(lambda c, a: c.refused(str(a["reason"]))),
        "tune.restore": on_course(lambda c, a: c.reset()),
        "tune.measured": on_tuning(lambda t, a: t.measured(float(a["ms"]), a["samples"])),
        "tune.report": on_tuning(lambda t, a: t.report(a["report"])),
        "tune.adoption": on_tuning(lambda t, a: t.adoption(a["confirmed"])),
        "tune.adopted": on_tuning(lambda t, a: t.adopted_now()),
        "tune.refused": on_tuning(lambda t, a: t.not_adopted(str(a["reason"]), bool(a.get("again")))),
        "tune.dump": on_course(lambda c, a: c.dump()),
        "tune.status": on_course(lambda c, a: c.status()),
        "tune.reset": on_tuning(lambda t, a: t.reset()),
        "tune.drop": lambda args, _: session(args).tunings.pop(str(plain(args)["key"]), None) is not None,
    }
