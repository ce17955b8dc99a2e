"""When the tuner rests, and what wakes it: a low battery, runs that have waited enough, runs that come rarely."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from .api_page import BOOT, Api
from .test_tuning import net

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from nnjit.devtools.httpd import Server


@pytest.fixture(scope="module")
def used(new_page: Any, server: Server) -> Iterator[Api]:
    """A page of its own: these tests change what its compiler believes."""
    with new_page(allowed=[".*"]) as page:
        made = Api(page, server)
        page.evaluate(BOOT)
        page.evaluate("""() => {
          window.x = T('float32', Float32Array.from({ length: 64 * 96 }, (_, i) => Math.sin(i)), [64, 96]);
          window.wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
        }""")
        yield made


BATTERY = """async () => {
  const { restReason } = await import('/api/tuning-calm.js');
  const found = [];
  const low = { charging: false, level: 0.2 };
  for (const battery of [low, { ...low, charging: true }, { ...low, level: 0.9 }, null]) {
    Object.defineProperty(navigator, 'getBattery', { configurable: true, value: battery && (async () => battery) });
    found.push(await restReason({ lowBattery: 0.25 }));
  }
  const none = () => Promise.reject(new Error('not here'));
  Object.defineProperty(navigator, 'getBattery', { configurable: true, value: none });
  found.push(await restReason({ lowBattery: 0.25 }));
  delete navigator.getBattery;
  return found;
}"""


def test_it_rests_on_a_low_battery(page: Page) -> None:
    """Without a charger; where a browser does not tell, it works."""
    assert page.evaluate(BATTERY) == ["the battery is low", "", "", "", ""]


COUNTED = """async () => {
  const { Progress } = await import('/api/tuning-progress.js');
  const progress = new Progress();
  const told = [];
  for (const ms of [120, 50]) {
    progress.begins();
    progress.delayed(ms);
    progress.ends();
    told.push([progress.earlierMs, progress.delayedMs]);
  }
  progress.renews();
  return [...told, [progress.earlierMs, progress.delayedMs]];
}"""


def test_what_runs_waited_counts_until_tuning_is_asked_for_anew(page: Page) -> None:
    assert page.evaluate(COUNTED) == [[120, 120], [170, 170], [0, 170]]


def test_after_one_run_it_ends_by_itself(used: Api) -> None:
    """Nothing waits for it, and it says why it is over."""
    got = used.run(
        """async (path) => {
          const session = await create(path, { tune: { mode: 'idle' } });
          await session.run({ x });
          const { state, reason, delayedMs } = await session.tuning.finished();
          await session.release();
          return { state, reason, delayedMs };
        }""",
        used.put("net.onnx", net()),
    )
    assert got == {"state": "done", "reason": "nothing more is worth a try", "delayedMs": 0}


SPENT = """
import nnjit.tune.policy as policy
import nnjit.tune.search as search
usual = search.WORTH, search.NEAR, policy.PACE["streamMs"], policy.STREAM["watchMs"]
search.WORTH = search.NEAR = 0
policy.PACE["streamMs"] = 0.0
policy.STREAM["watchMs"] = 20.0
"""
UNDO = 'search.WORTH, search.NEAR, policy.PACE["streamMs"], policy.STREAM["watchMs"] = usual'


def test_a_stream_that_has_waited_enough_is_left_alone_until_there_is_a_pause(used: Api) -> None:
    got = used.run(
        """async ([path, code, undo]) => {
          await nnjit.python(code);
          const session = await create(path, { tune: { mode: 'idle' } });
          try {
            const { tuning } = session;
            let rests = tuning.status();
            await until(async () => {
              for (let i = 0; i < 1000 && rests.state !== 'resting'; i++) { // no pause between them
                await session.run({ x });
                rests = tuning.status();
              }
              return rests.state === 'resting';
            }, () => rests, 120);
            let works = rests;
            await until(() => {
              works = tuning.status();
              return works.running && works.candidates > rests.candidates;
            }, () => works, 120);
            await tuning.pause();
            return { rests, works };
          } finally {
            await session.release();
            await nnjit.python(undo);
          }
        }""",
        [used.put("net.onnx", net()), SPENT, UNDO],
    )
    assert got["rests"]["state"] == "resting" and "in a pause" in got["rests"]["reason"]
    assert got["works"]["state"] == "running" and got["works"]["candidates"] > got["rests"]["candidates"]
