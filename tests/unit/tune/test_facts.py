"""Device facts: microbenchmarks that run, numbers read out of made-up times, records of facts read with care."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import wasmtime

from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.wasm.target import Target
from nnjit.tune import probe_kernels, probes
from nnjit.tune.device import DeviceFacts, flops
from nnjit.tune.probes import Probing
from tests.support import specs


def measured(**change: Any) -> DeviceFacts:
    """Facts from times of a made-up machine: 50 GFLOP/s, caches of 32 KiB and 1 MiB, spills past 15 registers."""
    times = {}
    for kernel in Probing(relaxed=True, threads=2, shared=True).work()["kernels"]:
        name = kernel["name"]
        kind, _, size = name.partition(" ")
        if kind == "tile":
            mr, nv = map(int, size.split("x"))
            rate = 50.0 if probes.needed(mr, nv) <= change.get("registers", 15) else 24.0
            times[name] = probes.work_of(name) / rate / 1e6
        elif probes.work_of(name):
            times[name] = probes.work_of(name) / {"add": 40.0, "fma": 50.0, "all": 90.0}[kind] / 1e6
        elif kind == "read":
            times[name] = int(size) / 40e6
        elif kind == "chase":
            ns = 1.0 if int(size) <= 32 << 10 else 3.0 if int(size) <= 1 << 20 else 12.0
            times[name] = probe_kernels.HOPS * ns / 1e6
        else:
            times[name] = 0.01
    return Probing(relaxed=True, threads=2, shared=True).facts(times, [[0, 0, 128, 51]], 0.4)


def test_numbers_are_read_from_the_times() -> None:
    facts = measured()
    assert (
        facts.measured and facts.fma_gflops == pytest.approx(50) and facts.muladd_gflops == pytest.approx(40)
    )
    assert facts.registers == 15 and measured(registers=31).registers == 31
    assert (facts.l1_bytes, facts.l2_bytes) == (32 << 10, 1 << 20)
    assert facts.scaling == pytest.approx(1.8) and facts.barrier_us == 0.4
    assert facts.relaxed == ("fused",)


def test_facts_survive_storage_and_nothing_else_does() -> None:
    facts = measured()
    assert DeviceFacts.read(facts.to_json()) == facts
    for bad in (None, {}, {**facts.to_json(), "version": 0}, {**facts.to_json(), "registers": 10_000},
                {**facts.to_json(), "bandwidth": []}, {**facts.to_json(), "version": "1"}, {"version": 1}):  # fmt: skip
        assert not DeviceFacts.read(bad).measured
    for name in facts.to_json():
        assert not DeviceFacts.read({k: v for k, v in facts.to_json().items() if k != name}).measured
    assert DeviceFacts.read({**facts.to_json(), "tookMs": 412}) == facts, "the page keeps more than the facts"


def test_the_target_takes_its_registers_from_the_facts() -> None:
    assert measured(registers=31).target(Target()).registers == 31
    assert DeviceFacts(registers=31).target(Target()).registers == Target().registers  # not measured


def test_the_bound_is_the_larger_of_arithmetic_and_memory() -> None:
    facts = DeviceFacts(fma_gflops=10.0, bandwidth=((1 << 30, 1.0),))
    rng = np.random.default_rng(0)
    square = canonical(specs.matmul(rng, 128, 128, 128)[0])
    row = canonical(specs.matmul(rng, 1, 128, 128)[0])
    assert facts.bound_ms(square, Target()) == pytest.approx(flops(square) / 10e6)
    assert facts.bound_ms(row, Target()) == pytest.approx(4 * (128 + 128 * 128 + 128) / 1e6)


def test_the_microbenchmarks_run() -> None:
    """Each kernel under wasmtime; what they leave says that they did something."""
    work = Probing(relaxed=True, threads=1, shared=False).work()
    store = wasmtime.Store()
    memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(work["pages"], None)))
    for kernel in work["kernels"]:
        memory.write(store, np.array(kernel["pointers"], np.uint32).tobytes(), kernel["args"])
        instance = wasmtime.Instance(store, wasmtime.Module(store.engine, kernel["module"]), [memory])
        run: Any = instance.exports(store)["kernel"]
        run(store, kernel["args"], 0, 2)
        at = probes.LAST + probe_kernels.SHOWN
        left = memory.read(store, at, at + 80)
        if kernel["name"] == "rounding":
            assert np.frombuffer(left, np.float32)[0] in (0.0, np.float32(2.0**-24))
        elif kernel["name"].startswith(("fma", "add")):
            chains = int(kernel["name"].split()[1])
            assert 0 < np.frombuffer(left[64:80], np.float32)[0] <= 2 * chains
        elif kernel["name"].startswith("chase"):
            assert np.frombuffer(left[64:68], np.uint32)[0] != 0


def test_barriers_are_a_plan() -> None:
    plan = Probing(relaxed=True, threads=2, shared=True).work()["barriers"]
    assert len(plan["steps"]) == probes.BARRIERS and plan["module"].startswith(b"\0asm")
    assert Probing(relaxed=True, threads=1, shared=True).work()["barriers"] is None
