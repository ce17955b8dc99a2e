"""When the tuner may use the engine, by a clock that the test makes up: what streams of inferences wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nnjit.tune.policy import PACE, PROBING

if TYPE_CHECKING:
    from playwright.sync_api import Page

STREAM = """async ([policy, { runMs, gapMs, runs, unitMs, stalls }]) => {
  const { Allowance } = await import('/engine/allowance.js');
  const allowance = new Allowance('idle');
  const waits = [];
  let worked = 0;
  let pieces = 0;
  let spent = '';
  const traffic = { quietMs: 0, runMs, totalMs: 0, runs: 0 };
  for (let i = 0; i < runs; i++) {
    traffic.totalMs += runMs;
    traffic.runs++;
    let now = 0; // since the inference's end; the next one is sent after gapMs
    let done = 0; // when the last piece of work was done
    for (let free = true; free && !spent;) {
      traffic.quietMs = now;
      let granted = 0;
      try {
        granted = allowance.grant(policy, traffic);
      } catch (error) {
        spent = error.code;
      }
      const start = now;
      // a slice: pieces of work that cannot be cut, until the time that was granted is over
      while (granted && now - start < granted) {
        const ms = unitMs + (stalls && pieces % stalls.every === stalls.every - 1 ? stalls.ms : 0);
        pieces++;
        now += ms;
        done = now;
        worked += ms;
        allowance.took(ms);
      }
      if (!granted) now = now < policy.quietMs ? policy.quietMs : Infinity;
      free = now < gapMs;
    }
    const wait = Math.max(0, done - gapMs);
    if (wait) allowance.waited(wait);
    waits.push(wait);
  }
  return { waits, worked, spent, delayedMs: allowance.delayedMs };
}"""


def stream(page: Page, policy: Any = PACE, **use: Any) -> dict[str, Any]:
    how = {"runMs": 6.0, "gapMs": 0.0, "runs": 1000, "unitMs": 0.8, "stalls": None, **use}
    found: dict[str, Any] = page.evaluate(STREAM, [policy, how])
    assert found["delayedMs"] == pytest.approx(sum(found["waits"]))
    return found


def test_a_stream_of_inferences_waits_little_and_tests_go_on(page: Page) -> None:
    """Whatever runs take: work is done within ten seconds, and one run in a hundred at most is a quarter longer."""
    for run_ms in (0.05, 1.0, 3.0, 6.0, 12.0, 60.0, 600.0):
        runs = int(min(10_000 / run_ms, 20_000))
        found = stream(page, runMs=run_ms, runs=runs)
        least = 20 if run_ms >= 6 else 5
        assert found["worked"] >= least, (run_ms, found["worked"])
        late = sum(w > 0.25 * run_ms for w in found["waits"])
        assert late <= max(1, 0.01 * runs), (run_ms, late, runs)
        assert found["delayedMs"] <= PACE["allowanceMs"]


def test_what_all_wait_for_has_a_limit_whatever_the_machine_does(page: Page) -> None:
    """Pieces of work that take a hundred times as long, now and then or always.

    Nothing is begun with less left than the reserve, or twice the longest piece so far. So the limit holds for pieces
    of up to the reserve's 50 ms, and for longer ones that show early."""
    for run_ms in (0.05, 6.0, 600.0):
        for stall in (
            {"every": 1, "ms": 40.0},
            {"every": 7, "ms": 45.0},
            {"every": 50, "ms": 49.0},
            {"every": 3, "ms": 140.0},
        ):
            found = stream(page, runMs=run_ms, runs=20_000, stalls=stall)
            assert found["delayedMs"] <= PACE["allowanceMs"], (run_ms, stall)


def test_bursts_may_meet_a_slice_until_the_allowance_is_spent(page: Page) -> None:
    """Pauses are used; runs that come into one wait a slice at most, and all of them together no more than they may."""
    found = stream(page, runMs=6.0, gapMs=14.0, runs=20_000)
    assert found["worked"] > 100 and max(found["waits"]) <= PACE["idleMs"] + 0.8
    assert found["delayedMs"] <= PACE["allowanceMs"] and found["spent"] == "TUNING_SPENT"


EARLIER = """async ([policy, earlierMs]) => {
  const { Allowance } = await import('/engine/allowance.js');
  const allowance = new Allowance('idle', earlierMs);
  const traffic = { quietMs: 0, runMs: 100, totalMs: 0, runs: 0 };
  const told = [];
  for (const [runs, quietMs] of [[1, 0], [50, 0], [50, policy.quietMs]]) {
    Object.assign(traffic, { runs, totalMs: 100 * runs, quietMs });
    try {
      told.push([allowance.grant(policy, traffic) > 0, allowance.starved]);
    } catch (error) {
      told.push(error.code);
    }
  }
  return [told, allowance.leftMs(policy)];
}"""


def test_what_earlier_labs_took_counts(page: Page) -> None:
    """Of a session's: first nothing is done without a pause, then nothing at all."""
    for earlier, told in (
        (0, [[False, False], [True, False], [True, False]]),
        (PACE["streamMs"] - PACE["reserveMs"], [[False, True], [False, True], [True, False]]),
        (PACE["allowanceMs"] - PACE["reserveMs"], ["TUNING_SPENT"] * 3),
    ):
        found, left = page.evaluate(EARLIER, [PACE, earlier])
        assert found == told, earlier
        assert left == PACE["allowanceMs"] - PACE["reserveMs"] - earlier


STALLED = """async ([policy, ms, waited]) => {
  const { Allowance } = await import('/engine/allowance.js');
  const allowance = new Allowance('idle');
  const told = [];
  for (const quietMs of [2 * policy.longQuietMs, 2 * policy.longQuietMs, 2 * policy.quietMs, 0]) {
    try {
      told.push(allowance.grant(policy, { quietMs, runMs: 6, totalMs: 0, runs: 0 }) > 0);
    } catch (error) {
      told.push(error.code);
    }
    allowance.took(ms);
    if (told.length === 1) allowance.waited(waited);
  }
  return [told, allowance.starved];
}"""


def test_a_stall_of_the_machine_does_not_end_tuning(page: Page) -> None:
    """Nobody waited for the piece that took so long: work goes on in long pauses, and only there."""
    stall = PACE["allowanceMs"]
    assert page.evaluate(STALLED, [PACE, stall, 0]) == [[True, True, False, False], True]
    spent = [[True, "TUNING_SPENT", "TUNING_SPENT", "TUNING_SPENT"], False]
    assert page.evaluate(STALLED, [PACE, stall, stall]) == spent
    assert page.evaluate(STALLED, [PACE, 1.0, 0])[0] == [True, True, True, False]


def test_facts_are_measured_in_pauses_only(page: Page) -> None:
    assert stream(page, PROBING, runs=2000)["worked"] == 0
    assert stream(page, PROBING, gapMs=50.0, runs=20)["worked"] > 100


WAITED = """async () => {
  const { Pace } = await import('/engine/pace.js');
  const { Control } = await import('/engine/control.js');
  const control = Control.create(1, false);
  const pace = new Pace(control);
  const a = pace.allowance();
  const b = pace.allowance();
  const busy = (ms) => { for (const end = performance.now() + ms; performance.now() < end;); };
  await pace.during(a, () => busy(5));
  const sent = performance.timeOrigin + performance.now();
  // a little longer than is asked for below, by a clock that is rounded; two slices without a seam
  await pace.during(a, () => busy(20.1));
  await pace.during(a, () => busy(20.1));
  await pace.during(b, () => busy(10.1));
  pace.came();
  pace.ended(pace.begins(sent));
  const first = [a.delayedMs, a.delayed, b.delayedMs, b.delayed];
  pace.came();
  pace.ended(pace.begins(performance.timeOrigin + performance.now()));
  const second = [a.delayedMs, b.delayedMs];
  // a run on the caller's thread that met a slice and took longer than usual
  control.callBegins();
  control.callWaited(7);
  control.callEnded(9);
  const policy = { patienceMs: 0, allowanceMs: 1e6, reserveMs: 0, reserveTimes: 0, quietMs: 0, longQuietMs: 0,
    idleMs: 1, share: 0, part: 0, mostMs: 0, savedSlices: 0, rareMs: 0 };
  await pace.gap(b, policy, new AbortController().signal);
  return [first, second, b.delayedMs - second[1]];
}"""


def test_each_lab_counts_what_inferences_waited_for_it(page: Page) -> None:
    first, second, called = page.evaluate(WAITED)
    assert first[0] >= 40 and first[1] == 1, (
        "the slice that began before the inference was sent is none of its wait"
    )
    assert first[2] >= 10 and first[3] == 1
    assert second == [first[0], first[2]], "an inference that is sent later did not wait for them"
    assert called == pytest.approx(7)


HELD = """async ([mode, runMs, policy, short]) => {
  const { Pace } = await import('/engine/pace.js');
  const { Control } = await import('/engine/control.js');
  const { signal } = new AbortController();
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const pace = new Pace(Control.create(1, false));
  const lab = pace.allowance();
  const other = pace.allowance();
  lab.mode = other.mode = mode;
  let log = [];
  const now = () => performance.timeOrigin + performance.now();
  /** An inference, sent now if nothing else is said. */
  const infer = async (ms, at = now()) => {
    pace.came();
    await pace.held();
    const start = pace.begins(at);
    log.push('run');
    await wait(ms);
    pace.ended(start);
  };
  await infer(runMs);
  await infer(runMs);
  const stories = {};
  const tell = async (name, story) => {
    log = [];
    const before = lab.delayedMs;
    const runs = await story();
    await runs;
    stories[name] = [log, lab.delayedMs - before];
  };
  await tell('between two slices', async () => {
    await pace.gap(lab, policy, signal);
    const run = infer(1);
    await wait(5); // as threads take their mail
    log.push(pace.left(lab) > 0 ? 'slice' : 'no slice');
    pace.close(lab);
    return run;
  });
  await tell('while the lab rests', async () => {
    await pace.gap(lab, policy, signal);
    const run = infer(1);
    await pace.rest(5, lab, policy, signal);
    log.push(pace.left(lab) > 0 ? 'slice' : 'no slice');
    pace.close(lab);
    return run;
  });
  await tell('until more comes', async () => {
    await pace.gap(lab, policy, signal);
    const run = infer(1);
    pace.lingers(lab, policy);
    await wait(3);
    log.push(pace.left(lab) > 0 ? 'slice' : 'no slice');
    pace.close(lab);
    return run;
  });
  await tell('but not for long', async () => {
    await pace.gap(lab, short, signal);
    const sent = now();
    pace.lingers(lab, short);
    await infer(1, sent);
    log.push(pace.left(lab) > 0 ? 'slice' : 'no slice');
  });
  await tell('and another lab waits, too', async () => {
    await pace.gap(lab, policy, signal);
    const next = pace.gap(other, policy, signal).then(() => { log.push('other'); pace.close(other); });
    await wait(5);
    log.push('slice');
    pace.close(lab);
    await next;
  });
  return stories;
}"""


@pytest.mark.parametrize(("mode", "long_ms"), [("now", 0.5), ("now", 1e6), ("idle", 1e6), ("idle", 0.5)])
def test_inferences_wait_for_the_end_of_a_window(page: Page, mode: str, long_ms: float) -> None:
    """Between two slices always; while the lab rests only if they are long, and while Python thinks only if tuning was
    asked for at once, too."""
    # longer than a busy machine holds anything up; none of it is waited for but the short one
    policy = {**PACE, "longMs": 0.5 if mode == "idle" else long_ms, "idleLongMs": long_ms, "nowMs": 6e4,
              "quietMs": 0.0, "longQuietMs": 0.0, "idleMs": 6e4, "lingerMs": 3e4, "part": 1e3,
              "allowanceMs": 1e6}  # fmt: skip
    found = page.evaluate(HELD, [mode, 5.0, policy, {**policy, "lingerMs": 60.0}])
    assert found["between two slices"][0] == ["slice", "run"] and found["between two slices"][1] >= 4
    for story in ("while the lab rests", "until more comes"):
        log, waited = found[story]
        long = long_ms < 1 and (mode == "now" or story == "while the lab rests")
        assert log == (["slice", "run"] if long else ["run", "no slice"]), (story, log)
        assert waited >= 2 or not long
    long = long_ms < 1 and mode == "now"
    log, waited = found["but not for long"]
    assert log == ["run", "no slice"] and (waited >= 50 or not long)
    assert found["and another lab waits, too"][0] == ["slice", "other"]


TAKEN = """async (policy) => {
  const { Pace } = await import('/engine/pace.js');
  const { Control } = await import('/engine/control.js');
  const pace = new Pace(Control.create(1, false));
  const lab = pace.allowance();
  lab.owed = 5; // a window was granted, and inferences came first
  const first = pace.take(lab, policy);
  const second = pace.take(lab, policy); // one is open
  pace.close(lab);
  pace.came();
  pace.ended(pace.begins(0));
  return [first, second, lab.owed, pace.take(lab, policy)]; // a run has ended just now, and nothing is saved up
}"""


def test_a_window_that_was_granted_is_taken_later(page: Page) -> None:
    assert page.evaluate(TAKEN, PACE) == [5, 0, 0, 0]


CALM = """async () => {
  const { Calm } = await import('/api/tuning-calm.js');
  const { signal } = new AbortController();
  const policy = { streamMs: 1e6, shortMs: 60, spacing: 20, spacingMs: 150, restMs: 5, longRestMs: 5, surveyMs: 0 };
  /** Whether it went on at once: before anything else had a turn. */
  const free = async (calm, crowded) => {
    let turns = 0;
    setTimeout(() => { turns++; }, 0);
    await calm.before(policy, crowded, signal);
    return turns === 0;
  };
  const busy = async (runMs, workedMs) => {
    const calm = new Calm();
    if (runMs) await calm.during(async () => calm.ran(runMs));
    if (workedMs) calm.worked(workedMs);
    return calm;
  };
  const atOnce = [
    await free(await busy(0, 10), true), // nothing runs
    await free(await busy(5, 10), false), // there are cores enough
    await free(await busy(100, 10), true), // runs are long
    await free(await busy(5, 0), true), // it has not worked yet
  ];
  const waited = [];
  for (const ms of [2, 100]) {
    const start = performance.now();
    const calm = await busy(5, ms);
    await calm.before(policy, true, signal);
    waited.push(performance.now() - start);
  }
  const calm = await busy(5, 0);
  await new Promise((resolve) => setTimeout(resolve, 5));
  const idle = [await calm.during(async () => calm.idleMs)]; // a long run is no pause
  await new Promise((resolve) => setTimeout(resolve, 5));
  idle.push(calm.idleMs);
  return [atOnce, waited, idle];
}"""


def test_python_rests_between_two_candidates_where_short_runs_have_all_cores(page: Page) -> None:
    free, waited, idle = page.evaluate(CALM)
    assert idle[0] == 0 < idle[1]
    assert free == [True] * 4
    assert waited[0] >= 39 and waited[1] >= 149, "in proportion to what it worked, up to a limit"
