// Outputs, summed up: shape, smallest, mean and largest value, the first few, the five highest where they
// look like class scores; each can be saved as .npy or JSON. Takes a Runner, shows its last run.
import { el, fill, save } from './dom.js';
import { count, percent, shape, value } from './format.js';
import { encode } from './npy.js';
import { kindOf, read, sizeOf } from './tensors.js';

/** @typedef {import('./api.js').Value} Value */
/** @typedef {import('./runner.js').Runner} Runner */

/**
 * @param {Runner} runner
 * @returns {{panel: HTMLElement, show: () => void}} `show` draws what was put off while the panel was out of sight
 */
export function resultsPanel(runner) {
  const body = el('div', { class: 'outputs' });
  const panel = el(
    'section',
    { class: 'panel', 'aria-label': 'What came out', hidden: true },
    el('h2', {}, 'What came out'),
    body,
  );
  /** @type {import('./runner.js').Run | null} */
  let shown = null;
  function show() {
    const run = runner.last;
    if (!run || run === shown) return;
    panel.hidden = false;
    // Folded away under a sample it costs nothing; whoever unfolds it sees the last run.
    if (!panel.checkVisibility()) return;
    // A repeat for timing gives the same numbers again: leave what is shown, and its focus, alone.
    if (!run.repeat || run.feeds !== shown?.feeds)
      fill(body, ...Object.entries(run.outputs).map(([name, output]) => card(name, output)));
    shown = run;
  }
  runner.addEventListener('run', show);
  return { panel, show };
}

/**
 * @param {string} name
 * @param {Value} output
 */
function card(name, output) {
  const { type, data, dims } = output;
  const facts = summary(output);
  const { highest, raw } = looksLikeScores(output) ? topScores(output) : { highest: [], raw: false };
  const npy = kindOf(type)?.npy && !Array.isArray(data);
  return el(
    'article',
    { class: 'output' },
    el('h3', {}, el('code', {}, name), ' ', el('span', { class: 'soft' }, `${type}, ${shape(dims)}`)),
    facts &&
      el(
        'dl',
        { class: 'facts' },
        ...facts.map(([key, text]) => el('div', {}, el('dt', {}, key), el('dd', { class: 'num' }, text))),
      ),
    highest.length > 0 &&
      el(
        'ol',
        { class: 'bars', 'aria-label': 'Highest five' },
        ...highest.map(({ index, p }) => barRow(`class ${index}`, p)),
      ),
    raw && el('small', { class: 'soft' }, 'If these are scores of classes: their softmax. The numbers themselves:'),
    el('p', { class: 'first mono' }, firstValues(output)),
    el(
      'div',
      { class: 'row' },
      npy &&
        el('button', { type: 'button', class: 'link', onclick: () => saveNpy(name, output) }, 'Save .npy'),
      el(
        'button',
        {
          type: 'button',
          class: 'link',
          onclick: () => save(`${fileName(name)}.json`, asJson(name, output), 'application/json'),
        },
        'Save JSON',
      ),
    ),
  );
}

/**
 * One labelled bar of a probability, as samples show them too.
 * @param {string} label
 * @param {number} p in 0..1
 * @param {string} [note]
 */
export function barRow(label, p, note = '') {
  const fillBar = el('span', { class: 'fill' });
  fillBar.style.inlineSize = `${Math.max(0, Math.min(1, p)) * 100}%`;
  return el(
    'li',
    {},
    el('span', { class: 'name' }, label, note && el('small', {}, note)),
    el('span', { class: 'track', 'aria-hidden': 'true' }, fillBar),
    el('span', { class: 'num' }, percent(p)),
  );
}

/**
 * @param {Value} output
 * @returns {[string, string][] | null}
 */
export function summary({ type, data }) {
  const family = kindOf(type)?.family;
  if (!data.length) return [['empty', 'no elements']];
  if (!family || family === 'string') return null;
  let low = Infinity;
  let high = -Infinity;
  let sum = 0;
  let odd = 0;
  for (let i = 0; i < data.length; i++) {
    const x = read(type, data, i);
    if (!Number.isFinite(x)) {
      odd += 1;
      continue;
    }
    if (x < low) low = x;
    if (x > high) high = x;
    sum += x;
  }
  const finite = data.length - odd;
  /** @type {[string, string][]} */
  const facts = [
    ['min', finite ? value(low) : '–'],
    ['mean', finite ? value(sum / finite) : '–'],
    ['max', finite ? value(high) : '–'],
  ];
  if (odd) facts.push(['NaN or ∞', count(odd, 'value')]);
  return facts;
}

/**
 * One row of float numbers, as wide as a list of classes.
 * @param {Value} output
 */
function looksLikeScores({ type, dims, data }) {
  const classes = dims.at(-1) ?? 0;
  return (
    kindOf(type)?.family === 'float' &&
    data.length === classes &&
    sizeOf(dims) === classes &&
    classes >= 2 &&
    classes <= 100_000
  );
}

/**
 * The five highest, as probabilities; raw scores go through a softmax first.
 * @param {Value} output
 * @returns {{highest: {index: number, p: number}[], raw: boolean}}
 */
function topScores({ type, data }) {
  const scores = Array.from({ length: data.length }, (_, i) => read(type, data, i));
  const total = scores.reduce((a, b) => a + b, 0);
  const already = scores.every((x) => x >= 0 && x <= 1) && Math.abs(total - 1) < 0.01;
  const high = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = already ? scores : scores.map((x) => Math.exp(x - high));
  const sum = already ? 1 : weights.reduce((a, b) => a + b, 0);
  const highest = weights
    .map((w, index) => ({ index, p: w / sum }))
    .sort((a, b) => b.p - a.p)
    .slice(0, 5);
  return { highest, raw: !already };
}

/** @param {Value} output */
function firstValues({ type, data }) {
  const shown = Math.min(data.length, 8);
  const texts = Array.from({ length: shown }, (_, i) => {
    const raw = data[i];
    if (typeof raw === 'string') return JSON.stringify(raw.length > 40 ? `${raw.slice(0, 40)}…` : raw);
    if (typeof raw === 'bigint') return String(raw);
    return value(read(type, data, i));
  });
  return `[${texts.join(', ')}${data.length > shown ? ', …' : ''}]`;
}

/** @param {string} name */
const fileName = (name) => name.replace(/[^\w.-]+/g, '_') || 'output';

/** @param {string} name @param {Value} output */
function saveNpy(name, { type, dims, data }) {
  const bytes = encode(type, dims, data);
  if (bytes) save(`${fileName(name)}.npy`, /** @type {BlobPart} */ (bytes));
}

/** @param {string} name @param {Value} output */
function asJson(name, { type, dims, data }) {
  const values = Array.from({ length: data.length }, (_, i) => {
    const raw = data[i];
    return typeof raw === 'string' || typeof raw === 'bigint' ? raw : read(type, data, i);
  });
  // JSON has no 64-bit integers, no NaN and no infinities: those become strings, never silently null.
  return JSON.stringify({ name, type, dims, data: values }, (_, v) =>
    typeof v === 'bigint' || (typeof v === 'number' && !Number.isFinite(v)) ? String(v) : v,
  );
}
