// Session options as onnxruntime-web takes them, plus this project's own. Takes what the user wrote; gives one
// complete record or an error that names the option.
import { failure, nearestName } from './errors.js';
import { LOG_LEVELS, env, log } from './env.js';

/**
 * @typedef {(stage: string, done: number, total: number) => void} Progress
 * @typedef {{path: string, data: import('./sources.js').BytesLike}} ExternalFile
 * @typedef {'webgpu' | 'wasm' | 'reference'} Provider
 * @typedef {'cpu' | 'cpu-pinned' | 'gpu-buffer'} Location
 * @typedef {{provider: Provider, next: Provider, measured: boolean, whole?: boolean, locations: Location | Record<string, Location>, threads: number, relaxed: boolean, dims: Record<string, number>,
 *   external: ExternalFile[], progress: Progress, signal: AbortSignal | null, maxPlans: number, strict: boolean, room: boolean, convolution: 'auto' | 'direct' | 'winograd', mergeProducts: boolean, matrixSums: 'f32' | 'f16', runOn: 'auto' | 'worker', tune: import('./tuning.js').TuneOptions,
 *   maxMemoryBytes: number | undefined, name: string | undefined}} Options
 */

const KNOWN = new Set([
  'executionProviders', 'numThreads', 'freeDimensionOverrides', 'externalData', 'progress', 'signal', 'tune', 'logSeverityLevel',
  'logLevel', 'intraOpNumThreads', 'maxPlans', 'strict', 'maxMemoryBytes', 'name', 'preferredOutputLocation', 'convolution', 'runOn', 'room', 'mergeProducts', 'matrixSums',
]);
// Options of onnxruntime-web that change nothing here: taken without a word, so that code can move over.
const ACCEPTED = new Set([
  'graphOptimizationLevel', 'enableCpuMemArena', 'enableMemPattern', 'executionMode', 'logId', 'logVerbosityLevel', 'extra',
  'enableProfiling', 'profileFilePrefix', 'optimizedModelFilePath', 'enableGraphCapture', 'interOpNumThreads',
]);
const CONVOLUTIONS = /** @type {const} */ (['auto', 'direct', 'winograd']);
const SUMS = /** @type {const} */ (['f32', 'f16']);
const THREADS = /** @type {const} */ (['auto', 'worker']);
const LOCATIONS = new Set(['cpu', 'cpu-pinned', 'gpu-buffer']);
const PROVIDERS = new Set(['webgpu', 'wasm', 'reference']);
// Named by onnxruntime's users; a list that holds one of these goes on to its next entry.
const ELSEWHERE = new Set(['webnn', 'webgl', 'cpu', 'xnnpack']);

/** @param {Record<string, any>} [given] @returns {Options} */
export function readOptions(given = {}) {
  if (typeof given !== 'object' || given === null) throw bad('options', 'must be an object');
  for (const name of Object.keys(given)) {
    if (KNOWN.has(name) || ACCEPTED.has(name)) continue;
    const near = nearestName(name, KNOWN);
    throw bad(name, 'is not an option', near ? `did you mean ${near}?` : `options: ${[...KNOWN].join(', ')}`);
  }
  const level = given.logLevel ?? LOG_LEVELS[given.logSeverityLevel ?? -1];
  if (level !== undefined && !LOG_LEVELS.includes(level)) throw bad('logLevel', `is one of ${LOG_LEVELS.join(', ')}`);
  if (level !== undefined) env.logLevel = level;
  return {
    ...readProvider(given.executionProviders),
    locations: readLocations(given.preferredOutputLocation ?? 'cpu'),
    threads: readCount('numThreads', given.numThreads ?? given.intraOpNumThreads ?? 0, 0, 128),
    relaxed: env.wasm.relaxedSimd,
    dims: readDims(given.freeDimensionOverrides ?? {}),
    external: readExternal(given.externalData ?? []),
    progress: guarded(given.progress),
    signal: readSignal(given.signal),
    maxPlans: readCount('maxPlans', given.maxPlans ?? 8, 1, 1024),
    strict: Boolean(given.strict),
    room: Boolean(given.room ?? true),
    convolution: readChoice('convolution', given.convolution ?? 'auto', CONVOLUTIONS),
    mergeProducts: Boolean(given.mergeProducts ?? true),
    matrixSums: readChoice('matrixSums', given.matrixSums ?? 'f32', SUMS),
    runOn: readChoice('runOn', given.runOn ?? 'auto', THREADS),
    tune: readTune(given.tune),
    maxMemoryBytes: given.maxMemoryBytes === undefined ? undefined : readCount('maxMemoryBytes', given.maxMemoryBytes, 65536, 2 ** 32),
    name: given.name,
  };
}

/** @param {string} option @param {string} what @param {string} [hint] */
const bad = (option, what, hint) => failure('BAD_OPTION', `${option} ${what}`, { option, hint });

/**
 * @template {string} T
 * @param {string} option @param {unknown} value @param {readonly T[]} choices @returns {T}
 */
function readChoice(option, value, choices) {
  const found = choices.find((choice) => choice === value);
  if (found === undefined) throw bad(option, `is one of ${choices.join(', ')}`);
  return found;
}

/**
 * The first of the list that runs here, and what takes its place where there is no GPU.
 * @param {unknown} list @returns {{provider: Provider, next: Provider, measured: boolean}} measured: it may run on both, so runs decide
 */
function readProvider(list = ['wasm']) {
  if (!Array.isArray(list) || !list.length) throw bad('executionProviders', "is a list such as ['webgpu', 'wasm']");
  const names = list.map((entry) => (typeof entry === 'string' ? entry : /** @type {any} */ (entry)?.name));
  const wrong = names.find((name) => !PROVIDERS.has(name) && !ELSEWHERE.has(name));
  if (wrong !== undefined || names.includes(undefined)) {
    throw bad('executionProviders', `has no '${String(wrong)}'`, `one of ${[...PROVIDERS].join(', ')}`);
  }
  const known = /** @type {Provider[]} */ (names.filter((name) => PROVIDERS.has(name)));
  if (!known.length) log('warning', `none of [${names.join(', ')}] can run here; using wasm (session.backend says which ran)`);
  const [provider = 'wasm', ...rest] = known;
  return { provider, next: rest.find((name) => name !== 'webgpu') ?? 'wasm', measured: known.includes('webgpu') && known.includes('wasm') };
}

/** @param {any} given @returns {Location | Record<string, Location>} */
function readLocations(given) {
  const object = typeof given === 'object' && given !== null && !Array.isArray(given);
  const all = object ? Object.values(given) : [given];
  if (all.some((place) => !LOCATIONS.has(place))) {
    throw bad('preferredOutputLocation', `is one of ${[...LOCATIONS].join(', ')}, or an object of these by output name`);
  }
  return given;
}

/** @param {unknown} signal @returns {AbortSignal | null} */
export function readSignal(signal) {
  if (signal === undefined || signal === null) return null;
  if (typeof (/** @type {any} */ (signal).addEventListener) !== 'function') throw bad('signal', 'is an AbortSignal');
  return /** @type {AbortSignal} */ (signal);
}

/** @param {string} option @param {unknown} value @param {number} low @param {number} high */
function readCount(option, value, low, high) {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < low || value > high) {
    throw bad(option, `is an integer from ${low} to ${high}, not ${typeof value === 'string' ? `'${value}'` : String(value)}`);
  }
  return value;
}

/** @param {Record<string, unknown>} dims @returns {Record<string, number>} */
function readDims(dims) {
  if (typeof dims !== 'object' || dims === null || Array.isArray(dims)) throw bad('freeDimensionOverrides', 'is an object of sizes by name', '{ batch: 1 }');
  return Object.fromEntries(Object.entries(dims).map(([name, value]) => [name, readCount(`freeDimensionOverrides.${name}`, value, 0, 2 ** 31)]));
}

/** As in onnxruntime-web: {path, data}, or a string that is both. @param {unknown} list @returns {ExternalFile[]} */
function readExternal(list) {
  if (!Array.isArray(list)) throw bad('externalData', 'is a list of {path, data}');
  return list.map((entry) => {
    if (typeof entry === 'string') return { path: entry, data: entry };
    if (typeof entry?.path !== 'string' || entry.data === undefined) throw bad('externalData', 'takes entries {path, data}');
    return { path: entry.path.replace(/^\.\//, ''), data: entry.data };
  });
}

/** What is to be tuned, and when. @param {any} tune @returns {import('./tuning.js').TuneOptions} */
export function readTune(tune = {}) {
  if (typeof tune === 'string') tune = { mode: tune };
  if (typeof tune !== 'object' || tune === null) throw bad('tune', "is 'off', 'idle', 'now' or {mode, budgetMs, cacheUrl, share}");
  const { mode = 'off', budgetMs = 0, cacheUrl = '', share = false } = tune;
  if (!['off', 'idle', 'now'].includes(mode)) throw bad('tune.mode', "is 'off', 'idle' or 'now'");
  if (typeof budgetMs !== 'number' || !(budgetMs >= 0)) throw bad('tune.budgetMs', 'is a number of milliseconds, 0 for no limit');
  if (typeof cacheUrl !== 'string') throw bad('tune.cacheUrl', 'is the URL of a record server, or an empty string');
  if (typeof share !== 'boolean') throw bad('tune.share', 'is true where records may be reported to cacheUrl');
  return { mode, budgetMs, cacheUrl, share };
}

/** A progress callback that throws must not break the work it reports on. @param {unknown} callback @returns {Progress} */
function guarded(callback) {
  if (callback === undefined || callback === null) return () => undefined;
  if (typeof callback !== 'function') throw bad('progress', 'is a function (stage, done, total)');
  return (stage, done, total) => {
    try {
      callback(stage, done, total);
    } catch (error) {
      log('error', 'the progress callback threw', error);
    }
  };
}
