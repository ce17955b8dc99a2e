// The form that feeds a model nobody wrote a demo for: one field for each open dimension, a seed, and for
// every input what it is filled with. Takes the session's input metadata; gives feeds, and runs them.
import { breakable, el, fill, freshId } from './dom.js';
import { clearFailures } from './failure.js';
import { shape } from './format.js';
import { concrete, generate, openDims, recipeFor } from './generate.js';
import { suggest } from './suggest.js';
import { ValueRow } from './valuerow.js';

/** @typedef {import('./api.js').Metadata} Metadata */
/** @typedef {import('./api.js').Values} Values */
/** @typedef {import('./runner.js').Runner} Runner */

/**
 * @typedef {object} Settings
 * @property {ReadonlyMap<string, number>} [dims] sizes asked for by a link
 * @property {number | null} [seed]
 * @property {(error: unknown) => void} fail
 */

export class InputsForm {
  /**
   * @param {Runner} runner
   * @param {Settings} settings
   */
  constructor(runner, settings) {
    this.runner = runner;
    this.settings = settings;
    /** @type {readonly Metadata[]} */
    this.inputs = runner.session.inputMetadata;
    this.dims = openDims(this.inputs);
    for (const [name, size] of settings.dims ?? []) if (this.dims.has(name)) this.dims.set(name, size);
    /** Sizes that somebody chose: by a link, or in a field. */
    this.chosen = new Set(settings.dims?.keys());
    /** @type {Map<string, HTMLInputElement>} */
    this.fields = new Map();
    this.why = el('p', { class: 'soft why', hidden: true });
    /** @type {Promise<void> | null} */
    this.suggested = null;
    this.seed = settings.seed ?? 1;
    this.rows = this.inputs.map(
      (input) => new ValueRow(input, recipeFor(input), () => concrete(input, this.dims)),
    );
    this.go = el('button', { class: 'primary', type: 'submit' }, 'Run');
    this.note = el('p', { class: 'soft', role: 'status' });
    this.element = el(
      'form',
      { class: 'inputs', noValidate: true, onsubmit: (/** @type {Event} */ e) => this.#submit(e) },
      this.#dimFields(),
      el('div', { class: 'rows' }, ...this.rows.map((row) => row.element)),
      el('div', { class: 'row' }, this.go, this.#seedField(), this.note),
    );
    runner.addEventListener('busy', () => {
      this.go.disabled = runner.busy;
      this.go.textContent = runner.busy ? 'Running…' : 'Run';
    });
    this.#changed();
  }

  #dimFields() {
    if (!this.dims.size) return null;
    const fields = [...this.dims].map(([name, size]) => {
      const id = freshId('dim');
      const input = el('input', {
        id,
        type: 'number',
        min: 0,
        max: 1e6,
        step: 1,
        required: true,
        value: String(size),
        'data-dim': name,
      });
      input.addEventListener('input', () => {
        const n = Number(input.value);
        const good = input.value !== '' && Number.isInteger(n) && n >= 0;
        input.setAttribute('aria-invalid', String(!good));
        if (!good) return;
        this.dims.set(name, n);
        this.chosen.add(name);
        this.#changed();
      });
      this.fields.set(name, input);
      return el('div', { class: 'field' }, el('label', { for: id }, breakable(name)), input);
    });
    return el(
      'fieldset',
      {},
      el('legend', {}, 'Sizes the model leaves open'),
      el('div', { class: 'fields' }, ...fields),
      this.why,
    );
  }

  /**
   * Brings sizes that nobody chose, and made-up rows of tables, to what the model's graph takes. Asked once; what it finds
   * out is no more than a better guess, so that a failure of it is left to the run to tell.
   */
  suggest() {
    this.suggested ??= suggest(this.runner.session, this.dims, this.rows).then((found) => this.#take(found), () => undefined);
    return this.suggested;
  }

  /** @param {import('./suggest.js').Suggested} found */
  #take({ dims, highest, reason }) {
    const changed = [...dims].filter(([name]) => !this.chosen.has(name));
    for (const [name, size] of changed) {
      this.dims.set(name, size);
      const field = this.fields.get(name);
      if (field) field.value = String(size);
    }
    this.why.hidden = !changed.length;
    const sizes = changed.map(([name, size]) => `${name} ${size}`).join(', ');
    fill(this.why, `Chosen to suit the model: ${sizes}.`, el('small', {}, 'With the usual size, ', breakable(reason)));
    for (const row of this.rows) row.limit(highest[row.input.name] ?? Infinity);
    this.#changed();
  }

  #seedField() {
    const id = freshId('seed');
    const input = el('input', { id, type: 'number', step: 1, value: String(this.seed) });
    input.addEventListener('input', () => {
      this.seed = Math.trunc(Number(input.value)) || 0;
      this.#changed();
    });
    const next = el(
      'button',
      {
        type: 'button',
        'aria-label': 'Another seed',
        title: 'Another seed',
        onclick: () => {
          input.value = String(this.seed + 1);
          input.dispatchEvent(new Event('input'));
        },
      },
      '⟳',
    );
    return el('div', { class: 'field inline' }, el('label', { for: id }, 'seed'), input, next);
  }

  #changed() {
    for (const row of this.rows) row.refresh();
  }

  /**
   * What the form asks for, as tensors; null where the note says what stands against it.
   * @returns {Values | null}
   */
  feeds() {
    /** @type {Values} */
    const feeds = {};
    for (const row of this.rows) {
      const { name, type } = row.input;
      try {
        const own = row.given();
        const dims = own?.dims ?? concrete(row.input, this.dims);
        feeds[name] = { type, dims, data: own?.data ?? generate(row.input, dims, row.recipe, this.seed) };
      } catch (error) {
        row.focus();
        this.note.textContent = error instanceof Error ? error.message : String(error);
        return null;
      }
    }
    return feeds;
  }

  async run() {
    this.note.textContent = '';
    await this.suggest();
    const bad = this.element.querySelector('[aria-invalid="true"]');
    if (bad instanceof HTMLElement) {
      bad.focus();
      this.note.textContent = bad.title || 'One field does not hold a number that fits.';
      return;
    }
    const feeds = this.feeds();
    if (!feeds) return;
    // What was wrong with the run before is not wrong with this one until it says so.
    clearFailures();
    try {
      await this.runner.run(feeds);
    } catch (error) {
      this.settings.fail(error);
    }
  }

  /** @param {Event} event */
  #submit(event) {
    event.preventDefault();
    this.run();
  }
}

/**
 * One line about what goes in and what comes out.
 * @param {import('../nnjit.js').InferenceSession} session
 */
export function signature(session) {
  const list = (/** @type {readonly Metadata[]} */ values) =>
    values.map((v) =>
      el(
        'li',
        {},
        el('code', {}, v.name),
        ' ',
        el('span', { class: 'soft' }, v.isTensor ? `${v.type}, ${shape(v.shape)}` : v.type),
      ),
    );
  const node = el('div', { class: 'signature' });
  fill(
    node,
    el('div', {}, el('h3', {}, 'takes'), el('ul', {}, ...list(session.inputMetadata))),
    el('div', {}, el('h3', {}, 'gives'), el('ul', {}, ...list(session.outputMetadata))),
  );
  return node;
}
