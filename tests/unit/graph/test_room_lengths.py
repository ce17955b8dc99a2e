"""Lengths of plans with room: their normal form against integers, and how requests' dims are taken to move."""

from __future__ import annotations

import random
from itertools import product

import pytest

from nnjit.graph.room import begun, moved, stepped
from nnjit.graph.room.lengths import Length, NoRoom, solved
from nnjit.graph.room.symbols import span

N, M = Length.of(0), Length.of(1)
BOX = list(product(range(1, 30), range(1, 12)))


@pytest.mark.parametrize("seed", range(40))
def test_arithmetic_is_that_of_integers(seed: int) -> None:
    chance = random.Random(seed)
    made: list[tuple[Length, list[int]]] = [(N, [n for n, _ in BOX]), (M, [m for _, m in BOX])]
    for _ in range(12):
        (a, x), (b, y), k = chance.choice(made), chance.choice(made), chance.randint(-5, 7)
        what = chance.randrange(5)
        try:
            if what == 0:
                found = a + b, [i + j for i, j in zip(x, y, strict=True)]
            elif what == 1:
                found = a - b, [i - j for i, j in zip(x, y, strict=True)]
            elif what == 2:
                found = a * k, [i * k for i in x]
            elif what == 3:
                found = a + k, [i + k for i in x]
            else:
                found = a // max(k, 2), [i // max(k, 2) for i in x]
        except NoRoom as refusal:
            assert "quotient of two lengths" in str(refusal)
            continue
        made.append(found)
    for length, values in made:
        assert [length.at(pair) for pair in BOX] == values, str(length)
        low, high = span(length, BOX[0], BOX[-1])
        assert low <= min(values) and max(values) <= high
        if all(c > 0 for _, c in length.terms):
            assert max(values) - length.b <= length.cap(BOX[-1]) or not length.terms


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((N - 5) // 5 + 1, N // 5),
        (((N - 5) // 5 - 1) // 2 + 1, (N - 5 + 5) // 10),
        ((N * 6 + 4) // 4, (N * 3) // 2 + 1),
        ((N + M * 4 + 3) // 2, M * 2 + (N + 3) // 2),
        (-((-N) // 2), (N + 1) // 2),
        ((N * 2) // 2, N),
        (N - N, Length(0)),
    ],
)
def test_equal_lengths_are_equal_objects(one: Length, other: Length) -> None:
    assert one == other and hash(one) == hash(other) and str(one) == str(other)


def test_numbers_of_a_request() -> None:
    forms = [N * 32 + 5, M, N * 32 + M, (N * 32 + 5) // 4]
    assert solved(forms, [69, 7, 71, 17], 2) == (2, 7)
    assert solved(forms, [69, 7, 72, 17], 2) is None and solved(forms, [68, 7, 71, 17], 2) is None
    assert solved(forms[2:], [71, 17], 2) is None


def test_dims_that_move_by_themselves() -> None:
    old = {"a": (2, 5), "b": (2, 9)}
    found = moved(old, {"a": (3, 9), "b": (3, 13)})
    assert found == {"a": {0: N, 1: M}, "b": {0: N, 1: M + 4}}
    assert moved(old, {"a": (5, 5), "b": (5, 9)}) == {"a": {0: N}, "b": {0: N}}


def test_a_mask_over_past_and_new_tokens() -> None:
    found = moved(
        {"ids": (1, 4), "past": (1, 9), "mask": (1, 13)}, {"ids": (1, 5), "past": (1, 12), "mask": (1, 17)}
    )
    assert found == {"ids": {1: N}, "past": {1: M}, "mask": {1: N + M}}


def test_what_a_plan_knows_to_move_goes_on_moving() -> None:
    """A decoder's past, which another source stands beside now."""
    known = {"past": {1: N}, "mask": {1: N + 1}}
    old, new = (
        {"past": (1, 5), "mask": (1, 6), "source": (1, 17)},
        {"past": (1, 5), "mask": (1, 6), "source": (1, 20)},
    )
    assert moved(old, new, known) == {**known, "source": {1: M}}
    assert moved(old, new) == {"source": {1: N}}
    gone = {"past": (1, 5), "mask": (1, 9), "source": (1, 17)}  # not in lockstep any more
    assert moved(old, gone, known) == {"mask": {1: N}}


def test_steps_that_all_requests_are_multiples_of() -> None:
    seen, new = [{"x": (1, 3, 96, 64)}, {"x": (1, 3, 32, 96)}], {"x": (1, 3, 160, 130)}
    growing = moved(seen[0], new)
    assert growing == {"x": {2: N, 3: M}}
    assert stepped(seen, new, growing, (160, 130)) == {"x": {2: N * 2, 3: M * 2}}
    assert stepped(seen[:1], {"x": (1, 3, 160, 64)}, {"x": {2: N}}, (160,)) == {"x": {2: N * 64 + 32}}
    assert stepped(seen, {"x": (1, 3, 161, 64)}, {"x": {2: N}}, (161,)) is None


def test_a_past_that_begins() -> None:
    found = begun(
        {"ids": (1, 9), "past": (1, 0), "mask": (1, 9)}, {"ids": (1, 1), "past": (1, 9), "mask": (1, 10)}
    )
    assert found == {"past": {1: N}, "mask": {1: N + 1}}


def test_a_batch_moves_by_single_places_beside_steps() -> None:
    """Of images that are multiples of 32."""
    seen = [{"x": (1, 3, 96, 64)}, {"x": (2, 3, 160, 64)}, {"x": (3, 3, 96, 192)}]
    new = {"x": (4, 3, 192, 128)}
    growing = {"x": {0: Length.of(0), 2: Length.of(1), 3: Length.of(2)}}
    want = {"x": {0: Length.of(0), 2: Length.of(1, 32), 3: Length.of(2, 32)}}
    assert stepped(seen, new, growing, (4, 192, 128)) == want
    still = {"x": {0: Length.of(0), 3: Length.of(1)}}  # the second in a plan before, and not since
    found = stepped([{"x": (1, 3, 192, 128)}, {"x": (2, 3, 192, 128)}], new, still, (4, 128))
    assert found == {"x": {0: Length.of(0), 3: Length.of(1, 64)}}
