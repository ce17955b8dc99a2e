// Kernels of one layer under several memory orders, timed in turn on one shared memory by one worker or more: all do
// their share of the tiles of the same kernel at the same time. What is timed, and what it means, main.py decides.

/**
 * @typedef {{module: string, pointers: number[], tiles: number, times: number}} Kernel module: base64
 * @typedef {{bytes: number, kernels: Kernel[]}} Job
 * @param {string} url of JSON: {jobs, how}
 * @param {number} threads
 * @returns {Promise<number[][][]>} for each job and kernel, ms of its samples: the slowest thread's
 */
export async function time(url, threads) {
  /** @type {{jobs: Job[], how: {warmMs: number, rounds: number}}} */
  const { jobs, how } = await (await fetch(url)).json();
  const pages = Math.ceil(Math.max(...jobs.map((job) => job.bytes)) / 65536) + 1;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const values = new Float32Array(memory.buffer);
  let seed = 1;
  for (let i = 0; i < values.length; i++) values[i] = ((seed = (seed * 1103515245 + 12345) & 0x7fffffff) / 0x40000000) - 1;
  const gate = new Int32Array(new SharedArrayBuffer(8));
  const workers = Array.from({ length: threads }, () => new Worker(new URL('worker.js', import.meta.url), { type: 'module' }));
  const found = [];
  for (const job of jobs) {
    const each = await Promise.all(workers.map((worker, thread) => new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = (e) => reject(new Error(e.message));
      worker.postMessage({ memory, gate, thread, threads, how, kernels: job.kernels });
    })));
    found.push(job.kernels.map((_, k) => each[0][k].map((/** @type {number} */ ms, /** @type {number} */ i) => Math.max(ms, ...each.map((t) => t[k][i])))));
  }
  for (const worker of workers) worker.terminate();
  return found;
}
