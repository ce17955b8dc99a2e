// What a device finds wrong with work for it: memory it has not, commands it refuses. Takes note between open() and close(), where
// nothing is awaited, because a device's error scopes are a stack that others use too; tells afterwards.

import { NnjitError } from '../errors.js';

/**
 * Waits until buffers that were destroyed have given their memory back: browsers free it behind the first commands that come
 * after, and what fails for want of room sends none.
 * @param {GPUDevice} device
 */
export async function reclaimed(device) {
  for (let turn = 0; turn < 2; turn++) { // who waits for the commands may be told before the memory is freed
    device.queue.submit([]);
    await device.queue.onSubmittedWorkDone();
  }
}

export class Watch {
  /** @type {Promise<GPUError | null>[]} */
  #found = [];
  #open = false;

  /** @param {GPUDevice} device @param {string} what needs the memory or has the commands, for who is told */
  constructor(device, what) {
    this.device = device;
    this.what = what;
  }

  open() {
    this.device.pushErrorScope('out-of-memory');
    this.device.pushErrorScope('validation');
    this.#open = true;
  }

  /** A second time does nothing. */
  close() {
    if (!this.#open) return;
    this.#open = false;
    for (let scope = 0; scope < 2; scope++) {
      const told = this.device.popErrorScope();
      told.catch(() => undefined); // of a device that was lost: the run ends with that
      this.#found.push(told);
    }
  }

  /**
   * Rejects if anything was wrong: OUT_OF_MEMORY before what follows from it.
   * @param {string} [code] of what the device refuses @param {string} [hint] @returns {Promise<void>}
   */
  async told(code = 'BAD_PLAN', hint = '') {
    const errors = await Promise.all(this.#found);
    const full = errors.find((error) => error instanceof GPUOutOfMemoryError);
    if (full) throw new NnjitError('OUT_OF_MEMORY', `The GPU has no room for what ${this.what} needs: ${full.message}`);
    const refused = errors.find(Boolean);
    if (refused) throw new NnjitError(code, `The device refused ${this.what}: ${refused.message}`, {}, hint);
  }
}
