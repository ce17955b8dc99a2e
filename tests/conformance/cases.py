"""ONNX's own backend test cases, all 2,033 of the onnx package, in one form.

`load_cases()` gives them sorted by kind and name: model bytes, data sets of named feeds and expected outputs,
tolerances. Kinds: node, simple, pytorch-converted, pytorch-operator and light (nine whole networks).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

DATA = Path(onnx.backend.test.__file__).parent / "data"
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "light")


@dataclass(frozen=True)
class DataSet:
    inputs: dict[str, Any]
    outputs: dict[str, Any]


@dataclass
class Case:
    name: str
    kind: str
    rtol: float
    atol: float
    source: TestCase = field(repr=False)

    @property
    def id(self) -> str:
        return f"{self.kind}/{self.name}"

    def model(self) -> onnx.ModelProto:
        if self.source.model is not None:
            return self.source.model
        return onnx.load(self.model_path())

    def model_path(self) -> Path:
        if self.kind == "light":
            return DATA / "light" / Path(str(self.source.url)).name
        return Path(str(self.source.model_dir)) / "model.onnx"

    def model_bytes(self) -> bytes:
        if self.source.model is not None:
            return self.source.model.SerializeToString()
        return self.model_path().read_bytes()

    def data_sets(self) -> list[DataSet]:
        graph = self.model().graph
        if self.kind == "light":
            return [light_data(graph, self.model_path())]
        if self.source.data_sets is not None:
            pairs = [(list(i), list(o)) for i, o in self.source.data_sets]
        else:
            folders = sorted(Path(str(self.source.model_dir)).glob("test_data_set*"))
            pairs = [
                (read_values(f, "input", graph.input), read_values(f, "output", graph.output))
                for f in folders
            ]
        return [
            DataSet(named(graph_inputs(graph, len(i)), i), named(list(graph.output), o)) for i, o in pairs
        ]

    def check(self, expected: DataSet, outputs: list[Any]) -> None:
        """onnx's own comparison. AssertionError or TypeError with the difference."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compare(list(expected.outputs.values()), outputs, self.rtol, self.atol)


def compare(expected: list[Any], got: list[Any], rtol: float, atol: float) -> None:
    """onnx's comparison, value by value: its own loop takes a tensor inside a sequence for a list of rows."""
    assert len(expected) == len(got), f"{len(got)} values, {len(expected)} expected"
    for want, value in zip(expected, got, strict=True):
        if want is None or value is None:
            assert want is value, f"{'nothing' if value is None else 'a value'} where the other was expected"
        elif isinstance(want, list):
            assert isinstance(value, list), f"{type(value).__name__} where a sequence was expected"
            compare(want, value, rtol, atol)
        else:
            assert not isinstance(value, list), "a sequence where a tensor was expected"
            Runner.assert_similar_outputs([want], [np.asarray(value)], rtol, atol)


def named(infos: list[onnx.ValueInfoProto], values: list[Any]) -> dict[str, Any]:
    return {info.name: normal(value) for info, value in zip(infos, values, strict=False)}


def normal(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, list):
        return [normal(item) for item in value]
    return value if value is None else np.asarray(value)


def graph_inputs(graph: onnx.GraphProto, count: int) -> list[onnx.ValueInfoProto]:
    """The inputs that a data set feeds: those that aren't initializers (IR 3 lists both)."""
    initializers = {t.name for t in graph.initializer}
    free = [v for v in graph.input if v.name not in initializers]
    return free if len(free) >= count else list(graph.input)


def read_values(folder: Path, word: str, infos: Any) -> list[Any]:
    out: list[Any] = []
    for k in range(len(list(folder.glob(f"{word}_*.pb")))):
        data, which = (folder / f"{word}_{k}.pb").read_bytes(), infos[k].type.WhichOneof("value")
        if which == "sequence_type":
            out.append(numpy_helper.to_list(onnx.SequenceProto.FromString(data)))
        elif which == "optional_type":
            out.append(numpy_helper.to_optional(onnx.OptionalProto.FromString(data)))
        else:
            out.append(numpy_helper.to_array(onnx.TensorProto.FromString(data)))
    return out


def light_data(graph: onnx.GraphProto, path: Path) -> DataSet:
    """A light network is fed a ramp from 0 to 1, its weights are constants made by its own nodes."""
    inputs = {v.name: Runner.generate_dummy_data(v) for v in graph_inputs(graph, 1)}
    stored = [path.with_name(f"{path.stem}_output_{k}.pb") for k in range(len(graph.output))]
    values = [numpy_helper.to_array(onnx.TensorProto.FromString(p.read_bytes())) for p in stored]
    return DataSet(inputs, named(list(graph.output), values))


@cache
def load_cases() -> tuple[Case, ...]:
    """Every case. Takes about 8 s: the node cases are computed anew by the onnx package."""
    cases = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in KINDS:
            for test in load_model_tests(kind="real" if kind == "light" else kind):
                cases.append(Case(test.name, kind, test.rtol, test.atol, test))
    return tuple(sorted(cases, key=lambda c: (KINDS.index(c.kind), c.name)))


def select(cases: tuple[Case, ...], patterns: list[str]) -> list[Case]:
    """Cases whose id or operators hold a pattern: `Conv`, `node/test_add`, `light/`. All if there is none."""
    if not patterns:
        return list(cases)
    return [c for c in cases if any(p in c.id or p in operators(c.model()) for p in patterns)]


def stratified(cases: tuple[Case, ...], size: int) -> list[Case]:
    """A fixed subset: first one case of every operator, then every n-th of the rest; no big network."""
    small = [c for c in cases if c.kind != "light"]
    chosen: dict[str, Case] = {}
    seen: set[str] = set()
    for case in small:
        ops = operators(case.model())
        if not ops <= seen:
            seen |= ops
            chosen[case.id] = case
    rest = [c for c in small if c.id not in chosen]
    step = max(1, len(rest) // max(1, size - len(chosen)))
    for case in rest[::step]:
        if len(chosen) < size:
            chosen[case.id] = case
    return [c for c in cases if c.id in chosen]


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of subgraphs too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for sub in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from nodes(sub)


def operators(model: onnx.ModelProto) -> set[str]:
    """`Conv`, `ai.onnx.ml.TreeEnsemble`, …: the operators that a model uses."""
    return {
        f"{n.domain}.{n.op_type}" if n.domain not in ("", "ai.onnx") else n.op_type
        for n in nodes(model.graph)
    }
