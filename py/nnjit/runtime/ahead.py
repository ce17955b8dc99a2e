"""When the page has a plan made before a run needs it, beside other runs: numbers for web/api/ahead.js, and from the
shapes of a decoder's first request those of the second."""

from __future__ import annotations

from ..graph.room import Shapes
from ..graph.signature import Signature

RISES = 3
"""Steps of one size among the latest lengths, from which on they count as a stream that goes on."""
RECENT = 32
"""Lengths that are remembered: several streams may take turns."""
MARGIN = 4.0
"""The plan for the next capacity is begun when what is left of this one lasts so many times as long as making a plan
took: Python is slower beside the engine's threads than alone ..."""
SHARE = 0.75
"""... or when so much of the capacity is used."""
AGAIN = 8
"""Runs of one shape in a row, after which it gets a plan of its own, without room."""

AHEAD = {"rises": RISES, "recent": RECENT, "margin": MARGIN, "share": SHARE, "again": AGAIN}


def foreseen(signature: Signature, shapes: Shapes) -> dict[str, tuple[int, ...]] | None:
    """The request that follows a decoder's first one, as far as the names of its dims tell: a dim that is 0 (past) gets
    the length of what was fed, that (sequence) becomes 1, and a dim named after the past, or `total`, their sum. None
    where they do not tell. A wrong guess costs a compile beside the run."""
    named = [
        (name, i, symbol, shapes[name][i])
        for info in signature.inputs
        if (name := info.name) in shapes and info.dims is not None and len(info.dims) == len(shapes[name])
        for i, symbol in enumerate(info.dims)
        if isinstance(symbol, str)
    ]
    past = {symbol for _, _, symbol, d in named if d == 0}
    fixed = {symbol for name, _, symbol, d in named if d and 0 in shapes[name]}
    if len(past) != 1 or any(d == 0 and symbol not in past for _, _, symbol, d in named):
        return None
    moving = [place for place in named if place[2] not in past | fixed]
    lengths = {d for *_, d in moving}
    totals = {symbol for _, _, symbol, _ in moving if "total" in symbol or next(iter(past)) in symbol}
    if len(lengths) != 1 or not {symbol for _, _, symbol, _ in moving} - totals:
        return None
    fed = lengths.pop()
    found = {name: list(shape) for name, shape in shapes.items()}
    for name, i, symbol, _ in named:
        if symbol not in fixed:
            found[name][i] = fed if symbol in past else fed + 1 if symbol in totals else 1
    if any(0 in shape for shape in found.values()):
        return None
    return {name: tuple(shape) for name, shape in found.items()}
