// Many schedules of one kernel, timed in the engine's lab: what spaces.py asks for.

/** So many of each kernel's fastest are timed twice. */
const AGAIN = 10;

/**
 * @param {string} url of JSON: {threads, jobs: [{setup, kernels}]} with bytes as {$base64}
 * @returns {Promise<{ms: number, reports: Report[]}[]>}
 *
 * @typedef {{base: number[], mine: number[]}} Duel
 * @typedef {Duel & {verdict: string, again: Duel | null}} Report
 */
export async function time(url) {
  const { EngineClient } = await import('/engine/client.js');
  const { threads, jobs } = revive(await (await fetch(url)).json());
  const engine = await EngineClient.start({ threads });
  await engine.pace({ mode: 'now' });
  const found = [];
  for (const [i, { setup, kernels }] of jobs.entries()) {
    const lab = `lab-${i}`;
    await engine.openLab(lab, { shared: true, threads });
    const { ms } = await engine.labSetup(lab, setup);
    /** @type {Report[]} */
    const reports = [];
    for (const kernel of kernels) {
      const { verdict, base, mine } = await engine.labTrial(lab, { kernel, rounds: 5 });
      reports.push({ verdict, base, mine, again: null });
    }
    // who was only lucky is not lucky twice
    const ratio = (/** @type {number} */ n) => (reports[n].mine.length ? Math.min(...reports[n].mine) / Math.min(...reports[n].base) : Infinity);
    const first = reports.map((_, n) => n).sort((a, b) => ratio(a) - ratio(b)).slice(0, AGAIN);
    for (const n of first) {
      const { base, mine } = await engine.labTrial(lab, { kernel: kernels[n], rounds: 9 });
      reports[n].again = { base, mine };
    }
    found.push({ ms, reports });
    await engine.closeLab(lab);
  }
  engine.terminate();
  return found;
}

/** @param {any} value @returns {any} */
function revive(value) {
  if (Array.isArray(value)) return value.map(revive);
  if (value === null || typeof value !== 'object') return value;
  if ('$base64' in value) return Uint8Array.from(atob(value.$base64), (c) => c.charCodeAt(0));
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, revive(v)]));
}
