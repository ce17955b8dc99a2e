// The tuner as one sees it: what it tried over time, what it kept, what is left to gain, and the controls. Takes a
// Runner; listens to session.tuning.
import { announce, breakable, el, fill, paced, save } from './dom.js';
import { count, ms, percent } from './format.js';
import { KernelView } from './kernelview.js';
import { tuningPlot } from './tuningplot.js';

/** @typedef {import('./runner.js').Runner} Runner */
/** @typedef {import('../nnjit.js').TuningStatus} TuningStatus */
/** @typedef {import('../nnjit.js').TuningStatus['kernels'][number]} TunedKernel */
/** @typedef {import('../nnjit.js').DeviceFacts} DeviceFacts */

const ROWS = 12;

/**
 * @param {Runner} runner
 * @param {(error: unknown) => void} fail
 */
export function tuningPanel(runner, fail) {
  const { tuning } = runner.session;
  if (!tuning?.subscribe) return null;
  const figures = el('dl', { class: 'figures' });
  const chart = el('div', { class: 'chart tuning-chart' });
  const table = el('div', { class: 'scroll' });
  const forms = el('div', { class: 'scroll' });
  const facts = el('p', { class: 'soft facts' });
  const say = el('p', { class: 'soft', role: 'status' });
  const kernels = new KernelView(runner, fail);
  const go = el('button', { type: 'button', class: 'primary', onclick: () => act(toggle) }, 'Tune');
  const forget = el('button', { type: 'button', onclick: () => act(() => tuning.reset()) }, 'Forget');
  const store = el('button', { type: 'button', onclick: () => act(keep) }, 'Save records');
  const share = el('input', { type: 'checkbox', id: 'share-records', onchange: () => act(sharing) });
  const sent = el('pre', { tabIndex: 0 });
  const shown = el('details', { class: 'sent', ontoggle: () => act(preview) }, el('summary', {}, 'What would be sent'), sent);
  const take = el('input', { type: 'file', accept: '.jsonl,.txt', hidden: true, onchange: () => act(load) });
  const loads = el('button', { type: 'button', onclick: () => take.click() }, 'Load records');
  const panel = el(
    'section',
    { class: 'panel tuning', 'aria-label': 'Tuning' },
    el('div', { class: 'head' }, el('h2', {}, 'Tuning'), el('div', { class: 'row' }, go, forget, store, loads, take)),
    say,
    figures,
    chart,
    table,
    forms,
    facts,
    el(
      'div',
      { class: 'sharing' },
      el('label', { for: 'share-records' }, share, ' Share what is found with the server of this page'),
      el('p', { class: 'soft' }, 'Off unless you say so. A record is a kernel’s shape, its schedule and two times under a coarse class of device; no model, no weights and no names.'),
      shown,
    ),
    kernels.element,
  );

  /** @param {() => Promise<unknown>} work */
  async function act(work) {
    try {
      await work();
    } catch (error) {
      fail(error);
    }
    show();
  }

  async function toggle() {
    if (busy(tuning.status())) {
      await tuning.pause();
    } else {
      await tuning.start({ mode: 'now', ...shared() });
      announce('Tuning has begun');
    }
  }

  /** Where records go to and come from; nowhere while the box is not ticked. */
  const shared = () => (share.checked ? { cacheUrl: new URL('.', document.baseURI).href, share: true } : { cacheUrl: '', share: false });

  /** What was found before the box was ticked goes along at once; unticked, nothing more is sent. */
  async function sharing() {
    const { state } = tuning.status();
    await tuning.share(shared());
    announce(share.checked ? (state === 'done' ? 'Records were sent' : 'Records will be sent') : 'Nothing is sent');
  }

  async function preview() {
    if (shown.open) sent.textContent = (await tuning.export()) || 'Nothing yet: tune first.';
  }

  async function keep() {
    const text = await tuning.export();
    if (text) save('nnjit-records.jsonl', text, 'text/plain');
    else announce('There is nothing to save yet');
  }

  async function load() {
    const [file] = take.files ?? [];
    if (!file) return;
    const { taken, refused } = await tuning.import(await file.text());
    take.value = '';
    announce(`${count(taken, 'record')} taken, ${refused} refused`);
  }

  function show() {
    const status = tuning.status();
    const running = busy(status);
    go.textContent = running ? 'Pause' : status.candidates ? 'Go on' : 'Tune';
    forget.disabled = status.state === 'off';
    store.disabled = !status.candidates;
    say.textContent = sentence(status, runner.session.backend);
    fill(figures, ...numbers(status));
    fill(chart, tuning.events.length > 1 ? tuningPlot(tuning.events, status) : '');
    fill(forms, status.forms.length ? formRows(status) : '');
    fill(table, status.kernels.length ? rows(status, kernels) : '');
    facts.textContent = runner.session.backend === 'wasm' ? factsLine(tuning.facts) : '';
  }

  tuning.subscribe(paced(show, 250));
  runner.addEventListener('run', paced(show, 500));
  show();
  return panel;
}

/** @param {TuningStatus} status */
const busy = ({ state }) => state === 'running' || state === 'resting' || state === 'waiting';

/** @param {TuningStatus} status @param {string} backend */
function sentence({ state, reason, candidates, phase }, backend) {
  if (backend === 'reference') return 'This model runs on the reference: there are no kernels to tune.';
  switch (state) {
    case 'running':
      if (phase === 'change' || phase === 'unite') return 'Linking what was found into one module.';
      return candidates ? 'Trying other schedules between runs; whatever is faster takes over.' : 'Finding out where the time goes.';
    case 'waiting':
      return 'It begins with the first run, which compiles the kernels.';
    case 'resting':
      return `Resting: ${reason}.`;
    case 'paused':
      return 'Paused. What was found stays.';
    case 'done':
      return `Done: ${reason}.`;
    case 'failed':
      return `It failed: ${reason}`;
    default:
      return 'Each kernel runs on the schedule the rules guessed. The tuner times others here, on this machine, and keeps the faster ones.';
  }
}

/** @param {TuningStatus} status */
function numbers({ state, speedup, candidates, kept, dropped, spentMs, delayedMs, leftMs, modelMs }) {
  if (state === 'off' || state === 'waiting') return [];
  const left = modelMs > 0 ? (100 * leftMs) / modelMs : 0;
  return [
    figure('kernels’ speed-up', `${speedup.toFixed(2)}×`, 'lead'),
    figure('candidates tried', String(candidates)),
    figure('swapped in', String(kept)),
    figure('dropped', String(dropped)),
    figure('time spent', ms(spentMs)),
    figure('added to runs', ms(delayedMs)),
    figure('above the bound', `${left.toFixed(left < 10 ? 1 : 0)} %`),
  ];
}

/** @param {string} label @param {string} text @param {string} [kind] */
const figure = (label, text, kind = '') => el('div', { class: kind }, el('dt', {}, label), el('dd', { class: 'num' }, text));

/** @param {TuningStatus} status @param {KernelView} view */
function rows({ kernels, state, modelMs }, view) {
  const done = state === 'done';
  const shown = kernels.slice(0, ROWS);
  // One that was not timed by itself: what it took among the others, in a run that was watched.
  const now = (/** @type {TunedKernel} */ k) => k.ms || (k.share * modelMs) / k.count;
  return el(
    'table',
    { class: 'kernels tuning-kernels' },
    el('caption', { class: 'sr' }, 'Kernels by what they take'),
    el('thead', {}, el('tr', {}, ...['kernel', 'share', 'at first', 'now', 'bound', 'tried', 'state'].map((h) => el('th', { scope: 'col' }, h)))),
    el(
      'tbody',
      {},
      ...shown.map((k) =>
        el(
          'tr',
          {},
          el(
            'th',
            { scope: 'row' },
            el('button', { type: 'button', class: 'link mono', onclick: () => view.open(k.step, { ms: now(k), firstMs: k.firstMs }) }, breakable(k.name)),
            k.count > 1 ? ` ×${k.count}` : '',
            el('small', {}, breakable(k.sizes)),
          ),
          el('td', { class: 'num' }, percent(k.share)),
          el('td', { class: 'num' }, k.firstMs ? ms(k.firstMs) : '–'),
          el('td', { class: 'num' }, ms(now(k))),
          el('td', { class: 'num' }, ms(k.boundMs)),
          el('td', { class: 'num' }, k.raw ? `${k.tried} of ${k.listed}` : '–', k.raw > 0 && el('span', { class: 'wide soft' }, ` (${k.raw} raw)`)),
          el('td', {}, k.closed || (done ? 'not worth it' : k.tried ? 'more to try' : 'not yet')),
        ),
      ),
    ),
    kernels.length > ROWS && el('tfoot', {}, el('tr', {}, el('td', { colSpan: 7 }, `and ${count(kernels.length - ROWS, 'smaller kernel')}`))),
  );
}

/** Other ways to compute some nodes. @param {TuningStatus} status */
function formRows({ forms }) {
  return el(
    'table',
    { class: 'kernels tuning-forms' },
    el('caption', {}, 'Other forms of nodes'),
    el('thead', {}, el('tr', {}, ...['node', 'form', 'ms as served', 'its time over that', 'outcome'].map((h) => el('th', { scope: 'col' }, h)))),
    el(
      'tbody',
      {},
      ...forms.map((form) =>
        el(
          'tr',
          {},
          el('th', { scope: 'row', title: form.nodes.join(', ') }, breakable(form.name), form.count > 1 ? ` ×${form.count}` : '', el('small', {}, breakable(form.nodes[0] ?? ''))),
          el('td', {}, form.text),
          el('td', { class: 'num' }, form.ms ? ms(form.ms) : '–'),
          el('td', { class: 'num' }, form.ratio ? `${form.ratio.toFixed(2)}×` : '–'),
          el('td', {}, form.kept ? 'serves' : form.reason || { '': 'not yet', timed: 'no faster', slow: 'slower' }[form.verdict] || form.verdict),
        ),
      ),
    ),
  );
}

/** @param {DeviceFacts | null} facts */
function factsLine(facts) {
  if (!facts?.measured) return 'The device is measured when tuning first begins; on an idle machine that takes a second or two.';
  const kib = (/** @type {number} */ n) => (n >= 1 << 20 ? `${n / (1 << 20)} MiB` : `${n / 1024} KiB`);
  return [
    `This device: ${facts.fma_gflops.toFixed(0)} GFLOP/s a thread`,
    `${facts.registers} vector registers`,
    `caches of ${kib(facts.l1_bytes)} and ${kib(facts.l2_bytes)}`,
    `${facts.bandwidth.at(-1)?.[1].toFixed(0)} GB/s from memory`,
    `${count(facts.threads, 'thread')} do the work of ${facts.scaling.toFixed(1)}`,
    `a barrier takes ${facts.barrier_us.toFixed(2)} µs, exp ${facts.exp_ns.toFixed(1)} ns`,
  ].join(', ');
}
