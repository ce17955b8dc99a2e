"""Pages with the engine client in them: set-up code for any page, and a small server for the odd cases.

The odd cases are a page that is not isolated, and scripts that a test breaks on purpose.
"""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from tests.support.browser import PATIENCE_MS
from tests.support.waiting import WAITING

WEB = Path(__file__).resolve().parents[2] / "web"
ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}

SET_UP = """async () => {
  const { EngineClient } = await import('/engine/client.js');
  window.EngineClient = EngineClient;
  window.revive = (value) => {
    if (Array.isArray(value)) return value.map(revive);
    if (value === null || typeof value !== 'object') return value;
    if ('$base64' in value) return Uint8Array.from(atob(value.$base64), (c) => c.charCodeAt(0));
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, revive(v)]));
  };
  window.f32 = (values) => Float32Array.from(values);
  window.i32 = (values) => Int32Array.from(values);
  window.floats = (bytes) => [...new Float32Array(bytes.buffer)];
  window.ints = (bytes) => [...new Int32Array(bytes.buffer)];
  // The error of a promise as plain data; a promise that keeps its word is the failure here.
  window.failure = async (promise) => {
    try { await promise; } catch (error) { return { ...error.toJSON(), typed: error.name === 'NnjitError' }; }
    throw new Error('it did not fail');
  };
}"""


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {".js": "text/javascript", ".html": "text/html"}  # noqa: RUF012
    isolated = True
    additions: dict[str, str] = {}  # noqa: RUF012

    def end_headers(self) -> None:
        if self.isolated:
            for name, value in ISOLATION.items():
                self.send_header(name, value)
        super().end_headers()

    def do_GET(self) -> None:
        if self.path == "/blank":
            return self.answer("text/html", "<!doctype html>")
        if self.path in self.additions:
            text = (WEB / self.path[1:]).read_text() + self.additions[self.path]
            return self.answer("text/javascript", text)
        return super().do_GET()

    def answer(self, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serve(isolated: bool, additions: dict[str, str] | None = None) -> Iterator[str]:
    """web/ on a port of its own, with or without the isolation headers.

    additions: code appended to scripts, by path; how a test breaks what it wants to see broken.
    """
    handler = type("Handler", (_Handler,), {"isolated": isolated, "additions": additions or {}})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(WEB)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def engine_page(browser: Browser, origin: str) -> Iterator[Page]:
    """A fresh page with EngineClient and the helpers; an uncaught error in it fails the test."""
    errors: list[str] = []
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.add_init_script(WAITING)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{origin}/blank")
    page.evaluate(SET_UP)
    yield page
    page.close()
    assert not errors
