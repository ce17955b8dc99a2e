"""What the tests of other browsers share: a page with nnjit booted. Firefox by default; `--browser` names others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nnjit.devtools.httpd import Server
from tests.browser.api_page import Api
from tests.conftest import START_PAGE
from tests.support.others import OTHERS, Others
from tests.support.tab import Tab


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--browser") or "firefox"
        metafunc.parametrize("name", [wanted] if wanted in OTHERS else [], scope="session")


@pytest.fixture(scope="session")
def tab(name: str, others: Others, server: Server) -> Iterator[Tab]:
    """A page on an empty document of the server."""
    with others.page(name, server.url, START_PAGE, allowed=[".*"]) as opened:
        yield opened


# Workers are remembered so that a test can end one.
REMEMBER = """() => {
  globalThis.workers = [];
  globalThis.Worker = class extends Worker {
    constructor(url, options) { super(url, options); workers.push({ url: String(url), worker: this }); }
  };
}"""


@pytest.fixture(scope="session")
def booted(tab: Tab, server: Server) -> Api:
    tab.evaluate(REMEMBER)
    return Api(tab, server)  # type: ignore[arg-type] # a Tab has the calls of Playwright's page that it needs


@pytest.fixture
def api(booted: Api) -> Iterator[Api]:
    """nnjit's public API in that page; an error that it reports fails the test."""
    tab: Any = booted.page
    before = len(tab.errors())
    yield booted
    assert tab.errors()[before:] == []
