// Around PP-OCR's two models. Takes pixels; returns their input tensors; and from what they answer, boxes
// of text lines (detector) or a string (recogniser, CTC).

/** Pixels become (x / 255 - 0.5) / 0.5, planes in the order blue, green, red: what the models were trained on. */
const PLANES = [2, 1, 0];
export const LINE_HEIGHT = 48;
/** Lines are padded to a multiple of this width, so that few distinct shapes need kernels. */
const LINE_STEP = 320;

/**
 * @param {Uint8ClampedArray} pixels RGBA rows
 * @param {number} width
 * @param {number} height
 * @param {number} [padded] width of the tensor; columns past `width` are zero
 */
export function planes(pixels, width, height, padded = width) {
  const out = new Float32Array(3 * height * padded);
  PLANES.forEach((channel, plane) => {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        out[(plane * height + y) * padded + x] = pixels[(y * width + x) * 4 + channel] / 127.5 - 1;
      }
    }
  });
  return { type: 'float32', data: out, dims: [1, 3, height, padded] };
}

/** @param {number} width of the line at LINE_HEIGHT */
export const lineWidth = (width) => Math.max(1, Math.ceil(width / LINE_STEP)) * LINE_STEP;

/**
 * The size at which an image goes to the detector: small print enlarged, photographs reduced, sides in
 * steps of 64.
 * @param {number} width
 * @param {number} height
 */
export function detectorSize(width, height) {
  const most = 1152;
  let scale = Math.min(1, most / Math.max(width, height));
  const least = 448;
  const short = Math.min(width, height) * scale;
  if (short < least) scale = Math.min((scale * least) / short, most / Math.max(width, height));
  const step = (/** @type {number} */ side) => Math.max(1, Math.round((side * scale) / 64)) * 64;
  return { width: step(width), height: step(height) };
}

/** @typedef {{left: number, top: number, right: number, bottom: number}} Box */
/** @typedef {Box & {row: number}} Line a box, and which line of the page it stands on */

/**
 * Upright boxes around connected regions of the text map, top to bottom.
 * @param {Float32Array} map probability of text, height × width
 * @param {number} width
 * @param {number} height
 * @returns {Line[]} in pixels of the map
 */
export function boxes(map, width, height) {
  const seen = new Uint8Array(map.length);
  const found = [];
  for (let start = 0; start < map.length; start++) {
    if (seen[start] || map[start] <= 0.3) continue;
    const box = region(map, width, height, start, seen);
    if (box) found.push(box);
  }
  return readingOrder(found);
}

/**
 * @param {Float32Array} map
 * @param {number} width
 * @param {number} height
 * @param {number} start
 * @param {Uint8Array} seen
 * @returns {Box | null} null for specks and for regions the detector itself doubts
 */
function region(map, width, height, start, seen) {
  const stack = [start];
  seen[start] = 1;
  let [left, right, top, bottom, sum, n] = [width, 0, height, 0, 0, 0];
  while (stack.length) {
    const at = /** @type {number} */ (stack.pop());
    const x = at % width;
    const y = (at - x) / width;
    left = Math.min(left, x);
    right = Math.max(right, x + 1);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y + 1);
    sum += map[at];
    n += 1;
    for (const [next, inside] of /** @type {[number, boolean][]} */ ([
      [at - 1, x > 0],
      [at + 1, x < width - 1],
      [at - width, y > 0],
      [at + width, y < height - 1],
    ])) {
      if (inside && !seen[next] && map[next] > 0.3) {
        seen[next] = 1;
        stack.push(next);
      }
    }
  }
  const [w, h] = [right - left, bottom - top];
  if (Math.min(w, h) < 3 || sum / n < 0.5) return null;
  // The detector draws text shrunk; Vatti's offset area × 1.6 / perimeter (the DB paper) gives it back.
  const grow = (w * h * 1.6) / (2 * (w + h));
  return {
    left: Math.max(0, left - grow),
    right: Math.min(width, right + grow),
    top: Math.max(0, top - grow),
    bottom: Math.min(height, bottom + grow),
  };
}

/** @param {Box[]} found @returns {Line[]} */
function readingOrder(found) {
  const middle = (/** @type {Box} */ box) => (box.top + box.bottom) / 2;
  const rows = /** @type {Box[][]} */ ([]);
  for (const box of [...found].sort((a, b) => middle(a) - middle(b))) {
    const row = rows.at(-1);
    // Same row: its middle lies within the first box of the row.
    if (row && middle(box) < row[0].bottom - (row[0].bottom - row[0].top) / 4) row.push(box);
    else rows.push([box]);
  }
  return rows.flatMap((row, i) => row.sort((a, b) => a.left - b.left).map((box) => ({ ...box, row: i })));
}

/**
 * The recogniser's alphabet from its metadata: blank first, then its characters, a space last.
 * @param {string} listed characters, one a line
 */
export const alphabet = (listed) => ['', ...listed.replace(/\n$/, '').split('\n'), ' '];

/**
 * Greedy CTC: the best character of each column, repeats merged, blanks dropped.
 * @param {Float32Array} scores columns × characters, probabilities
 * @param {readonly number[]} dims [1, columns, characters]
 * @param {readonly string[]} characters
 * @returns {{text: string, sure: number}} sure: mean probability of the characters kept
 */
export function readLine(scores, dims, characters) {
  const [, columns, size] = dims;
  let text = '';
  let sum = 0;
  let kept = 0;
  let before = 0;
  for (let t = 0; t < columns; t++) {
    let best = 0;
    for (let c = 1; c < size; c++) if (scores[t * size + c] > scores[t * size + best]) best = c;
    if (best !== 0 && best !== before) {
      text += characters[best] ?? '';
      sum += scores[t * size + best];
      kept += 1;
    }
    before = best;
  }
  return { text: text.trim(), sure: kept ? sum / kept : 0 };
}
