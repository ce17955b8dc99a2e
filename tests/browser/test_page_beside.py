"""The panel that runs the open model on another library too, on stand-ins for both."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nnjit.devtools.cli import Project

from .page_flows import SCRIPT, TOO_WIDE, Open, card, load, run

if TYPE_CHECKING:
    from playwright.sync_api import Page

# Sums what it is fed, as the page's stand-in does, and half more.
LIBRARY = """
export class Tensor {
  constructor(type, data, dims) { Object.assign(this, { type, data, dims }); }
  async getData() { return this.data; }
}
export const env = { wasm: {} };
globalThis.other = { env, created: [], runs: 0, released: 0 };
export const InferenceSession = {
  create: async (model, options) => {
    other.created.push([model.length, options.executionProviders, options.externalData?.map((e) => e.path)]);
    return {
      run: async (feeds) => {
        other.runs += 1;
        if (!Object.values(feeds).every((tensor) => tensor instanceof Tensor)) throw new Error('not its own tensors');
        await new Promise((resolve) => setTimeout(resolve, 30));
        const sum = Object.values(feeds).flatMap(({ data }) => [...data]).reduce((a, x) => a + Number(x), 0);
        const logits = new Float32Array(10).fill(0.004);
        logits[7] = 0.96;
        return { sum: new Tensor('float32', Float32Array.of(sum + 0.5), [1]), ids: feeds.ids,
          logits: new Tensor('float32', logits, [1, 10]) };
      },
      release: async () => { other.released += 1; },
    };
  },
};
"""


def test_it_is_not_there_unless_asked_for(home: Open) -> None:
    page = home()
    load(page)
    assert page.locator(".beside").count() == 0


def test_both_run_the_same_and_are_compared(home: Open) -> None:
    page = with_library(home)
    load(page)
    assert page.is_disabled(".beside button")
    run(page)
    page.click(".beside button")
    page.wait_for_selector(".beside .figures")
    text = page.inner_text(".beside .figures")
    assert re.search(r"largest difference\s*0\.5\b|0\.5\s*largest difference", text), text
    assert page.evaluate("other.created") == [[1000, ["wasm"], None]]
    # three to warm up, at least three in turn
    assert page.evaluate("other.runs") >= 6 and page.evaluate("other.released") == 1
    assert page.evaluate("other.env.wasm.numThreads") == 2
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate(TOO_WIDE) == []


def test_models_on_the_gpu_meet_it_there(home: Open) -> None:
    """A long run, too: no more follow it unasked, and the panel is ready when it is over."""
    page = with_library(home, "?beside=1&backend=webgpu")
    load(page, "lengthy.onnx")
    run(page)
    assert page.evaluate("session.backend") == "webgpu" and page.evaluate("nnjit.log.runs") == 1
    page.click(".beside button")
    page.wait_for_selector(".beside .figures")
    assert page.evaluate("other.created") == [[1000, ["webgpu"], None]]
    assert page.is_enabled(".beside button")


def test_a_server_without_the_library_says_how_to_get_it(home: Open, allow_errors: list[str]) -> None:
    allow_errors.append("404")
    page = home("?beside=1")
    page.route("**/ort.wasm.min.mjs", lambda route: route.fulfill(status=404))
    load(page)
    run(page)
    page.click(".beside button")
    told = card(page)
    assert told["code"] == "NOT_AVAILABLE"
    assert "serve.py vendor bench" in page.inner_text(".failure")
    assert page.is_enabled(".beside button")


def test_its_folder_is_the_one_that_is_fetched(page: Page, project: Project) -> None:
    peer = page.evaluate("async () => (await import('/ui/beside.js')).PEER")
    for provider, group in (("wasm", "bench"), ("webgpu", "bench-gpu")):
        assert project.lock.entry(f"{peer}/ort.{provider}.min.mjs").group == group


def with_library(home: Open, query: str = "?beside=1") -> Page:
    page = home(query)
    page.route("**/ort.*.min.mjs", lambda route: route.fulfill(body=LIBRARY, headers=SCRIPT))
    return page
