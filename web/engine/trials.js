// What the tuner asks of the engine: kernels tried in a lab, winners put in place between two runs, whole plans
// that take another's place. Also the line in which every call on a session waits.

import { throwIfAborted } from './errors.js';
import { own } from './values.js';

/** @typedef {import('./lane.js').Lane} Lane */
/** @typedef {import('./types.d.ts').Feed} Feed */

export class Trials {
  /** @type {Map<string, Lane>} */
  lanes = new Map();

  /** @param {import('./calls.js').Calls} calls */
  constructor(calls) {
    this.calls = calls;
  }

  /**
   * A lab: a memory of its own to try kernels in; see lab.js.
   * @param {string} id
   * @param {{shared: boolean, threads: number, maxPages?: number, mode?: 'now' | 'idle', earlierMs?: number}} options mode: as
   *   pace() has it; earlierMs: what the session's inferences waited for labs before this one
   * @returns {Promise<import('./types.d.ts').PaceReport>}
   */
  openLab(id, options) {
    return this.calls.call('openLab', [id, options]);
  }

  /**
   * @param {string} id
   * @param {import('./types.d.ts').LabSetup} setup
   * @param {AbortSignal} [signal]
   * @returns {Promise<{ms: number, busyMs: number, samples: number[][], waits?: import('./types.d.ts').PaceReport}>}
   */
  labSetup(id, setup, signal) {
    return this.calls.call('labSetup', [id, setup], { signal });
  }

  /**
   * @param {string} id
   * @param {import('./types.d.ts').LabTrial} trial
   * @param {AbortSignal} [signal]
   * @returns {Promise<import('./types.d.ts').LabReport>}
   */
  labTrial(id, trial, signal) {
    return this.calls.call('labTrial', [id, trial], { signal });
  }

  /**
   * @param {string} id
   * @param {import('./types.d.ts').LabWork} work
   * @param {AbortSignal} [signal]
   * @returns {Promise<import('./types.d.ts').LabTimes>}
   */
  labMeasure(id, work, signal) {
    return this.calls.call('labMeasure', [id, work], { signal });
  }

  /**
   * @param {string} id
   * @param {import('./types.d.ts').LabPair} pair
   * @param {AbortSignal} [signal]
   * @returns {Promise<import('./types.d.ts').LabReport>} base: the serving way's times, mine: the other's
   */
  labPair(id, pair, signal) {
    return this.calls.call('labPair', [id, pair], { signal });
  }

  /**
   * @param {string} id
   * @param {AbortSignal} [signal]
   * @returns {Promise<import('./types.d.ts').LabConfirmation>} of the last candidate, verified whole and timed again
   */
  labConfirm(id, signal) {
    return this.calls.call('labConfirm', [id], { signal });
  }

  /**
   * @param {string} id
   * @returns {Promise<{freed: number}>}
   */
  closeLab(id) {
    return this.calls.call('closeLab', [id]);
  }

  /**
   * Between two inferences: the lab's last candidate takes over a slot, its constants' panels made over.
   * @param {string} id
   * @param {string} key the plan's
   * @param {import('./types.d.ts').Adoption} adoption
   * @returns {Promise<void>}
   */
  adopt(id, key, adoption) {
    return this.inLane(id, () => this.calls.call('adopt', [id, key, adoption]));
  }

  /**
   * Has fast code made for a plan that does not serve yet, in slices between runs.
   * @param {string} id
   * @param {string} key the plan's
   * @param {string} lab in whose name
   * @param {number[]} steps that may run by themselves
   * @param {import('./types.d.ts').PacePolicy} pace
   * @param {AbortSignal} [signal]
   */
  async warmPlan(id, key, lab, steps, pace, signal) {
    for (let pass = 0; pass < pace.warmPasses; pass++) {
      for (let at = 0; at < steps.length;) {
        if (signal) throwIfAborted(signal);
        const next = await this.inLane(id, () => this.calls.call('warmSteps', [id, key, lab, pace, steps, at]));
        if (next === at) await this.calls.call('gap', [lab, pace], { signal });
        at = next;
      }
      await new Promise((resolve) => { setTimeout(resolve, pace.warmPauseMs); });
    }
  }

  /**
   * Both plans on the same feeds.
   * @param {string} id
   * @param {string} serving key
   * @param {string} key of the plan that is to take its place
   * @param {string} lab in whose name
   * @param {Feed[]} feeds
   * @param {import('./types.d.ts').Agreement[]} outputs
   * @returns {Promise<{ok: boolean, worst: number, reason: string, ms: number[]}>} ms: of each
   */
  verifyPlan(id, serving, key, lab, feeds, outputs) {
    const packed = feeds.map((feed) => own(feed));
    return this.inLane(id, () => this.calls.call('verifyPlan', [id, serving, key, lab, packed, outputs]));
  }

  /**
   * Between two runs: a plan takes the place, and the key, of another, which is dropped.
   * @param {string} id
   * @param {string} serving key
   * @param {string} key of the plan that takes over
   * @returns {Promise<void>}
   */
  replacePlan(id, serving, key) {
    return this.inLane(id, async (lane) => {
      await this.calls.call('replacePlan', [id, serving, key]);
      const loaded = lane?.plans.get(key);
      if (!lane || !loaded) return;
      lane.plans.delete(key);
      lane.plans.set(serving, { ...loaded, key: serving });
    });
  }

  /**
   * @param {{mode?: 'now' | 'idle'}} [change]
   * @param {string} [lab] default all labs, and those that are opened later
   * @returns {Promise<import('./types.d.ts').PaceReport>}
   */
  pace(change, lab) {
    return this.calls.call('pace', [change, lab]);
  }

  /**
   * Does `work` after all that was asked of this session before.
   * @template T
   * @param {string} id
   * @param {(lane: Lane | undefined) => Promise<T>} work no lane: there is no such session, and the engine will say so
   * @returns {Promise<T>}
   */
  inLane(id, work) {
    const lane = this.lanes.get(id);
    if (!lane) return work(undefined);
    const leave = () => {
      lane.leave();
      if (!lane.busy && !lane.open) this.lanes.delete(id);
    };
    return lane.enter(() => work(lane).finally(leave));
  }
}
