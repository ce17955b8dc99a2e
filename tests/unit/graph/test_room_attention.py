"""ONNX's Attention with room: keys that grow, pasts that grow, masks, causal rows, garbage beyond n."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nnjit.graph.room import NoRoom
from tests.unit.graph.test_room import Feeds, N, agree, built, node, normal, room_of

NAMES = ["q", "k", "v"]


def three(rows: int, keys: int, groups: int = 3) -> dict[str, Any]:
    return {"q": normal(2, 6, rows, 4), "k": normal(2, groups, keys, 4), "v": normal(2, groups, keys, 4)}


def allowed(n: int) -> Any:
    """Which keys rows see; the first always."""
    mask = np.random.default_rng(n).random((2, 1, n, n)) < 0.7
    mask[..., 0] = True
    return mask


def past(n: int, rows: int) -> dict[str, Any]:
    return {**three(rows, rows), "pk": normal(2, 3, n, 4), "pv": normal(2, 3, n, 4)}


def positive(n: int) -> dict[str, Any]:
    feeds = three(5, n)
    return {**feeds, **{x: np.abs(feeds[x]) + np.float32(0.5) for x in "kv"}}


PAST = [*NAMES, "", "pk", "pv"]
CASES: dict[str, tuple[list[Any], Callable[[int], Feeds], list[str]]] = {
    "itself": ([node("Attention", NAMES, ["y"])], lambda n: three(n, n), ["y"]),
    "causal": ([node("Attention", NAMES, ["y"], is_causal=1)], lambda n: three(n, n), ["y"]),
    "three axes": (
        [node("Attention", NAMES, ["y"], q_num_heads=3, kv_num_heads=3)],
        lambda n: {x: normal(2, n, 12) for x in NAMES},
        ["y"],
    ),
    "keys of others": ([node("Attention", NAMES, ["y"])], lambda n: three(5, n), ["y"]),
    "bias": ([node("Attention", [*NAMES, "m"], ["y"])], lambda n: {**three(5, n), "m": normal(5, n)}, ["y"]),
    "mask": ([node("Attention", [*NAMES, "m"], ["y"])], lambda n: {**three(n, n), "m": allowed(n)}, ["y"]),
    "past": ([node("Attention", PAST, ["y", "nk", "nv"])], lambda n: past(n, 1), ["y", "nk", "nv"]),
    "past, causal": (
        [node("Attention", PAST, ["y", "nk", "nv"], is_causal=1, softcap=2.0)],
        lambda n: past(n, 2),
        ["y", "nk", "nv"],
    ),
    "infinite beyond n": (
        [
            node("Reciprocal", ["k"], ["k2"]),
            node("Log", ["v"], ["v2"]),
            node("Attention", ["q", "k2", "v2"], ["y"]),
        ],
        positive,
        ["y"],
    ),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", CASES)
def test_attention(name: str) -> None:
    nodes, feeds, outputs = CASES[name]
    room = agree(built(nodes, feeds(6), {}, outputs, opset=24), feeds)
    if "past" in name:
        assert room.outputs["nk"] == [(2, N + (1 if name == "past" else 2))]


def test_a_mask_of_another_length_is_refused() -> None:
    def feeds(n: int) -> Feeds:
        return {**three(5, n), "m": normal(5, 6)}

    model = built([node("Attention", [*NAMES, "m"], ["y"])], feeds(6), {}, ["y"], opset=24)
    with pytest.raises(NoRoom, match="another length"):
        room_of(model, feeds, 6, 24)
