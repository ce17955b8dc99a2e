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
    found = leak.grown(samples)
    print(samples[0], samples[10], samples[-1], found["growth"])
    assert found["leaks"] == []
    assert samples[-1]["engine"] == 0


def test_growth_is_seen() -> None:
    """The judge itself: objects that grow by a percent in ten rounds are a leak; one step of Python's heap isn't."""
    samples = [
        {
            "objects": 1e6 * (1 + k / 1000),
            "heap": 5e6 + 1e4 * (k % 3),
            "python": 94e6 if k > 20 else 78e6,
            "engine": 0,
        }
        for k in range(50)
    ]
    assert leak.grown(samples)["leaks"] == ["objects"]
    assert leak.grown([{"python": 78e6 + 2e6 * k} for k in range(50)])["leaks"] == ["python"]


@pytest.mark.parametrize("period", [2, 3, 7, 10])
def test_what_is_collected_late_is_no_leak(period: int) -> None:
    """A heap that rises by a quarter and falls again, whatever the moment of each sample; and one that loses 3.5 kB a
    round under that."""
    for phase in range(period):
        waves = [1.84e6 * (1 + 0.25 * ((k + phase) % period) / period) for k in range(50)]
        assert leak.grown([{"heap": wave} for wave in waves])["leaks"] == []
        lost = [{"heap": wave + 3500 * k} for k, wave in enumerate(waves)]
        assert leak.grown(lost)["leaks"] == ["heap"]
