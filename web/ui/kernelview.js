// One step in full: its numbers, its schedule and the code that was written for it. Takes a step's number;
// asks the session.
import { breakable, copyFrom, el, fill } from './dom.js';
import { bytes, count, gflops, ms } from './format.js';

/** @typedef {import('./runner.js').Runner} Runner */

/** Texts of a kernel in the order a reader wants them; whatever else the compiler tells follows. @type {[string, string][]} */
const TEXTS = [
  ['spec', 'What it computes'],
  ['loops', 'Loops'],
  ['listing', 'WebAssembly'],
  ['listingBefore', 'WebAssembly before tuning'],
  ['wgsl', 'WGSL'],
];
const FACTS = new Set([
  'step',
  'name',
  'kernel',
  'nodes',
  'tiles',
  'parallel',
  'flops',
  'bytes',
  'key',
  'codeBytes',
  'schedule',
  'scheduleBefore',
]);

export class KernelView {
  /**
   * @param {Runner} runner
   * @param {(error: unknown) => void} fail
   */
  constructor(runner, fail) {
    this.runner = runner;
    this.fail = fail;
    this.element = el('dialog', { class: 'kernel', 'aria-label': 'Kernel' });
    // A click on the backdrop is a click on the dialog itself, outside its content.
    this.element.addEventListener('click', (event) => {
      if (event.target === this.element) this.element.close();
    });
  }

  /**
   * @param {number} step
   * @param {{ms: number, firstMs?: number} | null} time firstMs: before it was tuned
   */
  async open(step, time) {
    try {
      const kernel = await this.runner.session.kernel(step);
      fill(this.element, this.#content(kernel, time));
      this.element.showModal();
    } catch (error) {
      this.fail(error);
    }
  }

  /**
   * @param {Record<string, any>} kernel
   * @param {{ms: number, firstMs?: number} | null} time
   */
  #content(kernel, time) {
    /** @type {[string, string][]} */
    const facts = [
      ['nodes', [...new Set([kernel.nodes].flat())].join(', ')],
      [
        'tiles',
        `${count(kernel.tiles, 'tile')}${kernel.parallel ? ', shared among threads' : ', one thread'}`,
      ],
      [
        'work',
        kernel.flops ? operations(kernel.flops) : '',
      ],
      ['memory', kernel.bytes ? `${bytes(kernel.bytes)} read and written` : ''],
      ['code', kernel.codeBytes ? bytes(kernel.codeBytes) : ''],
      ['time', time ? `${ms(time.ms)}${kernel.flops ? `, ${gflops(kernel.flops, time.ms)}` : ''}` : ''],
      ['before tuning', time?.firstMs && kernel.scheduleBefore ? ms(time.firstMs) : ''],
    ];
    const rest = Object.keys(kernel).filter(
      (key) => !FACTS.has(key) && !TEXTS.some(([known]) => known === key),
    );
    const texts = [...TEXTS, ...rest.map((key) => /** @type {[string, string]} */ ([key, key]))]
      .map(([key, label]) => ({ label, text: asText(kernel[key]) }))
      .filter(({ text }) => text);
    return el(
      'div',
      { class: 'inside' },
      el(
        'div',
        { class: 'head' },
        el('h2', { class: 'mono' }, breakable(kernel.kernel || kernel.name)),
        el(
          'button',
          { type: 'button', class: 'quiet', 'aria-label': 'Close', onclick: () => this.element.close() },
          '✕',
        ),
      ),
      el(
        'dl',
        { class: 'where' },
        ...facts
          .filter(([, text]) => text)
          .map(([key, text]) => el('div', {}, el('dt', {}, key), el('dd', {}, breakable(text)))),
      ),
      schedules(asText(kernel.schedule), asText(kernel.scheduleBefore)),
      ...texts.map(({ label, text }) => this.#listing(label, text)),
    );
  }

  /**
   * @param {string} label
   * @param {string} text
   */
  #listing(label, text) {
    const copy = el('button', { type: 'button', class: 'link copy' }, 'copy');
    copy.onclick = () => copyFrom(copy, text);
    // Short texts are read at once; a listing of thousands of lines waits until it is wanted.
    return el(
      'details',
      { open: text.split('\n').length < 40 },
      el('summary', {}, label, ' ', el('small', {}, count(text.split('\n').length, 'line'))),
      el('div', { class: 'listing' }, el('pre', { tabIndex: 0 }, text), copy),
    );
  }
}

/**
 * The schedule as its steps; beside it the one before tuning, what only one of them has marked.
 * @param {string} now
 * @param {string} before '' if it serves as it was compiled
 */
function schedules(now, before) {
  if (!now) return null;
  const [mine, theirs] = [now, before].map((text) => text.split(/ · |\n/).filter(Boolean));
  const list = (/** @type {string} */ label, /** @type {string[]} */ own, /** @type {string[]} */ other) =>
    el(
      'div',
      {},
      el('h3', {}, label),
      el('ol', { class: 'steps' }, ...own.map((step) => el('li', { class: before && !other.includes(step) ? 'changed' : '' }, step))),
    );
  return el(
    'section',
    { class: 'schedules' },
    list(before ? 'Schedule now' : 'Schedule', mine, theirs),
    before && list('Before tuning', theirs, mine),
  );
}

/** @param {number} n */
const operations = (n) =>
  n < 1e6 ? count(n, 'operation') : `${(n / 1e6).toFixed(n > 1e7 ? 0 : 2)} million operations`;

/** @param {unknown} told */
function asText(told) {
  if (told === undefined || told === null || told === '') return '';
  if (typeof told === 'string') return told;
  if (Array.isArray(told) && told.every((line) => typeof line === 'string')) return told.join('\n');
  return JSON.stringify(told, null, 2);
}
