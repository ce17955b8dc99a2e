"""Outputs that stay in the engine because they are fed again: kept, mixed, changed, dropped, they hold their values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from tests.support import decoder_models
from tests.support.decoder_models import SMALL, decoder

from .api_page import Api
from .room_page import set_up, size_of

SIZE = replace(SMALL, layers=2)
MODEL = decoder(SIZE)
WATCHED = ("present.0.key", "present.1.value", "logits")

FOLLOW = """async ([path, size, options, moves, watched]) => {
  const session = await create(path, { strict: true, ...options });
  const pinned = options.preferredOutputLocation === 'cpu-pinned';
  const made = [], found = [], wrong = [];
  const values = (i) => (pinned && i !== made.length - 1 ? null : watched.map((name) => {
    const tensor = made[i]?.[name];
    return tensor && tensor.location !== 'none' ? Array.from(tensor.data) : null;
  }));
  for (const { after, ids, mixed, crossed, changed, dropped, read, during, alone, ended, hurried } of moves) {
    const before = after < 0 ? null : { ...made[after] };
    if (mixed >= 0) before['present.1.value'] = made[mixed]['present.1.value'];
    if (crossed) {
      const [first, second] = [0, 1].map((layer) => before[`present.${layer}.key`]);
      Object.assign(before, { 'present.0.key': second, 'present.1.key': first });
    }
    if (changed) before['present.0.key'].data.fill(0.25);
    const feeds = stepFeeds(size, ids, before);
    if (ended) {
      const stop = new AbortController();
      const run = session.run(feeds, { signal: stop.signal });
      stop.abort();
      const code = await run.then(() => 'ran', ({ code }) => code);
      if (code !== 'ABORTED' && code !== 'ran') wrong.push(code);      // on this thread it is over at once
    }
    const other = hurried ? session.run(feeds) : null;
    const run = session.run(feeds, alone ? ['logits', 'present.0.key'] : undefined);
    if (hurried) before['present.0.key'].data.fill(0.5);             // while it waits for the other
    await other;
    if (during) for (const name of watched) before[name]?.data;      // while it is under way
    made.push(await run);
    if (read) for (const name of watched) made[made.length - 1][name]?.data;
    if (pinned) found.push(values(made.length - 1));
    if (dropped) made[after]['present.0.key'].dispose();
  }
  const keys = [session.stats().key];
  await session.release();
  return { found: pinned ? found : made.map((_, i) => values(i)), keys, wrong };
}"""


@dataclass
class Move:
    """A run behind an earlier one (after: its number, -1 for a prompt), and what is done with the tensors meanwhile."""

    after: int
    ids: list[int]
    mixed: int = -1
    """Another run of the same length whose present.1.value is fed instead."""
    changed: bool = False
    """The caller writes into what it feeds."""
    dropped: bool = False
    """What was fed is disposed of afterwards."""
    read: bool = False
    during: bool = False
    alone: bool = False
    """Some outputs are not asked for."""
    ended: bool = False
    """The same run is asked for before and cancelled."""
    hurried: bool = False
    """The same run is asked for twice, and what it was fed is written to before it begins."""
    crossed: bool = False
    """Two layers' keys are fed to each other."""


@dataclass
class Native:
    """onnxruntime's outputs of the same runs."""

    made: list[dict[str, np.ndarray]] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        import onnxruntime

        self.session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]

    def follow(self, move: Move) -> None:
        past = None if move.after < 0 else dict(self.made[move.after])
        if past is not None:
            if move.mixed >= 0:
                past["present.1.value"] = self.made[move.mixed]["present.1.value"]
            if move.crossed:
                past["present.0.key"], past["present.1.key"] = past["present.1.key"], past["present.0.key"]
            if move.changed:
                past["present.0.key"][:] = 0.25
        feeds = decoder_models.feeds(SIZE, np.array([move.ids]), past)
        self.made.append(dict(zip(self.names, self.session.run(None, feeds), strict=True)))
        if move.hurried:
            self.made[move.after][f"present.{int(move.crossed)}.key"][:] = 0.5
        if move.dropped:
            self.gone.add(move.after)


def walk(rng: np.random.Generator, count: int, plainly: bool) -> list[Move]:
    """A prompt and tokens behind it. Unless `plainly`, behind earlier runs too, with all that may be done to tensors in
    between."""
    moves = [Move(-1, rng.integers(0, SIZE.vocabulary, 5).tolist())]
    lengths, whole, gone = [5], [True], set[int]()
    for i in range(1, count):
        rare = lambda share: not plainly and bool(rng.random() < share)  # noqa: E731
        usable = [at for at in range(i) if at not in gone and whole[at]]
        after = usable[-1] if not rare(0.3) else int(rng.choice(usable))
        mixed = [at for at in usable if lengths[at] == lengths[after] and at != after]
        move = Move(
            after,
            [int(rng.integers(0, SIZE.vocabulary))],
            int(rng.choice(mixed)) if mixed and rare(0.5) else -1,
            rare(0.07), False, rare(0.1), rare(0.1), rare(0.07), rare(0.07), rare(0.07), rare(0.07),
        )  # fmt: skip
        move.dropped = after > 0 and len(usable) > 3 and rare(0.1)
        if move.dropped:
            gone.add(after)
        moves.append(move)
        lengths.append(lengths[after] + 1)
        whole.append(not move.alone)
    return moves


@pytest.fixture
def page(api: Api) -> Iterator[Api]:
    set_up(api)
    yield api


def follow(page: Api, moves: list[Move], options: dict[str, Any]) -> None:
    """The same runs there and on onnxruntime, and every output that can be asked for compared."""
    native = Native()
    for move in moves:
        native.follow(move)
    arguments = [page.put("decoder.onnx", MODEL), size_of(SIZE), options, [asdict(m) for m in moves], WATCHED]
    got = page.run(FOLLOW, arguments)
    assert "n<=" in got["keys"][0] and got["wrong"] == []
    assert len(got["found"]) == len(moves)
    for at, (values, move) in enumerate(zip(got["found"], moves, strict=True)):
        for name, found in zip(WATCHED, values, strict=True):
            missing = (
                at in native.gone and name == "present.0.key" and "preferredOutputLocation" not in options
            ) or (move.alone and name == "present.1.value")
            assert (found is None) == missing, (at, name)
            if found is not None:
                want = native.made[at][name].ravel()
                np.testing.assert_allclose(found, want, rtol=1e-4, atol=2e-5, err_msg=f"{at} {name} {move}")


@pytest.mark.parametrize("run_on", ["auto", "worker"])
def test_whatever_is_done_with_a_cache_its_values_stay(page: Api, run_on: str) -> None:
    follow(page, walk(np.random.default_rng(4), 70, False), {"runOn": run_on})


def test_pinned_caches_hold_until_the_next_run(page: Api) -> None:
    follow(page, walk(np.random.default_rng(5), 12, True), {"preferredOutputLocation": "cpu-pinned"})


def test_pinned_caches_are_fed_to_other_inputs_and_to_other_plans(page: Api) -> None:
    rng = np.random.default_rng(6)
    long, short = walk(rng, 26, True), walk(rng, 26, True)  # for the second one all plans are there
    for move in short[1:]:
        move.after += len(long)
    short[3].crossed = short[8].crossed = True
    follow(page, long + short, {"preferredOutputLocation": "cpu-pinned"})


def test_what_stays_is_not_copied(page: Api) -> None:
    """Bytes that the page's thread copies for a token, at the least of several: ids and mask, unless copies are fed."""
    found = page.run(
        """async ([path, size]) => {
          let bytes = 0;
          Uint8Array.prototype.set = function (from, ...at) {
            bytes += from.length;
            return Object.getPrototypeOf(Uint8Array.prototype).set.call(this, from, ...at);
          };
          const copied = async (location, again) => {
            const session = await create(path, { strict: true, preferredOutputLocation: location });
            let before = null, counts = [];
            for (let i = 0; i < 12; i++) {
              const feeds = stepFeeds(size, i ? [i] : [1, 2, 3, 4, 5, 6, 7, 8], before && again(before));
              bytes = 0;
              before = await session.run(feeds);
              if (i > 3) counts.push(bytes);
            }
            const where = before['present.0.key'].location;
            const values = before['present.1.value'].data.length;
            await session.release();
            return { least: Math.min(...counts), where, values };
          };
          const copy = (t) => T(t.type, t.data.slice(), t.dims);
          const copies = (before) => Object.fromEntries(Object.entries(before).map(([name, t]) => [name, copy(t)]));
          const as = (t) => t;
          try {
            return [await copied('cpu', as), await copied('cpu-pinned', as), await copied('cpu', copies)];
          } finally {
            delete Uint8Array.prototype.set;
          }
        }""",
        [page.put("decoder.onnx", MODEL), size_of(SIZE)],
    )
    elements = SIZE.hidden * 19
    cache = 4 * 2 * SIZE.layers * SIZE.hidden * 12  # at the least of these lengths
    assert [each["values"] for each in found] == [elements] * 3
    assert [each["where"] for each in found] == ["cpu", "cpu-pinned", "cpu"]
    assert max(found[0]["least"], found[1]["least"]) < 1000 < cache < found[2]["least"]
