"""`python3 serve.py bench --claims NAME [ARGUMENT ...]`: runs one study; without a name, says what there is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from tests.bench.claims import blocks, live, quality, race, tables, together

STUDIES: dict[str, tuple[str, Callable[..., int]]] = {
    "screen": ("every schedule of the raw spaces of thirty kernels, timed once; resumable", quality.screen),
    "quality": ("the best of the list over the best of all", quality.quality),
    "race": ("the list against a search of 1,000 trials; resumable", race.race),
    "live": ("when 95% of the final speed is reached, from the first run on", live.live),
    "overhead": ("what trying candidates adds to the runs, where none may win", live.overhead),
    "p99": ("the longest runs in stretches with and without the tuner, in turn", blocks.p99),
    "second": ("a profile's next visit, and its records in another profile", live.second),
    "patterns": ("bursts, rare runs, two sessions, growing batches", live.patterns),
    "sizes": ("what the length of a kernel's list buys", live.sizes),
    "together": (
        "one of the six before for several models at once, each on cores of its own",
        together.together,
    ),
    "tables": (
        "what was found, as tables; `tables docs` writes them into docs/tuning-measured.md",
        tables.tables,
    ),
}


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] not in STUDIES:
        print("studies:", *(f"  {name:10s} {text}" for name, (text, _) in STUDIES.items()), sep="\n")
        return 0 if not argv else 2
    return STUDIES[argv[0]][1](*argv[1:])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
