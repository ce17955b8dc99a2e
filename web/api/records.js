// The shared kernel database, from the page: a device class's records as lines of text, and reports of one's own.
// Nothing here is needed: every failure costs the records and a note in the log. Python reads and judges the lines.
import { log } from './env.js';

/** Limits of what a server may send, and how long one may wait for it. */
export const LIMITS = { timeoutMs: 5000, pointerBytes: 16 * 1024, classBytes: 4 * 1024 * 1024, shards: 16, records: 64, reportBytes: 200 * 1024 };

/** After a failure a server is left alone for this long. */
const PAUSE_MS = 60_000;

/** @type {Map<string, Promise<string[]>>} one download for all sessions of the page */
const downloads = new Map();

/**
 * The best known records of a device class, for sessions to try; [] when there are none or they cannot be had.
 * @param {string} cacheUrl the server's address: what `records/v1/` is relative to
 * @param {string} device a class's name, as `deviceClass()` gives it
 * @returns {Promise<string[]>} records, a line of JSON each, not yet validated
 */
export function sharedRecords(cacheUrl, device) {
  const key = `${cacheUrl} ${device}`;
  let download = downloads.get(key);
  if (!download) {
    download = fetchClass(cacheUrl, device).catch((cause) => {
      log('info', `no shared records from ${cacheUrl}: ${cause?.message ?? cause}`);
      setTimeout(() => downloads.delete(key), PAUSE_MS);
      return [];
    });
    downloads.set(key, download);
  }
  return download;
}

/**
 * Reports records. Call it only where the user has agreed to that: `tune.share` is off by default.
 * @param {string} cacheUrl @param {string[]} lines records, a line of JSON each
 * @returns {Promise<number>} how many the server kept; 0 when it could not be reached
 */
export async function reportRecords(cacheUrl, lines) {
  let kept = 0;
  try {
    const url = address(cacheUrl, 'report');
    for (const some of batches(lines)) {
      const body = `{"format":1,"records":[${some.join(',')}]}`;
      const text = await ask(url, LIMITS.pointerBytes, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
      kept += Number(JSON.parse(text).kept) || 0;
    }
  } catch (cause) {
    log('info', `records were not reported to ${cacheUrl}: ${/** @type {Error} */ (cause)?.message ?? cause}`);
  }
  return kept;
}

/** Lines in groups that a server takes at once: by number and by size (records are ASCII). @param {string[]} lines */
function batches(lines) {
  /** @type {string[][]} */
  const groups = [];
  let bytes = Infinity;
  for (const line of lines) {
    const group = groups.at(-1);
    bytes += line.length + 1;
    if (group && bytes < LIMITS.reportBytes && group.length < LIMITS.records) {
      group.push(line);
    } else {
      groups.push([line]);
      bytes = line.length;
    }
  }
  return groups;
}

/** @param {string} cacheUrl @param {string} device @returns {Promise<string[]>} */
async function fetchClass(cacheUrl, device) {
  const shards = readPointer(await ask(address(cacheUrl, device), LIMITS.pointerBytes, { cache: 'no-cache' }));
  const total = shards.reduce((n, shard) => n + shard.bytes, 0);
  if (total > LIMITS.classBytes) throw new Error(`the class has ${total} bytes, over ${LIMITS.classBytes}`);
  // a shard that was replaced since the pointer was read is missing; the others still serve
  const texts = await Promise.allSettled(shards.map(({ hash, bytes }) => ask(address(cacheUrl, `${device}/${hash}.jsonl`), bytes)));
  const good = texts.flatMap((text) => (text.status === 'fulfilled' ? [text.value] : []));
  if (shards.length && !good.length) throw /** @type {PromiseRejectedResult} */ (texts[0]).reason;
  return good.flatMap((text) => text.split('\n')).filter(Boolean);
}

/** {"format": 1, "shards": {"": {hash, bytes, count}}}, and nothing else. @param {string} text @returns {{hash: string, bytes: number}[]} */
function readPointer(text) {
  const { format, shards } = JSON.parse(text) ?? {};
  const list = Object.values(typeof shards === 'object' && shards ? shards : {});
  const right = list.every((shard) => /^[0-9a-f]{32}$/.test(shard?.hash) && Number.isInteger(shard.bytes) && shard.bytes >= 0);
  if (format !== 1 || typeof shards !== 'object' || list.length > LIMITS.shards || !right) throw new Error('its answer is not understood');
  return list;
}

/** @param {string} cacheUrl @param {string} path @returns {string} */
function address(cacheUrl, path) {
  const base = new URL(cacheUrl, globalThis.location?.href);
  if (!base.pathname.endsWith('/')) base.pathname += '/';
  if (!/^https?:$/.test(base.protocol)) throw new Error(`${base.protocol} is not http or https`);
  return new URL(`records/v1/${path}`, base).href;
}

/**
 * The text behind an address; an error for another status, more than `limit` bytes, or no end in time. Nothing that
 * names the user goes along: no cookies, no referrer.
 * @param {string} url @param {number} limit @param {RequestInit} [options]
 * @returns {Promise<string>}
 */
async function ask(url, limit, options) {
  const response = await fetch(url, {
    ...options, credentials: 'omit', referrerPolicy: 'no-referrer', redirect: 'error', signal: AbortSignal.timeout(LIMITS.timeoutMs),
  });
  if (!response.ok || !response.body) throw new Error(`${url} answered ${response.status}`);
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const reader = response.body.getReader();
  let text = '';
  for (let got = 0; ; ) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    got += value.byteLength;
    if (got > limit) {
      await reader.cancel();
      throw new Error(`${url} is longer than ${limit} bytes`);
    }
    text += decoder.decode(value, { stream: true });
  }
}
