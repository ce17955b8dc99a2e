"""Fixtures of the browser tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import shaders
from tests.support.kept_plans import SET_UP as KEPT

from .api_page import Api
from .engine_page import SET_UP
from .page_flows import MOCK, SCRIPT, Open
from .wgsl_page import Run, runner

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from nnjit.devtools.httpd import Server


@pytest.fixture
def engine(page: Page) -> Page:
    """A fresh isolated page with EngineClient and the helpers of engine_page."""
    page.evaluate(SET_UP)
    return page


@pytest.fixture(scope="session")
def booted(new_page: Any, server: Server) -> Iterator[Api]:
    """One page with nnjit booted, for all tests that do not break it."""
    with new_page(allowed=[".*"]) as opened:  # each test looks at its own errors
        yield Api(opened, server)


@pytest.fixture
def api(booted: Api) -> Iterator[Api]:
    """nnjit's public API in a page that is up already; a console error fails the test."""
    with booted.expecting():
        yield booted


@pytest.fixture
def home(page: Page) -> Open:
    """home("?query"): the page with the stand-in in place of nnjit.js."""

    def visit(query: str = "") -> Page:
        page.route("**/nnjit.js", lambda route: route.fulfill(body=MOCK, headers=SCRIPT))
        page.goto("/" + query)
        page.wait_for_selector("#samples li")
        return page

    return visit


@pytest.fixture(scope="module")
def gpu(new_page: Any) -> Iterator[Page]:
    """A page whose SwiftShader adapter runs the shaders of a module's tests."""
    with new_page("swiftshader") as page:
        shaders.set_up(page)
        yield page


@pytest.fixture
def run(gpu: Page) -> Run:
    """run(spec, schedule, inputs) -> output buffers, by the shader of that schedule."""
    return runner(gpu)


@pytest.fixture(scope="module")
def visited(new_page: Any, server: Server) -> Iterator[Api]:
    """A page where plans are kept, and Python has run nothing of its own."""
    with new_page(allowed=[".*"]) as opened:
        page = Api(opened, server)
        page.run(KEPT)
        yield page


@pytest.fixture
def kept(visited: Api) -> Iterator[Api]:
    visited.run("() => forgotten()")
    with visited.expecting():
        yield visited
