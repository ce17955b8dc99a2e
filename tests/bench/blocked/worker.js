// One thread of main.js: runs its share of each kernel's tiles, all threads from the same moment on.

const ARGS = 1024;
const LINE = 1024; // bytes a thread has for its operand pointers

/**
 * Waits until every thread is here. @param {Int32Array} gate arrivals, turns @param {number} threads
 */
function together(gate, threads) {
  const turn = Atomics.load(gate, 1);
  if (Atomics.add(gate, 0, 1) + 1 === threads) {
    Atomics.store(gate, 0, 0);
    Atomics.add(gate, 1, 1);
    return;
  }
  while (Atomics.load(gate, 1) === turn);
}

onmessage = async ({ data }) => {
  const { memory, gate, thread, threads, how, kernels } = data;
  const at = ARGS + thread * LINE;
  const runs = [];
  for (const { module, pointers, tiles } of kernels) {
    const bytes = Uint8Array.from(atob(module), (c) => c.charCodeAt(0));
    const { instance } = await WebAssembly.instantiate(bytes, { env: { memory } });
    const kernel = /** @type {(args: number, begin: number, end: number) => void} */ (instance.exports.kernel);
    const begin = Math.floor((tiles * thread) / threads), end = Math.floor((tiles * (thread + 1)) / threads);
    runs.push((/** @type {number} */ times) => {
      new Int32Array(memory.buffer, at, pointers.length).set(pointers);
      const start = performance.now();
      for (let i = 0; i < times; i++) kernel(at, begin, end);
      return (performance.now() - start) / times;
    });
  }
  for (const run of runs) {
    const start = performance.now();
    while (performance.now() - start < how.warmMs) {
      run(1);
      await new Promise((done) => setTimeout(done, 0)); // optimised code comes in between
    }
  }
  const samples = runs.map(() => /** @type {number[]} */ ([]));
  for (let round = 0; round < how.rounds; round++) {
    runs.forEach((run, k) => {
      together(gate, threads);
      samples[k].push(run(kernels[k].times)); // as often on all threads, or the last calls of one would run alone
    });
  }
  postMessage(samples);
};
