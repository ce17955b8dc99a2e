// nnjit in the page: onnxruntime-web's shape of API (InferenceSession, Tensor, env) and what this project adds.
// Importing this module starts the compiler worker, so that Python is up by the time a model has arrived.
import { env } from './api/env.js';
import { NnjitError } from './api/errors.js';
import { device, help } from './api/about.js';
import { python } from './api/python.js';
import { pythonHandlers } from './api/python-sessions.js';
import { InferenceSession } from './api/session.js';
import { Tensor } from './api/tensor.js';
import * as workers from './api/workers.js';

workers.servePython(pythonHandlers);

/** Resolves when Python and the compiler are up, with their versions; anew after restart(). */
export let ready = start();

function start() {
  const up = workers.getCompiler().ready.then((info) => {
    env.versions.nnjit = info.nnjit;
    env.versions.pyodide = info.pyodide;
    return info;
  });
  up.catch(() => undefined); // sessions report it; a page that never asks needs no unhandled rejection
  return up;
}

/**
 * Starts a dead worker anew (`{all: true}`: both, whatever their state). Other sessions keep running; those
 * whose worker died compile again at their next run.
 * @param {{all?: boolean}} [options]
 * @returns {Promise<void>}
 */
export async function restart(options) {
  const done = workers.restart(options);
  ready = start();
  await done;
}

export const { onDeath } = workers;
export { InferenceSession, NnjitError, Tensor, device, env, help, python };

const nnjit = {
  InferenceSession,
  NnjitError,
  Tensor,
  device,
  env,
  help,
  onDeath,
  python,
  restart,
  get ready() {
    return ready;
  },
};

export default nnjit;

if (typeof window !== 'undefined') Object.assign(window, { nnjit });
