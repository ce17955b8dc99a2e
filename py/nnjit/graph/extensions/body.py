"""What an operator's expansion is written with: the node's inputs and attributes by name, and new nodes.

`Body(node, fresh, settle)`: `settle` infers and folds a node just made, so that an expansion reads the shapes of
what it has built so far; `nodes` are those that stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from ...errors import UnsupportedOperator
from .. import schemas
from ..const import Const, Shape
from ..dtypes import NUMPY, TO_ONNX, from_numpy
from ..ir import Node, Value
from ..shape_rules import fail
from .declare import DEFAULTS


class Body:
    """Takes a node apart. Every input is there and has a known shape and type."""

    def __init__(
        self, node: Node, fresh: Callable[[str], str], settle: Callable[[list[Node]], list[Node]]
    ) -> None:
        self.node, self.nodes = node, list[Node]()
        self._fresh, self._settle, self._made = fresh, settle, 0
        schema = schemas.find(node.op, node.domain, node.version)
        self._names = [formal.name for formal in schema.inputs]  # type: ignore[union-attr]
        self._defaults = DEFAULTS.get((node.domain, node.op), {})

    # -- what the node has

    def maybe(self, name: str) -> Value | None:
        """The input of that name, None where it is absent."""
        return self.node.input(self._names.index(name))

    def given(self, name: str) -> Value:
        """An input that has to be there."""
        value = self.maybe(name)
        if value is None:
            self.fail(f"its input {name!r} is missing")
        return value

    def rest(self, name: str) -> list[Value]:
        """The inputs from that name on: of one that repeats."""
        return [v for v in self.node.inputs[self._names.index(name) :] if v is not None]

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute, or its default as declared, or `default`."""
        found = self.node.attrs.get(name)
        return self._defaults.get(name, default) if found is None else found

    def wants(self, index: int) -> bool:
        """Whether the node has output `index`."""
        return index < len(self.node.outputs) and bool(self.node.outputs[index].name)

    def fail(self, why: str, expected: Any = None, got: Any = None) -> NoReturn:
        """Its operands or attributes do not fit together."""
        fail(self.node, why, expected, got)

    def refuse(self, what: str, hint: str) -> NoReturn:
        """The operator is known, but not in this form."""
        node = self.node
        name = f"{node.domain}.{node.op}" if node.domain else node.op
        raise UnsupportedOperator(
            f"node {node.name!r}: {name} with {what} is not supported",
            hint=hint, node=node.name, op=node.op, domain=node.domain or "ai.onnx",
        )  # fmt: skip

    # -- what takes its place

    def __call__(self, op: str, *inputs: Value | None, domain: str = "", **attrs: Any) -> Value:
        """The output of a new node."""
        return self.many(op, *inputs, count=1, domain=domain, **attrs)[0]

    def many(self, op: str, *inputs: Value | None, count: int, domain: str = "", **attrs: Any) -> list[Value]:
        """The `count` outputs of a new node."""
        of = self.node
        outputs = [Value(self._fresh(of.output.name or of.name)) for _ in range(count)]
        version = schemas.NEWEST_OF.get(domain, 1)
        name = f"{of.name}/{op}_{self._made}"
        self._made += 1
        node = Node(op, inputs, outputs, attrs, name=name, domain=domain, version=version)
        reader = Node("Identity", outputs, [])  # an operator that is expanded in turn has its readers told
        self.nodes += self._settle([node])
        found = [v for v in reader.inputs if v is not None]
        reader.detach()
        return found

    def const(self, data: Any, dtype: str = "i64") -> Value:
        """A constant of the type."""
        array = np.asarray(data, NUMPY[dtype]) if dtype else np.asarray(data)
        return Value.constant(self._fresh("const"), array, dtype or from_numpy(array.dtype))

    def value(self, const: Const) -> Value:
        """A new value that is this constant."""
        return Value(self._fresh("const"), const.dtype, const.shape, const)

    def shape(self, x: Value) -> Shape:
        """The shape of an operand."""
        if x.shape is None:
            self.fail(f"the shape of {x.name!r} is not known")
        return x.shape

    def dims(self, x: Value, *ranks: int) -> Shape:
        """The shape of an operand that has one of these ranks."""
        shape = self.shape(x)
        if len(shape) not in ranks:
            self.fail(f"{x.name!r} has {len(shape)} axes", " or ".join(map(str, ranks)), list(shape))
        return shape

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """x under another shape, every dim given."""
        if self.shape(x) == tuple(shape):
            return x
        attrs: dict[str, Any] = {"allowzero": 1} if 0 in shape else {}
        return self("Reshape", x, self.const(list(shape)), **attrs)

    def transpose(self, x: Value, *perm: int) -> Value:
        return self("Transpose", x, perm=list(perm))

    def slice(self, x: Value, axis: int, start: int, end: int) -> Value:
        """x[start:end] along an axis."""
        if start == 0 and end >= self.shape(x)[axis]:
            return x
        return self("Slice", x, self.const([start]), self.const([end]), self.const([axis]))

    def split(self, x: Value, axis: int, sizes: Sequence[int]) -> list[Value]:
        """x cut along an axis."""
        return self.many("Split", x, self.const(list(sizes)), count=len(sizes), axis=axis)

    def cast(self, x: Value, dtype: str) -> Value:
        """x in another type."""
        return x if x.dtype == dtype else self("Cast", x, to=TO_ONNX[dtype])
