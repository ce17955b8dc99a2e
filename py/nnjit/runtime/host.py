"""Nodes without a kernel, run on onnx.reference here in the compiler worker.

Takes a plan's host_calls (id → nodes with their inputs and outputs); gives a call's outputs for its inputs:
numpy arrays, lists for sequences, None for an absent optional. Evaluators are made once and kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import SessionError
from ..graph.ir import Graph

if TYPE_CHECKING:
    from ..graph.reference import Subgraph


class HostCalls:
    """The host calls of one plan."""

    def __init__(self, sites: Mapping[str, Any]) -> None:
        self._sites = sites
        self._evaluators: dict[str, Subgraph] = {}

    def run(self, call: str, inputs: Sequence[Any]) -> list[tuple[Any, str]]:
        """(value, short dtype) for each output. SessionError for a call the plan does not have."""
        site = self._sites.get(call)
        if site is None:
            raise SessionError(f"The plan has no host call {call!r}", call=call)
        evaluator = self._evaluators.get(call)
        if evaluator is None:
            # onnx.reference takes a while to import, and few models need it
            from ..graph.reference import Subgraph

            evaluator = self._evaluators[call] = Subgraph(site.nodes, site.outputs, site.inputs)
        found = evaluator.run(dict(zip(site.inputs, inputs, strict=True)))
        return [(value, of.dtype) for value, of in zip(found, site.outputs, strict=True)]


class WholeGraph:
    """Every node of a graph as one host call: slow, and right for any valid model."""

    def __init__(self, graph: Graph) -> None:
        from ..graph.reference import Subgraph

        self._graph = graph
        self._evaluator = Subgraph(graph.nodes, graph.outputs, graph.inputs)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs by the model's names. An input without a feed is an absent optional."""
        found = self._evaluator.run({value: feeds.get(value.name) for value in self._graph.inputs})
        return dict(zip(self._graph.output_names, found, strict=True))
