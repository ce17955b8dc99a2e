// Sample: do two sentences mean the same? Mounts two fields; shows the cosine of their vectors in words
// and as a gauge.
import { announce, el, fill, freshId } from '../ui/dom.js';
import { batch, cosine, inWords, unitVectors } from './embedding.js';
import { MINILM, MINILM_WORDS, text as fetchText } from './vendored.js';
import { WordPiece } from './wordpiece.js';

/** @typedef {import('./index.js').Sample} Sample */

/** @type {[string, string, string][]} */
const PAIRS = [
  ['other words', 'She bought a new car.', 'She purchased a brand-new automobile.'],
  ['one word, two senses', 'The bank raised its interest rates.', 'We sat on the bank of the river.'],
  ['a related question', 'How do I reset my password?', 'How do I change my e-mail address?'],
  ['only the order differs', 'The dog bit the man.', 'The man bit the dog.'],
  [
    'far apart',
    'The bakery opens at six in the morning.',
    'Neutron stars are denser than an atom’s nucleus.',
  ],
];

/** @type {Sample} */
export const minilm = {
  id: 'minilm',
  title: 'Do these mean the same?',
  say: 'Write two sentences: the model compares what they say, not which words they use.',
  icon: 'M4 5h12v7H8l-4 3zM20 9v10l-4-3h-5',
  about: 'MiniLM-L6 sentence embeddings, 23\u00a0MB',
  model: `${MINILM}model.onnx`,

  async mount(host, bench) {
    const words = new WordPiece(await fetchText(`${MINILM_WORDS}vocab.txt`));
    const verdict = el('div', { class: 'verdict', role: 'status' });
    const sides = [0, 1].map((i) => {
      const id = freshId('sentence');
      const field = el('textarea', { id, rows: 2, value: PAIRS[0][i + 1] });
      const pieces = el('p', { class: 'pieces mono', 'aria-hidden': 'true' });
      field.addEventListener('input', later);
      return {
        field,
        pieces,
        element: el(
          'div',
          { class: 'field' },
          el('label', { for: id }, i ? 'and this one' : 'This sentence'),
          field,
          pieces,
        ),
      };
    });
    let timer = 0;
    let asked = 0;

    function later() {
      clearTimeout(timer);
      timer = setTimeout(compare, 200);
    }

    async function compare() {
      asked += 1;
      const mine = asked;
      const ids = sides.map(({ field }) => words.encode(field.value));
      sides.forEach(({ pieces }, i) =>
        fill(pieces, ...ids[i].slice(1, -1).map((id) => el('span', {}, words.tokens[id]))),
      );
      if (ids.some((list) => list.length < 3)) {
        fill(verdict, el('p', { class: 'soft' }, 'Write something in both fields.'));
        return;
      }
      try {
        const { last_hidden_state: hidden } = await bench.runner.run(batch(ids, words.pad));
        if (mine !== asked) return;
        const [a, b] = unitVectors(
          /** @type {Float32Array} */ (hidden.data),
          hidden.dims,
          ids.map((list) => list.length),
        );
        show(cosine(a, b));
      } catch (error) {
        bench.fail(error, 'compare the sentences');
      }
    }

    /** @param {number} similarity */
    function show(similarity) {
      const saying = inWords(similarity);
      const needle = el('span', { class: 'needle' });
      needle.style.insetInlineStart = `${Math.max(0, Math.min(1, similarity)) * 100}%`;
      fill(
        verdict,
        el(
          'p',
          { class: 'answer' },
          `${saying}: `,
          el('span', { class: 'num', 'data-similarity': similarity.toFixed(4) }, similarity.toFixed(2)),
        ),
        el('div', { class: 'gauge', 'aria-hidden': 'true' }, needle),
        el(
          'div',
          { class: 'ends soft', 'aria-hidden': 'true' },
          el('span', {}, 'unrelated'),
          el('span', {}, 'same meaning'),
        ),
      );
      announce(`${saying}: ${similarity.toFixed(2)}`);
    }

    fill(
      host,
      el('div', { class: 'ask two' }, ...sides.map(({ element }) => element)),
      el(
        'div',
        { class: 'row' },
        el('span', { class: 'soft' }, 'or take'),
        ...PAIRS.map(([title, a, b]) =>
          el(
            'button',
            {
              type: 'button',
              class: 'chip-button',
              onclick: () => {
                sides[0].field.value = a;
                sides[1].field.value = b;
                compare();
              },
            },
            title,
          ),
        ),
      ),
      verdict,
    );
    await compare();
    return { takes: () => false, close: () => clearTimeout(timer) };
  },
};
