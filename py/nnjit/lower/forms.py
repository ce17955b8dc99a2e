"""Forms: which of several ways a node is lowered in, where the rules know more than one.

A node asks a question (its operator, types, shapes and attributes, and about what: alike nodes ask the same one); a
`Forms` knows answers, from the user or from measurements, or takes what the rules expect to be faster. `other` turns
that around at every question about one matter, so that one more lowering of a graph has all the other forms of it.

| about | node | forms |
|---|---|---|
| algorithm | Conv | direct, winograd |
| algorithm | ScaledDotProductAttention | fused (one kernel), split (three, the scores in memory between them) |
| fusion | what has a costly or long epilogue, or reads what is computed again where it is read | fused, apart |
| order | Conv whose output something else than a convolution reads | channels (last), rows (as ONNX has it) |
| parts | a product on a GPU that would keep it about as busy in one kernel as with its sum in parts | whole, parts |
| threads | a kernel near the time from which sharing pays; asked of its spec by the linker | alone, all |
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from nnjit.graph.ir import Node

ALGORITHM, FUSION, ORDER, PARTS, THREADS = "algorithm", "fusion", "order", "parts", "threads"
LOWERED = (ALGORITHM, FUSION, ORDER, PARTS)
"""Matters that are settled while a graph is lowered."""


class Choice(NamedTuple):
    """What a node was lowered as, of which options. rule: what the rules would have taken."""

    question: str
    form: str
    rule: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Forms:
    """convolution: "direct", "winograd" (wherever it is possible) or "auto" (by the rules and the answers).
    answers: question -> form. other: what to turn around."""

    convolution: str = "auto"
    answers: Mapping[str, str] = field(default_factory=dict)
    other: str = ""

    def choose(
        self, node: Node, rule: str, options: Sequence[str], about: str = ALGORITHM, detail: str = "", backend: str = ""
    ) -> Choice:  # fmt: skip
        """The form for a node whose rules would take `rule`; any of `options` can be lowered. detail: what the answer
        may depend on besides the node. backend: where another one has answers of its own."""
        asked = question(node, about, detail, backend)
        if about == ALGORITHM and node.op == "Conv" and self.convolution != "auto":
            known = self.convolution
            return Choice(asked, known if known in options else options[0], rule, ())
        form = self.answers.get(asked, rule)
        if form not in options:
            form = rule
        if self.other == about:
            form = next((o for o in options if o != form), form)
        return Choice(asked, form, rule, tuple(options))

    def shares(self) -> dict[str, str]:
        """Of kernels whose question about threads was answered: key of the spec -> form."""
        begin = f"{THREADS}-"
        return {q.removeprefix(begin): form for q, form in self.answers.items() if q.startswith(begin)}


def question(node: Node, about: str = ALGORITHM, detail: str = "", backend: str = "") -> str:
    """`Conv-` and a digest of the node's types, shapes and attributes; nothing of its model is in it. backend: put
    before that, so that what one backend has measured is no answer for another."""
    values = [
        None if v is None or not v.name else (v.dtype, v.shape, v.const is not None)
        for v in (*node.inputs, *node.outputs)
    ]
    text = repr((node.op, node.version, values, sorted((k, str(v)) for k, v in node.attrs.items()), detail))
    begin = "-".join(filter(None, (backend, node.op, "" if about == ALGORITHM else about)))
    return f"{begin}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def share_question(key: str) -> str:
    """About the threads of a kernel, by its spec's key."""
    return f"{THREADS}-{key}"
