"""Python's memory, kept for the next visit: which snapshot may be used, and when one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_a_use_that_did_not_end_is_the_last(page: Page) -> None:
    found = page.evaluate("""async () => {
      const { forgetSnapshot, loadSnapshot, saveSnapshot, snapshotKey, snapshotUsed } =
        await import('/api/snapshot.js');
      const key = snapshotKey('https://example.org/bytecode/1/2');
      const bytes = new Uint8Array([1, 2, 3]);
      const save = () => saveSnapshot(key, { facts: { size: 3, files: [['/a', 3]] }, memory: bytes, files: bytes });
      const there = async () => Boolean(await loadSnapshot(key));
      const begun = async (ms) => {
        await (await caches.open('nnjit-python')).put(`${key}/begun`, new Response(String(Date.now() - ms)));
      };
      const found = [await there(), await save(), await there()];
      await begun(1000);
      found.push(await there());   // another page may be at it
      await snapshotUsed(key);
      found.push(await there());
      await begun(61_000);         // nobody can be any more
      found.push(await there());
      while ((await caches.keys()).includes('nnjit-python')) await new Promise((later) => setTimeout(later, 10));
      found.push(await there(), await save());
      const { memory, files } = await loadSnapshot(key);
      found.push([...await memory], [...await files]);
      await forgetSnapshot();
      return found;
    }""")
    assert found == [False, True, True, False, True, False, False, True, [1, 2, 3], [1, 2, 3]]


def test_a_snapshot_is_made_while_nothing_else_is_done(page: Page) -> None:
    """Not where a program drives the browser; any call ends it."""
    found = page.evaluate("""async () => {
      const { keepPython } = await import('/api/snapshot-making.js');
      const { env } = await import('/api/env.js');
      const client = (quiet, restored = false) => ({
        ready: Promise.resolve({ restored }),
        death: undefined,
        rpc: {
          get quietMs() { return quiet(); },
          call: async () => ({ data: new Uint8Array(8), key: 'https://example.org/none' }),
        },
      });
      const calm = () => Infinity;
      const found = [await keepPython(client(calm)), await keepPython(client(calm, true))];
      env.snapshot = false;
      found.push(await keepPython(client(calm)));
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
        "there was always something else to do",
        8,
        True,
    ]
