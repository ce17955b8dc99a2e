"""Models of one node, run by nnjit's kernels on CPython and by native onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

Arrays = Mapping[str, Any]


def model_of(
    op: str, feeds: Arrays, outputs: Sequence[tuple[str, Any]], attrs: Mapping[str, Any] | None = None,
    constants: Arrays | None = None, order: Sequence[str] | None = None, opset: int = 21,
) -> bytes:  # fmt: skip
    """A model whose one node reads feeds and constants (in `order`, '' for an absent one)."""
    constants = constants or {}
    names = list(order) if order is not None else [*feeds, *constants]
    node = helper.make_node(op, names, [name for name, _ in outputs], **(attrs or {}))

    def info(name: str, dtype: Any, shape: Sequence[int] | None) -> Any:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

    graph = helper.make_graph(
        [node], op, [info(n, a.dtype, a.shape) for n, a in feeds.items()],
        [info(n, t, None) for n, t in outputs if n],
        [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def on_kernels(model: bytes, feeds: Arrays, convolution: str = "auto") -> dict[str, Any]:
    """What nnjit answers; fails if a node ran on the reference."""
    from nnjit.runtime.local import LocalSession  # which needs wasmtime; native() alone does not

    session = LocalSession(model, convolution=convolution)
    out = session.run(feeds)
    slow = [row["op"] for row in session.placement() if row["backend"] == "reference"]
    assert not slow, f"{slow} ran on the reference"
    return dict(out)


def native(model: bytes, feeds: Arrays, optimised: bool = True) -> dict[str, Any]:
    """What onnxruntime answers; optimised: as it is used, its graph transformations on."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except ort.capi.onnxruntime_pybind11_state.NotImplemented:
        # 1.23, the last for Python 3.10, fuses products of doubles into one that it has no kernel for
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))
