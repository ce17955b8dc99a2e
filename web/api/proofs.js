// After a session's first run on the GPU its kernels are looked at, one by one in pauses: a few elements of what each gives
// in the lab are held against its definition, which Python works out. A kernel that the driver gets wrong is replaced.
// Each shader is looked at once on an adapter; the numbers are Python's (tune/policy.py, GPU_PROOF).
import { asFailure } from './errors.js';
import { log } from './env.js';
import { adapterKey } from './gpu-facts.js';
import { loadFacts, saveFacts } from './tuning-store.js';
import { UnderWay } from './under-way.js';
import { getGpu } from './workers.js';

/** @typedef {import('./plans.js').Plans} Plans */
/** @typedef {{checked: number, unchecked: number, wrong: string[], done: boolean, settled: boolean}} ProofStatus checked: kernels found
 *   right; unchecked: that could not be laid out by themselves; wrong: what was found, a line a kernel; done: all of the latest plan's were
 *   looked at; settled: and those that were wrong have others in their place */

const POLL_MS = 50;
let labs = 0;

export class Proofs {
  #plans;
  #around;
  /** @type {AbortController | null} */
  #looking = null;
  /** @type {Promise<void>} */
  #ended = Promise.resolve();
  /** The plan looked at last: made anew it has other kernels, and counts as another. @type {import('./plans.js').Prepared | undefined} */
  #seen;
  #runs = new UnderWay();
  /** @type {ProofStatus} */
  status = { checked: 0, unchecked: 0, wrong: [], done: false, settled: false };

  /** @param {Plans} plans @param {() => import('./backends.js').Around} around the session's queue, and what must stop before a plan goes */
  constructor(plans, around) {
    this.#plans = plans;
    this.#around = around;
  }

  /** A run: what it does is `run`. @template T @param {() => Promise<T>} run @returns {Promise<T>} */
  async during(run) {
    try {
      return await this.#runs.during(run);
    } finally {
      this.#begin();
    }
  }

  async stop() {
    this.#looking?.abort();
    await this.#ended;
  }

  #begin() {
    const plan = this.#plans.latest;
    if (plan?.backend !== 'webgpu' || plan === this.#seen || this.#looking) return;
    this.#seen = plan;
    const { signal } = this.#looking = new AbortController();
    this.status = { ...this.status, done: false, settled: false };
    this.#ended = this.#look(plan, signal)
      .catch((error) => {
        this.#seen = undefined; // with the next run again
        if (!signal.aborted) log('info', `the GPU's kernels were not looked at: ${asFailure(error).message}`);
      })
      .finally(() => {
        this.#looking = null;
      });
  }

  /** @param {import('./plans.js').Prepared} plan @param {AbortSignal} signal */
  async #look(plan, signal) {
    const ask = (/** @type {string} */ what, /** @type {object} */ args = {}) => this.#plans.ask(`proof.${what}`, { json: JSON.stringify(args) });
    const { client } = await getGpu();
    const place = `${adapterKey(client)}|proven`;
    const known = /** @type {string[]} */ ((await loadFacts(place))?.shaders ?? []);
    const policy = await ask('policy');
    await this.#pause(policy.quietMs, signal);
    if (signal.aborted || this.#plans.latest !== plan) return void (this.#seen = undefined);
    await ask('open', { key: plan.key, proven: known });
    const lab = `proof-${++labs}`;
    await client.openLab(lab);
    /** @type {string[]} */
    const right = [];
    /** @type {Map<number, string>} */
    const wrong = new Map();
    try {
      for (;;) {
        await this.#pause(policy.quietMs, signal);
        if (signal.aborted || this.#plans.latest !== plan) return void (this.#seen = undefined);
        const todo = await ask('next');
        if (todo.do === 'done') break;
        const laid = await client.labSetup(lab, todo.setup, signal).catch((error) => {
          const { code, message } = asFailure(error);
          if (signal.aborted || code === 'DEVICE_LOST') throw error;
          log('info', `${todo.name} was not looked at: ${message}`);
        });
        if (!laid) {
          this.status.unchecked++;
          continue;
        }
        const { kernel, digest, reason } = await ask('told', { samples: laid.samples });
        if (reason) wrong.set(kernel, `${todo.name}: ${reason}`);
        else right.push(digest);
        if (!reason) this.status.checked++;
      }
    } finally {
      await client.closeLab(lab).catch(() => undefined);
      if (right.length) await saveFacts(place, { shaders: [...new Set([...right, ...known])].slice(0, policy.most) });
    }
    this.status.done = true;
    if (wrong.size) await this.#replace(plan, wrong);
    this.status.settled = true;
  }

  /** @param {import('./plans.js').Prepared} plan @param {Map<number, string>} wrong kernels, and what is wrong with them */
  async #replace(plan, wrong) {
    this.status.wrong.push(...wrong.values());
    for (const line of wrong.values()) log('warning', `this GPU gets a kernel wrong, and another takes its place: ${line}. Results of earlier runs may be off`);
    const { queue, leave } = this.#around();
    const resume = await leave();
    await queue(async () => {
      if (this.#plans.latest === plan && (await this.#plans.refuse(plan.key, [...wrong.keys()]))) await this.#plans.get(plan.request, () => undefined, null);
    }).finally(resume);
    this.#seen = undefined; // the new kernels are looked at after the next run
  }

  /** Until there was no run for so long. @param {number} ms @param {AbortSignal} signal */
  async #pause(ms, signal) {
    while (!signal.aborted && this.#runs.idleMs < ms) await new Promise((resolve) => { setTimeout(resolve, POLL_MS); });
  }
}
