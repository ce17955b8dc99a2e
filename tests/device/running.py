"""Runs a model on the page's GPU through the public API: outputs as numpy arrays, and where each node ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.browser.api_page import Api
from tests.device.conftest import decoded, encoded

SET_UP = """() => {
  const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const textOf = (bytes) => {
    let text = '';
    for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    return btoa(text);
  };
  const arrays = { float32: Float32Array, float64: Float64Array, int64: BigInt64Array, int32: Int32Array,
    uint8: Uint8Array, int8: Int8Array, bool: Uint8Array, uint64: BigUint64Array, uint32: Uint32Array,
    int16: Int16Array, uint16: Uint16Array, float16: globalThis.Float16Array ?? Uint16Array };
  globalThis.decode = ({ type, dims, data }) => T(type, new arrays[type](bytesOf(data).buffer), dims);
  globalThis.encode = async (tensor) => {
    const data = await tensor.getData();
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return { type: tensor.type, dims: [...tensor.dims], data: textOf(bytes) };
  };
  globalThis.onDevice = async (path, feeds, options) => {
    const session = await create(path, { executionProviders: ['webgpu'], strict: true, ...options });
    try {
      const given = Object.fromEntries(Object.entries(feeds).map(([name, value]) => [name, decode(value)]));
      const results = await session.run(given);
      const again = await session.run(given); // the second run finds the buffers as the first one left them
      const outputs = {};
      for (const [name, tensor] of Object.entries(results)) {
        outputs[name] = await encode(tensor);
        const { data } = await encode(again[name]);
        if (data !== outputs[name].data) throw new Error(`${name} differs in the second run`);
      }
      return { outputs, backend: session.backend, reason: session.backendReason, placement: session.placement() };
    } finally {
      await session.release();
    }
  };
}"""


@dataclass
class Ran:
    outputs: dict[str, Any]
    backend: str
    reason: str
    placement: list[dict[str, Any]]

    @property
    def elsewhere(self) -> list[str]:
        """Operators that did not run on the GPU."""
        return [row["op"] for row in self.placement if row["backend"] == "reference"]


def on_device(api: Api, model: bytes, feeds: Mapping[str, Any], **options: Any) -> Ran:
    api.run(SET_UP)
    path = api.put("device.onnx", model)
    given = {name: encoded(array) for name, array in feeds.items()}
    found = api.run("([path, feeds, options]) => onDevice(path, feeds, options)", [path, given, options])
    outputs = {name: decoded(value) for name, value in found["outputs"].items()}
    return Ran(outputs, found["backend"], found["reason"], found["placement"])
