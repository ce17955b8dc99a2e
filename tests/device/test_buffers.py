"""Buffers of the page's own, outputs that it keeps: fed, read and filled; what cannot be used is told, never zeros."""

from __future__ import annotations

from typing import Any

import pytest
from onnx import TensorProto, helper

from tests.browser.api_page import Api, model, tiny
from tests.device.test_sessions import X, Y

SET_UP = """async () => {
  const nnjit = (await import('/nnjit.js')).default;
  const { COPY_SRC, COPY_DST, STORAGE, MAP_WRITE } = GPUBufferUsage;
  globalThis.gpuDevice = () => nnjit.env.webgpu.device;
  globalThis.bufferOf = (device, values, usage = STORAGE | COPY_SRC | COPY_DST) => {
    const buffer = device.createBuffer({ size: 4 * values.length, usage });
    if (usage & COPY_DST) device.queue.writeBuffer(buffer, 0, new Float32Array(values));
    return buffer;
  };
  globalThis.onGpu = (buffer, dims = [2, 4]) => nnjit.Tensor.fromGpuBuffer(buffer, { dataType: 'float32', dims });
  globalThis.onCpu = (values) => T('float32', new Float32Array(values), [values.length / 4, 4]);
  globalThis.numbers = async (tensor) => Array.from(await tensor.getData());
  const own = async () => (await navigator.gpu.requestAdapter()).requestDevice();
  globalThis.unreadable = {
    destroyed: (values) => { const b = bufferOf(gpuDevice(), values); b.destroy(); return b; },
    mapped: ({ length }) =>
      gpuDevice().createBuffer({ size: 4 * length, usage: COPY_SRC | MAP_WRITE, mappedAtCreation: true }),
    elsewhere: async (values) => bufferOf(globalThis.another = await own(), values),
  };
}"""
Z = Y.reshape(-1).tolist()


@pytest.fixture
def buffers(gpu: Api) -> Api:
    gpu.run(SET_UP)
    return gpu


@pytest.mark.parametrize("how", ["destroyed", "mapped", "elsewhere"])
def test_a_buffer_that_cannot_be_read_is_told_and_not_read_as_zeros(buffers: Api, how: str) -> None:
    found = buffers.run(
        """async ([path, x, how]) => {
          const session = await create(path, { executionProviders: ['webgpu'] });
          try {
            await session.run({ x: onCpu(x) });
            const buffer = await unreadable[how](x);
            const fed = await failure(session.run({ x: onGpu(buffer) }));
            const read = await failure(onGpu(buffer).getData());
            const { z } = await session.run({ x: onCpu(x) });
            return { fed, read, after: Array.from(z.data) };
          } finally {
            await session.release();
            globalThis.another?.destroy();
          }
        }""",
        [buffers.put("tiny.onnx", tiny()), X, how],
    )
    fed, read = found["fed"], found["read"]
    assert fed["code"] == "FEED" and fed["fields"] == {"input": "x", "reason": "buffer"} and fed["hint"]
    assert read["code"] == "TENSOR_LOCATION" and read["hint"] and fed["typed"] and read["typed"]
    assert found["after"] == Z


def test_outputs_on_a_lost_device_are_told_as_lost(buffers: Api) -> None:
    """Read with another device they were zeros."""
    found = buffers.run(
        """async ([path, widePath, x]) => {
          const how = { executionProviders: ['webgpu'], preferredOutputLocation: 'gpu-buffer' };
          const session = await create(path, how);
          const [{ z }, { z: seen }] = [await session.run({ x: onCpu(x) }), await session.run({ x: onCpu(x) })];
          const before = await numbers(z);
          const lost = gpuDevice();
          lost.destroy();
          await lost.lost;
          const first = await failure(z.getData()); // no other device is there yet
          const again = await session.run({ x: onCpu(x) });
          const later = await failure(seen.reshape([3, 2]).getData());
          const w = await create(widePath, how);
          const fed = await failure(w.run({ x: z.reshape([3, 2]) }));
          const after = await numbers(again.z);
          await session.release();
          await w.release();
          return { before, first, later, fed, after };
        }""",
        [buffers.put("tiny.onnx", tiny()), buffers.put("wide.onnx", wide()), X],
    )
    assert found["before"] == found["after"] == Z
    for name in ("first", "later", "fed"):
        assert found[name]["code"] == "DEVICE_LOST" and found[name]["typed"], (name, found[name])


def wide() -> Any:
    """w = x + x, x: [n, 2]."""
    of = (TensorProto.FLOAT, ["n", 2])
    return model([helper.make_node("Add", ["x", "x"], ["w"])], {"x": of}, {"w": of})


def test_outputs_are_read_from_the_device_that_they_lie_on(buffers: Api) -> None:
    """The page has put another device there meanwhile."""
    found = buffers.run(
        """async ([path, x]) => {
          const nnjit = (await import('/nnjit.js')).default;
          const session = await create(path, { executionProviders: ['webgpu'], preferredOutputLocation: 'gpu-buffer' });
          const { z } = await session.run({ x: onCpu(x) });
          const [first, second] = [gpuDevice(), await (await navigator.gpu.requestAdapter()).requestDevice()];
          nnjit.env.webgpu.device = second;
          try {
            return await numbers(z);
          } finally {
            nnjit.env.webgpu.device = first;
            second.destroy();
            await session.release();
          }
        }""",
        [buffers.put("tiny.onnx", tiny()), X],
    )
    assert found == Z


@pytest.mark.parametrize("provider", ["webgpu", "wasm"])
def test_an_output_goes_into_a_buffer_of_the_page(buffers: Api, provider: str) -> None:
    """As in onnxruntime-web: a tensor on the GPU among the fetches is filled, wherever the session runs."""
    found = buffers.run(
        """async ([path, x, provider]) => {
          const other = await create(path, { executionProviders: ['webgpu'] }); // so that there is a device
          await other.run({ x: onCpu(x) });
          const session = await create(path, { executionProviders: [provider] });
          const given = [];
          const { createBuffer } = GPUDevice.prototype;
          const mine = bufferOf(gpuDevice(), [9, 9, 9, 9, 9, 9, 7, 7]);
          GPUDevice.prototype.createBuffer = function (how) {
            const made = createBuffer.call(this, how);
            if (how.label !== 'z') return made;
            const kept = { gone: false };
            given.push(kept);
            const { destroy } = made;
            made.destroy = () => { kept.gone = true; destroy.call(made); };
            return made;
          };
          try {
            const z = onGpu(mine, [2, 3]);
            const out = await session.run({ x: onCpu(x) }, { z });
            const seen = { same: out.z === z, where: z.location, values: await numbers(z) };
            seen.behind = await numbers(onGpu(mine));
            const wrong = await failure(session.run({ x: onCpu([...x, ...x]) }, { z }));
            mine.destroy();
            const refused = await failure(session.run({ x: onCpu(x) }, { z }));
            const { z: after } = await session.run({ x: onCpu(x) });
            const left = given.filter(({ gone }) => !gone).length;
            return { ...seen, wrong, refused, after: Array.from(after.data), left };
          } finally {
            GPUDevice.prototype.createBuffer = createBuffer;
            await session.release();
            await other.release();
          }
        }""",
        [buffers.put("tiny.onnx", tiny()), X, provider],
    )
    assert found["same"] and found["where"] == "gpu-buffer"
    assert found["values"] == found["after"] == Z and found["behind"] == [*Z, 7, 7]
    assert found["wrong"]["code"] == "FETCH" and found["refused"]["code"] == "TENSOR_LOCATION"
    assert found["left"] == 0


def test_parts_of_halves_come_to_a_buffer_by_the_processor(buffers: Api) -> None:
    """A plan with room gives a part of its output; on the device, parts are copied in whole words."""
    of = (TensorProto.FLOAT16, ["n", "m"])
    made = model([helper.make_node("Add", ["x", "x"], ["y"])], {"x": of}, {"y": of})
    found = buffers.run(
        """async ([path]) => {
          const nnjit = (await import('/nnjit.js')).default;
          const { GpuClient } = await import('/engine/webgpu/client.js');
          const { run } = GpuClient.prototype;
          const session = await create(path, { executionProviders: ['webgpu'] });
          const ran = [];
          GpuClient.prototype.run = function (...given) {
            ran.push([given[3].windows[0] !== null, given[3].stay[0]]);
            return run.apply(this, given);
          };
          const filled = async (n, m) => {
            const x = T('float16', Array.from({ length: n * m }, (_, i) => i + 1), [n, m]);
            const { y } = await session.run({ x });
            const into = bufferOf(gpuDevice(), new Array(64).fill(0));
            const there = nnjit.Tensor.fromGpuBuffer(into, { dataType: 'float16', dims: [n, m] });
            await session.run({ x }, { y: there });
            return String(await there.getData()) === String(y.data);
          };
          try {
            const same = [await filled(3, 5), await filled(4, 5), await filled(5, 5), await filled(3, 5)];
            return { same, ran };
          } finally {
            GpuClient.prototype.run = run;
            await session.release();
          }
        }""",
        [buffers.put("halves.onnx", made)],
    )
    assert found["same"] == [True] * 4
    assert [True, False] in found["ran"] and [False, True] in found["ran"], found
    assert [True, True] not in found["ran"]


def test_a_device_that_is_lost_says_nothing_of_the_feeds(buffers: Api) -> None:
    """A run that it refused ended as FEED, which is the caller's fault."""
    found = buffers.run("""async () => {
      const { unfit } = await import('/engine/webgpu/given.js');
      const device = await (await navigator.gpu.requestAdapter()).requestDevice();
      const gpuBuffer = bufferOf(device, [1, 2, 3, 4]);
      device.destroy();
      await device.lost;
      const ref = { name: 'x', type: 'float32', dims: [4], buffer: 0, nbytes: 16, stored: 'f32' };
      return unfit(device, [ref], [{ gpuBuffer }]);
    }""")
    assert found is None


@pytest.mark.parametrize("location", ["cpu", "gpu-buffer"])
def test_an_odd_count_of_halves_is_filled_to_its_end_and_no_further(buffers: Api, location: str) -> None:
    """Copies are of whole words: the half behind the tensor became a zero, or what lay behind the result."""
    relu = helper.make_node("Relu", ["x"], ["y"])
    dims = (TensorProto.FLOAT16, ["n"])
    found = buffers.run(
        """async ([path, preferredOutputLocation]) => {
          const nnjit = (await import('/nnjit.js')).default;
          const session = await create(path, { executionProviders: ['webgpu'], preferredOutputLocation });
          const told = [];
          for (const n of [1, 5, 6]) {
            const x = T('float16', Array.from({ length: n }, (_, i) => i + 1), [n]);
            const into = bufferOf(gpuDevice(), new Array(8).fill(-1.5));
            const whole = onGpu(into, [8]);
            const y = nnjit.Tensor.fromGpuBuffer(into, { dataType: 'float16', dims: [n] });
            await session.run({ x }, { y });
            const halves = new Uint16Array((await whole.getData()).buffer);
            const wanted = new Uint16Array(new Float32Array(8).fill(-1.5).buffer);
            wanted.set(new Uint16Array(x.data.buffer));
            told.push(String(halves) === String(wanted));
          }
          await session.release();
          return told;
        }""",
        [buffers.put("halves-1d.onnx", model([relu], {"x": dims}, {"y": dims})), location],
    )
    assert found == [True] * 3


def test_what_is_no_buffer_and_no_device_is_said(buffers: Api) -> None:
    found = buffers.run(
        """async ([path]) => {
          const nnjit = (await import('/nnjit.js')).default;
          const gpu = { executionProviders: ['webgpu'] };
          const before = nnjit.env.webgpu.device;
          const made = (...given) => failure(async () => nnjit.Tensor.fromGpuBuffer(...given));
          const told = [await made({ size: 32 }, { dims: [8] }), await made(null, { dims: [8] })];
          const session = await create(path, gpu);
          const noDims = await made(bufferOf(gpuDevice(), [1]));
          await session.release();
          nnjit.env.webgpu.device = {};
          told.push(await failure(create(path, gpu)));
          nnjit.env.webgpu.device = before;
          const location = await failure(create(path, { ...gpu, preferredOutputLocation: { zz: 'gpu-buffer' } }));
          return { told, noDims, location };
        }""",
        [buffers.put("tiny.onnx", tiny())],
    )
    assert [told["code"] for told in found["told"]] == ["BAD_ARGUMENT"] * 3
    assert found["noDims"]["code"] == "TENSOR_DIMS"
    assert found["location"]["code"] == "BAD_OPTION" and "'z'" in found["location"]["hint"]


def test_nothing_is_taken_once_release_was_called(buffers: Api) -> None:
    found = buffers.run(
        """async ([path, x]) => {
          const session = await create(path, { executionProviders: ['webgpu'] });
          const before = session.run({ x: onCpu(x) });
          const releasing = session.release();
          const late = [session.run({ x: onCpu(x) }), session.prepare({ x: [9, 4] }), session.kernel(0)];
          late.push(session.profile(), session.check({ x: onCpu(x) }), session.suggest({ x: [2, 4] }));
          const codes = (await Promise.all(late.map(failure))).map(({ code }) => code);
          const { z } = await before;
          await Promise.all([releasing, session.release()]);
          return { codes, z: Array.from(z.data), state: session.state };
        }""",
        [buffers.put("tiny.onnx", tiny()), X],
    )
    assert found == {"codes": ["SESSION"] * 6, "z": Z, "state": "released"}
