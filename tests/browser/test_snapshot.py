"""Python's memory, kept for the next visit: a page that comes again goes on from there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .api_page import tiny, tiny_weight
from .snapshot_page import LAZY, MAKE, RUN, again, give_storage

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from nnjit.devtools.httpd import Server

DRAW = """
import os, random, secrets
import numpy as np
of_numpy = [float(np.random.rand()), float(np.random.default_rng().random())]
[random.random(), secrets.token_hex(8), os.urandom(8).hex(), *of_numpy]"""
GROWN = "import numpy as np; float(np.ones(30_000_000, np.float32).sum(dtype=np.float64))"
LATER = "import asyncio, time\nawait asyncio.sleep(0.001)\ntime.time()"


def test_a_later_visit_goes_on_where_python_was(new_page: Any, server: Server) -> None:
    expected = np.maximum(np.ones((1, 4), np.float32) @ tiny_weight(), 0)[0]
    with new_page() as page:
        give_storage(page, server, 2e9)
        fresh, made = page.evaluate(MAKE)
        assert made == [{"kept": True}, False, {"kept": True}, True] and not fresh["restored"]

        drawn = []
        for visit in range(2):
            api, info = again(page, server)
            assert info["restored"]
            drawn += api.run("(code) => nnjit.python(code)", DRAW)
            if visit:
                continue
            same = ("nnjit", "python", "onnx", "pyodide", "standIns")
            assert {n: info[n] for n in same} == {n: fresh[n] for n in same}
            path = api.put("tiny.onnx", tiny())
            for provider in ("wasm", "reference"):
                np.testing.assert_allclose(api.run(RUN, [path, provider]), expected)
            assert api.run("(code) => nnjit.python(code)", LAZY) == 7  # imported only now
            assert api.run("(code) => nnjit.python(code)", GROWN) == 30_000_000
            now = api.run("async (code) => [await nnjit.python(code), Date.now() / 1e3]", LATER)
            assert 0 <= now[1] - now[0] < 60
            error = api.failure("await nnjit.python('1 / 0')")
            assert error["code"] == "PYTHON" and "ZeroDivisionError" in str(error)
            error = api.failure("await create(new Uint8Array([1, 2, 3]))")
            assert error["code"] == "MODEL_FORMAT"
        assert len(set(drawn)) == len(drawn)


def test_without_room_none_is_kept(new_page: Any, server: Server) -> None:
    with new_page(allowed=[".*"]) as page:
        give_storage(page, server, 3e7)
        _, made = page.evaluate(MAKE)
        assert made == [{"kept": False}, False, {"kept": False}, False]
        _, info = again(page, server)
        assert not info["restored"]


def test_what_an_earlier_version_kept_is_deleted(page: Page) -> None:
    """Also where this version keeps nothing, as with all bytecode served and no room for a snapshot."""
    found = page.evaluate("""async () => {
      const { forgetOthers } = await import('/api/snapshot.js');
      const { saveBytecode } = await import('/api/bytecode-cache.js');
      const addresses = ['https://example.org/old', 'https://example.org/new (1)'];
      const left = async () => {
        await forgetOthers(addresses[1]);
        await saveBytecode(`${new URL(addresses[1]).href}/a`, undefined);
        const found = [];
        for (const name of await caches.keys()) {
          const keys = await (await caches.open(name)).keys();
          found.push([name, keys.map(({ url }) => url.slice(-8))]);
        }
        return found.sort();
      };
      const found = [await left()];
      for (const name of ['nnjit-python', 'nnjit-bytecode']) {
        const store = await caches.open(name);
        for (const address of addresses) await store.put(`${address}/a`, new Response('1'));
      }
      found.push(await left());
      for (const name of ['nnjit-python', 'nnjit-bytecode']) await caches.delete(name);
      return found;
    }""")
    assert found == [[], [["nnjit-bytecode", ["%20(1)/a"]], ["nnjit-python", ["%20(1)/a"]]]]


def test_other_files_or_another_browser_have_another_snapshot(page: Page) -> None:
    found = page.evaluate("""async () => {
      const { bytecodeKey } = await import('/api/bytecode-cache.js');
      const { snapshotKey } = await import('/api/snapshot.js');
      const files = (last) => ({
        nnjit: { sha256: 'a'.repeat(63) }, packages: [{ sha256: last + 'b'.repeat(63) }],
        pyodide: { version: '1' },
      });
      const keys = [files('c'), files('d'), { ...files('c'), nnjit: { sha256: 'e'.repeat(63) } }];
      keys.push({ ...files('c'), pyodide: { version: '2' } });
      keys.push({ ...files('c'), pyodide: { version: '1', stdlib: { url: 'dist/f/python_stdlib.zip' } } });
      const found = keys.map((one) => snapshotKey(bytecodeKey(one)));
      Object.defineProperty(navigator, 'userAgent', { value: 'another' });
      return [...found, snapshotKey(bytecodeKey(keys[0]))];
    }""")
    assert len(set(found)) == len(found) == 6


def test_a_use_that_did_not_end_is_the_last(page: Page) -> None:
    found = page.evaluate("""async () => {
      const { forgetSnapshot, loadSnapshot, saveSnapshot, snapshotKey, snapshotProven, snapshotUsed } =
        await import('/api/snapshot.js');
      const key = snapshotKey('https://example.org/bytecode/1/2');
      const bytes = new Uint8Array([1, 2, 3]);
      const save = async () => {
        const kept = await saveSnapshot(key, { facts: { size: 3, files: [['/a', 3]] }, memory: bytes, files: bytes });
        if (await there()) throw new Error('nothing has proven it');
        await snapshotProven(key);
        return kept;
      };
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
      await until(async () => !(await caches.keys()).includes('nnjit-python'));
      found.push(await there(), await save());
      const read = async () => {
        const { memory, files } = await loadSnapshot(key);
        const both = [[...await memory], [...await files]];
        await snapshotUsed(key);
        return both;
      };
      found.push(...await read());
      const made = (byte, size = 3) => saveSnapshot(key, {
        facts: { size, files: [['/a', 3]] },
        memory: new Uint8Array(3).fill(byte),
        files: new Uint8Array(3).fill(byte),
      }).then(() => snapshotProven(key)).catch(() => undefined);   // the other one's is proven
      await Promise.all([made(1), made(2)]);   // in two pages
      const [memory, files] = await read();
      found.push(memory[0] === files[0]);
      await made(1, 4);            // cut short
      found.push(await read().catch(({ message }) => message));
      await forgetSnapshot();
      return found;
    }""")
    short = "the snapshot's memory has 3 bytes, not 4"
    assert found == [False, True, True, False, True, False, False, True, [1, 2, 3], [1, 2, 3], True, short]
