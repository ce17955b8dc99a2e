// Is it right? Takes the last feeds of a Runner; has the session compute them on onnx.reference too and
// shows how far the two are apart, output by output.
import { announce, el, fill } from './dom.js';
import { count, value } from './format.js';
import { isCancel } from './failure.js';

/** @typedef {import('./runner.js').Runner} Runner */
/** @typedef {{name: string, type: string, equal: boolean, maxAbs: number | null, maxRel: number | null, note: string, at: number[] | null}} Compared */

/** What is promised of float32 models: an absolute error of at most this, or a relative one of at most that. */
const ATOL = 1e-4;
const RTOL = 1e-3;

/**
 * @param {Runner} runner
 * @param {(error: unknown) => void} fail
 */
export function checkPanel(runner, fail) {
  const button = el('button', { type: 'button', onclick: check });
  const body = el('div', { role: 'status' });
  /** @type {AbortController | null} */
  let running = null;

  async function check() {
    if (running) {
      running.abort();
      return;
    }
    const feeds = runner.last?.feeds;
    if (!feeds) return;
    running = new AbortController();
    show();
    fill(
      body,
      el(
        'p',
        { class: 'soft' },
        'The reference computes the same in plain NumPy, which can take a thousand times as long…',
      ),
    );
    try {
      fill(body, ...verdict(await runner.check(feeds, running.signal)));
      announce(body.textContent ?? '');
    } catch (error) {
      fill(body);
      if (!isCancel(error)) fail(error);
    } finally {
      running = null;
      show();
    }
  }

  function show() {
    button.textContent = running ? 'Stop' : 'Compare with the reference';
    button.disabled = !runner.last;
  }

  runner.addEventListener('run', () => {
    if (button.disabled) show();
  });
  show();
  return el(
    'section',
    { class: 'panel check', 'aria-label': 'Is it right?' },
    el('div', { class: 'head' }, el('h2', {}, 'Is it right?'), button),
    el(
      'p',
      { class: 'soft' },
      'ONNX has a reference written for clarity, not for speed. It can compute the last run again and tell how far apart the two are.',
    ),
    body,
  );
}

/**
 * Within the promise? Elements near zero may be far apart relatively, large ones absolutely: either bound
 * will do.
 * @param {Compared} compared
 */
export function agrees({ equal, maxAbs, maxRel }) {
  return equal || (maxAbs !== null && maxRel !== null && (maxAbs <= ATOL || maxRel <= RTOL));
}

/** @param {readonly Compared[]} list */
function verdict(list) {
  const apart = list.filter((compared) => !agrees(compared));
  const worst = list.reduce((most, { maxAbs }) => Math.max(most, maxAbs ?? Infinity), 0);
  const saying = apart.length
    ? `${count(apart.length, 'output differs', 'outputs differ')} by more than float32 explains.`
    : worst === 0
      ? 'Every number is the same.'
      : `It agrees: the largest error is ${value(worst)}.`;
  return [
    el('p', { class: apart.length ? 'answer bad' : 'answer good' }, saying),
    el(
      'table',
      {},
      el('caption', { class: 'sr' }, 'Largest errors of each output'),
      el(
        'thead',
        {},
        el(
          'tr',
          {},
          ...['output', 'max error', 'max relative', 'where'].map((name) => el('th', { scope: 'col' }, name)),
        ),
      ),
      el(
        'tbody',
        {},
        ...list.map(({ name, equal, maxAbs, maxRel, note, at }) =>
          el(
            'tr',
            {},
            el('td', {}, el('code', {}, name)),
            el('td', { class: 'num' }, equal ? 'none' : maxAbs === null ? '–' : value(maxAbs)),
            el('td', { class: 'num' }, equal ? '' : maxRel === null ? '–' : value(maxRel)),
            el('td', { class: 'num soft' }, note || (at ? `[${at.join(', ')}]` : '')),
          ),
        ),
      ),
    ),
  ];
}
