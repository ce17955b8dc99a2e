"""The tuner on the GPU: candidates that are refused or wrong get their verdict and nothing else; a winner serves from
the next run on, with its panels made over; whole sessions are tuned through the public API."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from nnjit.codegen.schedule.gpu_products import products
from nnjit.codegen.schedule.group_steps import Digits
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.runtime.gpu_bench import GpuBench
from nnjit.tune import oracle, records
from nnjit.tune.fills import patterns
from nnjit.tune.space_gpu import gpu_space
from tests.browser.api_page import Api, model
from tests.support import specs
from tests.support.few_bits import packed

RNG = np.random.default_rng(41)
F = TensorProto.FLOAT

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
    for probe, sample in zip(probes, found["laid"]["samples"], strict=True):
        wanted, got = oracle.expected(spec, probe, patterns(spec)), oracle.decoded(bytes(sample), "f32")
        assert oracle.agrees(got, wanted, spec, "f32")


@pytest.mark.parametrize("bits", [4, 8])
def test_the_lab_finds_rows_in_digits_right(gpu: Api, target: WgslTarget, bits: int) -> None:
    """Beside the floats that serve, by the list's own tolerance."""
    spec, _ = packed(RNG, 1, 64, 24, bits, bits)  # blocks of 32
    listed = gpu_space(spec, target).lite(400)  # a large device has better use for few columns
    assert not isinstance(listed[0][-1], Digits)
    bench = GpuBench(spec, target)
    kernels = [bench.candidate(s)[0] for s in listed if isinstance(s[-1], Digits)][:3]
    assert kernels
    setup = plain(bench.setup(listed[0]))
    found = gpu.run(LAB, [setup, [{"kernel": k, "rounds": 3} for k in kernels]])
    for r in found["reports"]:
        assert r["report"]["verdict"] in ("timed", "slow") and r["report"]["checked"] == 64


def nothing(shader: dict[str, Any]) -> dict[str, Any]:
    """A shader with the same bindings that does nothing."""
    head = shader["wgsl"].split("@compute")[0]
    return {**shader, "wgsl": f"{head}@compute @workgroup_size(1)\nfn {shader['entryPoint']}() {{}}\n"}


def net() -> tuple[bytes, dict[str, Any], Any]:
    """Products by weights that are packed and by some that are not, a softmax, a norm's sums; and what comes out."""
    w = {
        n: (RNG.normal(0, 1, s) / 6).astype(np.float32)
        for n, s in (("v", (40, 36)), ("w", (40, 40)), ("u", (36, 40)))
    }
    nodes = [
        helper.make_node("Gemm", ["x", "v"], ["a"], transB=1),
        helper.make_node("Softmax", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["c"]),
        helper.make_node("Gemm", ["c", "u"], ["d"], transB=1),
        helper.make_node("Add", ["d", "x"], ["y"]),
    ]
    data = model(nodes, {"x": (F, [33, 36])}, {"y": (F, [33, 36])}, w).SerializeToString()
    x = RNG.normal(0, 1, (33, 36)).astype(np.float32)
    a = np.exp(x @ w["v"].T)
    return data, {"x": x}, (a / a.sum(1, keepdims=True)) @ w["w"] @ w["u"].T + x


TUNE = """async ([path, x, mode, rules]) => {
  const nnjit = (await import('/nnjit.js')).default;
  await nnjit.python(`import nnjit.tune.search as s; s.WIN, s.AGAIN, s.NEAR, s.WORTH = ${rules}`);
  const session = await create(path, { executionProviders: ['webgpu'], strict: true });
  try {
    const run = async () => Array.from((await session.run({ x: T('float32', new Float32Array(x), [33, 36]) })).y.data);
    const before = await run();
    await session.tuning.start({ mode });
    const during = [];
    const enough = () => session.tuning.status().kept >= 3 && session.tuning.facts?.measured;
    const over = () => ['done', 'failed', 'off'].includes(session.tuning.status().state);
    await until(async () => {
      during.push(await run());
      // where it rests, runs have left it too little
      await new Promise((resolve) => setTimeout(resolve, session.tuning.status().running ? 40 : 500));
      return over() || enough();
    }, () => session.tuning.status(), 200);
    await session.tuning.pause();
    const status = session.tuning.status();
    const after = await run();
    const text = await session.tuning.export();
    const kernels = [];
    for (const { step } of status.kernels) kernels.push(await session.kernel(step));
    await session.tuning.reset();
    const first = await run();
    const shader = (text) => text.includes('@compute');
    const changed = kernels.filter((k) => k.scheduleBefore).map((k) => shader(k.listing) && shader(k.listingBefore));
    const { backend } = session;
    const { facts } = session.tuning;
    return { facts, before, during: [during[0], during.at(-1)], after, first, status, text, backend, changed };
  } finally {
    await nnjit.python(`import nnjit.tune.search as s; s.WIN, s.AGAIN, s.NEAR, s.WORTH = 0.975, 0.985, 1.06, 0.004`);
    await session.release();
  }
}"""


@pytest.mark.parametrize("mode", ["now", "idle"])
def test_a_session_is_tuned_between_its_runs(gpu: Api, mode: str) -> None:
    """Every candidate that is right and not hopeless wins here, so that kernels are swapped again and again."""
    data, feeds, wanted = net()
    given = [gpu.put("tuned.onnx", data), feeds["x"].reshape(-1).tolist(), mode, "99, 99, 0, 0"]
    found = gpu.run(TUNE, given)
    status = found["status"]
    assert found["backend"] == "webgpu" and status["state"] in ("paused", "done"), status
    assert found["facts"]["measured"] and found["facts"]["gbytes"] > 0 and found["facts"]["dispatch_us"] > 0
    assert status["device"].startswith("webgpu.v8-")
    assert status["candidates"] > 0 and status["dropped"] == 0, status
    assert status["kept"] > 0 and found["changed"] and all(found["changed"])
    for key in ("before", "after", "first"):
        np.testing.assert_allclose(np.reshape(found[key], wanted.shape), wanted, rtol=2e-5, atol=2e-5)
    for values in found["during"]:
        np.testing.assert_allclose(np.reshape(values, wanted.shape), wanted, rtol=2e-5, atol=2e-5)
    good, bad = records.decode_lines(found["text"])
    assert good and not bad and all(r.target == "webgpu" and r.device == status["device"] for r in good)


def test_tuning_goes_on_after_the_device_was_lost(gpu: Api) -> None:
    data, feeds, wanted = net()
    found = gpu.run(
        """async ([path, x]) => {
          const nnjit = (await import('/nnjit.js')).default;
          const session = await create(path, { executionProviders: ['webgpu'], tune: { mode: 'now' } });
          const fed = () => ({ x: T('float32', new Float32Array(x), [33, 36]) });
          const run = async () => Array.from((await session.run(fed())).y.data);
          const told = () => session.tuning.status();
          const tried = () => session.tuning.status().candidates;
          const first = await run();
          await until(() => tried() > 0, told);
          nnjit.env.webgpu.device.destroy();
          await until(() => !session.tuning.status().running, told);
          const { state, candidates } = session.tuning.status();
          const again = await run();
          await until(() => tried() > candidates || session.tuning.status().state === 'done', told);
          const after = session.tuning.status();
          const last = await run();
          await session.release();
          return { values: [first, again, last], state, candidates, after };
        }""",
        [gpu.put("tuned.onnx", data), feeds["x"].reshape(-1).tolist()],
    )
    assert found["state"] == "off" and found["candidates"] > 0
    assert found["after"]["state"] in ("running", "done"), found["after"]
    assert found["after"]["candidates"] > found["candidates"] or found["after"]["state"] == "done"
    for values in found["values"]:
        np.testing.assert_allclose(np.reshape(values, wanted.shape), wanted, rtol=2e-5, atol=2e-5)


def test_the_page_is_drawn_while_the_tuner_works(gpu: Api) -> None:
    """Frames come, and tasks of the page's between the readings of a lab that uses every gap: counted, not timed."""
    data, feeds, _ = net()
    found = gpu.run(
        """async ([path, x]) => {
          const session = await create(path, { executionProviders: ['webgpu'], strict: true });
          const { submit } = GPUQueue.prototype;
          let drawing = true;
          let [frames, submitted, since, most, turning] = [0, 0, 0, 0, 0];
          const frame = () => {
            frames++;
            if (drawing) requestAnimationFrame(frame);
          };
          const turn = () => {
            most = Math.max(most, since);
            since = 0;
            turning = setTimeout(turn);
          };
          GPUQueue.prototype.submit = function (...given) {
            submitted++;
            since++;
            return submit.apply(this, given);
          };
          try {
            await session.run({ x: T('float32', new Float32Array(x), [33, 36]) });
            submitted = since = 0;
            turn();
            await session.tuning.start({ mode: 'now' });
            requestAnimationFrame(frame);
            const enough = () => session.tuning.status().candidates >= 4 && frames >= 4;
            await until(() => !session.tuning.status().running || enough(), () => [frames, session.tuning.status()]);
            const seen = { frames, submitted, most: Math.max(most, since) };
            await session.tuning.pause();
            return { ...seen, candidates: session.tuning.status().candidates };
          } finally {
            drawing = false;
            clearTimeout(turning);
            GPUQueue.prototype.submit = submit;
            await session.release();
          }
        }""",
        [gpu.put("drawn.onnx", data), feeds["x"].reshape(-1).tolist()],
    )
    # a candidate takes dozens of submissions: without a turn for the page they would come all at once
    assert found["candidates"] >= 1 and found["frames"] >= 4, found
    assert 4 * found["most"] <= found["submitted"], found
