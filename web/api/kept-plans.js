// The first plan of a session, from an earlier session with the same model: kernels that were written need not be written
// again. Takes all that a plan depends on; says whether what is kept was made of exactly that. What a plan is made of:
//
// - nnjit itself, Python and their packages: `filesKey`, the digests of what is served;
// - what the compiler is told at create: options, the engine's features, the device's facts;
// - the bytes of the model that it has read, and the files' sizes. The compiler does nothing at random, so that where these
//   bytes are the same it reads the same ones again, and makes the same of them. Weights are not among them: a plan says
//   where in the file they lie;
// - the request: shapes, and values where they decide shapes.
//
// Only the first plan of a session: later ones depend on where its memory holds what. Sessions that tune from the start take
// schedules of earlier visits, and compile.
import { ArrivingFile } from './arriving.js';
import { bytecodeKey } from './bytecode-cache.js';
import { env, log } from './env.js';
import { clear, drop, load, save, sha256 } from './plan-store.js';

/**
 * @typedef {import('../engine/source.js').Bytes} Bytes
 * @typedef {import('./shelf.js').Request} Request
 * @typedef {[number, number]} Range from, to
 * @typedef {{request: string, answer: any}} KeptPlan answer: of the compiler to `prepare`
 * @typedef {{description: any, reads: Range[][], content: string, plans: KeptPlan[]}} Entry reads: of each file, what the compiler has
 *   read of it; content: a digest of these bytes
 * @typedef {{key: string, files: string, entry: Entry | null}} Place key: where the plans of a model are kept; files: what the
 *   compiler is made of
 */

/** Raised when what is kept changes its form. */
const FORMAT = 1;

/** Of one model, the latest first: sentences have many lengths. */
const MOST_PLANS = 4;

/** Where the compiler has read more of a model than that, to compare it would take as long as to compile. */
const MOST_BYTES = 8 << 20;

/** Ranges that are asked for ahead of the one that is read. */
const AHEAD = 3;

/** Code of the page's has run in Python, where it may have changed anything. */
let trusted = true;
export const distrust = () => {
  trusted = false;
};

/** Whether plans are kept: a browser that a program drives hardly comes back, and tests make the same models again and again. */
export function keeps() {
  if (env.plans === false) cleared ??= clear();
  else cleared = undefined;
  return trusted && env.plans !== false && (env.plans === true || !globalThis.navigator?.webdriver);
}

/** @type {Promise<unknown> | undefined} */
let cleared;

/** @type {Promise<string> | undefined} */
let served;

/** What the compiler is made of, as the server has it now. */
export function filesKey() {
  served ??= (async () => bytecodeKey(await (await fetch(new URL('../dist/manifest.json', import.meta.url), { cache: 'no-cache' })).json()))();
  served.catch(() => {
    served = undefined;
  });
  return served;
}

if (keeps()) void filesKey().catch(() => undefined); // there when the first model is

/**
 * What is kept of a model; null where nothing may be.
 * @param {unknown} given what the compiler is told at create, and knows of the device
 * @param {{name: string, bytes: Bytes}[]} sources the model and its external files
 * @param {AbortSignal | null} signal @param {() => Promise<string>} [filesOf] what the compiler is made of
 * @returns {Promise<Place | null>}
 */
export async function recallPlans(given, sources, signal, filesOf = filesKey) {
  if (!keeps()) return null;
  try {
    const files = await filesOf();
    const told = [FORMAT, files, given, sources.map(({ name, bytes }) => [name, sizeOf(bytes)])];
    const key = await sha256([new TextEncoder().encode(JSON.stringify(told))]);
    const entry = /** @type {Entry | undefined} */ (await load(key));
    const same = entry && entry.content === await contentOf(sources, entry.reads, signal);
    return { key, files, entry: same ? entry : null };
  } catch (error) {
    if (signal?.aborted) throw error;
    log('info', `plans are not kept: ${error}`); // no storage, no digests where the page is not secure, a file that did not come
    return null;
  }
}

/** @param {Bytes} bytes */
const sizeOf = (bytes) => (bytes instanceof Blob ? bytes.size : ArrayBuffer.isView(bytes) ? bytes.byteLength : bytes.view.byteLength);

/**
 * A digest of some ranges of files, which may be on their way still.
 * @param {{bytes: Bytes}[]} sources @param {Range[][]} reads @param {AbortSignal | null} signal
 */
async function contentOf(sources, reads, signal) {
  const waits = signal ?? new AbortController().signal;
  const parts = await Promise.all(sources.map(async ({ bytes }, n) => {
    const ranges = reads[n] ?? [];
    if (bytes instanceof Blob) {
      return Promise.all(ranges.map(async ([from, to]) => new Uint8Array(await bytes.slice(from, to).arrayBuffer())));
    }
    const file = new ArrivingFile(bytes);
    const found = [];
    for (const [i, [from, to]] of ranges.entries()) {
      await file.need(ranges.slice(i, i + 1 + AHEAD), waits);
      found.push(file.view.subarray(from, to));
    }
    return found;
  }));
  return sha256(parts.flat());
}

/**
 * A request as text: two that are the same get the same plan. Values that were not told decide nothing.
 * @param {Request} request @param {string[]} small inputs whose values were told @param {string[]} deciding those that decide shapes
 */
export function requestText({ shapes, values, exact = false }, small, deciding) {
  const decided = deciding.filter((name) => small.includes(name)).map((name) => {
    const tensor = values.get(name);
    if (!tensor) return [name];
    const { buffer, byteOffset, byteLength } = /** @type {Uint8Array} */ (/** @type {unknown} */ (tensor.data));
    return [name, tensor.type, tensor.dims, Array.from(new Uint8Array(buffer, byteOffset, byteLength))];
  });
  return JSON.stringify([Object.entries(shapes).sort(([a], [b]) => (a < b ? -1 : 1)), exact, [...small].sort(), decided]);
}

/**
 * The compiler's answer to a request, as it was; undefined where it is not kept.
 * @param {Place | null} place @param {Request} request @param {string[]} small @returns {any}
 */
export const keptAnswer = (place, request, small) =>
  place?.entry?.plans.find(({ request: text, answer }) => text === requestText(request, small, answer.valueInputs))?.answer;

/** Of an answer what is the same whenever it is given. @param {any} answer */
export function lasting(answer) {
  const { evicted, seconds, plan, ...rest } = answer;
  const { stats } = plan;
  const none = { linkMs: 0, lowerMs: 0, emitMs: { median: 0, max: 0, sum: 0, count: 0 } };
  return { ...rest, evicted: [], seconds: { bind: 0, compile: 0 }, plan: { ...plan, stats: { ...stats, ...none } } };
}

/** Whether a plan can be kept: it needs no Python while it runs. @param {any} answer of the compiler */
export const keepable = ({ plan, constants, room }) =>
  Boolean(plan) && plan.backend !== 'webgpu' && !room && !Object.keys(constants).length
  && !plan.segments.some((/** @type {any} */ each) => each.kind === 'host') && !plan.init.some((/** @type {any} */ each) => each.kind === 'host');

/**
 * Keeps a plan beside those that were kept of the same bytes.
 * @param {Place} place @param {KeptPlan} made @param {any} description of the model @param {Range[][]} reads of the compiler so far
 * @param {{bytes: Bytes}[]} sources
 * @returns {Promise<boolean>} false: the compiler has read too much of the model, or there is no room
 */
export async function keepPlan(place, made, description, reads, sources) {
  if (reads.length !== sources.length) return false; // two files of one name
  const before = place.entry;
  const all = reads.map((ranges, n) => joined([...ranges, ...(before?.reads[n] ?? [])]));
  const bytes = all.flat().reduce((sum, [from, to]) => sum + to - from, 0);
  if (bytes > MOST_BYTES) return false;
  const others = (before?.plans ?? []).filter(({ request }) => request !== made.request);
  const plans = [{ ...made, answer: lasting(made.answer) }, ...others].slice(0, MOST_PLANS);
  const saved = await save(place.key, { description, reads: all, content: await contentOf(sources, all, null), plans });
  if (keeps()) return saved;
  void drop(place.key); // all were deleted meanwhile
  return false;
}

/** Ranges that do not meet. @param {Range[]} ranges */
function joined(ranges) {
  /** @type {Range[]} */
  const found = [];
  for (const [from, to] of ranges.sort((a, b) => a[0] - b[0])) {
    const last = found.at(-1);
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else found.push([from, to]);
  }
  return found;
}
