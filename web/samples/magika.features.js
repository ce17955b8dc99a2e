// What Magika (Google's file-type model, standard_v3_3) looks at. Takes a file; returns the 2048 integers
// it was trained on: the first and the last 1024 bytes without outer white space, 256 where a file is
// shorter.

export const SIDE = 1024;
const PADDING = 256;
export const BLOCK = 4096;
/** Below this many bytes the model is not asked: too little to tell a type by. */
export const SMALLEST = 8;

/** As C's isspace: tab, newline, vertical tab, form feed, carriage return, space. @param {number} byte */
const isSpace = (byte) => byte === 32 || (byte >= 9 && byte <= 13);

/**
 * @param {Blob} file
 * @returns {Promise<Int32Array>} of length 2 × SIDE
 */
export async function features(file) {
  const block = Math.min(BLOCK, file.size);
  const head = new Uint8Array(await file.slice(0, block).arrayBuffer());
  const tail = new Uint8Array(await file.slice(file.size - block).arrayBuffer());
  const out = new Int32Array(2 * SIDE).fill(PADDING);

  let first = 0;
  while (first < head.length && isSpace(head[first])) first++;
  out.set(head.subarray(first, first + SIDE), 0);

  let last = tail.length;
  while (last > 0 && isSpace(tail[last - 1])) last--;
  const kept = tail.subarray(Math.max(0, last - SIDE), last);
  out.set(kept, 2 * SIDE - kept.length);
  return out;
}

/**
 * Whether enough is left after stripping white space for the model to judge.
 * @param {Int32Array} ints
 */
export function enough(ints) {
  return ints[SMALLEST - 1] !== PADDING;
}

/**
 * The type to show: the best one where the model is sure enough of it (each type has its own threshold),
 * else a generic.
 * @param {Float32Array} scores one a label
 * @param {{target_labels_space: string[], thresholds: Record<string, number>, overwrite_map: Record<string, string>, medium_confidence_threshold: number}} config
 * @param {Record<string, {is_text: boolean}>} kinds
 * @returns {{label: string, sure: boolean, top: {label: string, p: number}[]}}
 */
export function judge(scores, config, kinds) {
  const top = config.target_labels_space
    .map((label, i) => ({ label, p: scores[i] }))
    .sort((a, b) => b.p - a.p);
  const best = top[0];
  const named = config.overwrite_map[best.label] ?? best.label;
  const sure = best.p >= (config.thresholds[best.label] ?? config.medium_confidence_threshold);
  return { label: sure ? named : kinds[named]?.is_text ? 'txt' : 'unknown', sure, top };
}
