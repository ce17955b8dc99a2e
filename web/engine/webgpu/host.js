// A host call of a GPU plan: nodes without a shader, computed by the reference. Their inputs are read back once, from
// what the processor still has where it can be, and their outputs are kept for later calls beside the device's copy.

import { NnjitError, check } from '../errors.js';
import { asBytes } from '../values.js';
import { readTensors } from './readback.js';
import { widen } from './stored.js';

/** @typedef {import('./plan.js').LoadedPlan} LoadedPlan */
/** @typedef {import('./types.d.ts').GpuRef} GpuRef */
/** @typedef {import('../types.d.ts').HostValue} HostValue */

/**
 * @param {GPUDevice} device @param {LoadedPlan} plan @param {string} session
 * @param {import('./types.d.ts').GpuHostCall} segment
 * @param {Map<string, HostValue>} values host values made so far; gets those that are made here
 * @param {Map<string, Uint8Array>} known bytes of tensors that are here already, by name; gets what is read and made
 * @param {{host: import('../host.js').Host, signal: AbortSignal}} context
 * @param {() => Promise<void>} [told] rejects if the device refused what came before
 */
export async function callHost(device, plan, session, segment, values, known, { host, signal }, told = async () => undefined) {
  const { call } = segment;
  const missing = segment.inputs.filter(/** @returns {ref is GpuRef} */ (ref) => !ref.host && !known.has(ref.name));
  const reading = readTensors(device, missing.map((ref) => ({ ref, buffer: plan.buffer(ref.buffer) })));
  reading.catch(() => undefined);
  await told().catch(async (wrong) => {
    await reading.catch(() => undefined);
    throw wrong; // what the buffers hold is of an earlier run
  });
  const read = await reading;
  missing.forEach((ref, i) => known.set(ref.name, read[i]));
  const inputs = segment.inputs.map((ref) => {
    const { name } = ref;
    if (!ref.host) return { name, type: ref.type, dims: ref.dims, data: known.get(name) };
    const value = values.get(name) ?? plan.values.get(name);
    check(value !== undefined, 'BAD_PLAN', `No host value "${name}" was made before it is used.`, { name });
    return { ...value, name };
  });
  const outputs = await host.call({ session, plan: plan.key, call, inputs }, [], signal);
  check(outputs.length === segment.outputs.length, 'HOST_CALL_FAILED',
    `"${call}" gave ${outputs.length} outputs instead of ${segment.outputs.length}.`, { call });
  /** @type {import('./upload.js').Tensor[]} */
  const made = [];
  segment.outputs.forEach((ref, i) => {
    if (ref.host) {
      values.set(ref.name, outputs[i]);
      return;
    }
    const bytes = asBytes(outputs[i]?.data);
    if (bytes?.byteLength !== ref.nbytes) {
      throw new NnjitError('HOST_CALL_FAILED',
        `"${call}" gave ${bytes?.byteLength ?? 'no'} bytes for "${ref.name}" instead of ${ref.nbytes}.`, { call, name: ref.name });
    }
    known.set(ref.name, bytes);
    made.push(storedTensor(plan, ref, bytes));
  });
  plan.upload.write(made);
}

/** What goes where for a tensor of the plan. @param {LoadedPlan} plan @param {GpuRef} ref @param {Uint8Array} bytes of the tensor */
export const storedTensor = (plan, ref, bytes) => ({ buffer: plan.buffer(ref.buffer), data: widen(ref.type, ref.stored, bytes) });
