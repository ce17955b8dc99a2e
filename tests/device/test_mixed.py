"""Models of which the reference has some nodes: what lies between them and the device is moved once, however many nodes
read it, and not at all between two nodes of the same side."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from tests.browser.api_page import Api, model
from tests.support.single import native

F, D = TensorProto.FLOAT, TensorProto.DOUBLE
SHAPE = [33, 36]
BYTES = 33 * 36 * 4

MOVED = """async ([path, x]) => {
  const session = await create(path, { executionProviders: ['webgpu'] });
  const { copyBufferToBuffer } = GPUCommandEncoder.prototype;
  const { writeBuffer } = GPUQueue.prototype;
  const moved = { down: [], up: [] };
  const [MAP_READ, MAP_WRITE] = [1, 2];
  GPUCommandEncoder.prototype.copyBufferToBuffer = function (from, at, to, place, size) {
    if (to.usage & MAP_READ) moved.down.push(size);
    if (from.usage & MAP_WRITE) moved.up.push(size);
    return copyBufferToBuffer.call(this, from, at, to, place, size);
  };
  GPUQueue.prototype.writeBuffer = function (to, at, data, from, size) {
    moved.up.push(size === undefined ? data.byteLength : size * (data.BYTES_PER_ELEMENT ?? 1));
    return writeBuffer.apply(this, arguments);
  };
  try {
    const feeds = { x: T('float32', new Float32Array(x), [33, 36]) };
    await session.run(feeds);
    moved.down.length = moved.up.length = 0;
    const { y, z } = await session.run(feeds);
    return { moved, y: [...y.data], z: [...z.data], placement: session.placement() };
  } finally {
    Object.assign(GPUCommandEncoder.prototype, { copyBufferToBuffer });
    Object.assign(GPUQueue.prototype, { writeBuffer });
    await session.release();
  }
}"""


def test_tensors_between_the_device_and_the_reference_are_moved_once(gpu: Api) -> None:
    n = helper.make_node
    nodes = [
        n("Relu", ["x"], ["h"], "first"),
        # doubles and floats of 8 bits stay with the reference: two ways from the same tensor, each of several nodes
        n("Cast", ["h"], ["p"], "down", to=D), n("Sin", ["p"], ["q"], "sine"), n("Cast", ["q"], ["r"], "up", to=F),
        n("Softmax", ["h"], ["s"], "between"),
        n("Cast", ["h"], ["t"], "again", to=TensorProto.FLOAT8E4M3FN), n("Cast", ["t"], ["v"], "back", to=F),
        # what came back has two readers on the device
        n("MatMul", ["r", "w"], ["a"], "product"), n("Mul", ["r", "s"], ["b"], "times"),
        n("Add", ["a", "b"], ["y"], "sum"), n("Neg", ["v"], ["z"], "negated"),
    ]  # fmt: skip
    x = np.random.default_rng(5).normal(0, 1, SHAPE).astype(np.float32)
    w = {"w": np.eye(36, dtype=np.float32)}
    data = model(nodes, {"x": (F, SHAPE)}, {"y": (F, SHAPE), "z": (F, SHAPE)}, w).SerializeToString()
    found = gpu.run(MOVED, [gpu.put("mixed.onnx", data), x.reshape(-1).tolist()])
    placed = {row["node"]: row["backend"] for row in found["placement"]}
    away = {"down", "sine", "up", "again", "back"}
    assert {node for node, backend in placed.items() if backend == "reference"} == away
    wanted = native(data, {"x": x})
    for name in ("y", "z"):
        np.testing.assert_allclose(np.reshape(found[name], SHAPE), wanted[name], rtol=2e-5, atol=2e-5)
    # down: what both ways begin with, and the two outputs; up: the feed, and what comes of each way
    assert sorted(found["moved"]["down"]) == [BYTES] * 3, found["moved"]
    assert sorted(found["moved"]["up"]) == [BYTES] * 3, found["moved"]


def test_the_reference_gets_nothing_of_a_run_that_the_device_refused(gpu: Api) -> None:
    """A feed whose buffer is destroyed: the reference was called with what an earlier run had left."""
    n = helper.make_node
    nodes = [n("Cast", ["x"], ["p"], to=D), n("Sin", ["p"], ["q"]), n("Cast", ["q"], ["y"], to=F)]
    made = model(nodes, {"x": (F, [4])}, {"y": (F, [4])})
    found = gpu.run(
        """async ([path]) => {
          const nnjit = (await import('/nnjit.js')).default;
          const session = await create(path, { executionProviders: ['webgpu'] });
          const x = T('float32', new Float32Array(4), [4]);
          const run = async (x) => Array.from((await session.run({ x })).y.data);
          await run(x);
          const { device } = nnjit.env.webgpu;
          const buffer = device.createBuffer({ size: 16, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC });
          const fed = nnjit.Tensor.fromGpuBuffer(buffer, { dataType: 'float32', dims: [4] });
          await run(fed);
          buffer.destroy();
          const { code, fields } = await failure(run(fed));
          const after = await run(x);
          const { device: same } = nnjit.env.webgpu;
          await session.release();
          return { code, input: fields.input, after, same: same === device };
        }""",
        [gpu.put("mixed.onnx", made.SerializeToString())],
    )
    assert found == {"code": "FEED", "input": "x", "after": [0] * 4, "same": True}
