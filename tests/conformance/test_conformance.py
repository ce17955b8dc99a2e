"""A fixed part of ONNX's own cases for every test run: 300 that between them use every operator of the set.

All 2,033 run by `python3 serve.py conformance`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from nnjit.devtools.httpd import Server
from tests.conformance import known
from tests.conformance.browser import Runner
from tests.conformance.cases import Case, load_cases, stratified
from tests.support.browser import Lab

SIZE = 300
CASES = stratified(load_cases(), SIZE)


@pytest.fixture(scope="module")
def runner(server: Server, browser: Browser) -> Iterator[Runner]:
    runner = Runner(Lab(server, browser), "nnjit", threads=2, timeout=120, provider="wasm")
    yield runner
    runner.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(case: Case, runner: Runner) -> None:
    outcome = runner.run(case)
    reason = known.reasons().get(case.id)
    if reason is None:
        assert outcome.status == "pass", f"{outcome.status} {outcome.code}: {outcome.reason}"
    else:
        assert outcome.status not in ("crash", "timeout"), outcome.reason
        # one draw of random numbers may happen to be the expected one
        assert outcome.status != "pass" or "random" in reason, f"known.txt says it fails: {reason}"
        pytest.xfail(reason)


def test_all_cases_are_found() -> None:
    counts = {kind: sum(c.kind == kind for c in load_cases()) for kind in {c.kind for c in load_cases()}}
    assert counts == {"node": 1884, "simple": 23, "pytorch-converted": 82, "pytorch-operator": 35, "light": 9}


def test_known_failures_are_cases() -> None:
    assert known.reasons().keys() <= {c.id for c in load_cases()}
