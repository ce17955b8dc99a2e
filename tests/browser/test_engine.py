"""The engine through EngineClient: plans run right on one thread, on several, on shared memory and not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nnjit.codegen.wasm.module import kernel_function

from .engine_plans import BEGIN, END, Toy, one_kernel, rotate_plan, scale, scale_plan

if TYPE_CHECKING:
    from playwright.sync_api import Page

RUN = """async ({ plan, threads, shared, feeds }) => {
  const client = await EngineClient.start({ threads });
  await client.createSession('s', { shared });
  const loaded = await client.loadPlan('s', revive(plan));
  const result = await client.run('s', plan.key, feeds.map(i32));
  const info = await client.memory();
  client.terminate();
  return { loaded, outputs: result.outputs.map(ints), ms: result.ms, info };
}"""

CASES = [(1, False), (1, True), (2, True), (4, True)]


@pytest.mark.parametrize(("threads", "shared"), CASES)
def test_steps_see_what_the_steps_before_them_wrote(engine: Page, threads: int, shared: bool) -> None:
    count, steps = 37, 50
    x = np.arange(count, dtype=np.int32) * 3
    arguments = {
        "plan": rotate_plan("p", shared, steps, count),
        "threads": threads,
        "shared": shared,
        "feeds": [x.tolist()],
    }
    result = engine.evaluate(RUN, arguments)
    np.testing.assert_array_equal(result["outputs"][0], np.roll(x, -steps) + steps)
    (session,) = result["info"]["sessions"]
    assert (session["threads"], session["shared"]) == (threads, shared)
    assert session["plans"] == ["p"] and session["bytes"] == result["loaded"]["bytes"]


@pytest.mark.parametrize(("calls", "most_ms", "slots"), [(300, 1e6, 1), (1 << 30, 0, 1), (300, 1e6, 0)])
def test_long_kernels_are_called_on_no_tiles_before_the_first_run(
    engine: Page, calls: int, most_ms: float, slots: int
) -> None:
    toy = Toy("p", True)
    seen = toy.tensor("seen", "int32", 1)
    b = kernel_function("calls_on_no_tiles")
    b.get(BEGIN)
    b.get(END)
    b.op("i32.eq")
    with b.if_():
        b.i32_const(seen["address"])
        b.i32_const(seen["address"])
        b.load("i32.load")
        b.i32_const(1)
        b.op("i32.add")
        b.store("i32.store")
    toy.step(toy.kernel(b), toy.args(seen["address"]), 1)
    toy.outputs.append(seen)
    plan = toy.plan()
    plan["rehearsal"] = {"slots": [plan["tableBase"]] * slots, "calls": calls, "mostMs": most_ms}
    result = engine.evaluate(RUN, {"plan": plan, "threads": 2, "shared": True, "feeds": []})
    # as often as said, but no longer than said: the clock is looked at every 64 calls
    assert result["outputs"][0][0] == (0 if not slots else 300 if most_ms else 64)


def test_ten_thousand_barriers_with_more_threads_than_cores(engine: Page) -> None:
    count, steps = 24, 10_000
    x = np.arange(count, dtype=np.int32)
    plan = rotate_plan("p", True, steps, count)
    result = engine.evaluate(RUN, {"plan": plan, "threads": 3, "shared": True, "feeds": [x.tolist()]})
    np.testing.assert_array_equal(result["outputs"][0], np.roll(x, -steps) + steps)


def test_threads_asked_for_and_features(engine: Page) -> None:
    info: Any = engine.evaluate("""async () => {
      const client = await EngineClient.start({ threads: 2 });
      const { info } = client;
      client.terminate();
      return info;
    }""")
    assert info["isolated"] and info["sharedMemory"] and info["threads"] == 2
    assert info["simd"] and info["relaxed"] and info["wasmThreads"]  # the browser of the tests has them
    assert 0 < info["clockGrainMs"] < 0.1 and info["hardwareConcurrency"] >= 1


def test_two_sessions_and_two_plans_each_do_not_disturb_each_other(engine: Page) -> None:
    plans = [
        scale_plan("double", True, [2.0]),
        scale_plan("six", True, [2.0, 3.0], base=65536, table_base=1),
    ]
    outputs = engine.evaluate(
        """async (plans) => {
          const client = await EngineClient.start({ threads: 2 });
          const x = Float32Array.from({ length: 256 }, (_, i) => i);
          for (const id of ['a', 'b']) {
            await client.createSession(id, { threads: id === 'a' ? 2 : 1 });
            for (const plan of plans) await client.loadPlan(id, revive(plan));
          }
          const runs = [];
          for (let i = 0; i < 20; i++) {
            for (const id of ['a', 'b']) {
              for (const { key } of plans) runs.push(client.run(id, key, [x.map((v) => v + i)]));
            }
          }
          const results = (await Promise.all(runs)).map(({ outputs }) => floats(outputs[0]));
          await client.dropPlan('a', 'double');
          const gone = await failure(client.run('a', 'double', [x]));
          const kept = floats((await client.run('a', 'six', [x])).outputs[0]);
          await client.releaseSession('b');
          const none = await failure(client.run('b', 'six', [x]));
          const still = floats((await client.run('a', 'six', [x])).outputs[0]);
          client.terminate();
          return { results, gone, kept, none, still };
        }""",
        plans,
    )
    x = np.arange(256, dtype=np.float32)
    for i, result in enumerate(outputs["results"]):
        np.testing.assert_array_equal(result, (x + i // 4) * (6 if i % 2 else 2))
    assert outputs["gone"]["code"] == "UNKNOWN_PLAN" and outputs["none"]["code"] == "UNKNOWN_SESSION"
    np.testing.assert_array_equal(outputs["kept"], x * 6)
    np.testing.assert_array_equal(outputs["still"], x * 6)


def test_only_the_outputs_asked_for_come_back_in_that_order(engine: Page) -> None:
    plan = scale_plan("p", False, [2.0], count=16)
    plan["outputs"] += [{**plan["inputs"][0], "name": "echo"}]
    echo_first, named_wrong = engine.evaluate(
        """async (plan) => {
          const client = await EngineClient.start({ threads: 1 });
          await client.createSession('s', { shared: false });
          await client.loadPlan('s', revive(plan));
          const x = Float32Array.from({ length: 40 }, (_, i) => i).subarray(8, 24);
          const { outputs } = await client.run('s', 'p', [x], { fetch: ['echo', 'y'] });
          const wrong = await failure(client.run('s', 'p', [x], { fetch: ['z'] }));
          const alone = outputs.every((o) => o.byteLength === o.buffer.byteLength);
          client.terminate();
          return [{ values: outputs.map(floats), alone, kept: x.length }, wrong];
        }""",
        plan,
    )
    x = np.arange(8, 24, dtype=np.float32)
    np.testing.assert_array_equal(echo_first["values"], [x, 2 * x])
    assert echo_first["alone"] and echo_first["kept"] == 16
    assert named_wrong["code"] == "BAD_FEED" and "z" in named_wrong["message"]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_swapped_slot_runs_in_every_thread_and_can_be_put_back(engine: Page, threads: int) -> None:
    plan = scale_plan("p", True, [2.0, 3.0])
    kernel = one_kernel(scale("other", 10.0, 16), True)
    before, swapped, back, wrong = engine.evaluate(
        """async ({ plan, kernel, threads }) => {
          const client = await EngineClient.start({ threads });
          await client.createSession('s');
          await client.loadPlan('s', revive(plan));
          const x = new Float32Array(256).fill(1);
          const run = async () => floats((await client.run('s', 'p', [x])).outputs[0]);
          const { slot } = plan.steps[0];
          const before = run();
          client.swapSlot('s', 'p', slot, revive(kernel));
          const swapped = run();
          client.swapSlot('s', 'p', slot, revive(kernel));
          client.swapSlot('s', 'p', slot, null);
          const back = run();
          const wrong = failure(client.swapSlot('s', 'p', 99, revive(kernel)));
          const all = await Promise.all([before, swapped, back, wrong]);
          client.terminate();
          return all;
        }""",
        {"plan": plan, "kernel": kernel, "threads": threads},
    )
    assert set(before) == {6.0} and set(swapped) == {30.0} and set(back) == {6.0}
    assert wrong["code"] == "BAD_PLAN"


def test_memory_is_read_back_and_feeds_are_checked(engine: Page) -> None:
    plan = scale_plan("p", True, [2.0], count=16)
    read, bad = engine.evaluate(
        """async (plan) => {
          const client = await EngineClient.start({ threads: 2 });
          await client.createSession('s');
          await client.loadPlan('s', revive(plan));
          const x = Float32Array.from({ length: 16 }, (_, i) => i);
          await client.run('s', 'p', [x]);
          const read = floats(await client.readMemory('s', plan.inputs[0].address, 64));
          const bad = [
            await failure(client.run('s', 'p', [x.subarray(1)])),
            await failure(client.run('s', 'p', [])),
            await failure(client.run('s', 'nothing', [x])),
            await failure(client.createSession('s')),
            await failure(client.loadPlan('s', revive(plan))),
            await failure(client.readMemory('s', 2 ** 31, 4)),
          ];
          client.terminate();
          return [read, bad];
        }""",
        plan,
    )
    np.testing.assert_array_equal(read, np.arange(16))
    assert [error["code"] for error in bad] == [
        "BAD_FEED", "BAD_FEED", "UNKNOWN_PLAN", "DUPLICATE_SESSION", "DUPLICATE_PLAN", "BAD_PLAN",
    ]  # fmt: skip
    assert all(error["typed"] for error in bad)
    assert bad[0]["fields"] == {"name": "x", "expected": 64, "got": 60}
