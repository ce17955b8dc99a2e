"""A batch that grows while it is tuned, and the next visit of the page, from starts with everything to gain."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.bench.claims import handicap

from .api_page import Api, model

if TYPE_CHECKING:
    from nnjit.devtools.httpd import Server

F = TensorProto.FLOAT
BATCHES = (1, 2, 5)
ROWS, WIDE = 48, 80


def layers() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {n: (rng.standard_normal((WIDE, WIDE)) / 9).astype(np.float32) for n in ("v", "w")}


def net() -> Any:
    """y = tanh(softmax(x v) w + x) of any number of matrices x."""
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["a"]),
        helper.make_node("Softmax", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["c"]),
        helper.make_node("Add", ["c", "x"], ["d"]),
        helper.make_node("Tanh", ["d"], ["y"]),
    ]
    return model(nodes, {"x": (F, ["n", ROWS, WIDE])}, {"y": (F, ["n", ROWS, WIDE])}, layers())


def answer(batch: int) -> np.ndarray:
    weights = layers()
    x = np.sin(np.arange(batch * ROWS * WIDE, dtype=np.float64) * 0.37).reshape(batch, ROWS, WIDE)
    a = x @ weights["v"]
    e = np.exp(a - a.max(-1, keepdims=True))
    return np.asarray(np.tanh(e / e.sum(-1, keepdims=True) @ weights["w"] + x))


@pytest.fixture(scope="module")
def slow(new_page: Any, server: Server) -> Iterator[Api]:
    """A page whose plans start with schedules drawn by lot, and whose lists are in no order."""
    with new_page(allowed=[".*"]) as page:
        yield begun(Api(page, server))


def begun(api: Api) -> Api:
    """Its plans start slow; kernels that are near their bound are tried all the same."""
    for code in (inspect.getsource(handicap), "begin('blind')",
                 "import nnjit.tune.search as search; search.WORTH = search.NEAR = 0"):  # fmt: skip
        api.run("async (code) => { await nnjit.python(code); }", code)
    return api


def test_batches_grow_while_kernels_are_tuned(slow: Api) -> None:
    """Each shape's plan is tuned when it is used; an earlier one still serves, as it was left."""
    got = slow.run(
        """async ([path, batches, rows, wide]) => {
          const session = await create(path, { tune: { mode: 'now' } });
          const values = (n) => Float32Array.from({ length: n * rows * wide }, (_, i) => Math.sin(i * 0.37));
          const seen = [];
          for (const n of [...batches, batches[0]]) {
            const x = T('float32', values(n), [n, rows, wide]);
            const before = session.tuning.status().candidates;
            const wanted = seen.length < batches.length ? before + 4 : 0;
            const until = performance.now() + 60000;
            let [y, moved] = [null, 0];
            for (let runs = 0; runs < 20 || session.tuning.status().candidates < wanted; runs++) {
              const { data } = (await session.run({ x })).y;
              if (y) moved = data.reduce((worst, v, i) => Math.max(worst, Math.abs(v - y[i])), moved);
              y = data;
              if (performance.now() > until) break;
              await new Promise((resolve) => { setTimeout(resolve, 5); });
            }
            const { state, reason, candidates, notes } = session.tuning.status();
            seen.push({ n, y: [...y], moved, state, reason, tried: candidates - before, notes });
          }
          await session.tuning.pause();
          const records = await session.tuning.export();
          // a plan that was never tuned is the latest now
          await session.run({ x: T('float32', values(3), [3, rows, wide]) });
          const still = await session.tuning.export();
          await session.release();
          return { seen, records, still };
        }""",
        [slow.put("batches.onnx", net()), list(BATCHES), ROWS, WIDE],
    )
    seen = got["seen"]
    assert got["still"] == got["records"]
    assert [s["n"] for s in seen] == [*BATCHES, BATCHES[0]]
    for s in seen:
        wanted = answer(s["n"])
        # sums of 80 terms in another order
        np.testing.assert_allclose(np.reshape(s["y"], wanted.shape), wanted, atol=2e-5)
        assert s["moved"] < 2e-5 and s["state"] in ("running", "done"), s
    assert all(s["tried"] >= 4 for s in seen[:-1]), [(s["tried"], s["state"], s["reason"]) for s in seen]


VISIT = """async ([path, rows, wide, budgetMs]) => {
  const session = await create(path, budgetMs ? { tune: { mode: 'now', budgetMs } } : {});
  const stored = (await nnjit.device()).tuning;
  await session.run({ x: T('float32', new Float32Array(rows * wide), [1, rows, wide]) });
  if (!budgetMs) { // until some kernels have been replaced
    await session.tuning.start({ mode: 'now' });
    const { tuning } = session;
    await until(() => tuning.status().kept >= 3 || tuning.status().state !== 'running', () => tuning.status(), 120);
    await session.tuning.pause();
  }
  const { kept, phase, notes } = await session.tuning.finished();
  const schedules = [];
  const steps = new Set((await session.placement()).flatMap(({ step }) => step ?? []));
  for (const step of steps) schedules.push((await session.kernel(step)).schedule);
  await session.release();
  return { stored, kept, phase, notes, schedules, facts: session.tuning.facts };
}"""


def test_the_next_visit_starts_with_what_this_one_found(slow: Api) -> None:
    """Facts and records, forms included: the plan of a page that was loaded anew has the tuned schedules at once."""
    path = slow.put("batches.onnx", net())
    first = slow.run(VISIT, [path, ROWS, WIDE, 0])
    slow.page.reload()
    again = begun(Api(slow.page, slow.server))
    second = again.run(VISIT, [path, ROWS, WIDE, 1])  # no time to find anything
    assert second["stored"]["measured"] and second["facts"] == first["facts"]
    assert first["kept"] and second["kept"] == 0
    # else a form had won that was not in the plan yet, or that the plan could not have
    if first["phase"] not in ("forms", "change") and not first["notes"]:
        assert second["schedules"] == first["schedules"]
