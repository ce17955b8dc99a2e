// A page that is used as the study says while its sessions are tuned; gives every run and every event with its time.
// Made for use.py.

/**
 * @typedef {{url: string, python: string[], backend: 'wasm' | 'webgpu', adapter: string, threads: number, mode: 'idle' | 'now', hold: boolean, control: boolean, beforeMs: number, quietMs: number, tuneMs: number,
 *   leastMs: number, afterMs: number, gapMs: number, bare: boolean, burst: number, pauseMs: number, sessions: number, changeMs: number, records: string}} How
 *   python: what the compiler's Python does first. adapter: what its name must contain, where the backend is a GPU. hold: candidates are tried but none may win, so that runs differ by the tuner's
 *   doing only. control: it is not even started: what differs then is the machine's doing. beforeMs: use without tuning first; 0: tuning is asked for at create. quietMs: it
 *   is paused so long after the first run, which came with what earlier visits found. tuneMs, leastMs: at most and at least so long
 *   with tuning. gapMs: between runs (after tuning at most AFTER_GAP_MS); bare: there are gaps only while it tunes, so that a thread's
 *   way out of its sleep is no part of the speed before and after; burst, pauseMs: so many runs, then a pause. sessions: how
 *   many are used in turn. changeMs: after so long comes the next of the shapes. records: text of tuning.export() to start from
 * @typedef {{at: number, ms: number, shape: number}} Run
 */

const AFTER_GAP_MS = 20;

/**
 * The model's feeds and sessions of it, once the study's Python has run, and the adapter's name.
 * @param {Pick<How, 'url' | 'python' | 'threads' | 'hold' | 'sessions' | 'backend' | 'adapter'>} how
 * @param {Record<string, any>} more options of each session
 */
export async function opened(how, more) {
  const { decode, readBundle } = await import('/t/support/values.js');
  const nnjit = await import('/nnjit.js');
  nnjit.env.wasm.numThreads = how.threads;
  await nnjit.ready;
  const { head, blob } = readBundle(await (await fetch(how.url)).arrayBuffer());
  /** @type {Record<string, any>[]} */
  const feeds = head.shapes.map((/** @type {Record<string, any>} */ given) =>
    Object.fromEntries(Object.entries(given).map(([n, value]) => [n, decode(value, blob, nnjit.Tensor)])));
  for (const code of how.python) await nnjit.python(code);
  if (how.hold) await nnjit.python('import nnjit.tune.search as search; search.WIN = 0.0');
  const options = { executionProviders: [how.backend], ...more };
  /** @type {any[]} */
  const sessions = [];
  for (let i = 0; i < how.sessions; i++) sessions.push(await nnjit.InferenceSession.create(head.job.url, options));
  const adapter = how.backend === 'webgpu' ? await nameOf(nnjit.env.webgpu) : '';
  if (!adapter.includes(how.adapter)) throw new Error(`the adapter is '${adapter}'; '${how.adapter}' is expected`);
  return { feeds, sessions, adapter };
}

/** @param {How} how */
export async function live(how) {
  const { feeds, sessions, adapter } = await opened(how, how.beforeMs ? {} : { tune: { mode: how.mode } });
  if (how.records) await sessions[0].tuning.import(how.records);
  const origin = performance.now();
  /** @type {Record<string, any>[]} */
  const events = [];
  sessions.forEach((session, n) => session.tuning.subscribe((/** @type {any} */ event) => {
    const { kind, name, text, verdict, ratio, gained, detail } = event;
    const { key, ms, emitMs, compileMs, busyMs, adopted, count } = detail;
    events.push({ at: performance.now() - origin, session: n, kind, name, text, verdict, ratio, gained, key, ms, emitMs, compileMs, busyMs, adopted, count });
  }));
  /** @type {Run[]} */
  let runs = [];
  let done = 0;
  const shape = () => (how.changeMs ? Math.floor((performance.now() - origin) / how.changeMs) % feeds.length : 0);
  let tuning = false;
  let over = false;
  const once = async () => {
    const which = shape();
    const start = performance.now();
    await sessions[done % sessions.length].run(feeds[which]);
    const end = performance.now();
    runs.push({ at: start - origin, ms: end - start, shape: which });
    done += 1;
    const usual = how.burst && done % how.burst === 0 ? how.pauseMs : how.gapMs;
    const gap = over ? Math.min(how.gapMs, AFTER_GAP_MS) : usual;
    if (gap && (tuning || !how.bare)) await pause(gap);
  };
  /** @param {number} ms @param {() => boolean} [more] */
  const use = async (ms, more = () => true) => {
    const until = performance.now() + ms;
    runs = [];
    while (performance.now() < until && more()) await once();
    return runs;
  };
  await once();
  const first = runs[0];
  let before = await use(0);
  if (how.quietMs) {
    for (const session of sessions) await session.tuning.pause();
    before = await use(how.quietMs);
    for (const session of sessions) await session.tuning.start({ mode: how.mode });
  } else if (how.beforeMs) {
    await use(300);
    before = await use(how.beforeMs);
    if (!how.control) for (const session of sessions) await session.tuning.start({ mode: how.mode });
  }
  const began = performance.now();
  const busy = () => how.control || performance.now() - began < how.leastMs || sessions.some((s) => s.tuning.status().running || s.tuning.status().state === 'waiting');
  tuning = true;
  const during = await use(how.tuneMs, busy);
  const status = sessions.map((session) => session.tuning.status());
  const tunedMs = performance.now() - began;
  for (const session of sessions) await session.tuning.pause();
  tuning = false;
  over = true;
  await use(300);
  const after = await use(how.afterMs);
  const records = await sessions[0].tuning.export();
  const facts = sessions[0].tuning.facts;
  if (sessions.some(({ backend }) => backend !== how.backend)) throw new Error(`it ran on ${sessions.map(({ backend }) => backend)}`);
  for (const session of sessions) await session.release();
  return { first, before, during, after, status, tunedMs, events, records, facts, adapter };
}

/** @param {{device?: GPUDevice}} webgpu @returns {Promise<string>} */
async function nameOf({ device }) {
  const info = /** @type {any} */ (device)?.adapterInfo ?? {};
  return `${info.vendor} ${info.architecture} ${info.description}`.toLowerCase();
}

/** @param {number} ms @returns {Promise<void>} */
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
