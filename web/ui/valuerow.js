// One input of the form: what it is filled with (a recipe, values typed by hand, or a .npy file). Takes
// the input's metadata and a function that tells its present shape; holds the choice.
import { el, fill, freshId } from './dom.js';
import { count, shape, value } from './format.js';
import { generate } from './generate.js';
import { decodeAs } from './npy.js';
import { kindOf, read, sizeOf, write } from './tensors.js';

/** @typedef {import('./api.js').Metadata} Metadata */
/** @typedef {import('./api.js').Data} Data */
/** @typedef {import('./generate.js').Recipe} Recipe */
/** @typedef {Recipe['fill'] | 'edit' | 'file'} Choice */

/** Typing more values than this by hand helps nobody. */
const MOST_EDITED = 4096;

/** @type {[Choice, string][]} */
const CHOICES = [
  ['normal', 'random, bell curve'],
  ['uniform', 'random, even'],
  ['zeros', 'zeros'],
  ['ones', 'ones'],
  ['count', '0, 1, 2, …'],
  ['edit', 'values I type'],
  ['file', 'a .npy file'],
];

export class ValueRow {
  /**
   * @param {Metadata} input
   * @param {Recipe} recipe
   * @param {() => number[]} dims
   */
  constructor(input, recipe, dims) {
    this.input = input;
    this.recipe = { ...recipe };
    this.dims = dims;
    /** @type {Choice} */
    this.choice = recipe.fill;
    /** @type {{dims: number[], data: Data} | null} */
    this.file = null;
    this.size = el('span', { class: 'soft' });
    this.extra = el('div', { class: 'extra' });
    const id = freshId('fill');
    const family = kindOf(input.type)?.family;
    this.text = el('textarea', {
      rows: 3,
      spellcheck: false,
      'aria-label': `Values of ${input.name}`,
      class: 'mono',
    });
    this.text.addEventListener('input', () => this.#checkText());
    const select = el(
      'select',
      { id },
      ...CHOICES.filter(([choice]) => family !== 'string' || choice === 'edit')
        .filter(([choice]) => family === 'float' || choice !== 'normal')
        .map(([choice, label]) => el('option', { value: choice, selected: choice === this.choice }, label)),
    );
    if (family === 'string') this.choice = 'edit';
    select.addEventListener('change', () => this.#choose(/** @type {Choice} */ (select.value)));
    this.element = el(
      'div',
      // A group, so that who listens is told whose 'from' and 'to' these are.
      { class: 'value', role: 'group', 'aria-label': input.name, 'data-input': input.name },
      el('label', { for: id }, el('code', {}, input.name), ' ', this.size),
      select,
      this.extra,
    );
    this.#showExtra();
  }

  refresh() {
    this.size.textContent = `${this.input.type}, ${shape(this.file && this.choice === 'file' ? this.file.dims : this.dims())}`;
    if (this.choice === 'edit') this.#checkText();
  }

  /** No made-up value is to be higher: the last row of the table that it goes to. @param {number} high */
  limit(high) {
    if (this.recipe.high <= high) return;
    this.recipe.high = high;
    this.recipe.low = Math.min(this.recipe.low, high);
    this.#showExtra();
  }

  /** Puts the focus on what was typed or chosen by hand. */
  focus() {
    const field = this.extra.querySelector('textarea, input');
    if (field instanceof HTMLElement) field.focus();
  }

  /** Values that do not come from the seed: typed or from a file. @returns {{dims: number[], data: Data} | null} */
  given() {
    if (this.choice === 'file') {
      if (!this.file) throw new Error(`Choose a .npy file for ${this.input.name}.`);
      return this.file;
    }
    return this.choice === 'edit' ? { dims: this.dims(), data: this.#typed() } : null;
  }

  /** @param {Choice} choice */
  #choose(choice) {
    if (choice === 'edit' && !this.text.value) this.text.value = this.#draft();
    this.choice = choice;
    if (choice !== 'edit' && choice !== 'file') this.recipe.fill = choice;
    this.#showExtra();
    this.refresh();
  }

  /** What the present recipe would give, as text to start editing from. */
  #draft() {
    const dims = this.dims();
    if (sizeOf(dims) > MOST_EDITED) return '';
    const data = generate(this.input, dims, this.recipe, 1);
    const texts = Array.from({ length: data.length }, (_, i) => {
      const raw = data[i];
      return typeof raw === 'string' ? JSON.stringify(raw) : value(read(this.input.type, data, i));
    });
    return texts.join(', ');
  }

  #showExtra() {
    if (this.choice === 'uniform' || this.choice === 'normal')
      fill(this.extra, this.#bound('low', 'from'), this.#bound('high', 'to'));
    else if (this.choice === 'edit') fill(this.extra, this.text);
    else if (this.choice === 'file') fill(this.extra, this.#filePicker());
    else fill(this.extra);
  }

  /** @param {'low' | 'high'} side @param {string} label */
  #bound(side, label) {
    const id = freshId(side);
    const kind = kindOf(this.input.type);
    const input = el('input', {
      id,
      type: 'number',
      step: 'any',
      value: String(this.recipe[side]),
      'data-bound': side,
    });
    input.addEventListener('input', () => {
      const n = Number(input.value);
      const good = input.value !== '' && Number.isFinite(n) && (!kind || (n >= kind.min && n <= kind.max));
      input.setAttribute('aria-invalid', String(!good));
      if (good) this.recipe[side] = n;
    });
    return el('div', { class: 'field inline' }, el('label', { for: id }, label), input);
  }

  #filePicker() {
    const say = el('span', { class: 'soft', role: 'status' }, this.file ? shape(this.file.dims) : '');
    const input = el('input', {
      type: 'file',
      accept: '.npy',
      'aria-label': `.npy file for ${this.input.name}`,
    });
    input.addEventListener('change', async () => {
      try {
        const chosen = input.files?.[0];
        this.file = chosen ? decodeAs(await chosen.arrayBuffer(), this.input.type) : null;
        input.removeAttribute('aria-invalid');
        say.textContent = this.file ? `holds ${shape(this.file.dims)}` : '';
      } catch (error) {
        this.file = null;
        input.setAttribute('aria-invalid', 'true');
        say.textContent = error instanceof Error ? error.message : String(error);
      }
      this.refresh();
    });
    return [input, say];
  }

  #checkText() {
    try {
      this.#typed();
      this.text.removeAttribute('aria-invalid');
      this.text.title = '';
    } catch (error) {
      this.text.setAttribute('aria-invalid', 'true');
      this.text.title = error instanceof Error ? error.message : String(error);
    }
  }

  /** @returns {Data} */
  #typed() {
    const kind = kindOf(this.input.type);
    const n = sizeOf(this.dims());
    if (!kind) throw new Error(`The page cannot make ${this.input.type} values.`);
    const data = kind.make(n);
    if (kind.family === 'string') {
      const lines = quoted(this.text.value || '""');
      if (lines.length !== n && lines.length !== 1)
        throw new Error(`${this.input.name} takes ${count(n, 'quoted string')} with commas between, not ${lines.length}.`);
      for (let i = 0; i < n; i++) data[i] = String(lines[lines.length === 1 ? 0 : i]);
      return data;
    }
    const words = this.text.value.split(/[\s,;[\]]+/).filter(Boolean);
    // One value stands for all of them.
    if (words.length !== n && words.length !== 1)
      throw new Error(`${this.input.name} takes ${count(n, 'value')}, or one for all, not ${words.length}.`);
    for (let i = 0; i < n; i++) {
      const word = words[words.length === 1 ? 0 : i];
      const x = word === 'true' ? 1 : word === 'false' ? 0 : Number(word);
      if (Number.isNaN(x) && word !== 'NaN') throw new Error(`${this.input.name}: "${word}" is not a number.`);
      if (kind.family !== 'float' && (!Number.isInteger(x) || x < kind.min || x > kind.max))
        throw new Error(`${this.input.name}: ${word} does not fit ${this.input.type}.`);
      write(this.input.type, data, i, x);
    }
    return data;
  }
}

/** @param {string} text @returns {unknown[]} */
function quoted(text) {
  try {
    return JSON.parse(`[${text}]`);
  } catch {
    throw new Error('Write each string in double quotes, with commas between: "one", "two".');
  }
}
