"""Segments that the host computes: values leave memory and return, or stay outside; sessions interleave."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from .engine_page import engine_page, serve
from .engine_plans import Toy, rotate_add, scale_plan

# A host on the page: `calls` maps a call's name to a function of the inputs, which gives the outputs.
HOST = """() => {
  window.seen = [];
  // held: answers wait for it
  window.host = (calls, held = null) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = async ({ data: { id, session, plan, call, inputs } }) => {
      const shapes = inputs.map(({ name, type, dims }) => ({ name, type, dims }));
      seen.push({ session, plan, call, inputs: shapes });
      await held;
      try {
        port1.postMessage({ id, outputs: calls[call](inputs) });
      } catch (error) {
        port1.postMessage({ id, error: { code: 'REFERENCE', message: error.message, fields: { call } } });
      }
    };
    return port2;
  };
}"""


def host_plan(shared: bool) -> dict[str, Any]:
    """a -> +1 (kernel) -> 'words' (host) -> 'lengths' (host, with the fed strings) -> +1 (kernel)."""
    n = 8
    toy = Toy("p", shared)
    a, b, c, d = (toy.tensor(name, "int32", n) for name in "abcd")
    words = {"name": "words", "type": "string", "host": True}
    fed = {"name": "fed", "type": "string", "host": True}
    table = {"name": "table", "type": "uint8", "host": True}
    slot = toy.kernel(rotate_add("rotate", n, 1))
    toy.step(slot, toy.args(a["address"], b["address"]), n)
    toy.step(slot, toy.args(c["address"], d["address"]), n)
    toy.init.append({"kind": "host", "call": "once", "inputs": [], "outputs": [table]})
    toy.wasm(0, 1)
    toy.host("words", [b, table], [words])
    toy.host("lengths", [words, fed], [c])
    toy.wasm(1, 2)
    toy.inputs += [a, fed]
    toy.outputs += [d, words]
    return toy.plan()


@pytest.mark.parametrize(("threads", "shared"), [(1, False), (2, True)])
def test_host_segments_between_kernels(engine: Page, threads: int, shared: bool) -> None:
    engine.evaluate(HOST)
    result = engine.evaluate(
        """async ({ plan, threads, shared }) => {
          const client = await EngineClient.start({ threads });
          await client.createSession('s', { shared });
          const none = await failure(client.loadPlan('s', revive(plan)));
          await client.connectHost(host({
            once: () => [{ type: 'uint8', dims: [1], data: new Uint8Array([45]) }],
            words: ([b, table]) => [{ type: 'string', dims: [8],
              data: ints(b.data).map((v) => String.fromCharCode(table.data[0]).repeat(v)) }],
            lengths: ([words, fed]) => [{ type: 'int32', dims: [8],
              data: i32(words.data.map((w, i) => w.length * 10 + fed.data[i].length)).buffer }],
          }));
          await client.loadPlan('s', revive(plan));
          const fed = { type: 'string', dims: [8], data: ['', 'a', 'bb', 'ccc', '', '', '', 'x'] };
          const run = () => client.run('s', 'p', [i32([0, 1, 2, 3, 4, 5, 6, 7]), fed]);
          const { outputs, segments } = await run();
          const again = await run();
          client.terminate();
          const [d, words] = [ints(outputs[0]), outputs[1]];
          const kinds = segments.map(({ kind }) => kind);
          return { none, d, words, kinds, seen, again: ints(again.outputs[0]) };
        }""",
        {"plan": host_plan(shared), "threads": threads, "shared": shared},
    )
    assert result["none"]["code"] == "NO_HOST" and result["none"]["fields"]["call"] == "once"
    b = np.roll(np.arange(8), -1) + 1
    c = b * 10 + np.array([0, 1, 2, 3, 0, 0, 0, 1])
    np.testing.assert_array_equal(result["d"], np.roll(c, -1) + 1)
    assert result["again"] == result["d"]
    assert result["words"] == {"type": "string", "dims": [8], "data": ["-" * v for v in b]}
    assert result["kinds"] == ["wasm", "host", "host", "wasm"]
    assert [call["call"] for call in result["seen"]] == ["once", "words", "lengths", "words", "lengths"]
    assert result["seen"][1]["inputs"] == [
        {"name": "b", "type": "int32", "dims": [8]},
        {"name": "table", "type": "uint8", "dims": [1]},
    ]


def test_a_host_that_fails_or_is_replaced_rejects_that_run_only(engine: Page) -> None:
    engine.evaluate(HOST)
    toy = Toy("p", True)
    out = toy.tensor("out", "int32", 2)
    toy.step(toy.kernel(rotate_add("rotate", 2, 1)), toy.args(out["address"], out["address"]), 2)
    toy.host("f", [], [out])
    toy.outputs.append(out)
    result = engine.evaluate(
        """async (plan) => {
          const client = await EngineClient.start({ threads: 2 });
          await client.createSession('s');
          await client.loadPlan('s', revive(plan));
          const run = (options) => client.run('s', 'p', [], options);
          await client.connectHost(host({ f: () => { throw new Error('no such node'); } }));
          const failed = await failure(run());
          await client.connectHost(host({ f: () => [{ type: 'int32', dims: [1], data: i32([1]) }] }));
          const short = await failure(run());
          await client.connectHost(host({ f: () => [] }));
          const fewer = await failure(run());
          await client.connectHost(host({ f: () => [] }, new Promise(() => undefined)));
          const controller = new AbortController();
          const asked = seen.length;
          const aborted = failure(run({ signal: controller.signal }));
          await until(() => seen.length > asked); // the host has the call, and does not answer
          controller.abort();
          const gone = await aborted;
          const stuck = failure(run());
          await until(() => seen.length > asked + 1);
          await client.connectHost(host({ f: () => [{ type: 'int32', dims: [2], data: i32([7, 8]) }] }));
          const replaced = await stuck;
          const fine = ints((await run()).outputs[0]);
          client.terminate();
          return { failed, short, fewer, gone, replaced, fine };
        }""",
        toy.plan(),
    )
    assert result["failed"]["code"] == "REFERENCE" and result["failed"]["fields"] == {"call": "f"}
    assert (
        result["short"]["code"] == result["fewer"]["code"] == result["replaced"]["code"] == "HOST_CALL_FAILED"
    )
    assert "out" in result["short"]["message"] and result["gone"]["code"] == "ABORTED"
    assert result["fine"] == [7, 8]


def test_a_session_that_waits_for_the_host_holds_up_no_other(engine: Page) -> None:
    engine.evaluate(HOST)
    toy = Toy("p", True)
    out = toy.tensor("out", "int32", 2)
    toy.step(toy.kernel(rotate_add("rotate", 2, 1)), toy.args(out["address"], out["address"]), 2)
    toy.host("f", [], [out])
    order = engine.evaluate(
        """async ([slow, quick]) => {
          const client = await EngineClient.start({ threads: 2 });
          let answer;
          const held = new Promise((resolve) => { answer = resolve; });
          await client.connectHost(host({ f: () => [{ type: 'int32', dims: [2], data: i32([7, 8]) }] }, held));
          await client.createSession('slow');
          await client.createSession('quick');
          await client.loadPlan('slow', revive(slow));
          await client.loadPlan('quick', revive(quick));
          const order = [];
          const x = new Float32Array(256);
          const late = [1, 2].map(() => client.run('slow', 'p', []).then(() => order.push('slow')));
          await until(() => seen.length); // and the host does not answer
          const early = Array.from({ length: 3 }, () => client.run('quick', 'p', [x]).then(() => order.push('quick')));
          await inTime(Promise.all(early), undefined, 60);
          answer();
          await Promise.all(late);
          client.terminate();
          return order;
        }""",
        [toy.plan(), scale_plan("p", True, [2.0])],
    )
    assert order == ["quick"] * 3 + ["slow"] * 2


def test_without_isolation_there_is_one_thread_and_all_else_works(browser: Browser) -> None:
    with serve(isolated=False) as origin, engine_page(browser, origin) as page:
        page.evaluate(HOST)
        result = page.evaluate(
            """async ([plan, scale]) => {
              const client = await EngineClient.start({ threads: 4 });
              const wrong = await failure(client.createSession('t', { shared: true }));
              const made = await client.createSession('s');
              await client.connectHost(host({
                once: () => [{ type: 'string', dims: [1], data: ['-'] }],
                words: () => [{ type: 'string', dims: [8], data: [] }],
                lengths: ([, { data }]) =>
                  [{ type: 'int32', dims: [8], data: i32(data.map((word) => word.length)) }],
              }));
              await client.loadPlan('s', revive(plan));
              await client.loadPlan('s', revive(scale));
              const fed = { type: 'string', dims: [8], data: ['', 'a', 'bb', 'ccc', '', '', '', 'x'] };
              const { outputs } = await client.run('s', 'p', [i32([0, 1, 2, 3, 4, 5, 6, 7]), fed]);
              const timed = await client.timeSlot('s', 'scale', 0, { reps: 3, warmupMs: 5 });
              const { info } = client;
              client.terminate();
              return { info, made, wrong, d: ints(outputs[0]), timed };
            }""",
            [host_plan(False), scale_plan("scale", False, [2.0], base=65536, table_base=1)],
        )
    assert result["info"]["isolated"] is False and result["info"]["sharedMemory"] is False
    assert result["info"]["threads"] == 1 and result["info"]["simd"]
    assert result["made"]["shared"] is False and result["made"]["threads"] == 1
    assert result["wrong"]["code"] == "BAD_PLAN"
    np.testing.assert_array_equal(result["d"], np.roll([0, 1, 2, 3, 0, 0, 0, 1], -1) + 1)
    assert result["timed"]["threads"] == 1 and result["timed"]["median"] > 0
