"""What tests of the page's own flows share: dropping files, opening and running a stand-in model, what a card says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def model(name: str = "tiny.onnx", size: int = 1000) -> dict[str, Any]:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": bytes(size)}


def load(page: Page, name: str = "tiny.onnx") -> None:
    page.set_input_files("#file", model(name))
    page.wait_for_function("name => document.querySelector('#model-title')?.textContent === name", arg=name)


def drop_paths(page: Page, *paths: Path) -> None:
    """Files and folders of the disk, dropped as a person drops them."""
    devtools = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 200, "data": data})
    devtools.detach()


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
