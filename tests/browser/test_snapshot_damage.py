"""A snapshot that is damaged, wrong or never done: the visit ends in a Python that works, and the snapshot is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nnjit.devtools.cli import ROOT

from .api_page import tiny, tiny_weight
from .page_flows import SCRIPT
from .snapshot_page import LAZY, MAKE, RUN, again, give_storage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from nnjit.devtools.httpd import Server

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
REFUSED = [
    "another length of the table",
    "a library that is not there",
    "another build of Pyodide",
    "a memory of zeros",
]
"""Python does not start from these; what then follows is played with others."""
PLAYED = [name for name in DAMAGES if name not in READ and name not in REFUSED] + [
    "a byte of the memory",
    "no files",
    "a byte of the facts",
]
RESTORE = """
import { loadSnapshot } from '/api/snapshot.js';
import { pyodideOptions, startWith } from '/api/restore.js';
onmessage = async ({ data }) => {
  try {
    const manifest = await (await fetch('/dist/manifest.json')).json();
    const { loadPyodide } = await import('/' + manifest.pyodide.module);
    const kept = await loadSnapshot(data);
    const pyodide = await startWith(loadPyodide, pyodideOptions(manifest.pyodide), kept.facts, kept.files, kept);
    pyodide.pyimport('nnjit.runtime.bridge_snapshot').back();
    const bridge = pyodide.pyimport('nnjit.runtime.bridge');
    postMessage(bridge.connect(async () => {}, () => undefined) ? '' : 'it has no bridge');
  } catch (error) {
    postMessage(String(error?.stack ?? error) || 'an error without a text');
  }
};
"""
"""What a compiler's worker does with a snapshot: '' where Python goes on from it, else why not."""
SAVE = """async () => {
  const [from, to] = [await caches.open('nnjit-python'), await caches.open('aside')];
  for (const request of await from.keys()) await to.put(request, await from.match(request));
}"""
BRING_BACK = """async () => {
  await caches.delete('nnjit-python');
  const [from, to] = [await caches.open('aside'), await caches.open('nnjit-python')];
  for (const request of await from.keys()) await to.put(request, await from.match(request));
}"""


@pytest.fixture(scope="module")
def kept_page(new_page: Any, server: Server) -> Iterator[Page]:
    """A page with a snapshot, whose parts `SAVE` has put aside."""
    with new_page(allowed=[".*"]) as page:
        give_storage(page, server, 2e9)
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


def restored(page: Page) -> str:
    """What RESTORE says of the snapshot that is there."""
    found: str = page.evaluate(
        """(path) => inTime(async () => {
          const { url } = (await (await caches.open('nnjit-python')).keys()).find(({ url }) => url.endsWith('/facts'));
          const worker = new Worker(path, { type: 'module' });
          const told = new Promise((resolve, reject) => {
            worker.onmessage = ({ data }) => resolve(data);
            worker.onerror = ({ message }) => reject(new Error(message));
          });
          worker.postMessage(url.slice(0, -'/facts'.length));
          return told.finally(() => worker.terminate());
        })""",
        "/~/restoring.js",
    )
    return found


def test_python_does_not_start_from_what_is_damaged(kept_page: Page, server: Server) -> None:
    """As it is, it does."""
    server.site.put("~/restoring.js", RESTORE.encode())
    kept_page.evaluate(BRING_BACK)
    kept_page.reload()
    assert restored(kept_page) == ""
    for damage in REFUSED:
        kept_page.evaluate(BRING_BACK)
        kept_page.evaluate(f"async () => {{ {REPLACE} {DAMAGES[damage]} }}")
        assert restored(kept_page) != "", damage


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
