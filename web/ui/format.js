// Numbers as people read them. Takes bytes, milliseconds, floats; returns short strings.

/** @param {number} n bytes; decimal units, as file managers and download bars show them */
export function bytes(n) {
  if (n < 1000) return `${n} B`;
  const units = ['kB', 'MB', 'GB'];
  let value = n / 1000;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/**
 * "3.2 of 9.6 MB": both in the unit of the total, so that the figures can be compared.
 * @param {number} done
 * @param {number} total
 */
export function bytesOf(done, total) {
  if (!total) return bytes(done);
  const [size, unit] = bytes(total).split(' ');
  const scale = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9 }[unit] ?? 1;
  const value = done / scale;
  return `${value < 10 && unit !== 'B' ? value.toFixed(1) : Math.round(value)} of ${size} ${unit}`;
}

/** @param {number} t milliseconds */
export function ms(t) {
  if (!Number.isFinite(t)) return '–';
  if (t === 0) return '0 µs';
  if (t >= 1000) return `${(t / 1000).toFixed(t >= 10_000 ? 1 : 2)} s`;
  if (t >= 100) return `${Math.round(t)} ms`;
  if (t >= 10) return `${t.toFixed(1)} ms`;
  if (t >= 0.1) return `${t.toFixed(2)} ms`;
  return `${(t * 1000).toFixed(t >= 0.01 ? 0 : 1)} µs`;
}

/** @param {number} x a tensor's element: four significant digits, exponents only where they help */
export function value(x) {
  if (Number.isNaN(x)) return 'NaN';
  if (!Number.isFinite(x)) return x > 0 ? '∞' : '−∞';
  if (x === 0) return '0';
  const size = Math.abs(x);
  if (Number.isInteger(x) && size < 1e9) return String(x);
  if (size >= 1e6 || size < 1e-4) return x.toExponential(2);
  return String(Number(x.toPrecision(4)));
}

/** @param {number} p probability in 0..1 */
export function percent(p) {
  const x = p * 100;
  if (x > 0 && x < 0.1) return '<0.1 %';
  if (x > 99.9 && x < 100) return '>99.9 %';
  return `${x >= 10 ? x.toFixed(x >= 99 ? 1 : 0) : x.toFixed(1)} %`;
}

/** @param {number} flops floating-point operations  @param {number} t milliseconds */
export function gflops(flops, t) {
  return t > 0 ? `${(flops / t / 1e6).toFixed(1)} GFLOP/s` : '–';
}

/**
 * @param {number} n
 * @param {string} one
 * @param {string} [many]
 */
export function count(n, one, many = `${one}s`) {
  return `${n.toLocaleString('en')} ${n === 1 ? one : many}`;
}

/** @param {readonly (number | string | null | undefined)[]} dims */
export function shape(dims) {
  return dims.length
    ? dims.map((d) => (d === null || d === undefined || d === '' ? '?' : d)).join(' × ')
    : 'scalar';
}
