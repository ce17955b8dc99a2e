"""An engine whose worker or thread ends, cannot start or is ended: who waits hears of it, and a new one works."""

from __future__ import annotations

import numpy as np
from playwright.sync_api import Browser, Page

from .engine_page import engine_page, serve
from .engine_plans import Toy, rotate_plan, spin

# A thread that ends in the middle of a job, without a word to thread 0.
MORTAL = """
import { Control as Mortal } from './control.js';
Mortal.prototype.finish = () => { self.close(); throw new Error('gone'); };
"""

NEW_ENGINE = """async ({ plan, threads }) => {
  const pending = await Promise.race([waiting, new Promise((r) => setTimeout(r, 60000, 'still pending'))]);
  const after = await failure(client.memory());
  const next = await EngineClient.start({ threads });
  await next.createSession('s');
  await next.loadPlan('s', revive(plan));
  const { outputs } = await next.run('s', 'p', [i32([0, 1, 2, 3, 4, 5, 6, 7])]);
  next.terminate();
  return { deaths, pending, after, values: ints(outputs[0]) };
}"""


def check_death(page: Page, threads: int) -> None:
    """The death is told, what waited is rejected, and a new engine works."""
    page.wait_for_function("() => window.deaths.length > 0")
    result = page.evaluate(NEW_ENGINE, {"plan": rotate_plan("p", True, 3, 8), "threads": threads})
    assert [death["code"] for death in result["deaths"]] == ["ENGINE_DIED"] and result["deaths"][0]["hint"]
    assert result["pending"]["code"] == result["after"]["code"] == "ENGINE_DIED"
    np.testing.assert_array_equal(result["values"], np.roll(np.arange(8), -3) + 3)


def test_a_dead_engine_worker_is_noticed_and_a_new_one_works(engine: Page) -> None:
    toy = Toy("waits", True)
    toy.host("never", [], [])
    toy.step(toy.kernel(spin("spin", 1)), toy.args(toy.room(4)), 1)
    with engine.expect_worker(lambda worker: "engine.worker" in worker.url) as found:
        engine.evaluate(
            """async (plan) => {
              window.client = await EngineClient.start({ threads: 2 });
              window.deaths = [];
              client.onDeath((error) => deaths.push(error.toJSON()));
              await client.createSession('s');
              await client.loadPlan('s', revive(plan));
              client.connectHost(new MessageChannel().port1);
              window.waiting = failure(client.run('s', 'waits', []));
              await client.memory();
            }""",
            toy.plan(),
        )
    found.value.evaluate("() => self.close()")
    check_death(engine, threads=2)


def test_a_thread_that_dies_in_a_job_is_noticed(browser: Browser) -> None:
    with (
        serve(isolated=True, additions={"/engine/thread.worker.js": MORTAL}) as origin,
        engine_page(browser, origin) as page,
    ):
        page.evaluate(
            """async (plan) => {
              window.client = await EngineClient.start({ threads: 2 });
              window.deaths = [];
              client.onDeath((error) => deaths.push(error.toJSON()));
              await client.createSession('s');
              await client.loadPlan('s', revive(plan));
              // a run does not need the others, but what every thread has to do finds that one is missing
              const other = () => failure(client.createSession('t'));
              window.waiting = client.run('s', 'p', [new Int32Array(8)]).then(other, (error) => error.toJSON());
            }""",
            rotate_plan("p", True, 3, 8),
        )
        check_death(page, threads=1)


def test_short_steps_do_not_call_the_other_threads(browser: Browser) -> None:
    """Whoever is called to a job dies of it: nobody is."""
    plan = rotate_plan("p", True, 3, 8)
    for step in plan["steps"]:
        step["wake"] = False
    with (
        serve(isolated=True, additions={"/engine/thread.worker.js": MORTAL}) as origin,
        engine_page(browser, origin) as page,
    ):
        values = page.evaluate(
            """async (plan) => {
              const client = await EngineClient.start({ threads: 2 });
              await client.createSession('s');
              await client.loadPlan('s', revive(plan));
              const values = [];
              for (let i = 0; i < 3; i++) {
                values.push(ints((await client.run('s', 'p', [new Int32Array(8).fill(i)])).outputs[0])[0]);
              }
              client.terminate();
              return values;
            }""",
            plan,
        )
    assert values == [3, 4, 5]


def test_an_engine_that_cannot_start_says_so(browser: Browser) -> None:
    broken = {"/engine/thread.worker.js": "\nimport './nothing.js';\n"}
    with serve(isolated=True, additions=broken) as origin, engine_page(browser, origin) as page:
        error = page.evaluate("() => failure(EngineClient.start({ threads: 2 }))")
    assert error["code"] == "ENGINE_START_FAILED"


def test_ending_the_engine_rejects_what_is_pending_and_is_no_death(engine: Page) -> None:
    result = engine.evaluate(
        """async () => {
          const client = await EngineClient.start({ threads: 2 });
          let deaths = 0;
          client.onDeath(() => { deaths++; });
          const pending = failure(client.memory());
          client.terminate();
          return [(await pending).code, (await failure(client.memory())).code, deaths];
        }"""
    )
    assert result == ["ENGINE_DIED", "ENGINE_DIED", 0]
