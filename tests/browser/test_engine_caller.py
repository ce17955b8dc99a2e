"""Short plans on the caller's own thread: the same results, order, swaps, traps and limits as in the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nnjit.runtime.shares import CALLER_FRESH_MS, CALLER_PATIENCE_MS, CALLER_STREAK_MS, CALLER_TRIES

from .engine_plans import PAGE, Toy, one_kernel, rotate_add, rotate_plan, scale, scale_plan, spin, trap_plan

if TYPE_CHECKING:
    from playwright.sync_api import Page

JUDGED = {"callerFreshMs": CALLER_FRESH_MS, "callerTries": CALLER_TRIES, "callerPatienceMs": CALLER_PATIENCE_MS,
          "callerStreakMs": CALLER_STREAK_MS}  # fmt: skip
THREADS = pytest.mark.parametrize("threads", [1, 2, 3])

START = """async ({ plan, threads = 2, runOn = 'auto' }) => {
  window.client = await EngineClient.start({ threads });
  await client.createSession('s', { runOn });
  if (plan) await client.loadPlan('s', revive(plan));
}"""


def started(page: Page, plan: dict[str, Any] | None, threads: int = 2, **options: Any) -> None:
    """One session 's' with one plan that the caller's thread may run for a minute, if the plan does not say else."""
    given = None if plan is None else {"callerMs": 60_000, **JUDGED, **plan}
    page.evaluate(START, {"plan": given, "threads": threads, **options})


@THREADS
def test_the_first_run_is_the_engines_the_others_are_the_callers(engine: Page, threads: int) -> None:
    started(engine, scale_plan("p", True, [2.0, 1.5]), threads)
    first, rest, kept = engine.evaluate(
        """async () => {
          const x = new Float32Array(256);
          const runs = [];
          for (let i = 0; i < 20; i++) runs.push(await client.run('s', 'p', [x.fill(i)]));
          client.terminate();
          return [runs[0].caller ?? false, runs.slice(1).map((run) => run.caller ?? false),
            runs.map((run) => [...new Set(floats(run.outputs[0]))])];
        }"""
    )
    assert not first and all(rest)
    assert kept == [[3.0 * i] for i in range(20)], "outputs stay what they are after later runs"


@THREADS
def test_steps_keep_their_order_when_the_caller_leads(engine: Page, threads: int) -> None:
    steps, count = 100, 60
    started(engine, rotate_plan("r", True, steps, count), threads)
    outputs, callers = engine.evaluate(
        """async (count) => {
          const x = i32(Array.from({ length: count }, (_, i) => i));
          const outputs = [];
          let callers = 0;
          for (let i = 0; i < 300; i++) {
            const run = await client.run('s', 'r', [x]);
            callers += run.caller ? 1 : 0;
            outputs.push(ints(run.outputs[0]).join());
            // now and then the threads have gone to sleep; else they may come late to a run that is the same again
            if (i % 40 === 39) await new Promise((resolve) => { setTimeout(resolve, 3); });
          }
          client.terminate();
          return [[...new Set(outputs)], callers];
        }""",
        count,
    )
    expected = np.roll(np.arange(count), -steps) + steps
    assert outputs == [",".join(map(str, expected))] and callers == 299


def test_all_at_once_is_done_in_order_with_feeds_as_they_were(engine: Page) -> None:
    """Runs, loads that grow the memory, swaps and timings between them, none of them waited for."""
    started(engine, scale_plan("p", True, [2.0]))
    high = scale_plan("high", True, [5.0], base=40 * PAGE, table_base=1)
    got = engine.evaluate(
        """async ({ high, other }) => {
          const x = new Float32Array(256);
          await client.run('s', 'p', [x]);
          const asked = [];
          const run = (key) => { asked.push(client.run('s', key, [x])); x.fill(-1); };
          x.fill(1); run('p');
          x.fill(2); run('p');
          const swap = client.swapSlot('s', 'p', 0, revive(other));
          x.fill(3); run('p');
          const timing = client.timeSlot('s', 'p', 0, { reps: 2, warmupMs: 1 });
          x.fill(4); run('p');
          const load = client.loadPlan('s', revive({ ...high, callerMs: 1000 }));
          x.fill(5); run('high');
          x.fill(6); run('high');
          const back = client.swapSlot('s', 'p', 0, null);
          x.fill(7); run('p');
          const release = client.releaseSession('s');
          const late = failure(client.run('s', 'p', [x]));
          const runs = await Promise.all(asked);
          await Promise.all([swap, timing, load, back, release]);
          const { code } = await late;
          client.terminate();
          return [runs.map((r) => [...new Set(floats(r.outputs[0]))][0]), runs.map((r) => r.caller ?? false), code];
        }""",
        {"high": high, "other": one_kernel(scale("other", 10.0, 16), True)},
    )
    values, callers, late = got
    assert values == [2, 4, 30, 40, 25, 30, 14]
    assert callers == [True, True, True, True, False, True, True]
    assert late == "UNKNOWN_SESSION"


def test_outputs_go_where_the_caller_wants_them(engine: Page) -> None:
    started(engine, scale_plan("p", True, [2.0], count=16))
    got = engine.evaluate(
        """async () => {
          const x = Float32Array.from({ length: 16 }, (_, i) => i + 1);
          await client.run('s', 'p', [x]);
          const mine = new Float32Array(20);
          const { outputs, caller } = await client.run('s', 'p', [x], { into: [mine.subarray(2, 18)] });
          const errors = [
            await failure(client.run('s', 'p', [x], { into: [mine] })),
            await failure(client.run('s', 'p', [mine])),
            await failure(client.run('s', 'p', [x], { fetch: ['z'] })),
            await failure(client.run('s', 'p', [x], { signal: AbortSignal.abort() })),
          ];
          const after = await client.run('s', 'p', [x]);
          client.terminate();
          return { mine: [...mine], same: outputs[0].buffer === mine.buffer, caller, codes: errors.map((e) => e.code),
            after: floats(after.outputs[0]), again: after.caller };
        }"""
    )
    x = np.arange(1, 17, dtype=np.float32)
    np.testing.assert_array_equal(got["mine"], [0, 0, *(2 * x), 0, 0])
    np.testing.assert_array_equal(got["after"], 2 * x)
    assert got["same"] and got["caller"] and got["again"]
    assert got["codes"] == ["BAD_FEED", "BAD_FEED", "BAD_FEED", "ABORTED"]


@pytest.mark.parametrize("how", ["unreachable", "bounds"])
@pytest.mark.parametrize("tile", [0, 7])
@THREADS
def test_a_trap_names_its_step_and_leaves_the_session_usable(
    engine: Page, threads: int, tile: int, how: Any
) -> None:
    started(engine, trap_plan("trap", True, tile, 8, how), threads)
    result = engine.evaluate(
        """async () => {
          const x = i32(Array.from({ length: 8 }, (_, i) => i));
          const run = (flag) => client.run('s', 'trap', [i32([flag]), x]);
          await run(0);
          const traps = [];
          const fine = [];
          for (let i = 0; i < 3; i++) {
            traps.push(await failure(run(1)));
            fine.push(await run(0));
          }
          client.terminate();
          return { traps, fine: fine.map((r) => ints(r.outputs[0])), callers: fine.every((r) => r.caller) };
        }"""
    )
    for values in result["fine"]:
        np.testing.assert_array_equal(values, np.roll(np.arange(8), -2) + 2)
    assert result["callers"]
    for error in result["traps"]:
        assert error["code"] == "KERNEL_TRAP" and error["typed"]
        assert 0 <= error["fields"]["thread"] < threads
        assert how in error["fields"]["reason"]
        assert error["fields"]["name"] == "harmful" and error["fields"]["nodes"] == ["node_harmful"]


def test_the_team_serves_the_caller_and_the_engine_by_turns(engine: Page) -> None:
    """Two sessions: one times kernels in the engine on all threads, the other runs here, at the same time."""
    started(engine, rotate_plan("r", True, 40, 60))
    outputs, callers, timings = engine.evaluate(
        """async (plan) => {
          await client.createSession('t');
          await client.loadPlan('t', revive(plan));
          const x = i32(Array.from({ length: 60 }, (_, i) => i));
          await client.run('s', 'r', [x]);
          let over = false;
          let timings = 0;
          const timing = (async () => {
            while (!over) timings += (await client.timeSlot('t', 'p', 0, { reps: 3, warmupMs: 2 })).samples.length;
          })();
          const outputs = new Set();
          let callers = 0;
          const until = performance.now() + 60000;
          for (let rounds = 0; (rounds < 40 || callers <= 10 || timings < 6) && performance.now() < until; rounds++) {
            for (let i = 0; i < 5; i++) {
              const run = await client.run('s', 'r', [x]);
              callers += run.caller ? 1 : 0;
              outputs.add(ints(run.outputs[0]).join());
            }
            await new Promise((resolve) => { setTimeout(resolve); });
          }
          over = true;
          await timing;
          client.terminate();
          return [[...outputs], callers, timings];
        }""",
        scale_plan("p", True, [2.0], count=1 << 14),
    )
    assert outputs == [",".join(map(str, np.roll(np.arange(60), -40) + 40))]
    assert callers > 10 and timings >= 6


def test_a_plan_that_takes_too_long_goes_back_to_the_engine(engine: Page) -> None:
    """It stays there while its runs are long; it comes when they are short, and returns for good."""
    toy = Toy("p", True)
    out = toy.tensor("out", "int32", 1)
    toy.step(toy.kernel(spin("long", 20_000_000)), toy.args(out["address"]), 4, parallel=False)
    toy.outputs.append(out)
    started(engine, None, 1)
    kernels = {
        name: one_kernel(spin(name, turns), True) for name, turns in (("short", 1000), ("longer", 40_000_000))
    }
    callers, outputs = engine.evaluate(
        """async ({ plan, short, longer, judged }) => {
          // 80 million turns never take less than a millisecond; 4,000 take 3 us, and now and then perhaps more
          await client.loadPlan('s', revive({ ...plan, ...judged, callerMs: 1 }));
          const callers = [];
          const outputs = [];
          const run = async (most, until = null) => {
            const found = [];
            for (let i = 0; i < most && found.at(-1) !== until; i++) {
              const { caller, outputs: [turns] } = await client.run('s', 'p', []);
              found.push(caller ?? false);
              outputs.push(ints(turns)[0]);
            }
            callers.push(found);
          };
          await run(4);
          await client.swapSlot('s', 'p', 0, revive(short));
          await run(500, true);
          await client.swapSlot('s', 'p', 0, revive(longer));
          await run(100, false);
          await client.swapSlot('s', 'p', 0, revive(short));
          await run(4);
          client.terminate();
          return [callers, outputs];
        }""",
        {"plan": toy.plan(), "judged": JUDGED, **kernels},
    )
    slow, fast, slower, after = callers
    assert slow == [False] * 4 and fast[-1] and not slower[-1] and all(slower[:-1]) and after == [False] * 4
    assert outputs[0] == 20_000_000 and outputs[4] == 1000 and outputs[-1] == 1000


def test_who_runs_nothing_here(engine: Page) -> None:
    """A session that says so, a plan without a bound, one in an unshared memory too large for a copy."""
    started(engine, scale_plan("p", True, [2.0]), runOn="worker")
    callers = engine.evaluate(
        """async ({ plain, unshared }) => {
          const x = new Float32Array(256);
          const twice = async (id) => {
            await client.run(id, 'p', [x]);
            return (await client.run(id, 'p', [x])).caller ?? false;
          };
          await client.createSession('t');
          await client.loadPlan('t', revive(plain));
          await client.createSession('u', { shared: false });
          await client.loadPlan('u', revive({ ...unshared, callerMs: 1000 }));
          const callers = [await twice('s'), await twice('t'), await twice('u')];
          client.terminate();
          return callers;
        }""",
        {
            "plain": scale_plan("p", True, [2.0]),
            "unshared": {**scale_plan("p", False, [2.0]), "pages": 300},
        },
    )
    assert callers == [False, False, False]


def test_a_memory_that_is_not_shared_has_a_copy_here(engine: Page) -> None:
    """Constants and kernels that change later change in the copy too; a memory that outgrows it ends that."""
    toy = Toy("p", False)
    x, y = toy.tensor("x", "int32", 8), toy.tensor("y", "int32", 8)
    toy.step(toy.kernel(rotate_add("rotate", 8, 5)), toy.args(x["address"], y["address"]), 8)
    toy.inputs.append(x)
    toy.outputs.append(y)
    trap = trap_plan("trap", False, 3, 8, "unreachable")
    large = scale_plan("large", False, [2.0], base=300 * PAGE, table_base=3)
    for step in trap["steps"]:
        assert step["slot"] < 3
    got = engine.evaluate(
        """async ({ plan, next, trap, large, other }) => {
          const client = await EngineClient.start({ threads: 2 });
          await client.createSession('s', { shared: false });
          const x = i32([0, 1, 2, 3, 4, 5, 6, 7]);
          const load = (p) => client.loadPlan('s', revive({ ...p, callerMs: 60000 }));
          const runs = [];
          const run = async (key, ...feeds) => {
            const { outputs, caller } = await client.run('s', key, feeds.length ? feeds : [x]);
            runs.push([caller ?? false, ints(outputs[0])]);
          };
          const adopt = (place) => client.adopt('s', 'p',
            { lab: '', slot: 0, pages: 1, repacks: [{ kernels: [], words: [next.word], place }] });
          await load(plan); await run('p'); await run('p');
          await client.swapSlot('s', 'p', 0, revive(other)); await run('p');
          await load(next); await run('next'); await run('next'); await run('p');
          await adopt(next.place);
          await run('p'); await run('next');
          await client.loadPlan('s', revive(large));
          await run('p');
          await adopt(next.was);
          await run('p'); await run('next');
          await client.createSession('t', { shared: false });
          await client.loadPlan('t', revive({ ...trap, callerMs: 60000 }));
          await client.run('t', 'trap', [i32([0]), x]);
          const error = await failure(client.run('t', 'trap', [i32([1]), x]));
          const after = await client.run('t', 'trap', [i32([0]), x]);
          const result = { runs, error, after: [after.caller, ints(after.outputs[0])] };
          await client.releaseSession('s');
          client.terminate();
          return result;
        }""",
        {"plan": toy.plan(), "next": _next(toy), "trap": trap, "large": large,
         "other": one_kernel(rotate_add("other", 8, 9), False)},
    )  # fmt: skip
    x8 = np.arange(8)
    five, nine, elsewhere = np.roll(x8, -1) + 5, np.roll(x8, -1) + 9, np.zeros(8, int) + 5
    expected = [(False, five), (True, five), (True, nine), (False, five), (True, five), (True, nine),
                (True, five), (True, elsewhere), (True, five), (False, five), (False, five)]  # fmt: skip
    assert [caller for caller, _ in got["runs"]] == [caller for caller, _ in expected]
    for (_, values), (_, wanted) in zip(got["runs"], expected, strict=True):
        np.testing.assert_array_equal(values, wanted)
    assert got["error"]["code"] == "KERNEL_TRAP" and got["error"]["fields"]["name"] == "harmful"
    assert got["after"] == [True, (np.roll(x8, -2) + 2).tolist()]


def _next(first: Toy) -> dict[str, Any]:
    """A second plan of the session, behind the first, with its input. `word` points to that; `place` are zeros."""
    toy = Toy("next", False, base=first.top, table_base=1)
    x = first.inputs[0]
    zeros, y = toy.tensor("zeros", "int32", 8), toy.tensor("y", "int32", 8)
    args = toy.args(x["address"], y["address"])
    toy.step(toy.kernel(rotate_add("rotate", 8, 5)), args, 8)
    toy.inputs.append(x)
    toy.outputs.append(y)
    return {**toy.plan(), "word": args, "place": zeros["address"], "was": x["address"]}


def test_a_survey_is_of_the_next_run(engine: Page) -> None:
    started(engine, scale_plan("p", True, [2.0, 3.0]))
    steps, callers = engine.evaluate(
        """async () => {
          const x = new Float32Array(256);
          const run = async () => (await client.run('s', 'p', [x])).caller ?? false;
          const callers = [await run(), await run()];
          const coming = client.survey('s', 'p');
          callers.push(await run());
          const steps = (await coming).map(({ step }) => step);
          callers.push(await run());
          client.terminate();
          return [steps, callers];
        }"""
    )
    assert steps == [0, 1] and callers == [False, True, False, True]


def test_the_page_lives_while_runs_follow_each_other(engine: Page) -> None:
    """A loop of awaits gives a page no turn; the runs do."""
    started(engine, scale_plan("p", True, [2.0], count=1 << 16))
    turns, callers = engine.evaluate(
        """async () => {
          const x = new Float32Array(1 << 16);
          let turns = 0;
          const ticking = setInterval(() => turns++, 1);
          let callers = 0;
          const until = performance.now() + 60000; // turns that never come would never end it
          while ((turns < 5 || callers <= 20) && performance.now() < until) {
            callers += (await client.run('s', 'p', [x])).caller ? 1 : 0;
          }
          clearInterval(ticking);
          client.terminate();
          return [turns, callers];
        }"""
    )
    assert turns >= 5 and callers > 20


def test_an_engine_that_is_gone_runs_nothing(engine: Page) -> None:
    started(engine, scale_plan("p", True, [2.0]))
    code, listed = engine.evaluate(
        """async () => {
          const x = new Float32Array(256);
          await client.run('s', 'p', [x]);
          await client.run('s', 'p', [x]);
          client.terminate();
          const died = await failure(client.run('s', 'p', [x]));
          return [died.code, died.typed];
        }"""
    )
    assert code == "ENGINE_DIED" and listed
