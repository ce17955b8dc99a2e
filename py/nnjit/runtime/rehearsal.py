"""Which kernels of a plan are called on no tiles while it is loaded, and how often.

V8 compiles a function for speed when 13 MB of its first, slow code have been gone through (`--wasm-tiering-budget`),
counted from end to end at each return, and does so on a thread of its own. Called so here, that begins while
constants come in, and not in the first run, where one call may go on in slow code for as long as it has tiles.
"""

from __future__ import annotations

from collections.abc import Iterable

CALLS = 16384
"""Enough for kernels of 800 bytes of code; shorter ones are soon through the rest of it."""
MOST_MS = 4.0
"""Of calling one kernel: a call takes some 20 ns, and what takes much longer does more than return."""
WORTH_FLOPS = 1 << 20
"""Kernels that do less in a run are done with it in slow code as soon."""


def rehearsed(work: Iterable[tuple[int, int]]) -> list[int]:
    """(slot, flops) of each step -> the slots that a run is long in, those with the most work first."""
    flops: dict[int, int] = {}
    for slot, n in work:
        flops[slot] = flops.get(slot, 0) + n
    return sorted((s for s, n in flops.items() if n >= WORTH_FLOPS), key=lambda s: -flops[s])
