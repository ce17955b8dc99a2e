"""What a stage of a tile takes on this GPU, for the tables of the rules.

    python3 serve.py bench --gpu tiles                    f32, f16 and i8
    python3 -m tests.bench.gpu.tiles RECORD.json          prints the tables of a record as the rules have them

A workgroup goes through its sum in stages; the time of one depends on how many workgroups of the tile a processor has.
So each tile is timed on products that give every processor one, two, three and four of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nnjit.codegen.expr import UnsupportedExpr
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.gpu_products import in_matrices, in_words, scheduled
from nnjit.codegen.schedule.gpu_roles import roles
from nnjit.codegen.schedule.matrix_tiles import LAUNCH, STAGES
from nnjit.codegen.schedule.product_tiles import SHAPES, Shape, measured
from nnjit.codegen.schedule.steps import Schedule, ScheduleError
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wgsl.emit import emit
from nnjit.codegen.wgsl.target import WgslTarget
from tests.bench.gpu.page import Bench
from tests.bench.gpu.specs import product_spec

SUM = {"f32": 768, "f16": 1536, "i8": 3072}
"""Elements of the sum: some tens of stages."""
TURNS = (1, 2, 3, 4)
"""Workgroups for each processor."""
GRID = (12, 11)
"""Tiles along the rows and columns that make one for each of 132 processors."""
Time = Callable[[dict[str, Any]], float]
"""ms of a shader."""
Make = Callable[[int, int, int, str, str], KernelSpec]
"""The product of m, k, n, a type and how the right factor lies."""


def listed(dtype: str, new: bool = False) -> list[tuple[int, ...]]:
    """Rows, threads or subgroups along them, the same of columns, depth, slices, whether the left array is turned, and
    whether there are two sets of arrays. new: only those that the tables have no times of."""
    if dtype == "f32":
        return [
            (s.rows, s.down, s.columns, s.across, s.depth, s.slices, s.turned, s.twice)
            for s in SHAPES
            if s.ahead and not (new and measured(s))
        ]
    return [] if new else [(t.rows, t.down, t.columns, t.across, t.depth, 1, False, False) for t in STAGES]


def schedule(spec: KernelSpec, dtype: str, tile: tuple[int, ...], target: WgslTarget) -> Schedule:
    p = roles(spec)
    assert p is not None
    shape = Shape(*tile[:6], turned=bool(tile[6]), twice=bool(tile[7]))
    if dtype == "f32":
        return scheduled(spec, p, shape)
    return (in_matrices if dtype == "f16" else in_words)(spec, p, shape, target)


def measure(
    target: WgslTarget,
    make: Make,
    ms: Time,
    done: Callable[[], None],
    grid: tuple[int, int] = GRID,
    sums: dict[str, int] = SUM,
    most: int = 999,
    new: bool = False,
) -> Iterator[dict[str, Any]]:
    """A row for each type and tile: microseconds of a stage for each of TURNS, of `sums` elements by type, of so
    many tiles of each at most, or of those without times in the tables."""
    high, wide = grid
    for dtype, k in sums.items():
        if (dtype == "f16" and not target.half) or (dtype != "f32" and not target.matrices):
            continue
        for tile in listed(dtype, new)[:most]:
            row: dict[str, Any] = {"dtype": dtype, "tile": list(tile), "us": []}
            for turns in TURNS:
                down, across = (
                    (high * 3, wide) if turns == 3 else (high * (1 + turns // 4), wide * min(turns, 2))
                )
                m, n = tile[0] * down, tile[2] * across
                spec = make(m, k, n, dtype, "nk" if dtype == "i8" else "kn")
                depth = tile[4] * (2 if dtype == "i8" else 1)
                try:
                    us = 1e3 * ms(emit(apply(spec, schedule(spec, dtype, tile, target)), target).to_js())
                except (ScheduleError, UnsupportedExpr, RuntimeError) as error:
                    row["failed"] = str(error)[:200]
                    break
                row["us"].append((us - LAUNCH) / (k / depth))
            done()
            yield row


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each tile, as the rules have it."""
    return "\n".join(
        f"{r['dtype']} {tuple(r['tile'])}: ({', '.join(f'{us:.2f}' for us in r['us'])})"
        for r in rows
        if "failed" not in r
    )


def tiles(bench: Bench) -> None:
    """What a stage of each tile takes."""
    rows = bench.result["tiles"] = []
    down, across = map(int, bench.options.grid.split("x"))
    sums = dict(zip(SUM, map(int, bench.options.sums.split(",")), strict=True))
    most = bench.options.tiles
    for row in measure(
        bench.target, product_spec, bench.ms, bench.forget, (down, across), sums, most, bench.options.new
    ):
        rows.append(row)
        bench.save()
    bench.say(table(rows))


def main(arguments: list[str]) -> None:
    print(table(json.loads(Path(arguments[0]).read_text())["results"]["tiles"]))


if __name__ == "__main__":
    main(sys.argv[1:])
