"""Fixtures of the browser tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .engine_page import SET_UP

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def engine(page: Page) -> Page:
    """A fresh isolated page with EngineClient and the helpers of engine_page."""
    page.evaluate(SET_UP)
    return page
