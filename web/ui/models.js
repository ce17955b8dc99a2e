// A model on its way in: where it comes from, and how it becomes an open session. Takes files, an address
// or a sample; returns a session, reporting each stage.
import { nnjit } from './api.js';
import { readLink } from './links.js';

/** @typedef {import('../nnjit.js').InferenceSession} Session */

/**
 * @typedef {object} Origin
 * @property {string} name what the person calls it: a file's name
 * @property {string} url '' for a file from disk
 * @property {File[]} files the model first, then its external data; empty for an address
 * @property {string} [sample] id of the built-in sample
 */

/** @typedef {(stage: string, done: number, total: number) => void} Report */

/** @param {string} url @returns {Origin} */
export function fromAddress(url) {
  const { pathname, href } = new URL(url, document.baseURI);
  return { name: decodeURIComponent(pathname.split('/').pop() || href), url: href, files: [] };
}

/**
 * @param {File[]} files as dropped: one model and, maybe, the files its weights lie in
 * @returns {Origin}
 * @throws {Error} with code NO_MODEL where it is not told by their names which one is the model
 */
export function fromFiles(files) {
  const named = (/** @type {RegExp} */ end) => files.filter((file) => end.test(file.name));
  // Tensors are saved as .pb too, beside models.
  const models = [named(/\.(onnx|ort)$/i), named(/\.pb$/i)].find((some) => some.length) ?? (files.length === 1 ? files : []);
  const [model] = models;
  const these = files.length ? `None of these ${files.length} files` : 'Nothing in this folder';
  if (!model) throw unclear(`${these} is a model by its name.`, 'Drop the .onnx file together with its data files.');
  if (models.length > 1) {
    const list = models.slice(0, 4).map(({ name }) => name).join(', ');
    const more = models.length > 4 ? ' …' : '';
    throw unclear(`These are ${models.length} models: ${list}${more}.`, 'One is open at a time: drop one of them, with its data files if it has any.');
  }
  return { name: model.name, url: '', files: [model, ...files.filter((file) => file !== model)] };
}

/** @param {string} message @param {string} hint */
const unclear = (message, hint) => Object.assign(new Error(message), { code: 'NO_MODEL', hint });

/**
 * @param {Origin} origin
 * @param {{report: Report, signal: AbortSignal}} how
 * @returns {Promise<Session>}
 */
export async function open(origin, { report, signal }) {
  const [model, ...data] = origin.files;
  const { backend } = readLink(location.search);
  return nnjit.InferenceSession.create(model ?? origin.url, {
    progress: report,
    signal,
    ...(backend.length ? { executionProviders: backend } : {}),
    ...(data.length ? { externalData: data.map((file) => ({ path: file.name, data: file })) } : {}),
  });
}
