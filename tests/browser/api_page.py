"""A page with nnjit booted, and the models its tests run: made here, served from memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from nnjit.devtools.httpd import Server

BACKENDS = ["wasm", "reference"]

BOOT = """async () => {
  const nnjit = (await import('/nnjit.js')).default;
  window.T = (type, data, dims) => new nnjit.Tensor(type, data, dims);
  window.create = (...args) => nnjit.InferenceSession.create(...args);
  window.bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
  // Values as JSON takes them: numbers, and text for 64-bit integers and what is not finite.
  window.plain = (value) => {
    if (value === null) return null;
    if (Array.isArray(value)) return value.map(plain);
    const asText = (x) => typeof x === 'bigint' || (typeof x === 'number' && !Number.isFinite(x));
    const item = (x) => (asText(x) ? String(x) : x);
    return { type: value.type, dims: [...value.dims], data: Array.from(value.data, item) };
  };
  window.plainAll = (values) => Object.fromEntries(Object.entries(values).map(([k, v]) => [k, plain(v)]));
  // Sessions of this page, in the engine with their memory and in Python. Other tests' may be about to go: what
  // counts is what there is more than before.
  window.there = async () => {
    const { sessions } = (await nnjit.device()).memory;
    const code = 'from nnjit.runtime.bridge import SESSIONS\\n[str(name) for name in SESSIONS]';
    return [...sessions.map(({ id, bytes }) => `${id}: ${bytes} bytes`), ...await nnjit.python(code)];
  };
  window.more = async (before) => (await there()).filter((each) => !before.includes(each));
  window.failure = async (promise) => {
    try { await (typeof promise === 'function' ? promise() : promise); }
    catch (error) { return { ...error.toJSON(), typed: error instanceof nnjit.NnjitError }; }
    throw new Error('it did not fail');
  };
  await nnjit.ready;
}"""


class Api:
    """A booted page. `run(js, arg)` evaluates there; `put(name, model)` serves a model and gives its path."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page, self.server = page, server
        self.errors: list[str] = []
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.evaluate(BOOT)

    def run(self, script: str, argument: Any = None) -> Any:
        """Its value; where it does not end, an error that says what it waits for."""
        return self.page.evaluate(f"(given) => inTime({script}\n, given)", argument)

    def put(self, name: str, model: onnx.ModelProto | bytes) -> str:
        data = model if isinstance(model, bytes) else model.SerializeToString()
        return self.server.site.put(f"~/{name}", data)

    def failure(self, body: str, argument: Any = None) -> dict[str, Any]:
        """The NnjitError that an async function body ends with, as plain data."""
        error: dict[str, Any] = self.run(f"(arg) => failure(async () => {{ {body} }})", argument)
        assert error["typed"], error
        return error

    @contextmanager
    def expecting(self, *patterns: str) -> Iterator[None]:
        """Console errors inside the block fail the test unless a pattern names them."""
        self.errors.clear()
        yield
        rest = [e for e in self.errors if not any(re.search(p, e) for p in patterns)]
        assert not rest, rest


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[Any] | None]],
    outputs: dict[str, tuple[int, list[Any] | None]],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 21,
    name: str = "test",
) -> onnx.ModelProto:
    """A checked-by-nobody ModelProto: bad ones are wanted too."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(n, t, d) for n, (t, d) in inputs.items()],
        [helper.make_tensor_value_info(n, t, d) for n, (t, d) in outputs.items()],
        [numpy_helper.from_array(array, n) for n, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def tiny() -> onnx.ModelProto:
    """z = relu(x @ w), x: [n, 4], w: 4x3 of -5 … 6."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], "mm"),
        helper.make_node("Relu", ["y"], ["z"], "act"),
    ]
    x, z = {"x": (TensorProto.FLOAT, ["n", 4])}, {"z": (TensorProto.FLOAT, ["n", 3])}
    return model(nodes, x, z, {"w": tiny_weight()})


def tiny_weight() -> np.ndarray:
    return np.arange(12, dtype=np.float32).reshape(4, 3) - 5


def two_outputs(dims: Sequence[Any] | None = (2,)) -> onnx.ModelProto:
    """sum and product of a and b, all of `dims` (None: of any rank)."""
    of = None if dims is None else list(dims)
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Mul", ["a", "b"], ["product"])]
    inputs = {"a": (TensorProto.FLOAT, of), "b": (TensorProto.FLOAT, of)}
    return model(nodes, inputs, {"sum": (TensorProto.FLOAT, of), "product": (TensorProto.FLOAT, of)})


def identity(kind: int) -> onnx.ModelProto:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    return model(nodes, {"x": (kind, ["n"])}, {"y": (kind, ["n"])}, opset=25)


def reshaped() -> onnx.ModelProto:
    """y = relu(reshape(x, shape)): the values of an input decide shapes."""
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["r"]), helper.make_node("Relu", ["r"], ["y"])]
    inputs = {"x": (TensorProto.FLOAT, [6]), "shape": (TensorProto.INT64, [2])}
    return model(nodes, inputs, {"y": (TensorProto.FLOAT, ["a", "b"])})
