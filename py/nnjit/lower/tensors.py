"""Buffers and where each tensor lives in them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from nnjit.codegen.dtypes import SIZES
from nnjit.graph.const import Const
from nnjit.graph.ir import Value
from nnjit.lower.layout import Layout


@dataclass(eq=False, slots=True)
class Buffer:
    """A region of session memory: `nbytes` long, its address planned later.

    constant: filled at load and never written by a run. source: the constant's data, if it is one of the
    model's (None: steps that run at load write it)."""

    name: str
    nbytes: int
    constant: bool = False
    source: Const | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value's elements are: a layout, in elements, of a buffer."""

    buffer: Buffer
    layout: Layout


class Tensors:
    """Value -> Place. Constants get a buffer when they are first read by a kernel."""

    def __init__(self) -> None:
        self.places: dict[Value, Place] = {}
        self.values: dict[Buffer, list[Value]] = {}
        """Those that were put into a buffer."""
        self._consts: dict[Hashable, Buffer] = {}

    def put(self, value: Value, buffer: Buffer, layout: Layout) -> None:
        self.places[value] = Place(buffer, layout)
        self.values.setdefault(buffer, []).append(value)

    def place(self, value: Value) -> tuple[Buffer, Layout]:
        """Where a value lies: what computed it has said so, a constant gets a buffer at its first reader.

        KeyError for a value that no step has computed yet."""
        found = self.places.get(value)
        if found is None:
            if value.const is None:
                raise KeyError(f"{value.name} is read before it is computed")
            found = Place(self._constant(value), Layout.row_major(value.const.shape))
            self.places[value] = found
        return found.buffer, found.layout

    def _constant(self, value: Value) -> Buffer:
        """One buffer for each distinct constant, however many values (reshapes) show it."""
        const = value.const
        assert const is not None
        key = const.data
        buffer = self._consts.get(key)
        if buffer is None:
            buffer = Buffer(value.name, const.size * SIZES[value.dtype], True, const)
            self._consts[key] = buffer
        return buffer
