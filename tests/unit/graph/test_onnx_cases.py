"""ONNX's own cases through the front half: import, shapes, folding, passes, run on the reference.

Every inferred shape and type is compared with the expected output's, and every value within tolerance.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from nnjit.frontend import BytesSource, load
from nnjit.graph.dtypes import NUMPY
from nnjit.graph.reference import run_graph

# What cannot pass on onnx.reference, and why.
KNOWN = {
    "bernoulli": "random numbers",
    "image_decoder": "needs Pillow",
    "gradient_of": "onnx.reference has no Gradient",
}
DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"


@lru_cache(maxsize=1)
def node_cases() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in load_model_tests(kind="node")}


def groups() -> list[str]:
    """First letters after test_: one test a group, so that a failure stays readable."""
    return sorted({name[5] for name in node_cases()})


def compare(model: onnx.ModelProto, inputs: list[Any], outputs: list[Any], rtol: float, atol: float) -> None:
    imported = load(BytesSource(model.SerializeToString()))
    feeds = {info.name: value for info, value in zip(imported.signature.inputs, inputs, strict=False)}
    shapes = {k: np.shape(v) for k, v in feeds.items() if imported.signature.input(k).kind == "tensor"}
    graph = imported.bind(shapes=shapes)
    graph.check()
    for value, wanted in zip(graph.outputs, outputs, strict=True):
        if isinstance(wanted, np.ndarray):
            assert value.shape in (None, wanted.shape), f"{value} is not {wanted.shape}"
            assert value.dtype == "string" or NUMPY[value.dtype] == wanted.dtype, (
                f"{value} is not {wanted.dtype}"
            )
    found = run_graph(graph, {v.name: feeds[v.name] for v in graph.inputs})
    for name, wanted in zip(graph.output_names, outputs, strict=True):
        close(found[name], wanted, max(rtol, 1e-3), max(atol, 1e-5))


def close(found: Any, wanted: Any, rtol: float, atol: float) -> None:
    if wanted is None or isinstance(wanted, (list, tuple)):
        assert (found is None) == (wanted is None) and len(found or []) == len(wanted or [])
        for a, b in zip(found or [], wanted or [], strict=True):
            close(a, b, rtol, atol)
        return
    wanted = np.asarray(wanted)
    if wanted.dtype.kind in "OUS":
        assert np.asarray(found).astype(object).tolist() == wanted.astype(object).tolist()
        return
    assert found.shape == wanted.shape and found.dtype == wanted.dtype
    wide = np.complex128 if wanted.dtype.kind == "c" else np.float64
    np.testing.assert_allclose(found.astype(wide), wanted.astype(wide), rtol=rtol, atol=atol)


def arrays(values: list[Any]) -> list[Any]:
    return [numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v for v in values]


@pytest.mark.parametrize("letter", groups())
def test_node_cases(letter: str) -> None:
    failed = {}
    for name, case in node_cases().items():
        if name[5] != letter or any(word in name for word in KNOWN):
            continue
        for inputs, outputs in case.data_sets or []:
            try:
                compare(case.model, arrays(inputs), arrays(outputs), case.rtol or 0, case.atol or 0)
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {error}"[:300]
    assert not failed, "\n".join(f"{k}: {v}" for k, v in failed.items())


def stored(folder: Path, model: onnx.ModelProto, kind: str) -> list[Any]:
    infos = model.graph.input if kind == "input" else model.graph.output
    values = []
    for i, path in enumerate(sorted(folder.glob(f"{kind}_*.pb"), key=lambda p: int(p.stem.split("_")[1]))):
        data = path.read_bytes()
        which = infos[i].type.WhichOneof("value")
        if which == "sequence_type":
            values.append(numpy_helper.to_list(onnx.SequenceProto.FromString(data)))
        elif which == "optional_type":
            values.append(numpy_helper.to_optional(onnx.OptionalProto.FromString(data)))
        else:
            values.append(numpy_helper.to_array(onnx.TensorProto.FromString(data)))
    return values


@pytest.mark.parametrize("kind", ["simple", "pytorch-converted", "pytorch-operator"])
def test_stored_cases(kind: str) -> None:
    failed, count = {}, 0
    for folder in sorted((DATA / kind).iterdir()):
        if any(word in folder.name for word in KNOWN):
            continue
        model = onnx.load(folder / "model.onnx")
        for data in sorted(folder.glob("test_data_set_*")):
            count += 1
            try:
                compare(model, stored(data, model, "input"), stored(data, model, "output"), 1e-3, 1e-5)
            except Exception as error:
                failed[folder.name] = f"{type(error).__name__}: {error}"[:300]
    assert count > 20
    assert not failed, "\n".join(f"{k}: {v}" for k, v in failed.items())
