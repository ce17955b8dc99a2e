"""A graph with room whose values hold nonsense wherever it says that nobody looks (`Value.reach`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnjit.graph.dtypes import FLOATS, NUMPY
from nnjit.graph.ir import Graph, Node, Value

NONSENSE = 12_345_678


def poisoned(graph: Graph, n: Sequence[int]) -> Graph:
    """A copy for requests of numbers n: NaN beyond what counts of each value, in integers a number that is no index,
    true in truths."""
    made = graph.copy()
    nodes: list[Node] = []
    for node in made.nodes:
        nodes.append(node)
        for value in list(node.outputs):
            if not value.reach or value.shape is None or value.dtype not in NUMPY:
                continue
            inside = np.ones(value.shape, bool)
            for axis, length in value.reach.items():
                places = np.arange(value.shape[axis]) < length.at(n)
                inside &= places.reshape([-1 if i == axis else 1 for i in range(len(value.shape))])
            number = np.nan if value.dtype in FLOATS else value.dtype == "bool" or NONSENSE
            if value.dtype in ("i8", "u8", "i16", "u16"):
                number = 99
            wrong = np.array(number).astype(NUMPY[value.dtype])
            true = Value(value.name, value.dtype, value.shape)
            value.name = f"{value.name}~raw"
            readers, value.users = value.users, []
            for reader in dict.fromkeys(readers):
                reader.inputs = [true if v is value else v for v in reader.inputs]
                reader.captures = {k: true if v is value else v for k, v in reader.captures.items()}
            true.users = readers
            made.outputs = [true if v is value else v for v in made.outputs]
            mask, fill = made.constant(inside), made.constant(wrong, dtype=value.dtype)
            nodes.append(Node("Where", [mask, value, fill], [true], name=f"{true.name}~poison", version=16))
    made.nodes = nodes
    return made
