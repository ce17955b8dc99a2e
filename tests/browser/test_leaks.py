"""Fifty rounds of create, run and release end where they began: in the engine, in Python and in the page."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from nnjit.devtools.httpd import Server
from tests.bench import leak
from tests.models.catalogue import MODELS
from tests.support.browser import Lab


@pytest.mark.slow
def test_release_gives_memory_back(server: Server, browser: Browser) -> None:
    samples = leak.measure(Lab(server, browser), MODELS["silero-vad"], rounds=50)
    print(samples[0], samples[10], samples[-1])
    assert leak.grown(samples)["leaks"] == []
    assert samples[-1]["engine"] == 0


def test_growth_is_seen() -> None:
    """The judge itself: one that creeps up by a percent in ten rounds is a leak, one that stays isn't."""
    samples = [{"engine": 1e6 * (1 + k / 1000), "heap": 5e6 + 1e4 * (k % 3)} for k in range(50)]
    assert leak.grown(samples)["leaks"] == ["engine"]
