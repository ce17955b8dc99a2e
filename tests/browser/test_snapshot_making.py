"""When a snapshot of Python is made, by whom, and when not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .api_page import Api

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_no_snapshot_is_made_of_files_that_a_user_may_have_written(api: Api) -> None:
    """Code of the page's can write into the folders of Python's packages: they are no more what was unpacked."""
    given = api.run("""async () => {
      const { getCompiler } = await import('/api/workers.js');
      await nnjit.python("open('of_mine.py', 'w').write('secret = 1')");
      return getCompiler().rpc.call('snapshot.from', undefined);
    }""")
    assert given == {}


def test_a_making_that_never_ends_is_given_up(page: Page) -> None:
    why = page.evaluate("""async () => {
      const { keepPython } = await import('/api/snapshot-making.js');
      (await import('/api/env.js')).env.snapshot = true;
      const pyodide = { module: 'data:text/javascript,for (;;);' };
      const given = () => ({ data: new Uint8Array(8), key: 'https://example.org/none',
        manifest: { nnjit: {}, packages: [], pyodide } });
      const rpc = { quietMs: Infinity, call: async () => given() };
      const client = { ready: Promise.resolve({ restored: false }), death: undefined, rpc };
      return keepPython(client, 700);
    }""")
    assert why == "its worker was not done after 0.7 s"


KEEPERS = """
  const { keepPython } = await import('/api/snapshot-making.js');
  const { env } = await import('/api/env.js');
  const client = (from) => ({
    ready: Promise.resolve({ restored: false }),
    death: undefined,
    rpc: { quietMs: Infinity, call: from },
  });
"""


@pytest.mark.parametrize("locks", [True, False])
def test_two_pages_do_not_make_one_at_once(page: Page, locks: bool) -> None:
    """Where the browser has locks: the second leaves it to the first, and the next one finds the way free."""
    found = page.evaluate(
        f"""async (locks) => {{
          {KEEPERS}
          env.snapshot = true;
          if (!locks) LockManager.prototype.request = () => Promise.reject(new DOMException('', 'SecurityError'));
          let come, go;
          const asked = new Promise((resolve) => {{ come = resolve; }});
          const gate = new Promise((resolve) => {{ go = resolve; }});
          const first = keepPython(client(async () => {{ come(); await gate; return {{}}; }}));
          await asked;
          const second = await keepPython(client(async () => ({{}})));
          go();
          return [second, await first, await keepPython(client(async () => ({{}})))];
        }}""",
        locks,
    )
    own = "code of the page has run in this Python"
    assert found == ["another page is at it" if locks else own, own, own]


def test_a_device_with_little_memory_makes_none(page: Page) -> None:
    """What nobody asked for may take a sixteenth of it; where the browser does not tell, it is tried."""
    found = page.evaluate(
        f"""async () => {{
          {KEEPERS}
          env.snapshot = 'auto';
          Object.defineProperty(navigator, 'webdriver', {{ value: false }});
          Object.defineProperty(navigator.storage, 'estimate', {{ value: async () => ({{ quota: 1e10, usage: 0 }}) }});
          const found = [];
          for (const value of [2, 4, 8, undefined]) {{
            Object.defineProperty(navigator, 'deviceMemory', {{ value, configurable: true }});
            found.push(await keepPython(client(async () => ({{}}))));
          }}
          return found;
        }}"""
    )
    own = "code of the page has run in this Python"
    assert found == ["the device has 2 GiB of memory", "the device has 4 GiB of memory", own, own]


def test_a_snapshot_is_made_while_nothing_else_is_done(page: Page) -> None:
    """Not where a program drives the browser; any call ends it."""
    found = page.evaluate("""async () => {
      const { keepPython } = await import('/api/snapshot-making.js');
      const { env } = await import('/api/env.js');
      const calls = [];
      const client = (quiet, restored = false) => ({
        ready: Promise.resolve({ restored }),
        death: undefined,
        rpc: {
          get quietMs() { return quiet(); },
          call: async (method) => {
            calls.push(method);
            return { data: new Uint8Array(8), key: 'https://example.org/none' };
          },
        },
      });
      const calm = () => Infinity;
      env.snapshot = 'auto';
      const found = [await keepPython(client(calm)), await keepPython(client(calm, true))];
      env.snapshot = false;
      found.push(await keepPython(client(calm)), calls.splice(0));
      env.snapshot = true;
      let asked = 0;
      found.push(await keepPython(client(() => (asked++ % 2 ? 0 : Infinity))), asked);
      found.push(await keepPython(client(calm)).then((why) => why.length > 0 && why !== 'kept'));
      return found;
    }""")
    assert found == [
        "a program drives this browser",
        "this Python came from one",
        "env.snapshot is false",
        ["snapshot.forget"],
        "there was always something else to do",
        8,
        True,
    ]
