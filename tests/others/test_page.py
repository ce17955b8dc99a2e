"""The page itself in another browser: a sample from click to answer, a file that is dropped, what the browser lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nnjit.devtools.httpd import Server
from tests.browser.page_flows import DROP, TOO_WIDE
from tests.support.others import Others
from tests.support.tab import Tab

ANSWER = """() => {
  const failure = document.querySelector('.failure pre');
  if (failure) return `failed: ${failure.textContent}`;
  return document.querySelector('.verdict .answer')?.innerText ?? '';
}"""


@pytest.fixture(scope="module")
def home(name: str, others: Others, server: Server, vendor: Callable[[str], Path]) -> Iterator[Tab]:
    vendor("models/magika-1.0.3/model.onnx")
    with others.page(name, server.url, "") as opened:
        opened.wait_for_selector("#samples li")
        yield opened


def test_a_sample_answers(home: Tab) -> None:
    home.click("[data-sample=magika] button")
    home.wait_for_function(f"() => ({ANSWER})() !== ''")
    assert "Rust source" in home.evaluate(ANSWER)
    assert home.evaluate(TOO_WIDE) == []


def test_a_dropped_file_is_read(home: Tab) -> None:
    home.evaluate(DROP, {"target": "body", "files": [["zeros.bin", 5000]]})
    home.wait_for_function("() => document.querySelector('.verdict')?.innerText.includes('zeros.bin')")
    assert "failed" not in home.evaluate(ANSWER)


def test_what_is_missing_has_a_fix(home: Tab) -> None:
    home.wait_for_function("() => !document.querySelector('.chip.wait')")
    for number in range(home.evaluate("document.querySelectorAll('.chip.no').length")):
        home.evaluate("n => document.querySelectorAll('.chip.no')[n].click()", number)
        assert len(home.inner_text("#caps-fix")) > 40
