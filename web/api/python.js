// Python in the page: code runs in the compiler worker, in one namespace that stays from call to call.
import { failure } from './errors.js';
import { distrust } from './kept-plans.js';
import { fromValue } from './values.js';
import { getCompiler } from './workers.js';

/**
 * Runs Python and gives the value of its last expression: numbers, text, lists and dicts as themselves, a numpy
 * array as a Tensor, anything else as its repr. `nnjit`, `np` and top-level `await` are there.
 * @param {string} code
 * @returns {Promise<any>}
 */
export async function python(code) {
  if (typeof code !== 'string') throw failure('BAD_ARGUMENT', `python() takes code as text, not ${typeof code}`, { hint: "nnjit.python('1 + 1')" });
  distrust();
  const answer = await getCompiler().call('python', { code });
  return 'tensor' in answer ? fromValue(answer.tensor) : answer.plain;
}
