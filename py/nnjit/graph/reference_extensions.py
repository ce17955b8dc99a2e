"""Reference operators of extensions: the expansion of each for the shapes at hand, run by the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from . import dtypes, schemas
from .const import Const
from .extensions import expansions, schema
from .extensions.learned import ML
from .ir import Graph, Node, Value

# Integers that shapes may hang on are constants of the expansion.
_SMALL = 64


def _run(self: Any, *args: Any, **_: Any) -> tuple[Any, ...]:
    from .infer import infer_nodes
    from .reference import Subgraph

    domain, op = self.op_domain, self.onnx_node.op_type
    version = self.run_params["opsets"][ML] if domain == ML else 1
    attributes = schemas.attributes(op, domain, version)
    attrs = {a: getattr(self, a) for a in attributes if getattr(self, a, None) is not None}
    inputs: list[Value | None] = []
    feeds: dict[Value, Any] = {}
    for index, given in enumerate(args):
        if given is None:
            inputs.append(None)
            continue
        array = np.asarray(given)
        value = Value(f"in{index}", dtypes.from_numpy(array.dtype), array.shape)
        if array.dtype.kind in "iu" and array.size <= _SMALL:
            value.const = Const.of(array, value.dtype)
        else:
            feeds[value] = array
        inputs.append(value)
    outputs = [Value(name) for name in self.onnx_node.output]
    node = Node(op, inputs, outputs, attrs, name=self.onnx_node.name or op, domain=domain, version=version)
    graph = Graph("", list(feeds), [v for v in outputs if v.name], [node])
    graph.nodes = infer_nodes(graph, graph.nodes)
    if any((n.domain, n.op) == (domain, op) for n in graph.nodes):
        raise NotImplementedError(f"{op} of these operands has no expansion")
    found = iter(Subgraph(graph.nodes, graph.outputs, list(feeds)).run(feeds))
    absent = np.zeros(0, np.float32)  # the evaluator counts outputs that nobody asked for
    return tuple(next(found) if v.name else absent for v in outputs)


def _run_or_own(self: Any, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """onnx.reference's own implementation stands behind the expansion: for text, and forms of later versions."""
    try:
        return _run(self, *args, **kwargs)
    except NotImplementedError:
        from onnx.reference.ops.aionnxml._op_list import load_op  # imports every operator of the domain

        own = load_op(ML, self.onnx_node.op_type, self.run_params["opsets"][ML])
        found: tuple[Any, ...] = own(self.onnx_node, self.run_params).run(*args, **kwargs)
        return found


EXTENSION_OPS: list[type[OpRun]] = [
    type(op, (OpRun,), {"op_domain": domain, "run": _run, "_run": _run})
    for domain, op in expansions()
    if schema(domain, op) is not None
]
EXTENSION_OPS += [
    type(op, (OpRun,), {"op_domain": domain, "run": _run_or_own, "_run": _run_or_own})
    for domain, op in expansions()
    if domain == ML
]
