"""Plans with room: one graph of fixed shapes that serves every length n up to a capacity.

Takes a model, the shapes of a request and which of its dims grow together; gives a Room: the graph, with one more
input, n, and what of its inputs and outputs belongs to a given n. docs/room.md tells how it works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import NnjitError
from ..dtypes import Array
from ..infer import mark_once
from ..ir import Graph
from ..model import Model
from ..passes import PASSES
from . import attention, elementwise, more, moves, sums, windows  # noqa: F401 - for their rules
from .extent import Length, NoRoom, Work
from .walk import Walk

__all__ = ["Growing", "NoRoom", "Room", "Shapes", "begun", "make_room", "moved"]

Shapes = Mapping[str, tuple[int, ...]]
Growing = Mapping[str, Mapping[int, int]]
"""By input, axis -> b where the axis is n + b long."""


@dataclass(frozen=True)
class Room:
    """`graph` serves n from least to most. Inputs are fed with their growing axes filled up with zeros to the graph's
    dims, and `length` with n (int64, a scalar); of outputs the first factor * n + offset places of an axis count."""

    graph: Graph
    length: str
    least: int
    most: int
    inputs: Mapping[str, Sequence[tuple[int, int]]]
    """By input: (axis, offset)."""
    outputs: Mapping[str, Sequence[tuple[int, int, int]]]
    """By output: (axis, factor, offset)."""
    dims: Shapes
    """Of the inputs, at capacity."""
    work: Work
    capacity: int

    def n_of(self, shapes: Shapes) -> int | None:
        """The n of inputs of these shapes; None where they are not for this room."""
        found: set[int] = set()
        if shapes.keys() != self.dims.keys():
            return None
        for name, shape in shapes.items():
            growing = dict(self.inputs.get(name, ()))
            if len(shape) != len(self.dims[name]):
                return None
            for axis, (d, room) in enumerate(zip(shape, self.dims[name], strict=True)):
                if axis in growing:
                    found.add(d - growing[axis])
                elif d != room:
                    return None
        n = found.pop() if len(found) == 1 else None
        return n if n is not None and self.least <= n <= self.most else None

    def pad(self, feeds: Mapping[str, Any], n: int) -> dict[str, Any]:
        """Feeds as the graph takes them."""
        found: dict[str, Any] = {self.length: np.array(n, np.int64)}
        for name, value in feeds.items():
            found[name] = value
            if name in self.inputs:
                room = np.zeros(self.dims[name], value.dtype)
                room[tuple(slice(d) for d in value.shape)] = value
                found[name] = room
        return found

    def cut(self, name: str, value: Array, n: int) -> Array:
        """What an output is for n."""
        where = [slice(None)] * value.ndim
        for axis, factor, offset in self.outputs.get(name, ()):
            where[axis] = slice(factor * n + offset)
        return value[tuple(where)]

    def through(self, passes: Sequence[Any]) -> Room:
        """This room with its graph changed by passes."""
        graph = self.graph
        for step in passes:
            graph = step(graph)
        return replace(self, graph=mark_once(graph))

    def text(self) -> str:
        """`ids:1xn;mask:1xn+1;n>=9;n<=63`: the requests it is for."""
        parts = []
        for name, shape in sorted(self.dims.items()):
            offsets = dict(self.inputs.get(name, ()))
            dims = [str(Length(1, offsets[i])) if i in offsets else str(d) for i, d in enumerate(shape)]
            parts.append(f"{name}:{'x'.join(dims)}")
        least = [f"n>={self.least}"] if self.least > 1 else []
        return ";".join([*parts, *least, f"n<={self.most}"])

    def to_js(self) -> dict[str, Any]:
        """What the page pads feeds and cuts outputs by."""
        return {
            "least": self.least,
            "most": self.most,
            "length": self.length,
            "inputs": {name: [list(a) for a in axes] for name, axes in self.inputs.items()},
            "outputs": {name: [list(a) for a in axes] for name, axes in self.outputs.items()},
        }


def moved(old: Shapes, new: Shapes) -> dict[str, dict[int, int]] | None:
    """The dims that differ between two requests, if all by the same: {input: {axis: offset}}, dims = n + offset with n
    the first of them in `new`. None where something else differs too, or nothing does."""
    if old.keys() != new.keys() or any(len(old[name]) != len(new[name]) for name in new):
        return None
    changed = _changed(old, new)
    if len({by for *_, by in changed}) != 1 or any(d - by < 0 for *_, d, by in changed):
        return None
    return _growing(changed)


def begun(old: Shapes, new: Shapes) -> dict[str, dict[int, int]] | None:
    """The dims that rose where one did so from 0: a decoder's past after its first run. The next request will show
    whether they move together; until then it is a guess, of which only the time of a compile depends."""
    if old.keys() != new.keys() or any(len(old[name]) != len(new[name]) for name in new):
        return None
    rose = [change for change in _changed(old, new) if change[3] > 0]
    return _growing(rose) if any(d == by for *_, d, by in rose) else None


def _changed(old: Shapes, new: Shapes) -> list[tuple[str, int, int, int]]:
    """(input, axis, dim, by how much it rose) of the dims that differ."""
    return [
        (name, axis, new[name][axis], new[name][axis] - d)
        for name in new
        for axis, d in enumerate(old[name])
        if new[name][axis] != d
    ]


def _growing(changed: Sequence[tuple[str, int, int, int]]) -> dict[str, dict[int, int]] | None:
    if not changed or any(d < 1 for _, _, d, _ in changed):
        return None
    found: dict[str, dict[int, int]] = {name: {} for name, *_ in changed}
    for name, axis, d, _ in changed:
        found[name][axis] = d - changed[0][2]
    return found


def make_room(
    model: Model,
    shapes: Shapes,
    growing: Growing,
    capacity: int,
    dims: Mapping[str, int] | None = None,
    values: Mapping[str, Any] | None = None,
    passes: Sequence[Any] | None = None,
) -> Room:
    """A room for the inputs of `shapes` whose dims in `growing` may be shorter, and longer up to about `capacity`.

    Raises NoRoom where a node can't be masked, and what Model.bind raises."""
    name, axes = next(iter(growing.items()))
    axis, offset = next(iter(axes.items()))
    try:
        walk = Walk(model.open(shapes, dims, values), growing, capacity, shapes[name][axis] - offset)
        graph = walk.run()
        mark_once(graph)
        outputs = [walk.extent(v).axes for v in walk.old.outputs]
        graph.extends = walk.extended()
        at_capacity = {**shapes, **{v.name: v.shape or () for v in graph.inputs if v is not walk.length}}
    except NnjitError as error:  # shapes that fit each other at n and not at the capacity
        raise NoRoom(error.message) from error
    room = Room(
        graph,
        walk.length.name,
        walk.least,
        walk.most,
        {name: sorted(axes.items()) for name, axes in growing.items()},
        {
            name: [(axis, g.length.a, g.length.b) for axis, g in sorted(axes.items())]
            for name, axes in zip(graph.output_names, outputs, strict=True)
            if axes
        },
        at_capacity,
        walk.work,
        capacity,
    )
    return room.through(PASSES if passes is None else passes)
