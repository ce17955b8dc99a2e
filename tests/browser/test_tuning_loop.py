"""One stretch of tuning beside a stream of inferences, with stand-ins for the engine and the session: what is asked of
Python, when, and with which numbers."""

from __future__ import annotations

from typing import Any

from nnjit.tune.policy import STREAM

from .api_page import Api

LOOP = """async ({ earlierMs, surveyMs, waits }) => {
  const { TuningLoop } = await import('/api/tuning-loop.js');
  const set = (ms) => nnjit.python(`import nnjit.tune.policy as p; p.STREAM.update(surveyMs=${ms})`);
  const asked = [];
  const answers = {
    'tune.next': ({ most }) => {
      asked.push(['next', most]);
      return { do: 'done', reason: 'enough', skipped: [] };
    },
    'tune.surveyed': ({ steps }) => { asked.push(['surveyed', steps.length]); },
    'tune.records': () => [],
  };
  const client = {
    info: { hardwareConcurrency: 8 },
    openLab: async () => waits, pace: async () => waits, closeLab: async () => {},
    survey: () => new Promise((resolve) => { setTimeout(() => resolve([{ step: 0, ms: 1 }]), surveyMs); }),
  };
  const plans = {
    id: 's', latest: { key: 'p' }, memory: { shared: true, threads: 1 },
    ask: async (what, { json }) => answers[what]?.(JSON.parse(json)) ?? {},
  };
  const nothing = () => {};
  const progress = { earlierMs, spentMs: 0, now: nothing, rests: nothing, delayed: nothing, tell: nothing, reason: '' };
  const calm = { stream: () => true, between: async () => {}, before: async () => {}, worked: nothing };
  const tuned = { plans, progress, calm, queue: (work) => work(), options: () => ({ mode: 'idle' }) };
  const ground = { client, facts: async () => {}, device: async () => 'stand-in' };
  await set(20);
  try {
    const reason = await new TuningLoop(tuned, ground, 'p', new AbortController().signal).run();
    return { reason, asked };
  } finally {
    await set(USUAL);
  }
}""".replace("USUAL", str(STREAM["surveyMs"]))


def loop(api: Api, **how: Any) -> Any:
    found = api.run(LOOP, {"earlierMs": 0, "surveyMs": 0, "waits": None, **how})
    assert found["reason"] == "enough"
    return found["asked"]


def test_what_a_stream_may_wait_is_known_before_the_labs_first_setup(api: Api) -> None:
    """A lab that has not been used yet knows no limit of its own; what earlier ones took counts."""
    infinite = {"delayedMs": 0, "delayed": 0, "leftMs": 1e9}
    for waits in (None, {"delayedMs": 0, "delayed": 0, "starved": False}):
        (*_, (_, most)) = loop(api, earlierMs=100, waits=waits)
        assert abs(most - STREAM["part"] * (STREAM["mayMs"] - 100)) < 1e-6
    (*_, (_, most)) = loop(api, earlierMs=1e6)
    assert most == 0
    (*_, (_, most)) = loop(api, waits={**infinite, "leftMs": 10})
    assert abs(most - STREAM["part"] * 10) < 1e-6
    (*_, (_, most)) = loop(api, waits={**infinite, "starved": True})
    assert most == 0


def test_beside_a_stream_the_inference_is_waited_for_that_tells_where_the_time_goes(api: Api) -> None:
    """Longer than where none may come at all."""
    asked = loop(api, surveyMs=300)
    assert [what for what, _ in asked] == ["surveyed", "next"] and asked[0][1] == 1
