"""Where a model's bytes wait: in Blobs, or in a file where they are many or the browser has no room."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from playwright.sync_api import Page

from tests.browser.api_page import Api, model
from tests.support.waiting import UNTIL_S

if TYPE_CHECKING:
    from tests.conftest import NewPage

HELPERS = """() => {
  window.names = async () => {
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('nnjit-models', { create: true });
    return Array.fromAsync(folder.keys());
  };
  window.files = async () => (await names()).length;
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
  await until(async () => !(await files()));
  return { kind, kept, equal };
}"""


def test_a_file_holds_the_bytes_and_is_removed(page: Page) -> None:
    page.evaluate(HELPERS)
    assert page.evaluate(ON_DISK) == {"kind": "File", "kept": 1, "equal": True}


NO_ROOM = """async ({ url, silent }) => {
  const slice = Blob.prototype.slice;
  const refused = () => Promise.reject(new DOMException('', 'NotReadableError'));
  const { setTimeout: real } = globalThis;
  let limit; // of the time that a Blob may take; here it is over at once
  globalThis.setTimeout = (...given) => {
    limit = given[0];
    return real(...given);
  };
  const never = () => new Promise(() => { real(limit); });
  const deaf = { arrayBuffer: () => (silent ? never() : refused()) };
  Blob.prototype.slice = function (...range) {
    return this instanceof File ? slice.apply(this, range) : deaf;
  };
  try {
    const { openSource } = await import('/api/sources.js');
    const fetched = await openSource(url);
    const given = await openSource(bytes(1000));
    const kinds = [fetched.bytes.constructor.name, given.bytes.constructor.name, await files()];
    const equal = same(new Uint8Array(await given.bytes.arrayBuffer()), bytes(1000));
    const { size } = fetched.bytes;
    fetched.drop();
    given.drop();
    await until(async () => !(await files()));
    return { kinds, size, equal };
  } finally {
    globalThis.setTimeout = real;
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
        # its locks go with its process, which may take a moment more
        first.evaluate("""async () => {
          const held = async () => (await navigator.locks.query()).held.map(({ name }) => name);
          const locks = async () => (await held()).filter((name) => name.startsWith('nnjit-models'));
          await until(async () => (await locks()).length === 1, locks);
        }""")
        first.evaluate(make)
        first.wait_for_function("async () => (await files()) === 2")


HELD = """async ({ url, how }) => {
  const { openSource } = await import('/api/sources.js');
  const { Stash } = await import('/api/stash.js');
  const { chunks } = await import('/engine/source.js');
  const { close } = Stash.prototype;
  const kind = (source) => source.bytes.constructor.name;
  const whole = async (source) => {
    const parts = [];
    const range = { source: 0, start: 5, length: 3_000_000 };
    for await (const { bytes } of chunks(source.bytes, range)) parts.push(bytes.slice());
    return new Uint8Array(await new Blob(parts).arrayBuffer());
  };
  const others = new Set(await names()); // of other tests' pages that are still open
  const mine = async () => (await names()).filter((name) => !others.has(name)).length;
  if (how === 'no room') {
    Stash.prototype.close = async function () { // once its file is there, so that there is something to remove
      if (this.disk) await until(mine);
      throw new Error('the disk is full');
    };
  }
  try {
    const source = await openSource(url ?? bytes(3 << 20), {});
    const [first, shared] = [kind(source), source.bytes.buffer instanceof SharedArrayBuffer];
    const wanted = bytes(3 << 20).subarray(5, 3_000_005);
    if (how === 'dropped') source.drop();
    const before = how === 'dropped' || same(await whole(source), wanted);
    await source.settled;
    const after = how === 'dropped' || same(await whole(source), wanted);
    const last = kind(source);
    if (how !== 'no room') source.drop(); // else nothing was kept that could be dropped
    await until(async () => !(await mine()));
    const left = await mine();
    source.drop();
    return { first, shared, before, after, last, left };
  } finally {
    Stash.prototype.close = close;
  }
}"""


@pytest.mark.parametrize("given", ["url", "bytes"])
@pytest.mark.parametrize("how", ["", "no room", "dropped"])
def test_bytes_are_read_from_memory_until_they_are_put_away(
    page: Page, server: Any, given: str, how: str
) -> None:
    page.evaluate(HELPERS)
    data = bytes((i * 7) % 251 for i in range(3 << 20))
    url = server.site.put("held.bin", data) if given == "url" else None
    found = page.evaluate(HELD, {"url": url, "how": how})
    if how != "dropped":  # that may come before or after
        assert found["last"] == ("Uint8Array" if how else "Blob")
    del found["last"]
    assert found == {"first": "Uint8Array", "shared": True, "before": True, "after": True, "left": 0}


def test_a_session_goes_from_memory_to_the_blob(booted: Api) -> None:
    """The first plan's weights come from memory, those that another shape's plan asks for from the Blob."""
    rng = np.random.default_rng(7)
    table, weights = (rng.normal(0, 1, (rows, 600)).astype(np.float32) for rows in (700, 600))
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["t", "s"], ["z"]),
    ]
    f = TensorProto.FLOAT
    data = model(nodes, {"x": (f, ["n", 600])}, {"y": (f, None), "z": (f, None)}, {"w": weights, "t": table})
    x = rng.normal(0, 1, (3, 600)).astype(np.float32)
    found = booted.run(
        """async ([url, x]) => {
          const { Held } = await import('/api/held.js');
          const all = [];
          const of = Held.of;
          Held.of = (size) => {
            const held = of(size);
            all.push(held);
            return held;
          };
          try {
            const session = await create(url);
            const run = async (n) => {
              const { y, z } = await session.run({ x: T('float32', new Float32Array(x).slice(0, n * 600), [n, 600]) });
              return [[...y.data], [...z.data]];
            };
            const first = await run(3);
            const blobs = (await Promise.all(all.map(({ settled }) => settled))).map((blob) => blob?.size);
            const results = [first, await run(2), await run(3)];
            const kept = all.map(({ view, arriving }) => view.byteLength + arriving.view.byteLength);
            await session.release();
            return { results, blobs, kept };
          } finally {
            Held.of = of;
          }
        }""",
        [booted.put("held.onnx", data.SerializeToString()), x.reshape(-1).tolist()],
    )
    assert found["blobs"] == [len(data.SerializeToString())]
    assert found["kept"] == [0], "the page still holds the memory"
    for (y, z), n in zip(found["results"], (3, 2, 3), strict=True):
        np.testing.assert_allclose(np.reshape(y, (n, 600)), x[:n] @ weights, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(np.reshape(z, (2, 600)), table[[n, 600]])


def test_a_released_session_keeps_no_bytes(booted: Api) -> None:
    """Not even while others are being made, for which putting them away waits, nor by who keeps the session."""
    weights = np.random.default_rng(7).normal(0, 1, (600, 600)).astype(np.float32)
    f = TensorProto.FLOAT
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    data = model(nodes, {"x": (f, ["n", 600])}, {"y": (f, None)}, {"w": weights}).SerializeToString()
    booted.run(
        """async (url) => {
          const { beforehand } = await import('/api/held.js');
          const real = globalThis.SharedArrayBuffer;
          window.seen = { memories: [], session: null };
          globalThis.SharedArrayBuffer = new Proxy(real, {
            construct(kind, [size]) {
              const made = new kind(size);
              if (size > 1 << 20) seen.memories.push(new WeakRef(made));
              return made;
            },
          });
          beforehand(() => new Promise((resolve) => { seen.end = resolve; }));
          try {
            seen.session = await create(url);
            await seen.session.release();
          } finally {
            globalThis.SharedArrayBuffer = real;
          }
        }""",
        booted.put("kept.onnx", data),
    )
    tools = booted.page.context.new_cdp_session(booted.page)
    left, end = [1], time.monotonic() + UNTIL_S
    while (
        any(left) and time.monotonic() < end
    ):  # what a message on its way brings goes with a later collection
        tools.send("HeapProfiler.collectGarbage")
        left = booted.run("() => seen.memories.map((each) => each.deref()?.byteLength ?? 0)")
    tools.detach()
    booted.run("() => { seen.end(); delete window.seen; }")
    assert left == [0]
