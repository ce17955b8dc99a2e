"""Areas of random models: which nodes each draws, and how many. `draw(area, seed)` -> Case."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.fuzz.attention import ATTENTION
from tests.fuzz.bodies import BODIES
from tests.fuzz.builder import DOUBTED, Builder, Case, Rejected
from tests.fuzz.defined import DEFINED
from tests.fuzz.elements import ELEMENTS
from tests.fuzz.large import LARGE
from tests.fuzz.moves import MOVES
from tests.fuzz.quantised import QUANTISED
from tests.fuzz.sums import SUMS

Step = Callable[[Builder], None]
MIXED: Mapping[Step, int] = {**ELEMENTS, **MOVES, **SUMS}
AREAS: dict[str, tuple[Mapping[Step, int], int]] = {
    "mixed": (MIXED, 9),
    "elements": (ELEMENTS, 9),
    "moves": (MOVES, 8),
    "sums": (SUMS, 5),
    "large": (LARGE, 2),
    "attention": (ATTENTION, 4),
    "quantised": (QUANTISED, 4),
    "defined": (DEFINED, 4),
    "bodies": ({**BODIES, **MOVES, **ELEMENTS}, 7),
}
"""Name -> (weights of steps, most nodes drawn)."""
LIMITS = {"large": 60_000}
"""Elements of a value, where that is not the usual."""


def draw(area: str, seed: int, extremes: bool = False, sure: bool = False, half: bool = False) -> Case:
    """The same case for the same arguments; `sure`: of operators whose reference needs no second opinion; `half`: in
    float16 wherever that can be chosen."""
    weights, most = AREAS[area]
    b = Builder(seed, extremes=extremes, huge=extremes and area == "elements", half=half)
    b.doubted = DOUBTED if sure else set()
    b.limit = LIMITS.get(area, b.limit)
    steps, chances = list(weights), list(weights.values())
    wanted = b.chance.randint(2, most)
    for _ in range(4 * wanted):
        if len(b.nodes) >= wanted:
            break
        try:
            b.chance.choices(steps, chances)[0](b)
        except Rejected:
            continue
    return b.case()
