"""Clocks: slots timed by themselves, steps of a run, and the arithmetic underneath."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.sync_api import Page

from nnjit.codegen.wasm.listing import listing

from .engine_plans import Toy, one_kernel, rotate_add, scale_plan, spin, trap_at


@pytest.mark.parametrize("threads", [1, 2])
def test_a_slot_is_timed_and_a_candidate_in_its_place(engine: Page, threads: int) -> None:
    """The candidate does ten times the work; the slot keeps its own kernel. One call takes many grains of the clock."""
    toy = Toy("p", True)
    out = toy.tensor("out", "int32", 1)
    toy.step(toy.kernel(spin("spin", 20_001)), toy.args(out["address"]), 64)
    toy.outputs.append(out)
    base, slower, value, trapped, after = engine.evaluate(
        """async ({ plan, slow, bad, threads }) => {
          const client = await EngineClient.start({ threads });
          await client.createSession('s');
          await client.loadPlan('s', revive(plan));
          const time = (moduleBytes) => client.timeSlot('s', 'p', 0, { reps: 5, moduleBytes });
          const base = await time();
          const slower = await time(revive(slow));
          const value = ints((await client.run('s', 'p', [])).outputs[0])[0];
          const trapped = await failure(time(revive(bad)));
          const after = ints((await client.run('s', 'p', [])).outputs[0])[0];
          client.terminate();
          return [base, slower, value, trapped, after];
        }""",
        {
            "plan": toy.plan(),
            "slow": one_kernel(spin("slow", 200_001), True),
            "bad": one_kernel(trap_at("bad", 63, "unreachable"), True),
            "threads": threads,
        },
    )
    assert base["threads"] == threads and len(base["samples"]) == 5
    assert base["min"] <= base["median"] <= base["max"]
    assert base["median"] * base["inner"] > 20 * base["grainMs"]  # the clock's grain does not show
    assert slower["min"] > 2 * base["min"]  # ten times the work; other work on the machine only adds
    assert value == after == 20_001
    assert trapped["code"] == "KERNEL_TRAP" and trapped["fields"]["step"] == 0


def test_a_profile_has_each_step_on_each_thread(engine: Page) -> None:
    toy = Toy("p", True)
    out = toy.tensor("out", "int32", 1)
    args = toy.args(out["address"])
    short, long = toy.kernel(spin("short", 1_000)), toy.kernel(spin("long", 100_000))
    toy.step(short, args, 64)
    toy.step(long, args, 64)
    toy.step(long, args, 64, parallel=False)
    toy.outputs.append(out)
    profile = engine.evaluate(
        """async (plan) => {
          const client = await EngineClient.start({ threads: 2 });
          await client.createSession('s');
          await client.loadPlan('s', revive(plan));
          await client.profile('s', 'p', [], 2);
          const profile = await client.profile('s', 'p', [], 9);
          client.terminate();
          return profile;
        }""",
        toy.plan(),
    )
    assert [step["step"] for step in profile["steps"]] == [0, 1, 2]
    assert all(len(step["ms"]) == len(step["mean"]) == 2 for step in profile["steps"])
    first, second, serial = (step["ms"] for step in profile["steps"])
    # A hundred and two hundred times the work. Thread 0 sees a whole step, another one may come late to it;
    # of the short one the least of two threads, because the machine may be busy.
    assert second[0] > 5 * min(first) and serial[0] > 10 * min(first)
    assert serial[1] == 0  # thread 0 does all of a serial step
    assert profile["runMs"] > 5 * min(first) and [s["kind"] for s in profile["segments"]] == ["wasm"]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_loop_is_done_in_turn_by_runs_and_step_by_step(engine: Page, threads: int) -> None:
    """states[t + 1] is states[t] turned by two places, plus 11: one step makes half of it, the other the rest."""
    n, times = 96, 7
    toy = Toy("p", True)
    states = toy.tensor("states", "int32", n * (times + 1))
    half = toy.room(4 * n)
    rows = [states["address"] + 4 * n * t for t in range(times + 1)]
    there = toy.args(*(a for t in range(times) for a in (rows[t], half)))
    back = toy.args(*(a for t in range(times) for a in (half, rows[t + 1])))
    one, ten = toy.kernel(rotate_add("one", n, 1)), toy.kernel(rotate_add("ten", n, 10))
    toy.step(one, there, n, loop=1, times=times, advance=8)
    toy.step(ten, back, n, loop=1, times=times, advance=8)
    toy.inputs.append({**states, "name": "x"})
    toy.outputs.append(states)
    feed = np.zeros((times + 1, n), np.int32)
    feed[0] = np.arange(n)
    results = engine.evaluate(
        """async ([plan, feed, threads]) => {
          const client = await EngineClient.start({ threads });
          await client.createSession('s');
          await client.loadPlan('s', revive(plan));
          const run = async () => [...ints((await client.run('s', 'p', [Int32Array.from(feed)])).outputs[0])];
          const plain = await run();
          const coming = client.survey('s', 'p');
          const surveyed = await run();
          const steps = (await coming).map(({ step }) => step);
          const profile = await client.profile('s', 'p', [Int32Array.from(feed)], 2);
          client.terminate();
          return { plain, surveyed, steps, profiled: profile.steps.map(({ step }) => step) };
        }""",
        [toy.plan(), feed.reshape(-1).tolist(), threads],
    )
    expected = (
        np.stack([np.roll(np.arange(n), -2 * t) + 11 * t for t in range(times + 1)]).reshape(-1).tolist()
    )
    assert results["plain"] == results["surveyed"] == expected
    assert results["steps"] == results["profiled"] == [0, 1]


def test_a_run_tells_its_time(engine: Page) -> None:
    ms, segments, wall = engine.evaluate(
        """async (plan) => {
          const client = await EngineClient.start({ threads: 2 });
          await client.createSession('s');
          await client.loadPlan('s', revive(plan));
          const start = performance.now();
          const { ms, segments } = await client.run('s', 'p', [new Float32Array(1 << 20)]);
          const wall = performance.now() - start;
          client.terminate();
          return [ms, segments, wall];
        }""",
        scale_plan("p", True, [2.0, 2.0], count=1 << 20, tile=1024),
    )
    assert 0 < segments[0]["ms"] <= ms <= wall


def test_median_mean_and_repeat_counts(engine: Page) -> None:
    result = engine.evaluate("""async () => {
      const { median, mean, callsPerSample } = await import('/engine/measure.js');
      return [median([3, 1, 2]), median([4, 1, 2, 3]), median([5]), mean([1, 2, 6]),
        callsPerSample(0.5, 0.005), callsPerSample(0.001, 0.005), callsPerSample(0, 0.1),
        callsPerSample(9, 0.1)];
    }""")
    np.testing.assert_allclose(result, [2, 2.5, 5, 3, 1, 500, 1 << 20, 2])


def test_feature_probes_try_the_instruction_they_are_about(engine: Page) -> None:
    probes = engine.evaluate("""async () => {
      const { hasSimd, hasRelaxedSimd, hasWasmThreads } = await import('/engine/features.js');
      const { validate } = WebAssembly;
      const found = [];
      for (const probe of [hasSimd, hasRelaxedSimd, hasWasmThreads]) {
        WebAssembly.validate = (bytes) => {
          found.push([...bytes]);
          return validate.call(WebAssembly, bytes);
        };
        found.push(probe());
        WebAssembly.validate = validate;
      }
      return found;
    }""")
    assert probes[1::2] == [True] * 3
    names = ["v128.const", "f32x4.relaxed_madd", "i32.atomic.load"]
    for data, name in zip(probes[::2], names, strict=True):
        assert name in listing(bytes(data))
