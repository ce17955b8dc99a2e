// The page itself: what is open, what is on its way in, and what happens when either changes. Everything
// that is shown lives in the other files here; this one decides.
import { nnjit } from './api.js';
import { showCapabilities } from './capabilities.js';
import { announce, byId, el, fill, svg } from './dom.js';
import { listen } from './drop.js';
import { clearFailures, isCancel, isDeath, showFailure, tell } from './failure.js';
import { readLink } from './links.js';
import { fromAddress, fromFiles, open } from './models.js';
import { ModelView } from './modelview.js';
import { Progress } from './progress.js';
import { Runner } from './runner.js';
import { themeButton } from './theme.js';
import { samples } from '../samples/index.js';

/** @typedef {import('./models.js').Origin} Origin */
/** @typedef {import('./runner.js').Watch} Watch */
/** @typedef {import('../samples/index.js').Sample} Sample */
/** @typedef {{run?: boolean, seed?: number | null, dims?: ReadonlyMap<string, number>}} Wish */

const progress = new Progress(byId('progress'));

/** The model that is open; replaced only once the next one works. @type {ModelView | null} */
let view = null;
/**
 * What the progress panel shows: a model on its way in, or a run whose kernels are being made.
 * @type {{abort: AbortController, opening: boolean} | null}
 */
let job = null;
/** Models a sample opened beside its own, by address. @type {Map<string, Promise<Runner>>} */
const seconds = new Map();

/**
 * Shows progress under `title` until done() is called; the button, Escape or a newer job cancels. A run
 * never cancels a model that is
 * being opened: it goes on unseen beside it.
 * @param {string} title
 * @param {boolean} [opening]
 * @returns {Watch}
 */
function watch(title, opening = false) {
  const abort = new AbortController();
  const mine = { abort, opening };
  if (opening || !job?.opening) {
    job?.abort.abort();
    job = mine;
    progress.start(title, () => abort.abort(), opening);
  }
  return {
    signal: abort.signal,
    progress: (stage, done, total) => {
      if (job === mine && !abort.signal.aborted) progress.report(stage, done, total);
    },
    done: () => {
      if (job !== mine) return;
      job = null;
      progress.end();
    },
  };
}

/**
 * @param {Origin} origin
 * @param {Wish} [wish] what a link asks for
 * @param {Sample | null} [sample] whose model it is
 */
async function openModel(origin, { run = false, seed, dims } = {}, sample = null) {
  clearFailures();
  const title = sample ? `“${sample.title}”` : origin.name;
  const watched = watch(`Opening ${title}`, true);
  let opened;
  try {
    opened = await open(origin, { signal: watched.signal, report: watched.progress });
  } catch (error) {
    if (isCancel(error)) announce('Cancelled');
    else fail(sample ? unfetched(error) : error, `open ${origin.name}`, origin, sample);
    return;
  } finally {
    watched.done();
  }
  if (watched.signal.aborted) {
    // Cancelled in the last instant, or another model was asked for meanwhile.
    opened.release();
    return;
  }
  const runner = new Runner(opened, () => watch(`First run of ${title}`));
  await show(
    new ModelView(byId('model'), { origin, runner, sample }, { fail, second, close, dims, seed }),
    run,
  );
}

/**
 * @param {ModelView} next
 * @param {boolean} run
 */
async function show(next, run) {
  const before = view;
  view = next;
  if (before) letGo(before);
  byId('model').hidden = false;
  document.body.classList.add('has-model');
  const { origin, sample, runner } = next.opened;
  Reflect.set(globalThis, 'session', runner.session);
  document.title = `${sample?.title ?? origin.name}: nnjit`;
  markSample(sample);
  byId('model-title').focus({ preventScroll: true });
  announce(`${sample?.title ?? origin.name} is open`);
  await next.start();
  if (run) await next.form.run();
}

/**
 * Gives back what a view held, the further models of its sample included.
 * @param {ModelView} before
 */
function letGo(before) {
  before.close();
  before.opened.runner.session.release();
  for (const found of seconds.values())
    found.then(
      ({ session }) => session.release(),
      () => undefined,
    );
  seconds.clear();
}

function close() {
  const before = view;
  view = null;
  if (before) letGo(before);
  Reflect.deleteProperty(globalThis, 'session');
  byId('model').hidden = true;
  byId('model').replaceChildren();
  document.body.classList.remove('has-model');
  document.title = 'nnjit: run a neural network in this page';
  markSample(null);
  byId('drop').focus();
}

/**
 * Another model for the sample that is open; kept for its next use.
 * @param {string} url
 * @returns {Promise<Runner>}
 */
function second(url) {
  let found = seconds.get(url);
  if (!found) {
    const origin = fromAddress(url);
    const watched = watch(`Opening ${origin.name}`, true);
    found = open(origin, { signal: watched.signal, report: watched.progress })
      .then((session) => new Runner(session, () => watch(`First run of ${origin.name}`)))
      .finally(watched.done);
    found.catch(() => seconds.delete(url));
    seconds.set(url, found);
  }
  return found;
}

/**
 * @param {unknown} error
 * @param {string} what
 * @param {Origin} [origin] of the model that could not be opened
 * @param {Sample | null} [sample] whose model it is
 */
function fail(error, what, origin, sample = null) {
  if (isCancel(error)) {
    announce('Cancelled');
    return;
  }
  const { code, where } = tell(error);
  /** @type {import('./failure.js').Remedy[]} */
  const remedies = [];
  if (isDeath(code)) remedies.push({ label: 'Restart the engine', act: restart });
  else if (code === 'NETWORK' && origin) remedies.push({ label: 'Try again', act: () => openModel(origin, {}, sample) });
  const file = origin?.files[0];
  // One that begins like a model and breaks off later needs no naming.
  if (code === 'MODEL_FORMAT' && file && !where.some(([key, at]) => key === 'offset' && at !== '0')) remedies.push({ label: 'What is this file?', act: () => name(file) });
  showFailure(error, what, { kept: isDeath(code) ? '' : stillOpen(), remedies });
}

/** A link that names nothing. */
function unknownLink() {
  const [message, hint] = link.sample
    ? [`There is no sample '${link.sample}'.`, `Samples: ${samples.map(({ id }) => id).join(', ')}.`]
    : [`'${link.model}' is not an address.`, 'A link is ?model=URL&run=1, with the address of an .onnx file.'];
  return Object.assign(new Error(message), { code: 'BAD_LINK', hint });
}

/** A model that comes with the page's server, which did not find it: the server fetches them, not the page. @param {unknown} error */
function unfetched(error) {
  const { code, fields, message } = /** @type {any} */ (error);
  if (code !== 'NETWORK' || fields?.status !== 404) return error;
  const hint = "this sample's files are not there yet: run python3 serve.py models, then try again";
  return Object.assign(new Error(message), { code, fields, hint });
}

/** What a failure leaves as it was, in a sentence; '' where nothing was open. */
function stillOpen() {
  if (!view) return '';
  const { origin, runner, sample } = view.opened;
  return `${sample?.title ?? origin.name} is still open${runner.last ? ' and still runs' : ''}.`;
}

/** A file that is no model still has an answer here: Magika tells what it is. @param {File} file */
async function name(file) {
  await openSample(samples[0]);
  view?.mounted?.drop?.(file);
}

async function restart() {
  announce('Starting the engine again');
  try {
    await nnjit.restart();
    view?.opened.runner.forget();
    seconds.clear();
    announce('The engine runs again');
  } catch (error) {
    fail(error, 'restart the engine');
  }
}

/** @param {Sample} sample @param {Wish} [wish] */
async function openSample(sample, wish = {}) {
  if (view?.opened.sample === sample) {
    byId('model-title').focus();
    return;
  }
  await openModel(fromAddress(sample.model), { ...wish, run: false }, sample);
}

/** @param {Sample | null} open */
function markSample(open) {
  for (const item of byId('samples').children) item.toggleAttribute('aria-current', false);
  if (open) byId('samples').querySelector(`[data-sample="${open.id}"]`)?.setAttribute('aria-current', 'true');
}

/** @param {File[]} files */
function takeFiles(files) {
  const [file] = files;
  if (view?.mounted?.drop && files.length === 1 && view.mounted.takes(file)) {
    view.mounted.drop(file);
    return;
  }
  try {
    openModel(fromFiles(files));
  } catch (error) {
    fail(error, 'open what was dropped');
  }
}

fill(
  byId('samples'),
  ...samples.map((sample) =>
    el(
      'li',
      { 'data-sample': sample.id },
      el(
        'button',
        { type: 'button', onclick: () => openSample(sample) },
        el(
          'span',
          { class: 'glyph', 'aria-hidden': 'true' },
          svg(
            'svg',
            {
              viewBox: '0 0 24 24',
              fill: 'none',
              stroke: 'currentColor',
              'stroke-width': 1.7,
              'stroke-linecap': 'round',
              'stroke-linejoin': 'round',
            },
            svg('path', { d: sample.icon }),
          ),
        ),
        el('strong', {}, sample.title),
        el('span', { class: 'say' }, sample.say, el('span', { class: 'size' }, sample.about)),
      ),
    ),
  ),
);

listen({ files: takeFiles, url: (url) => openModel(fromAddress(url)) });
window.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') job?.abort.abort();
});
themeButton(byId('theme'));
showCapabilities();

console.info(
  '%cnnjit%c is here as an API too: nnjit.help() says how, and `session` is the model that is open.',
  'font-weight: bold',
  '',
);

const link = readLink(location.search);
const asked = samples.find((sample) => sample.id === link.sample);
if (asked) openSample(asked, link);
else if (link.model && URL.canParse(link.model, document.baseURI)) openModel(fromAddress(link.model), link);
else if (link.sample || link.model) fail(unknownLink(), 'open what the link names');
