// The lab on the GPU: a kernel with operands of its own, beside those of any session. Candidates are compiled, compared
// with the serving kernel and timed in turn with it, a reading at a time. What to try, and by which numbers, Python decides.

import { NnjitError, throwIfAborted } from '../errors.js';
import { GpuLabBench } from './lab-bench.js';
import { tryPair } from './pair.js';
import { readBytes } from './readback.js';
import { ShaderKernel } from './shader.js';
import { elementBytes, narrow } from './stored.js';
import { Watch } from './watch.js';

/** @typedef {import('./types.d.ts').GpuLabSetup} GpuLabSetup */
/** @typedef {import('./types.d.ts').GpuLabKernel} GpuLabKernel */
/** @typedef {import('./types.d.ts').GpuLabOperand} GpuLabOperand */
/** @typedef {import('../types.d.ts').LabReport} LabReport */
/** @typedef {import('./pace.js').GpuPace} GpuPace */
/** A kernel with its bindings and the buffers it has of its own.
 * @typedef {import('./lab-bench.js').Timed & {outputs: GPUBuffer[], panels: GPUBuffer[]}} Ready */

export class GpuLab {
  /** @type {GpuLabSetup | null} */
  #setup = null;
  /** @type {GPUBuffer[]} */
  #inputs = [];
  /** @type {Ready | null} */
  #serving = null;
  /** @type {Ready | null} */
  #candidate = null;

  /** @param {GPUDevice} device @param {GpuPace} pace */
  constructor(device, pace) {
    this.device = device;
    this.bench = new GpuLabBench(device, pace);
  }

  /**
   * Makes a kernel's operands and runs the serving kernel: what candidates are held against.
   * @param {GpuLabSetup} setup @param {AbortSignal} signal
   * @returns {Promise<{ms: number, busyMs: number, samples: number[][]}>} ms: of the serving kernel; samples: the bytes of
   *   the elements at setup.probes
   */
  async setup(setup, signal) {
    const { bench } = this;
    const before = bench.busyMs;
    this.#clear();
    this.#setup = setup;
    bench.policy = setup.policy;
    const watch = new Watch(this.device, `the lab for ${setup.kernel.shader.name}`);
    watch.open();
    this.#inputs = setup.operands.map((operand) => bench.buffer(operand.role === 'in' ? operand.nbytes : 16));
    watch.close();
    await watch.told();
    const serving = this.#serving = await this.#ready(setup.kernel, signal);
    const ms = await bench.settle(serving, signal);
    const samples = [];
    for (const { operand, at } of setup.probes) {
      const size = elementBytesOf(setup.operands[operand]);
      const from = (at * size) & ~3;
      const raw = await readBytes(this.device, serving.outputs[operand], from, Math.max(size, 4));
      const bytes = narrow(setup.operands[operand].type, setup.operands[operand].stored, raw.slice(at * size - from));
      samples.push([...bytes.subarray(0, Math.min(bytes.length, wholeBytes(setup.operands[operand])))]);
    }
    return { ms, busyMs: bench.busyMs - before, samples };
  }

  /**
   * @param {{kernel: GpuLabKernel, rounds: number}} trial @param {AbortSignal} signal
   * @returns {Promise<LabReport>} never rejects for what the candidate does
   */
  async trial({ kernel, rounds }, signal) {
    const { bench } = this;
    const { serving } = this.#laid();
    const started = bench.busyMs;
    /** @type {LabReport} */
    const report = { verdict: 'timed', compileMs: 0, checked: 0, worst: 0, base: [], mine: [], busyMs: 0, reason: '' };
    const done = (/** @type {LabReport['verdict']} */ verdict, reason = '') => {
      if (verdict !== 'timed') this.#drop();
      return { ...report, verdict, reason, busyMs: bench.busyMs - started };
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
    const seen = await bench.same(this.#outputs(candidate), bench.policy.lookBytes, signal);
    report.checked = seen.checked;
    report.worst = seen.worst;
    if (seen.reason) return done('wrong', seen.reason);
    await bench.settle(candidate, signal);
    await bench.duel(serving, candidate, rounds, report, signal);
    return done(bench.hopeless(report) ? 'slow' : 'timed');
  }

  /**
   * The last candidate compared whole, and timed once more.
   * @param {AbortSignal} signal
   * @returns {Promise<{ok: boolean, checked: number, reason: string, base: number[], mine: number[], busyMs: number}>}
   */
  async confirm(signal) {
    const { bench } = this;
    const started = bench.busyMs;
    const candidate = this.#candidate;
    const serving = this.#serving;
    /** @type {{base: number[], mine: number[]}} */
    const times = { base: [], mine: [] };
    if (!candidate || !serving) return { ok: false, checked: 0, reason: 'there is no candidate', ...times, busyMs: 0 };
    const seen = await bench.same(this.#outputs(candidate), Infinity, signal);
    if (!seen.reason) await bench.duel(serving, candidate, bench.policy.again, times, signal);
    return { ok: !seen.reason, checked: seen.checked, reason: seen.reason, ...times, busyMs: bench.busyMs - started };
  }

  /** The candidate serves from now on. */
  promote() {
    if (!this.#candidate) return;
    this.#free(this.#serving);
    this.#serving = this.#candidate;
    this.#candidate = null;
  }

  /**
   * Two ways of a part of a model; a kernel that was laid out is no more.
   * @param {import('./types.d.ts').GpuLabPair} pair @param {AbortSignal} signal @returns {Promise<LabReport>}
   */
  pair(pair, signal) {
    this.#clear();
    return tryPair(this.bench, pair, signal);
  }

  close() {
    this.#clear();
    this.bench.destroy();
  }

  #laid() {
    if (!this.#setup || !this.#serving) throw new Error('nothing is laid out in the lab');
    return { setup: this.#setup, serving: this.#serving };
  }

  /**
   * Compiles a kernel, gives it outputs and panels of its own, and runs it once.
   * @param {GpuLabKernel} made @param {AbortSignal} signal @returns {Promise<Ready>}
   */
  async #ready({ shader, packs }, signal) {
    const { bench } = this;
    const { operands } = /** @type {GpuLabSetup} */ (this.#setup);
    const first = !this.#serving;
    const [kernel, ...packing] = await Promise.all([shader, ...packs.map((p) => p.shader)].map((s) => ShaderKernel.create(this.device, s)));
    throwIfAborted(signal);
    const watch = new Watch(this.device, shader.name);
    watch.open();
    const outputs = operands.map(({ role, nbytes }) => (role === 'out' ? bench.buffer(nbytes) : null));
    const panels = packs.map(({ nbytes }) => bench.buffer(nbytes));
    const rest = operands.map(({ role }, i) => (role === 'in' || role === 'out' ? null : bench.buffer(Math.max(16, shader.bindings[i]?.nbytes ?? 16))));
    /** @param {number} i */
    const place = (i) => {
      const packed = packs.findIndex(({ operand }) => operand === i);
      return { buffer: outputs[i] ?? rest[i] ?? (packed >= 0 ? panels[packed] : this.#inputs[i]) };
    };
    const group = kernel.bind(operands.map((_, i) => place(i)));
    /** @type {Ready} */
    const ready = {
      encode: (pass) => kernel.encode(pass, group), outputs: /** @type {GPUBuffer[]} */ (outputs),
      panels: [...panels, ...rest.flatMap((b) => b ?? [])], inner: 1, ms: 0,
    };
    watch.close();
    // a candidate is expected to take about as long as the kernel that serves
    const expected = this.#serving?.ms ?? this.#setup?.expectedMs ?? Infinity;
    ready.ms = await bench.slice(signal, 2 * expected, async () => {
      watch.open();
      if (first) operands.forEach(({ pattern, ...operand }, i) => pattern && bench.fill({ ...operand, pattern }, this.#inputs[i]));
      operands.forEach(({ nbytes }, i) => outputs[i] && bench.blank(outputs[i], nbytes));
      const taking = bench.clock.sample((pass) => {
        packs.forEach(({ operand }, i) => packing[i].encode(pass, packing[i].bind([{ buffer: this.#inputs[operand] }, { buffer: panels[i] }])));
        ready.encode(pass);
      }, 1);
      watch.close();
      await taking.catch(() => undefined);
      await watch.told(); // what the device says of it comes first
      return taking;
    }, bench.held).catch((cause) => {
      watch.close();
      this.#free(ready);
      throw cause;
    });
    return ready;
  }

  /** The serving kernel's outputs beside a candidate's. @param {Ready} candidate @returns {import('./lab-bench.js').Compared[]} */
  #outputs(candidate) {
    const { setup: { operands }, serving } = this.#laid();
    return operands.flatMap(({ role, type, stored, kind, tolerance, used }, i) => (role === 'out' && used && tolerance && kind
      ? { wanted: serving.outputs[i], got: candidate.outputs[i], type, stored, kind, tolerance, used, name: `operand ${i}` } : []));
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

/** Of an element in a buffer. @param {GpuLabOperand} operand */
const elementBytesOf = ({ stored }) => (stored === 'vec2i' ? 8 : stored === 'f16' ? 2 : 4);

/** Of an element as the model has it. @param {GpuLabOperand} operand */
const wholeBytes = ({ type, stored }) => (stored === 'vec2i' ? 8 : elementBytes(type));
