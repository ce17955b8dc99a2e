// Links that open a model and run it: ?model=URL&run=1&seed=7&dims=batch:1,sequence:128&backend=webgpu or ?sample=magika.
// Takes and returns plain settings; what the page shows now can be written as such a link.

/**
 * @typedef {object} Link
 * @property {string} model address of an .onnx file, '' for none
 * @property {string} sample id of a built-in sample, '' for none
 * @property {boolean} run
 * @property {number | null} seed
 * @property {Map<string, number>} dims
 * @property {boolean} beside whether models can be run on another library too
 * @property {string[]} backend what models may run on, as executionProviders has it; none: the default
 */

/**
 * @param {string} search location.search
 * @returns {Link}
 */
export function readLink(search) {
  const query = new URLSearchParams(search);
  const dims = new Map();
  for (const part of (query.get('dims') ?? '').split(',')) {
    // The last colon: a symbol may hold colons itself.
    const at = part.lastIndexOf(':');
    const size = Number(part.slice(at + 1));
    if (at > 0 && Number.isInteger(size) && size >= 0) dims.set(part.slice(0, at), size);
  }
  const seed = query.get('seed');
  return {
    model: query.get('model') ?? '',
    sample: query.get('sample') ?? '',
    run: switched(query.get('run')),
    beside: switched(query.get('beside')),
    backend: (query.get('backend') ?? '').split(',').filter(Boolean),
    seed: seed !== null && Number.isInteger(Number(seed)) ? Number(seed) : null,
    dims,
  };
}

const switched = (/** @type {string | null} */ text) => ['1', 'true', 'yes'].includes(text ?? '');

/**
 * @param {Partial<Link>} link
 * @param {string} [base] the page's own address
 */
export function writeLink(link, base = location.href) {
  const url = new URL(base);
  url.search = '';
  url.hash = '';
  if (link.sample) url.searchParams.set('sample', link.sample);
  if (link.model) url.searchParams.set('model', link.model);
  if (link.run) url.searchParams.set('run', '1');
  if (link.beside) url.searchParams.set('beside', '1');
  if (link.backend?.length) url.searchParams.set('backend', link.backend.join(','));
  if (link.seed !== null && link.seed !== undefined) url.searchParams.set('seed', String(link.seed));
  if (link.dims?.size)
    url.searchParams.set('dims', [...link.dims].map(([name, size]) => `${name}:${size}`).join(','));
  // Colons, commas and slashes may stand in a query as they are, and read better so.
  return url.href.replaceAll('%3A', ':').replaceAll('%2C', ',').replaceAll('%2F', '/');
}
