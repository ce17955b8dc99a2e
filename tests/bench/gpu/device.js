// The device that the GPU bench times on, kept at its full clock between timings.
import { GpuDevice } from '/engine/webgpu/device.js';
import { STORAGE } from '/engine/webgpu/shader.js';

/** @type {GpuDevice} */
export let gpu;
/** @type {Heater | undefined} */
export let heater;

/** Facts about the adapter, for the compiler and for the record. */
export async function start() {
  gpu = await GpuDevice.open();
  if (!gpu.facts.software) heater = new Heater(gpu.device);
  return gpu.facts;
}

const HEAT = `@group(0) @binding(0) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(256) fn kernel(@builtin(global_invocation_id) id: vec3u) {
  var x = vec4f(f32(id.x));
  for (var i = 0; i < 8192; i++) { x = fma(x, vec4f(0.999), vec4f(0.5)); }
  out[id.x & 1023u] = x.x + x.y + x.z + x.w;
}`;

/**
 * Keeps a GPU at its full clock between timings: one that has little to do falls to a sixth of it within seconds, and
 * kernels of microseconds do not raise it. It rests while something is timed.
 */
class Heater {
  #on = false;
  /** @type {Promise<void>} */
  #done = Promise.resolve();

  /** @param {GPUDevice} device */
  constructor(device) {
    this.device = device;
    this.pipeline = device.createComputePipeline({ layout: 'auto', compute: { module: device.createShaderModule({ code: HEAT }) } });
    const buffer = device.createBuffer({ size: 4096, usage: STORAGE });
    this.group = device.createBindGroup({ layout: this.pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer } }] });
  }

  start() {
    if (this.#on) return;
    this.#on = true;
    this.#done = this.#run();
  }

  /** Comes back when the queue is empty, after at least `ms` of work. @param {number} ms */
  async rest(ms) {
    this.start();
    await new Promise((resolve) => setTimeout(resolve, ms));
    this.#on = false;
    await this.#done;
  }

  async #run() {
    let before = Promise.resolve();
    while (this.#on) {
      const encoder = this.device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      pass.setPipeline(this.pipeline);
      pass.setBindGroup(0, this.group);
      for (let i = 0; i < 4; i++) pass.dispatchWorkgroups(4096);
      pass.end();
      this.device.queue.submit([encoder.finish()]);
      const now = this.device.queue.onSubmittedWorkDone();
      await before; // the next is queued while this one runs
      before = now;
    }
    await before;
  }
}

/** Before the wall clock is used: nothing else may run then. */
export const settled = async () => heater?.rest(HEAT_MS);
const HEAT_MS = 60;
/** What an idle GPU takes to come to its full clock, and more. */
export const RAISE_MS = 400;
