"""Canonical passes, Graph → Graph, each with its before and after in the docstring.

They run after shape inference and keep a graph's meaning; `PASSES` is the pipeline, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ..infer import infer
from ..ir import Graph
from .activations import recognise_activations
from .attention import recognise_attention
from .canonical import canonical_operators
from .cleanup import common_subexpressions, dead_code, no_ops, note_readers
from .convolution import fold_into_convolutions
from .layout import merge_layout
from .norms import recognise_norms
from .quantised import fold_quantised
from .selection import simplify_selections
from .sinking import sink_reshapes

Pass: TypeAlias = "Callable[[Graph], Graph]"


def fold_constants(graph: Graph) -> Graph:
    """y = Add(x, Neg(2)) → y = Add(x, -2); once more, for what earlier passes made constant"""
    return infer(graph)


# What tidies a graph and makes no larger operators of small ones.
TIDY: list[Pass] = [
    dead_code,
    no_ops,
    common_subexpressions,
    canonical_operators,
    simplify_selections,
    fold_constants,
    merge_layout,
    no_ops,
]
PASSES: list[Pass] = [
    note_readers,
    *TIDY,
    fold_quantised,
    recognise_norms,
    recognise_attention,
    recognise_activations,
    fold_into_convolutions,
    sink_reshapes,
    merge_layout,
    common_subexpressions,
    dead_code,
]
