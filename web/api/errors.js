// Typed errors of the API: the engine's NnjitError, made from what was thrown or found wrong, and the near
// name for a misspelt one.
import { NnjitError } from '../engine/errors.js';

export { NnjitError };

/**
 * An error with its facts and its hint in one object.
 * @param {string} code  upper-case word for the kind of failure; the same in Python and JavaScript
 * @param {string} message
 * @param {Record<string, unknown> & {hint?: string, cause?: unknown}} [facts]  node, op, dtype, file, input, …
 * @returns {NnjitError}
 */
export function failure(code, message, facts = {}) {
  const { hint = '', cause, ...fields } = facts;
  const error = new NnjitError(code, message, fields, hint);
  if (cause !== undefined) error.cause = cause;
  return error;
}

/**
 * Whatever was thrown, as an NnjitError: one already typed stays itself, an abort becomes ABORTED.
 * @param {unknown} reason
 * @param {string} [code]  used when the reason has none
 * @returns {NnjitError}
 */
export function asFailure(reason, code = 'INTERNAL') {
  if (reason instanceof NnjitError) return reason;
  const { name, message } = reason instanceof Error ? reason : { name: '', message: String(reason) };
  if (name === 'AbortError') return failure('ABORTED', message, { cause: reason });
  return failure(code, name && name !== 'Error' ? `${name}: ${message}` : message, { cause: reason });
}

/** @param {AbortSignal | null | undefined} signal @param {string} what */
export function throwIfAborted(signal, what) {
  if (signal?.aborted) throw failure('ABORTED', `${what} was cancelled`, { cause: signal.reason });
}

/**
 * The candidate most like a misspelt name, or undefined when none is near (more than about a third wrong).
 * @param {string} name @param {Iterable<string>} candidates
 * @returns {string | undefined}
 */
export function nearestName(name, candidates) {
  let best;
  let bestDistance = Infinity;
  for (const candidate of candidates) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    const allowed = Math.max(1, Math.ceil(Math.max(name.length, candidate.length) / 3));
    if (distance <= allowed && distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Levenshtein's distance, one row at a time. @param {string} a @param {string} b */
function editDistance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, row[j] + 1, next[j - 1] + 1));
    }
    row = next;
  }
  return row[b.length];
}
