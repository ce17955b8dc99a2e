"""A server with the tests' own files mounted, and a Chromium: `started()` for commands, fixtures in pytest.

`lab.site` serves, `lab.page()` opens a fresh page, `lab.watchdog(…)` kills a page's process when it is
stuck, so that what waits for it gets an error instead of waiting for ever.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from nnjit.devtools.cli import Project
from nnjit.devtools.httpd import Server

from .waiting import WAITING

TESTS = Path(__file__).parents[1]
# A machine that is busy takes half a minute to start a compiler; what never comes is found by each test's own limit.
PATIENCE_MS = 120_000


class Lab:
    """A running server and browser."""

    def __init__(self, server: Server, browser: Browser) -> None:
        self.server, self.browser = server, browser
        self.site = server.site
        self.site.mount("t", TESTS)

    @property
    def label(self) -> str:
        return f"Chromium {self.browser.version}"

    def page(self, path: str = "t/support/blank.html") -> Page:
        """A page of its own context, cross-origin isolated."""
        context = self.browser.new_context()
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(WAITING)
        page = context.new_page()
        page.goto(self.server.url + path)
        if not page.evaluate("crossOriginIsolated"):
            raise RuntimeError("the page is not cross-origin isolated: shared memory would be missing")
        return page

    def renderers(self) -> list[int]:
        """Process ids of the pages of this browser."""
        session = self.browser.new_browser_cdp_session()
        try:
            found: list[dict[str, Any]] = session.send("SystemInfo.getProcessInfo")["processInfo"]
            return [int(p["id"]) for p in found if p["type"] == "renderer"]
        finally:
            session.detach()

    @contextmanager
    def watchdog(self, seconds: float, pids: list[int]) -> Iterator[None]:
        """Ends the processes `pids` (of this browser's pages) unless the block is left in time."""
        timer = threading.Timer(seconds, kill, [pids])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def started_server() -> Iterator[Server]:
    """The page's own server on a free port."""
    project = Project()
    project.dist.refresh()
    server = Server(project.site())
    server.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def started(flags: Sequence[str] = ()) -> Iterator[Lab]:
    """A Lab with a server and a browser of its own, started with these flags."""
    path = os.environ.get("NNJIT_CHROMIUM") or shutil.which("chromium")
    with started_server() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(flags))
        yield Lab(server, browser)
        with suppress(Exception):  # it may have died on the way
            browser.close()
