"""Kernels of plans with room leave out what nobody looks at: on memory full of nonsense they answer like exact plans.

PYTHONPATH=py python -m tests.unit.runtime.test_reach 0:500
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
import pytest

from nnjit.graph.ir import Graph, Node, Value
from nnjit.graph.room import NoRoom, Room, make_room, moved
from nnjit.graph.room.extent import Extent, Growth
from nnjit.graph.room.lengths import Length
from nnjit.graph.room.maker import Maker
from nnjit.lower import build, registry
from nnjit.runtime.compile import compile_plan
from nnjit.runtime.host import WholeGraph
from nnjit.runtime.local import LocalSession
from tests.support.room_models import draw
from tests.unit.graph.test_room import as_bytes, node, shapes_of

AT = 6


class Dirty(LocalSession):
    """A session of a loaded model whose arena is full of ones (NaN, -1, true) when a run of a plan with room begins."""

    def at(self, room: Room, n: tuple[int, ...], feeds: dict[str, Any]) -> dict[str, Any]:
        if "room" not in self.plans:
            self.load(compile_plan(room.graph, self.target, self.memory_map, key="room"))
        address, size = self.memory_map.arena
        self.memory.write(self.store, b"\xff" * size, address)
        found = self._served(self.plans["room"], room.pad(feeds, n))
        return {name: room.cut(name, value, n) for name, value in found.items()}


def fault(seed: int, capacity: int = 24) -> tuple[str, int]:
    """What is wrong with one model's kernels, or why it has no room; and how many kernels leave something out."""
    drawn = draw(seed)
    session = Dirty(as_bytes(drawn.nodes, drawn.feeds(AT), drawn.weights, drawn.outputs))
    model = session.model
    here = shapes_of(drawn.feeds(AT))
    growing = moved(shapes_of(drawn.feeds(AT + 1)), here)
    assert growing is not None
    try:
        room = make_room(model, here, growing, [capacity])
    except NoRoom as refusal:
        return f"refused: {refusal}", 0
    for n in sorted({room.least[0], room.least[0] + 1, AT, 17, room.most[0]}):
        if not room.least[0] <= n <= room.most[0]:
            continue
        feeds = drawn.feeds(n)
        want = WholeGraph(model.bind(shapes=shapes_of(feeds))).run(feeds)
        found = session.at(room, (n,), feeds)
        for name, value in want.items():
            if found[name].shape != value.shape or not np.allclose(
                found[name], value, rtol=2e-3, atol=1e-4, equal_nan=True
            ):
                return f"{name} at n = {n}", 0
    return "", sum(bool(k.reach) for k in session.plans["room"][0].kernels)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("first", range(0, 60, 20))
def test_what_is_left_out_reaches_nothing(first: int) -> None:
    found = {seed: fault(seed) for seed in range(first, first + 20)}
    assert not {seed: text for seed, (text, _) in found.items() if text and not text.startswith("refused")}
    assert sum(count for _, count in found.values()) > 20


def test_who_reads_all_of_what_was_filled_for_another_is_counted() -> None:
    """A tensor may be several extents: the second one's axis does not grow, so that all of it is looked at."""
    maker = Maker(Graph("g"), [8, 9], [5, 6])
    rows, columns = Length.of(0), Length.of(1)
    x, value = Value("x", "f32", (8, 9)), Value("v", "f32", (8, 9))
    maker.b.nodes.append(Node("Relu", [x], [value]))
    first = maker.counted(Extent(value, {0: Growth(rows), 1: Growth(columns)}))
    filled = maker.clean(first, 0, 0.0)
    assert filled.value is not None and filled.value.reach == {1: columns}
    old = Value("old", "f32", (8, 9))
    maker.known[old] = Extent(value, {0: Growth(rows)})
    found = maker.extent(old)
    assert found.value is filled.value and found.axes == {0: Growth(rows, 0.0)}
    assert not filled.value.reach


def test_a_node_on_the_reference_reads_what_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops at what makes no sense: then kernels make all there is."""
    monkeypatch.setattr(build, "kind", lambda n: "host" if n.op == "Abs" else registry.kind(n))
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Abs", ["a"], ["b"]), node("Exp", ["b"], ["y"])]

    weight = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)

    def feeds(n: int) -> dict[str, Any]:
        return {"x": np.random.default_rng(n).uniform(0.5, 2, (2, n, 5)).astype(np.float32)}

    session = Dirty(as_bytes(nodes, feeds(AT), {"w": weight}, ["y"]))
    growing = moved(shapes_of(feeds(AT + 1)), shapes_of(feeds(AT)))
    assert growing is not None
    room = make_room(session.model, shapes_of(feeds(AT)), growing, [24])
    found = session.at(room, (9,), feeds(9))["y"]
    np.testing.assert_allclose(found, np.exp(np.abs(feeds(9)["x"] @ weight)), rtol=1e-5)
    plan = session.plans["room"][0]
    assert plan.host_calls and not any(k.reach for k in plan.kernels)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    start, _, end = sys.argv[1].partition(":")
    results = {seed: fault(seed) for seed in range(int(start), int(end))}
    for at, (text, _) in results.items():
        if text:
            print(at, text, [n.op_type for n in draw(at).nodes])
    print(sum(not text for text, _ in results.values()), "right of", len(results))
    print(sum(count for _, count in results.values()), "kernels leave something out")
