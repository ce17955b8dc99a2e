// Where each node ran: a strip with one block a step, wide where time went, and a table that can be filtered. Takes a Runner; asks the
// session for its placement after each cold run and for times on request.
import { announce, el, fill, freshId, svg } from './dom.js';
import { count, ms, percent } from './format.js';
import { KernelView } from './kernelview.js';

/** @typedef {import('./runner.js').Runner} Runner */
/** @typedef {{node: string, op: string, backend: string, kernel?: string, step?: number, once?: boolean, reason?: string}} PlacedNode */

/**
 * One row: a step with the nodes fused into it, or a node that is no step.
 * @typedef {object} Row
 * @property {number | null} step
 * @property {string[]} ops
 * @property {string[]} nodes
 * @property {string} where one of WHERE's keys
 * @property {string} kernel
 * @property {string} reason
 * @property {{ms: number, share: number, gflops: number | null} | null} time
 */

/** @type {Record<string, {label: string, title: string}>} */
const WHERE = {
  wasm: { label: 'kernel', title: 'WebAssembly written for these shapes' },
  webgpu: { label: 'GPU kernel', title: 'a WebGPU kernel written for these shapes' },
  reference: { label: 'reference', title: 'no kernel yet: onnx.reference computes it, slowly' },
  once: { label: 'at load', title: 'depends on weights alone: done once, when the model was loaded' },
  folded: { label: 'folded', title: 'computed while compiling: costs nothing' },
  none: { label: 'view', title: 'another view of memory that is there already: costs nothing' },
};

/** Rows drawn before "show all" is asked for. */
const FIRST_ROWS = 12;

/**
 * @param {readonly PlacedNode[]} placed
 * @returns {Row[]} steps in the order they run, the rest after them
 */
export function rowsOf(placed) {
  /** @type {Map<number, Row>} */
  const steps = new Map();
  /** @type {Row[]} */
  const others = [];
  for (const { node, op, backend, kernel = '', step: index, once, reason = '' } of placed) {
    const where = once ? 'once' : backend in WHERE ? backend : 'none';
    // What was done at load is no step of a run.
    const step = once ? undefined : index;
    const known = step === undefined ? undefined : steps.get(step);
    if (known) {
      known.ops.push(op);
      known.nodes.push(node);
      continue;
    }
    const row = { step: step ?? null, ops: [op], nodes: [node], where, kernel, reason, time: null };
    if (step === undefined) others.push(row);
    else steps.set(step, row);
  }
  return [...[...steps.values()].sort((a, b) => Number(a.step) - Number(b.step)), ...others];
}

/**
 * @param {Runner} runner
 * @param {(error: unknown) => void} fail
 */
export function placementPanel(runner, fail) {
  const dialog = new KernelView(runner, fail);
  const saying = el('p', {});
  const strip = el('div', { class: 'strip' });
  const body = el('tbody');
  const more = el('button', { type: 'button', class: 'link', onclick: () => { limit = Infinity; table(); } });
  const time = el('button', { type: 'button', onclick: profile }, 'Time each step');
  const filterId = freshId('filter');
  const words = el('input', { id: filterId, type: 'search', placeholder: 'node, operator or kernel', oninput: () => table() });
  const kinds = el('div', { class: 'row kinds', role: 'group', 'aria-label': 'Show' });
  const note = el('p', { class: 'soft', role: 'status' });
  const panel = el('section', { class: 'panel placement', 'aria-label': 'Where it ran', hidden: true },
    el('div', { class: 'head' }, el('h2', {}, 'Where it ran'), time), saying, strip, note,
    el('div', { class: 'row filter' }, kinds, el('div', { class: 'field inline' }, el('label', { for: filterId, class: 'sr' }, 'Filter'), words)),
    el('table', {},
      el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, 'what'), el('th', { scope: 'col', class: 'wide' }, 'nodes'),
        el('th', { scope: 'col' }, 'where'), el('th', { scope: 'col', class: 'right' }, 'time'))), body),
    more, dialog.element);
  /** @type {Row[]} */
  let rows = [];
  let chosen = '';
  let limit = FIRST_ROWS;
  let shapes = '';

  function refresh() {
    // The plan is another one only when the shapes are; a timed table stays until then.
    if (runner.shapes === shapes) return;
    shapes = runner.shapes;
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
      for (const row of rows) row.time = row.step === null ? null : times.get(row.step) ?? null;
      const total = rows.reduce((sum, row) => sum + (row.time?.ms ?? 0), 0);
      note.textContent = `The steps add up to ${ms(total)} a run; the table is sorted by time.`;
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
    const by = Object.keys(WHERE).map((key) => {
      const mine = rows.filter((row) => row.where === key);
      return { key, rows: mine.length, nodes: mine.reduce((sum, row) => sum + row.nodes.length, 0) };
    }).filter((group) => group.rows);
    const kernels = by.filter(({ key }) => key === 'wasm' || key === 'webgpu');
    const made = kernels.reduce((sum, group) => sum + group.rows, 0);
    const slow = by.find(({ key }) => key === 'reference')?.nodes ?? 0;
    saying.textContent = `${count(nodes, 'node')} became ${count(made, 'step')}. ${slow
      ? `${count(slow, 'node has', 'nodes have')} no kernel yet and ${slow === 1 ? 'runs' : 'run'} on the reference.`
      : 'Nothing had to fall back to the reference.'}`;
    if (chosen && !by.some(({ key }) => key === chosen)) chosen = '';
    fill(kinds, ...[{ key: '', nodes, rows: 0 }, ...by].map(({ key, nodes: n }) => el('button', {
      type: 'button', class: `chip-button ${key}`, title: WHERE[key]?.title, 'aria-pressed': String(chosen === key),
      onclick: () => {
        chosen = key;
        draw();
      },
    }, key ? WHERE[key].label : 'all', ' ', el('small', {}, n))));
    fill(strip, blocks(rows, (row) => row.step !== null && dialog.open(row.step, row.time)));
    table();
  }

  function table() {
    const word = words.value.trim().toLowerCase();
    const found = rows.filter((row) => (!chosen || row.where === chosen)
      && (!word || [...row.ops, ...row.nodes, row.kernel].some((text) => text.toLowerCase().includes(word))));
    if (rows.some((row) => row.time)) found.sort((a, b) => (b.time?.ms ?? -1) - (a.time?.ms ?? -1));
    fill(body, ...found.slice(0, limit).map((row) => tableRow(row, dialog)));
    if (!found.length) fill(body, el('tr', {}, el('td', { colSpan: 4 }, 'Nothing matches.')));
    more.hidden = found.length <= limit;
    more.textContent = `Show all ${found.length} rows`;
  }

  runner.addEventListener('run', refresh);
  return panel;
}

/**
 * @param {Row} row
 * @param {KernelView} dialog
 */
function tableRow(row, dialog) {
  const { step, time } = row;
  const what = [...new Set(row.ops)].join(' + ');
  const share = el('span', { class: 'share', 'aria-hidden': 'true' });
  share.style.inlineSize = `${(time?.share ?? 0) * 100}%`;
  return el('tr', { 'data-where': row.where },
    el('td', {}, step === null ? what : el('button', { type: 'button', class: 'link', title: row.kernel, onclick: () => dialog.open(step, time) }, what)),
    el('td', { class: 'wide soft', title: row.nodes.join('\n') }, row.nodes[0] || '–', row.nodes.length > 1 && ` and ${row.nodes.length - 1} more`),
    el('td', {}, el('span', { class: `tag ${row.where}`, title: row.reason || WHERE[row.where].title }, WHERE[row.where].label),
      row.where === 'reference' && row.reason && el('small', {}, ` ${row.reason}`)),
    el('td', { class: 'right num' }, time ? ms(time.ms) : '', time && el('small', {}, ` ${percent(time.share)}`), time && share));
}

/**
 * @param {readonly Row[]} rows
 * @param {(row: Row) => void} pick
 */
function blocks(rows, pick) {
  const steps = rows.filter((row) => row.step !== null || row.where === 'reference');
  const timed = steps.some((row) => row.time);
  const width = 1000;
  // Before anything is timed every step is as wide as the next; later even the fastest keeps a sliver to be seen.
  const weights = steps.map((row) => (timed ? (row.time?.share ?? 0) + 0.001 : 1));
  const total = weights.reduce((a, b) => a + b, 0) || 1;
  let at = 0;
  const parts = steps.map((row, i) => {
    const wide = (weights[i] / total) * width;
    const gap = wide > 4 ? 1 : wide * 0.2;
    const block = svg('rect', { x: at, y: 0, width: wide - gap, height: 34, class: `block ${row.where}` });
    const title = svg('title');
    title.textContent = `${[...new Set(row.ops)].join(' + ')}${row.time ? `: ${ms(row.time.ms)}` : ''}`;
    block.append(title);
    block.addEventListener('click', () => pick(row));
    at += wide;
    return block;
  });
  const label = `${count(steps.length, 'step')} in the order they run${timed ? ', as wide as they take long' : ''}; the table below lists them`;
  return svg('svg', { viewBox: `0 0 ${width} 34`, preserveAspectRatio: 'none', role: 'img', 'aria-label': label }, ...parts);
}
