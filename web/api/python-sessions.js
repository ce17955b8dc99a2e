// Sessions that Python in the page makes: bridge_python.py calls these handlers, and each is one call of the
// public API. Python holds a number for each session.
import { released } from './plans.js';
import { InferenceSession } from './session.js';
import { fromValue, toValue } from './values.js';

/** @type {Map<number, InferenceSession>} */
const sessions = new Map();
/** Models of the released ones: their names. @type {Map<number, string>} */
const gone = new Map();
let next = 1;

/** @param {number} handle */
function find(handle) {
  const session = sessions.get(handle);
  if (!session) throw released(String(handle), gone.get(handle) ?? 'a model');
  return session;
}

/** What Python may ask of a session by name. @type {Record<string, (session: InferenceSession, args: any) => unknown>} */
const QUESTIONS = {
  placement: (session) => session.placement(),
  stats: (session) => session.stats(),
  profile: (session, options) => session.profile(options),
  kernel: (session, { step }) => session.kernel(step),
  suggest: (session, { shapes }) => session.suggest(shapes),
  prepare: (session, { shapes }) => session.prepare(shapes),
  backend: (session) => session.backend,
  'tuning.status': ({ tuning }) => tuning.status(),
  'tuning.start': ({ tuning }, options) => tuning.start(options),
  'tuning.pause': ({ tuning }) => tuning.pause(),
  'tuning.finished': ({ tuning }) => tuning.finished(),
  'tuning.reset': ({ tuning }) => tuning.reset(),
  'tuning.export': ({ tuning }) => tuning.export(),
  'tuning.import': ({ tuning }, { records }) => tuning.import(records),
};

/** @type {Record<string, import('./rpc.js').Handler>} */
export const pythonHandlers = {
  'python.create': async ({ model, options }) => {
    const session = await InferenceSession.create(model, options);
    const handle = next++;
    sessions.set(handle, session);
    return { handle, inputs: session.inputMetadata, outputs: session.outputMetadata };
  },
  'python.run': async ({ handle, feeds, fetch }) => {
    const tensors = Object.fromEntries(Object.entries(feeds).map(([name, value]) => [name, fromValue(/** @type {any} */ (value))]));
    const results = await find(handle).run(tensors, fetch);
    return Object.values(results).map(toValue);
  },
  'python.ask': async ({ handle, question, args }) => JSON.stringify((await QUESTIONS[question](find(handle), args)) ?? null),
  'python.check': async ({ handle, feeds }) => {
    const tensors = Object.fromEntries(Object.entries(feeds).map(([name, value]) => [name, fromValue(/** @type {any} */ (value))]));
    return JSON.stringify(await find(handle).check(tensors));
  },
  'python.release': async ({ handle }) => {
    const session = sessions.get(handle);
    if (!session) return;
    sessions.delete(handle);
    gone.set(handle, session.model.files[0]);
    await session.release();
  },
};
