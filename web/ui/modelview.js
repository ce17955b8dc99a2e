// One open model on the page: its name and signature, what to try with it, and what is known of its runs.
// Takes a Runner and where the model came from; fills the section, and tells what a link to this view
// would be.
import { besidePanel } from './beside.js';
import { checkPanel } from './check.js';
import { copyFrom, el, fill } from './dom.js';
import { bytes, count } from './format.js';
import { InputsForm, signature } from './inputs.js';
import { latencyPanel } from './latency.js';
import { readLink, writeLink } from './links.js';
import { placementPanel } from './placement.js';
import { resultsPanel } from './results.js';
import { tuningPanel } from './tuning.js';

/** @typedef {import('./runner.js').Runner} Runner */
/** @typedef {import('./models.js').Origin} Origin */
/** @typedef {import('../samples/index.js').Sample} Sample */
/** @typedef {import('../samples/index.js').Mounted} Mounted */
/** @typedef {import('../samples/index.js').Bench} Bench */

/**
 * @typedef {object} Opened
 * @property {Origin} origin
 * @property {Runner} runner
 * @property {Sample | null} sample
 */

export class ModelView {
  /**
   * @param {HTMLElement} host
   * @param {Opened} opened
   * @param {{fail: Bench['fail'], second: Bench['second'], close: () => void, dims?: ReadonlyMap<string, number>, seed?: number | null}} hooks
   */
  constructor(host, opened, hooks) {
    this.opened = opened;
    this.hooks = hooks;
    this.closed = false;
    const { origin, runner, sample } = opened;
    const fail = (/** @type {unknown} */ error) => this.#fail(error, `run ${origin.name}`);
    this.copy = el(
      'button',
      { type: 'button', onclick: () => copyFrom(this.copy, this.link()) },
      'Copy link',
    );
    this.note = el('small', { class: 'soft' });
    this.form = new InputsForm(runner, { dims: hooks.dims, seed: hooks.seed, fail });
    this.stage = el('div', { class: 'stage' });
    /** @type {Mounted | null} */
    this.mounted = null;
    fill(
      host,
      el(
        'header',
        { class: 'head' },
        el(
          'div',
          {},
          el('h1', { tabIndex: -1, id: 'model-title' }, sample ? sample.title : origin.name),
          el('p', { class: 'soft' }, sample ? sample.about : this.#facts()),
        ),
        el(
          'div',
          { class: 'row' },
          this.note,
          this.copy,
          el('button', { type: 'button', onclick: hooks.close }, 'Close'),
        ),
      ),
      sample && el('section', { class: 'panel', 'aria-label': sample.title }, this.stage),
      this.#feeding(sample !== null),
      latencyPanel(runner, fail),
      besidePanel(runner, origin, (error) => this.#fail(error, `run ${origin.name} on the other library`)),
      tuningPanel(runner, (error) => this.#fail(error, `tune ${origin.name}`)),
      placementPanel(runner, (error) => this.#fail(error, `look into ${origin.name}`)),
      checkPanel(runner, (error) => this.#fail(error, `check ${origin.name}`)),
    );
    this.#relink();
  }

  /**
   * What fails after the view was closed (a run that was under way when its session was released) is
   * nobody's concern any more.
   * @type {Bench['fail']}
   */
  #fail = (error, what) => {
    if (!this.closed) this.hooks.fail(error, what);
  };

  #facts() {
    const { nodes, parameterBytes } = this.opened.runner.session.model;
    return `${count(nodes, 'node')}, ${bytes(parameterBytes)} of weights`;
  }

  /**
   * The form and the raw outputs: the main thing for a model of one's own, folded away under a sample.
   * @param {boolean} folded
   */
  #feeding(folded) {
    const { panel: results, show } = resultsPanel(this.opened.runner);
    const form = el(
      'section',
      { class: 'panel', 'aria-label': 'What goes in' },
      el('h2', {}, 'What goes in'),
      signature(this.opened.runner.session),
      this.form.element,
    );
    if (!folded) return [form, results];
    return el(
      'details',
      { class: 'raw', ontoggle: show },
      el('summary', {}, 'Feed it tensors by hand, see the raw outputs'),
      form,
      results,
    );
  }

  /** Mounts the sample's own part; a failure there leaves the rest of the view standing. */
  async start() {
    const { sample, runner } = this.opened;
    if (!sample) {
      await this.form.suggest();
      return;
    }
    try {
      this.mounted = await sample.mount(this.stage, { runner, fail: this.#fail, second: this.hooks.second });
      if (this.closed) this.mounted.close?.();
    } catch (error) {
      this.#fail(error, `set up “${sample.title}”`);
    }
  }

  link() {
    const { origin, sample } = this.opened;
    const { beside, backend } = readLink(location.search);
    return sample
      ? writeLink({ sample: sample.id, beside, backend })
      : writeLink({ model: origin.url, run: true, beside, backend, seed: this.form.seed, dims: this.form.dims });
  }

  #relink() {
    const shareable = Boolean(this.opened.sample || this.opened.origin.url);
    this.copy.disabled = !shareable;
    this.note.textContent = shareable ? '' : 'a file from disk has no address to link to';
  }

  close() {
    this.closed = true;
    this.mounted?.close?.();
  }
}
