"""Fixtures of the browser tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from .api_page import Api
from .engine_page import SET_UP

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
