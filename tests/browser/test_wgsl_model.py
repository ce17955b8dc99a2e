"""Models lowered for Wasm, their kernels printed as WGSL: the very specs, schedules and panels, on SwiftShader.

Nothing is lowered again for the GPU. Each step runs on its own, its buffers kept here between steps; the outputs must
be onnxruntime's up to the rounding of sums and of exp (2e-5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from nnjit.codegen.dtypes import NUMPY
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.wasm.target import Target
from nnjit.codegen.wgsl.emit import emit
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.frontend import BytesSource, load
from nnjit.lower.build import Kernel, lower
from nnjit.lower.tensors import Buffer
from nnjit.runtime.compile import primitive
from tests.support import shaders
from tests.support.single import native

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.swiftshader

RNG = np.random.default_rng(5)
TARGET = WgslTarget()


@pytest.fixture(scope="module")
def gpu(new_page: Any) -> Iterator[Page]:
    with new_page("swiftshader") as page:
        shaders.set_up(page)
        yield page


class Memory:
    """A numpy array for each buffer of a lowered graph."""

    def __init__(self) -> None:
        self.bytes: dict[Buffer, Any] = {}

    def of(self, buffer: Buffer) -> Any:
        found = self.bytes.get(buffer)
        if found is None:
            found = self.bytes[buffer] = np.zeros(buffer.nbytes, np.uint8)
            if buffer.source is not None:
                found[:] = np.ascontiguousarray(buffer.source.numpy()).reshape(-1).view(np.uint8)
        return found

    def view(self, buffer: Buffer, offset: int, dtype: str, size: int) -> Any:
        """Elements of an operand, to read and to write."""
        words = self.of(buffer).view(NUMPY[dtype])
        return words[offset : offset + size]


def run_on_gpu(page: Page, model: bytes, feeds: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Outputs by name, and the kernels that ran, in order."""
    bound = load(BytesSource(model, "m.onnx"), {}).bind({n: a.shape for n, a in feeds.items()})
    lowered = lower(primitive(bound), Target())
    memory = Memory()
    for v in lowered.graph.inputs:
        memory.of(lowered.tensors.places[v].buffer)[:] = feeds[v.name].reshape(-1).view(np.uint8)
    ran = []
    for step in lowered.steps:
        assert isinstance(step, Kernel), f"{step.reason}"
        nest = apply(step.spec, step.schedule)  # whose operands have the size of the panels
        operands = list(zip(step.places, nest.operands, strict=True))
        views = [memory.view(b, at, o.dtype, o.size) for (b, at), o in operands]
        outputs = [v for v, o in zip(views, nest.operands, strict=True) if o.role == "out"]
        for to, data in zip(outputs, shaders.run(page, emit(nest, TARGET), views), strict=True):
            to[:] = data
        ran.append(step.spec.name)
    out = {}
    for v in lowered.graph.outputs:
        place = lowered.tensors.places[v]
        out[v.name] = memory.of(place.buffer).view(NUMPY[v.dtype]).reshape(v.shape)
    return out, ran


def model_of(nodes: list[Any], feeds: dict[str, Any], weights: dict[str, Any], outputs: list[str]) -> bytes:
    def info(name: str, a: Any) -> Any:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)

    graph = helper.make_graph(
        nodes,
        "small",
        [info(n, a) for n, a in feeds.items()],
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def normal(*shape: int) -> Any:
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def vision() -> tuple[bytes, dict[str, Any]]:
    """3x3 strided and padded, depthwise, 1x1, pooling, a classifier: odd sizes throughout."""
    n = helper.make_node
    nodes = [
        n("Conv", ["x", "w0", "b0"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        n("Relu", ["a"], ["b"]),
        n("Conv", ["b", "w1"], ["c"], pads=[1, 1, 1, 1], group=10),
        n("HardSwish", ["c"], ["d"]),
        n("Conv", ["d", "w2", "b2"], ["e"]),
        n("Add", ["e", "b"], ["f"]),
        n("MaxPool", ["f"], ["g"], kernel_shape=[2, 2], strides=[2, 2]),
        n("GlobalAveragePool", ["g"], ["h"]),
        n("Flatten", ["h"], ["i"]),
        n("Gemm", ["i", "w3", "b3"], ["j"], transB=1),
        n("Softmax", ["j"], ["y"]),
    ]
    weights = {
        "w0": normal(10, 3, 3, 3), "b0": normal(10), "w1": normal(10, 1, 3, 3), "w2": normal(10, 10, 1, 1),
        "b2": normal(10), "w3": normal(7, 10), "b3": normal(7),
    }  # fmt: skip
    feeds = {"x": normal(2, 3, 11, 9)}
    return model_of(nodes, feeds, weights, ["y"]), feeds


def language() -> tuple[bytes, dict[str, Any]]:
    """Embedding rows by i64 ids, layer norm, attention scores, gelu, a residual."""
    n = helper.make_node
    nodes = [
        n("Gather", ["table", "ids"], ["x"]),
        n("LayerNormalization", ["x", "scale", "shift"], ["a"]),
        n("MatMul", ["a", "wq"], ["q"]),
        n("MatMul", ["a", "wk"], ["k"]),
        n("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        n("MatMul", ["q", "kt"], ["s"]),
        n("Mul", ["s", "root"], ["t"]),
        n("Softmax", ["t"], ["p"]),
        n("MatMul", ["p", "a"], ["c"]),
        n("MatMul", ["c", "w1"], ["d"]),
        n("Add", ["d", "b1"], ["e"]),
        n("Gelu", ["e"], ["f"]),
        n("MatMul", ["f", "w2"], ["g"]),
        n("Add", ["g", "x"], ["y"]),
    ]
    weights = {
        "table": normal(23, 12), "scale": normal(12), "shift": normal(12), "wq": normal(12, 12), "wk": normal(12, 12),
        "root": np.array(12**-0.5, np.float32), "w1": normal(12, 29), "b1": normal(29), "w2": normal(29, 12),
    }  # fmt: skip
    feeds = {"ids": RNG.integers(0, 23, (2, 7))}
    return model_of(nodes, feeds, weights, ["y"]), feeds


@pytest.mark.parametrize("make", [vision, language])
def test_a_model_lowered_for_wasm_runs_as_shaders(gpu: Page, make: Callable[[], tuple[bytes, Any]]) -> None:
    model, feeds = make()
    found, ran = run_on_gpu(gpu, model, feeds)
    assert any("pack" in name for name in ran), ran  # panels are made and read on the GPU too
    wanted = native(model, feeds)
    np.testing.assert_allclose(found["y"], wanted["y"], rtol=2e-5, atol=2e-5)
