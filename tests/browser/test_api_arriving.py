"""A session is there before its model's weights: the graph comes in pieces, runs wait for what they read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.browser.api_page import BACKENDS, Api
from tests.browser.gated import WIDTH, Gate, gated, layers

MODEL, WEIGHTS = layers()
DATA = MODEL.SerializeToString()
X = np.random.default_rng(12).normal(0, 1, (2, WIDTH)).astype(np.float32)
Y = X @ WEIGHTS[0] @ WEIGHTS[1] @ WEIGHTS[2]

HELPERS = """async () => {
  window.go = (url) => fetch(`${url}/go`);
  window.feed = (x) => ({ x: T('float32', new Float32Array(x), [2, x.length / 2]) });
  const code = 'from nnjit.runtime.bridge import SESSIONS, WALKS\\n[str(k) for k in [*SESSIONS, *WALKS]]';
  const all = () => nnjit.python(code);
  const before = new Set(await all()); // other tests' sessions of the same page, some of which may be about to go
  window.sessions = async () => (await all()).filter((name) => !before.has(name)).length;
}"""


@pytest.fixture
def server_of(booted: Api) -> Iterator[tuple[str, type[Gate]]]:
    booted.run(HELPERS)
    with gated(DATA) as found:
        yield found


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_session_is_made_before_the_weights_come(
    booted: Api, server_of: tuple[str, type[Gate]], backend: str
) -> None:
    url, seen = server_of
    found = booted.run(
        """async ([url, x, backend]) => {
          const stages = [];
          const session = await create(url, { executionProviders: [backend], progress: (stage) => stages.push(stage) });
          const names = [...session.inputNames, ...session.outputNames];
          let over = false;
          const running = session.run(feed(x)).finally(() => (over = true));
          await new Promise((later) => setTimeout(later, 300));
          const before = over;
          await go(url);
          const { y } = await running;
          const again = await session.run(feed(x));
          await session.release();
          return { names, before, y: [...y.data], again: [...again.y.data], parsed: stages.includes('parse') };
        }""",
        [f"{url}/ranges", X.reshape(-1).tolist(), backend],
    )
    assert found["names"] == ["x", "y"] and found["parsed"] and not found["before"]
    np.testing.assert_allclose(np.reshape(found["y"], Y.shape), Y, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.reshape(found["again"], Y.shape), Y, rtol=1e-4, atol=1e-4)
    pieces = [asked for _, asked in seen.asked if asked]
    assert 1 <= len(pieces) <= 8, seen.asked
    assert sum(1 for _, asked in seen.asked if not asked) == 1


@pytest.mark.parametrize("name", ["whole", "changed"])
def test_without_pieces_the_whole_is_waited_for(
    booted: Api, server_of: tuple[str, type[Gate]], name: str
) -> None:
    """The server knows no ranges, or has another file by now: what it gives is not used."""
    url, seen = server_of
    found = booted.run(
        """async ([url, x]) => {
          let made = false;
          let creating;
          await new Promise((begun) => {
            const progress = (stage) => stage === 'parse' && begun();
            creating = create(url, { progress }).finally(() => (made = true));
          });
          await new Promise((later) => setTimeout(later, 300));
          const before = made;
          await go(url);
          const session = await creating;
          const { y } = await session.run(feed(x));
          await session.release();
          return { before, y: [...y.data] };
        }""",
        [f"{url}/{name}", X.reshape(-1).tolist()],
    )
    assert not found["before"]
    np.testing.assert_allclose(np.reshape(found["y"], Y.shape), Y, rtol=1e-4, atol=1e-4)
    assert 1 <= sum(1 for _, asked in seen.asked if asked) <= 8


def test_a_file_that_does_not_come_whole_fails_the_runs(
    booted: Api, server_of: tuple[str, type[Gate]]
) -> None:
    url, _ = server_of
    with booted.expecting("ERR_CONTENT_LENGTH_MISMATCH", "Failed to load"):
        found = booted.run(
            """async ([url, x]) => {
              const session = await create(url);
              const running = failure(session.run(feed(x)));
              await go(url);
              const first = await running;
              const second = await failure(session.run(feed(x)));
              await session.release();
              return { first, second, left: await sessions() };
            }""",
            [f"{url}/cut", X.reshape(-1).tolist()],
        )
    for error in (found["first"], found["second"]):
        assert error["typed"] and error["code"] == "NETWORK"
        assert error["fields"]["url"] == f"{url}/cut"
        assert error["fields"]["received"] < error["fields"]["expected"] == len(DATA)
    assert found["left"] == 0


@pytest.mark.parametrize("name", ["again", "resumes"])
def test_a_transfer_that_broke_goes_on_where_readers_wait(
    booted: Api, server_of: tuple[str, type[Gate]], name: str
) -> None:
    """From where it broke off, or from the first byte once more."""
    url, seen = server_of
    with booted.expecting("ERR_CONTENT_LENGTH_MISMATCH", "Failed to load"):
        found = booted.run(
            """async ([url, x]) => {
              // it breaks off once some of it is there, so that there is something to go on from
              const progress = (stage, done) => stage === 'model' && done > 0 && go(url);
              const session = await create(url, { progress });
              const { y } = await session.run(feed(x));
              await session.release();
              return [...y.data];
            }""",
            [f"{url}/{name}", X.reshape(-1).tolist()],
        )
    np.testing.assert_allclose(np.reshape(found, Y.shape), Y, rtol=1e-4, atol=1e-4)
    assert any(asked and asked.endswith("-") for _, asked in seen.asked)


def test_a_signal_ends_the_transfer(booted: Api, server_of: tuple[str, type[Gate]]) -> None:
    """Before create has resolved, and after."""
    url, _ = server_of
    found = booted.run(
        """async ([url, x]) => {
          const during = new AbortController();
          setTimeout(() => during.abort(), 300);
          const early = await failure(create(`${url}/whole`, { signal: during.signal }));
          const after = new AbortController();
          const session = await create(`${url}/ranges`, { signal: after.signal });
          const running = failure(session.run(feed(x)));
          after.abort();
          const late = await running;
          await session.release();
          return { codes: [early.code, late.code], left: await sessions() };
        }""",
        [url, X.reshape(-1).tolist()],
    )
    assert found == {"codes": ["ABORTED", "ABORTED"], "left": 0}


def test_a_run_can_be_given_up_and_another_waits(booted: Api, server_of: tuple[str, type[Gate]]) -> None:
    url, _ = server_of
    found = booted.run(
        """async ([url, x]) => {
          const session = await create(url);
          const given = new AbortController();
          const first = failure(session.run(feed(x), undefined, { signal: given.signal }));
          setTimeout(() => given.abort(), 200);
          const { code } = await first;
          const second = session.run(feed(x));
          await go(url);
          const { y } = await second;
          await session.release();
          return { code, y: [...y.data] };
        }""",
        [f"{url}/ranges", X.reshape(-1).tolist()],
    )
    assert found["code"] == "ABORTED"
    np.testing.assert_allclose(np.reshape(found["y"], Y.shape), Y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_released_session_stops_its_transfer(
    booted: Api, server_of: tuple[str, type[Gate]], backend: str
) -> None:
    """Runs that wait for weights which do not come end at once, and nothing is left of the session."""
    url, _ = server_of
    found = booted.run(
        """async ([url, x, backend]) => {
          const { Held } = await import('/api/held.js');
          const of = Held.of;
          let held;
          Held.of = (size) => (held = of(size));
          try {
            const session = await create(url, { executionProviders: [backend] });
            const runs = [failure(session.run(feed(x))), failure(session.run(feed(x)))];
            await session.release();
            const codes = (await Promise.all(runs)).map(({ code, typed }) => typed && code);
            const ended = await held.arrived.then(() => 'came', (error) => error.code);
            return { codes, ended, state: session.state, blob: await held.settled, left: await sessions() };
          } finally {
            Held.of = of;
          }
        }""",
        [f"{url}/stalls", X.reshape(-1).tolist(), backend],
    )
    assert found == {
        "codes": ["SESSION", "SESSION"],
        "ended": "SESSION",
        "state": "released",
        "blob": None,
        "left": 0,
    }


def test_external_data_may_be_on_its_way(booted: Api, server_of: tuple[str, type[Gate]]) -> None:
    """The model is there, its weights' file beside it comes later."""
    import onnx

    url, seen = server_of
    made, _ = layers()
    offset, parts = 0, []
    for tensor in made.graph.initializer:
        raw = tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", "weights"), ("offset", offset), ("length", len(raw))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
        parts.append(raw)
        offset += len(raw)
    seen.data = b"".join(parts)
    found = booted.run(
        """async ([path, url, x]) => {
          const session = await create(path, { externalData: [{ path: 'weights', data: url }] });
          let over = false;
          const running = session.run(feed(x)).finally(() => (over = true));
          await new Promise((later) => setTimeout(later, 200));
          const before = over;
          await go(url);
          const { y } = await running;
          await session.release();
          return { before, y: [...y.data] };
        }""",
        [booted.put("outside.onnx", made), f"{url}/ranges", X.reshape(-1).tolist()],
    )
    assert not found["before"]
    np.testing.assert_allclose(np.reshape(found["y"], Y.shape), Y, rtol=1e-4, atol=1e-4)


def test_pieces_are_asked_for_where_that_is_sooner(booted: Api) -> None:
    """The reader of a file on its way, by itself: what is there, what is guessed, what is waited for."""
    found: dict[str, Any] = booted.run(
        """async () => {
          const { ArrivingFile } = await import('/api/arriving.js');
          const { announce, arriving, give } = await import('/engine/arrival.js');
          const bytes = Uint8Array.from({ length: 1 << 16 }, (_, i) => i % 251);
          const room = () => new Uint8Array(new SharedArrayBuffer(bytes.length));
          const made = () => Object.assign(arriving(room()), { url: 'x:model', version: 'v' });
          const { fetch } = globalThis;
          const asked = [];
          let answers = 206;
          let refusals = 0;
          let hangs = false;
          globalThis.fetch = async (url, { headers }) => {
            asked.push(headers.Range);
            if (hangs) await new Promise(() => undefined);
            await new Promise((later) => setTimeout(later, 50)); // far longer than the fast stream below
            const [from, to] = headers.Range.slice(6).split('-').map(Number);
            if (answers !== 206) refusals++;
            return new Response(bytes.slice(from, to + 1), { status: answers, headers: { etag: 'v' } });
          };
          try {
            const { signal } = new AbortController();
            const file = made();
            const reader = new ArrivingFile(file);
            await reader.need([[1000, 2000], [5000, 6000]], signal);
            const first = [reader.has(1000, 2000), reader.has(0, 2000), [...reader.read(1000, 1003)], asked.splice(0)];
            await reader.need([[5000, 5500]], signal); // it is under way, or there
            const guessed = [reader.has(5000, 6000), asked.splice(0)];
            file.began = Date.now() - 1; // a stream so fast that nothing is sooner
            file.view.set(bytes.subarray(0, 30000));
            announce(file, 30000);
            const waiting = reader.need([[30000, 30100]], signal);
            announce(file, 30100);
            await waiting;
            const waited = [reader.has(0, 30100), asked.splice(0)];
            const slow = new ArrivingFile(made());
            hangs = true; // and the stream comes meanwhile
            const stalled = slow.need([[10, 20]], signal);
            await new Promise((later) => setTimeout(later, 20));
            announce(slow.arriving, 100);
            await stalled;
            const came = [slow.has(10, 20), asked.splice(0)];
            hangs = false;
            const none = new ArrivingFile(made());
            answers = 200;
            const refused = none.need([[10, 20]], signal);
            await until(() => refusals); // the next look is in a task after the one that has told it so
            announce(none.arriving, 100);
            await refused;
            const after = none.need([[200, 300]], signal).catch((error) => error.code);
            give(none.arriving);
            return { first, guessed, waited, came, refused: [asked.splice(0), await after] };
          } finally {
            globalThis.fetch = fetch;
          }
        }"""
    )
    assert found == {
        "first": [True, False, [i % 251 for i in range(1000, 1003)], ["bytes=1000-1999", "bytes=5000-5999"]],
        "guessed": [True, []],
        "waited": [True, []],
        "came": [True, ["bytes=10-19"]],
        "refused": [["bytes=10-19"], "NETWORK"],
    }
