"""What Winograd's method works on at a time: tiles along each dimension, bands of them whose transforms stay in cache,
and the matrices of a band in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as combinations
from math import prod

from nnjit.codegen.expr import Atom, Expr, Index, local
from nnjit.codegen.spec import Stage
from nnjit.lower.layout import Layout
from nnjit.lower.ops.cooktoom import Matrices, Matrix, Part, matrices, parts, product

WHOLE, BAND, MIN_TILES = 8 << 20, 2 << 20, 36
"""Bytes of transforms that are computed whole, bytes of a band of larger ones, and tiles that a band has at least
(rows of its matrix products)."""
PAGE = 1024
OFF_PAGE = 32
"""Elements of f32 in 4 KiB, and in two cache lines."""


@dataclass(frozen=True)
class Tiling:
    """One spatial dimension: tiles of m outputs under a window of r taps over `extent` inputs, for each of `phases`
    phases with `out` outputs each; windows lie `step` inputs apart."""

    extent: int
    out: int
    pad: int
    m: int
    r: int
    phases: int = 1
    step: int = 1

    @property
    def tiles(self) -> int:
        return -(-self.out // self.m)

    def place(self, name: str, first: int, at: int) -> Index:
        """Output `at` of a tile; the loop over tiles begins at tile `first`."""
        terms: dict[Atom, int] = {f"t{name}": self.m * self.phases}
        return Index(
            (first * self.m + at) * self.phases, terms | ({f"p{name}": 1} if self.phases > 1 else {})
        )

    def source(self, name: str, first: int, at: int) -> Index:
        """Input `at` of a tile. Where windows lie apart there are no phases."""
        if self.step == 1:
            return self.place(name, first, at) + -self.pad
        apart = self.m * self.step
        return Index(first * apart + at - self.pad, {f"t{name}": apart})

    def begin(self, first: int) -> int:
        """The first input that tile `first` reads."""
        return first * self.m * self.step * self.phases - self.pad

    def end(self, first: int, count: int) -> int:
        """The place after the last input that tiles first, first + 1 ... read."""
        return ((first + count - 1) * self.m * self.step + self.reach) * self.phases - self.pad

    @property
    def reach(self) -> int:
        """Inputs of a tile, and frequencies along the dimension."""
        return self.step * (self.m - 1) + self.r

    @property
    def matrices(self) -> Matrices:
        return matrices(self.m, self.r, self.step)

    @property
    def parts(self) -> tuple[Part, ...]:
        return parts(self.m, self.r, self.step)


@dataclass(frozen=True)
class Band:
    """What is computed at a time: images b, b + 1 ... and rows of tiles along the first dimension."""

    image: int
    images: int
    first: int
    rows: int


def bands(batch: int, dims: Sequence[Tiling], ins: int, outs: int) -> list[Band]:
    """All at once if the transforms are small; else parts whose transforms stay in cache between the steps."""
    across = prod(d.tiles for d in dims[1:]) * prod(d.phases for d in dims)
    row = 4 * prod(d.reach for d in dims) * across * (ins + outs)
    rows = dims[0].tiles
    if batch * rows * row <= WHOLE:
        return [Band(0, batch, 0, rows)]
    size = max(1, BAND // row, -(-MIN_TILES // across))
    parts = -(-rows // size)
    size = -(-rows // parts)
    return [
        Band(image, 1, first, min(size, rows - first))
        for image in range(batch)
        for first in range(0, rows, size)
    ]


def inside(band: Band, d: Tiling) -> bool:
    """Whether a band ends before the border of the input and the last outputs."""
    return (band.first + band.rows) * d.m <= d.out and d.end(band.first, band.rows) <= d.extent


@dataclass(frozen=True)
class Share:
    """Frequencies with one batch of products: a part of each dimension. Dimensions whose frequencies have equal weights
    are more rows of one product."""

    parts: tuple[Part, ...]

    @property
    def kept(self) -> tuple[range, ...]:
        """Of each dimension the frequencies whose weights are kept."""
        return tuple(range(p.first, p.first + (1 if p.alike else p.count)) for p in self.parts)


def shares(dims: Sequence[Tiling]) -> list[Share]:
    """All frequencies; more than one share where windows lie apart."""
    return [Share(chosen) for chosen in combinations(*(d.parts for d in dims))]


def tiles_of(band: Band, dims: Sequence[Tiling]) -> int:
    return band.images * band.rows * prod(d.tiles for d in dims[1:]) * prod(d.phases for d in dims)


def spaced(shape: tuple[int, int, int]) -> Layout:
    """Row-major matrices a few cache lines off a multiple of 4 KiB apart. A transform touches the same element of
    all of them: at equal places in their pages they would share one set of the first cache."""
    _, rows, columns = shape
    apart = -(-rows * columns // PAGE) * PAGE + OFF_PAGE
    return Layout(shape, (apart, columns, 1))


Block = dict[tuple[int, ...], Expr]
"""Values by their place along each dimension."""


class Stages:
    """The stages of a kernel in the making: locals that later ones read, then what is stored."""

    def __init__(self) -> None:
        self.all: list[Stage] = []

    def share(self, e: Expr) -> Expr:
        if e.op in ("const", "load", "local"):
            return e
        name = f"v{len(self.all)}"
        self.all.append(Stage((), (), "", None, e, keep=name))
        return local(name, e.dtype)

    def store(self, e: Expr, index: Index) -> None:
        self.all.append(Stage((), (), "", None, e, -1, index))

    def transformed(self, matrices: Sequence[Matrix], values: Block) -> Block:
        """A matrix along each dimension of a block."""
        for d, matrix in enumerate(matrices):
            times = product(matrix)
            lines: dict[tuple[int, ...], dict[int, Expr]] = {}
            for at, v in values.items():
                lines.setdefault((*at[:d], -1, *at[d + 1 :]), {})[at[d]] = v
            values = {}
            for line, by_place in lines.items():
                done = times([by_place[i] for i in range(len(by_place))], self.share)
                for i, v in enumerate(done):
                    place = (*line[:d], i, *line[d + 1 :])
                    values[place] = v if d == len(matrices) - 1 else self.share(v)
        return dict(sorted(values.items()))
