"""Tensors that stay on the GPU, a device of the page's own, its loss, and what happens where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from tests.browser.api_page import Api, tiny, tiny_weight
from tests.device.test_tuning import net

X = [1, -2, 3, 4, 0, 1, 2, 3]
Y = np.maximum(np.array(X, np.float32).reshape(2, 4) @ tiny_weight(), 0)


def test_outputs_stay_on_the_device_and_are_fed_again(gpu: Api) -> None:
    found = gpu.run(
        """async ([path, x]) => {
          const nnjit = (await import('/nnjit.js')).default;
          const session = await create(path, { executionProviders: ['webgpu'], preferredOutputLocation: 'gpu-buffer' });
          const { z } = await session.run({ x: T('float32', new Float32Array(x), [2, 4]) });
          const here = { location: z.location, dims: z.dims, type: z.type };
          let refused = '';
          try { z.data; } catch (error) { refused = error.code; }
          const first = Array.from(await z.getData());
          const { device } = nnjit.env.webgpu;
          const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
          const buffer = device.createBuffer({ size: 32, usage });
          device.queue.writeBuffer(buffer, 0, new Float32Array(x));
          const fed = nnjit.Tensor.fromGpuBuffer(buffer, { dataType: 'float32', dims: [2, 4] });
          const again = await session.run({ x: fed });
          const second = Array.from(await again.z.getData());
          z.dispose();
          again.z.dispose();
          await session.release();
          return { here, refused, first, second, gone: z.location, still: fed.location };
        }""",
        [gpu.put("tiny.onnx", tiny()), X],
    )
    assert found["here"] == {"location": "gpu-buffer", "dims": [2, 3], "type": "float32"}
    assert found["refused"] == "TENSOR_LOCATION"
    assert found["gone"] == "none" and found["still"] == "gpu-buffer"
    np.testing.assert_allclose(np.reshape(found["first"], (2, 3)), Y)
    assert found["second"] == found["first"]


def test_a_lost_device_is_replaced_and_the_run_repeated(gpu: Api) -> None:
    found = gpu.run(
        """async ([path, x]) => {
          const nnjit = (await import('/nnjit.js')).default;
          const session = await create(path, { executionProviders: ['webgpu'] });
          const feeds = { x: T('float32', new Float32Array(x), [2, 4]) };
          const before = Array.from((await session.run(feeds)).z.data);
          const lost = nnjit.env.webgpu.device;
          const inFlight = session.run(feeds);
          lost.destroy();
          const during = Array.from((await inFlight).z.data);
          const after = Array.from((await session.run(feeds)).z.data);
          const fresh = nnjit.env.webgpu.device !== lost;
          const { backend } = session;
          await session.release();
          return { before, during, after, fresh, backend };
        }""",
        [gpu.put("tiny.onnx", tiny()), X],
    )
    assert found["fresh"] and found["backend"] == "webgpu"
    assert found["before"] == found["during"] == found["after"]
    np.testing.assert_allclose(np.reshape(found["during"], (2, 3)), Y)


@pytest.mark.parametrize(
    "call", ["profile({ repeats: 2 })", "profile({ feeds, repeats: 2 })", "check(feeds)"]
)
def test_what_looks_into_a_plan_is_repeated_on_another_device_too(gpu: Api, call: str) -> None:
    """The device is lost behind the first commands of the call."""
    found = gpu.run(
        """async ([path, x, call]) => {
          const nnjit = (await import('/nnjit.js')).default;
          const session = await create(path, { executionProviders: ['webgpu'] });
          const feeds = { x: T('float32', new Float32Array(x), [2, 4]) };
          await session.run(feeds);
          await until(() => session.stats().proof.settled, () => session.stats().proof);
          const lost = nnjit.env.webgpu.device;
          const { submit } = lost.queue;
          let left = 1;
          lost.queue.submit = (list) => {
            submit.call(lost.queue, list);
            if (left-- === 1) lost.destroy();
          };
          const answer = await eval(`session.${call}`);
          const fresh = left < 1 && nnjit.env.webgpu.device !== lost;
          const { z } = await session.run(feeds);
          const { backend } = session;
          await session.release();
          return { answer, fresh, backend, z: Array.from(z.data) };
        }""",
        [gpu.put("tiny.onnx", tiny()), X, call],
    )
    assert found["fresh"] and found["backend"] == "webgpu"
    np.testing.assert_allclose(np.reshape(found["z"], (2, 3)), Y)
    if call.startswith("profile"):
        assert [s["step"] for s in found["answer"]["steps"]] == [0] and found["answer"]["repeats"] == 2
    else:
        assert found["answer"][0]["name"] == "z" and found["answer"][0]["maxAbs"] < 1e-5


def test_a_device_of_the_pages_own_is_shared_and_kept(gpu: Api) -> None:
    """With the limits that every device has; the page's buffers go in, its own commands read what comes out."""
    found = gpu.run(
        """async ([path, x]) => {
          const nnjit = (await import('/nnjit.js')).default;
          const adapter = await navigator.gpu.requestAdapter();
          const mine = await adapter.requestDevice();
          let lost = false;
          void mine.lost.then(() => { lost = true; });
          const before = nnjit.env.webgpu.device;
          nnjit.env.webgpu.device = mine;
          try {
            const preferredOutputLocation = 'gpu-buffer';
            const session = await create(path, { executionProviders: ['webgpu'], preferredOutputLocation });
            const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
            const buffer = mine.createBuffer({ size: 32, usage });
            mine.queue.writeBuffer(buffer, 0, new Float32Array(x));
            const fed = nnjit.Tensor.fromGpuBuffer(buffer, { dataType: 'float32', dims: [2, 4] });
            const { z } = await session.run({ x: fed });
            const staging = mine.createBuffer({ size: 24, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
            const encoder = mine.createCommandEncoder();
            encoder.copyBufferToBuffer(z.gpuBuffer, 0, staging, 0, 24);
            mine.queue.submit([encoder.finish()]);
            await staging.mapAsync(1);
            const values = Array.from(new Float32Array(staging.getMappedRange()));
            const { backend } = session;
            await session.release();
            await mine.queue.onSubmittedWorkDone();
            return { values, backend, same: nnjit.env.webgpu.device === mine, lost };
          } finally {
            nnjit.env.webgpu.device = before;
            mine.destroy();
          }
        }""",
        [gpu.put("tiny.onnx", tiny()), X],
    )
    np.testing.assert_allclose(np.reshape(found["values"], (2, 3)), Y)
    assert found["same"] and found["backend"] == "webgpu" and not found["lost"]


def test_a_run_makes_nothing_that_the_last_one_had(undisturbed: Api) -> None:
    """Bind groups, pipelines and buffers are made once; all steps are in one pass of one command buffer."""
    found = undisturbed.run(
        """async ([path, x]) => {
          const session = await create(path, { executionProviders: ['webgpu'] });
          const feeds = { x: T('float32', new Float32Array(x), [33, 36]) };
          for (let i = 0; i < 3; i++) await session.run(feeds);
          const counted = {};
          const undo = [];
          const count = (type, name, counts = () => true) => {
            const real = type.prototype[name];
            counted[name] = 0;
            type.prototype[name] = function (...given) {
              if (counts(...given)) counted[name]++;
              return real.apply(this, given);
            };
            undo.push(() => { type.prototype[name] = real; });
          };
          for (const name of ['Buffer', 'BindGroup', 'ComputePipelineAsync', 'ShaderModule', 'CommandEncoder']) {
            count(GPUDevice, `create${name}`);
          }
          count(GPUCommandEncoder, 'beginComputePass');
          count(GPUComputePassEncoder, 'dispatchWorkgroups');
          count(GPUQueue, 'submit', (commands) => commands.length > 0);
          try {
            await session.run(feeds);
          } finally {
            for (const back of undo) back();
          }
          const { steps } = session.stats().compile;
          await session.release();
          return { counted, steps };
        }""",
        [undisturbed.put("net.onnx", net()[0]), net()[1]["x"].reshape(-1).tolist()],
    )
    made = {"createBuffer": 0, "createBindGroup": 0, "createComputePipelineAsync": 0, "createShaderModule": 0}
    once = {"createCommandEncoder": 1, "beginComputePass": 1, "submit": 1}
    assert found["steps"] >= 4
    assert found["counted"] == {**made, **once, "dispatchWorkgroups": found["steps"]}


def test_profile_and_kernel(gpu: Api) -> None:
    found = gpu.run(
        """async ([path, x]) => {
          const session = await create(path, { executionProviders: ['webgpu'] });
          await session.run({ x: T('float32', new Float32Array(x), [2, 4]) });
          const profile = await session.profile({ repeats: 2 });
          const { listing } = await session.kernel(0);
          const stats = session.stats();
          await session.release();
          return { steps: profile.steps, listing, load: stats.load, compile: stats.compile };
        }""",
        [gpu.put("tiny.onnx", tiny()), X],
    )
    assert "@compute" in found["listing"]
    assert [s["step"] for s in found["steps"]] == [0] and found["steps"][0]["ms"] > 0
    assert found["load"]["bytes"] > 0 and found["compile"]["steps"] == 1


def test_new_shapes_share_the_constants(gpu: Api) -> None:
    found = gpu.run(
        """async ([path]) => {
          const session = await create(path, { executionProviders: ['webgpu'] });
          const out = [];
          for (const rows of [2, 5, 2]) {
            const x = new Float32Array(rows * 4).fill(1);
            out.push(Array.from((await session.run({ x: T('float32', x, [rows, 4]) })).z.data));
          }
          const { plans } = session.stats();
          await session.release();
          return { out, plans };
        }""",
        [gpu.put("tiny.onnx", tiny())],
    )
    row = np.maximum(np.ones(4, np.float32) @ tiny_weight(), 0)
    assert found["plans"] == 2
    for values, rows in zip(found["out"], (2, 5, 2), strict=True):
        np.testing.assert_allclose(np.reshape(values, (rows, 3)), np.tile(row, (rows, 1)))


def test_without_an_adapter_the_next_provider_runs(gpu: Api) -> None:
    """The browser is made to offer none; the session says why it runs elsewhere. One from before can be released."""
    found = gpu.run(
        """async ([path, x]) => {
          const nnjit = (await import('/nnjit.js')).default;
          const earlier = await create(path, { executionProviders: ['webgpu'] });
          await earlier.run({ x: T('float32', new Float32Array(x), [2, 4]) });
          const { device } = nnjit.env.webgpu;
          const request = navigator.gpu.requestAdapter;
          device.destroy();
          await device.lost;
          navigator.gpu.requestAdapter = async () => null;
          try {
            await earlier.release();
            const session = await create(path, { executionProviders: ['webgpu', 'wasm'] });
            const { z } = await session.run({ x: T('float32', new Float32Array(x), [2, 4]) });
            const { backend, backendReason } = session;
            await session.release();
            return { backend, backendReason, z: Array.from(z.data) };
          } finally {
            navigator.gpu.requestAdapter = request;
          }
        }""",
        [gpu.put("tiny.onnx", tiny()), X],
    )
    assert found["backend"] == "wasm" and "no adapter" in found["backendReason"]
    np.testing.assert_allclose(np.reshape(found["z"], (2, 3)), Y)


BOTH = """async ([path, x, policy, gpuFeed]) => {
  const nnjit = (await import('/nnjit.js')).default;
  const shown = await nnjit.python('import json, nnjit.tune.policy as p; json.dumps(p.MOVING)');
  await nnjit.python(`import nnjit.tune.policy as p; p.MOVING.update(${JSON.stringify(policy)})`);
  try {
    const session = await create(path, { executionProviders: ['webgpu', 'wasm'], strict: true });
    const seen = [[session.backend, session.backendReason]];
    const run = async () => Array.from((await session.run({ x: T('float32', new Float32Array(x), [2, 4]) })).z.data);
    const values = [await run()];
    if (gpuFeed) {
      const { device } = nnjit.env.webgpu;
      const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
      const buffer = device.createBuffer({ size: 32, usage });
      device.queue.writeBuffer(buffer, 0, new Float32Array(x));
      const fed = nnjit.Tensor.fromGpuBuffer(buffer, { dataType: 'float32', dims: [2, 4] });
      values.push(Array.from((await session.run({ x: fed })).z.data));
    }
    const undecided = () => session.backendReason.includes('is being prepared');
    await until(async () => {
      if (undecided()) values.push(...await Promise.all([run(), run(), run()])); // some are under way whatever happens
      return !undecided();
    }, () => session.backendReason);
    for (let i = 0; i < 3; i++) values.push(await run());
    seen.push([session.backend, session.backendReason]);
    const placed = session.placement().map(({ backend }) => backend);
    if (session.backend === 'webgpu') {
      const inFlight = run();
      nnjit.env.webgpu.device.destroy();
      values.push(await inFlight);
      seen.push([session.backend, session.backendReason]);
    }
    await session.release();
    return { seen, values, placed };
  } finally {
    await nnjit.python(`import json, nnjit.tune.policy as p; p.MOVING.update(json.loads('${shown}'))`);
  }
}"""


@pytest.mark.parametrize(
    ("policy", "ends", "why"),
    [
        ({"gain": 1e9}, "webgpu", "on webgpu"),
        ({"gain": 0}, "wasm", "on webgpu"),
        ({"near": -1}, "wasm", "is off by"),
    ],
    ids=["faster", "slower", "wrong"],
)
def test_with_both_backends_runs_decide(gpu: Api, policy: dict[str, float], ends: str, why: str) -> None:
    found = gpu.run(BOTH, [gpu.put("tiny.onnx", tiny()), X, policy, False])
    assert found["seen"][0] == ["wasm", "the first run comes sooner there; the GPU is being prepared"]
    assert found["seen"][1][0] == ends and why in found["seen"][1][1]
    assert set(found["placed"]) <= {ends, "folded", "none"}
    assert found["seen"][-1][0] == ends
    for values in found["values"]:
        np.testing.assert_allclose(np.reshape(values, (2, 3)), Y)


def test_a_feed_on_the_device_moves_the_session_there(gpu: Api) -> None:
    found = gpu.run(BOTH, [gpu.put("tiny.onnx", tiny()), X, {"gain": 0}, True])
    assert found["seen"][1] == ["webgpu", "a feed was there"]
    for values in found["values"]:
        np.testing.assert_allclose(np.reshape(values, (2, 3)), Y)


def test_shapes_that_do_not_fit_beside_others_get_the_memory_for_themselves(undisturbed: Api) -> None:
    """A device with room for little: the second plan is refused, the session lets go of the first and tries again."""
    found = undisturbed.run(
        """async ([path]) => {
          const nnjit = (await import('/nnjit.js')).default;
          const session = await create(path, { executionProviders: ['webgpu'], room: false });
          const rows = async (n) => {
            const { z } = await session.run({ x: T('float32', new Float32Array(n * 4).fill(1), [n, 4]) });
            return [z.data.length, z.data[0], z.data.at(-1), session.stats().plans];
          };
          const first = await rows(2);
          const { device } = nnjit.env.webgpu;
          const { createBuffer, pushErrorScope, popErrorScope } = device;
          let held = 0;
          const scopes = [];
          device.createBuffer = function (how) {
            const made = createBuffer.call(this, how);
            held += how.size;
            const { destroy } = made;
            made.destroy = function () { held -= how.size; destroy.call(made); };
            return made;
          };
          device.pushErrorScope = function (filter) {
            scopes.push(filter);
            pushErrorScope.call(this, filter);
          };
          device.popErrorScope = function () {
            const full = scopes.pop() === 'out-of-memory' && held > 3_000_000;
            const error = popErrorScope.call(this);
            return full ? error.then(() => new GPUOutOfMemoryError('no room')) : error;
          };
          try {
            const large = await rows(50_000);
            const other = await rows(50_001);
            const code = (await failure(rows(200_000))).code;
            const again = await rows(3);
            return { first, large, other, code, again, backend: session.backend };
          } finally {
            Object.assign(device, { createBuffer, pushErrorScope, popErrorScope });
            await session.release();
          }
        }""",
        [undisturbed.put("tiny.onnx", tiny())],
    )
    y = np.maximum(np.ones(4, np.float32) @ tiny_weight(), 0)
    for key, n, plans in (("first", 2, 1), ("large", 50_000, 2), ("other", 50_001, 1), ("again", 3, 1)):
        assert found[key] == [3 * n, y[0], y[-1], plans], key
    assert found["code"] == "MODEL_TOO_LARGE" and found["backend"] == "webgpu"


def test_what_a_run_is_fed_is_read_before_the_call_returns(gpu: Api) -> None:
    """The first run, which compiles, one that nothing keeps waiting, and those that wait for it."""
    found = gpu.run(
        """async ([path, x]) => {
          const session = await create(path, { executionProviders: ['webgpu'] });
          const fed = (rows) => {
            const tensor = T('float32', new Float32Array(x).subarray(0, 4 * rows), [rows, 4]);
            const run = session.run({ x: tensor });
            tensor.data.fill(7);
            tensor.dispose();
            return run.then(({ z }) => Array.from(z.data));
          };
          const found = [await fed(2), ...await Promise.all([2, 1, 2].map(fed))];
          const { backend } = session;
          await session.release();
          return { found, backend };
        }""",
        [gpu.put("tiny.onnx", tiny()), X],
    )
    assert found["backend"] == "webgpu"
    for values, rows in zip(found["found"], (2, 2, 1, 2), strict=True):
        np.testing.assert_allclose(values, Y[:rows].ravel(), rtol=1e-6)
