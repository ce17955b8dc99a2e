"""Reading a file in pieces: a stream that falls silent is asked again, and given up with a typed error."""

from __future__ import annotations

from playwright.sync_api import Page

READ = """async (silent) => {
  const { chunks } = await import('/engine/source.js');
  let opened = 0;
  const never = () => new ReadableStream({ type: 'bytes', pull: () => new Promise(() => {}) });
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
  }
  return { sum, opened };
}"""


def test_a_silent_stream_is_asked_again(page: Page) -> None:
    assert page.evaluate(READ, 1) == {"sum": 1000, "opened": 2}
