"""Feeds and outputs, copied by the caller where memory is shared: order, places to fill, growth, no leftovers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from .engine_plans import PAGE, one_kernel, scale, scale_plan

if TYPE_CHECKING:
    from playwright.sync_api import Page

KINDS = pytest.mark.parametrize(("threads", "shared"), [(1, False), (1, True), (2, True)])


@KINDS
def test_a_feed_is_taken_when_the_run_is_asked_for(engine: Page, threads: int, shared: bool) -> None:
    """One array, changed after each call, without waiting for any of them."""
    results, ordinary = engine.evaluate(
        """async ({ plan, threads, shared }) => {
          const client = await EngineClient.start({ threads });
          await client.createSession('s', { shared });
          await client.loadPlan('s', revive(plan));
          const x = new Float32Array(256);
          const runs = [];
          for (let i = 0; i < 20; i++) {
            runs.push(client.run('s', 'p', [x.fill(i)]));
            x.fill(-1);
          }
          const outputs = (await Promise.all(runs)).map((run) => run.outputs[0]);
          client.terminate();
          const ordinary = outputs.every(({ buffer, byteLength }) =>
            buffer instanceof ArrayBuffer && buffer.byteLength === byteLength);
          return [outputs.map((output) => [...new Set(floats(output))]), ordinary];
        }""",
        {"plan": scale_plan("p", shared, [2.0]), "threads": threads, "shared": shared},
    )
    # The first goes into the memory at once or is copied on the way; the others have to wait.
    assert results == [[2.0 * i] for i in range(20)] and ordinary


@KINDS
def test_outputs_go_where_the_caller_wants_them(engine: Page, threads: int, shared: bool) -> None:
    plan = scale_plan("p", shared, [2.0], count=16)
    plan["outputs"] += [{**plan["inputs"][0], "name": "echo"}]
    got = engine.evaluate(
        """async ({ plan, threads, shared }) => {
          const client = await EngineClient.start({ threads });
          await client.createSession('s', { shared });
          await client.loadPlan('s', revive(plan));
          const x = Float32Array.from({ length: 16 }, (_, i) => i + 1);
          const mine = new Float32Array(20);
          const part = mine.subarray(2, 18);
          const { outputs } = await client.run('s', 'p', [x], { into: [part, null] });
          const same = outputs[0].buffer === mine.buffer;
          const onto = await client.run('s', 'p', [x], { fetch: ['y'], into: [x] });
          const wrong = await failure(client.run('s', 'p', [x], { into: [mine] }));
          const after = floats((await client.run('s', 'p', [x], { fetch: ['y'] })).outputs[0]);
          client.terminate();
          return { mine: [...mine], echo: floats(outputs[1]), same, x: [...x], wrong, after };
        }""",
        {"plan": plan, "threads": threads, "shared": shared},
    )
    x = np.arange(1, 17, dtype=np.float32)
    np.testing.assert_array_equal(got["mine"], [0, 0, *(2 * x), 0, 0])
    np.testing.assert_array_equal(got["echo"], x)
    np.testing.assert_array_equal(got["x"], 2 * x)
    np.testing.assert_array_equal(got["after"], 4 * x)
    assert got["same"]
    assert got["wrong"]["code"] == "BAD_FEED"
    assert (got["wrong"]["fields"]["expected"], got["wrong"]["fields"]["got"]) == (64, 80)


@KINDS
def test_everything_at_once_is_done_in_order(engine: Page, threads: int, shared: bool) -> None:
    """Loads that grow the memory, swaps, profiles and timings between runs, none of them waited for."""
    small = scale_plan("p", shared, [2.0])
    high = scale_plan("high", shared, [5.0], base=40 * PAGE, table_base=1)
    got = engine.evaluate(
        """async ({ small, high, kernel, threads, shared }) => {
          const client = await EngineClient.start({ threads });
          const x = new Float32Array(256);
          const results = [];
          const run = (key, value) => {
            const call = client.run('s', key, [x.fill(value)]);
            results.push(call.then(({ outputs }) => [...new Set(floats(outputs[0]))]));
          };
          client.createSession('s', { shared });
          client.loadPlan('s', revive(small));
          run('p', 1);
          client.loadPlan('s', revive(high));
          run('high', 2);
          run('p', 3);
          client.swapSlot('s', 'p', small.steps[0].slot, revive(kernel));
          run('p', 4);
          client.profile('s', 'p', [x.fill(99)], 2);
          run('high', 5);
          client.timeSlot('s', 'p', 0, { reps: 2, warmupMs: 1 });
          client.swapSlot('s', 'p', small.steps[0].slot, null);
          run('p', 6);
          const input = client.readMemory('s', small.inputs[0].address, 4);
          client.dropPlan('s', 'high');
          const dropped = failure(client.run('s', 'high', [x]));
          client.releaseSession('s');
          const gone = failure(client.run('s', 'p', [x]));
          client.createSession('s', { shared });
          client.loadPlan('s', revive(small));
          run('p', 7);
          const codes = [(await dropped).code, (await gone).code];
          const values = await Promise.all(results);
          const { sessions } = await client.memory();
          client.terminate();
          return { values, codes, input: floats(await input), sessions: sessions.length };
        }""",
        {
            "small": small,
            "high": high,
            "kernel": one_kernel(scale("other", 10.0, 16), shared),
            "threads": threads,
            "shared": shared,
        },
    )
    assert got["values"] == [[2], [10], [6], [40], [25], [12], [14]]
    assert got["codes"] == ["UNKNOWN_PLAN", "UNKNOWN_SESSION"]
    assert got["input"] == [6.0] and got["sessions"] == 1


def test_a_waiting_run_can_be_cancelled_and_the_next_goes_on(engine: Page) -> None:
    got = engine.evaluate(
        """async (plan) => {
          const client = await EngineClient.start({ threads: 2 });
          await client.createSession('s');
          await client.loadPlan('s', revive(plan));
          const x = new Float32Array(256);
          const controller = new AbortController();
          const { signal } = controller;
          const first = client.run('s', 'p', [x.fill(1)]);
          const second = failure(client.run('s', 'p', [x.fill(2)], { signal }));
          const third = client.run('s', 'p', [x.fill(3)]);
          controller.abort();
          const wrong = failure(client.run('s', 'p', [x.subarray(1)]));
          const last = client.run('s', 'p', [x.fill(4)]);
          const codes = [(await second).code, (await wrong).code];
          const values = (await Promise.all([first, third, last])).map(({ outputs }) => floats(outputs[0])[0]);
          client.terminate();
          const dead = await failure(client.run('s', 'p', [x]));
          return { codes, values, dead: dead.code };
        }""",
        scale_plan("p", True, [2.0]),
    )
    assert got == {"codes": ["ABORTED", "BAD_FEED"], "values": [2, 6, 8], "dead": "ENGINE_DIED"}


def test_an_engine_that_ends_rejects_those_in_the_line(engine: Page) -> None:
    codes = engine.evaluate(
        """async (plan) => {
          const client = await EngineClient.start({ threads: 2 });
          await client.createSession('s');
          await client.loadPlan('s', revive(plan));
          const runs = [1, 2, 3].map(() => failure(client.run('s', 'p', [new Float32Array(256)])));
          client.terminate();
          return (await Promise.all(runs)).map(({ code }) => code);
        }""",
        scale_plan("p", True, [2.0]),
    )
    assert codes == ["ENGINE_DIED"] * 3
