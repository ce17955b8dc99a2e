// Sentence vectors from MiniLM. Takes token ids; returns feeds of one padded batch, and from the model's
// last hidden state one unit vector a sentence (mean over its real tokens, as the model was trained to be
// read).

/**
 * Padded to a power of two from 32 up, so that typing does not ask for a new set of kernels at every word.
 * @param {readonly (readonly number[])[]} sentences
 * @param {number} pad
 */
export function batch(sentences, pad) {
  const longest = Math.max(...sentences.map((ids) => ids.length));
  let width = 32;
  while (width < longest) width *= 2;
  const dims = [sentences.length, width];
  const ids = new BigInt64Array(sentences.length * width).fill(BigInt(pad));
  const mask = new BigInt64Array(ids.length);
  sentences.forEach((sentence, row) =>
    sentence.forEach((id, column) => {
      ids[row * width + column] = BigInt(id);
      mask[row * width + column] = 1n;
    }),
  );
  return {
    input_ids: { type: 'int64', data: ids, dims },
    attention_mask: { type: 'int64', data: mask, dims },
    token_type_ids: { type: 'int64', data: new BigInt64Array(ids.length), dims },
  };
}

/**
 * @param {Float32Array} hidden [sentences, width, features]
 * @param {readonly number[]} dims
 * @param {readonly number[]} lengths tokens of each sentence that are not padding
 * @returns {Float32Array[]}
 */
export function unitVectors(hidden, dims, lengths) {
  const [, width, features] = dims;
  return lengths.map((length, row) => {
    const sum = new Float32Array(features);
    for (let t = 0; t < length; t++) {
      const at = (row * width + t) * features;
      for (let f = 0; f < features; f++) sum[f] += hidden[at + f];
    }
    const norm = Math.hypot(...sum) || 1;
    return sum.map((x) => x / norm);
  });
}

/**
 * @param {Float32Array} a
 * @param {Float32Array} b
 */
export function cosine(a, b) {
  return a.reduce((sum, x, i) => sum + x * b[i], 0);
}

/**
 * What a cosine of this model means, in words.
 * @param {number} similarity
 */
export function inWords(similarity) {
  if (similarity >= 0.8) return 'These mean nearly the same';
  if (similarity >= 0.6) return 'These are close in meaning';
  if (similarity >= 0.35) return 'These have something in common';
  return 'These are about different things';
}
