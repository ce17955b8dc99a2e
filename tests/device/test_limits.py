"""Operands larger than a binding of the device: tables, weights that are packed and that are not, activations, each
bound in parts. The limit is made small here; shaders and bindings are those of a device that has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from nnjit.codegen.wgsl.parts import in_parts
from tests.browser.api_page import Api, model
from tests.device.running import on_device
from tests.support.single import native

RNG = np.random.default_rng(53)
F = TensorProto.FLOAT
LIMIT = 4096

LIMITED = """async ([name, limit]) => {
  const { getGpu } = await import('/api/workers.js');
  const { client } = await getGpu();
  const before = client.facts.limits[name];
  client.facts.limits[name] = limit;
  return before;
}"""


@contextmanager
def limited(gpu: Api, name: str) -> Iterator[None]:
    before = gpu.run(LIMITED, [name, LIMIT])
    try:
        yield
    finally:
        gpu.run(LIMITED, [name, before])


@pytest.fixture
def small(gpu: Api) -> Iterator[Api]:
    with limited(gpu, "maxStorageBufferBindingSize"):
        yield gpu


def test_a_tensor_larger_than_a_buffer_stays_with_the_reference(gpu: Api) -> None:
    """Placement says so; smaller shapes run on the device after it; with both backends allowed WebAssembly serves."""
    nodes = [helper.make_node("Relu", ["x"], ["h"], "large"), helper.make_node("Slice", ["h", "a", "b"], ["s"], "cut"),
             helper.make_node("Neg", ["s"], ["y"], "small")]  # fmt: skip
    ends = {"a": np.array([0], np.int64), "b": np.array([2], np.int64)}
    data = model(nodes, {"x": (F, ["n", 16])}, {"y": (F, None)}, ends).SerializeToString()
    with limited(gpu, "maxBufferSize"):
        found = gpu.run(
            """async (path) => {
              const feeds = (n) => ({ x: T('float32', new Float32Array(16 * n).fill(2), [n, 16]) });
              const session = await create(path, { executionProviders: ['webgpu'] });
              const row = ({ node, backend, reason }) => [node, backend, reason ?? ''];
              const placed = () => session.placement().map(row);
              const large = await session.run(feeds(100));
              const away = placed();
              const small = await session.run(feeds(3));
              const result = { large: [...large.y.data], away, small: [...small.y.data], here: placed() };
              const both = await create(path, { executionProviders: ['webgpu', 'wasm'] });
              await both.run(feeds(100));
              const waits = () => both.backendReason.includes('being prepared');
              await until(() => !waits(), () => both.backendReason);
              Object.assign(result, { backend: both.backend, reason: both.backendReason });
              await session.release();
              await both.release();
              return result;
            }""",
            gpu.put("large.onnx", data),
        )
    assert found["large"] == found["small"] == [-2.0] * 32
    away = {node: (backend, reason) for node, backend, reason in found["away"]}
    assert away["large"][0] == "reference" and "larger than a buffer of this GPU" in away["large"][1]
    assert away["small"][0] == "webgpu", away
    assert {backend for _, backend, _ in found["here"]} <= {"webgpu", "none"}
    assert found["backend"] == "wasm" and "a buffer of this GPU holds" in found["reason"], found["reason"]


def test_tables_and_weights_larger_than_a_binding(small: Api) -> None:
    f = lambda *shape: RNG.normal(0, 0.3, shape).astype(np.float32)  # noqa: E731
    weights = {"table": f(80, 36), "w": f(36, 52), "u": f(33, 52), "s": np.ones(33, np.float32)}
    feeds = {"ids": RNG.integers(0, 80, (29,)).astype(np.int64)}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("MatMul", ["e", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "u"], ["g"], transB=1),
        helper.make_node("LayerNormalization", ["g", "s"], ["y"]),
        helper.make_node("Softmax", ["h"], ["p"]),
    ]
    inputs = {"ids": (TensorProto.INT64, [29])}
    data = model(nodes, inputs, {"y": (F, None), "p": (F, None)}, weights).SerializeToString()
    largest = max(4 * w.size for w in weights.values())
    assert largest > 2 * LIMIT
    ran = on_device(small, data, feeds)
    assert ran.backend == "webgpu" and ran.reason == "" and not ran.elsewhere, ran.placement
    for name, wanted in native(data, feeds).items():
        np.testing.assert_allclose(ran.outputs[name], wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("rows", [1, 40])
def test_narrow_and_wide_elements(small: Api, rows: int) -> None:
    """Elements of eight bytes, of bytes, and booleans."""
    feeds: dict[str, Any] = {
        "a": RNG.integers(-(2**40), 2**40, (rows, 30)).astype(np.int64),
        "b": RNG.integers(-128, 128, (rows, 30)).astype(np.int8),
    }
    nodes = [
        helper.make_node("Cast", ["b"], ["c"], to=TensorProto.INT64),
        helper.make_node("Add", ["a", "c"], ["y"]),
        helper.make_node("Less", ["a", "c"], ["z"]),
    ]
    inputs = {"a": (TensorProto.INT64, [rows, 30]), "b": (TensorProto.INT8, [rows, 30])}
    outputs = {"y": (TensorProto.INT64, None), "z": (TensorProto.BOOL, None)}
    data = model(nodes, inputs, outputs).SerializeToString()
    ran = on_device(small, data, feeds)
    assert not ran.elsewhere
    for name, wanted in native(data, feeds).items():
        np.testing.assert_array_equal(ran.outputs[name], wanted)


def test_accesses_inside_accesses() -> None:
    """What an index reads lies in parts, too."""
    text, read = in_parts(
        "  let a = in1[in1[i + 1] * 4] + in10[2];\n  in1[at[3]] = in1[0];", "in1", "f32", 8, 3
    )
    assert text == (
        "  let a = in1_at(i32(in1_at(i32(i + 1)) * 4)) + in10[2];\n"
        "  if ((at[3]) < 8) { in1_0[(at[3]) - 0] = in1_at(i32(0)); } "
        "else if ((at[3]) < 16) { in1_1[(at[3]) - 8] = in1_at(i32(0)); } "
        "else { in1_2[(at[3]) - 16] = in1_at(i32(0)); }"
    )
    assert read.count("return") == 3 and "if (i < 16) { return in1_1[i - 8]; }" in read
