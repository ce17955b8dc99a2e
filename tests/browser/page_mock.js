// Stands in for web/nnjit.js in tests of the page alone: sessions that answer at once, and models whose names say how
// they misbehave. The page's own code is what is under test; nothing here is served to a user.

class NnjitError extends Error {
  constructor(code, message, fields = {}, hint = '') {
    super(message);
    Object.assign(this, { name: 'NnjitError', code, fields, hint });
  }
}

class Tensor {
  constructor(type, data, dims) {
    Object.assign(this, { type, data, dims });
  }

  async getData() {
    return this.data;
  }

  dispose() {}
}

const wait = (ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(new NnjitError('ABORTED', 'cancelled'));
    });
  });

/** Set by the death of a "dies" model, cleared by restart(). */
let dead = false;
const log = { released: [], restarts: 0, runs: 0, feeds: null };

const MODELS = {
  magika: { inputs: [['bytes', 'int32', ['N', 2048]]], run: () => ({ target_label: scores(214, 155) }) },
  default: {
    inputs: [
      ['ids', 'int64', ['batch', 'sequence']],
      ['mask', 'int64', ['batch', 'sequence']],
      ['image', 'float32', [1, 3, 'height', 'width']],
    ],
    run: total,
  },
};

function scores(n, best) {
  const data = new Float32Array(n).fill(0.04 / n);
  data[best] = 0.96;
  return new Tensor('float32', data, [1, n]);
}

/** The sum of everything fed: changes when any input does. */
function total(feeds) {
  let sum = 0;
  for (const { data } of Object.values(feeds)) for (const x of data) sum += Number(x);
  return { sum: new Tensor('float32', Float32Array.of(sum), [1]), logits: scores(10, 7), ids: feeds.ids };
}

class InferenceSession {
  static async create(from, { progress = () => {}, signal, externalData = [], executionProviders = ['wasm'] } = {}) {
    const name = typeof from === 'string' ? from : from.name;
    if (dead) throw new NnjitError('COMPILER_DIED', 'The compiler worker ended');
    for (let i = 0; i <= 4; i++) progress('runtime', i, 4);
    for (let i = 0; i <= 5; i++) {
      progress('model', i * 620_000, 3_100_000);
      await wait(name.includes('slow') ? 60_000 : 2, signal);
    }
    progress('parse', 0, 1);
    if (name.includes('broken'))
      throw new NnjitError(
        'MODEL_FORMAT',
        `${name} ends in the middle of field 7`,
        { file: name, offset: 4096 },
        'download it again',
      );
    if (name.includes('split') && !externalData.length)
      throw new NnjitError(
        'MISSING_EXTERNAL_DATA',
        'Weights lie in split.data',
        { file: 'split.data', initializer: 'w' },
        'drop both files together',
      );
    progress('parse', 1, 1);
    return new InferenceSession(name, executionProviders[0]);
  }

  constructor(name, backend) {
    this.name = name;
    this.backend = backend;
    this.kind = MODELS[Object.keys(MODELS).find((key) => name.includes(key)) ?? 'default'];
    const meta = ([n, type, shape]) => ({
      name: n,
      type,
      shape,
      kind: 'tensor',
      isTensor: true,
      optional: false,
    });
    this.inputMetadata = this.kind.inputs.map(meta);
    this.outputMetadata = [['sum', 'float32', [1]]].map(meta);
    this.inputNames = this.inputMetadata.map((m) => m.name);
    this.outputNames = ['sum'];
    this.model = { name, nodes: 6, parameterBytes: 3_163_000, opset: { '': 18 }, files: [] };
    this.seen = new Set();
    this.lastRun = null;
  }

  async run(feeds, { progress = () => {}, signal } = {}) {
    const key = JSON.stringify(Object.values(feeds).map((t) => t.dims));
    const cold = !this.seen.has(key) && !(this.name.includes('roomy') && this.seen.size);
    if (this.name.includes('dies')) {
      dead = true;
      throw new NnjitError('ENGINE_DIED', 'The engine worker ended');
    }
    if (dead) throw new NnjitError('ENGINE_DIED', 'The engine worker ended');
    if (cold) {
      for (let i = 0; i <= 20; i++) {
        progress('compile', i, 20);
        await wait(this.name.includes('heavy') && i === 7 ? 60_000 : 1, signal);
      }
      progress('load', 3_163_000, 3_163_000);
    }
    this.seen.add(key);
    await wait(this.name.includes('lengthy') ? 700 : 3 + 2 * Math.random());
    log.runs += 1;
    log.feeds = feeds;
    this.lastRun = { ms: 3, engineMs: 2.5, compileMs: cold ? 20 : 0, cold, segments: [] };
    return this.kind.run(feeds);
  }

  /** A "fixed" model has a table of 77 positions and one of 50 tokens. */
  async suggest(shapes) {
    if (!this.name.includes('fixed')) return { shapes, highest: {}, reason: '' };
    const cut = (dims) => dims.map((n) => Math.min(n, n === 224 ? 224 : 77));
    const fitted = Object.fromEntries(Object.entries(shapes).map(([name, dims]) => [name, cut(dims)]));
    return { shapes: fitted, highest: { ids: 49 }, reason: "node 'positions': Gather of a table of 77 rows" };
  }

  placement() {
    if (!this.seen.size) return [];
    return [
      { node: '/embed/Gather', op: 'Gather', backend: 'wasm', kernel: 'i64_gather_f32', step: 0 },
      {
        node: '/mm/MatMul',
        op: 'MatMul',
        backend: 'wasm',
        kernel: 'f32_gemm_gelu_6x8__relaxed_fma_splat_u2',
        step: 1,
      },
      {
        node: '/mm/Add',
        op: 'Add',
        backend: 'wasm',
        kernel: 'f32_gemm_gelu_6x8__relaxed_fma_splat_u2',
        step: 1,
      },
      {
        node: '/mm/Gelu',
        op: 'Gelu',
        backend: 'wasm',
        kernel: 'f32_gemm_gelu_6x8__relaxed_fma_splat_u2',
        step: 1,
      },
      { node: '/pool/NonZero', op: 'NonZero', backend: 'reference', reason: 'the shape depends on values' },
      { node: '/view/Reshape', op: 'Reshape', backend: 'none' },
      { node: '/w/Transpose', op: 'Transpose', backend: 'wasm', step: 0, once: true },
    ];
  }

  async profile() {
    return {
      runMs: 2.4,
      repeats: 10,
      segments: [],
      steps: [
        {
          step: 0,
          name: 'gather',
          kernel: 'i64_gather_f32',
          nodes: ['/embed/Gather'],
          ms: 0.4,
          share: 0.2,
          gflops: null,
          gbytes: 1,
          mean: 0.4,
          perThread: [0.4],
        },
        {
          step: 1,
          name: 'gemm',
          kernel: 'f32_gemm_gelu',
          nodes: ['/mm/MatMul'],
          ms: 1.6,
          share: 0.8,
          gflops: 40,
          gbytes: 1,
          mean: 1.6,
          perThread: [1.6],
        },
      ],
    };
  }

  async kernel(step) {
    return {
      step,
      name: 'gemm',
      kernel: 'f32_gemm_gelu_6x8__relaxed_fma_splat_u2',
      nodes: ['/mm/MatMul'],
      tiles: 24,
      parallel: true,
      flops: 2e8,
      bytes: 4e6,
      schedule: 'm tile 6 · n tile 8 · k unroll 2',
      scheduleBefore: step === 1 ? 'm tile 4 · n tile 8' : undefined,
      listing: '(func $f32_gemm\n  local.get 0\n)',
    };
  }

  async check(_feeds, { signal } = {}) {
    await wait(this.name.includes('heavy') ? 60_000 : 5, signal);
    return [{ name: 'sum', type: 'float32', equal: false, maxAbs: 2.4e-6, maxRel: 1e-7, note: '', at: [0] }];
  }

  async release() {
    log.released.push(this.name);
  }
}

const nnjit = {
  InferenceSession,
  Tensor,
  NnjitError,
  log,
  env: { versions: { nnjit: '0.0-test', pyodide: '314.0.3' } },
  ready: Promise.resolve({}),
  device: async () => ({ threads: 2 }),
  help: () => 'help',
  onDeath: () => () => {},
  async restart() {
    dead = false;
    log.restarts += 1;
  },
};

window.nnjit = nnjit;
export default nnjit;
