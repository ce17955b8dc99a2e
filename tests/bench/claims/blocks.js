// A page whose session is used run after run, in stretches in which the tuner works or rests; gives each stretch with what
// its runs took. Made for blocks.py.
import { opened } from './live.js';

/**
 * @typedef {{url: string, python: string[], backend: 'wasm' | 'webgpu', adapter: string, threads: number, mode: 'idle' | 'now', gapMs: number,
 *   blockMs: number, blocks: number, runs: number, mostMs: number}} How python: what the compiler's Python does first. Stretches of
 *   blockMs, at least so many `blocks` of each kind and `runs` runs in them, but no more of any after mostMs
 * @typedef {'work' | 'rest' | 'again'} Kind again: it rests as well, to compare with
 */

/** @param {How} how */
export async function blocks(how) {
  const { feeds: [feeds], sessions: [session] } = await opened({ ...how, hold: true, sessions: 1 }, {});
  /** @type {{kind: Kind, ms: number[], tried: number, delayedMs: number}[]} */
  const found = [];
  const tell = () => session.tuning.status();
  /** @param {number} ms */
  const use = async (ms) => {
    const times = [];
    for (const until = performance.now() + ms; performance.now() < until;) {
      const start = performance.now();
      await session.run(feeds);
      times.push(performance.now() - start);
      if (how.gapMs) await pause(how.gapMs);
    }
    return times;
  };
  await use(how.blockMs);
  // what comes once, as the other forms of the plan's nodes, is over before anything is counted
  await session.tuning.start({ mode: how.mode });
  const until = performance.now() + how.mostMs / 4;
  do await use(200); while (!session.tuning.events.some(isKernel) && performance.now() < until);
  const began = performance.now();
  /** @param {Kind} kind */
  const enough = (kind) => {
    const mine = found.filter((block) => block.kind === kind);
    return mine.length >= how.blocks && mine.reduce((sum, { ms }) => sum + ms.length, 0) >= how.runs;
  };
  const kinds = /** @type {Kind[]} */ (['work', 'rest', 'again']);
  while (!kinds.every(enough) && performance.now() - began < how.mostMs) {
    for (const kind of drawn(kinds)) {
      if (kind === 'work') await session.tuning.start({ mode: how.mode });
      else await session.tuning.pause();
      await use(200); // until what was begun is over
      const before = tell();
      const ms = await use(how.blockMs);
      const after = tell();
      found.push({ kind, ms, tried: after.candidates - before.candidates, delayedMs: after.delayedMs - before.delayedMs });
    }
  }
  const { state, reason } = tell();
  await session.tuning.pause();
  await session.release();
  return { blocks: found, state, reason };
}

/** Whether a kernel was laid out, or a candidate tried. @param {{kind: string}} event */
const isKernel = ({ kind }) => kind === 'kernel' || kind === 'trial';

/** In an order drawn anew. @template T @param {readonly T[]} some @returns {T[]} */
function drawn(some) {
  const left = [...some];
  return some.map(() => left.splice(Math.floor(Math.random() * left.length), 1)[0]);
}

/** @param {number} ms @returns {Promise<void>} */
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
