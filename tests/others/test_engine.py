"""The engine in another browser: steps of all threads in order, a trap that is named, a page without isolation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from nnjit.devtools.httpd import Server
from tests.browser.engine_page import SET_UP, serve
from tests.browser.engine_plans import rotate_plan, trap_plan
from tests.browser.test_engine import RUN
from tests.browser.test_engine_failures import TRAP
from tests.conftest import START_PAGE
from tests.support.others import Others
from tests.support.tab import Tab


@pytest.fixture(scope="module")
def engine(name: str, others: Others, server: Server) -> Iterator[Tab]:
    with others.page(name, server.url, START_PAGE) as tab:
        tab.evaluate(SET_UP)
        yield tab


@pytest.mark.parametrize("wanted", [1, 3])
def test_steps_see_what_the_steps_before_them_wrote(engine: Tab, name: str, wanted: int) -> None:
    count, steps = 24, 2000
    shared = name != "webkit-unshared"
    threads = wanted if shared else 1
    x = np.arange(count, dtype=np.int32)
    plan = rotate_plan("p", shared, steps, count)
    feeds = {"plan": plan, "threads": threads, "shared": shared, "feeds": [x.tolist()]}
    result = engine.evaluate(RUN, feeds)
    np.testing.assert_array_equal(result["outputs"][0], np.roll(x, -steps) + steps)
    (session,) = result["info"]["sessions"]
    assert (session["threads"], session["shared"]) == (threads, shared)


@pytest.mark.parametrize("how", ["unreachable", "bounds"])
def test_a_trap_names_its_step(engine: Tab, name: str, how: Any) -> None:
    """Traps and their stacks read differently in each engine."""
    shared = name != "webkit-unshared"
    plan = trap_plan("trap", shared, 7, 8, how)
    result = engine.evaluate(TRAP, {"plan": plan, "threads": 2 if shared else 1, "shared": shared})
    for values in (result["before"], result["after"]):
        np.testing.assert_array_equal(values, np.roll(np.arange(8), -2) + 2)
    for error in result["traps"]:
        assert error["code"] == "KERNEL_TRAP" and error["fields"]["kernel"] == "trap_at"
        assert error["fields"]["name"] == "harmful" and how in error["fields"]["reason"].lower()


def test_a_page_without_isolation_has_one_thread(name: str, others: Others) -> None:
    x = np.arange(24, dtype=np.int32)
    plan = rotate_plan("p", False, 51, len(x))
    with serve(isolated=False) as origin:
        tab = Tab(others.get(name), origin)
        tab.goto("/blank")
        tab.evaluate(SET_UP)
        assert tab.evaluate("crossOriginIsolated") is False
        feeds = {"plan": plan, "threads": 4, "shared": False, "feeds": [x.tolist()]}
        result = tab.evaluate(RUN, feeds)
        tab.close()
    np.testing.assert_array_equal(result["outputs"][0], np.roll(x, -51) + 51)
    assert result["info"]["sessions"][0]["threads"] == 1
