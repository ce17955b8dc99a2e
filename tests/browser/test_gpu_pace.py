"""When a lab on a GPU reads the clock beside inferences: in pauses, and under a stream in slices that each inference
can wait for, as many as they have saved up for. What is counted does not depend on how fast the machine is."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from nnjit.tune.policy import GPU_LAB, GPU_PACE, GPU_PROBING

BEGIN = """
  const { GpuPace } = await import('/engine/webgpu/pace.js');
  const pace = new GpuPace();
  const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
  const stop = new AbortController();
  const run = async (ms = 3) => {
    pace.began();
    await sleep(ms);
    pace.ended();
  };
"""

CLOCK = """
  const real = performance.now;
  let clock = 1e6;
  performance.now = () => clock; // time passes as the test says
"""

PACED = f"""async (policy) => {{
  {BEGIN}
  const readings = [];
  let lastEnd = -Infinity;
  const lab = (async () => {{
    try {{
      for (;;) {{
        const ms = Math.min(10, pace.sliceMs(policy));
        await pace.gap(policy, stop.signal, ms);
        const start = performance.now();
        readings.push({{ forced: start - lastEnd < policy.quietMs, left: pace.leftMs }});
        await sleep(ms);
        pace.spent(start, performance.now());
      }}
    }} catch (error) {{
      return error.code;
    }}
  }})();
  const one = async () => {{
    pace.began();
    await sleep(3);
    lastEnd = performance.now(); // no later than the pace's own: a machine may stop in between
    pace.ended();
  }};
  await until(() => readings.length); // before any inference: in a pause
  for (let i = 0; i < 3000 && pace.leftMs > 0; i++) await one();
  const used = readings.length;
  for (let i = 0; i < 40; i++) await one();
  const {{ delayed, delayedMs, leftMs }} = pace;
  const beside = readings.length;
  policy.giveUpMs = 50; // from the next reading on
  let over = false;
  void lab.then(() => {{ over = true; }});
  await until(() => readings.length >= beside + 3 || over, () => pace);
  const all = readings.length;
  for (let i = 0; i < 20000 && !over; i++) await one(); // without a pause, and nothing left
  stop.abort();
  return {{ readings, used, beside, delayed, delayedMs, leftMs, ended: await lab, all }};
}}"""

POLICY = {**GPU_PACE, "quietMs": 15, "allowanceMs": 25, "giveUpMs": 1e9}


def test_a_stream_waits_no_more_than_it_may(page: Page) -> None:
    found = page.evaluate(PACED, POLICY)
    readings = found["readings"]
    assert not readings[0]["forced"], "the first came in a pause"
    forced = [r for r in readings if r["forced"]]
    assert forced and all(r["left"] > 0 for r in forced)
    assert found["delayed"] >= 1 and found["delayedMs"] >= 25 and found["leftMs"] == 0
    # one that had begun may still be on its way; after that only pauses are used
    assert not any(r["forced"] for r in readings[found["used"] : found["beside"]])
    assert found["all"] > found["beside"] and found["ended"] == "TUNING_SPENT"


@pytest.mark.parametrize(("long", "unit"), [(False, 0.26), (True, 0.26), (False, 5.0)])
def test_slices_are_saved_up_for(page: Page, long: bool, unit: float) -> None:
    """Between two of them that came without a pause inferences have taken what they cost, by the policy's share; what
    is longer than each may wait for, or shorter than the clock shows, comes once in so many inferences. Counted in
    inferences of a known length."""
    found = page.evaluate(
        f"""async ([policy, long]) => {{
          {BEGIN}
          {CLOCK}
          try {{
            const counts = [];
            let count = 0;
            const lab = (async () => {{
              while (counts.length < 4) {{
                await pace.gap(policy, stop.signal, long ? 40 : Math.min(6, pace.sliceMs(policy)));
                counts.push(count);
                count = 0;
                pace.spent(clock, clock);
              }}
            }})();
            for (let i = 0; i < 5000 && counts.length < 4; i++) {{
              pace.began();
              await new Promise((resolve) => queueMicrotask(resolve));
              clock += 10;
              count++;
              pace.ended();
              await new Promise((resolve) => queueMicrotask(resolve));
              if (i % 5 === 0) await sleep(0);
            }}
            stop.abort();
            await lab.catch(() => undefined);
            return {{ counts, slice: Math.min(1e6, pace.sliceMs(policy)) }};
          }} finally {{
            performance.now = real;
          }}
        }}""",
        [{**GPU_PACE, "unitMs": unit, "patienceMs": 1e12}, long],
    )
    part, share = GPU_PACE["part"], GPU_PACE["share"]
    rare = long or unit > 10 * part
    assert found["slice"] == (10 * part if unit <= 10 * part else 1e6)
    # at first nothing is known of inferences; then a slice comes when those since the last have taken enough, or are so
    # many. The lab looks again when the page has had a turn or two, one in five inferences here
    least = GPU_PACE["rareRuns"] if rare else 10 * part / share / 10
    assert len(found["counts"]) == 4 and all(least <= n < least + 20 for n in found["counts"][1:]), found


def test_slices_are_a_part_of_what_inferences_take(page: Page) -> None:
    found = page.evaluate(
        f"""async (policy) => {{
          {BEGIN}
          {CLOCK}
          const after = (ms) => {{
            pace.began();
            clock += ms;
            pace.ended();
          }};
          try {{
            const found = [pace.sliceMs(policy)];
            for (let i = 0; i < 9; i++) after(10);
            found.push(pace.sliceMs(policy));
            pace.mode = 'now';
            found.push(pace.sliceMs(policy));
            pace.mode = 'idle';
            for (let i = 0; i < 9; i++) after(0.5);
            found.push(pace.sliceMs(policy));
            for (let i = 0; i < 9; i++) after(100);
            clock += policy.recentMs + 1;
            found.push(pace.sliceMs(policy));
            pace.began();
            pace.began(); // two at once took as long together
            clock += 20;
            pace.ended();
            pace.ended();
            for (let i = 0; i < 8; i++) after(10);
            found.push(pace.sliceMs(policy));
            return found.map((ms) => (ms === Infinity ? null : ms));
          }} finally {{
            performance.now = real;
          }}
        }}""",
        GPU_PACE,
    )
    part, now = GPU_PACE["part"], GPU_PACE["nowPart"]
    # none came yet; by each mode; too short for the clock; none came lately; two together
    assert found == [None, 10 * part, 10 * now, None, None, 10 * part]
    assert 0.5 * part < GPU_PACE["unitMs"]


def test_what_is_on_the_device_for_less_is_waited_for_less(page: Page) -> None:
    """Browsers tell of the end of a slice later than the next inference may begin."""
    found = page.evaluate(
        f"""async (policy) => {{
          {BEGIN}
          {CLOCK}
          const found = [];
          for (const held of [undefined, 4, 1]) {{
            clock += 1000;
            await pace.gap(policy, stop.signal, 1);
            const start = clock;
            clock += 2;
            pace.began();
            const before = pace.delayedMs;
            clock += 28;
            pace.spent(start, clock, held);
            found.push(pace.delayedMs - before);
            pace.ended();
          }}
          performance.now = real;
          return found;
        }}""",
        GPU_PACE,
    )
    assert found == [28, 2, 0]


LONG = f"""async (policy) => {{
  {BEGIN}
  pace.began();
  const gap = pace.gap(policy, stop.signal, 5);
  await sleep(100);
  pace.ended();
  pace.began(); // the next one follows at once
  await sleep(20);
  pace.ended();
  return gap.then(() => 'read', (error) => error.code);
}}"""


def test_an_inference_that_takes_long_ends_nothing(page: Page) -> None:
    """While inferences may still be kept waiting, a slice comes once the one that is running has ended."""
    policy: dict[str, Any] = {**GPU_PACE, "quietMs": 5, "allowanceMs": 25, "giveUpMs": 30, "recentMs": 1e6}
    assert page.evaluate(LONG, policy) == "read"


def test_facts_are_measured_in_pauses_only(page: Page) -> None:
    found = page.evaluate(
        f"""async (policy) => {{
          {BEGIN}
          let came = false;
          pace.began();
          const gap = pace.gap(policy, stop.signal).then(() => {{ came = true; }}, () => undefined);
          for (let i = 0; i < 400; i++) {{
            await new Promise((resolve) => queueMicrotask(resolve));
            pace.ended();
            pace.began();
          }}
          const during = came;
          pace.ended();
          await sleep(policy.quietMs + 50);
          await gap;
          return {{ during, came }};
        }}""",
        GPU_PROBING,
    )
    assert found == {"during": False, "came": True}


def test_a_reading_is_cut_into_slices_and_added_up(page: Page) -> None:
    """Repetitions of a kernel that takes 0.05 ms, beside inferences of 1.5 ms: no slice is longer than their part, all
    are made, and the mean is what each took."""
    found = page.evaluate(
        f"""async ([policy, pacing]) => {{
          {BEGIN}
          const {{ GpuLabBench }} = await import('/engine/webgpu/lab-bench.js');
          const device = {{ features: new Set() }};
          const bench = new GpuLabBench(device, {{
            sliceMs: () => pacing,
            gap: async (_policy, _signal, ms) => {{ asked.push(ms); }},
            spent: (_start, _end, held) => {{ took.push(held); }},
          }});
          const [asked, took, counts] = [[], [], []];
          bench.policy = policy;
          bench.clock = {{
            precise: true,
            sample: async (encode, count) => {{
              counts.push(count);
              return 0.05 * count;
            }},
          }};
          const timed = {{ encode: () => undefined, inner: 120, ms: 0.05 }};
          const mean = await bench.reading(timed, stop.signal);
          const whole = counts.splice(0);
          timed.ms = 2; // more than such a part: it comes rarely, and then at once
          await bench.reading(timed, stop.signal);
          const long = counts.splice(0);
          bench.clock.precise = false;
          await bench.reading({{ ...timed, ms: 0.05 }}, stop.signal);
          return {{ mean, whole, long, wall: counts, asked: asked.slice(0, whole.length), took, last: asked.at(-1) }};
        }}""",
        [GPU_LAB, 0.31],
    )
    assert abs(found["mean"] - 0.05) < 1e-9
    assert sum(found["whole"]) == 120 and max(found["whole"]) == 6 and len(found["whole"]) == 20
    assert max(found["asked"]) <= 0.31 and abs(found["took"][0] - 0.3) < 1e-9
    assert found["long"] == [120] and found["wall"] == [120]


def test_what_the_clock_does_not_see_is_repeated(page: Page) -> None:
    """A kernel of 0.02 ms under a clock that counts in steps of 0.1 ms: once it takes nothing."""
    found = page.evaluate(
        """async (policy) => {
          const { GpuLabBench } = await import('/engine/webgpu/lab-bench.js');
          const { GpuPace } = await import('/engine/webgpu/pace.js');
          const bench = new GpuLabBench({ features: new Set() }, new GpuPace());
          bench.policy = policy;
          const counts = [];
          bench.clock = {
            precise: true,
            sample: async (_encode, count) => { counts.push(count); return Math.floor(count / 5) / 10; },
          };
          const timed = { encode: () => undefined, inner: 1, ms: 0 };
          const ms = await bench.settle(timed, new AbortController().signal);
          return { ms, counts, inner: timed.inner };
        }""",
        GPU_LAB,
    )
    assert all(isinstance(count, int) and count >= 1 for count in found["counts"])
    assert found["inner"] == found["counts"][-1] and found["inner"] * 0.02 >= GPU_LAB["sampleMs"]
    assert abs(found["ms"] - 0.02) < 0.1 / found["inner"] + 1e-9


def test_who_waits_beside_inferences_without_end_can_be_stopped(page: Page) -> None:
    """Two sessions' inferences overlap, so that there is always one under way."""
    found = page.evaluate(
        f"""async (policy) => {{
          {BEGIN}
          pace.began();
          const gap = pace.gap(policy, stop.signal, 5).then(() => 'read', (error) => error.code);
          for (let i = 0; i < 5; i++) {{
            pace.began();
            await sleep(1);
            pace.ended();
          }}
          stop.abort();
          return gap;
        }}""",
        GPU_PACE,
    )
    assert found == "ABORTED"
