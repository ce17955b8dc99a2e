// Tensors to the device: takes bytes and the buffers they belong in, and has them there before anything that is submitted
// later. What queue.writeBuffer would carry through its own memory goes through buffers that stay mapped between runs, one
// piece after another, so that the browser's GPU process takes a piece while this thread copies the next.

import { cut, roomFor } from './readback.js';
import { COPY_SRC, MAP_WRITE } from './shader.js';
import { wholeWords } from './stored.js';

/** A tensor's bytes as the device stores them. @typedef {{buffer: GPUBuffer, data: Uint8Array}} Tensor */

const WRITE = 2; // GPUMapMode.WRITE
/** Large enough that a message a piece does not count, small enough that the first is on its way soon. */
const PIECE = 1 << 20;
/** Buffers that stay mapped: 16 MB of memory that browser and page share, whatever the plan. */
const MOST = 16;

/** Pieces of a plan, kept from one run to the next. */
export class Upload {
  /** @type {GPUBuffer[]} */
  #pieces = [];

  /**
   * @param {GPUDevice} device @param {number} [most] buffers; 0 on a software adapter, which writeBuffer suits better
   * @param {number} [piece] bytes a buffer, a multiple of 16; no more than that is left to writeBuffer, which is as quick then
   */
  constructor(device, most = MOST, piece = PIECE) {
    this.device = device;
    this.piece = piece;
    this.most = most;
  }

  /**
   * All bytes are read before it returns. Those that no piece is free for, because the device has not been through with
   * it since a run before this one, take the queue's own way; so do all of the first run, which is over before the memory
   * of the pieces would be there.
   * @param {Tensor[]} tensors no two of one buffer
   */
  write(tensors) {
    const { queue } = this.device;
    const sizes = tensors.map(({ data }) => data.byteLength);
    const parts = roomFor(sizes) > this.piece ? cut(sizes, this.piece) : [];
    const free = this.#pieces.filter(({ mapState }) => mapState === 'mapped').slice(0, parts.length);
    const done = sizes.map(() => 0); // bytes of each tensor that went through pieces
    if (free.length) {
      const encoder = this.device.createCommandEncoder({ label: 'feeds' });
      free.forEach((piece, i) => {
        const all = new Uint8Array(piece.getMappedRange());
        for (const { of, from, at, length } of parts[i]) {
          const { buffer, data } = tensors[of];
          const bytes = data.subarray(from, from + length);
          all.set(bytes, at);
          all.fill(0, at + bytes.byteLength, at + length); // up to a whole word
          encoder.copyBufferToBuffer(piece, at, buffer, from, length);
          done[of] = from + length;
        }
        piece.unmap();
        queue.submit([]); // sends what was unmapped on its way
      });
      queue.submit([encoder.finish()]);
    }
    tensors.forEach(({ buffer, data }, of) => {
      if (done[of] < data.byteLength) queue.writeBuffer(buffer, done[of], wholeWords(data.subarray(done[of])));
    });
    this.#map(free);
    const count = Math.min(parts.length, this.most);
    if (count > this.#pieces.length) this.#grow(count);
  }

  /** @param {GPUBuffer[]} pieces that the device may still read */
  #map(pieces) {
    for (const piece of pieces) piece.mapAsync(WRITE).catch(() => this.#lose(piece));
  }

  /** @param {number} count of pieces that there should be */
  #grow(count) {
    const { device } = this;
    device.pushErrorScope('out-of-memory');
    device.pushErrorScope('validation'); // mapping a buffer that got no memory
    const size = this.piece;
    const fresh = Array.from({ length: count - this.#pieces.length }, () =>
      device.createBuffer({ label: 'feeds', size, usage: MAP_WRITE | COPY_SRC }));
    this.#pieces.push(...fresh);
    this.#map(fresh);
    for (let scope = 0; scope < 2; scope++) device.popErrorScope().catch(() => undefined); // the map's promise tells
  }

  /** A device without room, or lost: no further pieces are asked for. @param {GPUBuffer} piece */
  #lose(piece) {
    piece.destroy();
    this.#pieces = this.#pieces.filter((other) => other !== piece);
    this.most = this.#pieces.length;
  }

  /** Tensors that come later still get there. */
  destroy() {
    this.most = 0;
    for (const piece of this.#pieces.splice(0)) piece.destroy();
  }
}
