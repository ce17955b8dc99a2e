"""Small models as text, run before and after the compiler's front half, with onnx.reference as oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import parser
from onnx.reference import ReferenceEvaluator

from nnjit.frontend import BytesSource, load
from nnjit.graph.ir import Graph
from nnjit.graph.model import Model
from nnjit.graph.reference import run_graph
from nnjit.graph.reference_ops import Pad

Feeds = dict[str, Any]


def model_of(text: str, opset: int = 21, extra: str = "") -> onnx.ModelProto:
    """A ModelProto of onnx.parser's text form: `g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }`."""
    head = f'<ir_version: 8, opset_import: ["" : {opset}{extra}]>'
    return parser.parse_model(f"{head}\n{text}")


def loaded(model: onnx.ModelProto | str, opset: int = 21) -> Model:
    proto = model_of(model, opset) if isinstance(model, str) else model
    return load(BytesSource(proto.SerializeToString()))


def bound(model: onnx.ModelProto | str, feeds: Feeds, opset: int = 21, **options: Any) -> Graph:
    graph = loaded(model, opset).bind(shapes={k: np.shape(v) for k, v in feeds.items()}, **options)
    graph.check()
    return graph


def expect(model: onnx.ModelProto, feeds: Feeds) -> list[np.ndarray[Any, Any]]:
    """What the untouched model gives on onnx.reference."""
    return [np.asarray(v) for v in ReferenceEvaluator(model, new_ops=[Pad]).run(None, feeds)]


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def same(
    model: onnx.ModelProto | str, feeds: Feeds, opset: int = 21, rtol: float = 1e-5, atol: float = 1e-6
) -> Graph:
    """Binds with all passes, asserts that the values stayed; the graph, for looking at its operators."""
    proto = model_of(model, opset) if isinstance(model, str) else model
    graph = bound(proto, feeds)
    found = run_graph(graph, {v.name: feeds[v.name] for v in graph.inputs})
    for name, value, wanted in zip(graph.output_names, graph.outputs, expect(proto, feeds), strict=True):
        assert value.shape is None or value.shape == wanted.shape, f"{name}: {value} is not {wanted.shape}"
        assert found[name].dtype == wanted.dtype, name
        np.testing.assert_allclose(found[name], wanted, rtol=rtol, atol=atol, err_msg=name)
    return graph


def randn(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)
