// The bytes of a model, from wherever they are, as one Blob: a URL is streamed with progress and taken up again
// once where it broke off; buffers, files and blobs are wrapped. The Blob is what both workers read windows of.
import { NnjitError, failure, throwIfAborted } from './errors.js';
import { log } from './env.js';

/**
 * @typedef {string | URL | Request | ArrayBuffer | ArrayBufferView | Blob} BytesLike
 * @typedef {(stage: string, done: number, total: number) => void} Progress
 * @typedef {{blob: Blob, name: string, url?: string}} Source
 */

/** Chunks are gathered into Blobs of this size, which the browser may keep out of the page's own memory. */
const PART_BYTES = 32 << 20;

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
    const blob = await download(request, signal, onProgress);
    return { blob, url, name: name ?? lastPart(url) };
  }
  if (from instanceof Blob) {
    onProgress?.(from.size, from.size);
    return { blob: from, name: name ?? (from instanceof File ? from.name : 'model.onnx') };
  }
  if (from instanceof ArrayBuffer || ArrayBuffer.isView(from)) {
    // A Blob cannot be made of shared memory: such bytes are copied out first.
    const shared = globalThis.SharedArrayBuffer !== undefined && ArrayBuffer.isView(from) && from.buffer instanceof SharedArrayBuffer;
    const bytes = shared ? new Uint8Array(from.buffer, from.byteOffset, from.byteLength).slice() : from;
    const blob = new Blob([/** @type {BlobPart} */ (bytes)]);
    onProgress?.(blob.size, blob.size);
    return { blob, name: name ?? 'model.onnx' };
  }
  throw failure('BAD_ARGUMENT', `A model is a URL, ArrayBuffer, typed array, Blob or File, not ${describe(from)}`, {
    hint: "InferenceSession.create('model.onnx') or create(bytes)",
  });
}

/** @param {unknown} value */
const describe = (value) => (value === null ? 'null' : (/** @type {any} */ (value)?.constructor?.name ?? typeof value));

/** A page resolves against its own address, a worker against its script. */
const document_base = () => globalThis.document?.baseURI ?? globalThis.location.href;

/** @param {string} url */
const lastPart = (url) => decodeURIComponent(new URL(url).pathname.split('/').pop() || 'model.onnx');

/**
 * @param {Request} request @param {AbortSignal | null | undefined} signal
 * @param {((done: number, total: number) => void) | undefined} onProgress
 */
async function download(request, signal, onProgress) {
  const state = { parts: /** @type {Blob[]} */ ([]), got: 0, total: 0, version: '' };
  try {
    await readInto(state, await open(request, {}, signal), signal, onProgress);
  } catch (error) {
    if (!(error instanceof Broken)) throw fail(error, request.url, state, signal);
    log('warning', `${request.url} broke off after ${state.got} bytes; taking it up again`);
    try {
      await resume(state, request, signal, onProgress);
    } catch (again) {
      throw fail(again instanceof Broken ? again.reason : again, request.url, state, signal);
    }
  }
  return new Blob(state.parts);
}

/** A body that ended early, after headers had said the transfer was fine. */
class Broken extends Error {
  /** @param {unknown} reason */
  constructor(reason) {
    super('the transfer broke off');
    this.reason = reason;
  }
}

/** @typedef {{parts: Blob[], got: number, total: number, version: string}} State */

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
  /** @type {Uint8Array[]} */
  let chunks = [];
  let waiting = 0;
  const gather = () => {
    if (chunks.length) state.parts.push(new Blob(/** @type {BlobPart[]} */ (chunks)));
    chunks = [];
    waiting = 0;
  };
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((reason) => {
        throw signal?.aborted ? reason : new Broken(reason);
      });
      if (done) break;
      chunks.push(value);
      waiting += value.byteLength;
      state.got += value.byteLength;
      if (waiting >= PART_BYTES) gather();
      onProgress?.(state.got, state.total);
    }
  } finally {
    gather();
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
  if (response.status !== 206) Object.assign(state, { parts: [], got: 0 });
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
