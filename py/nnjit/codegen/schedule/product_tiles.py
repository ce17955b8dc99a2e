"""Tiles of products whose sums are in registers, and how long each takes: `ranked(...)` gives them, best guess first.

As in `matrix_tiles` a product takes launch + stages * what a stage takes, which depends on how many workgroups of the
tile a processor has at once. Tiles of the table were timed with one, two, three and four of them (`bench --gpu tiles`);
what others take comes from a formula.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil

from nnjit.codegen.schedule.facts import LANES
from nnjit.codegen.schedule.matrix_tiles import LAUNCH, Times, taken, together
from nnjit.codegen.wgsl.target import WgslTarget

RATE = 260_000
"""Units of the formula that an H200 does in a microsecond."""
ROLLED = 1.12
"""What a product takes whose stages are not unrolled (1.02 to 1.22 in 13 cases)."""
SCALAR = 0.017
"""Microseconds that each element takes which a thread reads by itself, where rows are no whole vectors (8 tiles of one
product)."""
TIMED = 768
"""Elements of the sums that the times in the table are from."""
ENDS = 48
"""What the beginning and the end of a tile with slices take, in elements of the sum (nine products of 64 to 4,608)."""
SHORT = 70.0
"""Microseconds below which a product starts in a tile that a driver compiles soon, because a first result waits for
all of them: 0.2 to 0.6 s for large tiles whose stages are unrolled, 0.1 to 0.25 s without that, 0.06 to 0.08 s for
LIGHT."""
LIGHT = 16
"""Vectors of sums of a thread at most in a tile that is compiled soon, stages of which are loops."""
WORTH = 1.25
"""What such a tile may take of the time of the fastest one, which takes 1.12 of it itself without unrolling."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A workgroup's tile: rows and columns, how many threads along each, and the depth of the shared arrays. turned:
    the left array is, the sums of a stage are unrolled unless it is rolled, and threads stand in patches of 4 x 8."""

    rows: int
    down: int
    columns: int
    across: int
    depth: int = 16
    slices: int = 1
    ahead: bool = True
    twice: bool = False
    turned: bool = False
    rolled: bool = False

    @property
    def threads(self) -> int:
        return self.down * self.across * self.slices

    def turnable(self) -> bool:
        """Whether all threads, or half of them, have whole blocks of four by four of the left factor to turn, and
        patches of 4 x 8 fill the tile (see `fills.Turned`)."""
        if self.rows // self.down % LANES or self.down % 4 or self.across % 8 or self.depth % LANES:
            return False
        vectors, deep = self.rows // LANES, self.depth // LANES
        beside = min(8, vectors)
        for threads in (self.threads, self.threads // 2):
            if vectors % beside == 0 and threads % (beside * deep) == 0 and vectors * deep % threads == 0:
                right = self.depth * self.columns // LANES
                return threads == self.threads or (
                    right % threads == 0 and threads % (self.columns // LANES) == 0
                )
        return False

    def shared_bytes(self) -> int:
        """At most: with the vector that a row is longer where its factor lies the other way."""
        left = self.rows * (self.depth + LANES)
        right = self.depth * (self.columns + LANES)
        sums = self.rows * self.columns if self.slices > 1 else 0
        return 4 * ((left + right) * (2 if self.twice else 1) + sums)


# What `ranked` chooses among; STAGES has the times of those that were measured.
SHAPES = (
    Shape(32, 8, 32, 8), Shape(32, 8, 32, 8, 32, 2), Shape(32, 8, 32, 8, 32, 4), Shape(32, 8, 64, 8),
    Shape(64, 16, 32, 8), Shape(64, 16, 32, 8, 32, 2), Shape(64, 8, 64, 16), Shape(64, 16, 64, 16),
    Shape(64, 8, 64, 8), Shape(64, 16, 64, 16, 16, 2), Shape(64, 8, 128, 16), Shape(128, 16, 64, 8),
    Shape(128, 16, 128, 16), Shape(64, 8, 128, 16, 16, 1, False), Shape(128, 16, 128, 16, 16, 1, False),
    Shape(64, 8, 64, 8, 16, 1, False), Shape(64, 8, 128, 16, 8), Shape(128, 16, 64, 16), Shape(16, 4, 32, 8, 32, 4),
    Shape(16, 4, 64, 16, 32), Shape(8, 2, 64, 16, 32, 2), Shape(32, 4, 32, 8, 32, 4), Shape(16, 2, 64, 16, 32, 4),
    Shape(16, 2, 32, 8, 32, 4), Shape(16, 4, 64, 16, 32, 2), Shape(16, 4, 64, 8, 32, 4), *(
        Shape(*tile, ahead=True, twice=True)
        for tile in (
            (32, 8, 32, 8, 16, 1), (32, 4, 32, 8, 16, 2), (32, 4, 32, 8, 16, 4), (16, 2, 64, 16, 16, 2),
            (16, 4, 32, 8, 16, 2), (16, 2, 32, 8, 16, 4), (16, 2, 64, 8, 16, 4), (32, 4, 64, 16, 16, 2),
            (64, 8, 32, 8, 16, 2), (64, 8, 64, 16, 16, 2), (64, 4, 64, 16, 16, 4), (64, 8, 64, 8, 16, 2),
            (64, 8, 64, 8, 16, 4),
        )
    ), *(
        Shape(*tile, turned=True)
        for tile in (
            (128, 16, 128, 8, 16), (128, 8, 128, 16, 16), (128, 16, 96, 8, 16), (96, 12, 96, 8, 16), (64, 8, 96, 8, 16),
            (64, 8, 128, 8, 16), (128, 16, 128, 16, 32), (128, 16, 64, 8, 16),
            (64, 8, 64, 8, 16), (128, 16, 64, 8, 32), (64, 8, 128, 16, 32), (64, 8, 64, 8, 32), (64, 16, 64, 8, 32),
            (32, 8, 32, 8, 32), (64, 16, 32, 8, 32), (32, 8, 64, 8, 32),
        )
    ),
)  # fmt: skip

STAGES: dict[Shape, Times] = {
    Shape(32, 8, 32, 8, 16): (0.31, 0.37, 0.55, 0.67),
    Shape(32, 8, 32, 8, 32, 2): (0.44, 0.77, 1.07, 1.42),
    Shape(32, 8, 32, 8, 32, 4): (0.51, 0.81, 1.16, 1.50),
    Shape(32, 8, 64, 8, 16): (0.64, 0.69, 1.10, 1.20),
    Shape(64, 16, 32, 8, 16): (0.41, 0.61, 0.91, 1.14),
    Shape(64, 16, 32, 8, 32, 2): (0.77, 1.36, 2.07, 2.69),
    Shape(64, 8, 64, 16, 16): (0.72, 1.27, 1.69, 2.18),
    Shape(64, 16, 64, 16, 16): (0.60, 1.10, 1.59, 2.14),
    Shape(64, 8, 64, 8, 16): (1.03, 1.08, 1.85, 1.93),
    Shape(64, 16, 64, 16, 16, 2): (0.80, 1.30, 2.58, 2.60),
    Shape(64, 8, 128, 16, 16): (1.11, 1.98, 2.80, 4.64),
    Shape(128, 16, 64, 8, 16): (1.11, 1.95, 2.79, 4.63),
    Shape(128, 16, 128, 16, 16): (1.93, 3.85, 5.77, 7.68),
    Shape(64, 8, 128, 16, 8): (0.65, 1.02, 1.43, 2.39),
    Shape(128, 16, 64, 16, 16): (1.14, 2.09, 3.16, 4.15),
    Shape(16, 4, 32, 8, 32, 4): (0.34, 0.53, 0.68, 0.86),
    Shape(16, 4, 64, 16, 32): (0.80, 0.89, 1.32, 1.52),
    Shape(8, 2, 64, 16, 32, 2): (0.37, 0.48, 0.70, 0.85),
    Shape(128, 16, 128, 8, 16, turned=True): (2.38, 3.02, 5.98, 6.03),
    Shape(128, 8, 128, 16, 16, turned=True): (2.87, 3.27, 6.32, 6.55),
    Shape(128, 16, 96, 8, 16, turned=True): (1.39, 2.39, 3.55, 5.89),
    Shape(96, 12, 96, 8, 16, turned=True): (1.30, 2.13, 4.24, 4.26),
    Shape(64, 8, 96, 8, 16, turned=True): (1.32, 1.50, 2.32, 2.53),
    Shape(64, 8, 128, 8, 16, turned=True): (2.45, 2.57, 2.92, 3.17),
    Shape(128, 16, 128, 16, 32, turned=True): (3.28, 6.59, 10.19, 13.49),
    Shape(128, 16, 64, 8, 16, turned=True): (1.18, 1.94, 2.77, 3.60),
    Shape(64, 8, 64, 8, 16, turned=True): (0.89, 1.01, 1.62, 1.84),
    Shape(128, 16, 64, 8, 32, turned=True): (2.87, 3.74, 7.40, 7.45),
    Shape(64, 8, 128, 16, 32, turned=True): (2.82, 3.43, 6.82, 6.85),
    Shape(64, 8, 64, 8, 32, turned=True): (2.84, 2.97, 3.38, 6.00),
    Shape(64, 16, 64, 8, 32, turned=True): (1.21, 2.23, 3.29, 5.47),
    Shape(32, 8, 32, 8, 32, turned=True): (0.61, 0.87, 1.31, 1.63),
    Shape(64, 16, 32, 8, 32, turned=True): (0.86, 1.62, 2.31, 3.09),
    Shape(32, 8, 64, 8, 32, turned=True): (1.05, 1.34, 1.98, 2.41),
    Shape(32, 4, 32, 8, 32, 4): (0.42, 0.69, 0.96, 1.22),
    Shape(16, 2, 64, 16, 32, 4): (0.38, 0.67, 0.92, 1.79),
    Shape(16, 2, 32, 8, 32, 4): (0.36, 0.42, 0.64, 0.76),
    Shape(16, 4, 64, 16, 32, 2): (0.43, 0.73, 0.99, 1.67),
    Shape(16, 4, 64, 8, 32, 4): (0.43, 0.74, 1.01, 2.00),
    Shape(32, 8, 32, 8, 16, twice=True): (0.31, 0.36, 0.52, 0.61),
    Shape(32, 4, 32, 8, 16, 2, twice=True): (0.32, 0.35, 0.50, 0.53),
    Shape(32, 4, 32, 8, 16, 4, twice=True): (0.27, 0.32, 0.43, 0.56),
    Shape(16, 2, 64, 16, 16, 2, twice=True): (0.31, 0.35, 0.51, 0.68),
    Shape(16, 4, 32, 8, 16, 2, twice=True): (0.25, 0.26, 0.32, 0.37),
    Shape(16, 2, 32, 8, 16, 4, twice=True): (0.25, 0.26, 0.31, 0.34),
    Shape(16, 2, 64, 8, 16, 4, twice=True): (0.31, 0.34, 0.51, 0.66),
    Shape(32, 4, 64, 16, 16, 2, twice=True): (0.34, 0.51, 1.02, 1.03),
    Shape(64, 8, 32, 8, 16, 2, twice=True): (0.36, 0.53, 1.04, 1.05),
    Shape(64, 8, 64, 16, 16, 2, twice=True): (0.54, 1.07, 1.60, 2.14),
    Shape(64, 4, 64, 16, 16, 4, twice=True): (0.54, 1.08, 1.62, 2.16),
    Shape(64, 8, 64, 8, 16, 2, twice=True): (0.71, 1.41, 2.12, 2.82),
    Shape(64, 8, 64, 8, 16, 4, twice=True): (0.55, 1.09, 1.64, 2.18),
}
"""What a stage takes with one workgroup on a processor, two, three and four."""


def fits(s: Shape, target: WgslTarget) -> bool:
    return s.threads <= target.max_workgroup and s.shared_bytes() <= target.max_shared_bytes


def measured(s: Shape) -> bool:
    """Whether there are times of the tile, or of the same whose stages are read ahead."""
    return (s if s.ahead else replace(s, ahead=True)) in STAGES


def microseconds(s: Shape, m: int, k: int, n: int, batches: int, target: WgslTarget) -> float:
    """What a product of m rows, n columns and a sum of k elements takes."""
    if s.rolled:
        own = microseconds(replace(s, rolled=False), m, k, n, batches, target)
        return LAUNCH + (own - LAUNCH) * ROLLED
    share = together(s.rows, s.columns, m, n, batches, target)
    exact = s.twice and s in STAGES
    usual = s if exact else replace(s, ahead=True, twice=False)
    times = STAGES.get(usual)
    own = _stages(s, k) * taken(times, share) if times else _modelled(usual, share, k)
    odd = SCALAR * ceil(k / s.depth) * s.depth * (s.rows + s.columns) / s.threads
    return LAUNCH + own * (1.0 if exact else _varied(s, share)) + (odd if k % LANES or n % LANES else 0.0)


def soon(m: int, k: int, n: int, batches: int, target: WgslTarget) -> Shape | None:
    """The tile that a short product starts in, to be compiled soon; None where the fastest one is."""
    every = ranked(m, k, n, batches, target)
    if not every or every[0][0] >= SHORT or not every[0][1].turned:
        return None
    most, fastest = WORTH * every[0][0], every[0][1]
    light = (
        s for time, s in every
        if time <= most and not s.turned and s.rows // s.down * (s.columns // s.across) <= LIGHT * LANES
    )  # fmt: skip
    return next(light, replace(fastest, rolled=True))


@lru_cache(512)
def ranked(m: int, k: int, n: int, batches: int, target: WgslTarget) -> tuple[tuple[float, Shape], ...]:
    """The usual tiles that were measured and fit the device, with what the product takes in each, fastest first."""
    found = [
        (microseconds(s, m, k, n, batches, target), s) for s in SHAPES if measured(s) and fits(s, target)
    ]
    return tuple(sorted(found, key=lambda x: x[0]))


def _stages(s: Shape, k: int) -> float:
    """Stages of a sum of k elements. Slices are added up at the end, which is part of what the table has for a stage
    where TIMED elements have so many: a shorter sum has as much of it."""
    stages = ceil(k / s.depth)
    return stages if s.slices == 1 else (stages + ENDS / s.depth) * TIMED / (TIMED + ENDS)


def _warps(s: Shape, share: float) -> float:
    """Subgroups that a processor has to choose from, as far as it holds so many threads."""
    return min(share * s.threads, 2048) / 32


def _varied(s: Shape, share: float) -> float:
    """What a tile takes of the time with stages read ahead into one set of arrays. Not ahead: the fewer others there
    are, the longer all wait for memory. Twice: a barrier less, and more shared memory."""
    late = 1.0 if s.ahead else 1 + 0.9 / _warps(s, share)
    return late * (1.0 if not s.twice else 0.94 if s.depth <= 16 else 1.17)


def _modelled(s: Shape, share: float, k: int) -> float:
    """A multiply-add costs 1, its share of the reads from shared memory (fewer, the larger a thread's own tile: of the
    left factor a vector along the sum for each row, of the right one a vector of columns) and of those from the caches
    (fewer, the larger the workgroup's); warps that take turns hide the latency. The constants fit what an H200 took for
    two products in 700 tiles (`gpu-*-spaces.json`) and the table above; `tests/bench/gpu/listed.py`
    says how far it is off."""
    own = 2.7 * s.down / s.rows + 1.3 * s.across / s.columns
    group = 8.5 * (s.rows + s.columns) / (s.rows * s.columns)
    depth = 1 + 0.57 * s.slices / s.depth
    turned = 1.11 if s.turned and s.rows * s.columns < 64 * 64 else 1.0
    units = share * s.rows * s.columns * ceil(k / s.depth) * s.depth * (1 + own + group) * depth * turned
    return units * (1 + 1.3 / _warps(s, share)) / RATE
