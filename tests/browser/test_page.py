"""The page's own flows, on a stand-in for the compiler: opening, failing, cancelling, feeding."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .page_flows import DROP, Open, card, drop_paths, fed, load, model, run, total

if TYPE_CHECKING:
    from playwright.sync_api import Page


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

    def test_several_models_at_once_are_named(self, home: Open) -> None:
        page = home()
        page.evaluate(DROP, {"target": "#drop", "files": [["a.onnx", 10], ["w.bin", 10], ["b.onnx", 10]]})
        told = card(page)
        assert told["code"] == "NO_MODEL" and "2 models: a.onnx, b.onnx" in told["text"]
        # tensors to feed lie beside models as .pb
        page.evaluate(DROP, {"target": "#drop", "files": [["input_0.pb", 10], ["m.onnx", 10]]})
        page.wait_for_selector("#model:not([hidden])")
        assert page.inner_text("#model-title") == "m.onnx"

    def test_a_folder_is_its_files(self, home: Open, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        (folder / "weights").mkdir(parents=True)
        (folder / "split.onnx").write_bytes(bytes(10))
        (folder / "weights" / "split.data").write_bytes(bytes(10))
        (tmp_path / "empty").mkdir()
        page = home()
        drop_paths(page, folder)
        page.wait_for_selector("#model:not([hidden])")
        assert page.inner_text("#model-title") == "split.onnx"
        drop_paths(page, tmp_path / "empty")
        told = card(page)
        assert told["code"] == "NO_MODEL" and "this folder" in told["text"] and "still open" in told["text"]

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

    def test_an_error_without_a_code_is_told_too_until_the_next_run(self, home: Open) -> None:
        page = home()
        load(page)
        page.evaluate(
            "() => { session.run = async () => { delete session.run; throw new Error('out of the blue'); }; }"
        )
        page.click(".inputs button.primary")
        assert "out of the blue" in card(page)["text"]
        run(page)
        assert page.query_selector(".failure") is None

    def test_what_cannot_be_fed_is_said_beside_the_button(self, home: Open) -> None:
        page = home()
        load(page)

        def said() -> str:
            page.click(".inputs button.primary")
            assert page.query_selector(".failure") is None and page.evaluate("nnjit.log.runs") == 0
            return page.inner_text(".inputs .row [role=status]")

        page.select_option("[data-input=mask] select", "edit")
        page.fill("[data-input=mask] textarea", "1 2 3")
        assert said() == "mask takes 128 values, or one for all, not 3."
        page.fill("[data-input=mask] textarea", "1.5")
        assert said() == "mask: 1.5 does not fit int64."
        page.select_option("[data-input=mask] select", "file")
        assert said() == "Choose a .npy file for mask."
        assert page.evaluate("document.activeElement.ariaLabel") == ".npy file for mask"
        page.select_option("[data-input=mask] select", "ones")
        page.fill("[data-dim=height]", "1000000")
        assert "image would take" in said() and "choose smaller dimensions" in said()

    def test_a_sample_that_the_server_has_not_fetched_says_how_to_get_it(self, home: Open) -> None:
        page = home()
        page.evaluate("""() => {
          window.real = nnjit.InferenceSession.create;
          nnjit.InferenceSession.create = async (url) => {
            throw new nnjit.NnjitError('NETWORK', `${url} answered 404`, { status: 404 }, 'check the address');
          };
        }""")
        page.click("[data-sample=minilm] button")
        assert "python3 serve.py models" in card(page)["text"]
        page.evaluate("() => { nnjit.InferenceSession.create = real; }")
        page.click(".failure button:text('Try again')")
        page.wait_for_selector("#model:not([hidden])")
        assert page.inner_text("#model-title") == "Do these mean the same?"

    def test_a_link_that_names_nothing_says_so(self, home: Open) -> None:
        for query, word in (("?sample=cats", "'cats'"), ("?model=http://[", "'http://['")):
            told = card(home(query))
            assert told["code"] == "BAD_LINK" and word in told["text"], query
        assert "magika" in card(home("?sample=cats"))["text"]


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

    def test_sizes_are_those_that_the_model_takes_unless_somebody_chose_others(self, home: Open) -> None:
        page = home()
        load(page, "fixed.onnx")
        page.wait_for_selector(".inputs .why:not([hidden])")
        assert "sequence 77" in page.inner_text(".inputs .why")
        assert "positions" in page.inner_text(".inputs .why")
        assert (
            page.input_value("[data-dim=sequence]") == "77" and page.input_value("[data-dim=height]") == "224"
        )
        assert page.input_value("[data-input=ids] [data-bound=high]") == "49"
        run(page)
        ids = fed(page, "ids")
        assert ids["dims"] == [1, 77] and max(ids["data"]) <= 49

        page = home("?model=models/fixed.onnx&run=1&dims=sequence:128")
        page.wait_for_selector(".output")
        assert fed(page, "ids")["dims"] == [1, 128] and not page.is_visible(".inputs .why")

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
