// Where each node ran: a strip with one block a step, wide where time went, and a table that can be
// filtered. Takes a Runner; asks the session for its placement after each cold run and for times on
// request.
import { announce, breakable, el, fill, freshId } from './dom.js';
import { count, ms, percent } from './format.js';
import { KernelView } from './kernelview.js';
import { blocks } from './strip.js';
import { rowsOf, WHERE } from './placed.js';

/** @typedef {import('./runner.js').Runner} Runner */
/** @typedef {import('./placed.js').Row} Row */

/** Rows drawn before "show all" is asked for. */
const FIRST_ROWS = 12;
const PLACES = { webgpu: 'the GPU', wasm: 'WebAssembly', reference: 'the reference' };

/**
 * @param {Runner} runner
 * @param {(error: unknown) => void} fail
 */
export function placementPanel(runner, fail) {
  const dialog = new KernelView(runner, fail);
  const saying = el('p', {});
  const strip = el('div', { class: 'strip' });
  const body = el('tbody');
  const more = el('button', {
    type: 'button',
    class: 'link',
    onclick: () => {
      limit = Infinity;
      table();
    },
  });
  const time = el('button', { type: 'button', onclick: profile }, 'Time each step');
  const filterId = freshId('filter');
  const words = el('input', {
    id: filterId,
    type: 'search',
    placeholder: 'node, operator or kernel',
    oninput: () => table(),
  });
  const kinds = el('div', { class: 'row kinds', role: 'group', 'aria-label': 'Show' });
  const note = el('p', { class: 'soft', role: 'status' });
  const why = el('p', { class: 'soft', hidden: true });
  const panel = el(
    'section',
    { class: 'panel placement', 'aria-label': 'Where it ran', hidden: true },
    el('div', { class: 'head' }, el('h2', {}, 'Where it ran'), time),
    saying,
    why,
    strip,
    note,
    el(
      'div',
      { class: 'row filter' },
      kinds,
      el('div', { class: 'field inline' }, el('label', { for: filterId, class: 'sr' }, 'Filter'), words),
    ),
    el(
      'table',
      {},
      el('caption', { class: 'sr' }, 'Steps with the nodes fused into them, and nodes that are no step'),
      el(
        'thead',
        {},
        el(
          'tr',
          {},
          el('th', { scope: 'col' }, 'what'),
          el('th', { scope: 'col', class: 'wide' }, 'nodes'),
          el('th', { scope: 'col' }, 'where'),
          el('th', { scope: 'col', class: 'right' }, 'time'),
        ),
      ),
      body,
    ),
    more,
    dialog.element,
  );
  /** @type {Row[]} */
  let rows = [];
  let chosen = '';
  let limit = FIRST_ROWS;
  let shown = '';

  function refresh() {
    const { backend, backendReason } = runner.session;
    why.textContent = backendReason ? `On ${PLACES[backend]}: ${backendReason}.` : '';
    why.hidden = !backendReason;
    // The plan is another one only when the shapes or the backend are; a timed table stays until then.
    const now = `${backend} ${runner.shapes}`;
    if (now === shown) return;
    shown = now;
    rows = rowsOf(runner.session.placement());
    panel.hidden = rows.length === 0;
    note.textContent = '';
    draw();
  }

  async function profile() {
    time.disabled = true;
    time.textContent = 'Timing…';
    try {
      const profiled = await runner.session.profile({ repeats: 10 });
      if (!('steps' in profiled)) return;
      const times = new Map(profiled.steps.map((step) => [step.step, step]));
      for (const row of rows) row.time = row.step === null ? null : (times.get(row.step) ?? null);
      const total = rows.reduce((sum, row) => sum + (row.time?.ms ?? 0), 0);
      note.textContent = total
        ? `The steps add up to ${ms(total)} a run; the table is sorted by time.`
        : 'Each step takes less than the clock of this browser can tell.';
      announce(note.textContent);
      draw();
    } catch (error) {
      fail(error);
    } finally {
      time.disabled = false;
      time.textContent = 'Time each step';
    }
  }

  function draw() {
    const nodes = rows.reduce((sum, row) => sum + row.nodes.length, 0);
    const by = Object.keys(WHERE)
      .map((key) => {
        const mine = rows.filter((row) => row.where === key);
        return { key, rows: mine.length, nodes: mine.reduce((sum, row) => sum + row.nodes.length, 0) };
      })
      .filter((group) => group.rows);
    const kernels = by.filter(({ key }) => key === 'wasm' || key === 'webgpu');
    const made = kernels.reduce((sum, group) => sum + group.rows, 0);
    const slow = by.find(({ key }) => key === 'reference')?.nodes ?? 0;
    const fell = slow
      ? `${count(slow, 'node has', 'nodes have')} no kernel yet and ${slow === 1 ? 'runs' : 'run'} on the reference.`
      : 'Nothing had to fall back to the reference.';
    saying.textContent = made ? `${count(nodes, 'node')} became ${count(made, 'step')}. ${fell}` : fell;
    if (chosen && !by.some(({ key }) => key === chosen)) chosen = '';
    fill(
      kinds,
      ...[{ key: '', nodes, rows: 0 }, ...by].map(({ key, nodes: n }) =>
        el(
          'button',
          {
            type: 'button',
            class: `chip-button ${key}`,
            title: WHERE[key]?.title,
            'aria-pressed': String(chosen === key),
            onclick: () => {
              chosen = key;
              draw();
            },
          },
          key ? WHERE[key].label : 'all',
          ' ',
          el('small', {}, n),
        ),
      ),
    );
    fill(
      strip,
      blocks(rows, (row) => row.step !== null && dialog.open(row.step, row.time)),
    );
    table();
  }

  function table() {
    const word = words.value.trim().toLowerCase();
    const found = rows.filter(
      (row) =>
        (!chosen || row.where === chosen) &&
        (!word || [...row.ops, ...row.nodes, row.kernel].some((text) => text.toLowerCase().includes(word))),
    );
    if (rows.some((row) => row.time)) found.sort((a, b) => (b.time?.ms ?? -1) - (a.time?.ms ?? -1));
    const most = Math.max(...rows.map((row) => row.time?.share ?? 0));
    fill(body, ...found.slice(0, limit).map((row) => tableRow(row, most, dialog)));
    if (!found.length) fill(body, el('tr', {}, el('td', { colSpan: 4 }, 'Nothing matches.')));
    more.hidden = found.length <= limit;
    more.textContent = `Show all ${found.length} rows`;
  }

  runner.addEventListener('run', refresh);
  return panel;
}

/**
 * @param {Row} row
 * @param {number} most the largest share of a step, whose bar is full
 * @param {KernelView} dialog
 */
function tableRow(row, most, dialog) {
  const { step, time } = row;
  const what = [...new Set(row.ops)].join(' + ');
  const share = el('span', { class: 'share', 'aria-hidden': 'true' });
  share.style.inlineSize = `${most ? ((time?.share ?? 0) / most) * 100 : 0}%`;
  return el(
    'tr',
    { 'data-where': row.where },
    el(
      'td',
      {},
      step === null
        ? what
        : el(
            'button',
            { type: 'button', class: 'link', title: row.kernel, onclick: () => dialog.open(step, time) },
            what,
          ),
    ),
    el(
      'td',
      { class: 'wide soft', title: row.nodes.join('\n') },
      breakable(row.nodes[0] || '–'),
      row.nodes.length > 1 && ` and\u00a0${row.nodes.length - 1}\u00a0more`,
    ),
    el(
      'td',
      {},
      el(
        'span',
        { class: `tag ${row.where}`, title: row.reason || WHERE[row.where].title },
        WHERE[row.where].label,
      ),
      row.where === 'reference' && row.reason && el('small', {}, ` ${row.reason}`),
    ),
    el(
      'td',
      { class: 'right num' },
      time && el('span', {}, ms(time.ms)),
      time && ' ',
      time && el('small', {}, percent(time.share)),
      time && share,
    ),
  );
}
