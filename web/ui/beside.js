// The open model on another library in the same tab: both timed in turn, and how far their outputs are apart. Takes a Runner
// and where its model came from. Only on a page opened with ?beside=1, from a server that has that library.
import { nnjit } from './api.js';
import { announce, el, fill } from './dom.js';
import { ms, value } from './format.js';
import { readLink } from './links.js';
import { quantile } from './runner.js';

/** @typedef {import('./runner.js').Runner} Runner */
/** @typedef {import('./models.js').Origin} Origin */
/** @typedef {import('./api.js').Values} Values */
/** @typedef {{run: (feeds: any) => Promise<Record<string, any>>, release: () => Promise<void>}} Session */
/** @typedef {{ours: number[], theirs: number[], apart: number}} Compared ms of each run, and the largest difference of any output */

/** Its folder in web/vendor/; empty until somebody asks serve.py for it. */
export const PEER = 'peers/onnxruntime-web-1.30.0';
const NAME = PEER.replace(/.*\/(.*)-/, '$1 ');

const WARM = 3;
const ROUNDS = 15;
/** A slow model gets fewer rounds, three at least. */
const LIMIT_MS = 10_000;
/** Threads of either library look for work a while before they sleep; nobody is timed against such. */
const ASLEEP_MS = 15;

/**
 * @param {Runner} runner
 * @param {Origin} origin
 * @param {(error: unknown) => void} fail
 */
export function besidePanel(runner, origin, fail) {
  if (!readLink(location.search).beside) return null;
  const button = el('button', { type: 'button', onclick: begin }, 'Run both');
  const body = el('div', { role: 'status' });

  let comparing = false;
  const ready = () => {
    button.disabled = comparing || runner.busy || !runner.last;
  };

  async function begin() {
    const feeds = runner.last?.feeds;
    if (!feeds) return;
    comparing = true;
    ready();
    fill(body, el('p', { class: 'soft' }, `${NAME} loads the model…`));
    try {
      const found = await compare(runner, origin, feeds);
      fill(body, ...verdict(found));
      announce(body.textContent ?? '');
    } catch (error) {
      fill(body);
      fail(error);
    } finally {
      comparing = false;
      ready();
    }
  }

  ready();
  runner.addEventListener('busy', ready);
  return el(
    'section',
    { class: 'panel beside', 'aria-label': `Beside ${NAME}` },
    el('div', { class: 'head' }, el('h2', {}, `Beside ${NAME}`), button),
    el(
      'p',
      { class: 'soft' },
      'The same model with the same inputs, in this tab, with as many threads. Both warm up, then run in turn.',
    ),
    body,
  );
}

/**
 * @param {Runner} runner
 * @param {Origin} origin
 * @param {Values} feeds
 * @returns {Promise<Compared>}
 */
async function compare(runner, origin, feeds) {
  const { Tensor, session } = await peer(origin, runner.session.backend === 'webgpu' ? 'webgpu' : 'wasm');
  try {
    /** @param {any} Kind */
    const made = (Kind) => Object.fromEntries(Object.entries(feeds).map(([name, { type, data, dims }]) => [name, new Kind(type, data, [...dims])]));
    const calls = [
      { own: true, feeds: made(nnjit.Tensor), session: /** @type {Session} */ (runner.session) },
      { own: false, feeds: made(Tensor), session },
    ].map((side) => ({ ...side, times: /** @type {number[]} */ ([]) }));
    /** @type {Record<string, any>[]} */
    const outputs = [];
    for (const side of calls) for (let i = 0; i < WARM; i++) outputs[side.own ? 0 : 1] = await side.session.run(side.feeds);
    const end = performance.now() + LIMIT_MS;
    for (let round = 0; round < ROUNDS && (round < 3 || performance.now() < end); round++) {
      for (const side of round % 2 ? calls.toReversed() : calls) {
        await new Promise((resolve) => setTimeout(resolve, ASLEEP_MS));
        const start = performance.now();
        await side.session.run(side.feeds);
        side.times.push(performance.now() - start);
      }
    }
    return { ours: calls[0].times, theirs: calls[1].times, apart: await furthest(outputs[0], outputs[1]) };
  } finally {
    await session.release();
  }
}

/**
 * A session of the other library.
 * @param {Origin} origin
 * @param {'wasm' | 'webgpu'} provider
 * @returns {Promise<{Tensor: any, session: Session}>}
 */
async function peer(origin, provider) {
  const folder = new URL(`../vendor/${PEER}/`, import.meta.url).href;
  let library;
  try {
    library = await import(`${folder}ort.${provider}.min.mjs`);
  } catch (cause) {
    const hint = `“python3 serve.py vendor ${provider === 'webgpu' ? 'bench-gpu' : 'bench'}” fetches it to the machine that serves this page`;
    throw Object.assign(new Error(`This server has no ${NAME}.`), { code: 'NOT_AVAILABLE', hint, cause });
  }
  library.env.wasm.numThreads = (await nnjit.device()).threads;
  library.env.wasm.wasmPaths = folder;
  const [model, ...data] = await Promise.all(origin.files.map(async (file) => new Uint8Array(await file.arrayBuffer())));
  const session = await library.InferenceSession.create(model ?? origin.url, {
    executionProviders: [provider],
    logSeverityLevel: 3,
    ...(data.length ? { externalData: data.map((bytes, i) => ({ path: origin.files[i + 1].name, data: bytes })) } : {}),
  });
  return { Tensor: library.Tensor, session };
}

/** The largest difference of two elements, NaN where outputs cannot be subtracted. @param {Record<string, any>} ours @param {Record<string, any>} theirs */
async function furthest(ours, theirs) {
  let most = 0;
  for (const [name, output] of Object.entries(ours)) {
    const [mine, other] = [await output.getData(), await theirs[name].getData()];
    if (mine.length !== other.length || mine.constructor !== other.constructor || typeof mine[0] === 'string') return NaN;
    for (let i = 0; i < mine.length; i++) {
      const apart = Math.abs(Number(mine[i]) - Number(other[i]));
      if (!(apart <= most)) most = Object.is(mine[i], other[i]) ? most : apart;
    }
  }
  return most;
}

/** @param {Compared} compared */
function verdict({ ours, theirs, apart }) {
  const [mine, other] = [quantile(ours, 0.5), quantile(theirs, 0.5)];
  const figure = (/** @type {string} */ label, /** @type {string} */ text, lead = '') =>
    el('div', { class: lead }, el('dt', {}, label), el('dd', { class: 'num' }, text));
  const span = (/** @type {number[]} */ times) => `${ms(Math.min(...times))} to ${ms(Math.max(...times))}`;
  return [
    el(
      'dl',
      { class: 'figures' },
      figure(`time of ${NAME} over nnjit’s`, `${(other / mine).toFixed(2)}×`, 'lead'),
      figure('nnjit', ms(mine)),
      figure(NAME, ms(other)),
      figure('largest difference', value(apart)),
    ),
    el('p', { class: 'soft' }, `Medians of ${ours.length} runs each: ${span(ours)}, and ${span(theirs)}.`),
  ];
}
