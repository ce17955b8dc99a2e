// Buffers full of the same elements over and over: made up activations and weights of a lab, and marks.

import { COPY_DST, COPY_SRC } from './shader.js';
import { wholeWords, widen } from './stored.js';

/** What is written once and copied from then on. */
const PIECE = 1 << 20;

/**
 * @param {GPUDevice} device @param {GPUBuffer} buffer @param {number} nbytes
 * @param {{type: string, stored: string, pattern: Uint8Array}} how pattern: elements as the model has them
 */
export function fillBuffer(device, buffer, nbytes, { type, stored, pattern }) {
  const whole = pattern.length % 4 === 0 ? pattern : fourTimes(pattern); // a mask's plane may be large
  repeatIn(device, buffer, nbytes, wholeWords(widen(type, stored, whole)));
}

/** @param {GPUDevice} device @param {GPUBuffer} buffer @param {number} nbytes @param {Uint8Array} pattern in whole words */
export function repeatIn(device, buffer, nbytes, pattern) {
  const times = Math.max(1, Math.min(Math.floor(PIECE / pattern.length), Math.ceil(nbytes / pattern.length)));
  const piece = new Uint8Array(pattern.length * times);
  for (let i = 0; i < times; i++) piece.set(pattern, i * pattern.length);
  if (nbytes <= piece.length) {
    device.queue.writeBuffer(buffer, 0, piece, 0, nbytes);
    return;
  }
  const staged = device.createBuffer({ label: 'pattern', size: piece.length, usage: COPY_SRC | COPY_DST });
  device.queue.writeBuffer(staged, 0, piece);
  const encoder = device.createCommandEncoder();
  for (let at = 0; at < nbytes; at += piece.length) encoder.copyBufferToBuffer(staged, 0, buffer, at, Math.min(piece.length, nbytes - at));
  device.queue.submit([encoder.finish()]);
  staged.destroy();
}

/** Any number of elements is whole words four times. @param {Uint8Array} bytes */
function fourTimes(bytes) {
  const out = new Uint8Array(4 * bytes.length);
  for (let i = 0; i < 4; i++) out.set(bytes, i * bytes.length);
  return out;
}
