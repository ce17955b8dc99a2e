"""Where a model's bytes wait: in Blobs, or in a file where they are many or the browser has no room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from playwright.sync_api import Page

if TYPE_CHECKING:
    from tests.conftest import NewPage

HELPERS = """() => {
  window.files = async () => {
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('nnjit-models', { create: true });
    return (await Array.fromAsync(folder.keys())).length;
  };
  window.bytes = (n) => Uint8Array.from({ length: n }, (_, i) => (i * 7) % 251);
  window.same = (a, b) => a.length === b.length && a.every((v, i) => v === b[i]);
}"""

ON_DISK = """async () => {
  const { Stash } = await import('/api/stash.js');
  const data = bytes(40 << 20);
  const stash = new Stash(data.length, true);
  for (let at = 0; at < data.length; at += 3_000_001) await stash.add(data.subarray(at, at + 3_000_001));
  const { blob, drop } = await stash.close();
  const [kind, kept] = [blob.constructor.name, await files()];
  const equal = same(new Uint8Array(await blob.arrayBuffer()), data);
  drop();
  while (await files()) await new Promise((later) => setTimeout(later, 10));
  return { kind, kept, equal };
}"""


def test_a_file_holds_the_bytes_and_is_removed(page: Page) -> None:
    page.evaluate(HELPERS)
    assert page.evaluate(ON_DISK) == {"kind": "File", "kept": 1, "equal": True}


NO_ROOM = """async ({ url, silent }) => {
  const slice = Blob.prototype.slice;
  const refused = () => Promise.reject(new DOMException('', 'NotReadableError'));
  const deaf = { arrayBuffer: () => (silent ? new Promise(() => {}) : refused()) };
  Blob.prototype.slice = function (...range) {
    return this instanceof File ? slice.apply(this, range) : deaf;
  };
  try {
    const { openSource } = await import('/api/sources.js');
    const fetched = await openSource(url);
    const given = await openSource(bytes(1000));
    const kinds = [fetched.bytes.constructor.name, given.bytes.constructor.name, await files()];
    const equal = same(new Uint8Array(await given.bytes.arrayBuffer()), bytes(1000));
    fetched.drop();
    given.drop();
    while (await files()) await new Promise((later) => setTimeout(later, 10));
    return { kinds, size: fetched.bytes.size, equal };
  } finally {
    Blob.prototype.slice = slice;
  }
}"""


def test_blobs_that_cannot_be_read_go_to_disk(page: Page, server: Any) -> None:
    page.evaluate(HELPERS)
    url = server.site.put("stash.bin", b"x" * 5000)
    for silent in (False, True):
        with_room = page.evaluate(NO_ROOM, {"url": url, "silent": silent})
        assert with_room == {"kinds": ["File", "File", 2], "size": 5000, "equal": True}


def test_files_of_closed_pages_are_swept(new_page: NewPage) -> None:
    with new_page() as first:
        first.evaluate(HELPERS)
        make = """async () => {
          const { Stash } = await import('/api/stash.js');
          const stash = new Stash(8, true);
          await stash.add(bytes(8));
          window.kept = await stash.close();
        }"""
        second = first.context.new_page()
        second.goto(first.url)
        second.evaluate(HELPERS)
        second.evaluate(make)
        assert first.evaluate("files()") == 1
        first.evaluate(make)
        assert first.evaluate("files()") == 2  # the other page still uses its own
        second.close()
        first.evaluate(make)
        first.wait_for_function("async () => (await files()) === 2")
