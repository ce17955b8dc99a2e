"""Runs in the page's Pyodide: `await measured(job)` compiles a model some times over; see compiling.py."""

import cProfile
import gc
import io
import json
import pstats
import sys
import time

import js

from nnjit import frontend
from nnjit.codegen.wasm import cache as wasm_cache
from nnjit.codegen.wasm.target import Target
from nnjit.codegen.wgsl import cache as wgsl_cache
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.lower import backend
from nnjit.runtime import bridge
from nnjit.runtime.prepared import Options
from nnjit.runtime.session import CompilerSession


def _options(job):
    gpu = WgslTarget.read(job["gpu"]) if job["gpu"] else None
    provider = "webgpu" if gpu else "wasm"
    return Options(
        provider=provider, target=Target(threads=job["threads"], shared=True), gpu=gpu, strict=True
    )


class _Collector:
    """Milliseconds that the garbage collector has taken."""

    def __init__(self):
        self.ms, self.start = 0.0, 0.0
        gc.callbacks.append(self)

    def __call__(self, phase, info):
        if phase == "start":
            self.start = time.perf_counter()
        else:
            self.ms += 1e3 * (time.perf_counter() - self.start)

    def stop(self):
        gc.callbacks.remove(self)
        return self.ms


def _once(job, source, shapes):
    collector = _Collector()
    clock = [time.perf_counter()]
    session = CompilerSession(frontend.load(source, {}), _options(job))
    session.describe()
    clock.append(time.perf_counter())
    # told as the page is told
    prepared, _ = session.prepare(shapes, {}, lambda *_: None)
    clock.append(time.perf_counter())
    bridge._answer({"value": {"plan": prepared.plan.to_js()}})
    clock.append(time.perf_counter())
    stats, bind = prepared.plan.stats, prepared.seconds["bind"]
    return {
        "read": 1e3 * (clock[1] - clock[0]),
        "bind": 1e3 * (clock[2] - clock[1]) - stats["lowerMs"] - stats["linkMs"],
        "lower": stats["lowerMs"],
        "link": stats["linkMs"],
        "answer": 1e3 * (clock[3] - clock[2]),
        "bound": 1e3 * bind,
        "kernels": stats["kernels"],
        "steps": stats["steps"],
        "emitted": stats["emitMs"]["sum"],
        "slowest": stats["emitMs"]["max"],
        "collector": collector.stop(),
    }


def _clear():
    for clear in (wasm_cache.clear, wgsl_cache.clear, backend.clear):
        clear()


def _calls(job, source, shapes):
    """How often a function of Python is entered: the same on every machine, however busy it is."""
    entered = 0

    def count(_frame, event, _arg):
        nonlocal entered
        entered += event == "call"

    _clear()
    sys.setprofile(count)
    try:
        _once(job, source, shapes)
    finally:
        sys.setprofile(None)
    return entered


async def measured(text):
    job = json.loads(text)
    response = await js.fetch(job["url"])
    source = bridge.PageSource(await response.blob(), "model.onnx")
    shapes = {name: tuple(dims) for name, dims in job["shapes"].items()}
    found = []
    for _ in range(job["rounds"]):
        _clear()
        profile = cProfile.Profile() if job["profile"] else None
        if profile:
            profile.enable()
        one = _once(job, source, shapes)
        if profile:
            profile.disable()
            table = io.StringIO()
            pstats.Stats(profile, stream=table).sort_stats("tottime").print_stats(45)
            one["table"] = table.getvalue()
        found.append(one)
    if job["calls"]:
        found[0]["calls"] = _calls(job, source, shapes)
    return json.dumps(found)
