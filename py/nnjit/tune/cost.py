"""What the space's order is made from: the modelled time of a contraction's register tile on a device.

Takes extents and tile sizes, gives cycles; only their order matters, so that the likely best are tried first. The model
is that of `contraction.register_tiles`, by which the rules choose, but that loads of both factors cost alike.
"""

from __future__ import annotations

from nnjit.codegen.schedule.facts import LANES

FMA_LATENCY = 4.0
"""Cycles until a sum can be added to again (Skylake and Zen 3: 4, by Agner Fog's instruction tables)."""


def tile_cycles(rows: int, columns: int, mr: int, nv: int) -> float:
    """Cycles for one step of the sum over rows x columns outputs in tiles of mr rows by nv vectors.

    A tile's step takes the largest of: multiply-adds at two a cycle, loads at two a cycle, and the latency of
    the accumulators' chain; and a little for the loop and each load. Tails are tiles of their own."""
    widest = -(-columns // LANES)
    total = 0.0
    full_m, tail_m = divmod(rows, mr)
    full_n, tail_n = divmod(widest, nv)
    for m, count_m in ((mr, full_m), (tail_m, 1 if tail_m else 0)):
        for n, count_n in ((nv, full_n), (tail_n, 1 if tail_n else 0)):
            if not count_m or not count_n:
                continue
            loads = m + n
            step = max(m * n / 2, loads / 2, FMA_LATENCY) + 0.08 * loads + 0.3
            total += count_m * count_n * step
    return total


def spills(mr: int, nv: int, registers: int) -> bool:
    """Whether accumulators and what is read do not fit: past this a kernel is half as fast. Of the row of the panel
    and the splats, the fewer stay alive and one of the others at a time."""
    return mr > 1 and mr * nv + min(mr, nv) + 1 > registers
