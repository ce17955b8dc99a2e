"""The page's own flows, on a stand-in for the compiler: opening, failing, cancelling, feeding, looking in, linking."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

MOCK = (Path(__file__).parent / "page_mock.js").read_text()
SCRIPT = {"Content-Type": "text/javascript", "Cross-Origin-Resource-Policy": "same-origin"}

DROP = """({ target, files }) => {
  const data = new DataTransfer();
  for (const [name, size] of files) data.items.add(new File([new Uint8Array(size)], name));
  const at = document.querySelector(target);
  for (const type of ['dragenter', 'dragover', 'drop']) {
    at.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
  }
}"""
TOO_WIDE = """() => {
  const width = document.documentElement.clientWidth;
  const cuts = (e) => ['auto', 'scroll', 'hidden'].includes(getComputedStyle(e).overflowX);
  const scrolls = (e) => e && (cuts(e) || scrolls(e.parentElement));
  return [...document.body.querySelectorAll('*')]
    .filter((e) => e.getBoundingClientRect().right > width + 0.5)
    .filter((e) => !scrolls(e.parentElement) && !e.closest('.sr, .skip'))
    .map((e) => e.outerHTML.slice(0, 80));
}"""
Open = Callable[..., "Page"]


@pytest.fixture
def home(page: Page) -> Open:
    """home("?query"): the page with the stand-in in place of nnjit.js."""

    def visit(query: str = "") -> Page:
        page.route("**/nnjit.js", lambda route: route.fulfill(body=MOCK, headers=SCRIPT))
        page.goto("/" + query)
        page.wait_for_selector("#samples li")
        return page

    return visit


def model(name: str = "tiny.onnx", size: int = 1000) -> dict[str, Any]:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": bytes(size)}


def load(page: Page, name: str = "tiny.onnx") -> None:
    page.set_input_files("#file", model(name))
    page.wait_for_function("name => document.querySelector('#model-title')?.textContent === name", arg=name)


def run(page: Page) -> None:
    """Presses Run and waits until the run is over."""
    before = page.evaluate("nnjit.log.runs")
    page.click(".inputs button.primary")
    page.wait_for_function(
        "n => nnjit.log.runs > n && !document.querySelector('.inputs .primary').disabled", arg=before
    )


def total(page: Page) -> float:
    """The stand-in's first output: the sum of all that was fed."""
    return float(
        page.evaluate("session.lastRun && document.querySelector('.output .first').textContent.slice(1, -1)")
    )


def fed(page: Page, name: str) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate(
        "name => { const t = nnjit.log.feeds[name]; return { dims: [...t.dims], data: Array.from(t.data, Number) }; }",
        name,
    )
    return found


def card(page: Page) -> dict[str, str]:
    page.wait_for_selector(".failure")
    code = page.get_attribute(".failure", "data-code") or ""
    return {
        "code": code,
        "text": page.inner_text(".failure"),
        "report": page.text_content(".failure pre") or "",
    }


class TestOpening:
    def test_a_file_dropped_anywhere_is_opened(self, home: Open) -> None:
        page = home()
        page.evaluate(DROP, {"target": "footer", "files": [["tiny.onnx", 10]]})
        page.wait_for_selector("#model:not([hidden])")
        assert page.inner_text("#model-title") == "tiny.onnx"
        assert page.evaluate("session.name") == "tiny.onnx"
        assert page.is_hidden("#veil") and page.is_hidden("#progress")

    def test_the_drop_zone_shows_itself_while_dragging(self, home: Open) -> None:
        page = home()
        page.evaluate("""() => {
          const data = new DataTransfer();
          data.items.add(new File(['x'], 'a.onnx'));
          document.body.dispatchEvent(new DragEvent('dragenter', { dataTransfer: data, bubbles: true }));
        }""")
        assert page.is_visible("#veil")
        page.evaluate("""() => {
          const data = new DataTransfer();
          data.items.add(new File(['x'], 'a.onnx'));
          document.body.dispatchEvent(new DragEvent('dragleave', { dataTransfer: data, bubbles: true }));
        }""")
        assert page.is_hidden("#veil")

    def test_external_data_comes_along(self, home: Open) -> None:
        page = home()
        page.set_input_files("#file", model("split.onnx"))
        assert card(page)["code"] == "MISSING_EXTERNAL_DATA"
        page.evaluate(DROP, {"target": "#drop", "files": [["split.data", 10], ["split.onnx", 10]]})
        page.wait_for_selector("#model:not([hidden])")
        assert page.inner_text("#model-title") == "split.onnx"

    def test_several_files_without_a_model_are_refused(self, home: Open) -> None:
        page = home()
        page.evaluate(DROP, {"target": "#drop", "files": [["a.txt", 10], ["b.txt", 10]]})
        assert card(page)["code"] == "NO_MODEL"

    def test_an_address_is_opened(self, home: Open) -> None:
        page = home()
        page.fill("#url", "models/far.onnx")
        page.press("#url", "Enter")
        page.wait_for_selector("#model:not([hidden])")
        assert page.evaluate("session.name").endswith("/models/far.onnx")

    def test_an_empty_address_is_marked(self, home: Open) -> None:
        page = home()
        page.click("#address button")
        assert page.get_attribute("#url", "aria-invalid") == "true"
        assert page.evaluate("document.activeElement.id") == "url"

    def test_the_next_model_releases_the_one_before(self, home: Open) -> None:
        page = home()
        load(page, "first.onnx")
        load(page, "second.onnx")
        assert page.evaluate("nnjit.log.released") == ["first.onnx"]
        page.click("#model header button:text('Close')")
        assert page.evaluate("nnjit.log.released") == ["first.onnx", "second.onnx"]
        assert page.is_hidden("#model") and page.evaluate("typeof session") == "undefined"

    def test_nothing_is_fetched_from_elsewhere(self, home: Open, page: Page) -> None:
        hosts = set()
        page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        home()
        assert hosts == {page.url.split("/")[2]}


class TestFailures:
    def test_a_bad_file_leaves_the_model_before_it_running(self, home: Open) -> None:
        page = home()
        load(page)
        page.set_input_files("#file", model("broken.onnx"))
        told = card(page)
        assert told["code"] == "MODEL_FORMAT"
        for part in (
            "broken.onnx ends in the middle of field 7",
            "download it again",
            "tiny.onnx is still open",
            "4096",
        ):
            assert part in told["text"]
        assert page.inner_text("#model-title") == "tiny.onnx"
        run(page)
        assert total(page) > 0
        assert page.evaluate("nnjit.log.released") == []

    def test_the_report_says_what_a_maintainer_needs(self, home: Open) -> None:
        page = home()
        page.set_input_files("#file", model("broken.onnx"))
        text = card(page)["report"]
        for line in (
            r"^nnjit 0\.0-test could not open broken\.onnx",
            r"^code +MODEL_FORMAT",
            r"^offset +4096",
            r"^browser +Mozilla/",
            r"^pyodide +314",
            r"^cores +\d+, isolated true",
            r"^hint +download",
        ):
            assert re.search(line, text, re.M), line

    def test_a_card_is_copied_and_dismissed(self, home: Open) -> None:
        page = home()
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.set_input_files("#file", model("broken.onnx"))
        text = card(page)["report"]
        page.click(".failure button:text('Copy report')")
        page.wait_for_selector(".failure button:text('Copied')")
        assert page.evaluate("navigator.clipboard.readText()") == text
        page.press(".failure", "Escape")
        assert page.query_selector(".failure") is None

    def test_a_dead_engine_is_started_again(self, home: Open) -> None:
        page = home()
        load(page, "dies.onnx")
        page.click(".inputs button.primary")
        assert card(page)["code"] == "ENGINE_DIED"
        page.click(".failure button:text('Restart the engine')")
        page.wait_for_function("nnjit.log.restarts === 1")
        assert page.query_selector(".failure") is None
        load(page, "tiny.onnx")
        run(page)

    def test_an_error_without_a_code_is_told_too(self, home: Open) -> None:
        page = home()
        load(page)
        page.select_option("[data-input=mask] select", "edit")
        page.fill("[data-input=mask] textarea", "1 2 3")
        page.click(".inputs button.primary")
        assert page.query_selector(".failure") is None
        assert "does not hold a number that fits" in page.inner_text(".inputs [role=status]")
        page.select_option("[data-input=mask] select", "file")
        page.click(".inputs button.primary")
        assert "Choose a .npy file for mask" in card(page)["text"]


class TestCancelling:
    def test_a_download_is_cancelled_by_its_button(self, home: Open) -> None:
        page = home()
        page.set_input_files("#file", model("slow.onnx"))
        page.wait_for_selector(".stages [data-stage=model]")
        assert "MB" in page.inner_text(".stages [data-stage=model]")
        page.click("#progress button")
        page.wait_for_selector("#progress", state="hidden")
        assert page.query_selector(".failure") is None and page.is_hidden("#model")
        assert page.inner_text("#live") == "Cancelled"

    def test_compiling_is_cancelled_by_escape_and_the_model_stays(self, home: Open) -> None:
        page = home()
        load(page, "heavy.onnx")
        page.click(".inputs button.primary")
        page.wait_for_selector(".stages [data-stage=compile]")
        page.wait_for_function(
            "document.querySelector('[data-stage=compile]').textContent.includes('kernel 7 of 20')"
        )
        page.keyboard.press("Escape")
        page.wait_for_selector("#progress", state="hidden")
        assert page.query_selector(".failure") is None
        assert page.inner_text("#model-title") == "heavy.onnx"
        assert page.is_enabled(".inputs button.primary")

    def test_a_newer_model_takes_over(self, home: Open) -> None:
        page = home()
        page.set_input_files("#file", model("slow.onnx"))
        page.wait_for_selector(".stages [data-stage=model]")
        load(page, "tiny.onnx")
        assert page.is_hidden("#progress") and page.query_selector(".failure") is None

    def test_a_comparison_can_be_stopped(self, home: Open) -> None:
        page = home()
        load(page)
        assert page.is_disabled(".check button")
        run(page)
        page.click(".check button")
        page.wait_for_selector(".check .answer")
        assert "largest error is 2.40e-6" in page.inner_text(".check .answer")


class TestFeeding:
    def test_open_dimensions_have_sensible_values_and_take_others(self, home: Open) -> None:
        page = home()
        load(page)
        values = page.evaluate(
            "Object.fromEntries([...document.querySelectorAll('[data-dim]')].map((i) => [i.dataset.dim, i.value]))"
        )
        assert values == {"batch": "1", "sequence": "128", "height": "224", "width": "224"}
        page.fill("[data-dim=sequence]", "5")
        page.fill("[data-dim=batch]", "2")
        assert "2 × 5" in page.inner_text("[data-input=ids] label")
        run(page)
        assert fed(page, "ids")["dims"] == fed(page, "mask")["dims"] == [2, 5]
        assert fed(page, "mask")["data"] == [1.0] * 10
        assert all(0 <= x < 100 for x in fed(page, "ids")["data"])
        assert all(0 <= x < 1 for x in fed(page, "image")["data"])

    def test_a_size_that_is_none_is_refused(self, home: Open) -> None:
        page = home()
        load(page)
        page.fill("[data-dim=batch]", "-1")
        page.click(".inputs button.primary")
        assert page.evaluate("document.activeElement.dataset.dim") == "batch"
        assert page.evaluate("nnjit.log.runs") == 0

    def test_the_seed_decides_the_values(self, home: Open) -> None:
        page = home()
        load(page)
        run(page)
        first = total(page)
        run(page)
        assert total(page) == first
        page.click(".inputs button[aria-label='Another seed']")
        run(page)
        assert total(page) != first

    def test_typed_values_and_files_are_fed_as_they_are(self, home: Open) -> None:
        page = home()
        load(page)
        for name, size in {"sequence": "2", "height": "2", "width": "3"}.items():
            page.fill(f"[data-dim={name}]", size)
        page.select_option("[data-input=ids] select", "edit")
        page.fill("[data-input=ids] textarea", "[7, -9007199254740991]")
        image = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5) / 8
        page.select_option("[data-input=image] select", "file")
        stored = io.BytesIO()
        np.save(stored, image)
        page.set_input_files(
            "[data-input=image] input[type=file]",
            {"name": "x.npy", "mimeType": "", "buffer": stored.getvalue()},
        )
        page.wait_for_selector("[data-input=image] label:has-text('2 × 3 × 4 × 5')")
        run(page)
        assert fed(page, "ids") == {"dims": [1, 2], "data": [7, -9007199254740991]}
        assert fed(page, "image") == {"dims": [2, 3, 4, 5], "data": image.ravel().tolist()}

    def test_a_file_of_another_type_is_named(self, home: Open) -> None:
        page = home()
        load(page)
        page.select_option("[data-input=image] select", "file")
        stored = io.BytesIO()
        np.save(stored, np.zeros(3))
        page.set_input_files(
            "[data-input=image] input[type=file]",
            {"name": "x.npy", "mimeType": "", "buffer": stored.getvalue()},
        )
        page.wait_for_selector(
            "[data-input=image] [role=status]:has-text('The file holds <f8; this input takes float32')"
        )

    def test_outputs_are_summed_up_and_saved(self, home: Open) -> None:
        page = home()
        load(page)
        run(page)
        ids = page.locator(".output", has_text="int64, 1 × 128")
        with page.expect_download() as download:
            ids.get_by_text("Save .npy").click()
        saved = np.load(download.value.path())
        assert saved.dtype == np.int64 and saved.shape == (1, 128)
        assert saved.ravel().tolist() == fed(page, "ids")["data"]
        assert f"min {saved.min()}" in ids.inner_text().replace("\n", " ")
        scores = page.locator(".output", has_text="float32, 1 × 10")
        assert scores.locator(".bars li").first.inner_text().split() == ["class", "7", "96", "%"]


class TestLookingInside:
    def test_repeating_gives_percentiles_apart_from_the_first_run(self, home: Open) -> None:
        page = home()
        load(page)
        run(page)
        assert "first run" in page.inner_text(".figures")
        page.wait_for_selector(".figures dt:text('typical')")  # the first run is followed by a few, unasked
        page.evaluate("""() => {
          const go = document.querySelector('.inputs .primary');
          window.changes = 0;
          new MutationObserver((seen) => { changes += seen.length; }).observe(go, { attributes: true });
        }""")
        page.click(".latency button")
        page.wait_for_function("document.querySelector('.latency button').textContent.startsWith('Run')")
        # drawing takes a core from what is timed: the form hears of the series, not of each run in it
        assert page.evaluate("changes") == 2
        # the unasked ones, at most ten, ended when the series began
        assert 30 < page.locator(".chart .bar").count() <= 40
        text = page.inner_text(".figures")
        p50, p95 = (re.findall(rf"{name}\)\s+([\d.]+) ms", text) for name in ("p50", "p95"))
        assert 0 < float(p50[0]) <= float(p95[0])

    def test_placement_groups_fused_nodes_and_filters(self, home: Open) -> None:
        page = home()
        load(page)
        assert page.is_hidden(".placement")
        run(page)
        assert "7 nodes became 2 steps. 1 node has no kernel yet" in page.inner_text(".placement")
        rows = page.locator(".placement tbody tr")
        assert rows.count() == 5 and page.locator(".strip rect").count() == 3
        assert "MatMul + Add + Gelu" in rows.nth(1).inner_text()
        page.click(".kinds button:text('reference')")
        assert rows.count() == 1 and "the shape depends on values" in rows.inner_text()
        page.click(".kinds button:text('all')")
        page.fill(".filter input", "GEMM")
        assert rows.count() == 1

    def test_steps_are_timed_and_their_kernels_shown(self, home: Open) -> None:
        page = home()
        load(page)
        run(page)
        page.click(".placement button:text('Time each step')")
        page.wait_for_selector(".placement :text('2.00 ms a run')")
        assert "80 %" in page.locator(".placement tbody tr").first.inner_text()
        page.locator(".placement tbody tr button").first.click()
        text = page.inner_text("dialog[open]")
        for part in (
            "f32_gemm_gelu_6x8__relaxed_fma_splat_u2",
            "k unroll 2",
            "(func $f32_gemm",
            "125.0 GFLOP/s",
        ):
            assert part in text
        # what tuning changed of its schedule is marked on both sides
        assert page.locator("dialog .steps .changed").all_inner_texts() == ["m tile 6", "k unroll 2", "m tile 4"]
        page.keyboard.press("Escape")
        assert page.query_selector("dialog[open]") is None

    def test_each_missing_capability_has_a_fix(self, home: Open) -> None:
        page = home()
        page.wait_for_selector(".chip.no")
        has = page.inner_text("#caps").split()
        for name in ("isolation", "threads", "SIMD", "relaxed", "WebGPU"):
            assert name in has
        page.click(".chip.no:has-text('WebGPU')")
        assert "chrome://gpu" in page.inner_text("#caps-fix")
        page.click(".chip.no:has-text('WebGPU')")
        assert page.inner_text("#caps-fix") == ""

    def test_a_page_without_isolation_says_how_to_get_it(self, home: Open, page: Page) -> None:
        page.add_init_script("Object.defineProperty(globalThis, 'crossOriginIsolated', { value: false })")
        home()
        page.click(".chip.no:has-text('isolation')")
        text = page.inner_text("#caps-fix")
        assert (
            "Cross-Origin-Opener-Policy: same-origin" in text
            and "Cross-Origin-Embedder-Policy: require-corp" in text
        )
        assert page.is_visible(".chip.no:has-text('threads')")


class TestLinks:
    def test_a_link_opens_runs_and_is_copied_again(self, home: Open) -> None:
        page = home("?model=models/far.onnx&run=1&seed=7&dims=batch:2,sequence:16,height:8,width:8")
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.wait_for_selector(".output")
        assert fed(page, "ids")["dims"] == [2, 16] and fed(page, "image")["dims"] == [1, 3, 8, 8]
        seeded = total(page)
        page.click("#model button:text('Copy link')")
        page.wait_for_selector("#model button:text('Copied')")
        link = page.evaluate("navigator.clipboard.readText()")
        assert link.endswith("run=1&seed=7&dims=batch:2,sequence:16,height:8,width:8")
        page.goto(link)
        page.wait_for_selector(".output")
        assert total(page) == seeded

    def test_a_link_without_run_only_opens(self, home: Open) -> None:
        page = home("?model=models/far.onnx")
        page.wait_for_selector("#model:not([hidden])")
        assert page.evaluate("nnjit.log.runs") == 0

    def test_a_file_from_disk_has_no_link(self, home: Open) -> None:
        page = home()
        load(page)
        assert page.is_disabled("#model button:text('Copy link')")
