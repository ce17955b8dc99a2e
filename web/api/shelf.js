// The plans that a session holds, least recently used first. Takes requests: shapes of tensors, and values where they
// decide shapes; gives the plan that was made for exactly that, or one with room for it.
import { numbersIn, workAt } from './room.js';
import { Tensor } from './tensor.js';

/**
 * @typedef {import('./feeds.js').Feed} Feed
 * @typedef {import('../engine/types.js').Plan} Plan
 * @typedef {import('./room.js').Room} Room
 * @typedef {{shapes: Record<string, number[]>, values: Map<string, Tensor>, exact?: boolean}} Request
 *   exact: no plan with room will do
 * @typedef {{node: string, op: string, backend: 'webgpu' | 'wasm' | 'reference' | 'folded' | 'none', kernel?: string, step?: number,
 *   once?: boolean, reason?: string}} PlacedNode
 * @typedef {Pick<Plan, 'inputs' | 'outputs' | 'steps' | 'segments' | 'stats' | 'threads'> & {host: boolean, extends: Record<string, string>}} PlanFacts
 * @typedef {{key: string, backend: 'webgpu' | 'wasm' | 'reference', reason: string, constants: Record<string, import('./values.js').Value>, placement: PlacedNode[], facts: PlanFacts | null,
 *   seconds: Record<string, number>, load: {compileMs: number, initMs: number, bytes: number} | null, room: Room | null, noRoom: string, next: Record<string, number[]> | null, ahead: import('./ahead.js').AheadPolicy | null, request: Request}} Prepared
 *   noRoom: why it has none though lengths had moved; next: shapes of the request that is expected to follow; request: what it was asked for with, so that it can be asked for again
 */

export class Shelf {
  /** @type {Map<string, Prepared>} */
  #plans = new Map();
  /** Inputs whose values are part of a request. @type {string[]} */
  valueInputs = [];

  get size() {
    return this.#plans.size;
  }

  /** The engine's keys. */
  get keys() {
    return [...this.#plans.values()].map((plan) => plan.key);
  }

  /** The plan used last. @returns {Prepared | undefined} */
  get latest() {
    return [...this.#plans.values()].at(-1);
  }

  /**
   * The plan that serves a request; from now on it is the one used last.
   * @param {Request} request @returns {Prepared | undefined}
   */
  find(request) {
    const place = this.#place(request);
    const plan = this.#plans.get(place);
    if (!plan) return undefined;
    this.#plans.delete(place);
    this.#plans.set(place, plan);
    return plan;
  }

  /** Whether a plan serves a request. @param {Request} request */
  has(request) {
    return this.#plans.has(this.#place(request));
  }

  /** @param {Request} request @returns {string} where its plan stands */
  #place(request) {
    const own = this.#keyOf(request);
    if (request.exact || this.#plans.has(own)) return own;
    let [best, least] = [own, Infinity];
    for (const [place, { room, request: made }] of this.#plans) {
      const n = room && this.#serves(room, made, request);
      const work = n ? workAt(room.run, n) : Infinity;
      if (work < least) [best, least] = [place, work];
    }
    return best;
  }

  /** The request's numbers, if a plan serves it. @param {Room} room @param {Request} made what the plan was made for @param {Request} request */
  #serves(room, made, request) {
    if (Object.keys(made.shapes).length !== Object.keys(request.shapes).length) return null;
    return this.#valuesOf(made) === this.#valuesOf(request) ? numbersIn(room, made.shapes, request.shapes) : null;
  }

  /** @param {Request} request @param {Prepared} plan @param {boolean} [beside] the one used last stays that */
  put(request, plan, beside = false) {
    const { latest } = this;
    this.#plans.set(plan.room ? plan.key : this.#keyOf(request), plan);
    if (!beside || !latest) return;
    const [place] = /** @type {[string, Prepared]} */ ([...this.#plans].find(([, each]) => each === latest));
    this.#plans.delete(place);
    this.#plans.set(place, latest);
  }

  /** @param {string} key the engine's @returns {Prepared | undefined} */
  get(key) {
    return [...this.#plans.values()].find((plan) => plan.key === key);
  }

  /** @param {string} key the engine's @returns {Prepared[]} what was taken away */
  take(key) {
    const gone = [...this.#plans].filter(([, plan]) => plan.key === key);
    for (const [place] of gone) this.#plans.delete(place);
    return gone.map(([, plan]) => plan);
  }

  clear() {
    this.#plans.clear();
    this.valueInputs = [];
  }

  /** @param {Request} request */
  #keyOf(request) {
    const parts = Object.entries(request.shapes).map(([name, dims]) => `${name}:${dims.join('x')}`);
    return [...parts, this.#valuesOf(request)].sort().join(';');
  }

  /** @param {Request} request */
  #valuesOf({ values }) {
    const parts = [];
    for (const name of this.valueInputs) {
      const tensor = values.get(name);
      if (tensor) parts.push(`${name}=${Array.from(/** @type {ArrayLike<unknown>} */ (tensor.data)).join(',')}`);
    }
    return parts.sort().join(';');
  }
}

/** What decides a plan: shapes of tensors, and tensors whose values might. @param {Map<string, Feed>} feeds @returns {Request} */
export function requestOf(feeds) {
  const tensors = [...feeds].filter(/** @returns {entry is [string, Tensor]} */ (entry) => entry[1] instanceof Tensor);
  return { shapes: Object.fromEntries(tensors.map(([name, t]) => [name, [...t.dims]])), values: new Map(tensors) };
}

/** What the page keeps of a plan: everything but the bytes. @param {Plan} plan @returns {PlanFacts} */
export function factsOf({ inputs, outputs, steps, segments, stats, threads, extends: from = {} }) {
  return { inputs, outputs, steps, segments, stats, threads, extends: from, host: segments.some((s) => s.kind === 'host') };
}

/**
 * Names of the nodes that a step computes: those placed there, the ones that passes merged into others among them, in the
 * model's order; then what passes made.
 * @param {Prepared} plan @param {number} step
 */
export function nodesOf(plan, step) {
  const placed = plan.placement.filter((each) => each.step === step && !each.once).map(({ node }) => node);
  return [...new Set([...placed, ...(plan.facts?.steps[step].nodes ?? [])])];
}
