// What the engine worker holds: sessions, labs of the tuner, the pool. Takes ids, returns what they name or a typed error.

import { NnjitError } from './errors.js';
import { Host } from './host.js';

/** @typedef {import('./session.js').Session} Session */
/** @typedef {import('./lab.js').Lab} Lab */
/**
 * cancel: the signal again if the caller holds the other end, so that it is worth a look.
 * at: when the caller sent it.
 * @typedef {{signal: AbortSignal, cancel?: AbortSignal, progress: import('./types.d.ts').Progress, at: number}} Call
 */

export class Engine {
  host = new Host();
  /** @type {Map<string, Session>} */
  sessions = new Map();
  /** @type {Map<string, Lab>} */
  labs = new Map();

  /**
   * @param {import('./pool.js').Pool} pool
   * @param {import('./pace.js').Pace} pace
   * @param {import('./types.d.ts').EngineInfo} info
   */
  constructor(pool, pace, info) {
    this.pool = pool;
    this.pace = pace;
    this.info = info;
  }

  /** @param {string} id */
  session(id) {
    return found(this.sessions, 'session', id);
  }

  /** @param {string} id */
  lab(id) {
    return found(this.labs, 'lab', id);
  }
}

/**
 * @template T
 * @param {Map<string, T>} among @param {string} kind @param {string} id
 */
function found(among, kind, id) {
  const one = among.get(id);
  if (one === undefined) throw new NnjitError('UNKNOWN_SESSION', `There is no ${kind} "${id}".`, { session: id });
  return one;
}
