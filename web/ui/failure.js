// A problem, told plainly. Takes anything that was thrown; shows what happened, where, and what to try,
// with a report to copy and, where that helps, a button that mends it. The model that was open stays open.
import { nnjit } from './api.js';
import { byId, copyFrom, el } from './dom.js';

/**
 * @typedef {object} Told
 * @property {string} code
 * @property {string} message
 * @property {string} hint
 * @property {[string, string][]} where node, op, dtype, file and the like
 * @property {string} detail a traceback or a stack
 */

/** @typedef {{label: string, act: () => void}} Remedy */

const HIDDEN = new Set(['code', 'message', 'hint', 'name', 'traceback', 'stack', 'cause', 'fields']);

/** Words for codes, above the message. @type {Record<string, string>} */
const TITLES = {
  MODEL_FORMAT: 'That is not a whole ONNX model',
  MISSING_EXTERNAL_DATA: 'Part of the model is in another file',
  UNSUPPORTED_OPSET: 'The model speaks a newer dialect of ONNX',
  UNKNOWN_OPERATOR: 'The model uses an operator that ONNX does not define',
  UNSUPPORTED_OPERATOR: 'The model uses an operator in a form that nnjit does not know',
  INVALID_GRAPH: 'The model contradicts itself',
  SHAPE: 'These sizes do not fit together',
  DTYPE: 'This type does not fit here',
  FEED: 'An input does not fit the model',
  OUT_OF_MEMORY: 'The model is too large for this tab',
  NETWORK: 'The download did not work',
  BAD_LINK: 'This link leads to nothing here',
  ENGINE_DIED: 'The engine stopped',
  COMPILER_DIED: 'The compiler stopped',
};

/** Codes after which nothing runs until the workers are started anew. */
export const isDeath = (/** @type {string} */ code) => /_DIED$/.test(code);

/** @param {unknown} error */
export function isCancel(error) {
  const { code, name } = /** @type {{code?: string, name?: string}} */ (error ?? {});
  return code === 'ABORTED' || code === 'CANCELLED' || name === 'AbortError';
}

/**
 * @param {unknown} error
 * @returns {Told}
 */
export function tell(error) {
  if (typeof error !== 'object' || error === null)
    return { code: 'ERROR', message: String(error), hint: '', where: [], detail: '' };
  const own = /** @type {Record<string, unknown>} */ (error);
  const nested = typeof own.fields === 'object' && own.fields !== null ? own.fields : {};
  const all = { ...nested, ...own };
  /** @type {[string, string][]} */
  const where = [];
  for (const [key, value] of Object.entries(all)) {
    if (HIDDEN.has(key) || value === undefined || value === null || value === '') continue;
    where.push([key, typeof value === 'object' ? JSON.stringify(value) : String(value)]);
  }
  return {
    code: String(own.code ?? own.name ?? 'ERROR'),
    message: String(own.message ?? error),
    hint: String(own.hint ?? ''),
    where,
    detail: String(own.traceback ?? own.stack ?? ''),
  };
}

/**
 * The text a person can paste into a bug report.
 * @param {Told} told
 * @param {string} what
 */
export function report(told, what) {
  const { versions } = nnjit.env;
  return [
    `nnjit ${versions.nnjit || 'not up yet'} could not ${what}`,
    `code     ${told.code}`,
    `message  ${told.message}`,
    ...told.where.map(([key, value]) => `${key.padEnd(8)} ${value}`),
    ...(told.hint ? [`hint     ${told.hint}`] : []),
    `page     ${location.href}`,
    `browser  ${navigator.userAgent}`,
    `cores    ${navigator.hardwareConcurrency}, isolated ${globalThis.crossOriginIsolated}, WebGPU ${'gpu' in navigator}`,
    `pyodide  ${versions.pyodide || 'not up yet'}`,
    ...(told.detail ? ['', told.detail] : []),
  ].join('\n');
}

/**
 * @param {unknown} error
 * @param {string} what ends the sentence "could not …"
 * @param {{kept?: string, remedies?: Remedy[]}} [more] `kept` says what still works
 */
export function showFailure(error, what, { kept = '', remedies = [] } = {}) {
  const told = tell(error);
  const host = byId('failures');
  const close = () => {
    card.remove();
    byId('main').focus({ preventScroll: true });
  };
  const copy = el('button', { type: 'button' }, 'Copy report');
  // Made when it is asked for: the compiler, whose version it names, may not have been up when this went wrong.
  const whole = el('pre', { tabIndex: 0 }, report(told, what));
  const renew = () => {
    whole.textContent = report(told, what);
  };
  copy.onclick = () => copyFrom(copy, report(told, what));
  const card = el(
    'article',
    { class: 'failure', role: 'alert', tabIndex: -1, 'data-code': told.code },
    el(
      'div',
      { class: 'head' },
      el('h2', {}, TITLES[told.code] ?? `Could not ${what}`),
      el(
        'button',
        { class: 'quiet', type: 'button', onclick: close, 'aria-label': 'Dismiss this problem' },
        '✕',
      ),
    ),
    el('p', { class: 'message' }, told.message),
    told.hint && el('p', { class: 'hint' }, el('strong', {}, 'What to try: '), told.hint),
    kept && el('p', {}, kept),
    el(
      'dl',
      { class: 'where' },
      el('div', {}, el('dt', {}, 'code'), el('dd', {}, told.code)),
      ...told.where.map(([key, value]) => el('div', {}, el('dt', {}, key), el('dd', {}, value))),
    ),
    el(
      'div',
      { class: 'row' },
      ...remedies.map(({ label, act }) =>
        el(
          'button',
          {
            type: 'button',
            class: 'primary',
            onclick: () => {
              close();
              act();
            },
          },
          label,
        ),
      ),
      copy,
    ),
    el('details', { ontoggle: renew }, el('summary', {}, 'The whole report'), whole),
  );
  card.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') close();
  });
  // Two problems at once are worth seeing; a pile of them is not.
  while (host.children.length > 2) host.lastElementChild?.remove();
  host.prepend(card);
  card.scrollIntoView({ block: 'nearest' });
  card.focus({ preventScroll: true });
}

export function clearFailures() {
  byId('failures').replaceChildren();
}
