"""A loaded model: its signature, its template graph, and `bind`, which makes a Graph of concrete shapes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FeedError, ShapeError
from . import dtypes
from .infer import infer, mark_once
from .ir import Const, Graph, Shape, Value

Dims = tuple[int | str | None, ...]


@dataclass(frozen=True)
class TensorInfo:
    """What the model says of an input or output: symbols of `dims` are strings, open dims None."""

    name: str
    dtype: str  # short name; '' unknown; the container's kind for non-tensors
    kind: str  # 'tensor', 'sequence', 'optional', 'map' or 'sparse_tensor'
    dims: Dims | None  # None: any rank
    optional: bool = False  # an initializer gives its default
    type: Any = None  # the onnx.TypeProto

    def shape_text(self) -> str:
        return (
            "[?]"
            if self.dims is None
            else "[" + ", ".join("?" if d is None else str(d) for d in self.dims) + "]"
        )


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs in the model's order."""

    inputs: Sequence[TensorInfo]
    outputs: Sequence[TensorInfo]

    def input(self, name: str) -> TensorInfo:
        """The input of that name; FeedError with the nearest names when there is none."""
        for info in self.inputs:
            if info.name == name:
                return info
        names = [i.name for i in self.inputs]
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"the inputs are {', '.join(names) or 'none'}"
        raise FeedError(f"the model has no input {name!r}", hint=hint, input=name, expected=names)

    def symbols(self) -> list[str]:
        """The symbolic dims of the inputs, in order of first sight."""
        found = (d for i in self.inputs for d in i.dims or () if isinstance(d, str))
        return list(dict.fromkeys(found))

    def check_shape(self, info: TensorInfo, shape: Shape) -> None:
        """Raises ShapeError when a given shape contradicts the declared rank or a fixed dim."""
        dims = info.dims
        if dims is None or info.kind != "tensor":
            return
        if len(dims) != len(shape):
            why = f"has rank {len(shape)}, expected is rank {len(dims)}"
        else:
            bad = [
                i for i, (d, n) in enumerate(zip(dims, shape, strict=True)) if isinstance(d, int) and d != n
            ]
            if not bad:
                return
            why = f"has {shape[bad[0]]} in dim {bad[0]}, expected is {dims[bad[0]]}"
        raise ShapeError(
            f"input {info.name!r} {why}: expected {info.shape_text()}, got {list(shape)}",
            hint=f"give a tensor of shape {info.shape_text()}",
            input=info.name,
            expected=list(dims),
            got=list(shape),
        )

    def check_feeds(self, feeds: Mapping[str, tuple[str, Shape]]) -> None:
        """Raises FeedError or ShapeError unless {name: (dtype, shape)} feeds the model."""
        for name, (dtype, shape) in feeds.items():
            info = self.input(name)
            if info.kind == "tensor" and info.dtype and dtype != info.dtype:
                raise FeedError(
                    f"input {name!r} is {dtype}, expected is {info.dtype}",
                    hint=f"make it a tensor of {info.dtype}",
                    input=name,
                    expected=info.dtype,
                    got=dtype,
                )
            self.check_shape(info, shape)
        for info in self.inputs:
            if info.name not in feeds and not info.optional and info.kind != "optional":
                raise FeedError(
                    f"no feed for input {info.name!r}",
                    hint=f"give a {info.dtype} tensor of shape {info.shape_text()}",
                    input=info.name,
                    expected=info.shape_text(),
                )


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
        try:
            infer(graph)
        except ShapeError as error:
            conflict = self._conflict(shapes)
            if conflict:
                error.hint = conflict
            raise
        from .passes import PASSES

        for step in PASSES if passes is None else passes:
            graph = step(graph)
        mark_once(graph)
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
                        return f"dim {d!r} is {size} in input {name!r} and {n} in {info.name!r}: they should be equal"
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
