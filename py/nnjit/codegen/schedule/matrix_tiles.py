"""Tiles of products in subgroup matrices, and how long each takes: `ranked(...)` gives the tiles, best guess first.
`configuration(...)` says which matrices of a device they are made of.

A workgroup goes through its sum in stages. A stage takes so long where the workgroup has a processor to itself, and
less for each where several take turns on one, so what a product takes is

    launch + stages * what a stage takes with so many workgroups on a processor

The numbers are microseconds on an H200, whose matrices are 16x16 (`bench --gpu tiles`); those of other devices put the
same tiles together from smaller ones, and are taken to be as fast beside each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, prod
from typing import TypeAlias

from nnjit.codegen.schedule.facts import LANES
from nnjit.codegen.wgsl.target import WgslTarget

LAUNCH = 1.8
"""Microseconds that a kernel takes without a stage."""
HALF = 2
"""Bytes of an f16: i8 is staged so many times as deep, in as much memory."""
LONGEST = 128
"""Elements that matrices may sum up in f16 (`half_sums`)."""
USUAL = 64
"""As many do where nothing was measured."""
PAD = 8
"""Elements by which a row of a shared array is longer than it need be (`matrices.PAD` vectors)."""
MOST_SUMS = 64 * 64
"""Sums of a subgroup, at most."""


def configuration(sums: str, target: WgslTarget) -> tuple[int, int, int] | None:
    """Rows, columns and depth of the device's matrices with such sums: "f32" or "f16" of f16, "i32" of i8; None where
    it has none to use. Of several the largest, because each is fetched for fewer products. Subgroups must all be of
    one size: a matrix belongs to a subgroup, and which threads are one would not be known."""
    factors = "i8" if sums == "i32" else "f16"
    if (
        target.lockstep == 1
        or (factors == "f16" and not target.half)
        or (sums == "f16" and not target.half_sums)
    ):
        return None
    sizes = [(m, n, k) for c, r, m, n, k in target.matrices if (c, r) == (factors, sums) and n % LANES == 0]
    return max(sizes, key=prod, default=None)


def abreast(rows: int, columns: int, subgroup: int, wide: int) -> int:
    """Matrices side by side, of `wide` that a subgroup has so, which its threads read back as whole vectors each; 0
    where not even all of them are."""
    counts = (n for n in range(1, wide + 1) if wide % n == 0)
    return next((n for n in counts if rows * columns * n % (LANES * subgroup) == 0), 0)


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

    def fits(self, size: tuple[int, int, int], subgroup: int, sums: str) -> bool:
        """Whether matrices of so many rows, columns and elements of a sum make up the tile."""
        m, n, k = size
        depth = self.depth * (HALF if sums == "i32" else 1)
        if self.rows % (self.down * m) or self.columns % (self.across * n) or depth % k:
            return False
        area, wide = self.rows * self.columns // self.groups, self.columns // self.across // n
        whole = area % (LANES * subgroup) == 0 if sums == "f16" else abreast(m, n, subgroup, wide) > 0
        return whole and area <= MOST_SUMS

    def shared_bytes(self, sums: str, size: tuple[int, int, int], subgroup: int, copies: int = 1) -> int:
        """Both factors of a stage, or of two, and those matrices of each subgroup whose results are read back at once;
        of f16 all that the subgroups have summed up. sums: "f32" or "f16" of f16, "i32" of i8; size: as for `fits`."""
        if sums == "i32":
            factors = 4 * (self.rows + self.columns) * (self.depth * HALF // 4 + PAD)
        else:
            factors = HALF * (self.rows * (self.depth + PAD) + self.depth * (self.columns + PAD))
        if sums == "f16":
            return copies * factors + HALF * self.rows * (self.columns + PAD * self.across)
        m, n, _ = size
        results = m * n * abreast(m, n, subgroup, self.columns // self.across // n)
        return copies * factors + self.groups * 4 * results


Times: TypeAlias = tuple[float, ...]
STAGES: dict[MatrixTile, tuple[Times, Times]] = {
    MatrixTile(128, 2, 128, 2, 32): ((0.66, 1.00, 2.01, 2.08), (0.72, 1.62, 2.59, 3.33)),
    MatrixTile(128, 2, 128, 4, 64): ((1.12, 2.22, 3.66, 4.77), (1.36, 2.86, 4.55, 5.91)),
    MatrixTile(64, 2, 128, 4, 64): ((0.77, 1.53, 2.29, 3.04), (0.92, 1.84, 2.78, 3.74)),
    MatrixTile(64, 2, 128, 2, 32): ((0.47, 0.67, 1.30, 1.34), (0.58, 0.98, 1.92, 1.94)),
    MatrixTile(64, 2, 64, 2, 64): ((0.53, 0.81, 1.56, 1.58), (0.55, 0.99, 1.51, 1.96)),
    MatrixTile(64, 2, 64, 4, 64): ((0.48, 0.96, 1.45, 1.92), (0.69, 1.38, 2.06, 2.76)),
    MatrixTile(64, 2, 96, 2, 32): ((0.39, 0.60, 0.83, 1.20), (0.45, 0.80, 1.23, 1.58)),
    MatrixTile(64, 2, 96, 2, 64): ((0.66, 1.32, 1.96, 2.64), (0.74, 1.46, 2.19, 2.96)),
    MatrixTile(96, 2, 64, 2, 32): ((0.37, 0.58, 0.84, 1.17), (0.45, 0.79, 1.23, 1.57)),
    MatrixTile(96, 2, 64, 2, 64): ((0.63, 1.26, 1.89, 2.53), (0.72, 1.43, 2.14, 2.84)),
    MatrixTile(64, 2, 64, 2, 32): ((0.30, 0.45, 0.65, 0.96), (0.38, 0.65, 0.94, 1.54)),
    MatrixTile(32, 1, 64, 2, 64): ((0.48, 0.56, 0.74, 1.14), (0.70, 0.81, 1.07, 1.65)),
    MatrixTile(32, 1, 64, 2, 32): ((0.25, 0.32, 0.41, 0.52), (0.36, 0.46, 0.60, 0.75)),
    MatrixTile(32, 1, 128, 4, 64): ((0.55, 1.09, 1.64, 2.18), (0.72, 1.40, 2.10, 2.80)),
    MatrixTile(32, 2, 32, 2, 32): ((0.20, 0.27, 0.37, 0.50), (0.29, 0.39, 0.54, 0.73)),
    MatrixTile(64, 2, 64, 2, 16): ((0.19, 0.27, 0.38, 0.50), (0.28, 0.39, 0.55, 0.73)),
}
"""With one workgroup on a processor, two, three and four: of f16 with sums in f32, of i8 with sums in i32."""


FLUSH = 8
"""Elements of a sum that take as long to multiply as it takes to bring sums of f16 to registers: a guess, nothing of it
was measured. Over the longest stretch those are taken to be as fast as sums of f32: which is, the tuner finds."""


def stage(tile: MatrixTile, sums: str) -> Times:
    """What a stage takes; of a tile that was not measured what a line through the others says."""
    words = sums == "i32"
    known = STAGES.get(tile)
    if known is not None:
        return known[words]
    area, deep = tile.rows * tile.columns / 16384, tile.depth / 32
    slower = (1.45 if words else 1.0) * (1.0 if tile.groups >= 4 else 1.1)
    alone = slower * deep**0.75 * (0.18 + 0.5 * area)
    each = slower * deep ** (1.1 if deep > 1 else 0.75) * (0.09 + 0.42 * area)
    return max(alone, each), max(alone, 2 * each)


def together(rows: int, columns: int, m: int, n: int, batches: int, target: WgslTarget) -> float:
    """Workgroups of a tile that a processor has; where they are few, the one that has most."""
    share = batches * ceil(m / rows) * ceil(n / columns) / max(1, target.invocations // 128)
    return ceil(share) if share < 8 else share


def taken(times: Times, share: float) -> float:
    """What a stage takes with `share` workgroups, of the times for one, two and so on: more are done in turns."""
    if share != int(share):
        return share * times[-1] / len(times)
    turns, rest = divmod(int(share), len(times))
    return turns * times[-1] + (times[rest - 1] if rest else 0.0)


def microseconds(
    tile: MatrixTile, m: int, k: int, n: int, batches: int, sums: str, target: WgslTarget, flush: int = USUAL
) -> float:
    """What a product of m rows, n columns and a sum of k elements takes; infinite where the tile does not fit the
    device. flush: so many elements are summed up in f16, where sums are that."""
    size, threads = configuration(sums, target), tile.groups * target.subgroup
    if size is None or threads > target.max_workgroup or not tile.fits(size, target.subgroup, sums):
        return inf
    if tile.shared_bytes(sums, size, target.subgroup) > target.max_shared_bytes:
        return inf
    share = together(tile.rows, tile.columns, m, n, batches, target)
    stages = ceil(k / (tile.depth * (HALF if sums == "i32" else 1)))
    flushed = sums == "f16" and k > flush
    more = (1 + FLUSH / flush) / (1 + FLUSH / LONGEST) if flushed else 1.0
    return LAUNCH + stages * more * taken(stage(tile, sums), share)


def ranked(
    m: int, k: int, n: int, batches: int, sums: str, target: WgslTarget
) -> list[tuple[float, MatrixTile]]:
    """The measured tiles with what the product takes in each, fastest first."""
    found = [(microseconds(t, m, k, n, batches, sums, target), t) for t in STAGES]
    return sorted((x for x in found if x[0] < inf), key=lambda x: (x[0], x[1].depth))
