// session.tuning: the same face the tuner will have. Until it is there, status() says that nothing was tuned
// and the rest says that it cannot be done.
import { failure } from './errors.js';

export class Tuning {
  /** Counts of an honest nothing: no candidate was made, timed or kept. */
  status() {
    return { mode: 'off', running: false, candidates: 0, timed: 0, kept: 0, spentMs: 0, budgetMs: 0, speedup: 1 };
  }

  /** @returns {Promise<never>} */
  async start() {
    throw unavailable('start');
  }

  /** Nothing runs, so there is nothing to stop. */
  async pause() {}

  /** Nothing was learnt, so there is nothing to forget. */
  async reset() {}

  /** @returns {Promise<never>} */
  async export() {
    throw unavailable('export');
  }

  /** @param {unknown} _records @returns {Promise<never>} */
  async import(_records) {
    throw unavailable('import');
  }
}

/** @param {string} what */
const unavailable = (what) =>
  failure('NOT_AVAILABLE', `tuning.${what}: this version of nnjit has no tuner yet`, {
    hint: 'kernels run with their default schedules; session.profile() shows where time goes',
  });
