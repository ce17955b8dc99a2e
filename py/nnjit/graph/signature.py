"""What a model says of its inputs and outputs, and whether feeds agree with it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import FeedError, OptionError, ShapeError
from .const import Shape

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

    def check_symbols(self, dims: Mapping[str, int]) -> None:
        """Raises OptionError for a size given to a symbol (`freeDimensionOverrides`) that no input has."""
        symbols = self.symbols()
        unknown = next((name for name in dims if name not in symbols), None)
        if unknown is None:
            return
        near = difflib.get_close_matches(unknown, symbols, 1)
        guess = f"did you mean {near[0]!r}? " if near else ""
        listed = f"this model has {', '.join(symbols)}" if symbols else "this model names none"
        raise OptionError(
            f"freeDimensionOverrides: no input of the model has an open dimension {unknown!r}",
            hint=f"{guess}{listed}",
            option="freeDimensionOverrides",
            dimension=unknown,
            expected=symbols,
        )

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
