"""Forms of nodes on the GPU: both ways of a part of a model run in the lab and agree, those that win change the plan
while it serves, and what was there at first comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.browser.api_page import Api
from tests.device.conftest import decoded, encoded
from tests.device.running import SET_UP
from tests.support.single import native
from tests.support.small_models import GPU_FORMS, several_gpu_forms

MODEL, FEEDS = several_gpu_forms()
PRODUCT = ("MatMul", "parts instead of whole")
OTHERS = GPU_FORMS - {PRODUCT}

PYTHON = """async ([code]) => {
  const nnjit = (await import('/nnjit.js')).default;
  await nnjit.python(code);
}"""

JUDGE = """
import nnjit.runtime.forming as forming
from nnjit.tune import search
report, setup = forming.Forming.report, forming.GpuPairBench.setup
worth, rounds = search.WORTH, forming.PAIR_ROUNDS
def judged(self, told):
    if told["verdict"] in ("timed", "slow"):
        base = [max(ms, 1e-3) for ms in told["base"]]
        told = {**told, "verdict": "timed", "base": base, "mine": [0.5 * ms for ms in base]}
    return report(self, told)
def misled(self):
    found = setup(self)
    for fill in found["fills"][1]:
        fill["pattern"] = fill["pattern"][4:] + fill["pattern"][:4]
    return found
forming.Forming.report = judged
search.WORTH, forming.PAIR_ROUNDS = 1e9, 2
"""
MISLED = "forming.GpuPairBench.setup = misled"
UNDO = """
forming.Forming.report, forming.GpuPairBench.setup = report, setup
search.WORTH, forming.PAIR_ROUNDS = worth, rounds
"""

TUNE = """async ([path, feeds]) => {
  const session = await create(path, { executionProviders: ['webgpu'], strict: true });
  try {
    const given = Object.fromEntries(Object.entries(feeds).map(([name, value]) => [name, decode(value)]));
    const run = async () => {
      const results = Object.entries(await session.run(given));
      return Object.fromEntries(await Promise.all(results.map(async ([name, each]) => [name, await encode(each)])));
    };
    const kernels = () => session.placement().flatMap(({ kernel }) => kernel ?? []);
    const first = await run();
    const before = kernels();
    await session.tuning.start({ mode: 'now' });
    let during;
    await until(async () => {
      during = await run();
      await new Promise((resolve) => setTimeout(resolve, 30));
      return !session.tuning.status().running;
    }, () => session.tuning.status(), 200);
    const status = await session.tuning.finished();
    const tuned = kernels();
    const last = await run();
    const kept = session.tuning.events.filter(({ kind }) => kind === 'plan');
    const text = await session.tuning.export();
    await session.tuning.reset();
    const again = await run();
    return { values: [first, during, last, again], before, tuned, back: kernels(), status, text,
      plans: kept.map(({ name, text }) => ({ name, text })) };
  } finally {
    await session.release();
  }
}"""

TUNED = Callable[[str], dict[str, Any]]


@pytest.fixture
def tuned(gpu: Api) -> Iterator[TUNED]:
    """Tunes the model where every form that is right wins, and kernels are left alone."""

    def run(more: str) -> dict[str, Any]:
        gpu.run(SET_UP)
        gpu.run(PYTHON, [JUDGE + more])
        given = {name: encoded(array) for name, array in FEEDS.items()}
        return dict(gpu.run(TUNE, [gpu.put("forms.onnx", MODEL), given]))

    yield run
    gpu.run(PYTHON, [UNDO])


def check(found: dict[str, Any]) -> None:
    """What it computes at any time is what the model says."""
    wanted = native(MODEL, FEEDS)
    assert found["status"]["state"] == "done", found["status"]
    for values in found["values"]:
        for name, value in values.items():
            np.testing.assert_allclose(decoded(value), wanted[name], rtol=1e-4, atol=1e-4)


def in_parts(kernels: list[str]) -> bool:
    return any("matmul_parts" in name or "matmul_sum" in name for name in kernels)


def test_forms_that_win_change_the_plan(tuned: TUNED) -> None:
    found = tuned("")
    check(found)
    status = found["status"]
    began_in_parts = in_parts(found["before"])  # which way a product starts is the device's
    product = ("MatMul", "whole instead of parts") if began_in_parts else PRODUCT
    assert {(f["name"], f["text"]) for f in status["forms"]} == {*OTHERS, product}
    assert all(f["verdict"] == "timed" and f["kept"] for f in status["forms"]), status["forms"]
    assert {p["name"] for p in found["plans"]} == {"replaced"} and not status["notes"]
    assert any("attention_values" in name for name in found["tuned"])
    assert in_parts(found["tuned"]) is not began_in_parts
    assert found["back"] == found["before"] != found["tuned"]
    assert "webgpu-" not in found["text"], "answers about forms are this browser's own"


def test_a_way_that_gives_other_numbers_changes_nothing(tuned: TUNED) -> None:
    """Its activations are others here: that it differs is seen, and it is not tried again."""
    found = tuned(MISLED)
    check(found)
    assert {f["verdict"] for f in found["status"]["forms"]} == {"wrong"}
    assert all("instead of" in f["reason"] and not f["kept"] for f in found["status"]["forms"])
    assert not found["plans"] and found["before"] == found["tuned"]
