"""Fixtures every test can use: golden texts, the project, its server on loopback, browsers, fresh pages.

A page fails its test when the console shows an error that the test did not allow beforehand.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import hypothesis
import pytest

from nnjit.devtools.browser import find_chromium
from nnjit.devtools.cli import Project
from nnjit.devtools.httpd import Server
from tests.support.browser import PATIENCE_MS
from tests.support.others import OTHERS, Others
from tests.support.waiting import WAITING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

hypothesis.settings.register_profile("nnjit", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("nnjit")

# The tests talk to 127.0.0.1 and to nothing else.
OFFLINE = [
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
]
# Parts of a window that no page shows: its address bar has two renderers of its own, which took longer than all the
# rest of opening a page. The switch takes the place of Playwright's, whose features come after them.
BARE = [
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,WebUIOmniboxFullPopup,PreloadTopChromeWebUI,"
    "AimEnabled,AvoidCorsURLLoaderRestartOnRedirect,AvoidUnnecessaryBeforeUnloadCheckSync,"
    "DestroyProfileOnBrowserClose,HttpsFirstBalancedModeAutoEnable,HttpsUpgrades,LensOverlay,MediaRouter,"
    "NetworkTimeServiceQuerying,OptimizationHints,PaintHolding,PreconnectToSearch,TcpPortRandomizationWin,"
    "ThirdPartyStoragePartitioning",
]
PLAIN = OFFLINE + BARE
SWIFTSHADER = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]
# A test past its time limit fails, but what it then waits for in its clean-up has no limit of its own:
# this many seconds later its browsers are ended, which ends every wait for them.
GRACE = 30.0
BLANK = b'<!doctype html><meta charset="utf-8"><title>nnjit test</title><link rel="icon" href="data:,">'
START_PAGE = "~/blank.html"
# How much slower than it is a page's own thread is made, to find tests that depend on its speed.
SLOWER = float(os.environ.get("NNJIT_SLOW_PAGES", "1"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden texts instead of comparing")
    parser.addoption(
        "--browser", choices=["chromium", *OTHERS], default="", help="which browser pages are opened in"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """golden(name, text): text is what golden/<name> beside the test says; --update-golden writes it."""
    folder = Path(request.path).parent / "golden"

    def compare(name: str, text: str) -> None:
        path = folder / name
        if request.config.getoption("--update-golden"):
            folder.mkdir(exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"no golden text {path.name}: run pytest with --update-golden and review it"
        assert text == path.read_text()

    return compare


@pytest.fixture(scope="session")
def project() -> Project:
    """The checkout, as serve.py sees it."""
    return Project()


@pytest.fixture(scope="session")
def vendor(project: Project) -> Callable[[str], Path]:
    """vendor("models/magika-1.0.3/model.onnx"): the vendored file, its group fetched if need be."""

    def find(path: str) -> Path:
        entry = project.lock.entry(path)
        project.vendor.ensure(entry.group)
        return project.vendor.path(path)

    return find


@pytest.fixture(scope="session")
def server(project: Project) -> Iterator[Server]:
    """The page's own server on a free port: server.url, server.site.put(path, bytes), server.site.mount()."""
    project.vendor.ensure("runtime")
    project.dist.refresh()
    site = project.site()
    site.put(START_PAGE, BLANK)
    running = Server(site)
    running.start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    marker = item.get_closest_marker("timeout")
    limit = float(marker.args[0] if marker and marker.args else item.config.getini("timeout") or 0)
    watchdog = threading.Timer(limit + GRACE, Browsers.end, [Browsers.pids])
    watchdog.daemon = True
    if limit:
        watchdog.start()
    try:
        return (yield)
    finally:
        watchdog.cancel()


class Browsers:
    """One browser a kind, started at first use and again when it died."""

    pids: ClassVar[dict[str, int]] = {}

    def __init__(self, playwright: Playwright) -> None:
        self.playwright = playwright
        self.executable = os.environ.get("NNJIT_CHROMIUM") or find_chromium(Path(sys.executable), print)
        self.running: dict[str, Browser] = {}

    def get(self, kind: str) -> Browser:
        browser = self.running.get(kind)
        if browser is None or not browser.is_connected():
            flags = PLAIN + (SWIFTSHADER if kind == "swiftshader" else [])
            browser = self.playwright.chromium.launch(executable_path=self.executable, args=flags)
            self.running[kind] = browser
            processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
            self.pids[kind] = next(p["id"] for p in processes if p["type"] == "browser")
        return browser

    @staticmethod
    def end(pids: dict[str, int]) -> None:
        """End browsers from another thread; whoever waits for one gets Playwright's error that it is gone."""
        for pid in pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        pids.clear()

    def close(self) -> None:
        for browser in self.running.values():
            if browser.is_connected():
                browser.close()
        self.pids.clear()


@pytest.fixture(scope="session")
def browsers() -> Iterator[Browsers]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = Browsers(playwright)
        yield started
        started.close()


@pytest.fixture(scope="session")
def browser(browsers: Browsers) -> Browser:
    """Headless Chromium without any network but loopback."""
    return browsers.get("plain")


@pytest.fixture(scope="session")
def others() -> Iterator[Others]:
    """Firefox and WebKit, each started at first use; a test that asks for one which cannot be had is skipped."""
    with Others() as started:
        yield started


class AllowedErrors(list[str]):
    """Regular expressions of console errors that a test expects: allow_errors("404", "ENGINE_DIED")."""

    def __call__(self, *patterns: str) -> None:
        self.extend(patterns)


@pytest.fixture
def allow_errors() -> AllowedErrors:
    return AllowedErrors()


NewPage = Callable[..., contextlib.AbstractContextManager["Page"]]


@pytest.fixture(scope="session")
def new_page(request: pytest.FixtureRequest, server: Server) -> NewPage:
    """`with new_page() as page:` a page in a context of its own, for fixtures of a wider scope.

    kind: "plain" or "swiftshader". allowed: patterns of console errors that may come. The rest goes to
    Playwright's new_context. The page stands on an empty document of the server, cross-origin isolated.
    With --browser it is a Tab of that browser.
    """
    other = request.config.getoption("--browser")
    if other in OTHERS:
        others: Others = request.getfixturevalue("others")
        return lambda kind="plain", allowed=None, **options: others.page(
            other, server.url, START_PAGE, kind, allowed, options
        )
    browsers: Browsers = request.getfixturevalue("browsers")

    @contextlib.contextmanager
    def opened(kind: str = "plain", allowed: list[str] | None = None, **options: Any) -> Iterator[Page]:
        context = browsers.get(kind).new_context(base_url=server.url, **options)
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(WAITING)
        page = context.new_page()
        if SLOWER > 1:
            context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
        errors: list[str] = []
        page.on("console", lambda m: errors.append(f"console: {m.text}") if m.type == "error" else None)
        page.on("pageerror", lambda e: errors.append(f"uncaught: {e}"))
        page.on("crash", lambda _: errors.append("the page crashed"))
        page.goto(START_PAGE)
        assert page.evaluate("crossOriginIsolated"), "the test page is not cross-origin isolated"
        try:
            yield page
        finally:
            with contextlib.suppress(Exception):  # a page that crashed cannot be closed
                context.close()
        unexpected = [e for e in errors if not any(re.search(p, e) for p in allowed or [])]
        assert not unexpected, "the page reported errors:\n" + "\n".join(unexpected)

    return opened


@pytest.fixture
def page(new_page: NewPage, allow_errors: AllowedErrors) -> Iterator[Page]:
    """A fresh page; its console errors fail the test unless allow_errors(...) named them."""
    with new_page(allowed=allow_errors) as opened:
        yield opened


@pytest.fixture
def swiftshader_page(new_page: NewPage, allow_errors: AllowedErrors) -> Iterator[Page]:
    """A fresh page whose WebGPU adapter is Chromium's software one."""
    with new_page("swiftshader", allowed=allow_errors) as opened:
        adapter = opened.evaluate("""async () => {
          const adapter = await navigator.gpu?.requestAdapter();
          return adapter ? `${adapter.info.vendor} ${adapter.info.architecture}` : 'none';
        }""")
        assert "swiftshader" in adapter, f"the WebGPU adapter is {adapter!r}, not SwiftShader"
        yield opened
