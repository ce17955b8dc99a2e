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
 * @returns {Origin | null} null when none of several files is a model by its name
 */
export function fromFiles(files) {
  const isModel = (/** @type {File} */ file) => /\.(onnx|ort|pb)$/i.test(file.name);
  const model = files.find(isModel) ?? (files.length === 1 ? files[0] : null);
  return model && { name: model.name, url: '', files: [model, ...files.filter((file) => file !== model)] };
}

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
