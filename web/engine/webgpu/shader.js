// One compute shader on a GPUDevice: takes what Python's wgsl emitter returns, gives a kernel that can be
// bound to buffers and dispatched. Mechanism only: tiles, workgroups and types were settled by the compiler.

/**
 * @typedef {object} ShaderBinding
 * @property {number} binding
 * @property {string} dtype
 * @property {'in' | 'out'} role
 * @property {number} size elements
 * @property {number} nbytes bytes of the buffer, a multiple of 16
 *
 * @typedef {object} Shader
 * @property {string} name
 * @property {string} wgsl
 * @property {string} entryPoint
 * @property {number} workgroupSize
 * @property {number[]} dispatch workgroups in x, y, z
 * @property {ShaderBinding[]} bindings in operand order
 */

// GPUShaderStage, GPUMapMode and GPUBufferUsage of the WebGPU specification; TypeScript's library has no such values
const COMPUTE = 4;
const READ = 1;
export const [MAP_READ, MAP_WRITE, COPY_SRC, COPY_DST, STORAGE] = [0x1, 0x2, 0x4, 0x8, 0x80];

/** A shader that the device refuses: the message has the compiler's own lines. */
export class ShaderError extends Error {
  /**
   * @param {Shader} shader
   * @param {string} why
   */
  constructor(shader, why) {
    super(`${shader.name}: ${why}`);
    this.name = 'ShaderError';
    this.code = 'SHADER';
    this.wgsl = shader.wgsl;
    /** Shaders of a plan that were refused, by number. @type {number[]} */
    this.kernels = [];
  }
}

/** @typedef {{layout: GPUBindGroupLayout, pipelineLayout: GPUPipelineLayout}} Layouts */
/** By device and roles of the bindings: most kernels of a model share a few. @type {WeakMap<GPUDevice, Map<string, Layouts>>} */
const layouts = new WeakMap();

/**
 * Not layout 'auto': that forgets a binding the shader happens not to read.
 * @param {GPUDevice} device @param {Shader} shader @returns {Layouts}
 */
function layoutOf(device, shader) {
  const known = layouts.get(device) ?? new Map();
  layouts.set(device, known);
  const roles = shader.bindings.map((b) => b.role).join();
  const found = known.get(roles);
  if (found) return found;
  const layout = device.createBindGroupLayout({
    entries: shader.bindings.map((b) => ({
      binding: b.binding,
      visibility: COMPUTE,
      buffer: { type: b.role === 'in' ? 'read-only-storage' : 'storage' },
    })),
  });
  const made = { layout, pipelineLayout: device.createPipelineLayout({ bindGroupLayouts: [layout] }) };
  known.set(roles, made);
  return made;
}

/** A compiled shader. */
export class ShaderKernel {
  /**
   * @param {GPUDevice} device
   * @param {Shader} shader
   * @param {GPUBindGroupLayout} layout
   * @param {GPUComputePipeline} pipeline
   */
  constructor(device, shader, layout, pipeline) {
    this.device = device;
    this.shader = shader;
    this.layout = layout;
    this.pipeline = pipeline;
  }

  /**
   * Compiles; rejects with ShaderError and the compiler's messages.
   * @param {GPUDevice} device
   * @param {Shader} shader
   * @returns {Promise<ShaderKernel>}
   */
  static async create(device, shader) {
    device.pushErrorScope('validation'); // what is wrong is told below, with its line
    const module = device.createShaderModule({ label: shader.name, code: shader.wgsl });
    void device.popErrorScope().catch(() => undefined); // at once: scopes are a stack, and shaders compile side by side
    const { layout, pipelineLayout } = layoutOf(device, shader);
    try {
      const pipeline = await device.createComputePipelineAsync({
        label: shader.name,
        layout: pipelineLayout,
        compute: { module, entryPoint: shader.entryPoint },
      });
      return new ShaderKernel(device, shader, layout, pipeline);
    } catch (error) {
      // only a pipeline that failed asks for the messages: that takes another way to the GPU process and back
      const { messages } = await module.getCompilationInfo();
      const lines = messages.filter((m) => m.type === 'error').map((m) => `line ${m.lineNum}: ${m.message}`);
      throw new ShaderError(shader, lines.join('\n') || (error instanceof Error ? error.message : String(error)));
    }
  }

  /**
   * @param {GPUBufferBinding[]} places in operand order
   * @returns {GPUBindGroup}
   */
  bind(places) {
    const entries = this.shader.bindings.map((b, i) => ({ binding: b.binding, resource: places[i] }));
    return this.device.createBindGroup({ layout: this.layout, entries });
  }

  /**
   * @param {GPUComputePassEncoder} pass
   * @param {GPUBindGroup} group
   */
  encode(pass, group) {
    const [x, y, z] = this.shader.dispatch;
    pass.setPipeline(this.pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(x, y, z);
  }
}

/** The compiled shaders of a session: each once, however many of its plans use it. */
export class Pipelines {
  /** By their text, which says all but where they run. @type {Map<string, Promise<ShaderKernel>>} */
  #made = new Map();

  /** @param {GPUDevice} device */
  constructor(device) {
    this.device = device;
  }

  /** @param {Shader} shader @returns {Promise<ShaderKernel>} */
  get(shader) {
    const known = this.#made.get(shader.wgsl);
    if (known) return known;
    const made = ShaderKernel.create(this.device, shader);
    this.#made.set(shader.wgsl, made);
    made.catch(() => this.#made.delete(shader.wgsl)); // told to who asked; asked again, tried again
    return made;
  }

  /** Lets go of all but these. @param {Set<string>} texts */
  keep(texts) {
    for (const text of this.#made.keys()) {
      if (!texts.has(text)) this.#made.delete(text);
    }
  }
}

/**
 * Runs a shader once: `contents` are the bytes of every operand (what an output holds before); returns the
 * outputs' bytes afterwards, in operand order.
 * @param {GPUDevice} device
 * @param {Shader} shader
 * @param {Uint8Array[]} contents
 * @returns {Promise<Uint8Array[]>}
 */
export async function runShader(device, shader, contents) {
  const kernel = await ShaderKernel.create(device, shader);
  const usage = STORAGE | COPY_SRC | COPY_DST;
  const buffers = shader.bindings.map((b, i) => filled(device, b.nbytes, usage, contents[i]));
  const outputs = shader.bindings.filter((b) => b.role === 'out');
  const staging = outputs.map((b) =>
    device.createBuffer({ size: b.nbytes, usage: MAP_READ | COPY_DST }));
  try {
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    kernel.encode(pass, kernel.bind(buffers.map((buffer) => ({ buffer }))));
    pass.end();
    outputs.forEach((b, i) => encoder.copyBufferToBuffer(buffers[b.binding], 0, staging[i], 0, b.nbytes));
    device.queue.submit([encoder.finish()]);
    return await Promise.all(staging.map((s, i) => read(s, contents[outputs[i].binding].byteLength)));
  } finally {
    for (const b of [...buffers, ...staging]) b.destroy();
  }
}

/**
 * @param {GPUDevice} device
 * @param {number} size
 * @param {number} usage
 * @param {Uint8Array} bytes
 */
function filled(device, size, usage, bytes) {
  const buffer = device.createBuffer({ size, usage, mappedAtCreation: true });
  new Uint8Array(buffer.getMappedRange()).set(bytes);
  buffer.unmap();
  return buffer;
}

/**
 * @param {GPUBuffer} staging
 * @param {number} nbytes
 */
async function read(staging, nbytes) {
  await staging.mapAsync(READ);
  return new Uint8Array(staging.getMappedRange().slice(0, nbytes));
}
