// The lab on the GPU: a kernel with operands of its own, beside those of any session. Candidates are compiled, compared
// with the serving kernel and timed in turn with it, a reading at a time. What to try, and by which numbers, Python decides.

import { NnjitError, throwIfAborted } from '../errors.js';
import { compare } from '../compare.js';
import { readBytes } from './readback.js';
import { COPY_DST, COPY_SRC, STORAGE, ShaderKernel } from './shader.js';
import { elementBytes, narrow, wholeWords, widen } from './stored.js';
import { StepClock } from './timing.js';
import { Watch } from './watch.js';

/** @typedef {import('./types.d.ts').GpuLabSetup} GpuLabSetup */
/** @typedef {import('./types.d.ts').GpuLabKernel} GpuLabKernel */
/** @typedef {import('./types.d.ts').GpuLabOperand} GpuLabOperand */
/** @typedef {import('../types.d.ts').LabReport} LabReport */
/** @typedef {import('./pace.js').GpuPace} GpuPace */
/** A kernel with its bindings, the panels it has of its own, and how often it is repeated for a reading.
 * @typedef {{kernel: ShaderKernel, group: GPUBindGroup, outputs: GPUBuffer[], panels: GPUBuffer[], inner: number}} Ready */

/** What an output holds that was not written: no kernel is likely to write it. */
const MARK = 0xa5;
const FILL_BYTES = 1 << 20;
/** Bytes compared at a time. */
const PIECE = 4 << 20;

export class GpuLab {
  /** @type {GpuLabSetup | null} */
  #setup = null;
  /** @type {GPUBuffer[]} */
  #inputs = [];
  /** @type {Ready | null} */
  #serving = null;
  /** @type {Ready | null} */
  #candidate = null;
  #busyMs = 0;

  /** @param {GPUDevice} device @param {GpuPace} pace */
  constructor(device, pace) {
    this.device = device;
    this.pace = pace;
    this.clock = new StepClock(device);
  }

  /**
   * Makes a kernel's operands and runs the serving kernel: what candidates are held against.
   * @param {GpuLabSetup} setup @param {AbortSignal} signal
   * @returns {Promise<{ms: number, busyMs: number, samples: number[][]}>} ms: of the serving kernel; samples: the bytes of
   *   the elements at setup.probes
   */
  async setup(setup, signal) {
    const before = this.#busyMs;
    this.#clear();
    this.#setup = setup;
    const watch = new Watch(this.device, `the lab for ${setup.kernel.shader.name}`);
    watch.open();
    this.#inputs = setup.operands.map((operand) => this.#buffer(operand.role === 'in' ? operand.nbytes : 16));
    watch.close();
    await watch.told();
    const serving = this.#serving = await this.#ready(setup.kernel, signal);
    const ms = await this.#settle(serving, signal);
    const samples = [];
    for (const { operand, at } of setup.probes) {
      const size = elementBytesOf(setup.operands[operand]);
      const from = (at * size) & ~3;
      const raw = await readBytes(this.device, serving.outputs[operand], from, Math.max(size, 4));
      const bytes = narrow(setup.operands[operand].type, setup.operands[operand].stored, raw.slice(at * size - from));
      samples.push([...bytes.subarray(0, Math.min(bytes.length, wholeBytes(setup.operands[operand])))]);
    }
    return { ms, busyMs: this.#busyMs - before, samples };
  }

  /**
   * @param {{kernel: GpuLabKernel, rounds: number}} trial @param {AbortSignal} signal
   * @returns {Promise<LabReport>} never rejects for what the candidate does
   */
  async trial({ kernel, rounds }, signal) {
    const { policy } = this.#laid();
    const serving = /** @type {Ready} */ (this.#serving);
    const started = this.#busyMs;
    /** @type {LabReport} */
    const report = { verdict: 'timed', compileMs: 0, checked: 0, worst: 0, base: [], mine: [], busyMs: 0, reason: '' };
    const done = (/** @type {LabReport['verdict']} */ verdict, reason = '') => {
      if (verdict !== 'timed') this.#drop();
      return { ...report, verdict, reason, busyMs: this.#busyMs - started };
    };
    this.#drop();
    const begun = performance.now();
    try {
      this.#candidate = await this.#ready(kernel, signal);
    } catch (cause) {
      throwIfAborted(signal);
      if (cause instanceof NnjitError && cause.code === 'TUNING_SPENT') throw cause;
      return done('refused', cause instanceof Error ? cause.message : String(cause));
    }
    report.compileMs = performance.now() - begun;
    const candidate = this.#candidate;
    const seen = await this.#same(candidate, policy.lookBytes, signal);
    report.checked = seen.checked;
    report.worst = seen.worst;
    if (seen.reason) return done('wrong', seen.reason);
    await this.#settle(candidate, signal);
    await this.#duel(serving, candidate, rounds, report, signal);
    return done(median(report.mine) > policy.hopeless * median(report.base) ? 'slow' : 'timed');
  }

  /**
   * The last candidate compared whole, and timed once more.
   * @param {AbortSignal} signal
   * @returns {Promise<{ok: boolean, checked: number, reason: string, base: number[], mine: number[], busyMs: number}>}
   */
  async confirm(signal) {
    const started = this.#busyMs;
    const candidate = this.#candidate;
    const serving = this.#serving;
    /** @type {{base: number[], mine: number[]}} */
    const times = { base: [], mine: [] };
    if (!candidate || !serving) return { ok: false, checked: 0, reason: 'there is no candidate', ...times, busyMs: 0 };
    const seen = await this.#same(candidate, Infinity, signal);
    if (!seen.reason) await this.#duel(serving, candidate, this.#laid().policy.again, times, signal);
    return { ok: !seen.reason, checked: seen.checked, reason: seen.reason, ...times, busyMs: this.#busyMs - started };
  }

  /** The candidate serves from now on. */
  promote() {
    if (!this.#candidate) return;
    this.#free(this.#serving);
    this.#serving = this.#candidate;
    this.#candidate = null;
  }

  close() {
    this.#clear();
    this.clock.destroy();
  }

  #laid() {
    if (!this.#setup || !this.#serving) throw new Error('nothing is laid out in the lab');
    return this.#setup;
  }

  /** @param {number} size */
  #buffer(size) {
    return this.device.createBuffer({ label: 'lab', size, usage: STORAGE | COPY_SRC | COPY_DST });
  }

  /**
   * Compiles a kernel, gives it outputs and panels of its own, and runs it once.
   * @param {GpuLabKernel} made @param {AbortSignal} signal @returns {Promise<Ready>}
   */
  async #ready({ shader, packs }, signal) {
    const { operands } = /** @type {GpuLabSetup} */ (this.#setup);
    const first = !this.#serving;
    const [kernel, ...packing] = await Promise.all([shader, ...packs.map((p) => p.shader)].map((s) => ShaderKernel.create(this.device, s)));
    throwIfAborted(signal);
    const watch = new Watch(this.device, shader.name);
    watch.open();
    const outputs = operands.map(({ role, nbytes }) => (role === 'out' ? this.#buffer(nbytes) : null));
    const panels = packs.map(({ nbytes }) => this.#buffer(nbytes));
    const rest = operands.map(({ role }, i) => (role === 'in' || role === 'out' ? null : this.#buffer(Math.max(16, shader.bindings[i]?.nbytes ?? 16))));
    /** @param {number} i */
    const place = (i) => {
      const packed = packs.findIndex(({ operand }) => operand === i);
      return { buffer: outputs[i] ?? rest[i] ?? (packed >= 0 ? panels[packed] : this.#inputs[i]) };
    };
    const group = kernel.bind(operands.map((_, i) => place(i)));
    const ready = { kernel, group, outputs: /** @type {GPUBuffer[]} */ (outputs), panels: [...panels, ...rest.flatMap((b) => b ?? [])], inner: 1 };
    watch.close();
    await this.#slice(signal, async () => {
      watch.open();
      if (first) operands.forEach((operand, i) => this.#fill(operand, this.#inputs[i]));
      operands.forEach(({ nbytes }, i) => outputs[i] && this.#repeat(new Uint8Array(16).fill(MARK), outputs[i], nbytes));
      const encoder = this.device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      packs.forEach(({ operand }, i) => packing[i].encode(pass, packing[i].bind([{ buffer: this.#inputs[operand] }, { buffer: panels[i] }])));
      kernel.encode(pass, group);
      pass.end();
      this.device.queue.submit([encoder.finish()]);
      watch.close();
      await watch.told();
      await this.device.queue.onSubmittedWorkDone();
    }).catch((cause) => {
      watch.close();
      this.#free(ready);
      throw cause;
    });
    return ready;
  }

  /** @param {GpuLabOperand} operand @param {GPUBuffer} buffer */
  #fill({ pattern, type, stored, nbytes }, buffer) {
    if (pattern) this.#repeat(wholeWords(widen(type, stored, twice(pattern))), buffer, nbytes);
  }

  /** Fills a buffer with bytes over and over. @param {Uint8Array} pattern in whole words @param {GPUBuffer} buffer @param {number} nbytes */
  #repeat(pattern, buffer, nbytes) {
    const times = Math.max(1, Math.min(Math.floor(FILL_BYTES / pattern.length), Math.ceil(nbytes / pattern.length)));
    const piece = new Uint8Array(pattern.length * times);
    for (let i = 0; i < times; i++) piece.set(pattern, i * pattern.length);
    if (nbytes <= piece.length) {
      this.device.queue.writeBuffer(buffer, 0, piece, 0, nbytes);
      return;
    }
    const staged = this.#buffer(piece.length);
    this.device.queue.writeBuffer(staged, 0, piece);
    const encoder = this.device.createCommandEncoder();
    for (let at = 0; at < nbytes; at += piece.length) encoder.copyBufferToBuffer(staged, 0, buffer, at, Math.min(piece.length, nbytes - at));
    this.device.queue.submit([encoder.finish()]);
    staged.destroy();
  }

  /** How often a kernel is repeated so that a reading is long enough. @param {Ready} ready @param {AbortSignal} signal @returns {Promise<number>} ms of the kernel */
  async #settle(ready, signal) {
    const { policy } = /** @type {GpuLabSetup} */ (this.#setup);
    const wanted = this.clock.precise ? policy.sampleMs : policy.wallMs;
    ready.inner = 1;
    let took = await this.#reading(ready, signal);
    while (took * ready.inner < wanted && ready.inner < policy.most) {
      const factor = (wanted * 1.1) / Math.max(took * ready.inner, wanted / 32);
      ready.inner = Math.min(policy.most, Math.max(2 * ready.inner, Math.ceil(ready.inner * factor)));
      took = await this.#reading(ready, signal);
    }
    return took;
  }

  /** @param {Ready} ready @param {AbortSignal} signal @returns {Promise<number>} ms of one repetition */
  #reading({ kernel, group, inner }, signal) {
    return this.#slice(signal, async () => (await this.clock.sample((pass) => kernel.encode(pass, group), inner)) / inner);
  }

  /**
   * Rounds in turn; ended early where the candidate is far behind.
   * @param {Ready} serving @param {Ready} candidate @param {number} rounds @param {{base: number[], mine: number[]}} times @param {AbortSignal} signal
   */
  async #duel(serving, candidate, rounds, { base, mine }, signal) {
    const { behind } = this.#laid().policy;
    for (let round = 0; round < rounds; round++) {
      base.push(await this.#reading(serving, signal));
      mine.push(await this.#reading(candidate, signal));
      if (round === 1 && Math.min(...mine) > behind * Math.max(...base)) return;
    }
  }

  /**
   * Holds a candidate's outputs against the serving kernel's: at most so many bytes of each, in three pieces.
   * @param {Ready} candidate @param {number} most @param {AbortSignal} signal @returns {Promise<{checked: number, worst: number, reason: string}>}
   */
  async #same(candidate, most, signal) {
    const { operands } = this.#laid();
    const serving = /** @type {Ready} */ (this.#serving);
    let [checked, worst] = [0, 0];
    for (let i = 0; i < operands.length; i++) {
      const operand = operands[i];
      if (operand.role !== 'out' || !operand.used || !operand.tolerance || !operand.kind) continue;
      for (const [from, length] of pieces(operand.used, most)) {
        throwIfAborted(signal);
        const wanted = narrow(operand.type, operand.stored, await readBytes(this.device, serving.outputs[i], from, length));
        const got = narrow(operand.type, operand.stored, await readBytes(this.device, candidate.outputs[i], from, length));
        const seen = compare(own(wanted), own(got), { kind: operand.kind, tolerance: operand.tolerance, whole: true, unwritten: MARK });
        checked += seen.checked;
        worst = Math.max(worst, seen.worst);
        if (seen.at >= 0) return { checked, worst, reason: `${seen.got} instead of ${seen.wanted} at byte ${from + seen.at} of operand ${i}` };
      }
    }
    return { checked, worst, reason: '' };
  }

  /** Work on the device when inferences leave room for it. @template T @param {AbortSignal} signal @param {() => Promise<T>} work @returns {Promise<T>} */
  async #slice(signal, work) {
    await this.pace.gap(/** @type {GpuLabSetup} */ (this.#setup).policy.pace, signal);
    const start = performance.now();
    try {
      return await work();
    } finally {
      const end = performance.now();
      this.#busyMs += end - start;
      this.pace.spent(start, end);
    }
  }

  #drop() {
    this.#free(this.#candidate);
    this.#candidate = null;
  }

  /** @param {Ready | null} ready */
  #free(ready) {
    for (const buffer of ready ? [...ready.outputs, ...ready.panels] : []) buffer?.destroy();
  }

  #clear() {
    this.#drop();
    this.#free(this.#serving);
    this.#serving = null;
    for (const buffer of this.#inputs) buffer.destroy();
    this.#inputs = [];
    this.#setup = null;
  }
}

/** [offset, length] of what is compared, in whole words: all, or the beginning, the middle and the end. @param {number} used @param {number} most @returns {[number, number][]} */
function pieces(used, most) {
  const whole = Math.ceil(used / 4) * 4;
  if (whole > most) {
    const length = Math.floor(most / 3 / 16) * 16;
    const middle = Math.floor(whole / 2 / 16) * 16;
    return [[0, length], [middle, Math.min(length, whole - middle)], [Math.floor((whole - length) / 16) * 16, length]];
  }
  return Array.from({ length: Math.ceil(whole / PIECE) }, (_, i) => [i * PIECE, Math.min(PIECE, whole - i * PIECE)]);
}

/** Of an element in a buffer. @param {GpuLabOperand} operand */
const elementBytesOf = ({ stored }) => (stored === 'vec2i' ? 8 : stored === 'f16' ? 2 : 4);

/** Of an element as the model has it. @param {GpuLabOperand} operand */
const wholeBytes = ({ type, stored }) => (stored === 'vec2i' ? 8 : elementBytes(type));

/** An odd number of elements twice is whole words. @param {Uint8Array} bytes */
function twice(bytes) {
  const out = new Uint8Array(4 * bytes.length);
  for (let i = 0; i < 4; i++) out.set(bytes, i * bytes.length);
  return out;
}

/** Bytes with a buffer of their own. @param {Uint8Array} bytes @returns {Uint8Array<ArrayBuffer>} */
const own = (bytes) => /** @type {Uint8Array<ArrayBuffer>} */ (bytes.byteLength === bytes.buffer.byteLength ? bytes : bytes.slice());

/** @param {number[]} values */
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
