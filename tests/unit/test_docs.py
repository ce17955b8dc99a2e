"""The Python examples of README.md and docs/ that CPython can run, run as they are printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.wasm.target import Target
from nnjit.lower.ops import activation
from tests.support.docs import everywhere
from tests.support.specs import matmul

EXAMPLES = everywhere("python")
# README's first and that of docs/api.md are for the page: tests/browser/test_docs.py.
PAGE = {("README.md", 0), ("docs/api.md", 0)}


def test_every_example_is_known() -> None:
    here = {("README.md", 1), ("docs/contributing.md", 0), ("docs/kernels.md", 0), ("docs/records.md", 0)}
    assert set(EXAMPLES) == PAGE | here


def test_a_model_on_cpython(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.arange(6, dtype=np.float32)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Neg", ["input"], ["y"])],
        "negated",
        [value("input", TensorProto.FLOAT, [6])],
        [value("y", TensorProto.FLOAT, [6])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
    monkeypatch.chdir(tmp_path)
    names = run("README.md", 1, x=x)
    np.testing.assert_array_equal(names["outputs"]["y"], -x)


def test_schedules_of_a_product() -> None:
    spec, _ = matmul(np.random.default_rng(0), 24, 96, 64)
    run("docs/kernels.md", 0, spec=spec, target=Target())


def test_a_record_goes_there_and_back() -> None:
    spec, _ = matmul(np.random.default_rng(0), 24, 96, 64)
    schedule = default_schedule(spec, Target())
    first = run(
        "docs/records.md", 0, spec=spec, schedule=schedule, mine_us=[1.0], default_us=[2.0], text="nonsense"
    )
    assert len(first["bad"]) == 1
    second = run("docs/records.md", 0, **{**first, "text": first["line"]})
    assert second["good"] == [first["record"]] and not second["bad"]


def test_an_operator_is_written_as_the_page_says() -> None:
    """contributing.md prints a rule that there is."""
    assert EXAMPLES["docs/contributing.md", 0] in Path(activation.__file__).read_text()


def run(file: str, number: int, **names: Any) -> dict[str, Any]:
    exec(EXAMPLES[file, number], names)
    return names
