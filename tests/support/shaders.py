"""Runs shaders in a page: `set_up(page)` once, which asserts SwiftShader, or `take_device(page)` on any adapter; then
`run(page, shader, arrays)`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnjit.codegen.dtypes import NUMPY
from nnjit.codegen.wgsl.emit import Shader

if TYPE_CHECKING:
    from playwright.sync_api import Page

SET_UP = """async ([wanted, largest]) => {
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
  const requiredFeatures = wanted.filter((name) => adapter.features.has(name));
  const requiredLimits = Object.fromEntries(largest.map((name) => [name, adapter.limits[name]]));
  const device = await adapter.requestDevice({ requiredFeatures, requiredLimits });
  const errors = [];
  device.addEventListener('uncapturederror', (e) => errors.push(e.error.message));
  const { runShader } = await import('/engine/webgpu/shader.js');
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const text = (bytes) => btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(''));
  globalThis.shade = async (shader, contents) => {
    const out = await runShader(device, shader, contents.map(bytes));
    if (errors.length) throw new Error(errors.splice(0).join('\\n'));
    return out.map(text);
  };
  return `${adapter.info.vendor} ${adapter.info.architecture}`;
}"""


def set_up(page: Page) -> None:
    """One device for the page, with the least limits; fails unless it is the software adapter."""
    adapter = page.evaluate(SET_UP, [["subgroups"], []])
    assert "swiftshader" in adapter, f"the WebGPU adapter is {adapter!r}, not SwiftShader"


def take_device(page: Page) -> None:
    """A device for the page with all that sessions ask an adapter for when they compile products."""
    features = ["subgroups", "shader-f16", "chromium-experimental-subgroup-matrix"]
    limits = "InvocationsPerWorkgroup", "WorkgroupSizeX", "WorkgroupStorageSize"
    page.evaluate(SET_UP, [features, [f"maxCompute{name}" for name in limits]])


def run(page: Page, shader: Shader, arrays: Sequence[Any]) -> list[Any]:
    """The output buffers, in operand order, of `shader` over the flat arrays of all operands."""
    stored = [a if b.packed else _stored(a) for a, b in zip(arrays, shader.bindings, strict=True)]
    contents = [base64.b64encode(a.tobytes()).decode() for a in stored]
    texts = page.evaluate("([shader, contents]) => shade(shader, contents)", [shader.to_js(), contents])
    outputs = [b for b in shader.bindings if b.role == "out"]
    out = []
    for b, text in zip(outputs, texts, strict=True):
        words = np.frombuffer(base64.b64decode(text), np.uint32 if b.dtype == "bool" else NUMPY[b.dtype])
        out.append(words.astype(NUMPY[b.dtype]))
    return out


def _stored(a: Any) -> Any:
    """A bool is a u32 in a storage buffer."""
    return np.ascontiguousarray(a, np.uint32) if a.dtype == np.bool_ else np.ascontiguousarray(a)
