"""Constants that a product would pack although another step reads them as they are.

Takes a graph, returns those values: panels of them would be a second copy in memory. An embedding tied to the last
layer is the case: Gather reads its rows, the product reads it transposed.
"""

from __future__ import annotations

from nnjit.codegen.dtypes import SIZES
from nnjit.graph.ir import Graph, Value
from nnjit.lower.registry import kind

PRODUCTS = {"MatMul", "Gemm", "Einsum", "Conv"}
WORTH = 1 << 20
"""Bytes of a constant from which a second copy matters."""


def shared_constants(graph: Graph) -> set[Value]:
    """The constants of WORTH and more that a product and a node of another kind both read, through views or not."""
    root: dict[Value, Value] = {}
    packed: set[Value] = set()
    plain: set[Value] = set()
    for n in graph.nodes:
        for v in n.inputs:
            if v is None:
                continue
            source = root.get(v, v)
            if source.const is None or source.dtype not in SIZES:
                continue
            if (source.size or 0) * SIZES[source.dtype] < WORTH:
                continue
            if kind(n) == "view":
                root.update(dict.fromkeys(n.outputs, source))
            else:
                (packed if n.op in PRODUCTS else plain).add(source)
    return packed & plain
