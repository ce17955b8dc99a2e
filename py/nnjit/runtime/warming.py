"""parts(): compiles two small models for both targets, part by part, while nobody waits.

The first model of a page would otherwise find modules that are not imported, tables that are empty and code that the
interpreter has never run, in an interpreter that the browser has not compiled for speed yet: as much again as compiling
it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from nnjit.codegen.wasm.target import Target
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.frontend import BytesSource, load
from nnjit.graph.model import Model
from nnjit.graph.room import make_room
from nnjit.graph.room.lengths import Length
from nnjit.lower.build import Build
from nnjit.lower.forms import Forms
from nnjit.runtime.compile import link_plan
from nnjit.runtime.gpu_compile import compile_gpu
from nnjit.runtime.gpu_memory import GpuMemory
from nnjit.runtime.memory import SessionMemory

LATE = ("along", "online", "team", "workgroup")
"""Of codegen.schedule: what is imported where it is first used, because it builds on who uses it."""
SHAPES = {"image": (1, 8, 8, 8), "words": (1, 16, 32)}
"""Of the inputs of the two models."""


def parts() -> Iterator[None]:
    """Each step is a part of the work, some tens of milliseconds of it in the page."""
    for name in LATE:
        import_module(f"nnjit.codegen.schedule.{name}")
        yield
    for make in (_image, _words):
        model = make()
        yield
        yield from _on_wasm(model, "direct")
        yield from _on_gpu(model)
    yield from _on_wasm(_image(), "winograd")
    make_room(
        _words(), {"words": SHAPES["words"]}, {"words": {1: Length.of()}}, [32]
    )  # what a second length comes to
    yield


def _on_wasm(model: Model, convolution: str) -> Iterator[None]:
    target = Target(threads=2, shared=True)
    graph = model.bind(shapes=_shapes(model))
    yield
    build = Build(graph, target, forms=Forms(convolution))
    for _ in build.parts():
        yield
    link_plan(build.lowered(), target, SessionMemory(), "").to_js()
    yield


def _on_gpu(model: Model) -> Iterator[None]:
    graph = model.bind(shapes=_shapes(model))
    yield
    plan = compile_gpu(graph, WgslTarget(features=frozenset({"subgroups"})), GpuMemory())
    yield
    plan.to_js()


def _shapes(model: Model) -> dict[str, tuple[int, ...]]:
    return {i.name: SHAPES[i.name] for i in model.signature.inputs}


def _image() -> Model:
    """Convolutions, and what often goes with them."""
    nodes = [
        helper.make_node("Conv", ["image", "filter", "bias"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["m", "point"], ["p"]),
        helper.make_node("Add", ["p", "m"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["y"]),
    ]
    return _model("image", nodes, {"filter": (16, 8, 3, 3), "bias": (16,), "point": (16, 16, 1, 1)})


def _words() -> Model:
    """Attention, a norm and a product."""
    nodes = [
        helper.make_node("MatMul", ["words", "w"], ["q"]),
        helper.make_node("MatMul", ["words", "w"], ["k"]),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "words"], ["a"]),
        helper.make_node("Add", ["a", "words"], ["sum"]),
        helper.make_node("LayerNormalization", ["sum", "scale", "scale"], ["n"]),
        helper.make_node("MatMul", ["n", "wide"], ["m"]),
        helper.make_node("Gelu", ["m"], ["y"]),
    ]
    return _model("words", nodes, {"w": (32, 32), "wide": (32, 64), "scale": (32,)})


def _model(name: str, nodes: list[NodeProto], weights: dict[str, tuple[int, ...]]) -> Model:
    """From input `name` to output y."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPES[name])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(shape, np.float32), n) for n, shape in weights.items()],
    )
    proto: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return load(BytesSource(proto.SerializeToString(), f"{name}.onnx"), {})
