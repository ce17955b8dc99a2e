// The runtime's files, all at once: takes {url, size} records, gives their bytes in order and reports the sum.
import { failure } from './errors.js';

/**
 * @param {{url: string, size: number}[]} files @param {string} base
 * @param {(done: number, total: number) => void} tell
 * @returns {Promise<ArrayBuffer[]>}
 */
export function fetchAll(files, base, tell) {
  const total = files.reduce((n, file) => n + file.size, 0);
  let done = 0;
  return Promise.all(
    files.map(async ({ url, size }) => {
      const bytes = await fetchOne(new URL(url, base).href, size, (more) => tell((done += more), total));
      return bytes.buffer;
    }),
  );
}

/** @param {string} url @param {number} size @param {(more: number) => void} tell */
async function fetchOne(url, size, tell) {
  const response = await fetch(url).catch((cause) => {
    throw failure('NETWORK', `${url} could not be fetched`, { url, cause });
  });
  if (!response.ok || !response.body) throw failure('NETWORK', `${url} answered ${response.status}`, { url, status: response.status });
  const bytes = new Uint8Array(size);
  let at = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.byteLength > size) break;
    bytes.set(value, at);
    at += value.byteLength;
    tell(value.byteLength);
  }
  if (at !== size) throw failure('NETWORK', `${url} gave ${at} of ${size} bytes`, { url, received: at, expected: size });
  return bytes;
}
