"""Plans made beside runs: what becomes of them, and of who waits for them, where something comes in between."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Page

from nnjit.runtime.ahead import AHEAD as POLICY
from tests.support.decoder_models import SMALL, decoder

from .api_page import Api, two_outputs
from .engine_plans import scale_plan
from .room_page import agree, expected, set_up, size_of

MODEL = decoder(SMALL)
PROMPT = [int(v) for v in np.random.default_rng(3).integers(0, SMALL.vocabulary, 12)]

# What a prompt's run has made beside it is held until go(), where its module would be compiled; `held`: it is there.
# `staged` does what the engine's stagePlan does, or something else.
HOLD = """
  const { getEngine } = await import('/api/workers.js');
  const { client } = await getEngine();
  const hold = (staged = (...what) => Object.getPrototypeOf(client).stagePlan.apply(client, what)) => {
    let go, come;
    const held = new Promise((resolve) => { come = resolve; });
    const open = new Promise((resolve) => { go = resolve; });
    client.stagePlan = async (...what) => {
      delete client.stagePlan;
      come();
      await open;
      return staged(...what);
    };
    return { held, go };
  };
  const within = async (promise) => {
    let over = false;
    void promise.finally(() => { over = true; }).catch(() => undefined);
    await until(() => over);
    return promise;
  };
"""


@pytest.fixture
def decoding(api: Api) -> Iterator[Api]:
    set_up(api)
    yield api
    api.run("async () => { delete (await (await import('/api/workers.js')).getEngine()).client.stagePlan; }")


@pytest.mark.parametrize("how", ["refused", "never sent"])
def test_a_module_compiled_ahead_is_no_other_plans(engine: Page, how: str) -> None:
    """Its own plan was not loaded; the next one of that key has other code."""
    found = engine.evaluate(
        """async ([first, second, how]) => {
          const client = await EngineClient.start({ threads: 1 });
          await client.createSession('s');
          await client.stagePlan('s', revive(first));
          const refused =
            how === 'refused' && (await failure(client.loadPlan('s', { ...revive(first), version: 2 }))).code;
          await client.loadPlan('s', revive(second));
          const out = floats((await client.run('s', 'p', [new Float32Array(256).fill(1)])).outputs[0]);
          client.terminate();
          return { refused, out };
        }""",
        [scale_plan("p", True, [3.0]), scale_plan("p", True, [5.0]), how],
    )
    assert found == {"refused": "BAD_PLAN" if how == "refused" else False, "out": [5.0] * 256}


def test_who_waits_for_a_plan_made_ahead_can_give_up(decoding: Api) -> None:
    """The prompt's next token is asked for while its plan is being made; then it is not wanted, and then it is."""
    found = decoding.run(
        f"""async ([path, size, prompt]) => {{
          {HOLD}
          const session = await create(path, {{ strict: true }});
          const sequence = new Sequence(session, size, prompt);
          const {{ held, go }} = hold();
          await sequence.token();
          await held;
          const stop = new AbortController();
          const feeds = stepFeeds(size, sequence.fed, sequence.before);
          const waiting = failure(session.run(feeds, undefined, {{ signal: stop.signal }}));
          setTimeout(() => stop.abort(), 100); // by then it waits for what is being made
          const ended = await within(waiting);
          go();
          for (let i = 0; i < 3; i++) await sequence.token();
          await session.release();
          return {{ ...sequence.found, ended: ended.code ?? ended }};
        }}""",
        [decoding.put("decoder.onnx", MODEL), size_of(SMALL), PROMPT],
    )
    assert found["ended"] == "ABORTED"
    agree(found, *expected(MODEL, SMALL, PROMPT, 4))


def test_a_module_that_could_not_be_compiled_ahead_is_compiled_with_its_plan(decoding: Api) -> None:
    found = decoding.run(
        f"""async ([path, size, prompt]) => {{
          {HOLD}
          const session = await create(path, {{ strict: true }});
          const sequence = new Sequence(session, size, prompt);
          const {{ held, go }} = hold(async () => {{ throw new Error('not now'); }});
          go();
          await sequence.token();
          await held;
          await until(() => session.stats().plans >= 2);
          for (let i = 0; i < 3; i++) await sequence.token();
          await session.release();
          return sequence.found;
        }}""",
        [decoding.put("decoder.onnx", MODEL), size_of(SMALL), PROMPT],
    )
    agree(found, *expected(MODEL, SMALL, PROMPT, 4))
    assert found["cold"] == [True, False, False, False]


def test_what_is_given_up_for_a_plan_made_ahead_leaves_the_engine(api: Api) -> None:
    """Also where there is nothing to load after all: Python has forgotten it."""
    found = api.run(
        f"""async (path) => {{
          {HOLD}
          const {{ getCompiler }} = await import('/api/workers.js');
          const compiler = getCompiler();
          const session = await create(path, {{ strict: true, maxPlans: 2 }});
          const some = (n, value) => T('float32', new Float32Array(n).fill(value), [n]);
          const run = async (n) => {{
            const {{ sum, product }} = await session.run({{ a: some(n, 2), b: some(n, 3) }});
            return sum.data.length === n && sum.data.every((v) => v === 5) && product.data.every((v) => v === 6);
          }};
          const right = [];
          const keys = [];
          for (const n of [40, 41]) {{
            right.push(await run(n));
            keys.push(session.stats().key);
          }}
          const left = new Promise((resolve) => {{
            compiler.call = async (method, args, options) => {{
              const answer = await Object.getPrototypeOf(compiler).call.call(compiler, method, args, options);
              if (method !== 'prepare' || !args.exact) return answer;
              delete compiler.call;
              resolve(answer.evicted);
              return {{ ...answer, plan: null }};
            }};
          }});
          let over = false;
          void left.then(() => {{ over = true; }});
          for (let i = 0; i < 1000 && !over; i++) right.push(await run(43)); // which gets a plan of its own
          const evicted = await within(left);
          await until(() => session.stats().plans <= 1);
          const held = (await client.memory()).sessions.map(({{ plans }}) => plans);
          const there = held.find((plans) => plans.includes(keys[1]));
          for (const n of [40, 41, 43]) right.push(await run(n));
          await session.release();
          return {{ keys, evicted, there, right: right.every(Boolean) }};
        }}""",
        api.put("any.onnx", two_outputs(["n"])),
    )
    assert "n<=" in found["keys"][1] and found["evicted"] == [found["keys"][0]]
    assert found["there"] == [found["keys"][1]] and found["right"]


def test_the_tuner_does_not_wait_for_a_run_to_load_what_was_made_ahead(api: Api) -> None:
    """Where outputs were pinned a plan made ahead is loaded by the next run; there may be none."""
    found = api.run(
        """async () => {
          const { quiet, relink } = await import('/api/relink.js');
          const done = [];
          const plans = {
            preparing: true, waits: false, loaded: ['p'],
            settle: async () => {
              done.push('loaded');
              Object.assign(plans, { preparing: false, waits: false, loaded: ['p', 'q'] });
            },
          };
          const stop = new AbortController();
          setTimeout(() => stop.abort(), 30_000);
          setTimeout(() => { plans.waits = true; }, 50);
          const queue = async (work) => {
            done.push('in turn');
            await work();
          };
          const ask = async (method, { loaded }) => {
            done.push(method, ...loaded);
            return { reason: 'enough' };
          };
          const always = { mayMs: async () => Infinity, idleMs: () => Infinity };
          const how = { ask, queue, signal: stop.signal, lab: 'lab', modelMs: 1, ...always };
          const reason = await relink(plans, {}, 'p', how);
          Object.assign(plans, { preparing: true, waits: true });
          await quiet(plans, queue, stop.signal);
          const aborted = AbortSignal.abort();
          Object.assign(plans, { preparing: true });
          await quiet(plans, queue, aborted);
          return { reason, done };
        }"""
    )
    assert found["reason"] == "enough"
    assert found["done"] == ["in turn", "loaded", "link", "p", "q", "in turn", "loaded"]


def test_plans_on_two_backends_are_asked_what_plans_are(api: Api) -> None:
    missing = api.run(
        """async () => {
          const [{ Plans }, { Backends }] = [await import('/api/plans.js'), await import('/api/backends.js')];
          const [all, both] = [Plans, Backends].map((kind) => Object.getOwnPropertyNames(kind.prototype));
          return all.filter((name) => !both.includes(name));
        }"""
    )
    assert missing == ["model", "external"], "these it has of its own"


AHEAD = """async (policy) => {
  const { Ahead } = await import('/api/ahead.js');
  const made = [];
  const plans = {
    preparing: false, pins: false, settle: async () => undefined,
    stage: async ({ shapes, exact = false }) => { if (!plans.preparing) made.push([shapes.x[0], exact]); },
  };
  const n = { offset: 0, terms: [[1, 0, []]] };
  const lengths = [{ least: 1, most: 64 }];
  const room = { lengths, run: [], exact: [], times: null, more: null, inputs: { x: [[0, n]] }, outputs: {} };
  const facts = { host: false };
  const request = { shapes: { x: [40] }, values: new Map() };
  const plan = { room, facts, ahead: policy, load: null, seconds: {}, request };
  const ahead = new Ahead(plans, (work) => work());
  const run = (n, preparing) => {
    plans.preparing = preparing;
    ahead.ran(plan, { shapes: { x: [n] }, values: new Map() }, 1);
  };
"""


def test_a_plan_is_asked_for_again_where_another_was_being_made(page: Page) -> None:
    found = page.evaluate(
        AHEAD
        + """
          for (let i = 0; i < policy.again + 2; i++) run(37, true);
          for (let i = 0; i < 3; i++) run(37, false);
          const own = made.splice(0);
          for (let n = 60 - policy.rises; n < 62; n++) run(n, true);
          for (let n = 62; n < 65; n++) run(n, false);
          return { own, next: made };
        }""",
        POLICY,
    )
    assert found == {"own": [[37, True]], "next": [[65, False]]}
