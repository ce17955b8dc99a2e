// The built-in samples: real, trained models doing something a person can see. Each is a card on the
// opening screen, the address of its model, and a function that mounts it once that model is open.
import { magika } from './magika.js';
import { minilm } from './minilm.js';
import { ocr } from './ocr.js';
import { speech } from './speech.js';

/** @typedef {import('../ui/runner.js').Runner} Runner */

/**
 * What a mounted sample may use.
 * @typedef {object} Bench
 * @property {Runner} runner runs the sample's model
 * @property {(url: string) => Promise<Runner>} second opens another model the sample needs, once, with progress shown
 * @property {(error: unknown, what: string) => void} fail shows a failure card
 */

/**
 * @typedef {object} Mounted
 * @property {(file: File) => boolean} takes whether a dropped file is for the sample (else it is opened as a model)
 * @property {(file: File) => void} [drop]
 * @property {() => void} [close] lets go of microphones and the like
 */

/**
 * @typedef {object} Sample
 * @property {string} id
 * @property {string} title
 * @property {string} say one sentence on the card
 * @property {string} icon path data of a 24 × 24 line drawing
 * @property {string} about the model, its maker and its size
 * @property {string} model address of the .onnx file, relative to the page
 * @property {(host: HTMLElement, bench: Bench) => Promise<Mounted>} mount
 */

/** @type {readonly Sample[]} */
export const samples = [magika, minilm, ocr, speech];
