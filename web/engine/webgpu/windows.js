// Parts of tensors in the GPU's buffers: a plan with room is fed arrays that are smaller than its inputs, and outputs are cut out of
// its own. Takes windows and buffers; where a window has many pieces, all of a run are moved by one shader in one pass, because a
// copy is a command for each piece: 576 a token for the keys and values of GPT-2.

import { pieces } from '../windows.js';
import { COPY_DST, STORAGE } from './shader.js';

/** @typedef {import('../windows.js').Window} Window */
/** source, target: what is read and written; spread: the target is the larger array, with zeros beside the pieces
 * @typedef {{slot: number, window: Window, source: GPUBuffer, target: GPUBuffer, spread: boolean}} Move */

/** Pieces from which on a dispatch is less to encode than copies. */
const FEW = 3;
const UNIFORM = 0x40; // GPUBufferUsage.UNIFORM
const COMPUTE = 4; // GPUShaderStage.COMPUTE
const GROUP = 256;
/** Loops around a piece at most: a tensor of eight axes has no more. */
const LOOPS = 7;
/** Bytes between the numbers of two moves: what any device asks for. */
const SLOT = 256;

const SHADER = `
struct Part { words: u32, across: u32, length: u32, loops: u32, spread: u32, a: u32, b: u32, c: u32, turns: array<vec4u, ${LOOPS}> }
@group(0) @binding(0) var<uniform> part: Part;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read_write> result: array<u32>;

@compute @workgroup_size(${GROUP}) fn main(@builtin(global_invocation_id) id: vec3u) {
  let word = id.y * part.across + id.x;
  if (word >= part.words) { return; }
  var near = 0u;
  var far = 0u;
  if (part.spread == 1u) {
    // the larger array's word: which turn of each loop it lies in, and where in the piece
    var rest = word;
    for (var i = 0u; i < part.loops; i++) {
      let turn = rest / part.turns[i].z;
      if (turn >= part.turns[i].x) { result[word] = 0u; return; }
      rest -= turn * part.turns[i].z;
      near += turn * part.turns[i].y;
    }
    if (rest >= part.length) { result[word] = 0u; return; }
    result[word] = source[near + rest];
    return;
  }
  // the smaller array's word: pieces follow each other there
  var piece = word / part.length;
  far = word - piece * part.length;
  for (var i = part.loops; i > 0u; i--) {
    let count = part.turns[i - 1u].x;
    let whole = piece / count;
    far += (piece - whole * count) * part.turns[i - 1u].z;
    piece = whole;
  }
  result[word] = source[far];
}`;

/** Pipelines by device. @type {WeakMap<GPUDevice, {pipeline: GPUComputePipeline, layout: GPUBindGroupLayout}>} */
const made = new WeakMap();

/** @param {GPUDevice} device */
function moving(device) {
  let known = made.get(device);
  if (known) return known;
  const layout = device.createBindGroupLayout({ entries: [
    { binding: 0, visibility: COMPUTE, buffer: { type: 'uniform', hasDynamicOffset: true, minBindingSize: 32 + 16 * LOOPS } },
    { binding: 1, visibility: COMPUTE, buffer: { type: 'read-only-storage' } },
    { binding: 2, visibility: COMPUTE, buffer: { type: 'storage' } },
  ] });
  const module = device.createShaderModule({ label: 'windows', code: SHADER });
  const pipeline = device.createComputePipeline({
    layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
    compute: { module, entryPoint: 'main' },
  });
  known = { pipeline, layout };
  made.set(device, known);
  return known;
}

/** Of one plan: each input and each output has a slot of its own, so that what a run under way reads is left alone. */
export class Windows {
  /** @type {Move[]} */
  #moves = [];
  /** @type {GPUBuffer | null} */
  #numbers = null;

  /** @param {GPUDevice} device @param {number} slots */
  constructor(device, slots) {
    this.device = device;
    this.words = new Uint32Array(SLOT / 4 * slots);
  }

  /** Moves a part, now or by `encode`. @param {GPUCommandEncoder} encoder @param {Move} move */
  add(encoder, move) {
    const { window, source, target, spread } = move;
    if (this.#suits(move)) {
      this.#moves.push(move);
      return;
    }
    if (spread) encoder.clearBuffer(target);
    for (const [near, far] of pieces(window)) {
      encoder.copyBufferToBuffer(source, spread ? near : far, target, spread ? far : near, window.length);
    }
  }

  /** Whether the shader can, and it pays: its own pieces of whole words, in buffers that a shader may have. @param {Move} move */
  #suits({ window: { whole, nbytes, length, loops }, source, target }) {
    const { maxStorageBufferBindingSize, maxComputeWorkgroupsPerDimension } = this.device.limits;
    const words = [whole, nbytes, length, ...loops.flatMap(({ near, far }) => [near, far])];
    return loops.reduce((n, { count }) => n * count, 1) > FEW && loops.length <= LOOPS && words.every((n) => n % 4 === 0)
      && Math.max(whole, nbytes) <= Math.min(maxStorageBufferBindingSize, 4 * GROUP * maxComputeWorkgroupsPerDimension ** 2)
      && source !== target && [source, target].every(({ usage }) => usage & STORAGE);
  }

  /** All moves since the last call, in one pass. @param {GPUCommandEncoder} encoder */
  encode(encoder) {
    const moves = this.#moves;
    if (!moves.length) return;
    this.#moves = [];
    const { pipeline, layout } = moving(this.device);
    this.#numbers ??= this.device.createBuffer({ label: 'windows', size: this.words.byteLength, usage: UNIFORM | COPY_DST });
    const most = this.device.limits.maxComputeWorkgroupsPerDimension;
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    for (const { slot, window: { whole, nbytes, length, loops }, source, target, spread } of moves) {
      const words = (spread ? whole : nbytes) / 4;
      const groups = Math.ceil(words / GROUP);
      const [x, y] = [Math.min(groups, most), Math.ceil(groups / most)];
      const numbers = this.words.subarray(SLOT / 4 * slot, SLOT / 4 * (slot + 1));
      numbers.set([words, x * GROUP, length / 4, loops.length, spread ? 1 : 0]);
      loops.forEach(({ count, near, far }, i) => numbers.set([count, near / 4, far / 4], 8 + 4 * i));
      const group = this.device.createBindGroup({ layout, entries: [
        { binding: 0, resource: { buffer: this.#numbers, size: 32 + 16 * LOOPS } },
        { binding: 1, resource: { buffer: source, size: spread ? nbytes : whole } },
        { binding: 2, resource: { buffer: target, size: spread ? whole : nbytes } },
      ] });
      pass.setBindGroup(0, group, [SLOT * slot]);
      pass.dispatchWorkgroups(x, y);
    }
    pass.end();
    const first = Math.min(...moves.map(({ slot }) => slot));
    const last = Math.max(...moves.map(({ slot }) => slot));
    this.device.queue.writeBuffer(this.#numbers, SLOT * first, this.words, SLOT / 4 * first, SLOT / 4 * (last - first + 1));
  }

  destroy() {
    this.#numbers?.destroy();
  }
}
