"""When a lab on a GPU reads the clock beside inferences: in pauses, and under a stream as long as these may be kept
waiting. What is counted does not depend on how fast the machine is."""

from __future__ import annotations

from playwright.sync_api import Page

PACED = """async () => {
  const { GpuPace } = await import('/engine/webgpu/pace.js');
  const pace = new GpuPace();
  const policy = { quietMs: 15, patienceMs: 30, allowanceMs: 25, giveUpMs: 1e9 };
  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const stop = new AbortController();
  const readings = [];
  let lastEnd = -Infinity;
  const lab = (async () => {
    try {
      for (;;) {
        await pace.gap(policy, stop.signal);
        const start = performance.now();
        readings.push({ forced: start - lastEnd < policy.quietMs, left: pace.leftMs });
        await sleep(10);
        pace.spent(start, performance.now());
      }
    } catch (error) {
      return error.code;
    }
  })();
  const run = async () => {
    pace.began();
    await sleep(3);
    lastEnd = performance.now();
    pace.ended();
  };
  await sleep(40);
  for (let i = 0; i < 2000 && pace.leftMs > 0; i++) await run();
  const used = readings.length;
  for (let i = 0; i < 40; i++) await run();
  const { delayed, delayedMs, leftMs } = pace;
  const beside = readings.length;
  policy.giveUpMs = 50; // from the next reading on
  let over = false;
  void lab.then(() => { over = true; });
  while (readings.length < beside + 3 && !over) await sleep(5);
  const all = readings.length;
  for (let i = 0; i < 20000 && !over; i++) await run(); // without a pause, and nothing left
  stop.abort();
  return { readings, used, beside, delayed, delayedMs, leftMs, ended: await lab, all };
}"""

LONG = """async () => {
  const { GpuPace } = await import('/engine/webgpu/pace.js');
  const pace = new GpuPace();
  pace.began();
  const gap = pace.gap({ quietMs: 5, patienceMs: 10, allowanceMs: 25, giveUpMs: 30 }, new AbortController().signal);
  const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
  await sleep(100);
  pace.ended();
  pace.began(); // the next one follows at once
  await sleep(20);
  pace.ended();
  return gap.then(() => 'read', (error) => error.code);
}"""


def test_a_stream_waits_no_more_than_it_may(page: Page) -> None:
    found = page.evaluate(PACED)
    readings = found["readings"]
    assert not readings[0]["forced"], "the first came in a pause"
    forced = [r for r in readings if r["forced"]]
    assert forced and all(r["left"] > 0 for r in forced)
    assert found["delayed"] >= 1 and found["delayedMs"] >= 25 and found["leftMs"] == 0
    # one that had begun may still be on its way; after that only pauses are used
    assert not any(r["forced"] for r in readings[found["used"] : found["beside"]])
    assert found["all"] > found["beside"] and found["ended"] == "TUNING_SPENT"


def test_an_inference_that_takes_long_ends_nothing(page: Page) -> None:
    """While inferences may still be kept waiting, a reading comes once the one that is running has ended."""
    assert page.evaluate(LONG) == "read"
