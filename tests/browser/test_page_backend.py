"""The page with a session on the GPU, or one that was to be there: where it runs, and why, as it is now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .api_page import tiny

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from nnjit.devtools.httpd import Server

NO_ADAPTER = "Object.defineProperty(navigator.gpu, 'requestAdapter', { value: async () => null });"
MOVES = "import nnjit.tune.policy as p; p.MOVING.update({'gain': 1e9})"


def opened(page: Page, server: Server, query: str) -> None:
    path = server.site.put("~/tiny.onnx", tiny().SerializeToString())
    page.goto(f"/?model={path}&{query}")


def test_without_an_adapter_the_page_says_why_it_is_not_the_gpu(
    swiftshader_page: Page, server: Server
) -> None:
    page = swiftshader_page
    page.add_init_script(NO_ADAPTER)
    opened(page, server, "run=1&backend=webgpu")
    page.wait_for_selector(".placement :text('On WebAssembly: ')")
    assert "the browser offers no adapter" in page.inner_text(".placement")


def test_a_session_that_moves_is_shown_where_it_is(swiftshader_page: Page, server: Server) -> None:
    """The table was that of the first run's backend until the shapes changed."""
    page = swiftshader_page
    opened(page, server, "backend=webgpu,wasm")
    page.wait_for_selector("button:text-is('Run'):enabled")
    page.evaluate("async (code) => { await (await import('/nnjit.js')).default.python(code); }", MOVES)
    page.click("button:text-is('Run')")
    page.wait_for_selector(".placement .kinds:has-text('kernel')")
    assert "On WebAssembly: the first run comes sooner there" in page.inner_text(".placement")
    for _ in range(60):  # each waits for the runs it began
        page.click("button:text-is('Run 30 more'):enabled")
        page.wait_for_selector("button:text-is('Run 30 more'):enabled")
        if "On the GPU" in page.inner_text(".placement"):
            break
    text = page.inner_text(".placement")
    assert "On the GPU: " in text and "GPU kernel" in text
