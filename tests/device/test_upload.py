"""Tensors that go to the device in pieces: any sizes, more than the pieces hold, runs queued at once."""

from __future__ import annotations

from typing import Any

import pytest
from onnx import TensorProto, helper

from tests.browser.api_page import Api, model

SET_UP = """async () => {
  const nnjit = (await import('/nnjit.js')).default;
  const { Upload } = await import('/engine/webgpu/upload.js');
  const { readBuffer } = await import('/engine/webgpu/given.js');
  // pieces are the buffers that are mapped to be written
  globalThis.watched = (device, work) => {
    const { createBuffer } = device;
    const { writeBuffer } = device.queue;
    const seen = { pieces: [], queued: 0 };
    device.createBuffer = function (how) {
      const made = createBuffer.call(this, how);
      if (how.usage & GPUBufferUsage.MAP_WRITE) seen.pieces.push(made);
      return made;
    };
    device.queue.writeBuffer = function (buffer, at, data) {
      seen.queued += data.byteLength;
      writeBuffer.call(this, buffer, at, data);
    };
    return work(seen).finally(() => {
      device.createBuffer = createBuffer;
      device.queue.writeBuffer = writeBuffer;
    });
  };
  globalThis.allMapped = async ({ pieces }) => {
    const states = () => pieces.map(({ mapState }) => mapState);
    await until(() => states().every((state) => state === 'mapped'), states);
  };
  globalThis.upload = async ([sizes, piece, most, shared]) => {
    const device = nnjit.env.webgpu.device ?? (await (await navigator.gpu.requestAdapter()).requestDevice());
    return watched(device, async (seen) => {
      const words = (n) => Math.ceil(n / 4) * 4;
      const buffers = sizes.map((n) => device.createBuffer({ size: words(n) || 4, usage: 0x4 | 0x8 | 0x80 }));
      const upload = new Upload(device, most, piece);
      const found = [];
      const write = (turn) => {
        const tensors = buffers.map((buffer, k) => {
          const data = new Uint8Array(shared ? new SharedArrayBuffer(sizes[k] + 3) : new ArrayBuffer(sizes[k] + 3), 3);
          data.forEach((_, i) => { data[i] = (i * 7 + k * 31 + turn * 101) % 251; });
          return { buffer, data };
        });
        seen.queued = 0;
        upload.write(tensors);
        const { queued } = seen;
        const kept = tensors.map(({ data }) => data.slice());
        for (const { data } of tensors) data.fill(255); // whatever the caller does next
        return { queued, kept };
      };
      const look = async ({ queued, kept }) => {
        const wrong = [];
        for (const [k, buffer] of buffers.entries()) {
          const got = await readBuffer(device, buffer, words(sizes[k]));
          if (got.some((byte, i) => byte !== (kept[k][i] ?? 0))) wrong.push(sizes[k]);
        }
        found.push([queued, wrong]);
      };
      await look(write(0));
      await allMapped(seen);
      await look(write(1));
      await allMapped(seen);
      write(2);
      await look(write(3)); // no task between: no piece can be there again
      await allMapped(seen);
      await look(write(4));
      upload.destroy();
      await look(write(5));
      const left = seen.pieces.map(({ mapState }) => mapState);
      for (const buffer of buffers) buffer.destroy();
      return { found, pieces: seen.pieces.length, left };
    });
  };
}"""


def words(n: int) -> int:
    return -(-n // 4) * 4


def in_pieces(sizes: list[int], piece: int, most: int) -> list[int]:
    """Bytes of each tensor that lie within the first pieces."""
    held, start = [], 0
    for n in sizes:
        held.append(min(words(n), max(0, piece * most - start)))
        start += -(-n // 16) * 16
    return held


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize(("piece", "most"), [(16, 3), (48, 1), (64, 16), (256, 100)])
def test_pieces_of_any_size(gpu: Api, piece: int, most: int, shared: bool) -> None:
    """Sizes of no whole words or pieces; there are pieces for all, or for some, or none is free."""
    sizes = [1, 4, 15, 16, 17, 0, 255, 256, 257, 1023, 63, 64, 66, 1200, 3]
    gpu.run(SET_UP)
    found: dict[str, Any] = gpu.run("upload", [sizes, piece, most, shared])
    whole = sum(map(words, sizes))
    rest = whole - sum(in_pieces(sizes, piece, most))
    assert found["found"] == [[n, []] for n in (whole, rest, whole, rest, whole)]
    assert found["pieces"] == min(most, -(-sum(-(-n // 16) * 16 for n in sizes) // piece))
    assert set(found["left"]) == {"unmapped"}


def test_little_is_left_to_the_queue(gpu: Api) -> None:
    gpu.run(SET_UP)
    found = gpu.run("upload", [[992, 30], 1024, 4, False])
    assert found == {"found": [[1024, []]] * 5, "pieces": 0, "left": []}


def test_a_device_without_room_for_pieces_is_none_the_worse(gpu: Api) -> None:
    """Memory to map is refused: everything goes the queue's way, and no error reaches the page."""
    gpu.run(SET_UP)
    found = gpu.run(
        """async () => {
          const device = await (await navigator.gpu.requestAdapter()).requestDevice();
          const { Upload } = await import('/engine/webgpu/upload.js');
          const { readBuffer } = await import('/engine/webgpu/given.js');
          const errors = [];
          device.addEventListener('uncapturederror', ({ error }) => errors.push(error.message));
          const buffer = device.createBuffer({ size: 4096, usage: 0x4 | 0x8 });
          const { createBuffer } = device;
          let asked = 0;
          device.createBuffer = function (how) { // a buffer that cannot be mapped is an error as one without memory is
            if (!(how.usage & GPUBufferUsage.MAP_WRITE)) return createBuffer.call(this, how);
            asked++;
            return createBuffer.call(this, { ...how, size: 2 ** 50 });
          };
          const upload = new Upload(device, 4, 1024);
          const right = [];
          for (const value of [1, 2, 3]) {
            upload.write([{ buffer, data: new Uint8Array(4096).fill(value) }]);
            right.push((await readBuffer(device, buffer, 4096)).every((byte) => byte === value));
            await new Promise((resolve) => setTimeout(resolve, 20));
          }
          upload.destroy();
          device.destroy();
          return { right, asked, errors };
        }"""
    )
    assert found == {"right": [True] * 3, "asked": 4, "errors": []}


N = 400_001


def narrow_feeds() -> Any:
    """y = a + b + c + h of four types, each of N elements."""
    kinds = {"a": TensorProto.FLOAT, "b": TensorProto.INT8, "c": TensorProto.BOOL, "h": TensorProto.FLOAT16}
    nodes = [helper.make_node("Cast", [n], [f"{n}f"], to=TensorProto.FLOAT) for n in "bch"]
    nodes.append(helper.make_node("Sum", ["a", "bf", "cf", "hf"], ["y"]))
    return model(nodes, {n: (kind, [N]) for n, kind in kinds.items()}, {"y": (TensorProto.FLOAT, [N])})


RUNS = """async ([path, n]) => {
  const nnjit = (await import('/nnjit.js')).default;
  const { Upload } = await import('/engine/webgpu/upload.js');
  const { write } = Upload.prototype;
  Upload.prototype.write = function (tensors) { // as on a GPU, on software adapters too
    this.most = 16;
    write.call(this, tensors);
  };
  const session = await create(path, { executionProviders: ['webgpu'], strict: true });
  const { device } = nnjit.env.webgpu;
  const half = (k) => {
    const exponent = Math.floor(Math.log2(k || 1));
    return k && (((exponent + 15) << 10) | ((k / 2 ** exponent - 1) * 1024));
  };
  const halves = Uint16Array.from({ length: 64 }, (_, k) => half(k));
  const feeds = (turn) => {
    const a = new Float32Array(turn % 2 ? new SharedArrayBuffer(4 * n) : new ArrayBuffer(4 * n));
    const [b, c, h] = [new Int8Array(n), new Uint8Array(n), new Uint16Array(n)];
    const y = new Float32Array(n);
    for (let i = 0; i < n; i++) {
      const k = (i + turn * 13) % 64;
      a[i] = i % 1000 + turn;
      b[i] = (i + turn * 5) % 200 - 100;
      c[i] = (i + turn) % 3 === 0 ? 1 : 0;
      h[i] = halves[k];
      y[i] = a[i] + b[i] + c[i] + k;
    }
    const f16 = globalThis.Float16Array ? new Float16Array(h.buffer) : h;
    const tensors = { a: T('float32', a, [n]), b: T('int8', b, [n]), c: T('bool', c, [n]), h: T('float16', f16, [n]) };
    return { feeds: tensors, y };
  };
  return watched(device, async (seen) => {
    const run = async (turn) => {
      const { feeds: given, y } = feeds(turn);
      const results = await session.run(given);
      const at = results.y.data.findIndex((value, i) => value !== y[i]);
      return at < 0 ? 'right' : `element ${at} of run ${turn} is wrong`;
    };
    const found = [await run(0)];
    const pieces = seen.pieces.length;
    await allMapped(seen);
    seen.queued = 0;
    found.push(await run(1));
    const { queued } = seen;
    found.push(...await Promise.all([run(2), run(3), run(4)])); // not all find pieces
    for (const turn of [5, 6, 7]) found.push(await run(turn));
    const last = run(8);
    device.destroy();
    found.push(await last);
    await session.release();
    return { found, pieces, queued, left: seen.pieces.filter(({ mapState }) => mapState !== 'unmapped').length };
  }).finally(() => {
    Upload.prototype.write = write;
  });
}"""


def test_feeds_of_a_session_in_turn_and_at_once(undisturbed: Api) -> None:
    """Each gives its own result: over shared memory, widened, queued at once, when the device is lost."""
    undisturbed.run(SET_UP)
    found = undisturbed.run(RUNS, [undisturbed.put("feeds.onnx", narrow_feeds()), N])
    assert found["found"] == ["right"] * 9
    assert found["pieces"] >= 6 and found["queued"] == 0 and found["left"] == 0
