// What the tuner tried over time, as a chart: takes its events, gives a figure. Places across are in per cent and
// those down in pixels, so that a dot is round at every width.
import { el, svg } from './dom.js';
import { count, ms } from './format.js';

/** @typedef {import('../nnjit.js').TuningEvent} TuningEvent */
/** @typedef {import('../nnjit.js').TuningStatus} TuningStatus */

const HEIGHT = 150;
/** A candidate's time over that of the kernel that served: half of it is drawn at the top, twice at the bottom. */
const REACH = 2;
const LEGEND =
  'Each dot is a candidate: above the dashed line it was faster than the kernel that served. Rings are swaps; the line is the time of all kernels so far.';

/**
 * @param {readonly TuningEvent[]} events
 * @param {TuningStatus} status
 */
export function tuningPlot(events, { speedup, candidates, kept }) {
  const end = Math.max(1, ...events.map((event) => event.at));
  const x = (/** @type {number} */ at) => `${((100 * at) / end).toFixed(2)}%`;
  const y = (/** @type {number} */ ratio) => {
    const place = Math.log(Math.min(REACH, Math.max(1 / REACH, ratio))) / Math.log(REACH);
    return (HEIGHT / 2) * (1 + place);
  };
  const dots = [];
  /** @type {SVGElement[]} */
  const line = [];
  let [from, level] = [0, 1];
  const step = (/** @type {number} */ at, /** @type {number} */ next) => {
    line.push(svg('line', { x1: x(from), x2: x(at), y1: y(level), y2: y(level), class: 'best' }));
    line.push(svg('line', { x1: x(at), x2: x(at), y1: y(level), y2: y(next), class: 'best' }));
    [from, level] = [at, next];
  };
  for (const { kind, at, verdict, ratio, name, text, gained } of events) {
    if (kind === 'trial' || kind === 'form') {
      const dropped = !['timed', 'slow'].includes(verdict);
      const look = dropped ? 'try dropped' : ratio && ratio < 1 ? 'try faster' : 'try';
      const dot = svg('circle', { cx: x(at), cy: y(ratio || REACH), r: 3, class: look });
      dots.push(titled(dot, `${name}: ${text}\n${ratio ? `${ratio.toFixed(2)} of the time` : verdict}`));
    } else if (kind === 'swap') {
      step(at, 1 / gained);
      const ring = svg('circle', { cx: x(at), cy: y(1 / gained), r: 5.5, class: 'swap' });
      dots.push(titled(ring, `${name} swapped in: ${text}`));
    }
  }
  step(end, level);
  const label = `${count(candidates, 'candidate')} over ${ms(end)}, ${kept} swapped in, kernels ${speedup.toFixed(2)} times as fast as at first`;
  const scale = [
    [1 / REACH, `${REACH}× faster`],
    [1, 'as before'],
    [REACH, `${REACH}× slower`],
  ].map(([ratio, text]) => {
    const at = svg('text', { x: 0, y: y(Number(ratio)) + (ratio === REACH ? -3 : 13) });
    at.textContent = String(text);
    return at;
  });
  const last = svg('text', { x: '100%', y: HEIGHT - 3, 'text-anchor': 'end' });
  last.textContent = ms(end);
  return el(
    'figure',
    {},
    el(
      'div',
      { class: 'plot' },
      svg(
        'svg',
        { style: `height: ${HEIGHT}px`, role: 'img', 'aria-label': label },
        svg('line', { x1: 0, x2: '100%', y1: y(1), y2: y(1), class: 'median' }),
        ...scale,
        last,
        ...line,
        ...dots,
      ),
    ),
    el('figcaption', {}, LEGEND),
  );
}

/** @param {SVGElement} shape @param {string} text */
function titled(shape, text) {
  const title = svg('title');
  title.textContent = text;
  shape.append(title);
  return shape;
}
