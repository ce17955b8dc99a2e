"""What is taken away while it is in use: feeds detached or disposed, sessions released under a run or a compile."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

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
def test_what_a_run_is_fed_is_read_before_the_call_returns(api: Api, backend: str) -> None:
    """Whether it begins at once, compiles or waits for others: the caller may change its feeds, send them away or drop
    them."""
    got = api.run(
        """async ({ path, backend }) => {
          const session = await create(path, { executionProviders: [backend] });
          const fed = (n, then) => {
            const [a, b] = [T('float32', [n, n + 1, 7]), T('float32', [10, 20, 30])];
            const run = session.run({ a, b });
            then(a);
            then(b);
            return run;
          };
          const changed = (t) => t.data.fill(1000);
          const disposed = (t) => t.dispose();
          const sent = (t) => new MessageChannel().port1.postMessage(null, [t.data.buffer]);
          const found = [];
          for (const then of [changed, disposed, sent]) {
            const runs = [1, 2, 3].map((n) => fed(n, then));   // the first of all compiles
            for (const run of runs) found.push([...(await run).sum.data]);
            found.push([...(await fed(4, then)).sum.data]);    // nothing to wait for
          }
          const many = T('float32', [1, 2, 3]);
          const checked = session.check({ a: many, b: many });
          many.data.fill(5);
          const [worst] = await checked;
          await session.release();
          return { found, worst: worst.maxAbs };
        }""",
        {"path": api.put("two.onnx", two_outputs(["n"])), "backend": backend},
    )
    assert got["found"] == [[10 + n, 21 + n, 37] for n in (1, 2, 3, 4)] * 3
    assert got["worst"] == 0


@pytest.mark.parametrize("kind", ["string", "sequence"])
def test_what_is_no_array_of_numbers_is_read_as_well(api: Api, kind: str) -> None:
    """Strings, and tensors in a sequence."""
    node = helper.make_node("Identity", ["x"], ["y"])
    info = {
        "string": lambda name: helper.make_tensor_value_info(name, TensorProto.STRING, ["n"]),
        "sequence": lambda name: helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, ["n"]),
    }[kind]
    graph = helper.make_graph([node], "g", [info("x")], [info("y")])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    got = api.run(
        """async ({ path, kind }) => {
          const session = await create(path);
          const found = [];
          for (let i = 0; i < 2; i++) {
            const data = kind === 'string' ? ['a', 'b'] : new Float32Array([1, 2]);
            const one = T(kind === 'string' ? 'string' : 'float32', data, [2]);
            const x = kind === 'string' ? one : [one];
            const runs = [session.run({ x }), session.run({ x })];
            one.data.fill(kind === 'string' ? 'c' : 3);
            if (kind === 'sequence') x.length = 0;
            for (const run of runs) {
              const { y } = await run;
              found.push(Array.from((kind === 'string' ? y : y[0]).data));
            }
          }
          await session.release();
          return found;
        }""",
        {"path": api.put(f"{kind}.onnx", made), "kind": kind},
    )
    assert got == [["a", "b"] if kind == "string" else [1, 2]] * 4


def test_a_sequence_holds_tensors_that_are_there(api: Api) -> None:
    """One that was disposed of, or sent away, is refused at the call, and nothing else is heard of it."""
    infos = [helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", infos[:1], infos[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    got = api.run(
        """async (path) => {
          const unheard = [];
          const hear = (event) => unheard.push(String(event.reason));
          addEventListener('unhandledrejection', hear);
          const session = await create(path);
          const of = () => T('float32', new Float32Array([1, 2]), [2]);
          const [gone, sent] = [of(), of()];
          gone.dispose();
          new MessageChannel().port1.postMessage(null, [sent.data.buffer]);
          const reasons = [];
          for (const one of [gone, sent]) reasons.push((await failure(session.run({ x: [of(), one] }))).fields.reason);
          const plain = { type: 'float32', data: new Float32Array([5, 6]), dims: [2] };
          const { y } = await session.run({ x: [of(), plain] });
          await session.release();
          await new Promise((later) => setTimeout(later));
          removeEventListener('unhandledrejection', hear);
          return { reasons, unheard, last: [...y[1].data] };
        }""",
        api.put("sequence.onnx", made),
    )
    assert got == {"reasons": ["disposed", "detached"], "unheard": [], "last": [5, 6]}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_session_released_under_its_runs(api: Api, backend: str) -> None:
    """Each run is answered or refused with a typed error, none hangs; another session does not notice."""
    got = api.run(
        """async ({ path, backend }) => {
          const options = { executionProviders: [backend] };
          const before = await there();
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
            sum, twice: twice === undefined, left: await more(before) };
        }""",
        {"path": api.put("two.onnx", two_outputs(["n"])), "backend": backend},
    )
    for end, n in zip(got["ends"], (2, 2, 5, 2), strict=True):
        assert end == [3] * n or end == "SESSION", got["ends"]
    assert (got["after"], got["sum"], got["twice"]) == ("SESSION", [3, 3, 3], True)
    assert got["left"] == []
