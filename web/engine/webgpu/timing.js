// Times of work on the device: by timestamp queries where it has them, by the wall clock where not. Browsers round
// timestamps (Chrome to 65,536 ns unless developer features are on), so work is repeated past that grain.

import { COPY_DST, COPY_SRC, MAP_READ, STORAGE, ShaderKernel } from './shader.js';

const QUERY_RESOLVE = 0x200;
/** A sample lasts at least this long: thirty grains. */
const SAMPLE_MS = 2;
/** The same by the wall clock: browsers tell of finished work some milliseconds late. */
const WALL_MS = 25;
const MOST = 4096;

/** @typedef {(pass: GPUComputePassEncoder) => void} Work */
/** @typedef {{ms: number, min: number, max: number, samples: number[], inner: number, clock: 'timestamp' | 'wall'}} Timed */

export class StepClock {
  /** @param {GPUDevice} device */
  constructor(device) {
    this.device = device;
    if (!device.features.has('timestamp-query')) return;
    this.queries = device.createQuerySet({ type: 'timestamp', count: 2 });
    this.resolved = device.createBuffer({ size: 16, usage: QUERY_RESOLVE | COPY_SRC });
    this.staging = device.createBuffer({ size: 16, usage: COPY_DST | MAP_READ });
  }

  /**
   * The median of `samples`, each the mean of as many repetitions as last for SAMPLE_MS.
   * @param {Work} work @param {{samples?: number, sampleMs?: number, limitMs?: number}} [how] limitMs: stop sampling after it
   * @returns {Promise<Timed>}
   */
  async time(work, { samples = 5, sampleMs = SAMPLE_MS, limitMs = 1000 } = {}) {
    const begun = performance.now();
    let inner = 1;
    let took = await this.sample(work, inner); // and warm
    while (took < sampleMs && inner < MOST) {
      inner = Math.min(MOST, Math.max(inner * 2, Math.ceil((inner * sampleMs * 1.1) / Math.max(took, sampleMs / 64))));
      took = await this.sample(work, inner);
    }
    const found = [took / inner];
    while (found.length < samples && performance.now() - begun < limitMs) found.push((await this.sample(work, inner)) / inner);
    const sorted = [...found].sort((a, b) => a - b);
    const ms = sorted[sorted.length >> 1];
    return { ms, min: sorted[0], max: sorted[sorted.length - 1], samples: found, inner, clock: this.queries ? 'timestamp' : 'wall' };
  }

  /** Whether times are the device's own. */
  get precise() {
    return this.queries !== undefined;
  }

  /** @param {Work} work @param {number} inner @returns {Promise<number>} ms of all repetitions */
  async sample(work, inner) {
    const { device, queries, resolved, staging } = this;
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass(queries
      ? { timestampWrites: { querySet: queries, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 } } : undefined);
    for (let i = 0; i < inner; i++) work(pass);
    pass.end();
    if (!queries || !resolved || !staging) {
      const start = performance.now();
      device.queue.submit([encoder.finish()]);
      await device.queue.onSubmittedWorkDone();
      return performance.now() - start;
    }
    encoder.resolveQuerySet(queries, 0, 2, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(1);
    const [from, to] = new BigUint64Array(staging.getMappedRange().slice(0));
    staging.unmap();
    return Number(to - from) / 1e6;
  }

  destroy() {
    this.queries?.destroy();
    this.resolved?.destroy();
    this.staging?.destroy();
  }
}

/**
 * Microbenchmarks: each shader over buffers of its own.
 * @param {GPUDevice} device @param {{name: string, shader: import('./shader.js').Shader}[]} probes
 * @param {import('./pace.js').GpuPace} pace @param {import('./types.d.ts').GpuPacePolicy} policy @param {AbortSignal} signal @returns {Promise<Record<string, number>>} ms of a dispatch
 */
export async function measure(device, probes, pace, policy, signal) {
  const clock = new StepClock(device);
  /** @type {Record<string, number>} */
  const found = {};
  try {
    for (const { name, shader } of probes) {
      const kernel = await ShaderKernel.create(device, shader);
      device.pushErrorScope('validation');
      const buffers = shader.bindings.map(({ nbytes }) => device.createBuffer({ size: nbytes, usage: STORAGE }));
      const group = kernel.bind(buffers.map((buffer) => ({ buffer })));
      const refused = device.popErrorScope();
      /** A sample at a time, so that no inference waits for more. @param {number} inner */
      const sample = async (inner) => {
        await pace.gap(policy, signal);
        const start = performance.now();
        try {
          return await clock.sample((pass) => kernel.encode(pass, group), inner);
        } finally {
          pace.spent(start, performance.now());
        }
      };
      try {
        const wrong = await refused;
        if (wrong) throw new Error(`${name}: ${wrong.message}`);
        found[name] = await slope(sample, clock.precise ? SAMPLE_MS : WALL_MS);
      } finally {
        for (const buffer of buffers) buffer.destroy();
      }
    }
  } finally {
    clock.destroy();
  }
  return found;
}

/**
 * What one more repetition takes: a pass by itself may take milliseconds on a device that was idle, which says nothing of
 * the work in it.
 * @param {(inner: number) => Promise<number>} sample ms of so many repetitions @param {number} wanted ms that they should last @returns {Promise<number>} ms
 */
async function slope(sample, wanted) {
  const least = async (/** @type {number} */ inner) => {
    const found = [];
    for (let i = 0; i < 3; i++) found.push(await sample(inner));
    return Math.min(...found);
  };
  const once = await least(1);
  let inner = 8;
  let more = (await least(inner)) - once;
  while (more < wanted && inner < MOST) {
    inner *= 4;
    more = (await least(inner)) - once;
  }
  return Math.max(more, 0) / (inner - 1);
}
