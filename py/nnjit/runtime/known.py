"""What is known of this device, whatever the session: its facts, and the records of this browser and of a server.

KNOWN is the one there is; the page's stored lines come in by `know`, and `form_line` writes one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nnjit.codegen.schedule.steps import Schedule
from nnjit.codegen.spec import KernelSpec
from nnjit.tune import records
from nnjit.tune.device import DeviceFacts
from nnjit.tune.device_class import engine_of, gpu_device, wasm_device
from nnjit.tune.gpu_device import GpuFacts, Probe
from nnjit.tune.probes import Probing


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
