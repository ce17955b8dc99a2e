// A plan as one strip: takes rows of steps; returns a picture with a block for each, as wide as it takes long.
import { svg } from './dom.js';
import { count, ms } from './format.js';

/** @typedef {import('./placed.js').Row} Row */

/**
 * @param {readonly Row[]} rows
 * @param {(row: Row) => void} pick
 */
export function blocks(rows, pick) {
  const steps = rows.filter((row) => row.step !== null || row.where === 'reference');
  const timed = steps.some((row) => row.time);
  const width = 1000;
  // Before anything is timed every step is as wide as the next; later even the fastest keeps a sliver to be
  // seen.
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
  const widths = timed ? ', as wide as they take long' : '';
  const label = `${count(steps.length, 'step')} in the order they run${widths}; the table below lists them`;
  return svg(
    'svg',
    { viewBox: `0 0 ${width} 34`, preserveAspectRatio: 'none', role: 'img', 'aria-label': label },
    ...parts,
  );
}
