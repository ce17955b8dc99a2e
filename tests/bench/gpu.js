// What gpu.py calls in the page, as `bench`. Python decides what to time; everything happens in one page, on one device for
// nnjit and those of the peers.
import { decoded } from './gpu_decode.js';
import { gpu, start } from './gpu_device.js';
import { closeChain, model, openChain, resident, spinChain, warm } from './gpu_models.js';
import { forget } from './gpu_numbers.js';
import { tfProduct } from './gpu_peers.js';
import { bring, open, touch, touchApart } from './gpu_readback.js';
import { copyRate, timeCold, timeShader } from './gpu_shaders.js';

/** @param {number} nbytes */
const openReadback = (nbytes) => open(gpu.device, nbytes);

Object.assign(globalThis, {
  bench: {
    start, forget, timeShader, timeCold, copyRate, tfProduct, decoded, resident, warm, model,
    openChain, spinChain, closeChain, openReadback, bring, touch, touchApart,
  },
});
