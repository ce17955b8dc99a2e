"""The live tuner in Chromium through the public API: swaps under load, records, pause and reset, plans replaced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from nnjit.tune.policy import PACE, PROBING
from tests.support.small_models import several_forms

from .api_page import BOOT, Api, model

if TYPE_CHECKING:
    from nnjit.devtools.httpd import Server

F = TensorProto.FLOAT


def net(rows: Any = 64) -> Any:
    """Products of constants and of activations, softmax, a residual. rows: a number, or a name."""
    rng = np.random.default_rng(1)
    weights = {n: (rng.standard_normal((96, 96)) / 8).astype(np.float32) for n in ("v", "w")}
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["a"]),
        helper.make_node("Softmax", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["c"]),
        helper.make_node("Add", ["c", "x"], ["d"]),
        helper.make_node("Tanh", ["d"], ["y"]),
    ]
    return model(nodes, {"x": (F, [rows, 96])}, {"y": (F, [rows, 96])}, weights)


PYTHON = "async (code) => { await nnjit.python(code); }"


@contextmanager
def ruled(api: Api, rules: str, undo: str) -> Iterator[None]:
    """Other rules for the compiler of that page, and those it had, whatever becomes of the test."""
    api.run(PYTHON, rules)
    try:
        yield
    finally:
        api.run(PYTHON, undo)


@pytest.fixture(scope="module")
def tuned(new_page: Any, server: Server) -> Iterator[Api]:
    """A page of its own: these tests change what its compiler believes."""
    with new_page(allowed=[".*"]) as page:
        made = Api(page, server)
        page.evaluate(BOOT)
        # kernels of these sizes may be at their bound from the start; they are tried all the same
        made.run(PYTHON, "import nnjit.tune.search as s; s.WORTH = s.NEAR = 0")
        page.evaluate("""() => {
          const values = (seed) => Float32Array.from({ length: 64 * 96 }, (_, i) => Math.sin(i * seed));
          window.feed = (seed) => T('float32', values(seed), [64, 96]);
          window.wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
          window.worst = (a, b) => a.reduce((w, v, i) => Math.max(w, Math.abs(v - b[i])), 0);
        }""")
        yield made


SWAPPED = """async (path) => {
  const small = (seed) => T('float32', feed(seed).data.slice(0, 48 * 96), [48, 96]);
  const session = await create(path);
  const wanted = [];
  for (const seed of [1, 2, 3]) wanted.push((await session.run({ x: small(seed) })).y.data);
  await session.tuning.start({ mode: 'now' });
  let error = 0;
  let runs = 0;
  const { tuning } = session;
  await until(async () => {
    const { y } = await session.run({ x: small(1 + (runs % 3)) });
    error = Math.max(error, worst(y.data, wanted[runs++ % 3]));
    const { kept, state } = tuning.status();
    return runs > 5 && (kept >= 25 || state !== 'running');
  }, () => tuning.status(), 120);
  await session.tuning.pause();
  const paused = session.tuning.status();
  const { y } = await session.run({ x: small(2) });
  // another form's plan, taken over just before the pause, has tried none of its kernels yet
  const { step } = paused.kernels.reduce((a, b) => (b.tried > a.tried ? b : a));
  const kernel = await session.kernel(step);
  await session.tuning.reset();
  const back = await session.run({ x: small(2) });
  const exact = worst(back.y.data, wanted[1]);
  const after = session.tuning.status();
  await session.release();
  return { error, runs, paused, after, exact, end: worst(y.data, wanted[1]), kernel };
}"""


def test_results_are_right_while_kernels_are_swapped(tuned: Api) -> None:
    """Every candidate is made to win, so that slots change all the time and panels are made over, under load. No other
    test's model has kernels of this size: what was found for them would be known here."""
    with ruled(tuned, "usual = s.WIN, s.AGAIN; s.WIN = s.AGAIN = 1e9", "s.WIN, s.AGAIN = usual"):
        got = tuned.run(SWAPPED, tuned.put("small.onnx", net(48)))
    paused = got["paused"]
    assert paused["state"] in ("paused", "done") and paused["kept"] >= 5 and got["runs"] > 5, paused
    assert got["error"] < 1e-5 and got["end"] < 1e-5
    assert got["exact"] < 1e-6, "reset does not bring the first kernels back"
    assert got["after"]["state"] == "off" and got["after"]["candidates"] == 0
    assert "listing" in got["kernel"]


def test_a_second_session_starts_from_what_the_first_found(tuned: Api) -> None:
    got = tuned.run(
        """async (path) => {
          const first = await create(path);
          await first.run({ x: feed(1) });
          await first.tuning.start({ mode: 'now' });
          const ended = await first.tuning.finished();
          const records = await first.tuning.export();
          await first.release();
          const second = await create(path, { tune: { mode: 'now' } });
          const { y } = await second.run({ x: feed(1) });
          const again = await second.tuning.finished();
          const known = await second.tuning.import(records + '{"format":1}\\n');
          await second.release();
          return { ended, again, records, known, y: y.data.length, facts: (await nnjit.device()).tuning };
        }""",
        tuned.put("net.onnx", net()),
    )
    lines = got["records"].splitlines()
    assert got["ended"]["state"] == "done" and lines
    assert all(k["tried"] <= 1 for k in got["again"]["kernels"] if k["closed"] in ("known", "all tried"))
    assert got["again"]["candidates"] <= got["ended"]["candidates"]
    assert got["known"] == {"taken": len(lines), "refused": 1}
    assert got["facts"]["measured"] and got["facts"]["fma_gflops"] > 1 and got["facts"]["registers"] >= 8


def test_tuning_keeps_out_of_the_way(tuned: Api) -> None:
    """Bursts, a steady stream, a hidden page: work goes on, what runs had to wait for stays within its allowance."""
    got = tuned.run(
        """async (path) => {
          const session = await create(path, { tune: { mode: 'idle', budgetMs: 20000 } });
          let longest = 0;
          const one = async () => {
            const begun = performance.now();
            await session.run({ x: feed(1) });
            longest = Math.max(longest, performance.now() - begun);
          };
          await one();
          longest = 0; // the first compiles
          for (let burst = 0; burst < 3; burst++) {
            for (let i = 0; i < 10; i++) await one();
            await wait(300);
          }
          const burst = session.tuning.status();
          const until = performance.now() + 1000;
          while (performance.now() < until) await one();
          const steady = { ...session.tuning.status(), longest };
          Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true });
          const ends = ({ state, reason }) => state === 'done' || reason === 'the page is hidden';
          for (let i = 0; i < 300 && !ends(session.tuning.status()); i++) await wait(100); // it ends what it began
          const hidden = session.tuning.status();
          await wait(600);
          const still = session.tuning.status();
          delete document.visibilityState;
          await session.tuning.pause();
          await session.release();
          return { burst, steady, hidden, still };
        }""",
        tuned.put("net.onnx", net()),
    )
    # nothing is begun with less left than it may take: past the limits comes at most what the machine held up in the
    # last slice of either, and the run that waited for that took as long
    limit = PACE["allowanceMs"] + PROBING["allowanceMs"]
    assert limit == 500 and got["steady"]["delayedMs"] <= limit + 2 * got["steady"]["longest"]
    if got["hidden"]["state"] != "done":
        assert got["hidden"]["state"] == "resting" and got["hidden"]["reason"] == "the page is hidden"
        assert got["still"]["candidates"] == got["hidden"]["candidates"]


def test_two_sessions_share_the_lab_in_turns(tuned: Api) -> None:
    got = tuned.run(
        """async (path) => {
          const sessions = [await create(path), await create(path)];
          const wanted = (await sessions[0].run({ x: feed(4) })).y.data;
          for (const session of sessions) {
            await session.run({ x: feed(4) });
            await session.tuning.start({ mode: 'now', budgetMs: 1500 });
          }
          const ended = await Promise.all(sessions.map((session) => session.tuning.finished()));
          const right = [];
          for (const session of sessions) right.push(worst((await session.run({ x: feed(4) })).y.data, wanted));
          for (const session of sessions) await session.release();
          return { states: ended.map(({ state }) => state), right };
        }""",
        tuned.put("net.onnx", net()),
    )
    assert got["states"] == ["done", "done"] and max(got["right"]) < 1e-5


def test_tuning_that_is_asked_for_before_the_first_run_waits_for_it(tuned: Api) -> None:
    got = tuned.run(
        """async (path) => {
          const session = await create(path);
          await session.tuning.start({ mode: 'now', budgetMs: 1500 });
          const waiting = session.tuning.status();
          await session.tuning.pause();
          const paused = session.tuning.status().state;
          await session.tuning.start();
          const over = session.tuning.finished();
          await session.run({ x: feed(1) });
          const ended = await over;
          await session.release();
          return { waiting, paused, ended };
        }""",
        tuned.put("rows.onnx", net("n")),  # nothing is compiled before its rows are known
    )
    waiting = got["waiting"]
    assert (waiting["state"], waiting["running"], waiting["mode"]) == ("waiting", False, "now") and waiting[
        "reason"
    ]
    assert got["paused"] == "paused"
    assert got["ended"]["state"] == "done" and got["ended"]["kernels"]


def test_tuning_that_waits_for_a_model_without_kernels_ends(tuned: Api) -> None:
    got = tuned.run(
        """async (path) => {
          const session = await create(path, { executionProviders: ['reference'] });
          await session.tuning.start();
          const waiting = session.tuning.status().state;
          const over = session.tuning.finished();
          await session.run({ x: feed(1) });
          const { state, reason } = await over;
          await session.release();
          return [waiting, state, reason];
        }""",
        tuned.put("rows.onnx", net("n")),
    )
    assert got == ["waiting", "failed", "A model on the reference has no kernels to tune"]


def test_the_choice_of_a_backend_is_part_of_the_report(tuned: Api) -> None:
    got = tuned.run(
        """async (path) => {
          const session = await create(path, { executionProviders: ['webgpu', 'wasm'] });
          const told = () => session.tuning.events.filter(({ kind }) => kind === 'backend');
          await until(async () => {
            await session.run({ x: feed(1) });
            await wait(20);
            return told().length;
          }, () => session.backendReason);
          await session.run({ x: feed(1) });
          const { backend, backendReason } = session.tuning.status();
          const found = { events: told(), backend, backendReason, wanted: [session.backend, session.backendReason] };
          await session.release();
          return found;
        }""",
        tuned.put("net.onnx", net()),
    )
    [event] = got["events"]
    assert [event["name"], event["text"]] == [got["backend"], got["backendReason"]] == got["wanted"]
    assert got["backendReason"]


def test_tune_options_are_checked(tuned: Api) -> None:
    path = tuned.put("net.onnx", net())
    for body in (
        "{ mode: 'fast' }",
        "{ mode: 'now', budgetMs: -1 }",
        "{ cacheUrl: 5 }",
        "{ share: 1 }",
        "'soon'",
        "7",
    ):
        assert tuned.failure(f"await create(arg, {{ tune: {body} }})", path)["code"] == "BAD_OPTION"
    assert (
        tuned.run("async (path) => (await create(path, { tune: 'idle' })).tuning.status().mode", path)
        == "idle"
    )


OTHERS_WIN = """
import nnjit.runtime.forming as forming
usual = forming.Forming.answers, forming.EARLY
forming.EARLY = 0
forming.Forming.answers = property(lambda self: {
    q: form for c in self.contests if c.verdict in ("timed", "slow") for q, form in c.group.answers.items()})
"""
REPLACED = """async ([path, dims]) => {
  const feeds = (seed) => Object.fromEntries(Object.entries(dims).map(([name, shape]) => {
    const length = shape.reduce((n, d) => n * d, 1);
    const data = Float32Array.from({ length }, (_, i) => Math.sin(i * seed + name.length));
    return [name, T('float32', data, shape)];
  }));
  const off = (a, b) => Math.max(...Object.keys(b).map((name) => worst(a[name].data, b[name].data)));
  const session = await create(path);
  const wanted = [await session.run(feeds(1)), await session.run(feeds(2))];
  const before = session.placement().map(({ kernel }) => kernel);
  await session.tuning.start({ mode: 'now' });
  let error = 0;
  let runs = 0;
  const replaced = () => session.tuning.events.find(({ kind }) => kind === 'plan');
  await until(async () => {
    error = Math.max(error, off(await session.run(feeds(1 + (runs % 2))), wanted[runs % 2]));
    return ++runs > 3 && replaced();
  }, () => session.tuning.status(), 120);
  await session.tuning.pause();
  error = Math.max(error, off(await session.run(feeds(1)), wanted[0]));
  const after = session.placement().map(({ kernel }) => kernel);
  const { forms } = session.tuning.status();
  const event = replaced();
  await session.tuning.reset();
  const exact = off(await session.run(feeds(2)), wanted[1]);
  const back = session.placement().map(({ kernel }) => kernel);
  await session.release();
  return { error, runs, event, before, after, back, forms, exact };
}"""


def test_a_plan_is_replaced_while_it_serves(tuned: Api) -> None:
    """Every other form is made to win: the plan changes between two runs, and back at a reset; no result is off."""
    code, feeds = several_forms()
    shapes = {name: list(a.shape) for name, a in feeds.items()}
    with ruled(tuned, OTHERS_WIN, "forming.Forming.answers, forming.EARLY = usual"):
        got = tuned.run(REPLACED, [tuned.put("forms.onnx", code), shapes])
    assert got["event"]["name"] == "replaced", got["event"]
    assert {form["verdict"] for form in got["forms"]} <= {"timed", "slow"} and len(got["forms"]) >= 2
    assert got["after"] != got["before"] and got["back"] == got["before"]
    assert got["error"] < 1e-3 and got["exact"] < 1e-6


def test_a_full_disk_costs_memory_of_it_only(tuned: Api) -> None:
    """Nothing can be stored: tuning goes on to its end, and results are right."""
    got = tuned.run(
        """async (path) => {
          const { put } = IDBObjectStore.prototype;
          IDBObjectStore.prototype.put = () => { throw new DOMException('the disk is full', 'QuotaExceededError'); };
          try {
            const session = await create(path);
            const wanted = (await session.run({ x: feed(5) })).y.data;
            await session.tuning.start({ mode: 'now', budgetMs: 1200 });
            const { state, reason } = await session.tuning.finished();
            const error = worst((await session.run({ x: feed(5) })).y.data, wanted);
            await session.release();
            return { state, reason, error };
          } finally {
            IDBObjectStore.prototype.put = put;
          }
        }""",
        tuned.put("net.onnx", net()),
    )
    assert got["state"] == "done" and got["error"] < 1e-5, got
