// The libraries that are timed side by side: nnjit, onnxruntime-web and, for products, TF.js. Calls are queued and only the
// last is waited for, by the wall clock.
import { settled } from './device.js';
import { numbers } from './numbers.js';

/** @type {any} */
let tf;
/** @type {any} */
let ort;

/** @param {'nnjit' | 'onnxruntime-web'} name @returns {Promise<any>} */
export async function library(name) {
  if (name !== 'nnjit') {
    await loadOrt();
    return ort;
  }
  const api = (await import(/** @type {string} */ ('/nnjit.js'))).default;
  await api.ready;
  return api;
}

/** @param {string} url */
const script = (url) => new Promise((resolve, reject) => {
  const element = Object.assign(document.createElement('script'), { src: url, onload: resolve, onerror: reject });
  document.head.append(element);
});

async function loadTf() {
  if (tf) return;
  await script('/vendor/peers/tfjs-4.22.0/tf.min.js');
  await script('/vendor/peers/tfjs-4.22.0/tf-backend-webgpu.min.js');
  tf = /** @type {any} */ (globalThis).tf;
  await tf.setBackend('webgpu');
  await tf.ready();
  if (tf.getBackend() !== 'webgpu') throw new Error(`TF.js runs on ${tf.getBackend()}`);
}

async function loadOrt() {
  if (ort) return;
  const folder = new URL('/vendor/peers/onnxruntime-web-1.30.0/', location.href).href;
  ort = await import(`${folder}ort.webgpu.min.mjs`);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = folder;
  ort.env.logLevel = 'error';
}

/**
 * Milliseconds a call over `queued` calls, of which only the last is waited for: the median of five.
 * @param {() => any} call @param {(last: any) => Promise<void>} finish @param {number} queued
 */
export async function wall(call, finish, queued) {
  await settled();
  await finish(await call());
  await finish(await call());
  const samples = [];
  for (let i = 0; i < 5; i++) {
    const start = performance.now();
    let last;
    for (let j = 0; j < queued; j++) last = await call();
    await finish(last);
    samples.push((performance.now() - start) / queued);
  }
  return samples.sort((a, b) => a - b)[2];
}

/** @param {import('./numbers.js').Product} product @param {number} queued */
export async function tfProduct({ m, k, n, right }, queued) {
  await loadTf();
  const a = tf.tensor(numbers(m * k, 0), [m, k]);
  const b = tf.tensor(numbers(k * n, 1), right === 'kn' ? [k, n] : [n, k]);
  /** @type {any[]} */
  let made = [];
  const call = () => {
    const y = tf.matMul(a, b, false, right !== 'kn');
    made.push(y);
    return y;
  };
  const finish = async () => {
    // an element read back: the queue is TF.js's own business, and this waits for all of it
    const one = tf.slice(made[made.length - 1], [0, 0], [1, 1]);
    await one.data();
    one.dispose();
    made.forEach((y) => y.dispose());
    made = [];
  };
  try {
    return await wall(call, finish, queued);
  } finally {
    a.dispose();
    b.dispose();
  }
}
