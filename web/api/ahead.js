// Plans made before they are needed. Takes each run and the plan that served it; where lengths rise step by step it has the
// plan for the next capacity made while runs go on, and where one shape comes again and again a plan of exactly that shape.
// The numbers are Python's: they come with a plan that has room (py/nnjit/runtime/ahead.py).
import { asFailure } from './errors.js';
import { log } from './env.js';
import { numbersIn, shapesAt } from './room.js';

/**
 * @typedef {import('./plans.js').Plans} Plans
 * @typedef {import('./shelf.js').Prepared} Prepared
 * @typedef {import('./shelf.js').Request} Request
 * @typedef {import('./room.js').Room} Room
 * @typedef {{rises: number, recent: number, margin: number, share: number, again: number}} AheadPolicy rises: so many steps of the same size
 *   among the last `recent` lengths are a stream; margin: its next plan is begun when what is left of the capacity lasts so many times as
 *   long as making this plan took, or less than 1 - share of the capacity is left; again: runs of one shape in a row
 * @typedef {{lengths: number[][], runs: number, shape: string, next: boolean, own: Set<string>}} Seen next: the next capacity was asked
 *   for; own: the shapes that were
 */

export class Ahead {
  #plans;
  #queue;
  /** @type {WeakMap<Room, Seen>} */
  #seen = new WeakMap();

  /** @param {Plans} plans @param {<T>(work: () => Promise<T>) => Promise<T>} queue does work between the session's calls */
  constructor(plans, queue) {
    this.#plans = plans;
    this.#queue = queue;
  }

  /** A run on this plan begins: what is expected to follow a first one is made beside it. @param {Prepared} plan */
  begins(plan) {
    const { next, facts } = plan;
    if (!next || !facts || facts.host || this.#plans.preparing) return;
    plan.next = null;
    this.#make({ shapes: next, values: new Map() });
  }

  /** @param {Prepared} plan @param {Request} request that it has served @param {number} ms of the run */
  ran(plan, request, ms) {
    const { room, ahead: policy, facts } = plan;
    // Values are not known ahead, and Python is needed for runs with host calls
    if (!room || !policy || !facts || facts.host || plan.request.values.size) return;
    let seen = this.#seen.get(room);
    if (!seen) this.#seen.set(room, (seen = { lengths: [], runs: 0, shape: '', next: false, own: new Set() }));
    const shape = JSON.stringify(request.shapes);
    seen.runs = seen.shape === shape ? seen.runs + 1 : 1;
    seen.shape = shape;
    if (seen.runs >= policy.again && !seen.own.has(shape) && !this.#plans.preparing) {
      seen.own.add(shape);
      this.#make({ shapes: request.shapes, values: new Map(), exact: true });
      return;
    }
    const n = numbersIn(room, plan.request.shapes, request.shapes);
    if (!n) return;
    // what rises; the other lengths stay as they are now
    const steps = n.map((now, i) => stepTo(now, seen.lengths.map((before) => before[i]), policy.rises));
    const rising = steps.findIndex(Boolean);
    seen.lengths = [...seen.lengths, n].slice(-policy.recent);
    if (rising < 0 || seen.next || this.#plans.preparing) return;
    const [now, step, { most }] = [n[rising], steps[rising], room.lengths[rising]];
    const { bind = 0, compile = 0 } = plan.seconds;
    const made = 1000 * (bind + compile) + (plan.load ? plan.load.compileMs + plan.load.initMs : 0);
    if (now < policy.share * most && ((most - now) / step) * ms > policy.margin * made) return;
    seen.next = true;
    this.#make({ shapes: shapesAt(room, plan.request.shapes, n.map((d, i) => (i === rising ? most + step : d))), values: new Map() });
  }

  /** @param {Request} request */
  #make(request) {
    const plans = this.#plans;
    const made = plans.stage(request).then(() => (plans.pins ? undefined : this.#queue(() => plans.settle())));
    made.catch((error) => log('info', `nothing was made ahead: ${asFailure(error).message}`)); // released meanwhile
  }
}

/**
 * The step by which lengths rise to n; 0 where they do not. Several streams may take turns.
 * @param {number} n @param {number[]} lengths of earlier runs @param {number} rises
 */
function stepTo(n, lengths, rises) {
  const below = lengths.filter((length) => length < n);
  const step = n - Math.max(...below, -Infinity);
  for (let back = 1; back <= rises; back++) if (!lengths.includes(n - back * step)) return 0;
  return step;
}
