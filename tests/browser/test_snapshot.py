"""Python's memory, kept for the next visit: a page that comes again goes on from there; which snapshot may be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nnjit.devtools.cli import ROOT

from .api_page import Api, tiny, tiny_weight
from .page_flows import SCRIPT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from nnjit.devtools.httpd import Server

WANTED = "async () => { (await import('/nnjit.js')).default.env.snapshot = 'auto'; }"
MAKE = """async () => {
  const nnjit = (await import('/nnjit.js')).default;
  const { getCompiler } = await import('/api/workers.js');
  nnjit.env.snapshot = 'auto';
  const info = await nnjit.ready;
  const given = await getCompiler().rpc.call('snapshot.from', undefined);
  const told = [];
  for (const message of [given, { prove: true, key: given.key, manifest: given.manifest }]) {
    const worker = new Worker('/api/snapshot.worker.js', { type: 'module' });
    const done = new Promise((resolve) => worker.addEventListener('message', ({ data }) => resolve(data)));
    worker.postMessage(message);
    told.push(await done);
    worker.terminate();
    const usable = (await (await caches.open('nnjit-python')).keys()).some(({ url }) => url.endsWith('/facts'));
    told.push(usable);
  }
  return [info, told];
}"""
SETTLED = """async () => {
  const store = await caches.open('nnjit-python');
  const begun = async () => (await store.keys()).some(({ url }) => url.endsWith('/begun'));
  await until(async () => !(await begun()));
  return (await store.keys()).length;
}"""
# What becomes of an entry. `rewrite` makes its digest right again, as of a snapshot that was wrong when it was made.
REPLACE = """const store = await caches.open('nnjit-python');
  const sha256 = async (bytes) => Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)),
    (byte) => byte.toString(16).padStart(2, '0')).join('');
  const entry = async (name) => (await store.keys()).find(({ url }) => url.endsWith('/' + name));
  const get = async (name) => new Uint8Array(await (await store.match(await entry(name))).arrayBuffer());
  const put = async (name, data) => store.put(await entry(name), new Response(data));
  const change = async (edit) => {
    const text = new TextDecoder().decode(await get('facts'));
    const facts = JSON.parse(text.slice(text.indexOf('\\n') + 1));
    await edit(facts);
    const changed = JSON.stringify(facts);
    await put('facts', await sha256(new TextEncoder().encode(changed)) + '\\n' + changed);
  };
  const rewrite = async (name, edit) => {
    const data = await get(name);
    edit(data);
    await put(name, data);
    await change(async (facts) => { facts.digests[name] = await sha256(data); });
  };
"""
DAMAGES = {
    # seen when it is read
    "a byte of the memory": "const d = await get('memory'); d[d.length >> 1] ^= 1; await put('memory', d);",
    "a byte of the files": "const d = await get('files'); d[d.length >> 1] ^= 1; await put('files', d);",
    "half of the memory": "const d = await get('memory'); await put('memory', d.slice(0, d.length >> 1));",
    "no memory": "await store.delete(await entry('memory'));",
    "no files": "await store.delete(await entry('files'));",
    "a byte of the facts": "const d = await get('facts'); d[d.length >> 1] ^= 1; await put('facts', d);",
    "no facts to read": "await put('facts', 'nonsense');",
    # seen when Python starts
    "another address of a symbol": "await change((f) => { f.addresses[Object.keys(f.addresses)[9]] += 8; });",
    "another length of the table": "await change((f) => { f.tableStart += 1; });",
    "a library that is not there": "await change((f) => { f.libraries[0].path += 'x'; });",
    "another build of Pyodide": "await rewrite('memory', (d) => d.fill(88, 16, 48));",
    "a memory of zeros": "await rewrite('memory', (d) => d.fill(0, 4096));",
    "a memory of noise": "await rewrite('memory', (d) => { for (let i = 5e5; i < d.length; i += 7) d[i] = i * 31; });",
    "Python without its code": "await rewrite('memory', (d) => d.fill(255, d.length >> 1));",
}
READ = {
    "a byte of the memory": "the snapshot's memory is damaged",
    "a byte of the files": "the snapshot's files is damaged",
    "half of the memory": "the snapshot's memory has N bytes, not N",
    "no memory": "the snapshot's memory has N bytes, not N",
    "no files": "the snapshot's files has N bytes, not N",
    "a byte of the facts": "there is none",
    "no facts to read": "there is none",
}
"""What reading it answers. A start goes the same way after each of them, but for the facts, which come first: of each
way one is played to the end, too."""
PLAYED = [name for name in DAMAGES if name not in READ] + [
    "a byte of the memory",
    "no files",
    "a byte of the facts",
]
SAVE = """async () => {
  const [from, to] = [await caches.open('nnjit-python'), await caches.open('aside')];
  for (const request of await from.keys()) await to.put(request, await from.match(request));
}"""
BRING_BACK = """async () => {
  await caches.delete('nnjit-python');
  const [from, to] = [await caches.open('aside'), await caches.open('nnjit-python')];
  for (const request of await from.keys()) await to.put(request, await from.match(request));
}"""
RUN = """async ([path, provider]) => {
  const session = await nnjit.InferenceSession.create(path, { executionProviders: [provider] });
  const { z } = await session.run({ x: T('float32', [1, 1, 1, 1], [1, 4]) });
  const found = [...z.data];
  await session.release();
  return found;
}"""
DRAW = """
import os, random, secrets
import numpy as np
of_numpy = [float(np.random.rand()), float(np.random.default_rng().random())]
[random.random(), secrets.token_hex(8), os.urandom(8).hex(), *of_numpy]"""
LAZY = "import decimal, onnx.compose, numpy.polynomial as p; float(p.Polynomial([1, 2])(3.0))"
GROWN = "import numpy as np; float(np.ones(30_000_000, np.float32).sum(dtype=np.float64))"
LATER = "import asyncio, time\nawait asyncio.sleep(0.001)\ntime.time()"


def again(page: Page, server: Server) -> tuple[Api, dict[str, Any]]:
    """Another visit, and what its compiler says of itself."""
    page.reload()
    page.evaluate(WANTED)
    api = Api(page, server)
    info: dict[str, Any] = api.run("() => nnjit.ready")
    page.evaluate(SETTLED)
    return api, info


def test_a_later_visit_goes_on_where_python_was(new_page: Any, server: Server) -> None:
    expected = np.maximum(np.ones((1, 4), np.float32) @ tiny_weight(), 0)[0]
    with new_page() as page:
        origin = server.url.rstrip("/")  # a private window has no room for so much
        page.context.new_cdp_session(page).send(
            "Storage.overrideQuotaForOrigin", {"origin": origin, "quotaSize": 2e9}
        )
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


@pytest.fixture(scope="module")
def kept_page(new_page: Any, server: Server) -> Iterator[Page]:
    """A page with a snapshot, whose parts `SAVE` has put aside."""
    with new_page(allowed=[".*"]) as page:
        origin = server.url.rstrip("/")
        page.context.new_cdp_session(page).send(
            "Storage.overrideQuotaForOrigin", {"origin": origin, "quotaSize": 2e9}
        )
        _, made = page.evaluate(MAKE)
        assert made[2] == {"kept": True}
        page.evaluate(SAVE)
        yield page


def test_what_was_put_aside_can_be_used(kept_page: Page, server: Server) -> None:
    """So what is damaged below is damaged by nothing else."""
    kept_page.evaluate(BRING_BACK)
    assert again(kept_page, server)[1]["restored"]


@pytest.mark.parametrize("damage", list(READ))
def test_damage_is_seen_when_a_snapshot_is_read(damage: str, kept_page: Page) -> None:
    page = kept_page
    page.evaluate(BRING_BACK)
    page.evaluate(f"async () => {{ {REPLACE} {DAMAGES[damage]} }}")
    found = page.evaluate("""async () => {
      const { loadSnapshot } = await import('/api/snapshot.js');
      const { url } = (await (await caches.open('nnjit-python')).keys()).find(({ url }) => url.endsWith('/facts'));
      const kept = await loadSnapshot(url.slice(0, -'/facts'.length));
      if (!kept) return ['there is none', (await caches.keys()).includes('nnjit-python')];
      const ends = await Promise.allSettled([kept.memory, kept.files]);
      return [ends.map(({ reason }) => reason?.message ?? '').join('').replace(/[0-9]+/g, 'N'), false];
    }""")
    assert found == [READ[damage], False]


@pytest.mark.parametrize("damage", PLAYED)
def test_after_a_restore_that_failed_python_starts_anew(damage: str, kept_page: Page, server: Server) -> None:
    """The visit is as a first one but for its time, and the next one too: what was damaged is gone."""
    page = kept_page
    page.evaluate(BRING_BACK)
    page.evaluate(f"async () => {{ {REPLACE} {DAMAGES[damage]} }}")
    api, info = again(page, server)
    assert not info["restored"] and info["nnjit"] and info["standIns"] is not None
    expected = np.maximum(np.ones((1, 4), np.float32) @ tiny_weight(), 0)[0]
    path = api.put("tiny.onnx", tiny())
    for provider in ("wasm", "reference"):
        np.testing.assert_allclose(api.run(RUN, [path, provider]), expected)
    assert api.run("(code) => nnjit.python(code)", LAZY) == 7
    page.wait_for_function("async () => !(await caches.keys()).includes('nnjit-python')")


HANGS = """async () => {
  const { CompilerClient } = await import('/api/compiler-client.js');
  const client = new CompilerClient({}, 1000);
  const { restored, nnjit } = await client.ready;
  const found = await client.call('python', { code: '1 + 1' }).then(({ plain }) => plain);
  await new Promise((later) => setTimeout(later, 100));   // time for news of the first worker's end
  const { death } = client;
  client.terminate();
  const kept = await (await caches.open('nnjit-python')).keys();
  return [restored, nnjit.length > 0, found, death?.message, kept.length];
}"""


def test_a_restore_that_never_ends_is_given_up(kept_page: Page, server: Server) -> None:
    """Not even a worker that reads no messages keeps the page from its Python."""
    source = (ROOT / "web/api/restore.js").read_text("utf-8")
    head = "export async function startWith("
    hanging = source.replace(head, f"{head}) {{ for (;;); }}\nexport async function unused(")
    kept_page.evaluate(BRING_BACK)
    kept_page.reload()
    kept_page.context.route("**/api/restore.js", lambda route: route.fulfill(body=hanging, headers=SCRIPT))
    try:
        assert hanging != source and kept_page.evaluate(HANGS) == [False, True, 2, None, 0]
    finally:
        kept_page.context.unroute_all()


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


def test_without_room_none_is_kept(new_page: Any, server: Server) -> None:
    with new_page(allowed=[".*"]) as page:
        origin = server.url.rstrip("/")
        page.context.new_cdp_session(page).send(
            "Storage.overrideQuotaForOrigin", {"origin": origin, "quotaSize": 3e7}
        )
        _, made = page.evaluate(MAKE)
        assert made == [{"kept": False}, False, {"kept": False}, False]
        _, info = again(page, server)
        assert not info["restored"]


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
