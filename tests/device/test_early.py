"""Constants go to the device while Python still writes kernels: they are there when the plan comes, and nothing of them
is left where it does not come, or does not want them. In each test the plan is held back until a state is reached."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.browser.api_page import Api, model
from tests.browser.gated import WIDTH, gated, layers

SETUP = """async () => {
  const nnjit = (await import('/nnjit.js')).default;
  const { getCompiler, getGpu } = await import('/api/workers.js');
  const { client } = await getGpu();
  const { device } = client.gpu;
  const { createBuffer } = device;
  const { writeBuffer, submit } = device.queue;
  const seen = { live: new Map(), written: 0, packed: 0, messages: 0, order: [] };
  device.createBuffer = function (how) {
    const made = createBuffer.call(this, how);
    seen.live.set(made, how.label ?? '');
    const { destroy } = made;
    made.destroy = function () { seen.live.delete(made); destroy.call(made); };
    return made;
  };
  device.queue.writeBuffer = function (buffer, at, data, ...part) {
    if (buffer.label.startsWith('constant ')) seen.written += data.byteLength;
    return writeBuffer.call(this, buffer, at, data, ...part);
  };
  device.queue.submit = function (commands) {
    if (commands.length) seen.packed++;
    return submit.call(this, commands);
  };
  const compiler = getCompiler();
  const { call } = compiler;
  // what is told of a plan goes through `told`, and the plan itself waits for `held`
  window.early = {
    seen, client, device, told: (detail) => detail, held: async () => undefined,
    constants: () => [...seen.live.values()].filter((label) => label.startsWith('constant ')).length,
    state: () => ({ written: seen.written, packed: seen.packed, live: [...seen.live.values()] }),
    undo: () => {
      // what the prototypes have serves again, also where a later test changes these
      delete device.createBuffer;
      delete device.queue.writeBuffer;
      delete device.queue.submit;
      delete compiler.call;
    },
  };
  compiler.call = async function (method, args, options) {
    if (method !== 'prepare') return call.call(this, method, args, options);
    const onProgress = (stage, done, total, detail) => {
      if (stage === 'constants' || stage === 'shader') seen.order.push(stage);
      if (stage === 'constants') seen.messages++;
      const text = stage === 'constants' ? JSON.stringify(early.told(JSON.parse(detail))) : detail;
      options.onProgress(stage, done, total, text);
    };
    const answer = await call.call(this, method, args, { ...options, onProgress });
    await early.held(answer);
    return answer;
  };
}"""


@pytest.fixture
def watched(undisturbed: Api) -> Iterator[Api]:
    undisturbed.run(SETUP)
    yield undisturbed
    undisturbed.run("() => early.undo()")


def convolutions() -> tuple[bytes, np.ndarray, int]:
    """y = relu(x * w0) * w1, whose weights are packed at load; x, and the bytes of the weights."""
    rng = np.random.default_rng(7)
    f = TensorProto.FLOAT
    held = {
        "w0": rng.normal(0, 0.1, (48, 32, 3, 3)).astype(np.float32),
        "w1": rng.normal(0, 0.1, (64, 48, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["y"]),
    ]
    made = model(nodes, {"x": (f, ["n", 32, 9, 9])}, {"y": (f, ["n", 64, 9, 9])}, held)
    x = rng.normal(0, 1, (1, 32, 9, 9)).astype(np.float32)
    return made.SerializeToString(), x, sum(w.nbytes for w in held.values())


def native(data: bytes, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    y: np.ndarray = onnxruntime.InferenceSession(data).run(None, {"x": x})[0]
    return y


RUN = """async ([path, x, dims, bytes, how]) => {
  const { seen } = early;
  const before = seen.live.size;
  early.held = async ({ plan }) => {
    const packs = plan.init.filter(({ kind }) => kind === 'step').length;
    const named = plan.buffers.filter(({ early }) => early >= 0).length;
    const there = () => seen.written >= bytes && seen.packed >= packs && early.constants() >= named;
    await until(there, early.state);
    early.at = { constants: early.constants(), messages: seen.messages, packs, early: named };
  };
  const session = await create(path, { executionProviders: ['webgpu'] });
  const feeds = { x: T('float32', new Float32Array(x), dims) };
  const more = (told) => ({ ...told, buffers: [...told.buffers, [1e9 + told.buffers[0][0], 4096]] });
  if (how === 'unwanted') early.told = more;
  const first = [...(await session.run(feeds)).y.data];
  const { load } = session.stats();
  const { written } = seen;
  early.held = async () => undefined;
  const rows = { x: T('float32', new Float32Array([...x, ...x]), [2 * dims[0], ...dims.slice(1)]) };
  const second = [...(await session.run(rows)).y.data];
  const told = seen.written;
  await session.release();
  await until(() => seen.live.size <= before, early.state);
  const after = seen.live.size - before;
  return { at: early.at, load, first, second, again: told - written, after, backend: session.backend };
}"""


@pytest.mark.parametrize("how", ["", "unwanted"])
def test_constants_are_there_when_the_plan_comes(watched: Api, how: str) -> None:
    """Packed; a plan for other shapes shares them; what nobody wants is destroyed, the rest with the session."""
    data, x, nbytes = convolutions()
    path = watched.put("early.onnx", data)
    found = watched.run(RUN, [path, x.reshape(-1).tolist(), list(x.shape), nbytes, how])
    assert found["backend"] == "webgpu"
    assert found["load"]["early"] == nbytes
    at = found["at"]
    assert at["packs"] >= 1 and at["early"] == 2 + at["packs"], "weights, and what is packed of them"
    assert at["constants"] == at["early"] + (how == "unwanted") * at["messages"]
    assert found["again"] == 0, "the second plan sends no constant again"
    assert found["after"] == 0
    y = native(data, x)
    for given in (found["first"], found["second"][: y.size], found["second"][y.size :]):
        np.testing.assert_allclose(np.reshape(given, y.shape), y, rtol=1e-3, atol=1e-3)


def test_constants_are_told_while_kernels_are_written(watched: Api) -> None:
    """The page hears of the first ones before the last shader: by the order of messages."""
    proto, _ = layers()
    path = watched.put("layers.onnx", proto)
    order = watched.run(
        """async ([path, width]) => {
          const session = await create(path, { executionProviders: ['webgpu'] });
          await session.run({ x: T('float32', new Float32Array(width), [1, width]) });
          await session.release();
          return early.seen.order;
        }""",
        [path, WIDTH],
    )
    assert "constants" in order and "shader" in order
    # one kernel serves all three products: what comes after it are constants alone
    assert order.index("shader") < order.index("constants")


def test_without_room_for_them_the_plan_loads_its_constants_itself(watched: Api) -> None:
    """Device memory that is full at that time only."""
    data, x, _ = convolutions()
    found = watched.run(
        """async ([path, x, dims]) => {
          const { seen, device } = early;
          const before = seen.live.size;
          const { popErrorScope } = device;
          let refused = 0;
          device.popErrorScope = function () {
            const told = popErrorScope.call(this);
            if (!early.constants() || refused) return told;
            refused++;
            return told.then(() => new GPUOutOfMemoryError('no room'));
          };
          early.held = () => until(() => refused, early.state);
          try {
            const session = await create(path, { executionProviders: ['webgpu'] });
            const { y } = await session.run({ x: T('float32', new Float32Array(x), dims) });
            const left = early.constants();
            await session.release();
            await until(() => seen.live.size <= before, early.state);
            return { refused, left, y: [...y.data], after: seen.live.size - before };
          } finally {
            delete device.popErrorScope;
          }
        }""",
        [watched.put("early.onnx", data), x.reshape(-1).tolist(), list(x.shape)],
    )
    y = native(data, x)
    np.testing.assert_allclose(np.reshape(found["y"], y.shape), y, rtol=1e-3, atol=1e-3)
    assert found["refused"] == 1 and found["left"] == 0 and found["after"] == 0


def test_a_compilation_that_fails_leaves_nothing(watched: Api) -> None:
    data, x, nbytes = convolutions()
    found = watched.run(
        """async ([path, x, dims, bytes]) => {
          const { seen } = early;
          const before = seen.live.size;
          early.held = async () => {
            await until(() => seen.written >= bytes && early.constants() >= 3, early.state);
            early.most = early.constants();
            throw new Error('the plan is lost');
          };
          const session = await create(path, { executionProviders: ['webgpu'] });
          const feeds = { x: T('float32', new Float32Array(x), dims) };
          const { message } = await failure(session.run(feeds));
          await until(() => seen.live.size <= before, early.state);
          const after = seen.live.size - before;
          early.held = async () => undefined;
          const { y } = await session.run(feeds); // the session is as it was
          await session.release();
          await until(() => seen.live.size <= before, early.state);
          return { message, most: early.most, after, y: [...y.data], end: seen.live.size - before };
        }""",
        [watched.put("early.onnx", data), x.reshape(-1).tolist(), list(x.shape), nbytes],
    )
    assert "the plan is lost" in found["message"]
    assert found["most"] >= 3 and found["after"] == 0 and found["end"] == 0
    y = native(data, x)
    np.testing.assert_allclose(np.reshape(found["y"], y.shape), y, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("when", ["plan", "file"])
def test_a_release_meanwhile_leaves_nothing(watched: Api, when: str) -> None:
    """While the plan is being made, and while the rest of the file is on its way, which never comes."""
    proto, _ = layers()
    with gated(proto.SerializeToString()) as (url, _):
        found = watched.run(
            """async ([url, width, when]) => {
              const { seen } = early;
              const before = seen.live.size;
              let go = () => {};
              const gate = new Promise((done) => { go = done; }); // may open before the plan is there
              if (when === 'plan') early.held = () => gate;
              const session = await create(url, { executionProviders: ['webgpu'] });
              const run = failure(session.run({ x: T('float32', new Float32Array(width), [1, width]) }));
              await until(() => early.constants() >= 3, early.state);
              const released = session.release();
              go();
              const { code } = await run;
              await released;
              await until(() => seen.live.size <= before, early.state); // what was under way ends by itself
              return { left: early.constants(), code };
            }""",
            [f"{url}/stalls", WIDTH, when],
        )
    assert found == {"left": 0, "code": "SESSION"}


def test_a_device_that_is_lost_meanwhile_is_replaced(watched: Api) -> None:
    data, x, _ = convolutions()
    found = watched.run(
        """async ([path, x, dims]) => {
          const nnjit = (await import('/nnjit.js')).default;
          let times = 0;
          early.held = async () => {
            if (times++) return;
            await until(() => early.constants() >= 3, early.state);
            early.device.destroy();
            await early.device.lost;
          };
          const session = await create(path, { executionProviders: ['webgpu'] });
          const { y } = await session.run({ x: T('float32', new Float32Array(x), dims) });
          const { backend } = session;
          const fresh = nnjit.env.webgpu.device !== early.device;
          await session.release();
          return { backend, fresh, times, y: [...y.data] };
        }""",
        [watched.put("early.onnx", data), x.reshape(-1).tolist(), list(x.shape)],
    )
    assert found["backend"] == "webgpu" and found["fresh"] and found["times"] == 2
    y = native(data, x)
    np.testing.assert_allclose(np.reshape(found["y"], y.shape), y, rtol=1e-3, atol=1e-3)
