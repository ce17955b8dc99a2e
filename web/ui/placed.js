// Where nodes ran, as rows to read: takes a session's placement, node by node; returns one row for each step with
// the nodes fused into it, and one for each node that is no step.

/** @typedef {import('../api/plans.js').PlacedNode} PlacedNode */

/**
 * One row: a step with the nodes fused into it, or a node that is no step.
 * @typedef {object} Row
 * @property {number | null} step
 * @property {string[]} ops
 * @property {string[]} nodes
 * @property {string} where one of WHERE's keys
 * @property {string} kernel
 * @property {string} reason
 * @property {{ms: number, share: number, gflops: number | null} | null} time
 */

/** @type {Record<string, {label: string, title: string}>} */
export const WHERE = {
  wasm: { label: 'kernel', title: 'WebAssembly written for these shapes' },
  webgpu: { label: 'GPU kernel', title: 'a WebGPU kernel written for these shapes' },
  reference: { label: 'reference', title: 'no kernel yet: onnx.reference computes it, slowly' },
  once: { label: 'at load', title: 'depends on weights alone: done once, when the model was loaded' },
  folded: { label: 'folded', title: 'computed while compiling: costs nothing' },
  none: { label: 'view', title: 'memory that is there already, as it is or in another view, or a value that nothing needs: costs nothing' },
};

/**
 * @param {readonly PlacedNode[]} placed
 * @returns {Row[]} steps in the order they run, the rest after them
 */
export function rowsOf(placed) {
  /** @type {Map<number, Row>} */
  const steps = new Map();
  /** @type {Row[]} */
  const others = [];
  for (const { node, op, backend, kernel = '', step: index, once, reason = '' } of placed) {
    const where = once ? 'once' : backend in WHERE ? backend : 'none';
    // What was done at load is no step of a run.
    const step = once ? undefined : index;
    const known = step === undefined ? undefined : steps.get(step);
    if (known) {
      known.ops.push(op);
      known.nodes.push(node);
      continue;
    }
    const row = { step: step ?? null, ops: [op], nodes: [node], where, kernel, reason, time: null };
    if (step === undefined) others.push(row);
    else steps.set(step, row);
  }
  return [...[...steps.values()].sort((a, b) => Number(a.step) - Number(b.step)), ...others];
}
