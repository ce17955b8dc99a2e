"""Runs whose inputs' lengths change: a decoder fed its past, through plans with room, as onnxruntime computes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.fuzz.families.net import Net
from tests.support.decoder_models import SMALL, decoder

from .api_page import Api, two_outputs
from .room_page import agree, expected, set_up, size_of, with_room

if TYPE_CHECKING:
    from nnjit.devtools.httpd import Server

MODEL = decoder(SMALL)
PROMPT = [int(v) for v in np.random.default_rng(3).integers(0, SMALL.vocabulary, 40)]

COPIES = """async (cases) => {
  const { windowOf, spread, cut } = await import('/engine/windows.js');
  const wrong = [];
  for (const [dims, room, size, places] of cases) {
    const bytes = (shape) => shape.reduce((n, d) => n * d, size);
    const small = Uint8Array.from({ length: bytes(dims) }, (_, i) => 1 + (i % 251));
    const window = windowOf(dims, room, size);
    const large = new Uint8Array(bytes(room)).fill(255);
    if (window) spread(window, small, large); else large.set(small);
    const want = new Uint8Array(large.length);
    places.forEach((at, i) => want.set(small.subarray(i * size, (i + 1) * size), at * size));
    const back = new Uint8Array(small.length);
    if (window) cut(window, large, back); else back.set(large);
    if (String(large) !== String(want) || String(back) !== String(small)) wrong.push([dims, room]);
  }
  return wrong;
}"""


@pytest.fixture
def page(api: Api) -> Iterator[Api]:
    set_up(api)
    yield api


def test_parts_of_arrays_go_where_their_elements_are(api: Api) -> None:
    """Against numpy's own indices, for shapes of up to five axes, none of them empty or some."""
    rng = np.random.default_rng(2)
    cases: list[Any] = []
    for _ in range(400):
        room = [int(d) for d in rng.integers(0 if rng.random() < 0.1 else 1, 6, rng.integers(0, 6))]
        dims = [d if rng.random() < 0.5 else int(rng.integers(0, d + 1)) for d in room]
        index = np.arange(int(np.prod(room, dtype=int))).reshape(room)
        places = index[tuple(slice(d) for d in dims)].ravel().tolist()
        cases.append([dims, room, int(rng.choice([1, 2, 4, 8])), places])
    assert api.run(COPIES, cases) == []


@pytest.mark.parametrize("run_on", ["auto", "worker"])
def test_a_decoder_goes_on_across_capacities(page: Api, run_on: str) -> None:
    """Token for token what onnxruntime finds; few plans serve, and none that its stream could foresee is waited for."""
    tokens, rows = expected(MODEL, SMALL, PROMPT[:20], 115)
    found = page.run(
        """async ([path, size, prompt, runOn]) => {
          const session = await create(path, { runOn, strict: true });
          const sequence = new Sequence(session, size, prompt);
          for (let i = 0; i < 115; i++) await sequence.token();
          const dims = ['logits', 'present.3.value'].map((name) => sequence.before[name].dims);
          await session.release();
          return { ...sequence.found, dims };
        }""",
        [page.put("decoder.onnx", MODEL), size_of(SMALL), PROMPT[:20], run_on],
    )
    agree(found, tokens, rows)
    assert len(with_room(found["keys"])) >= 2
    assert sum(found["cold"]) <= 5
    assert found["dims"] == [[1, 1, SMALL.vocabulary], [1, SMALL.heads, 134, SMALL.depth]]


def test_the_next_capacity_is_there_before_it_is_needed(page: Api) -> None:
    found = page.run(
        """async ([path, size, prompt]) => {
          const session = await create(path, { strict: true });
          const sequence = new Sequence(session, size, prompt);
          const most = () => Number(/n<=(\\d+)/.exec(session.stats().key)?.[1] ?? 0);
          while (!most()) await sequence.token();
          const [capacity, plans] = [most(), session.stats().plans];
          while (sequence.before['present.0.key'].dims[2] < capacity) await sequence.token();
          await until(() => session.stats().plans !== plans);
          const before = session.stats().key;      // making one ahead does not change which one is in use
          for (let i = 0; i < 3; i++) await sequence.token();
          const moved = most() > capacity;
          await session.release();
          return { cold: sequence.cold.slice(-3), moved, same: before === sequence.keys.at(-4) };
        }""",
        [page.put("decoder.onnx", MODEL), size_of(SMALL), PROMPT[:20]],
    )
    assert found == {"cold": [False, False, False], "moved": True, "same": True}


def test_what_is_there_is_not_made_ahead(page: Api) -> None:
    """A sequence comes near the end of its plan's capacity; another one has been further."""
    found = page.run(
        """async ([path, size, prompt]) => {
          const { getEngine } = await import('/api/workers.js');
          const { client } = await getEngine();
          const staged = [];
          client.stagePlan = function (id, plan) {
            staged.push(plan.key);
            return Object.getPrototypeOf(this).stagePlan.call(this, id, plan);
          };
          try {
            const session = await create(path, { strict: true });
            const [short, long] = [prompt.slice(0, 4), prompt].map((some) => new Sequence(session, size, some));
            for (const each of [short, long]) for (let i = 0; i < 3; i++) await each.token();
            const there = [short, long].map(({ keys }) => keys.at(-1));
            const capacity = Number(/n<=(\\d+)/.exec(there[0])[1]);
            staged.length = 0;
            while (short.tokens.length < capacity) await short.token();
            await session.release();
            return { there, again: staged.filter((key) => there.includes(key)), last: short.keys.at(-1) };
          } finally {
            delete client.stagePlan;
          }
        }""",
        [page.put("decoder.onnx", MODEL), size_of(SMALL), PROMPT],
    )
    assert len(set(found["there"])) == 2 and found["last"] == found["there"][1]
    assert found["again"] == []


def test_what_follows_a_prompt_is_made_beside_it(page: Api) -> None:
    found = page.run(
        """async ([path, size, prompt]) => {
          const session = await create(path, { strict: true });
          const sequence = new Sequence(session, size, prompt);
          await sequence.token();
          await until(() => session.stats().plans >= 2);
          for (let i = 0; i < 3; i++) await sequence.token();
          await session.release();
          return sequence.found;
        }""",
        [page.put("decoder.onnx", MODEL), size_of(SMALL), PROMPT[:20]],
    )
    agree(found, *expected(MODEL, SMALL, PROMPT[:20], 4))
    assert found["cold"] == [True, False, False, False] and len(with_room(found["keys"])) == 1


def test_two_sequences_take_turns(page: Api) -> None:
    """Each goes on from its own past, whatever plan the other one needs."""
    wanted = [expected(MODEL, SMALL, prompt, 12) for prompt in (PROMPT[:30], PROMPT[:7])]
    found = page.run(
        """async ([path, size, prompts]) => {
          const session = await create(path, { strict: true });
          const both = prompts.map((prompt) => new Sequence(session, size, prompt));
          for (let i = 0; i < 12; i++) for (const each of both) await each.token();
          await session.release();
          return both.map((each) => each.found);
        }""",
        [page.put("decoder.onnx", MODEL), size_of(SMALL), [PROMPT[:30], PROMPT[:7]]],
    )
    for each, (tokens, rows) in zip(found, wanted, strict=True):
        agree(each, tokens, rows)
        assert with_room(each["keys"])


def test_outputs_go_where_they_are_wanted(page: Api) -> None:
    """Tensors that are given are filled; others may stay where they are; both can be fed again."""
    tokens, rows = expected(MODEL, SMALL, PROMPT[:20], 115)
    found = page.run(
        """async ([path, size, prompt]) => {
          const given = await create(path, { strict: true });
          const into = (sequence) => {
            const past = sequence.before?.['present.0.key'].dims[2] ?? 0;
            const rows = sequence.fed.length;
            const shape = [1, size.heads, past + rows, size.hidden / size.heads];
            const zeros = (dims) => T('float32', new Float32Array(dims.reduce((a, b) => a * b)), dims);
            const fetches = { logits: zeros([1, rows, size.vocabulary]) };
            for (let layer = 0; layer < size.layers; layer++)
              for (const part of ['key', 'value'])
                fetches[`present.${layer}.${part}`] = zeros(shape);
            return (sequence.given = fetches);
          };
          const first = new Sequence(given, size, prompt, { fetches: into });
          const filled = [];
          for (let i = 0; i < 12; i++) {
            await first.token();
            filled.push(Object.keys(first.given).every((name) => first.before[name] === first.given[name]));
          }
          await given.release();
          const pinned = await create(path, { preferredOutputLocation: 'cpu-pinned', strict: true });
          const second = new Sequence(pinned, size, prompt);
          for (let i = 0; i < 115; i++) await second.token();       // a plan made ahead is loaded on the way
          const places = [second.before.logits.location, second.before['present.1.key'].location];
          await pinned.release();
          return { first: first.found, second: second.found, filled, places };
        }""",
        [page.put("decoder.onnx", MODEL), size_of(SMALL), PROMPT[:20]],
    )
    for name, count, plans in (("first", 12, 1), ("second", 115, 2)):
        agree(found[name], tokens[:count], rows[:count])
        assert len(with_room(found[name]["keys"])) == plans
    assert all(found["filled"])
    assert found["places"] == ["cpu-pinned", "cpu-pinned"]


def test_looking_into_a_plan_with_room(page: Api) -> None:
    """profile, check and placement are of what ran; the tuner works on such a plan, and runs stay right."""
    tokens, rows = expected(MODEL, SMALL, PROMPT[:20], 12)
    found = page.run(
        """async ([path, size, prompt]) => {
          const session = await create(path, { strict: true });
          const sequence = new Sequence(session, size, prompt);
          for (let i = 0; i < 6; i++) await sequence.token();
          const feeds = stepFeeds(size, sequence.fed, sequence.before);
          const made = await session.profile({ repeats: 1 });
          const given = await session.profile({ feeds, repeats: 1 });
          const checked = await session.check(feeds);
          const { key } = session.stats();
          await session.tuning.start({ budgetMs: 300 });
          for (let i = 0; i < 6; i++) await sequence.token();
          await session.tuning.pause();
          const placed = session.placement().every(({ backend }) => backend !== 'reference');
          await session.release();
          return { ...sequence.found, steps: [made.steps.length, given.steps.length], checked, key, placed };
        }""",
        [page.put("decoder.onnx", MODEL), size_of(SMALL), PROMPT[:20]],
    )
    agree(found, tokens, rows)
    assert "n<=" in found["key"] and found["placed"]
    assert found["steps"][0] == found["steps"][1] > 0
    assert max(output["maxAbs"] for output in found["checked"]) < 1e-3


def test_a_shape_that_comes_again_and_again_gets_a_plan_of_its_own(api: Api) -> None:
    found = api.run(
        """async (path) => {
          const session = await create(path, { strict: true });
          const some = (n, value) => T('float32', new Float32Array(n).fill(value));
          const run = async (n) => {
            const { sum, product } = await session.run({ a: some(n, 2), b: some(n, 3) });
            const right = sum.dims[0] === n && sum.data.every((v) => v === 5) && product.data.every((v) => v === 6);
            if (!right) throw new Error(`${n}`);
            return session.stats().key.includes('n<=');
          };
          const rooms = [];
          for (const n of [40, 41, 42, 37]) rooms.push(await run(n));
          let runs = 0;
          await until(async () => !(await run(37)) || !++runs, () => [runs, session.stats()]);   // it has one
          await session.release();
          return { rooms, runs };
        }""",
        api.put("any.onnx", two_outputs(["n"])),
    )
    assert found["rooms"] == [False, True, True, True]
    assert found["runs"] >= 7


def test_sound_of_any_length_in_batches_of_any_size(api: Api) -> None:
    """Two lengths that move by themselves; through one go strided convolutions and an LSTM in both directions."""
    n, wide = Net(21), 6
    x = n.feed("x", (2, 1, 40), ["batch", 1, "samples"])
    y = n.Relu(n.Conv(x, n.weight(4, 1, 10), strides=[5]))
    y = n.MaxPool(n.Conv(y, n.weight(4, 4, 3), strides=[2], pads=[1, 1]), kernel_shape=[2], strides=[1])
    weights = [n.weight(2, 4 * wide, 4), n.weight(2, 4 * wide, wide), n.weight(2, 8 * wide)]
    y, last, _ = n.LSTM(
        n.Transpose(y, perm=[2, 0, 1]), *weights, outputs=3, hidden_size=wide, direction="bidirectional"
    )
    n.output(y, last)
    data = n.model().SerializeToString()
    shapes = [(2, 40), (3, 57), (1, 61), (4, 33), (2, 90), (3, 21), (1, 44), (4, 58)]
    given = [np.random.default_rng(b * t).normal(0, 1, (b, 1, t)).astype(np.float32) for b, t in shapes]
    found = api.run(
        """async ([path, feeds]) => {
          const session = await create(path, { strict: true });
          const seen = [];
          for (const [dims, x] of feeds) {
            const outputs = Object.values(await session.run({ x: T('float32', Float32Array.from(x), dims) }));
            seen.push(outputs.map(({ dims, data }) => [dims, Array.from(data)]));
          }
          const { plans, key } = session.stats();
          await session.release();
          return { seen, plans, key };
        }""",
        [api.put("sound.onnx", data), [[list(x.shape), x.ravel().tolist()] for x in given]],
    )
    import onnxruntime

    native = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for x, outputs in zip(given, found["seen"], strict=True):
        for value, (dims, numbers) in zip(native.run(None, {"x": x}), outputs, strict=True):
            assert dims == list(value.shape)
            np.testing.assert_allclose(np.reshape(numbers, dims), value, rtol=1e-4, atol=1e-5)
    assert found["plans"] <= 4 and "m<=" in found["key"]


def test_what_does_not_fit_is_refused_and_the_session_goes_on(page: Api) -> None:
    found = page.run(
        """async ([path, size, prompt]) => {
          const session = await create(path, { strict: true });
          const sequence = new Sequence(session, size, prompt);
          for (let i = 0; i < 5; i++) await sequence.token();
          const feeds = stepFeeds(size, sequence.fed, sequence.before);
          const short = { ...feeds, attention_mask: T('int64', new BigInt64Array(3).fill(1n), [1, 3]) };
          const other = { ...feeds, 'past_key_values.2.key': T('float32', new Float32Array(48), [1, 4, 1, 12]) };
          const codes = [];
          for (const wrong of [short, other]) codes.push((await failure(session.run(wrong))).code);
          await sequence.token();
          const leaving = session.release();      // a plan may be under way for what comes next
          await leaving;
          const late = (await failure(session.run(feeds))).code;
          return { codes, late, tokens: sequence.tokens };
        }""",
        [page.put("decoder.onnx", MODEL), size_of(SMALL), PROMPT[:20]],
    )
    tokens, _ = expected(MODEL, SMALL, PROMPT[:20], 6)
    assert found == {"codes": ["SHAPE", "SHAPE"], "late": "SESSION", "tokens": tokens}


def test_a_session_can_do_without(page: Api) -> None:
    tokens, rows = expected(MODEL, SMALL, PROMPT[:5], 4)
    found = page.run(
        """async ([path, size, prompt]) => {
          const session = await create(path, { room: false, strict: true });
          const sequence = new Sequence(session, size, prompt);
          for (let i = 0; i < 4; i++) await sequence.token();
          await session.release();
          return sequence.found;
        }""",
        [page.put("decoder.onnx", MODEL), size_of(SMALL), PROMPT[:5]],
    )
    agree(found, tokens, rows)
    assert not with_room(found["keys"]) and all(found["cold"])


def test_where_memory_cannot_be_shared(new_page: Any, server: Server) -> None:
    """Feeds and outputs go as messages, or into the memory that the page's thread has of its own."""
    tokens, rows = expected(MODEL, SMALL, PROMPT[:20], 30)
    with new_page() as opened:
        opened.route(
            "**/~alone", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html")
        )
        opened.goto(server.url + "~alone")
        page = Api(opened, server)
        set_up(page)
        found = page.run(
            """async ([path, size, prompt]) => {
              const into = (sequence) => {
                if (sequence.tokens.length % 3) return undefined;
                const dims = [1, sequence.fed.length, size.vocabulary];
                const data = new Float32Array(dims[1] * dims[2]);
                const rest = sequence.session.outputNames.map((name) => [name, null]);
                return { ...Object.fromEntries(rest), logits: T('float32', data, dims) };
              };
              const one = async (runOn, preferredOutputLocation) => {
                const session = await create(path, { runOn, preferredOutputLocation, strict: true });
                const sequence = new Sequence(session, size, prompt, { fetches: into });
                for (let i = 0; i < 30; i++) await sequence.token();
                await session.release();
                return sequence.found;
              };
              const all = [];
              for (const how of [['worker', 'cpu'], ['auto', 'cpu-pinned']])
                all.push(await one(...how));
              return { isolated: crossOriginIsolated, all };
            }""",
            [page.put("decoder.onnx", MODEL), size_of(SMALL), PROMPT[:20]],
        )
    assert found["isolated"] is False
    for each in found["all"]:
        agree(each, tokens, rows)
        assert with_room(each["keys"])
