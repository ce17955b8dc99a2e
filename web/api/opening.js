// How a session gets its model: the file and its external data on their way into the workers, what is missing looked for beside
// it, and the plans that serve on one backend or on either.
import { Backends } from './backends.js';
import { asFailure } from './errors.js';
import { Plans } from './plans.js';
import { openSource } from './sources.js';
import { getCompiler, getEngine, getGpu } from './workers.js';

/** @typedef {import('./sources.js').BytesLike} BytesLike */
/** @typedef {import('./options.js').Options} Options */

/**
 * The model's Blob and those of its external files, put into the workers. Files that the caller did not give
 * are looked for beside a model that came from a URL.
 * @param {BytesLike} from @param {Options} options
 */
export async function openModel(from, options) {
  const { progress, signal } = options;
  getCompiler();
  // all start while the model is on its way
  if (options.provider === 'wasm' || options.measured) void getEngine().catch(() => undefined);
  if (options.provider === 'webgpu') void getGpu().catch(() => undefined);
  const [model, ...external] = await openAll(from, options);
  const plans = plansFor(model, external, options);
  for (;;) {
    try {
      await plans.open(progress, signal);
      return plans;
    } catch (reason) {
      const error = asFailure(reason);
      const url = beside(error, plans);
      if (!url) {
        await plans.drop();
        throw error;
      }
      const onProgress = (/** @type {number} */ done, /** @type {number} */ total) => progress('model', done, total);
      plans.external.push(
        await openSource(url, { signal, name: String(error.file), onProgress, early: true }).catch(async (gone) => {
          await plans.drop();
          throw gone;
        }),
      );
    }
  }
}

/**
 * With both backends allowed runs decide, unless outputs are to stay on the GPU.
 * @param {import('./sources.js').Source} model @param {import('./sources.js').Source[]} external @param {Options} options @returns {Plans}
 */
function plansFor(model, external, options) {
  const stays = Object.values(typeof options.locations === 'string' ? [options.locations] : options.locations).includes('gpu-buffer');
  if (!options.measured || stays) return new Plans(model, external, options);
  return /** @type {Plans} */ (/** @type {unknown} */ (new Backends(model, external, options))); // the same to all who use it
}

/** Where a missing external file may lie: beside a model that came from a URL. @param {import('./errors.js').NnjitError} error @param {Plans} plans */
function beside(error, { model, external }) {
  const missing = error.code === 'MISSING_EXTERNAL_DATA' ? error.file : undefined;
  if (!missing || !model.url || external.some((source) => source.name === missing)) return null;
  const url = new URL(missing, model.url);
  return url.origin === new URL(model.url).origin ? url : null;
}

/** Model and external files at once, with one progress over all. @param {BytesLike} from @param {Options} options */
async function openAll(from, { external, signal, progress, name }) {
  const wanted = [{ data: from, name }, ...external.map(({ path, data }) => ({ data, name: path }))];
  const done = wanted.map(() => [0, 0]);
  const opened = await Promise.allSettled(
    wanted.map(({ data, name: as }, i) =>
      openSource(data, {
        signal,
        early: true,
        ...(as ? { name: as } : {}),
        onProgress: (...now) => {
          done[i] = now;
          progress('model', ...sum(done));
        },
      }),
    ),
  );
  const sources = opened.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  const failed = opened.find((one) => one.status === 'rejected');
  if (!failed) return sources;
  for (const source of sources) source.drop();
  throw failed.reason;
}

/** @param {number[][]} pairs @returns {[number, number]}  the total is 0 while one of them is unknown */
function sum(pairs) {
  const total = pairs.some((p) => !p[1]) ? 0 : pairs.reduce((n, p) => n + p[1], 0);
  return [pairs.reduce((n, p) => n + p[0], 0), total];
}
