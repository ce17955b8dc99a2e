"""What rewriters of old operator versions are written with: Draft, a node being rewritten, and the registry.

A rewriter is registered for an operator and the opset `until` which nodes need it; all that apply to a
node run in ascending order. It edits a Draft in place, and may put nodes before or after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

import numpy as np

from ..errors import UnsupportedOpset
from ..graph import schemas
from ..graph.dtypes import Array
from ..graph.ir import Node, Value


class Draft:
    """A node being rewritten: edit op, inputs, outputs and attrs; add nodes with `before` and `after`."""

    def __init__(
        self,
        op: str,
        domain: str,
        version: int,
        inputs: list[Value | None],
        outputs: list[Value],
        attrs: dict[str, Any],
        name: str = "",
        captures: dict[str, Value] | None = None,
        fresh: Callable[[str], str] | None = None,
    ) -> None:
        self.op, self.domain, self.version, self.name = op, domain, version, name
        self.inputs, self.outputs, self.attrs = inputs, outputs, attrs
        self.captures = captures or {}
        self.fresh = fresh or (lambda stem: stem)
        self._before: list[Node] = []
        self._after: list[Node] = []

    def x(self, index: int = 0) -> Value:
        """Input `index`, which must be there."""
        value = self.inputs[index]
        assert value is not None
        return value

    def input(self, index: int) -> Value | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def set_input(self, index: int, value: Value | None) -> None:
        self.inputs += [None] * (index + 1 - len(self.inputs))
        self.inputs[index] = value

    def const(self, data: Any, dtype: Any = np.int64) -> Value:
        array: Array = np.asarray(data, dtype)
        return Value.constant(self.fresh(f"{self.name or self.op}.const"), array)

    def value(self, stem: str) -> Value:
        return Value(self.fresh(f"{self.name or self.op}.{stem}"))

    def before(self, op: str, inputs: Sequence[Value | None], **attrs: Any) -> Value:
        """A node computed ahead of this one; its output."""
        out = self.value(op.lower())
        self._before.append(Node(op, inputs, [out], attrs, name=self.name, version=schemas.NEWEST))
        return out

    def after(self, op: str, inputs: Sequence[Value | None], output: Value, **attrs: Any) -> None:
        """A node that makes `output` (one of the old outputs) from what this node now makes."""
        self._after.append(Node(op, inputs, [output], attrs, name=self.name, version=schemas.NEWEST))

    def divert(self, index: int = 0) -> tuple[Value, Value]:
        """(new, old): this node makes `new` from now on; an `after` node has to make `old`."""
        old, new = self.outputs[index], self.value("inner")
        self.outputs[index] = new
        return new, old

    def used(self, index: int) -> bool:
        """Output `index` exists. (Whether somebody reads it is not known yet.)"""
        return index < len(self.outputs) and bool(self.outputs[index].name)

    def refuse(self, why: str) -> NoReturn:
        raise UnsupportedOpset(
            f"node {self.name!r}: {self.op} of opset {self.version}: {why}",
            hint="convert the model to a newer opset with onnx.version_converter, or export it again",
            node=self.name,
            op=self.op,
            domain=self.domain or "ai.onnx",
            version=self.version,
        )

    def finish(self) -> list[Node]:
        while self.inputs and self.inputs[-1] is None:
            self.inputs.pop()
        version = self.version if self.domain else schemas.NEWEST
        node = Node(
            self.op,
            self.inputs,
            self.outputs,
            self.attrs,
            name=self.name,
            domain=self.domain,
            version=version,
            captures=self.captures,
        )
        return [*self._before, node, *self._after]


Rewriter: TypeAlias = "Callable[[Draft], None]"
REWRITERS: dict[str, list[tuple[int, Rewriter]]] = {}


def upgrades(*ops: str, until: int) -> Callable[[Rewriter], Rewriter]:
    """Registers a rewriter for nodes of `ops` (domain ai.onnx) whose opset is below `until`."""

    def register(rewriter: Rewriter) -> Rewriter:
        for op in ops:
            rules = REWRITERS.setdefault(op, [])
            rules.append((until, rewriter))
            rules.sort(key=lambda rule: rule[0])
        return rewriter

    return register
