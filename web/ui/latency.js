// How long a run takes: the first one (with compiling, if there was any) apart from the rest, medians and 95th
// percentiles, a bar for each run. Takes a Runner; repeats its last feeds on request.
import { announce, el, fill, paced, svg } from './dom.js';
import { count, ms } from './format.js';
import { quantile } from './runner.js';

/** @typedef {import('./runner.js').Runner} Runner */

const SERIES = 30;
const SHOWN = 120;
/** After a first run that took less than this without compiling, more follow for as long, unasked. */
const WARM_MS = 600;
const WARM_RUNS = 10;
/** Samples that feed their model again at once need no runs of ours. */
const IDLE_MS = 150;

/**
 * @param {Runner} runner
 * @param {(error: unknown) => void} fail
 */
export function latencyPanel(runner, fail) {
  const figures = el('dl', { class: 'figures' });
  const chart = el('div', { class: 'chart' });
  const again = el('button', { type: 'button', onclick: repeat }, `Run ${SERIES} more`);
  const panel = el(
    'section',
    { class: 'panel latency', 'aria-label': 'How fast' },
    el('div', { class: 'head' }, el('h2', {}, 'How fast'), again),
    figures,
    chart,
  );
  let stop = false;
  let series = false;

  async function repeat() {
    if (series) {
      stop = true;
      return;
    }
    if (!runner.last) return;
    const { feeds } = runner.last;
    series = true;
    stop = false;
    try {
      again.textContent = 'Stop';
      await runner.series(feeds, SERIES, () => !stop);
      announce(`Median ${ms(quantile(runner.warm, 0.5))} over ${count(runner.warm.length, 'run')}`);
    } catch (error) {
      fail(error);
    } finally {
      series = false;
      show();
    }
  }

  async function warmUp() {
    const { last } = runner;
    if (series || runner.busy || !last?.cold || !(last.ms - last.compileMs < WARM_MS)) return;
    try {
      await runner.warmUp(WARM_RUNS, WARM_MS);
    } catch (error) {
      fail(error);
    }
  }

  function show() {
    const { warm, cold, compiled } = runner;
    if (!series) again.textContent = `Run ${SERIES} more`;
    again.disabled = !runner.last;
    const typical = quantile(warm, 0.5);
    const what = compiled ? 'first run, compiling included' : 'first run of these sizes, on a plan with room';
    const first = cold !== null && figure(what, ms(cold), warm.length ? '' : 'lead');
    fill(
      figures,
      ...(warm.length
        ? [
            figure('typical (p50)', ms(typical), 'lead'),
            figure('slow (p95)', ms(quantile(warm, 0.95))),
            figure('runs a second', (1000 / typical).toLocaleString('en', { maximumFractionDigits: typical > 100 ? 1 : 0 })),
          ]
        : []),
      first,
    );
    fill(
      chart,
      warm.length > 1
        ? bars(warm.slice(-SHOWN), quantile(runner.engine, 0.5), warm.length > SHOWN)
        : el(
            'p',
            { class: 'soft' },
            cold === null ? 'Nothing has run yet.' : 'Run it again to see how fast it is once it is warm.',
          ),
    );
  }

  // A microphone runs its model thirty times a second: drawing each would take the time that is measured.
  runner.addEventListener('run', paced(show, 200));
  runner.addEventListener('busy', () => void (runner.busy || setTimeout(warmUp, IDLE_MS)));
  show();
  return panel;
}

/**
 * @param {string} label
 * @param {string} text
 * @param {string} [kind]
 */
function figure(label, text, kind = '') {
  return el('div', { class: kind }, el('dt', {}, label), el('dd', { class: 'num' }, text));
}

/**
 * @param {readonly number[]} times
 * @param {number} inEngine median of the part spent in the engine
 * @param {boolean} last there were more before these
 */
function bars(times, inEngine, last) {
  const width = Math.max(times.length, 30) * 8;
  const height = 64;
  // One slow run must not flatten all others: the scale ends a little above the 95th percentile and taller
  // bars are cut.
  const top = Math.max(quantile(times, 0.95) * 1.25, Number.EPSILON);
  const median = quantile(times, 0.5);
  const columns = times.map((t, i) => {
    const tall = Math.max(2, Math.min(1, t / top) * height);
    const bar = svg('rect', {
      x: i * 8 + 1,
      y: height - tall,
      width: 6,
      height: tall,
      rx: 1.5,
      class: t > top ? 'bar cut' : 'bar',
    });
    const title = svg('title');
    title.textContent = `run ${i + 1}: ${ms(t)}`;
    bar.append(title);
    return bar;
  });
  const at = height - (median / top) * height;
  const inside = Number.isFinite(inEngine) ? `, of it ${ms(inEngine)} in the engine` : '';
  const label = `${last ? 'the last ' : ''}${count(times.length, 'run')}, from ${ms(Math.min(...times))} to ${ms(Math.max(...times))}, median ${ms(median)}${inside}`;
  return el(
    'figure',
    {},
    svg(
      'svg',
      { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': label },
      ...columns,
      svg('line', { x1: 0, x2: width, y1: at, y2: at, class: 'median' }),
    ),
    el('figcaption', {}, label),
  );
}
