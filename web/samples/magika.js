// Sample: name the type of any file. Mounts a file picker and a text area; shows what Magika makes of the
// bytes.
import { announce, el, fill } from '../ui/dom.js';
import { pickButton } from '../ui/drop.js';
import { bytes as inBytes, percent } from '../ui/format.js';
import { barRow } from '../ui/results.js';
import { enough, features, judge, SIDE, SMALLEST } from './magika.features.js';
import { json, MAGIKA } from './vendored.js';

/** @typedef {import('./index.js').Sample} Sample */

/** Pieces of text whose type is not obvious from a name, because they have none. @type {[string, string][]} */
const SNIPPETS = [
  [
    'a function',
    `fn fib(n: u64) -> u64 {
    match n {
        0 | 1 => n,
        _ => fib(n - 1) + fib(n - 2),
    }
}

fn main() {
    for i in 0..10 {
        println!("{}", fib(i));
    }
}
`,
  ],
  [
    'a recipe',
    `FROM debian:bookworm-slim
RUN apt-get update \\
 && apt-get install -y --no-install-recommends python3 \\
 && rm -rf /var/lib/apt/lists/*
COPY . /srv
WORKDIR /srv
EXPOSE 8000
CMD ["python3", "serve.py"]
`,
  ],
  [
    'a question',
    `SELECT region, COUNT(*) AS orders, SUM(total) AS revenue
FROM sales
JOIN customers USING (customer_id)
WHERE sold_at >= DATE '2026-01-01'
GROUP BY region
ORDER BY revenue DESC;
`,
  ],
  [
    'a table',
    `city,country,population
Lima,Peru,10092000
Oslo,Norway,717710
Pune,India,3124458
Perth,Australia,2192229
Accra,Ghana,2660072
`,
  ],
];

/** @type {Sample} */
export const magika = {
  id: 'magika',
  title: 'What is this file?',
  say: 'Drop any file, whatever it is called: the model tells its type from the bytes.',
  icon: 'M6 3h8l4 4v14H6zM14 3v4h4M10 11.5a2 2 0 1 1 2.6 1.9c-.5.2-.6.6-.6 1.1m0 2.3v.2',
  about: 'Magika by Google, 3\u00a0MB',
  model: `${MAGIKA}model.onnx`,

  async mount(host, bench) {
    const [config, kinds] = await Promise.all([
      json(`${MAGIKA}config.min.json`),
      json(`${MAGIKA}content_types_kb.min.json`),
    ]);
    const verdict = el('div', { class: 'verdict', role: 'status' });
    const text = el('textarea', {
      rows: 5,
      class: 'mono',
      spellcheck: false,
      'aria-label': 'Text to name the type of',
      placeholder: 'Type or paste something here',
    });
    text.addEventListener('input', () => look(new Blob([text.value]), 'What you typed'));
    let asked = 0;

    /** @param {string} label */
    const describe = (label) => kinds[label]?.description || label;

    /**
     * @param {Blob} file
     * @param {string} name
     */
    async function look(file, name) {
      asked += 1;
      const mine = asked;
      try {
        if (!file.size) return void fill(verdict);
        const ints = await features(file);
        if (file.size < SMALLEST || !enough(ints)) {
          return void fill(
            verdict,
            el('p', {}, `${name} holds too little to tell: the model wants ${SMALLEST} bytes or more.`),
          );
        }
        const { target_label: out } = await bench.runner.run({
          bytes: { type: 'int32', data: ints, dims: [1, 2 * SIDE] },
        });
        // Typing is faster than some computers: only the latest question is answered.
        if (mine !== asked) return;
        show(judge(/** @type {Float32Array} */ (out.data), config, kinds), file, name);
      } catch (error) {
        bench.fail(error, `name the type of ${name}`);
      }
    }

    /**
     * @param {ReturnType<typeof judge>} judged
     * @param {Blob} file
     * @param {string} name
     */
    function show({ label, sure, top }, file, name) {
      const { mime_type: mime, group } = kinds[label] ?? {};
      const answer = describe(label);
      fill(
        verdict,
        el('p', { class: 'soft' }, `${name}, ${inBytes(file.size)}, is`),
        el('p', { class: 'answer' }, answer),
        el(
          'p',
          { class: 'soft' },
          sure
            ? [group, mime].filter(Boolean).join(', ')
            : `Not sure enough to say ${describe(top[0].label)} (${percent(top[0].p)}), so it keeps to what is certain.`,
        ),
        el(
          'ol',
          { class: 'bars', 'aria-label': 'Most likely types' },
          ...top.slice(0, 5).map(({ label: each, p }) => barRow(describe(each), p)),
        ),
      );
      announce(`${name}: ${answer}, ${percent(top[0].p)}`);
    }

    const [input, pick] = pickButton('Choose a file', '', (file) => look(file, file.name));
    fill(
      host,
      el(
        'div',
        { class: 'ask' },
        el('p', {}, 'Drop a file anywhere on this page, or ', pick, input),
        text,
        el(
          'div',
          { class: 'row' },
          el('span', { class: 'soft' }, 'or take'),
          ...SNIPPETS.map(([title, body]) =>
            el(
              'button',
              {
                type: 'button',
                class: 'chip-button',
                onclick: () => {
                  text.value = body;
                  look(new Blob([body]), `This (${title})`);
                },
              },
              title,
            ),
          ),
        ),
      ),
      verdict,
    );
    text.value = SNIPPETS[0][1];
    await look(new Blob([text.value]), 'This text');

    return {
      takes: (file) => !/\.onnx$/i.test(file.name),
      drop: (file) => {
        text.value = '';
        look(file, file.name);
      },
    };
  },
};
