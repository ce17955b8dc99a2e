"""A few random models of every area, in one page (`python -m tests.fuzz.page` runs as many as one likes)."""

from __future__ import annotations

import warnings

import pytest

from tests.browser.api_page import Api
from tests.fuzz.areas import AREAS, draw
from tests.fuzz.page import answers, judged, options
from tests.support.browser import TESTS

EACH = 3
"""Models of an area: with `extremes` every third."""


@pytest.mark.parametrize("area", sorted(set(AREAS) - {"large"}))
def test_random_models(api: Api, area: str) -> None:
    api.server.site.mount("t", TESTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn = [
            (seed, draw(area, seed, extremes=seed % 3 == 2, sure=True)) for seed in range(500, 500 + EACH)
        ]
        some = [(seed, case) for seed, case in drawn if case.outputs]
        assert some
        found = answers(api.page, api.server.site, [(case, options(seed)) for seed, case in some])
        for (seed, case), answer in zip(some, found, strict=True):
            fault = judged(case, answer, ask=False)
            assert fault is None, f"{area} {seed}: {fault}\n{case.text()}"
