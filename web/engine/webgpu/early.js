// Constants of a plan that is still being made: takes what Python tells of them while it writes kernels, puts them onto the
// device in the form the plan will have them in, packed where a shader packs them. The plan takes its buffers over when it
// comes; those it does not want, and all of them where it does not come, are destroyed. What goes wrong here is nobody's
// error: the plan loads its constants itself then, and says what is wrong.

import { NnjitError, check } from '../errors.js';
import { turn } from '../turns.js';
import { Initializer } from './init.js';
import { COPY_DST, COPY_SRC, STORAGE } from './shader.js';

/** @typedef {import('./types.d.ts').GpuInitItem} GpuInitItem */
/** @typedef {import('./types.d.ts').GpuEarly} GpuEarly */
/** @typedef {import('./types.d.ts').GpuBinding} GpuBinding */
/** @typedef {import('./shader.js').Shader} Shader */
/** @typedef {import('./shader.js').ShaderKernel} ShaderKernel */

export class Early {
  /** By Python's number. @type {Map<number, GPUBuffer>} */
  #buffers = new Map();
  /** Of the compilation that is under way; another one begins from nothing. */
  #making = -1;
  #stop = new AbortController();
  /** @type {Initializer | null} */
  #init = null;
  /** Until all that was told has begun. @type {Promise<void>} */
  #begun = Promise.resolve();
  #over = false;
  /** Bytes that were sent. */
  sent = 0;
  /** Called with the bytes of each piece. @type {(bytes: number) => void} */
  onRead = () => {};
  /** Those told so far. @type {Shader[]} */
  shaders = [];

  /**
   * @param {GPUDevice} device @param {import('./shader.js').Pipelines} pipelines of the session
   * @param {import('../source.js').Bytes[]} sources the model's files
   */
  constructor(device, pipelines, sources) {
    this.device = device;
    this.pipelines = pipelines;
    this.sources = sources;
  }

  /** A shader of the plan: its pipeline is compiled meanwhile. @param {number} at its number @param {Shader} shader */
  expect(at, shader) {
    if (this.#over) return;
    this.shaders[at] = shader;
    this.pipelines.get(shader).catch(() => undefined); // told when the plan comes
  }

  /** @param {GpuEarly} told */
  tell({ making, buffers, init }) {
    if (this.#over) return;
    if (making !== this.#making) this.#anew(making);
    const { signal } = this.#stop;
    const initializer = /** @type {Initializer} */ (this.#init);
    const room = this.#allocate(buffers);
    room.catch(() => undefined); // awaited below, if those before went well
    this.#begun = this.#begun.then(async () => {
      await room;
      if (!signal.aborted) await initializer.begin(init);
    });
    this.#begun.catch(() => this.#stop.abort()); // whoever takes them is told
  }

  /** @param {number} making */
  #anew(making) {
    this.#free();
    this.#stop = new AbortController();
    this.#making = making;
    this.#begun = Promise.resolve();
    this.sent = 0;
    const { shaders } = this;
    const find = (/** @type {number} */ at) => {
      const found = this.#buffers.get(at);
      check(found !== undefined, 'BAD_PLAN', `Constant ${at} was not told.`, { at });
      return found;
    };
    this.#init = new Initializer(this.device, {
      buffer: find,
      bind: (kernel, bindings) => kernel.bind(bindings.map(([at, offset, size]) => ({ buffer: find(at), offset, size }))),
      kernel: (at) => this.pipelines.get(shaders[at]),
      give: () => undefined, // the plan does
      host: async () => undefined, // there are none
    }, this.sources, {
      signal: this.#stop.signal,
      read: (bytes) => {
        this.sent += bytes;
        this.onRead(bytes);
      },
      pause: turn, // shaders that are told meanwhile come first
    });
  }

  /** Rejects where there is no room. @param {GpuEarly['buffers']} wanted */
  async #allocate(wanted) {
    this.device.pushErrorScope('out-of-memory');
    for (const [at, size] of wanted) {
      this.#buffers.set(at, this.device.createBuffer({ label: `constant ${at}`, size, usage: STORAGE | COPY_SRC | COPY_DST }));
    }
    const full = await this.device.popErrorScope();
    if (full) throw new NnjitError('OUT_OF_MEMORY', full.message);
  }

  /**
   * Resolves when all that was told is on its way to the device; false where that failed, or was stopped: nothing is there then.
   * @param {AbortSignal} signal
   */
  async done(signal) {
    const stop = () => this.#stop.abort();
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    try {
      await this.#begun;
      await this.#init?.end();
      if (!this.#over && !this.#stop.signal.aborted) return true;
    } catch {
      // told by whoever loads them now
    } finally {
      signal.removeEventListener('abort', stop);
    }
    this.destroy();
    return false;
  }

  /** A buffer that is its plan's from now on. @param {number} at @param {number} size @returns {GPUBuffer | undefined} */
  take(at, size) {
    const found = this.#buffers.get(at);
    if (found?.size !== size) return undefined;
    this.#buffers.delete(at);
    return found;
  }

  get bytes() {
    let sum = 0;
    for (const { size } of this.#buffers.values()) sum += size;
    return sum;
  }

  #free() {
    this.#stop.abort();
    for (const buffer of this.#buffers.values()) buffer.destroy(); // after what was submitted
    this.#buffers.clear();
  }

  /** Nothing more is taken or told. */
  destroy() {
    this.#over = true;
    this.#free();
  }
}
