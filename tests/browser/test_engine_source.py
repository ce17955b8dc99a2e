"""Reading a file in pieces: a stream that falls silent is asked again, and given up with a typed error."""

from __future__ import annotations

from playwright.sync_api import Page

READ = """async (silent) => {
  const { chunks } = await import('/engine/source.js');
  let opened = 0;
  const { setTimeout: real } = globalThis;
  let limit; // of the time that a stream may take; that of the silent one is over at once
  globalThis.setTimeout = (...given) => {
    limit = given[0];
    return real(...given);
  };
  const silence = () => new Promise(() => { real(() => limit()); });
  const never = () => new ReadableStream({ type: 'bytes', pull: silence });
  const blob = {
    slice: (begin, end) => ({
      stream: () => (opened++ < silent ? never() : new Blob([new Uint8Array(end - begin).fill(begin + 1)]).stream()),
    }),
  };
  let sum = 0;
  try {
    for await (const { bytes } of chunks(blob, { source: 0, start: 0, length: 1000 })) {
      sum += bytes.reduce((a, b) => a + b, 0);
    }
  } catch (error) {
    return { code: error.code, opened };
  } finally {
    globalThis.setTimeout = real;
  }
  return { sum, opened };
}"""


def test_a_silent_stream_is_asked_again(page: Page) -> None:
    assert page.evaluate(READ, 1) == {"sum": 1000, "opened": 2}
