"""A microphone's samples at 16 kHz, whatever rate the browser gives them at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

RATE = 16_000

HEAR = """async ([rate, tone]) => {
  const context = new OfflineAudioContext(1, rate, rate); // one second
  await context.audioWorklet.addModule('/samples/tap.worklet.js');
  const tap = new AudioWorkletNode(context, 'tap', { numberOfOutputs: 0 });
  const windows = [];
  const last = new Promise((over) => {
    tap.port.onmessage = ({ data }) => { if (windows.push(...data) >= 15872) over(); };
  });
  const buffer = context.createBuffer(1, rate, rate);
  buffer.copyToChannel(Float32Array.from({ length: rate }, (_, i) => Math.sin(2 * Math.PI * tone * i / rate)), 0);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(tap);
  source.start();
  await context.startRendering();
  await last;
  return windows;
}"""


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000, 96_000])
def test_samples_are_converted(page: Page, rate: int) -> None:
    tone = 440
    heard = np.array(page.evaluate(HEAR, [rate, tone]))
    assert len(heard) == RATE // 512 * 512
    want = np.sin(2 * np.pi * tone * np.arange(len(heard)) / RATE)
    # Between two samples a line stands for the sine: off by (2 pi f / rate)^2 / 8 at most, nothing on a sample.
    bound = 1e-6 + (0 if rate % RATE == 0 else (2 * np.pi * tone / rate) ** 2 / 8)
    np.testing.assert_allclose(heard, want, rtol=0, atol=bound)


def test_a_browser_that_converts_nothing_is_asked_at_its_own_rate(page: Page) -> None:
    got = page.evaluate("""async () => {
      const { microphone } = await import('/samples/microphone.js');
      const stream = new AudioContext().createMediaStreamDestination().stream;
      const closed = [];
      const { createMediaStreamSource } = AudioContext.prototype;
      const { close } = AudioContext.prototype;
      const { context, source } = microphone(stream, 16000);
      const converts = [context.sampleRate, source.constructor.name];
      AudioContext.prototype.close = function () { closed.push(this.sampleRate); return close.call(this); };
      AudioContext.prototype.createMediaStreamSource = function (given) { // a browser that does not convert
        if (this.sampleRate === 16000) throw new DOMException('different sample-rate', 'NotSupportedError');
        return createMediaStreamSource.call(this, given);
      };
      const own = microphone(stream, 16000);
      const native = own.context.sampleRate === new AudioContext().sampleRate;
      return { converts, closed, native, filter: [own.source.type, own.source.frequency.value] };
    }""")
    assert got["converts"] == [RATE, "MediaStreamAudioSourceNode"]
    assert got["closed"] == [RATE] and got["native"]
    assert got["filter"] == ["lowpass", pytest.approx(0.45 * RATE)]
