"""How many plans a series of random requests takes, and how much more they do than plans of exactly these shapes.

    python -m tests.bench.rooms [--requests 60] [--seeds 0,1,2]

By the compiler's own decisions (py/nnjit/runtime/rooms.py), without making a kernel or timing anything: *plans* of the
first half of the requests and of the second, *work* as the walk counts it. A session keeps eight plans.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nnjit.frontend import BytesSource, load
from nnjit.graph.room import NoRoom, Room
from nnjit.runtime.rooms import Rooms
from tests.models import catalogue
from tests.support import audio_models

PLANS = 8
Shapes = dict[str, tuple[int, ...]]


def sound(rng: Any) -> Shapes:
    return {"input_values": (1, int(rng.integers(8000, 48001)))}


def sound_in_batches(rng: Any) -> Shapes:
    return {"input_values": (int(rng.integers(1, 5)), int(rng.integers(8000, 48001)))}


def sentences(rng: Any, most: int = 1) -> Shapes:
    shape = int(rng.integers(1, most + 1)), int(rng.integers(5, 121))
    return dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), shape)


def batches(rng: Any) -> Shapes:
    return sentences(rng, 8)


def series(model: Any, draw: Callable[[Any], Shapes], seed: int, count: int) -> tuple[int, int, float]:
    """Plans of the first half and of the second; the work of what ran by that of exact plans. A request that gets a
    plan of its own counts as exact."""
    rng, rooms = np.random.default_rng(seed), Rooms()
    held: list[tuple[Shapes, Room | None]] = []
    made: list[int] = []
    done: list[float] = []
    for at in range(count):
        shapes = draw(rng)
        serving = [pair for pair in held if pair[0] == shapes or (pair[1] and pair[1].n_of(shapes))]
        if serving:
            best = min(serving, key=lambda pair: _done(pair[1], shapes) if pair[1] else 0.0)
            held.remove(best)
        else:
            made.append(at)
            try:
                best = shapes, rooms.make(model, shapes, "", {}, {})
            except NoRoom:
                best = shapes, None
            rooms.saw(shapes, "", best[1])
        held = [*held, best][-PLANS:]
        n = best[1].n_of(shapes) if best[1] else None
        if best[1] and n:
            done.append(best[1].run.exact(n) / best[1].work.exact(n))
        else:
            done.append(1.0)
    return sum(at < count // 2 for at in made), sum(at >= count // 2 for at in made), float(np.mean(done))


def _done(room: Room, shapes: Shapes) -> float:
    """What a run of these shapes would do."""
    n = room.n_of(shapes)
    assert n is not None
    return room.run.exact(n)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args(arguments)
    recogniser = load(BytesSource(audio_models.recogniser(audio_models.Size())), {})
    minilm = load(BytesSource(catalogue.MODELS["minilm"].path().read_bytes()), {})
    half = options.requests // 2
    print(f"{'':32s}{f'plans, first {half}':>18s}{f'next {half}':>10s}{'work':>8s}")
    for name, model, draw in (
        ("sound, 0.5 to 3 s", recogniser, sound),
        ("1 to 4 of them at a time", recogniser, sound_in_batches),
        ("a sentence of 5 to 120", minilm, sentences),
        ("1 to 8 of them at a time", minilm, batches),
    ):
        for seed in map(int, options.seeds.split(",")):
            first, later, work = series(model, draw, seed, options.requests)
            print(f"{name:32s}{first:18d}{later:10d}{work:8.2f}", flush=True)


if __name__ == "__main__":
    main()
