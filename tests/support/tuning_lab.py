"""The engine's lab on CPython: does what a Tuning asks for under wasmtime, with a clock made of numbers.

`WasmLab(session)` lays kernels out, runs candidates, compares outputs; `adopt` carries an adoption out in a
LocalSession's own memory, as the browser's engine does. Times come from `clock(schedule text)`: no test waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import wasmtime

from nnjit.runtime.local import LocalSession
from nnjit.runtime.tuning import Tuning

UNWRITTEN = 0xA5
VIEWS = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "8": np.uint8, "16": np.uint16, "32": np.int32,
         "64": np.int64}  # fmt: skip


class WasmLab:
    """One thread, one memory of its own."""

    def __init__(self) -> None:
        config = wasmtime.Config()
        config.wasm_relaxed_simd = True
        self.store = wasmtime.Store(wasmtime.Engine(config))
        self.memory = wasmtime.Memory(self.store, wasmtime.MemoryType(wasmtime.Limits(1, 65536)))
        self.outputs: list[dict[str, Any]] = []

    def run(self, kernel: dict[str, Any]) -> None:
        for pack in kernel.get("packs", ()):
            self.run(pack)
        self.memory.write(self.store, np.array(kernel["pointers"], np.uint32).tobytes(), kernel["args"])
        module = wasmtime.Module(self.store.engine, kernel["module"])
        instance = wasmtime.Instance(self.store, module, [self.memory])
        instance.exports(self.store)["kernel"](self.store, kernel["args"], 0, kernel["tiles"])  # type: ignore[operator]

    def ensure(self, pages: int) -> None:
        self.memory.grow(self.store, max(0, pages - self.memory.size(self.store)))

    def blank(self, which: str) -> None:
        for o in self.outputs:
            self.memory.write(self.store, bytes([UNWRITTEN]) * o["nbytes"], o[which])

    def setup(self, setup: dict[str, Any]) -> list[list[int]]:
        """The bytes at the probes."""
        self.ensure(setup["pages"])
        self.outputs = setup["outputs"]
        for fill in setup["fills"]:
            self.fill(fill)
        self.blank("address")
        self.run(setup["kernel"])
        return [
            list(self.memory.read(self.store, p["address"], p["address"] + p["length"]))
            for p in setup["probes"]
        ]

    def trial(self, trial: dict[str, Any], ms: float, base: float) -> dict[str, Any]:
        """A report with the given times, or the verdict of what the candidate did."""
        kernel = trial["kernel"]
        self.ensure(kernel["pages"])
        self.blank("other")
        try:
            self.run(kernel)
        except wasmtime.Trap as error:
            return {"verdict": "trap", "reason": str(error), "base": [], "mine": []}
        worst = self.worst()
        if worst > 1:
            return {"verdict": "wrong", "reason": f"{worst} tolerances", "base": [], "mine": []}
        return {"verdict": "timed", "base": [base] * 5, "mine": [ms] * 5, "checked": 1, "worst": worst}

    def pair(self, pair: dict[str, Any], ratio: float = 1.0) -> dict[str, Any]:
        """Two ways of a part of a model, run twice on the same inputs: the other takes `ratio` of the time."""
        self.ensure(pair["pages"])
        self.outputs = pair["outputs"]
        self.blank("address")
        self.blank("other")
        slots = sum(p["slots"] for p in pair["plans"])
        table = wasmtime.Table(
            self.store, wasmtime.TableType(wasmtime.ValType.funcref(), wasmtime.Limits(slots, None)), None
        )
        runs = []
        for plan in pair["plans"]:
            module = wasmtime.Module(self.store.engine, plan["module"])
            imports = [table if i.name == "table" else self.memory for i in module.imports]
            runs.append(
                (
                    wasmtime.Instance(self.store, module, imports).exports(self.store)["run"],
                    len(plan["steps"]),
                )
            )
            for item in plan["init"]:
                if item["kind"] == "step":
                    kernel = table.get(self.store, item["slot"])
                    kernel(self.store, item["args"], 0, item["tiles"])  # type: ignore[misc]
                else:
                    self.fill(item)
        for fill in pair["fills"]:
            self.fill(fill)
        try:
            for _ in range(2):  # the inputs must still be there
                for run, steps in runs:
                    run(self.store, 0, 1, 0, steps)  # type: ignore[operator]
        except wasmtime.Trap as error:
            return {"verdict": "trap", "reason": str(error), "base": [], "mine": []}
        worst = self.worst()
        if worst > 1:
            return {"verdict": "wrong", "reason": f"{worst} tolerances", "base": [], "mine": []}
        return {"verdict": "timed", "base": [1.0] * 7, "mine": [ratio] * 7, "checked": 1, "worst": worst}

    def fill(self, fill: dict[str, Any]) -> None:
        """Writes bytes, or a pattern over and over."""
        data = fill.get("data")
        if data is None:
            data = np.resize(np.frombuffer(fill["pattern"], np.uint8), fill["nbytes"]).tobytes()
        self.memory.write(self.store, bytes(data), fill["address"])

    def worst(self) -> float:
        """The largest difference of the two outputs in units of the tolerance."""
        found = 0.0
        for o in self.outputs:
            a, b = (
                np.frombuffer(self.memory.read(self.store, at, at + o["nbytes"]), VIEWS[o["kind"]]).astype(np.float64)
                for at in (o["address"], o["other"])
            )  # fmt: skip
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            scale = np.abs(a[np.isfinite(a)]).max(initial=0.0)
            room = o["tolerance"]["absolute"] * scale + o["tolerance"]["relative"] * np.abs(a)
            with np.errstate(all="ignore"):
                error = np.where(same, 0.0, np.abs(a - b) / room)
            found = max(found, float(np.nan_to_num(error, nan=np.inf).max(initial=0.0)))
        return found


def adopt(session: LocalSession, tuning: Tuning, adoption: dict[str, Any], module: bytes) -> None:
    """The engine's part of a swap, in a session's own memory and table."""
    memory, store = session.memory, session.store
    memory.grow(store, max(0, adoption["pages"] - memory.size(store)))

    def made(code: bytes) -> Any:
        return wasmtime.Instance(store, wasmtime.Module(store.engine, code), [memory]).exports(store)[
            "kernel"
        ]

    for repack in adoption["repacks"]:
        for kernel in repack["kernels"]:
            memory.write(store, np.array(kernel["pointers"], np.uint32).tobytes(), kernel["args"])
            made(kernel["module"])(store, kernel["args"], 0, kernel["tiles"])
        for word in repack["words"]:
            memory.write(store, np.array([repack["place"]], np.uint32).tobytes(), word)
    session.table.set(store, adoption["slot"], made(module))


def drive(
    session: LocalSession,
    tuning: Tuning,
    clock: Callable[[str], float],
    most: int = 1000,
    log: list[dict[str, Any]] | None = None,
) -> str:
    """Tunes until it is done or `most` trials were made; every winner is adopted. The reason of the end."""
    lab = WasmLab()
    serving = 1.0
    tuning.surveyed([{"step": i, "ms": 1.0} for i in range(len(tuning.plan.steps))])
    for _ in range(most):
        todo = tuning.next()
        if todo["do"] == "done":
            return str(todo["reason"])
        if todo["do"] == "setup":
            job = tuning.by_key[todo["job"]["key"]].job
            serving = job.ms or 1.0
            answer = tuning.measured(serving, lab.setup(todo["setup"]))
            assert answer["ok"], answer["reason"]
            continue
        report = lab.trial(todo["trial"], clock(todo["schedule"]), serving)
        answer = tuning.report(report)
        if log is not None:
            log.append(answer["line"])
        if answer["won"]:
            adoption = tuning.adoption({"ok": True, "base": report["base"], "mine": report["mine"]})
            if adoption is not None:
                adopt(session, tuning, adoption, todo["trial"]["kernel"]["module"])
                tuning.adopted_now()
                serving = clock(todo["schedule"])
    return "stopped"
