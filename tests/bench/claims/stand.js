// Times many schedules of one kernel in this page, on one memory: what stand.py asks for. Takes what the engine's lab
// takes (setup, kernels); every candidate's whole output is compared with the default's.
import { compare } from '/engine/compare.js';

/** @typedef {import('/engine/types.d.ts').LabKernel} LabKernel */
/** @typedef {import('/engine/types.d.ts').LabSetup} LabSetup */
/** @typedef {(args: number, begin: number, end: number) => void} Kernel */
/** @typedef {{run: () => void, repeat: number}} Ready */

const UNWRITTEN = 0xa5;

/** @type {WebAssembly.Memory} */
let memory;
/** @type {LabSetup} */
let setup;
/** @type {Ready} */
let base;

/** Lays out the operands and runs the default once. @param {any} given a LabSetup @returns {number} ms a call */
export function open(given) {
  setup = revive(given);
  memory = new WebAssembly.Memory({ initial: setup.pages, maximum: 65536 });
  for (const { address, nbytes, pattern } of setup.fills) {
    const bytes = new Uint8Array(memory.buffer, address, nbytes);
    bytes.set(pattern.subarray(0, nbytes));
    for (let done = Math.min(nbytes, pattern.length); done < nbytes; done *= 2) bytes.copyWithin(done, 0, Math.min(done, nbytes - done));
  }
  base = ready(setup.kernel).made;
  base.run();
  return Math.min(...Array.from({ length: 7 }, () => sample(base, 0.5)));
}

/** Compiles a kernel and fills its panels. @param {LabKernel} kernel */
function ready(kernel) {
  if (kernel.pages && kernel.pages * 65536 > memory.buffer.byteLength) memory.grow(kernel.pages - memory.buffer.byteLength / 65536);
  for (const pack of kernel.packs) place(pack, instance(pack.module))();
  const start = performance.now();
  const run = instance(kernel.module);
  return { compileMs: performance.now() - start, made: { run: place(kernel, run), repeat: 0 } };
}

/** @param {Uint8Array} bytes @returns {Kernel} */
function instance(bytes) {
  const module = new WebAssembly.Module(/** @type {BufferSource} */ (bytes));
  return /** @type {Kernel} */ (new WebAssembly.Instance(module, { env: { memory } }).exports.kernel);
}

/** @param {{args: number, pointers: number[], tiles: number}} kernel @param {Kernel} run */
function place({ args, pointers, tiles }, run) {
  new Uint32Array(memory.buffer, args, pointers.length).set(pointers);
  return () => run(args, 0, tiles);
}

/** ms a call, of calls that last about `ms` in all. @param {Ready} kernel @param {number} ms */
function sample(kernel, ms) {
  for (let repeat = 1; !kernel.repeat; repeat *= 4) {
    const took = spend(kernel, repeat);
    if (took > ms / 8 || repeat >= 1 << 18) kernel.repeat = Math.max(1, Math.round(repeat * ms / Math.max(took, 1e-3)));
  }
  return spend(kernel, kernel.repeat) / kernel.repeat;
}

/** @param {Ready} kernel @param {number} repeat @returns {number} ms */
function spend(kernel, repeat) {
  const start = performance.now();
  for (let i = 0; i < repeat; i++) kernel.run();
  return performance.now() - start;
}

/** Whether the candidate's whole output is near the default's. */
function agrees() {
  return setup.outputs.every(({ address, other, nbytes, kind, tolerance }) => compare(
    new Uint8Array(memory.buffer).slice(address, address + nbytes), new Uint8Array(memory.buffer).slice(other, other + nbytes),
    { kind, tolerance, whole: true, unwritten: UNWRITTEN }).at < 0);
}

function blank() {
  for (const { other, nbytes } of setup.outputs) new Uint8Array(memory.buffer, other, nbytes).fill(UNWRITTEN);
}

/**
 * @param {any[]} kernels LabKernels @param {{rounds: number, sampleMs: number, hopeless: number}} how
 * @returns {{ok: boolean, compileMs: number, testMs: number, base: number[], mine: number[]}[]}
 */
export function times(kernels, { rounds, sampleMs, hopeless }) {
  return kernels.map((given) => {
    const start = performance.now();
    const { compileMs, made } = ready(revive(given));
    blank();
    made.run();
    const ok = agrees();
    /** @type {{base: number[], mine: number[]}} */
    const found = { base: [], mine: [] };
    for (let i = 0; i < rounds; i++) {
      found.base.push(sample(base, sampleMs));
      found.mine.push(sample(made, sampleMs));
      if (Math.min(...found.mine) > hopeless * Math.max(...found.base)) break;
    }
    return { ok, compileMs, testMs: performance.now() - start, ...found };
  });
}

/** @param {any[]} kernels @param {{rounds: number, sampleMs: number}} how @returns {number[][]} samples of each */
export function final(kernels, { rounds, sampleMs }) {
  // each has panels of its own: they were laid out one after another
  const all = kernels.map((given) => ready(revive(given)).made);
  for (const kernel of all) sample(kernel, sampleMs);
  /** @type {number[][]} */
  const samples = all.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < all.length; i++) {
      const n = round % 2 ? all.length - 1 - i : i;
      all[n].run(); // its code and data are in the caches
      samples[n].push(sample(all[n], sampleMs));
    }
  }
  return samples;
}

/** @param {any} value @returns {any} */
function revive(value) {
  if (Array.isArray(value)) return value.map(revive);
  if (value === null || typeof value !== 'object') return value;
  if ('$base64' in value) return Uint8Array.from(atob(value.$base64), (c) => c.charCodeAt(0));
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, revive(v)]));
}
