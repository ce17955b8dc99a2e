"""Tiles of products in subgroup matrices, and how long each takes: `ranked(...)` gives the tiles, best guess first.

A workgroup goes through its sum in stages. A stage takes so long where the workgroup has a processor to itself, and
less for each where several take turns on one, so what a product takes is

    launch + stages * max(alone, workgroups of a processor * shared)

The numbers are microseconds on an H200, fitted to what 16 tiles took for 14 shapes, mostly to 5%.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf

from nnjit.codegen.wgsl.target import WgslTarget

LAUNCH = 1.8
HALF = 2
"""Bytes of an f16: i8 is staged so many times as deep, in as much memory."""
PAD = 8
"""Elements by which a row of a shared array is longer than it need be (`matrices.PAD` vectors)."""


@dataclass(frozen=True, slots=True)
class MatrixTile:
    """Rows and columns of a workgroup, subgroups along each, elements of f16 of a stage (i8: twice as many)."""

    rows: int
    down: int
    columns: int
    across: int
    depth: int

    @property
    def groups(self) -> int:
        return self.down * self.across

    def shared_bytes(self, words: bool, copies: int = 1) -> int:
        """Both factors of a stage, or of two, and a matrix of each subgroup with its results."""
        if words:
            factors = 4 * (self.rows + self.columns) * (self.depth * HALF // 4 + PAD)
        else:
            factors = HALF * (self.rows * (self.depth + PAD) + self.depth * (self.columns + PAD))
        return copies * factors + self.groups * 4 * 256


# alone and shared, of f16 with sums in f32 and of i8 with sums in i32
STAGES: dict[MatrixTile, tuple[tuple[float, float], tuple[float, float]]] = {
    MatrixTile(128, 2, 128, 2, 32): ((0.68, 0.50), (0.86, 0.86)),
    MatrixTile(128, 2, 128, 4, 64): ((1.16, 1.06), (1.68, 1.74)),
    MatrixTile(64, 2, 128, 4, 64): ((0.78, 0.78), (1.12, 1.12)),
    MatrixTile(64, 2, 128, 2, 32): ((0.48, 0.35), (0.68, 0.55)),
    MatrixTile(64, 2, 64, 2, 64): ((0.54, 0.54), (0.68, 0.65)),
    MatrixTile(64, 2, 64, 4, 64): ((0.52, 0.52), (0.80, 0.79)),
    MatrixTile(64, 2, 96, 2, 32): ((0.40, 0.33), (0.56, 0.46)),
    MatrixTile(64, 2, 96, 2, 64): ((0.68, 0.68), (0.84, 0.84)),
    MatrixTile(96, 2, 64, 2, 32): ((0.38, 0.32), (0.60, 0.46)),
    MatrixTile(96, 2, 64, 2, 64): ((0.66, 0.66), (0.92, 0.88)),
    MatrixTile(64, 2, 64, 2, 32): ((0.32, 0.22), (0.46, 0.35)),
    MatrixTile(32, 1, 64, 2, 64): ((0.54, 0.26), (0.76, 0.36)),
    MatrixTile(32, 1, 64, 2, 32): ((0.34, 0.14), (0.50, 0.22)),
    MatrixTile(32, 1, 128, 4, 64): ((0.56, 0.56), (0.72, 0.70)),
    MatrixTile(32, 2, 32, 2, 32): ((0.42, 0.12), (0.50, 0.19)),
    MatrixTile(64, 2, 64, 2, 16): ((0.22, 0.13), (0.32, 0.21)),
}


def stage(tile: MatrixTile, words: bool) -> tuple[float, float]:
    """What a stage takes, alone and shared; of a tile that was not measured what a line through the others says."""
    known = STAGES.get(tile)
    if known is not None:
        return known[words]
    area, deep = tile.rows * tile.columns / 16384, tile.depth / 32
    slower = (1.45 if words else 1.0) * (1.0 if tile.groups >= 4 else 1.1)
    alone = slower * deep**0.75 * (0.18 + 0.5 * area)
    return alone, min(alone, slower * deep ** (1.1 if deep > 1 else 0.75) * (0.09 + 0.42 * area))


def microseconds(
    tile: MatrixTile, m: int, k: int, n: int, batches: int, words: bool, target: WgslTarget
) -> float:
    """What a product of m rows, n columns and a sum of k elements takes; infinite where the tile does not fit the
    device."""
    if (
        tile.groups * target.subgroup > target.max_workgroup
        or tile.shared_bytes(words) > target.max_shared_bytes
    ):
        return inf
    units = max(1, target.invocations // 128)
    share = batches * ceil(m / tile.rows) * ceil(n / tile.columns) / units
    share = ceil(share) if share < 8 else share
    alone, shared = stage(tile, words)
    stages = ceil(k / (tile.depth * (HALF if words else 1)))
    return LAUNCH + stages * max(alone, share * shared)


def ranked(
    m: int, k: int, n: int, batches: int, words: bool, target: WgslTarget
) -> list[tuple[float, MatrixTile]]:
    """The measured tiles with what the product takes in each, fastest first."""
    found = [(microseconds(t, m, k, n, batches, words, target), t) for t in STAGES]
    return sorted((x for x in found if x[0] < inf), key=lambda x: (x[0], x[1].depth))
