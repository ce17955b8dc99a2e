"""Small models whose plans are kept, and what a page needs to look at them: see tests/browser/test_kept_plans*.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

from tests.browser.api_page import model

SET_UP = """async () => {
  const nnjit = (await import('/nnjit.js')).default;
  const { getCompiler } = await import('/api/workers.js');
  nnjit.env.plans = true;
  window.entry = (edit) => new Promise((resolve, reject) => {   // changes what is kept, or takes it away
    const asked = indexedDB.open('nnjit-plans', 1);
    asked.onsuccess = () => {
      const transaction = asked.result.transaction('plans', 'readwrite');
      const cursor = transaction.objectStore('plans').openCursor();
      let count = 0;
      cursor.onsuccess = () => {
        if (!cursor.result) return;
        count++;
        const value = edit?.(cursor.result.value);
        if (value) cursor.result.update(value);
        cursor.result.continue();
      };
      transaction.oncomplete = () => { asked.result.close(); resolve(count); };
      transaction.onabort = () => reject(transaction.error);
    };
  });
  window.rewritten = async (edit) => {   // with right digests
    const { pack, unpack } = await import('/api/plan-store.js');
    const all = [];
    await entry((stored) => { all.push(stored); });
    for (const stored of all) {
      const value = await unpack(stored);
      edit(value);
      const packed = await pack(value);
      await entry((each) => (each.digest === stored.digest ? packed : undefined));
    }
  };
  window.forgotten = async () => (await import('/api/plan-store.js')).clear();
  window.asked = [];   // of the compiler, by every session
  const { rpc } = getCompiler();
  const call = rpc.call.bind(rpc);
  rpc.call = (method, ...rest) => {
    if (method !== 'rest') asked.push(method);
    return call(method, ...rest);
  };
  // A session, its first result, and what was asked of the compiler until then.
  window.visit = async (path, feeds, options = {}) => {
    asked.length = 0;
    const session = await create(path, options);
    const outputs = plainAll(await session.run(feeds));
    return { session, outputs, asked: asked.filter((method) => method !== 'settle'), kept: session.stats().kept };
  };
  window.left = async (path, feeds, options) => {   // by a session that compiled
    const { session, outputs } = await visit(path, feeds, options);
    await until(() => session.stats().kept);
    const found = [outputs, session.stats().kept];
    await session.release();
    return found;
  };
}"""


def weights_of(seed: int, wide: int) -> dict[str, np.ndarray]:
    """Of wide ones the seed decides the middle only: the compiler reads a file in blocks, and some of what lies around
    a constant with it."""
    first, rng = np.random.default_rng(0), np.random.default_rng(seed)
    w, b = first.integers(-9, 9, (4, wide)), first.integers(-9, 9, wide)
    middle = slice(wide // 3, wide // 2) if wide > 999 else slice(None)
    w[1:3, middle] = rng.integers(-9, 9, w[1:3, middle].shape)
    b[middle] = rng.integers(-9, 9, b[middle].shape)
    return {"w": w.astype(np.float32), "b": b.astype(np.float32)}


def fixed(seed: int = 0, wide: int = 3) -> ModelProto:
    """z = relu(x @ w) + b, x: [2, 4]; all shapes known."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Relu", ["y"], ["r"]),
        helper.make_node("Add", ["r", "b"], ["z"]),
    ]
    x, z = {"x": (TensorProto.FLOAT, [2, 4])}, {"z": (TensorProto.FLOAT, [2, wide])}
    return model(nodes, x, z, weights_of(seed, wide))


def images() -> ModelProto:
    """Two convolutions, a pool and a softmax."""
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["p"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["p"], ["q"]),
        helper.make_node("Conv", ["q", "d"], ["r"], group=8, strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["r"], ["s"]),
        helper.make_node("Softmax", ["s"], ["z"], axis=1),
    ]
    rng = np.random.default_rng(1)
    weights = {
        "a": rng.standard_normal((8, 2, 3, 3)).astype(np.float32),
        "d": rng.standard_normal((8, 1, 3, 3)).astype(np.float32),
    }
    x, z = (
        {"x": (TensorProto.FLOAT, [1, 2, 12, 12])},
        {"z": (TensorProto.FLOAT, [1, 8, 1, 1])},
    )
    return model(nodes, x, z, weights)


def sentences() -> ModelProto:
    """An attention of open length, its rows normalised; the batch comes by a Reshape whose shape is fed."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["v"]),
        helper.make_node("MatMul", ["v", "w"], ["q"]),
        helper.make_node("Transpose", ["v"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "t"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["z"]),
    ]
    weights = {"w": np.random.default_rng(2).standard_normal((8, 8)).astype(np.float32)}
    inputs: Any = {"x": (TensorProto.FLOAT, ["n", 8]), "shape": (TensorProto.INT64, [3])}
    return model(nodes, inputs, {"z": (TensorProto.FLOAT, [None, None, 8])}, weights)


X = "T('float32', [1, 2, 3, 4, 5, 6, 7, 8], [2, 4])"
