"""Plans with room: one graph of fixed shapes that serves every length up to a capacity.

Takes a model, the shapes of a request and how its dims grow; gives a Room: the graph, with one more input for each
length that moves by itself, and what of its inputs and outputs belongs to given lengths. docs/room.md tells how.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np

from ...errors import NnjitError
from ..dtypes import Array
from ..infer import mark_once
from ..ir import Graph
from ..model import Model
from ..passes import PASSES
from . import (  # noqa: F401 - for their rules
    attention,
    elementwise,
    more,
    moves,
    norms,
    recurrent,
    scaling,
    sums,
    windows,
)
from .extent import Work
from .lengths import NAMES, Length, NoRoom, solved
from .moved import begun, moved, stepped
from .walk import Walk

__all__ = ["Growing", "NoRoom", "Room", "Shapes", "begun", "make_room", "moved", "numbers_of", "stepped"]

Shapes = Mapping[str, tuple[int, ...]]
Growing = Mapping[str, Mapping[int, Length]]
"""By input, axis -> its length. Each number of a request is alone in some of them: a * n + b."""
Numbers = tuple[int, ...]


@dataclass(frozen=True)
class Room:
    """`graph` serves requests of numbers n (one for each length that moves by itself) from least to most, where they
    are worth it. Inputs are fed with their growing axes filled up with zeros to the graph's dims, and `lengths` with
    the numbers (int64, scalars); of outputs the first places of an axis count, as many as its length says."""

    graph: Graph
    lengths: tuple[str, ...]
    least: Numbers
    most: Numbers
    inputs: Mapping[str, Sequence[tuple[int, Length]]]
    outputs: Mapping[str, Sequence[tuple[int, Length]]]
    dims: Shapes
    """Of the inputs, at capacity."""
    work: Work
    capacity: Numbers
    run: Work
    """What a run does, by n."""
    times: float = inf
    more: float = inf
    """It is used where a run does at most so many times, or so much more than, what an exact graph would."""

    def pays(self, n: Numbers) -> bool:
        """Whether a request is served by this one rather than by a graph of its own, or another."""
        exact = self.work.exact(n)
        return self.run.exact(n) <= max(exact * self.times, exact + self.more)

    def n_of(self, shapes: Shapes) -> Numbers | None:
        """The n of inputs of these shapes; None where they are not for this room."""
        if shapes.keys() != self.dims.keys():
            return None
        forms: list[Length] = []
        found: list[int] = []
        for name, shape in shapes.items():
            growing = dict(self.inputs.get(name, ()))
            if len(shape) != len(self.dims[name]):
                return None
            for axis, (d, room) in enumerate(zip(shape, self.dims[name], strict=True)):
                forms.append(growing.get(axis, Length(room)))
                found.append(d)
        n = solved(forms, found, len(self.lengths))
        if n is None:
            return None
        inside = all(a <= d <= b for a, d, b in zip(self.least, n, self.most, strict=True))
        return n if inside and self.pays(n) else None

    def pad(self, feeds: Mapping[str, Any], n: Numbers) -> dict[str, Any]:
        """Feeds as the graph takes them."""
        found: dict[str, Any] = {name: np.array(d, np.int64) for name, d in zip(self.lengths, n, strict=True)}
        for name, value in feeds.items():
            found[name] = value
            if name in self.inputs:
                room = np.zeros(self.dims[name], value.dtype)
                room[tuple(slice(d) for d in value.shape)] = value
                found[name] = room
        return found

    def cut(self, name: str, value: Array, n: Numbers) -> Array:
        """What an output is for n."""
        where = [slice(None)] * value.ndim
        for axis, length in self.outputs.get(name, ()):
            where[axis] = slice(length.at(n))
        return value[tuple(where)]

    def through(self, passes: Sequence[Any]) -> Room:
        """This room with its graph changed by passes."""
        graph = self.graph
        for step in passes:
            graph = step(graph)
        return replace(self, graph=mark_once(graph))

    def text(self) -> str:
        """`ids:mxn;mask:mxn+1;n>=9;n<=63;m<=4`: the requests it is for."""
        parts = []
        for name, shape in sorted(self.dims.items()):
            growing = dict(self.inputs.get(name, ()))
            parts.append(f"{name}:{'x'.join(str(growing.get(i, d)) for i, d in enumerate(shape))}")
        for name, least, most in zip(NAMES, self.least, self.most, strict=False):
            parts += [f"{name}>={least}"] if least > 1 else []
            parts.append(f"{name}<={most}")
        parts += [f"more<={self.more:.3g}"] if self.more < inf else []
        return ";".join(parts)

    def to_js(self) -> dict[str, Any]:
        """What the page pads feeds and cuts outputs by."""

        def works(work: Work) -> list[Any]:
            return [[each, [d.to_js() for d in dims]] for dims, each in work.terms.items()]

        def forms(of: Mapping[str, Sequence[tuple[int, Length]]]) -> dict[str, Any]:
            return {name: [[axis, length.to_js()] for axis, length in axes] for name, axes in of.items()}

        lengths = zip(self.lengths, self.least, self.most, strict=True)
        return {
            "lengths": [{"name": name, "least": least, "most": most} for name, least, most in lengths],
            "inputs": forms(self.inputs),
            "outputs": forms(self.outputs),
            "exact": works(self.work),
            "run": works(self.run),
            "times": None if self.times == inf else self.times,
            "more": None if self.more == inf else self.more,
        }


def make_room(
    model: Model,
    shapes: Shapes,
    growing: Growing,
    capacity: Sequence[int],
    dims: Mapping[str, int] | None = None,
    values: Mapping[str, Any] | None = None,
    passes: Sequence[Any] | None = None,
    reach: bool = True,
) -> Room:
    """A room for the inputs of `shapes` whose dims in `growing` may be shorter, and longer up to about `capacity`.
    reach: its kernels leave out what nobody looks at.

    Raises NoRoom where a node can't be masked, and what Model.bind raises."""
    wanted = numbers_of(shapes, growing)
    try:
        walk = Walk(model.open(shapes, dims, values), growing, capacity, wanted)
        graph = walk.run()
        mark_once(graph)
        outputs = [walk.extent(v).axes for v in walk.old.outputs]
        graph.extends = walk.extended()
        own = set(walk.lengths)
        at_capacity = {**shapes, **{v.name: v.shape or () for v in graph.inputs if v not in own}}
    except NnjitError as error:  # shapes that fit each other at n and not at the capacity
        raise NoRoom(error.message) from error
    room = Room(
        graph,
        tuple(v.name for v in walk.lengths),
        tuple(walk.least),
        tuple(walk.most),
        {name: sorted(axes.items()) for name, axes in growing.items()},
        {
            name: [(axis, g.length) for axis, g in sorted(axes.items())]
            for name, axes in zip(graph.output_names, outputs, strict=True)
            if axes
        },
        at_capacity,
        walk.work,
        tuple(capacity),
        walk.work.run(capacity) if reach else Work({(): walk.work.full(capacity)}),
    )
    return room.through(PASSES if passes is None else passes)


def numbers_of(shapes: Shapes, growing: Growing) -> Numbers:
    """The numbers of a request whose dims grow as said."""
    places = [(length, shapes[name][axis]) for name, axes in growing.items() for axis, length in axes.items()]
    count = 1 + max(v.root for length, _ in places for v, _ in length.terms)
    n = solved([length for length, _ in places], [d for _, d in places], count)
    if n is None:
        raise NoRoom("its dims do not fit each other")
    return n
