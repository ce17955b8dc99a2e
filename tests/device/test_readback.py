"""Tensors that come from the device in pieces: any sizes, any borders, into arrays of their own and given ones."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.api_page import Api

READ = """async ([sizes, piece, most]) => {
  const nnjit = (await import('/nnjit.js')).default;
  const { Readback, bytesToRead } = await import('/engine/webgpu/readback.js');
  const device = nnjit.env.webgpu.device ?? (await (await navigator.gpu.requestAdapter()).requestDevice());
  // a type, how it is stored and its bytes; the words of buffer k count from 1000 k
  const wanted = sizes.map(([type, stored, nbytes], k) => {
    const words = Math.ceil((stored === 'i32' ? nbytes * 4 : nbytes) / 4);
    const buffer = device.createBuffer({ size: Math.max(words * 4, 4), usage: 0x4 | 0x8 | 0x80 });
    const values = { length: words };
    const value = (_, i) => (stored === 'i32' ? i % 100 : 1000 * k + i);
    device.queue.writeBuffer(buffer, 0, Int32Array.from(values, value));
    return { ref: { name: String(k), type, dims: [], buffer: 0, nbytes, stored }, buffer };
  });
  const readback = new Readback(device, bytesToRead(wanted), ...(piece ? [piece, most] : []));
  const places = wanted.map(({ ref }, k) => (k % 2 ? new Uint8Array(ref.nbytes).fill(255) : null));
  const right = [];
  for (let run = 0; run < 2; run++) {
    const encoder = device.createCommandEncoder();
    readback.encode(encoder, wanted);
    device.queue.submit([encoder.finish()]);
    let firsts = 0;
    const first = (promise) => { firsts++; return promise; };
    const got = await readback.read(wanted, places, run ? { first, everyMs: 0.05 } : {});   // and made to look
    if (firsts !== run) return `${firsts} first pieces`;
    right.push(got.map((bytes, k) => {
      const { stored, nbytes } = wanted[k].ref;
      if (bytes.byteLength !== nbytes || (places[k] && bytes !== places[k])) return 'another array';
      const whole = new Uint8Array(nbytes);
      if (stored === 'i32') whole.forEach((_, i) => { whole[i] = i % 100; });
      else {
        const words = Int32Array.from({ length: Math.ceil(nbytes / 4) }, (_, i) => 1000 * k + i);
        whole.set(new Uint8Array(words.buffer, 0, nbytes));
      }
      const at = whole.findIndex((byte, i) => byte !== bytes[i]);
      return at < 0 ? 'right' : `byte ${at} is wrong`;
    }));
  }
  readback.destroy();
  for (const { buffer } of wanted) buffer.destroy();
  return right;
}"""


@pytest.mark.parametrize(("piece", "most"), [(16, 3), (48, 1), (64, 16), (64, 1000), (4096, 2)])
def test_pieces_of_any_size(gpu: Api, piece: int, most: int) -> None:
    """As many buffers as pieces, and fewer that take turns."""
    sizes: list[list[Any]] = [["float32", "f32", n] for n in (4, 12, 16, 20, 64, 100, 256)]
    sizes += [
        ["int8", "i32", 7],
        ["int8", "i32", 33],
        ["int8", "bytes", 36],
        ["float32", "f32", 0],
        ["float32", "f32", 1020],
    ]
    assert gpu.run(READ, [sizes, piece, most]) == [["right"] * len(sizes)] * 2


def test_large_tensors_share_pieces(gpu: Api) -> None:
    sizes = [
        ["float32", "f32", (9 << 20) + 4],
        ["float32", "f32", 1 << 20],
        ["float32", "f32", (5 << 20) + 12],
    ]
    assert gpu.run(READ, [sizes, 0, 0]) == [["right"] * 3] * 2


def test_a_device_lost_while_tensors_come_is_an_error(gpu: Api) -> None:
    found = gpu.run(
        """async () => {
          const { Readback } = await import('/engine/webgpu/readback.js');
          const device = await (await navigator.gpu.requestAdapter()).requestDevice();
          const buffer = device.createBuffer({ size: 1 << 20, usage: 0x4 });
          const ref = { name: 'x', type: 'float32', dims: [], buffer: 0, nbytes: 1 << 20, stored: 'f32' };
          const wanted = [{ ref, buffer }];
          const readback = new Readback(device, 1 << 20, 1 << 16);
          const encoder = device.createCommandEncoder();
          readback.encode(encoder, wanted);
          device.queue.submit([encoder.finish()]);
          const read = readback.read(wanted).then(() => 'read', (error) => error.name);
          device.destroy();
          return read;
        }""",
        None,
    )
    assert found == "AbortError"
