"""Drivers that do not do what WGSL says: a shader that is rejected, numbers that are wrong. The page plays them: its
`createShaderModule` changes some shaders on their way to the real one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.browser.api_page import Api, tiny, tiny_weight
from tests.device.conftest import vendor
from tests.device.test_tuning import net
from tests.support.small_models import model_of

FAULTY = """async ([path, x, { label, shared, change }]) => {
  const nnjit = (await import('/nnjit.js')).default;
  const python = `import nnjit.runtime.bridge_proof as b; b.PROVEN.clear(); b.GPU_PROOF['quietMs'] = `;
  const { saveFacts } = await import('/api/tuning-store.js');
  const { adapterKey } = await import('/api/gpu-facts.js');
  const { getGpu } = await import('/api/workers.js');
  const { client } = await getGpu();
  const forget = async (quietMs) => {
    await saveFacts(`${adapterKey(client)}|proven`, { shaders: [] }); // the driver is another one now
    await nnjit.python(python + quietMs);
  };
  await forget(30);
  const { createShaderModule } = GPUDevice.prototype;
  let changed = 0;
  GPUDevice.prototype.createShaderModule = function (how) {
    const theirs = new RegExp(label).test(how.label) && (!shared || how.code.includes('var<workgroup>'));
    if (theirs) changed++;
    return createShaderModule.call(this, theirs ? { ...how, code: how.code.replaceAll(...change) } : how);
  };
  const session = await create(path, { executionProviders: ['webgpu'] });
  try {
    const run = async () => Array.from((await session.run({ x: T('float32', new Float32Array(x), [33, 36]) })).y.data);
    const first = await run();
    let known = -1;
    let last = first;
    while (session.stats().proof.wrong.length > known) {
      known = session.stats().proof.wrong.length;
      await until(() => session.stats().proof.settled, () => session.stats().proof);
      last = await run();
    }
    const { proof } = session.stats();
    return { first, last, changed, proof, placement: session.placement(), backend: session.backend };
  } finally {
    GPUDevice.prototype.createShaderModule = createShaderModule;
    await session.release();
    await forget(300);
  }
}"""


def faulty(gpu: Api, label: str, shared: bool, change: tuple[str, str]) -> tuple[dict[str, Any], Any]:
    data, feeds, wanted = net()
    how = {"label": label, "shared": shared, "change": change}
    return gpu.run(FAULTY, [gpu.put("faulty.onnx", data), feeds["x"].reshape(-1).tolist(), how]), wanted


def near(values: Any, wanted: Any) -> bool:
    return bool(np.allclose(np.reshape(values, wanted.shape), wanted, rtol=2e-5, atol=2e-5))


def test_a_kernel_whose_shader_is_rejected_is_made_otherwise(gpu: Api) -> None:
    found, wanted = faulty(gpu, "gemm|matmul", True, ("@compute", "nonsense @compute"))
    assert found["changed"] >= 3 and near(found["first"], wanted) and near(found["last"], wanted)
    assert found["backend"] == "webgpu" and not found["proof"]["wrong"]
    assert "reference" not in {row["backend"] for row in found["placement"]}


def test_kernels_that_are_right_are_looked_at_after_the_first_run(gpu: Api) -> None:
    found, wanted = faulty(gpu, "none", False, ("", ""))
    assert found["proof"] == {"checked": 4, "unchecked": 0, "wrong": [], "done": True, "settled": True}
    assert found["changed"] == 0 and near(found["last"], wanted)


def test_attention_under_a_causal_mask_is_right(gpu: Api) -> None:
    """Its kernel leaves out what the mask hides; of operands that hide nothing it would give something else."""
    n = helper.make_node
    nodes = [n("MatMul", ["q", "k"], ["s"]), n("Add", ["s", "mask"], ["t"]), n("Softmax", ["t"], ["p"]),
             n("MatMul", ["p", "q"], ["y"])]  # fmt: skip
    rng = np.random.default_rng(2)
    q = rng.uniform(-1, 1, (1, 1, 160, 16)).astype(np.float32)
    mask = np.triu(np.full((160, 160), -1e4, np.float32), 1).reshape(1, 1, 160, 160)
    data = model_of(nodes, {"q": q, "k": np.swapaxes(q, 2, 3)}, {"mask": mask}, ["y"])
    found = gpu.run(
        """async ([path]) => {
          const session = await create(path, { executionProviders: ['webgpu'] });
          const q = T('float32', new Float32Array(2560).fill(0.5), [1, 1, 160, 16]);
          const run = async () => (await session.run({ q, k: T('float32', q.data, [1, 1, 16, 160]) })).y.data[0];
          const y = [await run()];
          for (const end = performance.now() + 60000; !session.stats().proof.settled && performance.now() < end;) {
            await new Promise((resolve) => setTimeout(resolve, 10));
          }
          y.push(await run());
          const steps = new Set(session.placement().map(({ step }) => step)).size;
          const told = { proof: session.stats().proof, y, steps };
          await session.release();
          return told;
        }""",
        [gpu.put("causal.onnx", data)],
    )
    assert found["proof"] == {"checked": 1, "unchecked": 0, "wrong": [], "done": True, "settled": True}
    assert np.allclose(found["y"], 0.5) and found["steps"] == 1


@pytest.mark.parametrize("shared", [True, False])
def test_wrong_numbers_are_found_and_another_kernel_takes_over(gpu: Api, shared: bool) -> None:
    """The kernels that the rules chose are wrong, or all that do such a product: the reference has its nodes then."""
    found, wanted = faulty(gpu, "gemm|matmul", shared, ("fma(", "0.5f * fma("))
    assert not near(found["first"], wanted), "the page did not play its part"
    assert near(found["last"], wanted)
    assert found["proof"]["wrong"] and all("definition gives" in line for line in found["proof"]["wrong"])
    placed = {
        row["op"]: row["backend"] for row in found["placement"] if row["backend"] in ("webgpu", "reference")
    }
    assert placed["Softmax"] == "webgpu"
    assert placed["MatMul"] == placed["Gemm"] == ("webgpu" if shared else "reference"), found["placement"]


FULL = """async ([path]) => {
  const session = await create(path, { executionProviders: ['webgpu'], room: false });
  const given = (rows) => ({ x: T('float32', new Float32Array(rows * 4).fill(1), [rows, 4]) });
  const rows = async (n) => {
    const { z } = await session.run(given(n));
    return [z.data.length, z.data[0], z.data.at(-1), session.stats().plans];
  };
  const { createBuffer, pushErrorScope, popErrorScope } = GPUDevice.prototype;
  const { submit } = GPUQueue.prototype;
  let held = 0;
  let destroyed = 0;
  let room = Infinity;
  let failed = 0;
  const scopes = [];
  GPUDevice.prototype.createBuffer = function (how) {
    if (held + how.size > room) {
      failed++;
      for (const scope of scopes) if (scope.filter === 'out-of-memory') scope.full = true;
      return createBuffer.call(this, { ...how, usage: 3 }); // nothing can be done with it
    }
    const made = createBuffer.call(this, how);
    const { destroy } = made;
    let gone = false;
    held += how.size;
    made.destroy = function () {
      if (!gone) destroyed += how.size;
      gone = true;
      destroy.call(made);
    };
    return made;
  };
  GPUQueue.prototype.submit = function (commands) { // browsers free what was destroyed behind what comes next
    submit.call(this, commands);
    held -= destroyed;
    destroyed = 0;
  };
  GPUDevice.prototype.pushErrorScope = function (filter) {
    scopes.push({ filter });
    pushErrorScope.call(this, filter);
  };
  GPUDevice.prototype.popErrorScope = function () {
    const { full } = scopes.pop();
    const error = popErrorScope.call(this);
    return full ? error.then(() => new GPUOutOfMemoryError('no room')) : error;
  };
  try {
    const first = await rows(50_000);
    room = held + 1_300_000; // the second's plan, but not the buffers that its outputs come through
    const squeezed = await rows(40_000);
    const often = failed;
    room = 1_300_000;
    const { code } = await failure(rows(40_001));
    room = Infinity;
    const later = await rows(40_001);
    return { first, squeezed, often, code, later, again: await rows(3), backend: session.backend };
  } finally {
    Object.assign(GPUDevice.prototype, { createBuffer, pushErrorScope, popErrorScope });
    Object.assign(GPUQueue.prototype, { submit });
    await session.release();
  }
}"""


def test_a_run_that_finds_no_room_is_repeated_with_what_other_shapes_held(undisturbed: Api) -> None:
    found = undisturbed.run(FULL, [undisturbed.put("tiny.onnx", tiny())])
    y = np.maximum(np.ones(4, np.float32) @ tiny_weight(), 0)
    for key, rows, plans in (
        ("first", 50_000, 1),
        ("squeezed", 40_000, 1),
        ("later", 40_001, 1),
        ("again", 3, 2),
    ):
        assert found[key] == [3 * rows, y[0], y[-1], plans], key
    assert found["often"] >= 1 and found["code"] == "OUT_OF_MEMORY" and found["backend"] == "webgpu"


def test_a_feed_that_was_destroyed_is_no_stale_result(gpu: Api) -> None:
    """Runs that went well before, with outputs on either side."""
    found = gpu.run(
        """async ([path]) => {
          const nnjit = (await import('/nnjit.js')).default;
          const told = {};
          for (const preferredOutputLocation of ['cpu', 'gpu-buffer']) {
            const session = await create(path, { executionProviders: ['webgpu'], preferredOutputLocation });
            const { device } = nnjit.env.webgpu;
            const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
            const buffer = device.createBuffer({ size: 32, usage });
            const fed = () => nnjit.Tensor.fromGpuBuffer(buffer, { dataType: 'float32', dims: [2, 4] });
            for (let i = 0; i < 3; i++) (await session.run({ x: fed() })).z.dispose();
            buffer.destroy();
            const x = T('float32', new Float32Array(8), [2, 4]);
            const later = async () => {
              await (await session.run({ x: fed() })).z.getData();
              await session.run({ x });
            };
            const { code, message } = await failure(later());
            const { z } = await session.run({ x });
            told[preferredOutputLocation] = { code, message, after: Array.from(await z.getData()) };
            await session.release();
          }
          return told;
        }""",
        [gpu.put("tiny.onnx", tiny())],
    )
    for where, told in found.items():
        assert told["code"] == "FEED" and "destroyed" in told["message"], (where, told)
        assert told["after"] == [0.0] * 6


def test_a_first_run_that_fails_keeps_no_output_and_is_told_once(gpu: Api) -> None:
    found = gpu.run(
        """async ([path]) => {
          const nnjit = (await import('/nnjit.js')).default;
          const session = await create(path, { executionProviders: ['webgpu'], preferredOutputLocation: 'gpu-buffer' });
          const { prototype } = GPUDevice;
          const { createBuffer } = prototype;
          const outputs = [];
          prototype.createBuffer = function (how) {
            const made = createBuffer.call(this, how);
            const { destroy } = made;
            const noted = { gone: false };
            if (how.label === 'z') outputs.push(noted);
            made.destroy = () => {
              noted.gone = true;
              destroy.call(made);
            };
            return made;
          };
          try {
            const x = T('float32', new Float32Array(8).fill(1), [2, 4]);
            await session.prepare({ x: [2, 4] });
            const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
            const buffer = nnjit.env.webgpu.device.createBuffer({ size: 32, usage });
            const fed = nnjit.Tensor.fromGpuBuffer(buffer, { dataType: 'float32', dims: [2, 4] });
            buffer.destroy();
            const { code } = await failure(session.run({ x: fed }));
            const after = outputs.map(({ gone }) => gone);
            const { z } = await session.run({ x });
            const values = Array.from(await z.getData());
            z.dispose();
            return { code, after, values, last: outputs.map(({ gone }) => gone) };
          } finally {
            Object.assign(prototype, { createBuffer });
            await session.release();
          }
        }""",
        [gpu.put("tiny.onnx", tiny())],
    )
    y = np.maximum(np.ones((2, 4), np.float32) @ tiny_weight(), 0)
    assert found["code"] == "FEED" and found["after"] == [True] and found["last"] == [True, True]
    assert found["values"] == y.reshape(-1).tolist()


@pytest.mark.skipif(vendor() == "swiftshader", reason="its memory is this machine's")
def test_the_memory_of_the_device_runs_out(gpu: Api) -> None:
    """Runs of new shapes and of a plan that is there meet a typed error or give a result, and afterwards the result."""
    found = gpu.run(
        """async ([path]) => {
          const nnjit = (await import('/nnjit.js')).default;
          const session = await create(path, { executionProviders: ['webgpu'] });
          const rows = async (n) => {
            const { z } = await session.run({ x: T('float32', new Float32Array(n * 4).fill(1), [n, 4]) });
            return [z.data.length, z.data[0], z.data.at(-1)];
          };
          const told = (error) => error.code;
          const first = await rows(1000);
          const { device } = nnjit.env.webgpu;
          const held = [];
          for (let size = 2 ** 30; size >= 2 ** 22 && held.length < 400;) {
            device.pushErrorScope('out-of-memory');
            const buffer = device.createBuffer({ size, usage: GPUBufferUsage.STORAGE });
            if (await device.popErrorScope()) size /= 2;
            else held.push(buffer);
          }
          const taken = held.reduce((sum, { size }) => sum + size, 0);
          const full = [await rows(4_000_000).catch(told), await rows(1000).catch(told)];
          for (const buffer of held) buffer.destroy();
          let large;
          for (let i = 0; i < 50 && !Array.isArray(large); i++) { // the driver takes its time
            await new Promise((resolve) => setTimeout(resolve, 100));
            large = await rows(4_000_000).catch(told);
          }
          const after = [large, await rows(1000)];
          const { backend } = session;
          await session.release();
          return { first, taken, full, after, backend };
        }""",
        [gpu.put("tiny.onnx", tiny())],
    )
    y = np.maximum(np.ones(4, np.float32) @ tiny_weight(), 0)
    wanted = [[3 * n, y[0], y[-1]] for n in (4_000_000, 1000)]
    assert found["taken"] > 1 << 30 and found["first"] == wanted[1]
    for got, right in zip(found["full"], wanted, strict=True):
        assert got in (right, "MODEL_TOO_LARGE", "OUT_OF_MEMORY"), found
    assert found["after"] == wanted and found["backend"] == "webgpu"


def test_what_stops_for_another_kernel_goes_on_though_there_is_none(gpu: Api) -> None:
    """A kernel is wrong, and making the plan otherwise fails: the tuner has its turn again, and the next run's kernels
    are looked at."""
    found = gpu.run(
        """async () => {
          const { Proofs } = await import('/api/proofs.js');
          const { getGpu } = await import('/api/workers.js');
          const { client } = await getGpu();
          const asked = [];
          let left = 1;
          const answers = {
            'proof.policy': () => ({ quietMs: 0, most: 8 }),
            'proof.open': () => { left = 1; },
            'proof.next': () => (left-- ? { do: 'setup', setup: {}, name: 'a kernel' } : { do: 'done' }),
            'proof.told': () => ({ kernel: 3, digest: '', reason: 'it gives 1 for 2' }),
          };
          const plans = {
            latest: { backend: 'webgpu', key: 'p', request: {} },
            ask: async (what) => {
              asked.push(what);
              return answers[what]();
            },
            refuse: async (...what) => {
              asked.push(what);
              throw new Error('the session was released');
            },
          };
          let resumed = 0;
          const around = () => ({ queue: (work) => work(), leave: async () => () => { resumed++; } });
          const nothing = async () => {};
          Object.assign(client, { openLab: nothing, closeLab: nothing, labSetup: async () => ({ samples: [] }) });
          try {
            const proofs = new Proofs(plans, around);
            const rounds = [];
            for (let i = 0; i < 2; i++) {
              await proofs.during(async () => undefined);
              const told = () => asked.filter((what) => what === 'proof.told').length;
              await until(() => told() > i, () => asked);
              await proofs.stop();
              rounds.push([resumed, proofs.status.done, proofs.status.settled]);
            }
            return { rounds, refused: asked.filter(Array.isArray) };
          } finally {
            for (const name of ['openLab', 'closeLab', 'labSetup']) delete client[name];
          }
        }"""
    )
    assert found["rounds"] == [[1, True, False], [2, True, False]]
    assert found["refused"] == [["p", [3]]] * 2
