"""Schedules of attention for GPUs: which tile of rows a workgroup takes, and how many keys at a time.

`attention(spec, target)` is the default, `attentions(spec, target)` are all that fit the device, best guess first.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from nnjit.codegen.schedule.attention import Shape, shape
from nnjit.codegen.schedule.facts import LANES
from nnjit.codegen.schedule.group_steps import Online
from nnjit.codegen.schedule.steps import Schedule
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wgsl.target import WgslTarget

TILES = (
    (64, 16, 64, 16, 32, 8, False), (32, 8, 64, 16, 32, 8, False), (32, 8, 64, 16, 64, 8, True),
    (64, 16, 64, 16, 16, 4, True), (64, 16, 64, 16, 16, 1, False), (64, 8, 64, 16, 16, 4, False),
    (32, 8, 32, 8, 16, 4, False), (128, 16, 64, 16, 16, 4, False), (64, 16, 32, 8, 16, 4, False),
    (16, 4, 64, 16, 16, 4, False), (16, 4, 32, 8, 16, 4, False),
)  # fmt: skip
"""Rows and threads along them, keys and threads along them, elements of a sum at a time, vectors of them without a
loop, and whether the queries stay in their array."""
FEW_ROWS = 8
"""Below so many query rows the keys and values are read once anyway, and products by rows read them faster."""


def attention(spec: KernelSpec, target: WgslTarget) -> Schedule | None:
    """A good schedule without measuring; None where no tile fits the spec and the device."""
    return next(iter(attentions(spec, target)), None)


def attentions(spec: KernelSpec, target: WgslTarget) -> Iterator[Schedule]:
    """All schedules worth a try, best guess first."""
    s = shape(spec) if spec.scratch >= 0 else None
    if s is None or len(spec.stages) != 4 or not s.rows or s.rows[-1].extent < FEW_ROWS:
        return
    fitting = [t for t in tiles(s) if _fits(t, s, target)]
    for tile in sorted(fitting, key=lambda t: cost(s, t, target)):
        yield (tile,)


def tiles(s: Shape) -> Iterator[Online]:
    """Tiles whose sums fit the registers of a thread."""
    for tile in TILES:
        t = Online(s.rows[-1].name, *tile)
        wide = -(-s.last.axes[0].extent // LANES // t.across) or 1
        if t.rows // t.down * (t.keys // LANES // t.across + wide) <= 48:
            yield t


def _fits(t: Online, s: Shape, target: WgslTarget) -> bool:
    return t.down * t.across <= target.max_workgroup and shared_bytes(t, s) <= target.max_shared_bytes


def shared_bytes(t: Online, s: Shape) -> int:
    """At most: with the vector that a row is longer where its factor lies the other way."""
    columns = -(-s.last.axes[0].extent // (LANES * t.across)) * LANES * t.across
    deep = -(-s.first.reduce[0].extent // t.depth) * t.depth if t.held else t.depth
    fills = t.rows * (deep + LANES) + t.depth * (max(t.keys, columns) + LANES)
    return 4 * (fills + t.rows * (t.keys + t.across))


UNROLLED = 0.95
"""What the sums of a stage take without a loop."""
RESIDENT = 4
"""Shared memory of a processor, in what a workgroup may have: queries that are held want all workgroups at once."""


def cost(s: Shape, t: Online, target: WgslTarget) -> float:
    """Time in no unit, of the processor with the most tiles: multiply-adds with what each needs to be read from
    shared memory, and what is done once a block of keys. The constants rank 17 tiles of three shapes as an H200 did."""
    rows = s.rows[-1].extent
    points = prod(a.extent for a in s.spec.axes) // rows
    tiles = points * -(-rows // t.rows)
    units = max(1, target.invocations // 128)
    share = -(-tiles // units) if tiles < 8 * units else tiles / units
    tall = t.rows // t.down
    wide = t.keys // LANES // t.across
    out = -(-s.last.axes[0].extent // (LANES * t.across))
    depth, blocks = s.first.reduce[0].extent, -(-s.first.axes[0].extent // t.keys)
    scores = tall * wide * depth * (1 + 0.2 * (tall + wide) / (tall * wide))
    values = tall * out * t.keys * (1 + 0.2 * (tall + out) / (tall * out))
    each = 3 * tall * (t.across / LANES + 24 + 4 * wide + out)
    warps = min(max(1.0, tiles / units) * t.down * t.across, 1024) / 32
    stages = -(-depth // t.depth) + t.keys // t.depth
    sums = (scores + values) * (UNROLLED if t.unroll > 1 else 1)
    together = RESIDENT * target.max_shared_bytes // shared_bytes(t, s)
    late = (1.25 if t.held and share > together else 1) * (1 + 0.02 * max(0, tall * (wide + out) - 16))
    return share * t.down * t.across * blocks * (sums + each + 96 * stages) * (1 + 2.5 / warps) * late
