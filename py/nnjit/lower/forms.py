"""Forms: which of several ways a node is lowered in, where the rules know more than one.

A node asks a question (its operator, types, shapes and attributes: alike nodes ask the same one); a `Forms` knows
answers, from the user or from measurements, or takes what the rules expect to be faster. `other` turns that
around at every question, so that one more lowering of a graph has all the other forms.

| node | forms |
|---|---|
| Conv | direct, winograd |
| ScaledDotProductAttention | fused (one kernel), split (three, the scores in memory between them) |
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from nnjit.graph.ir import Node


class Choice(NamedTuple):
    """What a node was lowered as, of which options. rule: what the rules would have taken."""

    question: str
    form: str
    rule: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Forms:
    """convolution: "direct", "winograd" (wherever it is possible) or "auto" (by the rules and the answers).
    answers: question -> form."""

    convolution: str = "auto"
    answers: Mapping[str, str] = field(default_factory=dict)
    other: bool = False

    def choose(self, node: Node, rule: str, options: Sequence[str]) -> Choice:
        """The form for a node whose rules would take `rule`; any of `options` can be lowered."""
        asked = question(node)
        if node.op == "Conv" and self.convolution != "auto":
            known = self.convolution
            return Choice(asked, known if known in options else options[0], rule, ())
        form = self.answers.get(asked, rule)
        if form not in options:
            form = rule
        if self.other:
            form = next((o for o in options if o != form), form)
        return Choice(asked, form, rule, tuple(options))


def question(node: Node) -> str:
    """`Conv-` and a digest of the node's types, shapes and attributes; nothing of its model is in it."""
    values = [
        None if v is None or not v.name else (v.dtype, v.shape, v.const is not None)
        for v in (*node.inputs, *node.outputs)
    ]
    text = repr((node.op, node.version, values, sorted((k, str(v)) for k, v in node.attrs.items())))
    return f"{node.op}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"
