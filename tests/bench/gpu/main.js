// What main.py calls in the page, as `bench`. Python decides what to time; everything happens in one page, on one device for
// nnjit and those of the peers.
import { decoded } from './decode.js';
import { gpu, start } from './device.js';
import { closeChain, model, openChain, resident, spinChain, warm } from './models.js';
import { forget } from './numbers.js';
import { tfProduct } from './peers.js';
import { bring, open, touch, touchApart } from './readback.js';
import { copyRate, timeCold, timeShader } from './shaders.js';

/** @param {number} nbytes */
const openReadback = (nbytes) => open(gpu.device, nbytes);

Object.assign(globalThis, {
  bench: {
    start, forget, timeShader, timeCold, copyRate, tfProduct, decoded, resident, warm, model,
    openChain, spinChain, closeChain, openReadback, bring, touch, touchApart,
  },
});
