// What is happening between "open" and "it runs": one row a stage with its own figures, and a way to stop.
// Takes the API's (stage, done, total) reports; returns nothing, shows them.
import { announce, el, fill } from './dom.js';
import { bytesOf, count, ms } from './format.js';

/** @typedef {(done: number, total: number) => string} Say */

/** In the order a person sees them. @type {Record<string, {label: string, say: Say}>} */
const STAGES = {
  runtime: {
    label: 'Start the compiler',
    say: (done, total) => (total > 1000 ? bytesOf(done, total) : steps(done, total)),
  },
  model: { label: 'Fetch the model', say: bytesOf },
  parse: {
    label: 'Read the model',
    say: (done, total) => (total > 1 ? `${count(done, 'node')} of ${total}` : ''),
  },
  compile: {
    label: 'Write the kernels',
    say: (done, total) => (total > 1 ? `kernel ${done} of ${total}` : ''),
  },
  load: {
    label: 'Hand over weights',
    say: (done, total) => (total > 1000 ? bytesOf(done, total) : steps(done, total)),
  },
  run: { label: 'First run', say: () => '' },
};

/** @param {number} done @param {number} total */
const steps = (done, total) => (total > 1 ? `step ${done} of ${total}` : '');

/** A panel that comes and goes within this many milliseconds only startles. */
const PATIENCE = 150;

/** @typedef {{row: HTMLLIElement, meter: HTMLProgressElement, text: HTMLElement, began: number, ended: number}} Row */

export class Progress {
  /** @param {HTMLElement} host */
  constructor(host) {
    this.host = host;
    /** @type {Map<string, Row>} */
    this.rows = new Map();
    this.list = el('ol', { class: 'stages' });
    this.title = el('h2', { id: 'progress-title' });
    this.timer = 0;
    this.opening = false;
    this.stop = el('button', { type: 'button' }, 'Cancel');
    fill(host, el('div', { class: 'head' }, this.title, this.stop), this.list);
  }

  /**
   * @param {string} title
   * @param {() => void} cancel
   * @param {boolean} opening a model, shown at once; a run is shown only if it takes long enough to be seen
   */
  start(title, cancel, opening) {
    this.opening = opening;
    this.rows.clear();
    fill(this.list);
    this.title.textContent = title;
    this.stop.textContent = 'Cancel';
    this.stop.disabled = false;
    this.stop.onclick = () => {
      // The work ends at its next safe point: say that the wish was heard.
      this.stop.textContent = 'Cancelling…';
      this.stop.disabled = true;
      cancel();
    };
    clearTimeout(this.timer);
    if (opening) this.#show();
    else this.timer = setTimeout(() => this.#show(), PATIENCE);
  }

  #show() {
    this.host.hidden = false;
    announce(this.title.textContent ?? '');
    // A run whose kernels are all there has one stage: itself.
    if (!this.rows.size && !this.opening) this.report('run', 0, 0);
  }

  /**
   * @param {string} stage
   * @param {number} done
   * @param {number} total 0 when it is not known
   */
  report(stage, done, total) {
    const now = performance.now();
    let row = this.rows.get(stage);
    if (!row) row = this.#add(stage, now);
    const known = STAGES[stage];
    const finished = total > 0 && done >= total;
    if (total > 0) {
      row.meter.max = total;
      row.meter.value = done;
    }
    const figures = known ? known.say(done, total) : steps(done, total);
    if (finished && !row.ended) {
      row.ended = now;
      row.row.className = 'done';
    } else if (!finished && row.ended) {
      // A stage can come back (a second file, a second shape): it runs again rather than lie about its end.
      row.ended = 0;
      row.row.className = 'now';
    }
    if (stage === 'load' && finished) this.report('run', 0, 0);
    row.text.textContent = row.ended
      ? [figures, took(row)].filter(Boolean).join(', ')
      : figures || '…';
  }

  /** @param {string} stage @param {number} now @returns {Row} */
  #add(stage, now) {
    const label = STAGES[stage]?.label ?? stage;
    const meter = el('progress', { 'aria-label': label, max: 1 });
    const text = el('span', { class: 'num' });
    const row = el('li', { class: 'now', 'data-stage': stage }, el('span', {}, label), meter, text);
    const order = Object.keys(STAGES).indexOf(stage);
    const after = [...this.list.children].find(
      (other) => Object.keys(STAGES).indexOf(other.getAttribute('data-stage') ?? '') > order,
    );
    this.list.insertBefore(row, order < 0 ? null : (after ?? null));
    announce(label);
    const made = { row, meter, text, began: now, ended: 0 };
    this.rows.set(stage, made);
    return made;
  }

  end() {
    clearTimeout(this.timer);
    this.host.hidden = true;
  }
}

/**
 * How long a stage took; nothing for one that was over when it was first heard of (the compiler boots with the page).
 * @param {{began: number, ended: number}} row
 */
function took({ began, ended }) {
  return ended - began >= 1 ? ms(ended - began) : '';
}
