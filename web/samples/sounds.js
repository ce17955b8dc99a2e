// Sounds made from formulas, for who has neither microphone nor recording at hand. Each takes seconds and
// a sample rate and returns samples in -1..1: rain and a bell, which are no speech, and a voice without
// words, which passes for some.
import { random } from '../ui/generate.js';

/** Formants of the vowel /i/ and of /a/, and their bandwidths, in Hz. */
const FORMANTS = [
  [300, 700, 110],
  [2200, 1200, 140],
  [3000, 2600, 200],
];

/**
 * A source-filter voice: harmonics of a wavering pitch, shaped by formants that glide between two vowels.
 * @param {number} seconds
 * @param {number} rate
 */
export function voice(seconds, rate) {
  const out = new Float32Array(seconds * rate);
  let phase = 0;
  for (let i = 0; i < out.length; i++) {
    const t = i / rate;
    const pitch = 120 * (1 + 0.08 * Math.sin(2 * Math.PI * 2.1 * t));
    const glide = 0.5 + 0.5 * Math.sin(2 * Math.PI * 3 * t);
    phase += pitch / rate;
    let x = 0;
    for (let k = 1; k < 30; k++) {
      let loud = 0;
      for (const [from, to, width] of FORMANTS)
        loud += 1 / (1 + ((k * pitch - from - (to - from) * glide) / width) ** 2);
      x += (loud / k ** 0.3) * Math.sin(2 * Math.PI * k * phase);
    }
    out[i] = x * Math.min(1, 1.4 * Math.abs(Math.sin(2 * Math.PI * 2 * t)));
  }
  return scaled(out, 0.5);
}

/**
 * White noise, its highs taken off by a one-pole filter.
 * @param {number} seconds
 * @param {number} rate
 */
export function rain(seconds, rate) {
  const next = random(7);
  let last = 0;
  return scaled(
    Float32Array.from({ length: seconds * rate }, () => (last += 0.35 * (2 * next() - 1 - last))),
    0.3,
  );
}

/**
 * Decaying partials in the ratios of a church bell.
 * @param {number} seconds
 * @param {number} rate
 */
export function bell(seconds, rate) {
  const partials = [0.5, 1, 1.2, 1.5, 2, 2.67, 3];
  return scaled(
    Float32Array.from({ length: seconds * rate }, (_, i) => {
      const t = i / rate;
      return partials.reduce(
        (sum, p) => sum + Math.sin(2 * Math.PI * 440 * p * t) * Math.exp(-t * (1.5 + p)),
        0,
      );
    }),
    0.6,
  );
}

/**
 * One after another, with pauses of `gap` seconds around each.
 * @param {Float32Array[]} parts
 * @param {number} rate
 * @param {number} [gap]
 */
export function inTurn(parts, rate, gap = 0.5) {
  const pause = Math.round(gap * rate);
  const out = new Float32Array(parts.reduce((n, part) => n + part.length + pause, pause));
  let at = pause;
  for (const part of parts) {
    out.set(part, at);
    at += part.length + pause;
  }
  return out;
}

/** @param {Float32Array} samples @param {number} peak */
function scaled(samples, peak) {
  const high = samples.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-9);
  return samples.map((x) => (x * peak) / high);
}
