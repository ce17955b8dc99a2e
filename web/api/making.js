// How a plan is made: asks Python for it, with the values that may decide shapes; what Python tells before the plan is there,
// shaders and constants, goes to the GPU's driver at once. Gives the plan with what is known of it; nothing is loaded yet.
import { factsOf } from './shelf.js';
import { Tensor, sizeOf } from './tensor.js';
import { toValue } from './values.js';
import { getCompiler, getGpu } from './workers.js';

/**
 * @typedef {import('./options.js').Progress} Progress
 * @typedef {import('../engine/types.js').Plan} Plan
 * @typedef {import('./shelf.js').Request} Request
 * @typedef {import('./shelf.js').Prepared} Prepared
 * @typedef {import('../engine/webgpu/shader.js').Shader} Shader
 * @typedef {{id: string, files: import('./sources.js').Bytes[], loaded: string[], onGpu: boolean}} About the session: its name
 *   in the workers, the model's files, and the keys of the plans that the engine has, so that Python takes back a plan that
 *   never got there
 * @typedef {{prepared: Prepared, plan: Plan | null, evicted: string[], valueInputs: string[], small: string[], answer: any}} Made
 *   plan: to be loaded; evicted: given up for it; valueInputs: whose values decide shapes; small: whose values Python was told;
 *   answer: Python's
 */

/** Feeds of at most this many bytes go along when a plan is made, in case their values decide shapes. */
const SMALL = 1024;

/**
 * @param {About} about @param {Request} request @param {Progress} progress @param {AbortSignal | null} signal
 * @returns {Promise<Made>}
 */
export async function compile({ id, files, loaded, onGpu }, request, progress, signal) {
  const { shapes, values, exact = false } = request;
  const small = smallOf(request);
  const given = Object.fromEntries(small.map((name) => [name, toValue(/** @type {Tensor} */ (values.get(name)))]));
  const { tell, over, shaders } = onGpu ? await ahead(id, files, progress) : { tell: progress, over: () => undefined, shaders: [] };
  const answer = await getCompiler().call(
    'prepare',
    { session: id, shapes, values: given, loaded, exact },
    { signal, onProgress: tell },
  ).catch((error) => {
    over();
    throw error;
  });
  const { plan } = answer;
  if (!plan) over();
  if (plan?.backend === 'webgpu') plan.shaders = plan.shaders.map((/** @type {Shader | number} */ each) => (typeof each === 'number' ? shaders[each] : each));
  return answered(answer, request);
}

/** Inputs whose values go along. @param {Request} request @returns {string[]} */
export const smallOf = ({ values }) => [...values].filter(([, tensor]) => byteLength(tensor) <= SMALL).map(([name]) => name);

/** What Python's answer to a request makes. @param {any} answer @param {Request} of @returns {Made} */
export function answered(answer, of) {
  const { plan, evicted, valueInputs } = answer;
  const small = smallOf(of);
  const copy = (/** @type {Tensor} */ { type, data, dims }) => new Tensor(type, data.slice(), dims);
  const deciding = small.filter((name) => valueInputs.includes(name));
  const values = new Map(deciding.map((name) => [name, copy(/** @type {Tensor} */ (of.values.get(name)))]));
  const request = { shapes: of.shapes, values, exact: of.exact ?? false };
  const prepared = { room: null, noRoom: '', next: null, ahead: null, ...answer, facts: plan && factsOf(plan), load: null, request };
  return { plan, evicted, valueInputs, prepared, small, answer };
}

/**
 * Progress of a compilation. Shaders and constants come with it as soon as they are known: the driver compiles the ones
 * and the device gets the others while Python goes on.
 * @param {string} id @param {About['files']} files @param {Progress} progress
 * @returns {Promise<{tell: import('./rpc.js').Tell, over: () => void, shaders: Shader[]}>} over: no plan will come; shaders: those told, by number
 */
async function ahead(id, files, progress) {
  /** @type {Shader[]} */
  const shaders = [];
  const { client } = await getGpu();
  const early = client.expect(id, files);
  return {
    shaders,
    over: () => client.unexpect(id),
    tell: (stage, done, total, detail) => {
      if (stage === 'shader') {
        shaders[done] = JSON.parse(String(detail));
        early?.expect(done, shaders[done]);
      } else if (stage === 'constants') early?.tell(JSON.parse(String(detail)));
      else progress(stage, done, total);
    },
  };
}

/** Infinity for strings and what lies on the GPU, which have no bytes of their own here. @param {Tensor} tensor */
const byteLength = (tensor) => (tensor.type === 'string' || tensor.location === 'gpu-buffer' ? Infinity : sizeOf(tensor));
