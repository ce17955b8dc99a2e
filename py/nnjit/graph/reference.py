"""The slow, certain way: nodes evaluated by onnx.reference on numpy arrays.

`run_nodes` serves nodes without a kernel (host calls) and folding; `run_graph` is the oracle of a whole
graph. Bodies of If, Loop and Scan see the outer values they capture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx.reference import ReferenceEvaluator

from ..errors import NnjitError, ReferenceFailed
from . import dtypes, export, reference_small
from .ir import Graph, Node, Value
from .reference_extensions import EXTENSION_OPS
from .reference_learned import LEARNED_OPS
from .reference_ops import NEW_OPS
from .reference_recurrent import RECURRENT_OPS


class Subgraph:
    """Nodes compiled for the reference once, to be run many times.

    `inputs` are the values that have to be fed; constants are part of it.
    """

    def __init__(
        self, nodes: Sequence[Node], outputs: Sequence[Value], inputs: Sequence[Value] | None = None
    ) -> None:
        self.outputs = list(outputs)
        made = {v for node in nodes for v in node.outputs}
        read = dict.fromkeys(v for node in nodes for v in node.reads() if v not in made and v.const is None)
        read.update(dict.fromkeys(v for v in outputs if v not in made and v.const is None))
        self.inputs: list[Value] = list(inputs) if inputs is not None else list(read)
        self._names = export.Names()
        self._nodes = list(nodes)
        self._evaluator: ReferenceEvaluator | None = None
        if reference_small.needed(self._nodes):
            return  # node by node, see _run_small
        graph = export.graph_proto("host", nodes, self.inputs, self.outputs, self._names)
        model = export.model_proto(graph, export.opsets_of(nodes))
        try:
            self._evaluator = ReferenceEvaluator(
                model, new_ops=[*NEW_OPS, *RECURRENT_OPS, *EXTENSION_OPS, *LEARNED_OPS]
            )
        except Exception as error:
            raise self._failed(error) from error
        self._output_names = [o.name for o in graph.output]

    def run(self, feeds: Mapping[Value, Any]) -> list[Any]:
        """Outputs in order: arrays, object arrays of str, lists (sequences), None (an empty optional)."""
        given = {v: _feed(feeds[v], v) for v in self.inputs}
        try:
            with np.errstate(all="ignore"):
                found = self._run_small(given) if self._evaluator is None else self._run_all(given)
        except NnjitError:
            raise
        except Exception as error:
            raise self._failed(error) from error
        return [_result(value, v.dtype) for value, v in zip(found, self.outputs, strict=True)]

    def _run_all(self, given: Mapping[Value, Any]) -> list[Any]:
        assert self._evaluator is not None
        named = {self._names[v]: array for v, array in given.items()}
        return list(self._evaluator.run(self._output_names, named))

    def _run_small(self, given: Mapping[Value, Any]) -> list[Any]:
        env = dict(given)
        for node in self._nodes:
            found = reference_small.run_small(node, env, _run_one)
            env.update(zip([v for v in node.outputs if v.name], found, strict=True))
        return [v.const.numpy() if v.const is not None else env[v] for v in self.outputs]

    def _failed(self, error: Exception) -> ReferenceFailed:
        first = self._nodes[0] if self._nodes else None
        ops = ", ".join(n.op for n in self._nodes[:4])
        return ReferenceFailed(
            f"onnx.reference could not run {ops}: {type(error).__name__}: {error}",
            hint="the operator may not support these types or shapes in onnx.reference",
            node=first.name if first else None,
            op=first.op if first else None,
            domain=(first.domain or "ai.onnx") if first else None,
        )


def _run_one(node: Node, env: Mapping[Value, Any]) -> list[Any]:
    return Subgraph([node], [v for v in node.outputs if v.name]).run(env)


def run_nodes(nodes: Sequence[Node], feeds: Mapping[Value, Any], outputs: Sequence[Value]) -> list[Any]:
    """Evaluates nodes (in topological order) on `feeds`; see Subgraph.run for what comes back."""
    return Subgraph(nodes, outputs).run(feeds)


def run_graph(graph: Graph, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """A whole graph on feeds by input name; outputs by the model's output names."""
    found = Subgraph(graph.nodes, graph.outputs, graph.inputs).run({v: feeds[v.name] for v in graph.inputs})
    return dict(zip(graph.output_names, found, strict=True))


def _feed(value: Any, of: Value) -> Any:
    if isinstance(value, np.ndarray) and of.dtype in dtypes.NUMPY and of.dtype != "string":
        wanted = dtypes.NUMPY[of.dtype]
        if value.dtype != wanted and value.dtype.itemsize == wanted.itemsize and value.dtype.kind in "uV":
            return value.view(wanted)  # raw bits of bf16, fp8, … as they cross from JavaScript
    return value


def _result(value: Any, dtype: str) -> Any:
    if isinstance(value, (list, tuple)):
        return [_result(v, "") for v in value]
    if value is None or isinstance(value, dict):
        return value
    array = np.asarray(value)
    if array.dtype.kind in "US":
        return array.astype(object)
    wanted = dtypes.NUMPY.get(dtype)
    # Some reference operators return a wider type than the schema says.
    if wanted is not None and array.dtype != wanted and dtype != "string":
        array = array.astype(wanted)
    return array
