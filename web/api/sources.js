// The bytes of a model, from wherever they are: a URL is streamed with progress and taken up again once where it broke
// off; buffers are put away, files and blobs wrapped. Both workers read windows of them: of shared memory at first, where
// there is room, and of a Blob as soon as the bytes are in one.
import { NnjitError, failure, throwIfAborted } from './errors.js';
import { log } from './env.js';
import { Held } from './held.js';
import { PIECE, Stash, readable } from './stash.js';

/**
 * @typedef {string | URL | Request | ArrayBuffer | ArrayBufferView | Blob} BytesLike
 * @typedef {(stage: string, done: number, total: number) => void} Progress
 * @typedef {Blob | Uint8Array} Bytes  an array lies over shared memory
 */

/** A file of a model. */
export class Source {
  /** Resolves when the bytes are where they stay. @type {Promise<void>} */
  settled;

  /** @param {Kept} kept @param {string} name @param {string} [url] */
  constructor(kept, name, url) {
    this.name = name;
    this.url = url;
    /** Lets go of the bytes: they are not needed any more. */
    this.drop = () => kept.drop();
    /** @type {Bytes} */
    this.bytes = kept instanceof Held ? kept.view : kept.blob;
    this.settled = kept instanceof Held ? kept.settled.then((blob) => {
      if (!blob) return;
      this.bytes = blob;
      kept.forget();
    }) : Promise.resolve();
  }
}

/** @typedef {import('./stash.js').Stashed | Held} Kept */

const nothing = () => undefined;

/**
 * @param {BytesLike} from
 * @param {{signal?: AbortSignal | null, onProgress?: (done: number, total: number) => void, name?: string}} [options]
 * @returns {Promise<Source>}
 */
export async function openSource(from, { signal, onProgress, name } = {}) {
  throwIfAborted(signal, 'Reading the model');
  if (typeof from === 'string' || from instanceof URL || from instanceof Request) {
    const request = from instanceof Request ? from : new Request(new URL(String(from), document_base()));
    const url = request.url;
    return new Source(await download(request, signal, onProgress), name ?? lastPart(url), url);
  }
  if (from instanceof Blob) {
    onProgress?.(from.size, from.size);
    return new Source({ blob: from, drop: nothing }, name ?? (from instanceof File ? from.name : 'model.onnx'));
  }
  if (from instanceof ArrayBuffer || ArrayBuffer.isView(from)) {
    const bytes = ArrayBuffer.isView(from) ? new Uint8Array(from.buffer, from.byteOffset, from.byteLength) : new Uint8Array(from);
    const kept = await wrap(bytes);
    onProgress?.(bytes.byteLength, bytes.byteLength);
    return new Source(kept, name ?? 'model.onnx');
  }
  throw failure('BAD_ARGUMENT', `A model is a URL, ArrayBuffer, typed array, Blob or File, not ${describe(from)}`, {
    hint: "InferenceSession.create('model.onnx') or create(bytes)",
  });
}

/** Bytes of the caller, put away. @param {Uint8Array} given @returns {Promise<Kept>} */
async function wrap(given) {
  const held = Held.of(given.byteLength);
  if (held) {
    held.add(given);
    return held;
  }
  // A Blob cannot be made of shared memory: such bytes are copied out first.
  const shared = globalThis.SharedArrayBuffer !== undefined && given.buffer instanceof SharedArrayBuffer;
  const bytes = shared ? given.slice() : given;
  for (const disk of [false, true]) {
    const stash = new Stash(bytes.byteLength, disk);
    for (let at = 0; at < bytes.byteLength; at += PIECE) await stash.add(bytes.subarray(at, at + PIECE));
    const stashed = await stash.close();
    if (await readable(stashed.blob)) return stashed;
    stashed.drop();
  }
  throw noRoom(bytes.byteLength, {});
}

/** @param {number} size @param {Record<string, unknown>} facts */
const noRoom = (size, facts) =>
  failure('OUT_OF_MEMORY', `The browser has no room to keep the model's ${size} bytes`, {
    ...facts,
    needed: size,
    hint: 'close other pages or free space on the disk; give the model as a File, which needs no room',
  });

/** @param {unknown} value */
const describe = (value) => (value === null ? 'null' : (/** @type {any} */ (value)?.constructor?.name ?? typeof value));

/** A page resolves against its own address, a worker against its script. */
const document_base = () => globalThis.document?.baseURI ?? globalThis.location.href;

/** @param {string} url */
const lastPart = (url) => decodeURIComponent(new URL(url).pathname.split('/').pop() || 'model.onnx');

/**
 * @param {Request} request @param {AbortSignal | null | undefined} signal
 * @param {((done: number, total: number) => void) | undefined} onProgress
 * @returns {Promise<Kept>}
 */
async function download(request, signal, onProgress) {
  const first = await transfer(request, signal, onProgress, false);
  if (first instanceof Held || await readable(first.blob)) return first;
  // Too much lies in Blobs already, of this page or of others.
  log('warning', `${request.url}: the browser has no room for it in memory; fetching it again, to disk`);
  first.drop();
  const second = /** @type {import('./stash.js').Stashed} */ (await transfer(request, signal, onProgress, true));
  if (await readable(second.blob)) return second;
  second.drop();
  throw noRoom(second.blob.size, { url: request.url });
}

/**
 * @param {Request} request @param {AbortSignal | null | undefined} signal
 * @param {((done: number, total: number) => void) | undefined} onProgress
 * @param {boolean} disk
 * @returns {Promise<Kept>}
 */
async function transfer(request, signal, onProgress, disk) {
  /** @type {State} */
  const state = { into: null, disk, got: 0, total: 0, version: '' };
  try {
    await readInto(state, await open(request, {}, signal), signal, onProgress);
  } catch (error) {
    if (!(error instanceof Broken)) {
      state.into?.drop();
      throw fail(error, request.url, state, signal);
    }
    log('warning', `${request.url} broke off after ${state.got} bytes; taking it up again`);
    try {
      await resume(state, request, signal, onProgress);
    } catch (again) {
      state.into?.drop();
      throw fail(again instanceof Broken ? again.reason : again, request.url, state, signal);
    }
  }
  const stash = state.into ?? new Stash(0);
  if (stash instanceof Held) return stash;
  return stash.close().catch((error) => {
    stash.drop();
    throw noRoom(state.got, { url: request.url, cause: error });
  });
}

/** A body that ended early, after headers had said the transfer was fine. */
class Broken extends Error {
  /** @param {unknown} reason */
  constructor(reason) {
    super('the transfer broke off');
    this.reason = reason;
  }
}

/** @typedef {{into: Held | Stash | null, disk: boolean, got: number, total: number, version: string}} State */

/**
 * @param {Request} request @param {Record<string, string>} headers @param {AbortSignal | null | undefined} signal
 * @param {RequestCache} [cache]
 */
async function open(request, headers, signal, cache = request.cache) {
  const all = new Headers(request.headers);
  for (const [key, value] of Object.entries(headers)) all.set(key, value);
  const response = await fetch(new Request(request, { headers: all, cache }), { signal: signal ?? null });
  if (!response.ok) {
    throw failure('NETWORK', `${request.url} answered ${response.status} ${response.statusText}`, {
      url: request.url,
      status: response.status,
      received: 0,
      hint: response.status === 404 ? 'check the address of the model' : 'try again later',
    });
  }
  return response;
}

/**
 * @param {State} state @param {Response} response @param {AbortSignal | null | undefined} signal
 * @param {((done: number, total: number) => void) | undefined} onProgress
 */
async function readInto(state, response, signal, onProgress) {
  const encoded = (response.headers.get('content-encoding') ?? 'identity') !== 'identity';
  const length = Number(response.headers.get('content-length') ?? 0);
  // The length of a compressed body says nothing about the bytes that come out of it.
  state.total = !encoded && length ? state.got + length : 0;
  state.version = versionOf(response);
  const reader = response.body?.getReader();
  if (!reader) throw new Broken(new Error('an answer without a body'));
  const into = (state.into ??= (state.disk ? null : Held.of(state.total)) ?? new Stash(state.total, state.disk));
  for (;;) {
    const { done, value } = await reader.read().catch((reason) => {
      throw signal?.aborted ? reason : new Broken(reason);
    });
    if (done) break;
    state.got += value.byteLength;
    if (into instanceof Held) into.add(value);
    else {
      await into.add(value).catch((cause) => {
        void reader.cancel().catch(nothing);
        throw noRoom(state.total || state.got, { cause });
      });
    }
    onProgress?.(state.got, state.total);
  }
  if (state.total && state.got < state.total) throw new Broken(new Error(`${state.got} of ${state.total} bytes came`));
  onProgress?.(state.got, state.got);
}

/** What tells one content from another: the ETag, or where a foreign server does not expose it, the date. @param {Response} response */
const versionOf = ({ headers }) => headers.get('etag') ?? headers.get('last-modified') ?? '';

/**
 * The rest of a broken transfer by a Range request; the whole anew where the server takes none or the file changed.
 * @param {State} state @param {Request} request @param {AbortSignal | null | undefined} signal
 * @param {((done: number, total: number) => void) | undefined} onProgress
 */
async function resume(state, request, signal, onProgress) {
  const ranged = state.got > 0 && state.total > 0;
  // No If-Range: a foreign server would have to allow that header beforehand. The answer is compared instead.
  // No cache either: it holds part of the broken whole, and would put this together with it.
  let response = await open(request, ranged ? { Range: `bytes=${state.got}-` } : {}, signal, 'no-store');
  if (response.status === 206) {
    const rest = Number(response.headers.get('content-length') ?? 0);
    if (state.got + rest !== state.total || versionOf(response) !== state.version) {
      await response.body?.cancel();
      response = await open(request, {}, signal, 'no-store');
    }
  }
  if (response.status !== 206) {
    state.into?.drop();
    Object.assign(state, { into: null, got: 0 });
  }
  await readInto(state, response, signal, onProgress);
}

/** @param {unknown} error @param {string} url @param {State} state @param {AbortSignal | null | undefined} signal */
function fail(error, url, state, signal) {
  if (signal?.aborted) return failure('ABORTED', `Fetching ${url} was cancelled`, { url, received: state.got });
  if (error instanceof NnjitError) return error;
  const of = state.total ? ` of ${state.total}` : '';
  return failure(
    'NETWORK',
    state.got ? `${url} broke off after ${state.got}${of} bytes` : `${url} could not be fetched`,
    {
      url,
      received: state.got,
      expected: state.total || undefined,
      cause: error,
      hint: 'check the connection and that the server allows this page to read it (CORS), then try again',
    },
  );
}
