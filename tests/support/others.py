"""Firefox and WebKit for tests: `with Others() as others`, then `others.get("firefox")` is a running one, and
`others.page(…)` an isolated page of the tests' server in it. A browser that cannot be had skips the test that asks
for it, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import pytest

from nnjit.devtools.browser import find_firefox, find_webkit
from nnjit.devtools.httpd import Server
from nnjit.devtools.lock import SetupError

from .browser import TESTS, started_server
from .remote import Remote, RemoteError, firefox, webkit
from .tab import Tab

OTHERS = {
    "firefox": (find_firefox, firefox),
    "webkit": (find_webkit, webkit),
    "webkit-unshared": (find_webkit, partial(webkit, shares=False)),
}


class OtherLab:
    """A running server and another browser: what Lab (browser.py) is for Chromium, as far as conformance takes it."""

    def __init__(self, server: Server, remote: Remote) -> None:
        self.server, self.remote = server, remote
        self.site = server.site
        self.site.mount("t", TESTS)

    @property
    def label(self) -> str:
        return f"{self.remote.name.title()} {self.remote.version}"

    def page(self, path: str = "t/support/blank.html") -> Tab:
        tab = Tab(self.remote, self.server.url)
        tab.goto("/" + path)
        if not tab.evaluate("crossOriginIsolated"):
            raise RuntimeError("the page is not cross-origin isolated: shared memory would be missing")
        return tab

    def renderers(self) -> list[int]:
        return self.remote.pids

    @contextmanager
    def watchdog(self, seconds: float, pids: list[int]) -> Iterator[None]:
        """A call that takes too long ends by itself: WebDriver's own limit."""
        yield


def shows_pages(remote: Remote) -> None:
    """RemoteError from a browser that starts and then opens no page: one that a container keeps from its processes."""
    tab = Tab(remote, "")
    tab.goto("data:text/html,<title>here</title>")
    if tab.evaluate("document.title") != "here":
        raise RemoteError(f"{remote.name} shows no page")
    tab.close()


@contextmanager
def other_lab(name: str) -> Iterator[OtherLab]:
    """An OtherLab with a server and a browser of its own."""
    find, start = OTHERS[name]
    with started_server() as server, start(find(print)) as remote:
        yield OtherLab(server, remote)


class Others(ExitStack):
    """Browsers by name, each started once."""

    def __init__(self) -> None:
        super().__init__()
        self.running: dict[str, Remote] = {}
        self.missing: dict[str, str] = {}

    def get(self, name: str) -> Remote:
        if name not in self.running and name not in self.missing:
            find, start = OTHERS[name]
            try:
                remote = self.enter_context(start(find(print, install=False)))
                shows_pages(remote)
                self.running[name] = remote
            except (SetupError, RemoteError) as error:
                self.missing[name] = str(error)
        if name in self.missing:
            pytest.skip(self.missing[name])
        return self.running[name]

    @contextmanager
    def page(
        self,
        name: str,
        base_url: str,
        path: str,
        kind: str = "plain",
        allowed: list[str] | None = None,
        options: dict[str, Any] | None = None,
    ) -> Iterator[Tab]:
        """A window of its own at base_url + path. Errors that it reports and `allowed` does not name fail the test."""
        if kind != "plain" or options:
            pytest.skip(f"{name} has no {kind} kind of page with {options}")
        tab = Tab(self.get(name), base_url)
        tab.goto("/" + path)
        assert tab.evaluate("crossOriginIsolated"), "the test page is not cross-origin isolated"
        try:
            yield tab
            unexpected = [e for e in tab.errors() if not any(re.search(p, e) for p in allowed or [])]
            assert not unexpected, "the page reported errors:\n" + "\n".join(unexpected)
        finally:
            with suppress(RemoteError):
                tab.close()
