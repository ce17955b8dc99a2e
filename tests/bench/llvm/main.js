// Runs several codes of one kernel in turn, in this page, on the same memory: checks that they agree, then times them.

let serial = 0;

/** The module with a custom section of its own, so that no cache knows it. @param {Uint8Array} bytes */
function fresh(bytes) {
  serial += 1;
  const tail = [0, 6, 1, 110, ...new Uint8Array(new Uint32Array([serial]).buffer)];
  const out = new Uint8Array(bytes.length + tail.length);
  out.set(bytes);
  out.set(tail, bytes.length);
  return out;
}

/** @param {Uint8Array} bytes @param {number} times @returns {Promise<number>} median ms of WebAssembly.compile */
export async function compileMs(bytes, times) {
  const took = [];
  for (let i = 0; i < times; i++) {
    const mine = fresh(bytes);
    const start = performance.now();
    await WebAssembly.compile(mine);
    took.push(performance.now() - start);
  }
  return median(took);
}

/** @param {number[]} x */
const median = (x) => [...x].sort((a, b) => a - b)[x.length >> 1];

const STACK = 65536; // the C code's stack and data lie below

/**
 * @param {Uint8Array[]} codes modules that export `kernel(args, begin, end)`
 * @param {{size: number, role: string}[]} operands f32 elements each
 * @param {number} tiles
 * @param {{warmMs: number, rounds: number, sampleMs: number}} how
 */
export async function duel(codes, operands, tiles, how) {
  const places = /** @type {number[]} */ ([]);
  let at = STACK + 4096;
  for (const { size } of operands) {
    places.push(at);
    at = (at + size * 4 + 255) & ~63; // readers may run a vector past the end
  }
  const memory = new WebAssembly.Memory({ initial: (at >> 16) + 2 });
  new Int32Array(memory.buffer, STACK, places.length).set(places);
  let seed = 1;
  operands.forEach(({ size }, i) => {
    const x = new Float32Array(memory.buffer, places[i], size);
    for (let k = 0; k < size; k++) x[k] = ((seed = (seed * 1103515245 + 12345) & 0x7fffffff) / 0x40000000) - 1;
  });
  const outputs = operands.flatMap(({ role, size }, i) => (role === 'out' ? [new Float32Array(memory.buffer, places[i], size)] : []));
  const kernels = [];
  for (const bytes of codes) {
    const { instance } = await WebAssembly.instantiate(fresh(bytes), { env: { memory } });
    kernels.push(/** @type {(args: number, begin: number, end: number) => void} */ (instance.exports.kernel));
  }
  const results = kernels.map((kernel) => {
    for (const out of outputs) out.fill(NaN);
    kernel(STACK, 0, tiles);
    return outputs.map((out) => out.slice());
  });
  let error = 0;
  for (const other of results.slice(1)) {
    results[0].forEach((out, i) => out.forEach((x, k) => {
      const difference = Math.abs(x - other[i][k]) / Math.max(1, Math.abs(x));
      error = difference <= error ? error : difference; // NaN stays
    }));
  }
  const repeats = /** @type {number[]} */ ([]);
  for (const kernel of kernels) {
    const start = performance.now();
    let calls = 0;
    while (performance.now() - start < how.warmMs) {
      kernel(STACK, 0, tiles);
      calls += 1;
      if (calls % 4 === 0) await new Promise((done) => setTimeout(done, 0)); // optimised code comes in between
    }
    const once = performance.now();
    kernel(STACK, 0, tiles);
    repeats.push(Math.max(1, Math.ceil(how.sampleMs / Math.max(0.001, performance.now() - once))));
  }
  const samples = kernels.map(() => /** @type {number[]} */ ([]));
  for (let round = 0; round < how.rounds; round++) {
    kernels.forEach((kernel, i) => {
      const start = performance.now();
      for (let r = 0; r < repeats[i]; r++) kernel(STACK, 0, tiles);
      samples[i].push((performance.now() - start) / repeats[i]);
    });
  }
  return { error, ms: samples.map(median), samples };
}
