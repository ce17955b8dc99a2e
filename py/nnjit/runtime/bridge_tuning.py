"""The tuner's half of the bridge: methods that the page calls to tune a session's plan, one step at a time.

KNOWN holds what all sessions share: the device's facts and the records of this browser and of a server.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.steps import Schedule, describe
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.emit import emit
from nnjit.codegen.wasm.listing import listing
from nnjit.codegen.wgsl.cache import emitted
from nnjit.errors import SessionError
from nnjit.runtime.candidates import AnyCandidates
from nnjit.runtime.course import Course
from nnjit.runtime.gpu_memory import GpuMemory
from nnjit.runtime.gpu_plan import GpuPlan
from nnjit.runtime.gpu_tuning import GpuTuning
from nnjit.runtime.memory import SessionMemory
from nnjit.runtime.plan import Plan
from nnjit.runtime.session import CompilerSession, Options
from nnjit.runtime.tuning import Tuning
from nnjit.tune import policy, records
from nnjit.tune.device import DeviceFacts
from nnjit.tune.device_class import engine_of, gpu_device, wasm_device
from nnjit.tune.gpu_device import GpuFacts, Probe, facts_of, probes
from nnjit.tune.probes import BARRIERS, Probing


class Found:
    """Records for one backend: of this browser, of others, and what failed here."""

    def __init__(self) -> None:
        self.own: dict[str, records.Record] = {}
        self.bad: dict[str, set[Schedule]] = {}
        self.shared: dict[str, list[records.Record]] = {}

    def chosen(self, spec: KernelSpec) -> Schedule | None:
        """The best schedule that this browser found for a spec, on an earlier visit."""
        if not self.own:
            return None
        found = self.own.get(records.spec_key(records.spec_text(spec)))
        return found.schedule if found is not None else None

    def failed(self, spec: KernelSpec) -> set[Schedule]:
        """What trapped, was wrong or was refused here before."""
        return self.bad.get(records.spec_key(records.spec_text(spec)), set()) if self.bad else set()

    def offered(self, spec: KernelSpec) -> list[Schedule]:
        """What others found for it: candidates like any other, only earlier in line."""
        if not self.shared:
            return []
        key = records.spec_key(records.spec_text(spec))
        return [r.schedule for r in self.shared.get(key, []) if r.verdict == "timed"]

    def keep(self, r: records.Record) -> None:
        """A record of this browser."""
        if r.verdict == "timed":
            self.own[r.key] = r
        else:
            self.bad.setdefault(r.key, set()).add(r.schedule)


class Known:
    """What is known of this device, whatever the session."""

    def __init__(self) -> None:
        self.facts = DeviceFacts()
        self.gpu = GpuFacts()
        self.probing: Probing | None = None
        self.gpu_probes: list[Probe] = []
        self.forget()

    def forget(self) -> None:
        """Drops all records."""
        self.found = {"wasm": Found(), "webgpu": Found()}
        self.forms: dict[str, str] = {}
        self.unfit: set[str] = set()
        """"question form" of each that went wrong."""


KNOWN = Known()


def device_name(args: Mapping[str, Any]) -> str:
    """The class of this device, from what the page tells; gpu: facts of the adapter, for a class of GPUs."""
    engine, version = engine_of(args["userAgent"])
    gpu = args.get("gpu")
    if gpu is not None:
        half = "shader-f16" in gpu["features"]
        return gpu_device(
            engine, version, gpu["vendor"], gpu["architecture"], int(gpu["subgroup"]), half
        ).name
    facts = KNOWN.facts
    madd = "none"
    if args["relaxed"]:
        # rounds once or twice
        madd = "fused" if "fused" in facts.relaxed or not facts.measured else "split"
    cache = facts.l2_bytes if facts.measured else 0
    return wasm_device(engine, version, args["isa"], madd, args["cores"], args["threads"], cache).name


def know(args: Mapping[str, Any]) -> dict[str, Any]:
    """{facts, gpu, own, shared}: stored facts (or null), record lines of this browser, record lines of a server."""
    if args.get("facts") is not None:
        KNOWN.facts = DeviceFacts.read(args["facts"])
    if args.get("gpu") is not None:
        KNOWN.gpu = GpuFacts.read(args["gpu"])
    lines = [line for line in args.get("own") or () if not read_form(line)]
    own, bad = records.decode_lines("\n".join(lines))
    own = [r for r in own if r.compiler == records.COMPILER]
    for r in own:
        KNOWN.found[r.target].keep(r)
    shared, more = records.decode_lines("\n".join(args.get("shared") or ()))
    for r in shared:
        if r.compiler == records.COMPILER:
            KNOWN.found[r.target].shared.setdefault(r.key, []).append(r)
    return {
        "facts": KNOWN.facts.to_json(),
        "gpu": KNOWN.gpu.to_json(),
        "own": len(own),
        "shared": len(shared),
        "refused": len(bad) + len(more),
    }


def forget(args: Mapping[str, Any]) -> bool:
    """Drops all records: later plans start from the default schedules."""
    KNOWN.forget()
    return True


def form_line(question: str, form: str, verdict: str = "known") -> str:
    """An answer as this browser keeps it; it is never sent anywhere."""
    return json.dumps({"question": question, "form": form, "verdict": verdict, "compiler": records.COMPILER})


def read_form(line: str) -> bool:
    """Takes a line of `form_line`; False for any other, which may be a record."""
    try:
        found = json.loads(line)
        question, form, verdict = (str(found[k]) for k in ("question", "form", "verdict"))
    except (ValueError, TypeError, KeyError):
        return False
    if found.get("compiler") == records.COMPILER:
        if verdict == "unfit":
            KNOWN.unfit.add(f"{question} {form}")
        else:
            KNOWN.forms[question] = form
    return True


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
