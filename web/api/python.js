// Python in the page: code runs in the compiler worker, in one namespace that stays from call to call.
import { fromValue } from './values.js';
import { getCompiler } from './workers.js';

/**
 * Runs Python and gives the value of its last expression: numbers, text, lists and dicts as themselves, a numpy
 * array as a Tensor, anything else as its repr. `nnjit`, `np` and top-level `await` are there.
 * @param {string} code
 * @returns {Promise<any>}
 */
export async function python(code) {
  const answer = await getCompiler().call('python', { code: String(code) });
  return 'tensor' in answer ? fromValue(answer.tensor) : answer.plain;
}
