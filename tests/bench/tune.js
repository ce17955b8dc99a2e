// One model tuned in this page while it is used: every candidate, every inference's latency. Made for tune.py.

/**
 * @param {string} url of a bundle
 * @param {{threads: number, mode: 'idle' | 'now', seconds: number, gapMs: number, before: number, cacheUrl: string, backend?: 'wasm' | 'webgpu'}} how
 *   gapMs: pause between inferences; before: inferences before tuning begins, to compare with
 */
export async function study(url, { threads, mode, seconds, gapMs, before, cacheUrl, backend = 'wasm' }) {
  const { decode, readBundle } = await import('/t/support/values.js');
  const nnjit = await import('/nnjit.js');
  nnjit.env.wasm.numThreads = threads;
  await nnjit.ready;
  const { head, blob } = readBundle(await (await fetch(url)).arrayBuffer());
  const created = performance.now();
  const session = await nnjit.InferenceSession.create(head.job.url, { executionProviders: [backend] });
  const feeds = Object.fromEntries(
    Object.entries(head.job.inputs).map(([n, value]) => [n, decode(/** @type {any} */ (value), blob, nnjit.Tensor)]),
  );
  /** @type {{at: number, ms: number}[]} */
  const latencies = [];
  let origin = 0;
  const once = async () => {
    const start = performance.now();
    await session.run(feeds);
    const end = performance.now();
    latencies.push({ at: start - origin, ms: end - start });
    if (gapMs) await new Promise((resolve) => { setTimeout(resolve, gapMs); });
  };
  await session.run(feeds);
  const firstMs = performance.now() - created;
  for (let i = 0; i < 3; i++) await once();
  latencies.length = 0;
  origin = performance.now();
  for (let i = 0; i < before; i++) await once();
  const quiet = latencies.splice(0);
  origin = performance.now();
  await session.tuning.start({ mode, cacheUrl });
  // the session itself stops for a moment where another plan takes over, and goes on
  const ends = () => ['done', 'failed'].includes(session.tuning.status().state);
  while (performance.now() - origin < seconds * 1000 && !ends()) {
    if (gapMs < 0) await new Promise((resolve) => { setTimeout(resolve, 50); });
    else await once();
  }
  const during = latencies.splice(0);
  const status = session.tuning.status();
  const dump = await session.tuning.dump();
  await session.tuning.pause();
  const expected = await session.run(feeds);
  origin = performance.now();
  for (let i = 0; i < Math.max(before, 5); i++) await once();
  const after = latencies.splice(0);
  const records = await session.tuning.export();
  const checked = Object.keys(expected).length;
  return { firstMs, quiet, during, after, status, dump, events: [...session.tuning.events], facts: session.tuning.facts, records, checked };
}
