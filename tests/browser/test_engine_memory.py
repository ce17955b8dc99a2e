"""What a session took is given back: many rounds of create, run, release end where they began."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, Page

from .engine_page import SET_UP
from .engine_plans import Toy, scale

if TYPE_CHECKING:
    from tests.conftest import NewPage

MIB = 1 << 20
ROOM = 64 * MIB  # what one session's memory holds, all of it touched


@pytest.fixture
def alone(new_page: NewPage) -> Iterator[Page]:
    """The only page of a browser of its own: what other tests left behind would count as this one's."""
    with new_page("memory") as page:
        page.evaluate(SET_UP)
        yield page


def browser_of(page: Page) -> Browser:
    browser = page.context.browser
    assert browser is not None
    return browser


def big_plan(shared: bool) -> dict[str, Any]:
    toy = Toy("p", shared)
    x, y = toy.tensor("x", "float32", 256), toy.tensor("y", "float32", 256)
    toy.step(toy.kernel(scale("scale", 2.0, 16)), toy.args(x["address"], y["address"]), 16)
    toy.init.append({"kind": "fill", "address": toy.room(ROOM), "length": ROOM, "value": 7})
    toy.inputs.append(x)
    toy.outputs.append(y)
    return toy.plan()


def resident(browser: Browser, field: str = "VmRSS") -> int:
    """Bytes in memory of the largest renderer process; VmHWM is the most it ever had."""
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    sizes = []
    for process in processes:
        if process["type"] == "renderer":
            status = Path(f"/proc/{process['id']}/status").read_text()
            sizes += [int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith(field)]
    return max(sizes)


ROUNDS = """async ({ plan, shared, rounds }) => {
  const wrong = [];
  for (let i = 0; i < rounds; i++) {
    await client.createSession('s', { shared });
    await client.loadPlan('s', revive(plan));
    const { outputs } = await client.run('s', 'p', [new Float32Array(256).fill(i)]);
    if (floats(outputs[0]).some((v) => v !== 2 * i)) wrong.push(i);
    const { total } = await client.memory();
    const { freed } = await client.releaseSession('s');
    if (freed !== total) wrong.push([freed, total]);
  }
  return { wrong, memory: await client.memory() };
}"""


def settled(page: Page, enough: int) -> int:
    """Resident bytes once they are below `enough`; else what they were after twenty seconds of waiting.

    When V8 frees a memory that nobody holds is its own business, and a few sessions' may wait: what is asked
    for is that nothing keeps them. Each small session that is released makes every thread look again.
    """
    until = time.monotonic() + 20
    while (now := resident(browser_of(page))) >= enough and time.monotonic() < until:
        page.evaluate("async () => { await client.createSession('s'); await client.releaseSession('s'); }")
        page.wait_for_timeout(200)
    return now


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_fifty_rounds_end_where_they_began(alone: Page, shared: bool) -> None:
    engine, browser = alone, browser_of(alone)
    arguments = {"plan": big_plan(shared), "shared": shared, "rounds": 3}
    engine.evaluate("async () => { window.client = await EngineClient.start({ threads: 3 }); }")
    engine.evaluate(ROUNDS, arguments)
    before = resident(browser)
    result = engine.evaluate(ROUNDS, {**arguments, "rounds": 50})
    after = settled(engine, before + int(1.5 * ROOM))
    assert result == {"wrong": [], "memory": {"sessions": [], "total": 0}}
    assert after - before < 1.5 * ROOM, f"{before / MIB:.0f} MiB before, {after / MIB:.0f} after"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_loading_takes_little_beside_the_weights(alone: Page) -> None:
    """192 MiB of weights from a file on disk: the peak is below 1.3 times that."""
    engine, browser = alone, browser_of(alone)
    size = 192 * MIB
    toy = Toy("p", True)
    x, y = toy.tensor("x", "float32", 256), toy.tensor("y", "float32", 256)
    toy.step(toy.kernel(scale("scale", 2.0, 16)), toy.args(x["address"], y["address"]), 16)
    toy.init.append({"kind": "range", "address": toy.room(size), "source": 0, "start": 0, "length": size})
    engine.evaluate(
        """async (size) => {
          window.client = await EngineClient.start({ threads: 2 });
          await client.createSession('s');
          const part = new Blob([new Uint8Array(16 << 20).fill(3)]);
          window.blob = new Blob(Array(size >> 24).fill(part));
        }""",
        size,
    )
    before = resident(browser)
    engine.evaluate("async (plan) => { await client.loadPlan('s', revive(plan), [blob]); }", toy.plan())
    peak = resident(browser, "VmHWM")
    assert 0.8 * size < peak - before < 1.3 * size, f"{(peak - before) / MIB:.0f} MiB for {size / MIB:.0f}"
