// Shaders by timestamp queries: one on operands that stay, or one whose operand comes from memory each time.
import { COPY_DST, COPY_SRC, STORAGE, ShaderKernel } from '/engine/webgpu/shader.js';
import { StepClock } from '/engine/webgpu/timing.js';
import { gpu, heater, settled } from './device.js';
import { filledBuffer, forget, wrong, wrongBits, wrongBytes } from './numbers.js';

/** @typedef {import('/engine/webgpu/shader.js').Shader} Shader */
/** @typedef {import('./numbers.js').Product} Product */

/**
 * Times a shader on numbers; with `product` it looks at places of the result too.
 * @param {Shader} shader @param {Product | null} product @param {{samples?: number}} how
 */
export async function timeShader(shader, product, how) {
  const begun = performance.now();
  const kernel = await ShaderKernel.create(gpu.device, shader);
  const compileMs = performance.now() - begun;
  const buffers = shader.bindings.map((b, i) =>
    b.role === 'in' ? filledBuffer(b.nbytes, b.dtype, b.size, i)
      : gpu.device.createBuffer({ size: b.nbytes, usage: STORAGE | COPY_SRC | COPY_DST }));
  const group = kernel.bind(buffers.map((buffer) => ({ buffer })));
  const clock = new StepClock(gpu.device);
  gpu.device.pushErrorScope('validation');
  try {
    await settled();
    const timed = await clock.time((pass) => kernel.encode(pass, group), { samples: 3, sampleMs: 3, limitMs: 400, ...how });
    heater?.start();
    const check = shader.bindings[0].dtype === 'i32' ? wrongBytes : wrong;
    const error = product ? await check(buffers[2], shader.bindings[2], product) : 0;
    return { ...timed, compileMs, error };
  } finally {
    const scope = await gpu.device.popErrorScope();
    clock.destroy();
    shader.bindings.forEach((b, i) => b.role === 'out' && buffers[i].destroy());
    if (scope) throw new Error(scope.message);
  }
}

/**
 * Times a shader whose operand `cold` is another buffer in every turn, as many as no cache holds together. Results lie
 * apart, so that no dispatch waits for another.
 * @param {Shader} shader @param {number} cold @param {number} total bytes of all of them
 * @param {Product | null} product @param {number} bits of weights in words, 0 for none
 */
export async function timeCold(shader, cold, total, product, bits) {
  const kernel = await ShaderKernel.create(gpu.device, shader);
  const made = /** @type {GPUBuffer[]} */ ([]);
  const groups = /** @type {GPUBindGroup[]} */ ([]);
  const [first, ...rest] = Array.from({ length: Math.ceil(total / shader.bindings[cold].nbytes) }, () => shader.bindings.map((b, i) => {
    if (b.role === 'in' && i !== cold) return filledBuffer(b.nbytes, b.dtype, b.size, i);
    const buffer = gpu.device.createBuffer({ size: b.nbytes, usage: STORAGE | COPY_SRC | COPY_DST });
    made.push(buffer);
    return buffer;
  }));
  const encoder = gpu.device.createCommandEncoder();
  const b = shader.bindings[cold];
  for (const set of [first, ...rest]) {
    encoder.copyBufferToBuffer(filledBuffer(b.nbytes, b.dtype, b.size, cold), 0, set[cold], 0, b.nbytes);
    groups.push(kernel.bind(set.map((buffer) => ({ buffer }))));
  }
  gpu.device.queue.submit([encoder.finish()]);
  const clock = new StepClock(gpu.device);
  gpu.device.pushErrorScope('validation');
  try {
    await settled();
    const timed = await clock.time((pass) => groups.forEach((group) => kernel.encode(pass, group)), { samples: 5, sampleMs: 3, limitMs: 400 });
    heater?.start();
    const out = shader.bindings.length - 1;
    const error = bits && product ? await wrongBits(first[out], shader.bindings[1], product, bits)
      : product ? await wrong(first[out], shader.bindings[out], product) : 0;
    const each = (/** @type {number} */ ms) => ms / groups.length;
    return { ...timed, ms: each(timed.ms), min: each(timed.min), max: each(timed.max), samples: timed.samples.map(each), buffers: groups.length, error };
  } finally {
    const scope = await gpu.device.popErrorScope();
    clock.destroy();
    made.forEach((buffer) => buffer.destroy());
    if (scope) throw new Error(scope.message);
  }
}

/** Bytes a second of reading and writing 256 MiB. @param {Shader} shader */
export async function copyRate(shader) {
  const { ms } = await timeShader(shader, null, { samples: 5 });
  forget();
  return shader.bindings.reduce((sum, b) => sum + b.nbytes, 0) / ms / 1e6;
}
