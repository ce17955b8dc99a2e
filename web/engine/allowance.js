// What one lab may take from the inferences around it: how long its next slice may be, whether it may come while
// inferences wait for it, and what they have waited for so far. Its numbers come from Python (tune/policy.py, PACE).

import { NnjitError } from './errors.js';

/**
 * @typedef {import('./types.d.ts').PacePolicy} PacePolicy
 * @typedef {object} Traffic what is known of the inferences, whoever they belong to
 * @property {number} quietMs how long ago the last one ended
 * @property {number} runMs what one takes, about
 * @property {number} totalMs what all have taken so far
 * @property {number} runs how many there were
 */

/** One piece of work and no more. */
const LEAST_MS = 0.05;

export class Allowance {
  /** 'now': use every gap; 'idle': pauses, and under a stream of inferences little. @type {'now' | 'idle'} */
  mode;
  /** ms that inferences waited for this lab, and how many did */
  delayedMs = 0;
  delayed = 0;
  /** No more may be waited for between inferences that follow each other: work goes on in a pause. */
  starved = false;
  /** ms of a window that was granted and not used: the next one. */
  owed = 0;
  /** ms that it may still take from a stream; below zero after a piece of work that was longer than meant */
  #saved = 0;
  #totalMs = -1;
  /** Inferences by the last slice that came between two of a stream. */
  #runs = 0;
  #forced = false;
  #longestMs = 0;

  /** @param {'now' | 'idle'} mode @param {number} [earlierMs] what the session's inferences waited for labs before this one */
  constructor(mode, earlierMs = 0) {
    this.mode = mode;
    this.earlierMs = earlierMs;
  }

  get #allMs() {
    return this.earlierMs + this.delayedMs;
  }

  /**
   * @param {PacePolicy} policy @param {Traffic} traffic
   * @returns {number} ms that a slice may take now; 0: not yet
   * @throws {NnjitError} TUNING_SPENT where no more may be waited for
   */
  grant(policy, { quietMs, runMs, totalMs, runs }) {
    if (this.mode === 'now') return Math.max(policy.nowMs, Math.min(policy.nowMostMs, policy.nowShare * runMs));
    if (this.leftMs(policy) <= 0) {
      if (this.#allMs + policy.reserveMs >= policy.allowanceMs) {
        throw new NnjitError('TUNING_SPENT', `Inferences have waited ${Math.round(this.#allMs)} ms for the tuner, which is all they should.`);
      }
      // only a piece of work that took very long stands against it: where none comes, none has to wait for another
      this.starved = true;
      if (quietMs <= policy.longQuietMs) return 0;
    }
    this.#save(policy, runMs, totalMs);
    if (quietMs >= policy.quietMs) {
      this.#forced = this.starved = false;
      if (quietMs > policy.longQuietMs) return policy.idleMs;
      return Math.min(policy.idleMs, Math.max(policy.idleLeastMs, policy.idlePart * runMs));
    }
    const ms = this.#between(policy, runMs, runs);
    if (ms) {
      this.#forced = true;
      this.#runs = runs;
    }
    return ms;
  }

  /** Of a stream without pauses: a little of each inference, or now and then more where they are short. @param {PacePolicy} policy @param {number} runMs @param {number} runs */
  #between(policy, runMs, runs) {
    this.starved = this.#allMs + this.#reserve(policy) >= policy.streamMs;
    if (this.starved || this.#saved < policy.unitMs) return 0;
    const part = policy.part * runMs - policy.unitMs; // the last piece begins before the end
    if (part >= 0) return Math.min(this.#saved, Math.max(part, LEAST_MS), policy.mostMs);
    return runs - this.#runs >= policy.rareRuns ? Math.min(this.#saved, policy.rareMs) : 0;
  }

  /** A share of what inferences have taken is saved up, for a few slices at most. @param {PacePolicy} policy @param {number} runMs @param {number} totalMs */
  #save(policy, runMs, totalMs) {
    const most = Math.max(policy.rareMs, policy.savedSlices * Math.min(policy.part * runMs, policy.mostMs));
    if (this.#totalMs >= 0) this.#saved = Math.min(most, this.#saved + policy.share * (totalMs - this.#totalMs));
    this.#totalMs = totalMs;
  }

  /** A piece of work was done. @param {number} ms */
  took(ms) {
    this.#longestMs = Math.max(this.#longestMs, ms);
    if (this.#forced) this.#saved -= ms;
  }

  /** An inference had to wait. @param {number} ms */
  waited(ms) {
    this.delayedMs += ms;
    this.delayed++;
  }

  /** What a machine that is busy elsewhere may make of one more piece of work. @param {PacePolicy} policy */
  #reserve(policy) {
    return Math.max(policy.reserveMs, policy.reserveTimes * this.#longestMs);
  }

  /** ms that inferences may still wait for this lab; nothing is begun that might end beyond. @param {PacePolicy} policy */
  leftMs(policy) {
    return this.mode === 'now' ? Infinity : policy.allowanceMs - this.#allMs - this.#reserve(policy);
  }
}
