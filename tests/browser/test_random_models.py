"""A few random models of every area, in one page (`python -m tests.fuzz.page` runs as many as one likes)."""

from __future__ import annotations

import warnings

import pytest

from tests.browser.api_page import Api
from tests.fuzz.areas import AREAS, draw
from tests.fuzz.page import answers, judged, options
from tests.support.browser import TESTS

EACH = 3
"""Models of an area; one of them has infinities, NaN and the like."""


@pytest.mark.parametrize("area", sorted(set(AREAS) - {"large"}))
def test_random_models(api: Api, area: str) -> None:
    api.server.site.mount("t", TESTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn = [(seed, draw(area, seed, seed % EACH == 0, sure=True)) for seed in range(EACH)]
        some = [(seed, case) for seed, case in drawn if case.outputs]
        assert some
        given = [(case, options(seed, seed % EACH == 0)) for seed, case in some]
        for (seed, case), answer in zip(some, answers(api.page, api.server.site, given), strict=True):
            fault = judged(case, answer, ask=False)
            assert fault is None, f"{area} {seed}: {fault}\n{case.text()}"
