"""Random models given room: infinities and NaN made beyond n by the models themselves may not reach what counts.

PYTHONPATH=py python -m tests.unit.graph.test_room_random 0:2000
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
import pytest

from nnjit.graph.room import NoRoom, make_room, moved
from nnjit.graph.room.walk import Walk
from nnjit.runtime.host import WholeGraph
from tests.support.poison import poisoned
from tests.support.room_models import draw
from tests.unit.graph.test_room import built, shapes_of

AT = 6
"""The n of the request that a room is made for."""


def fault(seed: int, capacity: int = 24) -> str:
    """What is wrong with one model's room; '' if nothing is, 'refused: why' where it has none."""
    drawn = draw(seed)
    model = built(drawn.nodes, drawn.feeds(AT), drawn.weights, drawn.outputs)
    here = shapes_of(drawn.feeds(AT))
    growing = moved(shapes_of(drawn.feeds(AT + 1)), here)
    assert growing is not None
    both: tuple[list[Any] | None, ...] = ([], None)
    for passes in both:
        try:
            room = make_room(model, here, growing, [capacity], passes=passes)
        except NoRoom as refusal:
            return f"refused: {refusal}"
        run = WholeGraph(room.graph)
        for n in sorted({room.least[0], room.least[0] + 1, AT, room.most[0]}):
            feeds = drawn.feeds(n)
            want = WholeGraph(model.bind(shapes=shapes_of(feeds), passes=passes)).run(feeds)
            padded = room.pad(feeds, (n,))
            for how, graph in (("", run), (", nonsense beyond", WholeGraph(poisoned(room.graph, (n,))))):
                found = graph.run(padded)
                for name, value in want.items():
                    cut = room.cut(name, found[name], (n,))
                    if cut.shape != value.shape or not np.allclose(
                        cut, value, rtol=2e-3, atol=1e-4, equal_nan=True
                    ):
                        return f"{name} at n = {n}{how}"
    return ""


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("first", range(0, 100, 20))
def test_what_is_beyond_n_reaches_nothing(first: int) -> None:
    found = {seed: fault(seed) for seed in range(first, first + 20)}
    assert not {seed: text for seed, text in found.items() if text and not text.startswith("refused")}
    assert sum(text == "" for text in found.values()) > 10


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_these_models_tell_when_nothing_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Walk, "clean", lambda self, x, axis, fill, force=False: x)
    assert sum(bool(fault(seed)) for seed in range(20)) >= 4


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    start, _, end = sys.argv[1].partition(":")
    results = {seed: fault(seed) for seed in range(int(start), int(end))}
    for at, text in results.items():
        if text:
            print(at, text, [n.op_type for n in draw(at).nodes])
    print(sum(not text for text in results.values()), "right of", len(results))
