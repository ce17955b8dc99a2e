// The bytes of a model, from wherever they are: a URL is streamed with progress and taken up again once where it broke
// off; buffers are put away, files and blobs wrapped. Both workers read windows of them: of shared memory at first, where
// there is room, while they come; and of a Blob as soon as the bytes are in one.
import { NnjitError, failure, throwIfAborted } from './errors.js';
import { log } from './env.js';
import { turn } from '../engine/turns.js';
import { isSharedBuffer } from '../engine/values.js';
import { versionOf } from './arriving.js';
import { Held } from './held.js';
import { PIECE, Stash, readable } from './stash.js';

/**
 * @typedef {string | URL | Request | ArrayBuffer | ArrayBufferView | Blob} BytesLike
 * @typedef {(stage: string, done: number, total: number) => void} Progress
 * @typedef {import('../engine/source.js').Bytes} Bytes  an array lies over shared memory
 */

/** A file of a model. */
export class Source {
  /** Resolves when the bytes are where they stay. @type {Promise<void>} */
  settled;
  /** Resolves when all of them have come, rejects when they will not. @type {Promise<void>} */
  arrived;
  /** Why they will not. @type {NnjitError | null} */
  lost = null;

  /** @param {Kept} kept @param {string} name @param {string} [url] @param {() => void} [stop] ends a transfer */
  constructor(kept, name, url, stop = nothing) {
    this.name = name;
    this.url = url;
    /** Lets go of the bytes: they are not needed any more. */
    this.drop = () => {
      stop();
      kept.drop();
      this.bytes = new Uint8Array(0); // whoever keeps the session that is released does not keep these
    };
    /** Nobody wants what has not come: who waits for it hears why. @param {NnjitError} reason */
    this.giveUp = (reason) => {
      if (!(kept instanceof Held) || !kept.missing) return;
      kept.fail(reason);
      stop();
    };
    /** @type {Bytes} */
    this.bytes = kept instanceof Held ? kept.arriving : kept.blob;
    this.arrived = kept instanceof Held ? kept.arrived.then(() => {
      if ('view' in this.bytes) this.bytes = this.bytes.view;
    }) : Promise.resolve();
    this.arrived.catch((error) => (this.lost = error));
    this.settled = kept instanceof Held ? this.#settle(kept) : Promise.resolve();
  }

  /** @param {Held} kept */
  async #settle(kept) {
    await this.arrived.catch(nothing);
    const blob = await kept.settled;
    if (!blob) return;
    this.bytes = blob;
    kept.forget();
  }
}

/** @typedef {import('./stash.js').Stashed | Held} Kept */

const nothing = () => undefined;

/** A fast server's bytes would keep the page's thread from all else: after so many ms messages and frames have a turn. */
const STRETCH_MS = 4;

/**
 * @param {BytesLike} from
 * @param {{signal?: AbortSignal | null, onProgress?: (done: number, total: number) => void, name?: string, early?: boolean}} [options]
 *   early: a file that is fetched into shared memory need not have come
 * @returns {Promise<Source>}
 */
export async function openSource(from, { signal, onProgress, name, early } = {}) {
  throwIfAborted(signal, 'Reading the model');
  if (typeof from === 'string' || from instanceof URL || from instanceof Request) {
    const request = from instanceof Request ? from : new Request(address(String(from)));
    const url = request.url;
    const stop = new AbortController();
    const abort = () => stop.abort(signal?.reason);
    signal?.addEventListener('abort', abort, { once: true });
    const kept = await new Promise((resolve, reject) => {
      const whole = download(request, stop.signal, onProgress, early ? resolve : nothing);
      void whole.then(resolve, reject).finally(() => signal?.removeEventListener('abort', abort));
    });
    return new Source(kept, name ?? lastPart(url), url, () => stop.abort());
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
  const bytes = isSharedBuffer(given.buffer) ? given.slice() : given;
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

/** @param {string} given */
function address(given) {
  try {
    return new URL(given, document_base());
  } catch {
    throw failure('BAD_ARGUMENT', `'${given}' is not a URL`, { hint: "InferenceSession.create('model.onnx') or create(bytes)" });
  }
}

/** The name of the file at an address. @param {string} url */
function lastPart(url) {
  const name = new URL(url).pathname.split('/').pop() || 'model.onnx';
  try {
    return decodeURIComponent(name);
  } catch {
    return name; // a % that stands for itself
  }
}

/**
 * @param {Request} request @param {AbortSignal | null | undefined} signal
 * @param {((done: number, total: number) => void) | undefined} onProgress
 * @param {(held: Held) => void} begun called when the first bytes are to come into shared memory
 * @returns {Promise<Kept>}
 */
async function download(request, signal, onProgress, begun) {
  const first = await transfer(request, signal, onProgress, false, begun);
  if (first instanceof Held || await readable(first.blob)) return first;
  // Too much lies in Blobs already, of this page or of others.
  log('warning', `${request.url}: the browser has no room for it in memory; fetching it again, to disk`);
  first.drop();
  const second = /** @type {import('./stash.js').Stashed} */ (await transfer(request, signal, onProgress, true, begun));
  if (await readable(second.blob)) return second;
  second.drop();
  throw noRoom(second.blob.size, { url: request.url });
}

/**
 * @param {Request} request @param {AbortSignal | null | undefined} signal
 * @param {((done: number, total: number) => void) | undefined} onProgress
 * @param {boolean} disk @param {(held: Held) => void} begun
 * @returns {Promise<Kept>}
 */
async function transfer(request, signal, onProgress, disk, begun) {
  /** @type {State} */
  const state = { request, begun, into: null, disk, got: 0, total: 0, version: '' };
  try {
    await readInto(state, await open(request, {}, signal), signal, onProgress);
  } catch (error) {
    if (!(error instanceof Broken)) throw gone(state, fail(error, request.url, state, signal));
    log('warning', `${request.url} broke off after ${state.got} bytes; taking it up again`);
    try {
      await resume(state, request, signal, onProgress);
    } catch (again) {
      throw gone(state, fail(again instanceof Broken ? again.reason : again, request.url, state, signal));
    }
  }
  const stash = state.into ?? new Stash(0);
  if (stash instanceof Held) return stash;
  return stash.close().catch((error) => {
    stash.drop();
    throw noRoom(state.got, { url: request.url, cause: error });
  });
}

/** Lets go of what has come. @param {State} state @param {NnjitError} error why no more will */
function gone({ into }, error) {
  if (into instanceof Held) into.fail(error);
  else into?.drop();
  return error;
}

/** A body that ended early, after headers had said the transfer was fine. */
class Broken extends Error {
  /** @param {unknown} reason */
  constructor(reason) {
    super('the transfer broke off');
    this.reason = reason;
  }
}

/**
 * @typedef {{request: Request, begun: (held: Held) => void, into: Held | Stash | null, disk: boolean, got: number, total: number,
 *   version: string}} State
 */

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
  const into = (state.into ??= begin(state, response) ?? new Stash(state.total, state.disk));
  let turned = performance.now();
  for (;;) {
    const { done, value } = await reader.read().catch((reason) => {
      throw signal?.aborted ? reason : new Broken(reason);
    });
    if (done) break;
    state.got += value.byteLength;
    if (into instanceof Held) {
      into.add(value);
      if (performance.now() - turned > STRETCH_MS) {
        await turn();
        turned = performance.now();
      }
    } else {
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

/** Shared memory for what is to come, if there is room. @param {State} state @param {Response} response */
function begin({ request, begun, disk, total, version }, { headers }) {
  const held = disk ? null : Held.of(total);
  if (!held) return null;
  const url = request.method === 'GET' && headers.get('accept-ranges') !== 'none' ? request.url : '';
  Object.assign(held.arriving, { url, headers: [...request.headers], credentials: request.credentials, version });
  begun(held);
  return held;
}

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
    if (state.into instanceof Held) again(state, state.into, response);
    else {
      state.into?.drop();
      state.into = null;
    }
    state.got = 0;
  }
  await readInto(state, response, signal, onProgress);
}

/** The whole once more, where somebody may have read what came of it. @param {State} state @param {Held} held @param {Response} response */
function again({ request, total, version }, held, response) {
  if (Number(response.headers.get('content-length')) !== total || versionOf(response) !== version) {
    throw new Error(`${request.url} changed while it was fetched`);
  }
  held.rewind();
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
