"""Chromium for commands that are not pytest: the project's own server with test files mounted, and a page.

`Lab` is a context manager: `lab.site` serves, `lab.page()` opens a fresh page, `lab.watchdog(seconds)` kills
the page's process when it is stuck, so that what waits for it gets an error instead of waiting for ever.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nnjit.devtools.cli import Project
from nnjit.devtools.httpd import Server
from playwright.sync_api import Browser, Page, sync_playwright

TESTS = Path(__file__).parents[1]
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--js-flags=--expose-gc", "--enable-precise-memory-info"]


class Lab:
    """Server and browser. Use as `with Lab() as lab:`."""

    def __init__(self, flags: list[str] | None = None) -> None:
        self.flags = FLAGS + (flags or [])

    def __enter__(self) -> Lab:
        project = Project()
        project.dist.refresh()
        self.site = project.site()
        self.site.mount("t", TESTS)
        self.server = Server(self.site)
        self.server.start()
        self.playwright = sync_playwright().start()
        path = os.environ.get("NNJIT_CHROMIUM") or shutil.which("chromium")
        self.browser: Browser = self.playwright.chromium.launch(executable_path=path, args=self.flags)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):
            self.browser.close()
        self.playwright.stop()
        self.server.shutdown()
        self.server.server_close()

    def page(self) -> Page:
        """An empty isolated page of its own context; console errors are kept in `page.console_errors`."""
        page = self.browser.new_context().new_page()
        page.goto(self.server.url + "t/support/blank.html")
        if not page.evaluate("crossOriginIsolated"):
            raise RuntimeError("the page is not cross-origin isolated: shared memory would be missing")
        return page

    def processes(self) -> list[dict[str, Any]]:
        session = self.browser.new_browser_cdp_session()
        try:
            found: list[dict[str, Any]] = session.send("SystemInfo.getProcessInfo")["processInfo"]
            return found
        finally:
            session.detach()

    @contextmanager
    def watchdog(self, seconds: float, pids: list[int]) -> Iterator[None]:
        """Ends the processes `pids` (of this browser's renderers) unless the block is left in time."""
        timer = threading.Timer(seconds, kill, [pids])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def renderers(self) -> list[int]:
        return [int(p["id"]) for p in self.processes() if p["type"] == "renderer"]


def kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
