// The GPU device of a page: asked for once with all that the adapter has, or the caller's own. Takes nothing or a
// GPUDevice; gives the device, the facts that the compiler wants, and a promise of its loss.

import { NnjitError } from '../errors.js';

/** @typedef {import('./types.d.ts').GpuFacts} GpuFacts */

const FEATURES = ['shader-f16', 'timestamp-query', 'subgroups', 'chromium-experimental-subgroup-matrix'];
const LIMITS = [
  'maxStorageBufferBindingSize', 'maxBufferSize', 'maxStorageBuffersPerShaderStage', 'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup', 'maxComputeWorkgroupSizeX', 'maxComputeWorkgroupSizeY', 'maxComputeWorkgroupSizeZ',
  'maxComputeWorkgroupsPerDimension',
];

export class GpuDevice {
  /** Whether it is lost, and why. @type {NnjitError | null} */
  death = null;

  /**
   * @param {GPUDevice} device @param {GPUAdapterInfo | undefined} info @param {boolean} own
   */
  constructor(device, info, own) {
    this.device = device;
    this.own = own;
    this.facts = factsOf(device, info);
    /** Rejects when the device is lost; never resolves. @type {Promise<never>} */
    this.lost = device.lost.then(({ message, reason }) => {
      this.death = new NnjitError('DEVICE_LOST', `The GPU device was lost (${reason || 'unknown'}): ${message}`, { reason },
        'Sessions ask for a new device and run again by themselves.');
      throw this.death;
    });
    this.lost.catch(() => {});
  }

  /**
   * @param {GPUDevice} [given] the caller's device, used as it is
   * @returns {Promise<GpuDevice>} rejects with NO_GPU where there is no adapter
   */
  static async open(given) {
    if (given) return new GpuDevice(given, given.adapterInfo, false);
    const gpu = globalThis.navigator?.gpu;
    if (!gpu) throw none('this browser has no WebGPU (or the page is no secure context)');
    const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' }).catch(() => null);
    if (!adapter) throw none('the browser offers no adapter');
    const features = FEATURES.filter((name) => adapter.features.has(/** @type {GPUFeatureName} */ (name)));
    /** @type {Record<string, number>} */
    const requiredLimits = {};
    for (const name of LIMITS) {
      const value = /** @type {any} */ (adapter.limits)[name];
      if (value !== undefined) requiredLimits[name] = value;
    }
    try {
      const requiredFeatures = /** @type {GPUFeatureName[]} */ (features);
      return new GpuDevice(await adapter.requestDevice({ requiredFeatures, requiredLimits }), adapter.info, true);
    } catch (cause) {
      throw none(`the adapter gave no device: ${cause instanceof Error ? cause.message : cause}`);
    }
  }

  /**
   * Work on this device: rejects when the device is lost meanwhile, however the work itself ends.
   * @template T
   * @param {() => Promise<T>} work @returns {Promise<T>}
   */
  async guard(work) {
    if (this.death) throw this.death;
    try {
      return await Promise.race([work(), this.lost]);
    } catch (cause) {
      // a map or a pipeline that fails because of the loss may say so before the loss is announced
      if (cause instanceof NnjitError) throw cause;
      await Promise.race([this.lost, new Promise((resolve) => setTimeout(resolve, 50))]);
      throw cause;
    }
  }
}

/** @param {string} why */
const none = (why) => new NnjitError('NO_GPU', `WebGPU cannot be used: ${why}`, { reason: why });

/**
 * @param {GPUDevice} device @param {GPUAdapterInfo | undefined} info @returns {GpuFacts}
 */
function factsOf(device, info) {
  const any = /** @type {any} */ (info ?? {});
  const { vendor = '', architecture = '', description = '' } = any;
  const software = Boolean(any.isFallbackAdapter) || /swiftshader|llvmpipe/i.test(`${architecture} ${description}`);
  const features = [...device.features].map(String);
  const configs = features.includes('chromium-experimental-subgroup-matrix') ? (any.subgroupMatrixConfigs ?? []) : [];
  /** @type {Record<string, number>} */
  const limits = { minStorageBufferOffsetAlignment: device.limits.minStorageBufferOffsetAlignment };
  for (const name of LIMITS) limits[name] = Number(/** @type {any} */ (device.limits)[name]);
  return {
    vendor, architecture, description, software, features, limits,
    subgroup: any.subgroupMinSize ?? 0,
    subgroupMax: any.subgroupMaxSize ?? 0,
    matrices: configs.map((/** @type {any} */ c) => [c.componentType, c.resultComponentType, c.M, c.N, c.K]),
    timestamps: features.includes('timestamp-query'),
  };
}
