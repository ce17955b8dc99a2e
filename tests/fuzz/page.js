// Several models in one page: all are opened, then each runs, then each runs once more with its memory as the first run and
// the others have left it. Nothing here knows what the right answers are.
import { Encoder, decode, readBundle } from '/t/support/values.js';

/**
 * @typedef {{model: {offset: number, length: number}, options: object, inputs: Record<string, import('../support/values.js').Head>,
 *   outputs: string[]}} Given
 */

/**
 * @param {string} url of a bundle {cases: Given[]}
 * @returns {Promise<{told: {error: string, rounds: import('../support/values.js').Head[][]}[], data: string}>}
 */
export async function run(url) {
  const { default: nnjit } = await import(/** @type {string} */ ('/nnjit.js'));
  const { head, blob } = readBundle(await (await fetch(url)).arrayBuffer());
  const encoder = new Encoder();
  const told = head.cases.map(() => ({ error: '', rounds: /** @type {any[]} */ ([]) }));
  const failed = (/** @type {number} */ i, /** @type {any} */ error) => {
    told[i].error ||= `${error?.code ?? error?.name}: ${error?.message ?? error}`;
  };
  const sessions = await Promise.all(head.cases.map(async (/** @type {Given} */ { model, options }, /** @type {number} */ i) => {
    try {
      return await nnjit.InferenceSession.create(blob.slice(model.offset, model.offset + model.length), options);
    } catch (error) {
      return failed(i, error);
    }
  }));
  for (let round = 0; round < 2; round++) {
    for (const [i, session] of sessions.entries()) {
      if (!session || told[i].error) continue;
      try {
        const feeds = Object.fromEntries(Object.entries(head.cases[i].inputs).map(([name, each]) => [name, decode(/** @type {any} */ (each), blob, nnjit.Tensor)]));
        const outputs = await session.run(feeds);
        told[i].rounds.push(head.cases[i].outputs.map((/** @type {string} */ name) => encoder.add(outputs[name])));
      } catch (error) {
        failed(i, error);
      }
    }
  }
  await Promise.all(sessions.map((session, i) => session?.release().catch((/** @type {unknown} */ error) => failed(i, error))));
  return { told, data: await encoder.text() };
}
