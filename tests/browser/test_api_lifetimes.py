"""What is taken away while it is in use: feeds detached or disposed, sessions released under a run or a compile."""

from __future__ import annotations

import pytest

from tests.browser.api_page import BACKENDS, Api, two_outputs


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_detached_feed_is_named_and_nothing_is_lost(api: Api, backend: str) -> None:
    """An array whose buffer was sent to a worker has no elements any more; the session goes on."""
    got = api.run(
        """async ({ path, backend }) => {
          const session = await create(path, { executionProviders: [backend] });
          const b = T('float32', [3, 4]);
          const detached = async (whole) => {
            const data = whole ? new Float32Array([1, 2]) : new Float32Array([9, 1, 2]).subarray(1);
            const a = T('float32', data, [2]);
            new MessageChannel().port1.postMessage(null, [data.buffer]);
            return failure(async () => session.run({ a, b }));
          };
          const errors = [await detached(true), await detached(false)];
          const { sum } = await session.run({ a: T('float32', [1, 2]), b });
          await session.release();
          return { errors, sum: [...sum.data] };
        }""",
        {"path": api.put("two.onnx", two_outputs()), "backend": backend},
    )
    for error in got["errors"]:
        assert error["typed"] and error["code"] == "FEED", error
        assert "'a'" in error["message"] and "detached" in error["message"]
    assert got["sum"] == [4, 6]


@pytest.mark.parametrize("backend", BACKENDS)
def test_feeds_are_read_when_their_run_comes(api: Api, backend: str) -> None:
    """Runs go one after another: one whose feed was disposed of or detached meanwhile is refused, the others go on."""
    got = api.run(
        """async ({ path, backend }) => {
          const session = await create(path, { executionProviders: [backend] });
          const b = T('float32', [10, 20]);
          await session.run({ a: T('float32', [1, 2]), b });
          const [kept, disposed, sent] = [1, 3, 5].map((n) => T('float32', [n, n + 1]));
          const runs = [kept, disposed, sent, kept].map((a) => session.run({ a, b }));
          disposed.dispose();
          new MessageChannel().port1.postMessage(null, [sent.data.buffer]);
          const ends = await Promise.allSettled(runs);
          await session.release();
          return ends.map((end) => (end.status === 'fulfilled' ? [...end.value.sum.data] : end.reason.code));
        }""",
        {"path": api.put("two.onnx", two_outputs()), "backend": backend},
    )
    assert got == [[11, 22], "TENSOR_DISPOSED", "TENSOR_DISPOSED", [11, 22]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_session_released_under_its_runs(api: Api, backend: str) -> None:
    """Each run is answered or refused with a typed error, none hangs; another session does not notice."""
    got = api.run(
        """async ({ path, backend }) => {
          const options = { executionProviders: [backend] };
          const there = async () => ({ left: (await nnjit.device()).memory.sessions.length,
            kept: await nnjit.python('from nnjit.runtime import bridge\\nlen(bridge.SESSIONS)') });
          const before = await there(); // other tests' sessions of the same page
          const [session, other] = await Promise.all([create(path, options), create(path, options)]);
          const of = (n, value) => T('float32', new Float32Array(n).fill(value));
          const feeds = (n) => ({ a: of(n, 1), b: of(n, 2) });
          await session.run(feeds(2));
          const runs = [2, 2, 5, 2].map((n) => session.run(feeds(n))); // five elements: another plan is compiled first
          const beside = other.run(feeds(3));
          const released = session.release();
          const ends = await Promise.allSettled(runs);
          await released;
          const after = await failure(async () => session.run(feeds(2)));
          const sum = [...(await beside).sum.data];
          const twice = await session.release();
          await other.release();
          const told = (end) => (end.status === 'fulfilled' ? [...end.value.sum.data] : end.reason.code);
          return { ends: ends.map(told), after: after.code,
            sum, twice: twice === undefined, before, there: await there() };
        }""",
        {"path": api.put("two.onnx", two_outputs(["n"])), "backend": backend},
    )
    for end, n in zip(got["ends"], (2, 2, 5, 2), strict=True):
        assert end == [3] * n or end == "SESSION", got["ends"]
    assert (got["after"], got["sum"], got["twice"]) == ("SESSION", [3, 3, 3], True)
    assert got["there"] == got["before"]
