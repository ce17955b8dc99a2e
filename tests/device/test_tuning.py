"""The tuner on the GPU: candidates that are refused or wrong get their verdict and nothing else; a winner serves from
the next run on, with its panels made over; whole sessions are tuned through the public API."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from nnjit.codegen.schedule.gpu_products import products
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.runtime.gpu_bench import GpuBench
from nnjit.tune import oracle
from nnjit.tune.bench import fill_pattern
from tests.browser.api_page import Api
from tests.support import specs

RNG = np.random.default_rng(41)

LAB = """async ([setup, trials]) => {
  const { GpuClient } = await import('/engine/webgpu/client.js');
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  for (const operand of setup.operands) if (operand.pattern) operand.pattern = bytes(operand.pattern);
  const client = await GpuClient.start();
  await client.pace({ mode: 'now' });
  await client.openLab('lab');
  try {
    const laid = await client.labSetup('lab', setup);
    const reports = [];
    for (const trial of trials) {
      const report = await client.labTrial('lab', trial);
      reports.push({ report, confirmed: await client.labConfirm('lab') });
    }
    return { laid, reports, precise: client.facts.timestamps };
  } finally {
    await client.closeLab('lab');
    client.terminate();
  }
}"""


@pytest.fixture(scope="module")
def target(booted_device: Api) -> WgslTarget:
    """The device as the compiler sees it."""
    facts = booted_device.run(
        """async () => {
          const { GpuClient } = await import('/engine/webgpu/client.js');
          const client = await GpuClient.start();
          const { facts } = client;
          client.terminate();
          return facts;
        }"""
    )
    return WgslTarget.read(facts)


def plain(setup: dict[str, Any]) -> dict[str, Any]:
    """A setup as JSON: patterns as text."""
    operands = [
        {**o, "pattern": base64.b64encode(o["pattern"]).decode()} if "pattern" in o else o
        for o in setup["operands"]
    ]
    return {**setup, "operands": operands}


def test_the_lab_gives_each_candidate_its_verdict(gpu: Api, target: WgslTarget) -> None:
    spec, _ = specs.matmul(RNG, 33, 40, 50, transposed=True, constant=True)
    listed = list(products(spec, target))
    bench = GpuBench(spec, target)
    probes = oracle.probes(spec)
    setup = bench.setup(listed[0], [(p.operand, p.at) for p in probes])
    good, _ = bench.candidate(listed[1])
    text = good["shader"]["wgsl"]
    broken = {**good, "shader": {**good["shader"], "wgsl": text.replace("{", "{ nonsense", 1)}}
    wrong = {**good, "packs": [{**p, "shader": nothing(p["shader"])} for p in good["packs"]]}
    idle = {**good, "shader": nothing(good["shader"])}
    trials = [{"kernel": k, "rounds": 3} for k in (good, broken, wrong, idle, good)]
    found = gpu.run(LAB, [plain(setup), trials])
    verdicts = [r["report"]["verdict"] for r in found["reports"]]
    assert verdicts[1:4] == ["refused", "wrong", "wrong"] and {verdicts[0], verdicts[4]} <= {"timed", "slow"}
    assert "line" in found["reports"][1]["report"]["reason"]
    for r, ok in zip(found["reports"], (True, False, False, False, True), strict=True):
        assert r["confirmed"]["ok"] == (ok and r["report"]["verdict"] == "timed")
    first = found["reports"][0]["report"]
    assert first["checked"] == 33 * 40 and len(first["base"]) == len(first["mine"]) >= 2
    assert min(first["base"] + first["mine"]) > 0 and found["laid"]["ms"] > 0
    patterns = {i: fill_pattern(o.dtype, i, False) for i, o in enumerate(spec.operands) if o.role == "in"}
    for probe, sample in zip(probes, found["laid"]["samples"], strict=True):
        wanted, got = oracle.expected(spec, probe, patterns), oracle.decoded(bytes(sample), "f32")
        assert oracle.agrees(got, wanted, spec, "f32")


def nothing(shader: dict[str, Any]) -> dict[str, Any]:
    """A shader with the same bindings that does nothing."""
    head = shader["wgsl"].split("@compute")[0]
    return {**shader, "wgsl": f"{head}@compute @workgroup_size(1)\nfn {shader['entryPoint']}() {{}}\n"}
