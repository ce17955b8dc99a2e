"""A loaded model: its signature, its template graph, and `bind`, which makes a Graph of concrete shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ShapeError
from . import dtypes
from .const import Const, Shape
from .infer import infer, mark_once
from .ir import Graph, Value
from .passes import PASSES
from .signature import Signature, TensorInfo
from .types import check_types


class Model:
    """An imported model. `files` and `file_names` are what ByteRange.file counts: 0 is the model itself."""

    def __init__(
        self,
        graph: Graph,
        signature: Signature,
        defaults: dict[str, Value],
        files: Sequence[Any],
        file_names: Sequence[str],
        metadata: dict[str, Any],
    ) -> None:
        self.signature = signature
        self.files, self.file_names, self.metadata = files, file_names, metadata
        self._defaults = defaults  # inputs that have an initializer
        self._graph = graph
        _name_all(graph)
        # Before anything is folded: what placement() accounts for.
        self.nodes: list[tuple[str, str]] = [(node.name, node.op) for node in graph.nodes]
        # What does not depend on shapes is folded here, once for all binds. A default may be
        # overridden later, so that nothing may be folded through it yet.
        held = {v: (v.const, v.shape) for v in defaults.values()}
        for value in held:
            value.const = value.shape = None
        declared = {v: v.shape for v in graph.inputs}
        for value in graph.inputs:
            value.shape = None
        infer(graph)
        check_types(graph)
        for value, (const, shape) in held.items():
            value.const, value.shape = const, shape
        for value, shape in declared.items():
            value.shape = shape

    @property
    def graph(self) -> Graph:
        """The template that bind() copies, its shapes still open. To be read, not changed."""
        return self._graph

    def bind(
        self,
        shapes: Mapping[str, Sequence[int]] | None = None,
        dims: Mapping[str, int] | None = None,
        values: Mapping[str, Any] | None = None,
        passes: Sequence[Any] | None = None,
    ) -> Graph:
        """The graph for concrete input shapes: shapes inferred, constants folded, passes applied.

        `shapes` by input name, `dims` by symbol; `values` are feeds to be treated as constants (for
        inputs that determine shapes). Raises ShapeError naming the input, what is expected and what came.
        """
        graph = self.open(shapes, dims, values)
        try:
            infer(graph)
        except ShapeError as error:
            conflict = self._conflict(shapes or {})
            if conflict:
                error.hint = conflict
            raise
        mark_once(graph)

        for step in PASSES if passes is None else passes:
            graph = step(graph)
        mark_once(graph)
        return graph

    def open(
        self,
        shapes: Mapping[str, Sequence[int]] | None = None,
        dims: Mapping[str, int] | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> Graph:
        """A copy of the template whose inputs have shapes (or values, as bind takes them) and nothing else has yet."""
        shapes, dims, values = dict(shapes or {}), dict(dims or {}), dict(values or {})
        for name in (*shapes, *values):
            self.signature.input(name)
        graph = self._graph.copy()
        by_name = {v.name: v for v in graph.values() if v.name in self._defaults and v.const is not None}
        inputs = {v.name: v for v in graph.inputs}
        graph.inputs = []
        for info in self.signature.inputs:
            value = inputs.get(info.name)
            if value is None:
                if info.name not in shapes and info.name not in values:
                    continue  # its default stays
                value = by_name.get(info.name) or Value(info.name, info.dtype)
                value.const = None
            if info.name in values:
                array = np.asarray(values[info.name])
                self.signature.check_shape(info, array.shape)
                value.const = Const(info.dtype or dtypes.from_numpy(array.dtype), array.shape, array)
                value.shape = array.shape
                continue
            graph.inputs.append(value)
            if info.kind == "tensor":
                value.shape = self._input_shape(info, shapes, dims)
        return graph

    def _input_shape(
        self, info: TensorInfo, shapes: Mapping[str, Sequence[int]], dims: Mapping[str, int]
    ) -> Shape:
        if info.name in shapes:
            shape = tuple(int(d) for d in shapes[info.name])
            self.signature.check_shape(info, shape)
            if any(d < 0 for d in shape):
                raise ShapeError(
                    f"input {info.name!r}: shape {list(shape)} has a negative dim",
                    hint="dims are 0 or more",
                    input=info.name,
                    got=list(shape),
                )
            return shape
        if info.dims is None:
            raise self._open(info, "its rank")
        concrete: list[int] = []
        for i, d in enumerate(info.dims):
            if isinstance(d, str):
                if d not in dims:
                    raise self._open(info, f"dim {d!r}", d)
                concrete.append(int(dims[d]))
            elif d is None:
                raise self._open(info, f"dim {i}")
            else:
                concrete.append(d)
        return tuple(concrete)

    def _open(self, info: TensorInfo, what: str, symbol: str | None = None) -> ShapeError:
        return ShapeError(
            f"input {info.name!r} of shape {info.shape_text()}: {what} has no value",
            hint=f"give a shape for {info.name!r}" + (f", or a value for {symbol!r}" if symbol else ""),
            input=info.name,
            expected=None if info.dims is None else list(info.dims),
            symbol=symbol,
        )

    def _conflict(self, shapes: Mapping[str, Sequence[int]]) -> str:
        """A sentence on a symbol that the given shapes give two values, '' when there is none.

        Exporters name dims carelessly, so this is no error by itself.
        """
        seen: dict[str, tuple[str, int]] = {}
        for info in self.signature.inputs:
            for d, n in zip(info.dims or (), shapes.get(info.name, ()), strict=False):
                if isinstance(d, str):
                    name, size = seen.setdefault(d, (info.name, n))
                    if size != n:
                        return f"dim {d!r} is {size} in {name!r} and {n} in {info.name!r}: make them equal"
        return ""


def _name_all(graph: Graph) -> None:
    """Every node gets a name of its own: ONNX lets names be empty or the same."""
    taken: set[str] = set()
    for node in graph.nodes:
        stem = node.name or next((v.name for v in node.outputs if v.name), node.op)
        name, count = stem, 1
        while name in taken:
            count += 1
            name = f"{stem}_{count}"
        node.name = name
        taken.add(name)
