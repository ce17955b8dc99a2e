"""Parts of tensors in the GPU's buffers: the shader that moves them against the processor's copies, and how few
commands a decoder's caches take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.browser.api_page import Api
from tests.browser.room_page import set_up, size_of
from tests.support.decoder_models import SMALL, decoder

MOVED = """async (cases) => {
  const nnjit = (await import('/nnjit.js')).default;
  const { Windows } = await import('/engine/webgpu/windows.js');
  const { cut, spread, windowOf } = await import('/engine/windows.js');
  const device = nnjit.env.webgpu.device ?? (await (await navigator.gpu.requestAdapter()).requestDevice());
  const usage = 0x4 | 0x8 | 0x80;
  const wrong = [];
  const moves = new Windows(device, 2 * cases.length);
  for (let run = 0; run < 2; run++) {   // what the first has left must not matter
    const encoder = device.createCommandEncoder();
    const made = cases.map(([dims, room, size], i) => {
      const window = windowOf(dims, room, size);
      const small = new Uint8Array(window.nbytes).map((_, at) => at * 7 + run + i);
      const large = new Uint8Array(window.whole).map((_, at) => at * 5 + run + i);
      const buffer = (n) => device.createBuffer({ size: Math.max(16, n), usage });
      const [from, to, back] = [window.nbytes, window.whole, window.nbytes].map(buffer);
      const other = buffer(window.whole);
      device.queue.writeBuffer(from, 0, small);
      device.queue.writeBuffer(to, 0, new Uint8Array(window.whole).fill(255));
      device.queue.writeBuffer(other, 0, large);
      moves.add(encoder, { slot: 2 * i, window, source: from, target: to, spread: true });
      moves.add(encoder, { slot: 2 * i + 1, window, source: other, target: back, spread: false });
      return { window, small, large, to, back };
    });
    moves.encode(encoder);
    const read = async (buffer, n) => {
      const staging = device.createBuffer({ size: n, usage: 0x1 | 0x8 });
      const encoder = device.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, 0, staging, 0, n);
      device.queue.submit([encoder.finish()]);
      await staging.mapAsync(1);
      return new Uint8Array(staging.getMappedRange().slice(0));
    };
    device.queue.submit([encoder.finish()]);
    for (const [i, { window, small, large, to, back }] of made.entries()) {
      const [whole, part] = [new Uint8Array(window.whole), new Uint8Array(window.nbytes)];
      spread(window, small, whole);
      cut(window, large, part);
      const found = [await read(to, window.whole), window.nbytes ? await read(back, window.nbytes) : part];
      if (String(found[0]) !== String(whole)) wrong.push(`${cases[i]} spread in run ${run}`);
      if (String(found[1]) !== String(part)) wrong.push(`${cases[i]} cut in run ${run}`);
    }
  }
  moves.destroy();
  return wrong;
}"""


def test_parts_are_moved_as_the_processor_moves_them(gpu: Api) -> None:
    """Random shapes: axes of one place, several that are cut, none of them, elements of four and eight bytes."""
    rng = np.random.default_rng(7)
    cases = [[[1, 3, 5, 4], [1, 3, 9, 4], 4], [[2, 0, 4], [2, 3, 4], 4], [[1, 1, 1, 6], [1, 4, 4, 8], 4]]
    while len(cases) < 40:
        rank = int(rng.integers(1, 6))
        dims = [int(d) for d in rng.integers(1, 6, rank)]
        room = [d + int(more) for d, more in zip(dims, rng.integers(0, 4, rank), strict=True)]
        if room != dims:
            cases.append([dims, room, int(rng.choice([4, 8]))])
    assert gpu.run(MOVED, cases) == []


COMMANDS = """async ([path, size, prompt]) => {
  const options = { executionProviders: ['webgpu'], preferredOutputLocation: 'gpu-buffer', strict: true };
  const session = await create(path, options);
  const sequence = new Sequence(session, size, prompt);
  for (let i = 0; i < 4; i++) await sequence.token();
  const counts = {};
  const undo = [];
  for (const [type, names] of [[GPUCommandEncoder, ['copyBufferToBuffer', 'clearBuffer', 'beginComputePass']],
    [GPUComputePassEncoder, ['dispatchWorkgroups']]]) {
    for (const name of names) {
      const before = type.prototype[name];
      counts[name] = 0;
      type.prototype[name] = function (...args) { counts[name]++; return before.apply(this, args); };
      undo.push(() => { type.prototype[name] = before; });
    }
  }
  try {
    await sequence.token();
  } finally {
    for (const each of undo) each();
  }
  await session.release();
  return counts;
}"""


def test_a_cache_is_one_command_each_way(undisturbed: Api) -> None:
    """Eight heads of two layers: in and out again a dispatch for each of the four caches, and no copy of a head."""
    size = replace(SMALL, layers=2, hidden=64, heads=8)
    set_up(undisturbed)
    found = undisturbed.run(
        COMMANDS, [undisturbed.put("decoder.onnx", decoder(size)), size_of(size), [3, 1, 4, 1, 5]]
    )
    caches = 2 * size.layers
    assert found["clearBuffer"] == 0
    assert found["copyBufferToBuffer"] <= 3, found
    assert found["beginComputePass"] <= 4, found
    assert caches * 2 < found["dispatchWorkgroups"], found
