"""A browser that keeps nothing for the page: a private window, blocked storage, an older one, a full disk. What would
be kept is made anew, large models stay in Blobs, and nothing fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .engine_page import engine_page, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# How the browser is made to lack it, before any module asks.
REFUSED = "() => Promise.reject(new DOMException('', 'SecurityError'))"
WITHOUT = {
    "no storage at all": "Object.defineProperty(navigator, 'storage', { value: undefined });",
    "an older browser": "StorageManager.prototype.getDirectory = undefined;",
    "a private window": f"StorageManager.prototype.getDirectory = {REFUSED};",
    "no writable files": "delete FileSystemFileHandle.prototype.createWritable;",
    "a full disk": "StorageManager.prototype.estimate = async () => ({ quota: 1000, usage: 999 });",
    "no locks": f"LockManager.prototype.request = {REFUSED};",
}

STASH = """async () => {
  const { Stash, readable } = await import('/api/stash.js');
  const data = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 7) % 251);
  const kinds = [];
  for (const disk of [true, false]) {
    const stash = new Stash(data.length, disk);
    for (let at = 0; at < data.length; at += 30_001) await stash.add(data.subarray(at, at + 30_001));
    const { blob, drop } = await stash.close();
    const got = new Uint8Array(await blob.arrayBuffer());
    const same = got.length === data.length && got.every((v, i) => v === data[i]);
    kinds.push(blob.constructor.name, await readable(blob), same);
    drop();
  }
  const root = await navigator.storage?.getDirectory?.().catch(() => null);
  const folder = await root?.getDirectoryHandle('nnjit-models').catch(() => null);
  return { kinds, files: folder ? await Array.fromAsync(folder.keys()) : [] };
}"""


@pytest.mark.parametrize("lack", WITHOUT)
def test_a_large_model_stays_in_blobs(page: Page, lack: str) -> None:
    page.evaluate(f"() => {{ {WITHOUT[lack]} }}")
    assert page.evaluate(STASH) == {"kinds": ["Blob", True, True] * 2, "files": []}


KEPT = """async () => {
  const { bytecodeKey, loadBytecode, saveBytecode } = await import('/api/bytecode-cache.js');
  const key = bytecodeKey({ nnjit: { sha256: 'a' }, packages: [], pyodide: { version: '1' } });
  await saveBytecode(key, Uint8Array.of(1, 2, 3));
  const { loadFacts, saveFacts, loadRecords, clearRecords } = await import('/api/tuning-store.js');
  await saveFacts('device', { a: 1 });
  await clearRecords('device');
  return [await loadBytecode(key) ?? null, await loadFacts('device') ?? null, await loadRecords('device')];
}"""


@pytest.mark.parametrize("how", ["missing", "throws"])
def test_bytecode_and_tuning_are_not_kept(page: Page, how: str) -> None:
    get = "throw new DOMException('', 'SecurityError');" if how == "throws" else "return undefined;"
    for name in ("caches", "indexedDB"):
        page.evaluate(f"() => Object.defineProperty(globalThis, '{name}', {{ get() {{ {get} }} }})")
    assert page.evaluate(KEPT) == [None, None, []]


def test_a_full_disk_keeps_no_bytecode(page: Page) -> None:
    full = "() => Promise.reject(new DOMException('', 'QuotaExceededError'))"
    page.evaluate(f"() => {{ Cache.prototype.put = {full}; }}")
    assert page.evaluate(KEPT) == [None, {"a": 1}, []]


def test_without_locks_deaths_go_unnoticed_and_all_else_works(browser: Browser) -> None:
    """Where storage is blocked, so are locks: in the page and in its workers."""
    broken = {"/engine/alive.js": f"\nLockManager.prototype.request = {REFUSED};"}
    with serve(isolated=True, additions=broken) as origin, engine_page(browser, origin) as page:
        threads = page.evaluate("""async () => {
          const client = await EngineClient.start({ threads: 2 });
          const { threads } = await client.createSession('s');
          client.terminate();
          return threads;
        }""")
    assert threads == 2
