// Where the bytes of a model wait until the workers have read them: takes bytes in order, gives a Blob. Small ones
// stay in Blobs; large ones go into a file of the origin private file system (https://fs.spec.whatwg.org), because a
// browser holds only so much in Blobs: Chromium without a profile on disk 500 MiB over all its pages, and a Blob past
// that cannot be read, or never answers.
import { log } from './env.js';

/** From here on a file: a model of this size leaves room for a few others under the browser's limit. */
const LARGE = 128 << 20;

/** Bytes are handed on in pieces of this size: fewer, larger writes take two thirds of the time of one per chunk. */
export const PIECE = 16 << 20;

/** A Blob that has not given a byte by then counts as unreadable. */
const ANSWER_MS = 5_000;

const FOLDER = 'nnjit-models';

/**
 * @typedef {{write(piece: Blob): Promise<void>, close(): Promise<Blob>, drop(): Promise<void>}} Store
 * @typedef {{blob: Blob, drop: () => void}} Stashed drop: lets go of the file, if there is one; the Blob is of no use then
 */

/** @type {Promise<void> | undefined} the first model of a visit also clears away what an earlier one left */
let sweptOnce;

/** Bytes arriving in chunks. */
export class Stash {
  /** @type {Promise<Store>} */
  #store;
  /** @type {Uint8Array[]} */
  #chunks = [];
  #waiting = 0;
  #writing = Promise.resolve();

  /** @param {number} size expected bytes, 0 if unknown @param {boolean} [disk] on disk whatever the size */
  constructor(size, disk = false) {
    this.size = size;
    this.disk = disk || size >= LARGE;
    this.#store = this.disk ? inFile(size) : Promise.resolve(inBlobs());
    this.#store.catch(() => undefined);
    if (!this.disk) sweptOnce ??= leftovers();
  }

  /** @param {Uint8Array} chunk kept, not copied. Rejects where the disk is full */
  async add(chunk) {
    this.#chunks.push(chunk);
    this.#waiting += chunk.byteLength;
    if (this.#waiting >= PIECE) await this.flush();
  }

  /** One piece is written while the next one arrives. */
  async flush() {
    const piece = new Blob(/** @type {BlobPart[]} */ (this.#chunks));
    this.#chunks = [];
    this.#waiting = 0;
    await this.#writing;
    const store = await this.#store;
    this.#writing = store.write(piece);
    this.#writing.catch(() => undefined);
  }

  /** @returns {Promise<Stashed>} */
  async close() {
    if (this.#waiting) await this.flush();
    await this.#writing;
    const store = await this.#store;
    return { blob: await store.close(), drop: () => void store.drop() };
  }

  /** Everything so far is let go. */
  drop() {
    this.#chunks = [];
    void this.#store.then((store) => store.drop()).catch(() => undefined);
  }
}

/** @returns {Store} */
function inBlobs() {
  /** @type {Blob[]} */
  let pieces = [];
  return {
    async write(piece) {
      pieces.push(piece);
    },
    async close() {
      return new Blob(pieces);
    },
    async drop() {
      pieces = [];
    },
  };
}

/** A file of this page's own; Blobs where the browser has none, or no room for it. @param {number} size @returns {Promise<Store>} */
async function inFile(size) {
  try {
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER, { create: true });
    await sweep(folder);
    const { quota = 0, usage = 0 } = await navigator.storage.estimate();
    if (quota > 0 && quota - usage < size) throw new Error(`${quota - usage} bytes are left to this origin`);
    if (!('createWritable' in FileSystemFileHandle.prototype)) throw new Error('the browser writes no files from here');
    const name = crypto.randomUUID();
    const unlock = await hold(name);
    const file = await folder.getFileHandle(name, { create: true });
    const out = await file.createWritable();
    let open = true;
    return {
      write: (piece) => out.write(piece),
      async close() {
        open = false;
        await out.close();
        return file.getFile();
      },
      async drop() {
        if (open) await out.abort().catch(() => undefined);
        await folder.removeEntry(name).catch(() => undefined);
        unlock();
      },
    };
  } catch (error) {
    log('verbose', `a large model stays in Blobs: ${error}`);
    return inBlobs();
  }
}

/** Takes the lock that says a page still uses this file; it is let go with the page. @param {string} name @returns {Promise<() => void>} */
const hold = (name) =>
  new Promise((held, failed) => {
    navigator.locks.request(`${FOLDER}/${name}`, () => new Promise((/** @type {(value?: unknown) => void} */ done) => held(done))).catch(failed);
  });

/** Nothing is made where there is nothing to clear. */
async function leftovers() {
  const folder = await navigator.storage?.getDirectory?.().then((root) => root.getDirectoryHandle(FOLDER)).catch(() => null);
  if (folder) await sweep(folder).catch(() => undefined);
}

/** Files of pages that are gone are removed. @param {FileSystemDirectoryHandle} folder */
async function sweep(folder) {
  for await (const name of /** @type {any} */ (folder).keys()) {
    await navigator.locks.request(`${FOLDER}/${name}`, { ifAvailable: true }, async (lock) => {
      if (lock) await folder.removeEntry(name).catch(() => undefined);
    });
  }
}

/** Whether bytes come out of a Blob: one that the browser had no room for looks like any other. @param {Blob} blob */
export async function readable(blob) {
  if (!blob.size) return true;
  let timer = 0;
  const late = new Promise((resolve) => {
    timer = setTimeout(() => resolve(false), ANSWER_MS);
  });
  const read = blob.slice(blob.size - 1).arrayBuffer().then(() => true, () => false);
  const good = await Promise.race([read, late]);
  clearTimeout(timer);
  return Boolean(good);
}
