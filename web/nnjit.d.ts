// Types of nnjit's public API (web/nnjit.js), in onnxruntime-web's shape. See docs/api.md.

/** Element types: ONNX's names in lower case. Sub-byte types hold packed bytes, 'bfloat16' its bits. */
export type TensorType =
  | 'float32' | 'float64' | 'float16' | 'bfloat16'
  | 'int8' | 'uint8' | 'int16' | 'uint16' | 'int32' | 'uint32' | 'int64' | 'uint64'
  | 'bool' | 'string' | 'complex64' | 'complex128'
  | 'float8e4m3fn' | 'float8e4m3fnuz' | 'float8e5m2' | 'float8e5m2fnuz' | 'float8e8m0'
  | 'float4e2m1' | 'int4' | 'uint4' | 'int2' | 'uint2';

/** The array a tensor of each type keeps. float16 is a Float16Array where the browser has one, else Uint16Array bits. */
export interface TensorDataMap {
  float32: Float32Array;
  float64: Float64Array;
  float16: Uint16Array | Float16ArrayLike;
  bfloat16: Uint16Array;
  int8: Int8Array;
  uint8: Uint8Array;
  int16: Int16Array;
  uint16: Uint16Array;
  int32: Int32Array;
  uint32: Uint32Array;
  int64: BigInt64Array;
  uint64: BigUint64Array;
  bool: Uint8Array;
  string: string[];
  complex64: Float32Array;
  complex128: Float64Array;
  float8e4m3fn: Uint8Array;
  float8e4m3fnuz: Uint8Array;
  float8e5m2: Uint8Array;
  float8e5m2fnuz: Uint8Array;
  float8e8m0: Uint8Array;
  float4e2m1: Uint8Array;
  int4: Uint8Array;
  uint4: Uint8Array;
  int2: Uint8Array;
  uint2: Uint8Array;
}

/** A Float16Array, for compilers whose library does not know it yet. */
export interface Float16ArrayLike extends ArrayBufferView {
  readonly length: number;
  readonly BYTES_PER_ELEMENT: number;
  [index: number]: number;
}

/** What a constructor takes beside the array itself: plain numbers, and bigints for the 64-bit integers. */
export type TensorValues<T extends TensorType> =
  | TensorDataMap[T]
  | (T extends 'string' ? readonly string[]
    : T extends 'int64' | 'uint64' ? readonly (bigint | number)[]
    : T extends 'bool' ? readonly (boolean | number)[]
    : readonly number[]);

/** Types whose elements in a GPU buffer are the tensor's own. */
export type GpuTensorType = 'float32' | 'float16' | 'int32' | 'uint32' | 'int64' | 'uint64';

export class Tensor<T extends TensorType = TensorType> {
  constructor(type: T, data: TensorValues<T>, dims?: readonly number[]);
  /** The type is taken from the data: a typed array names its own, booleans are 'bool', strings 'string'. */
  constructor(data: Exclude<TensorDataMap[T], string[]> | Uint8ClampedArray | readonly boolean[] | readonly string[], dims?: readonly number[]);
  /**
   * A tensor whose elements lie row-major in a buffer of the device in env.webgpu.device. The buffer stays the caller's:
   * dispose() calls `dispose` and nothing else. getData() reads it back (usage COPY_SRC), or asks `download`.
   */
  static fromGpuBuffer<T extends GpuTensorType = 'float32'>(
    buffer: GPUBuffer,
    options: { dims: readonly number[]; dataType?: T; download?: () => Promise<TensorDataMap[T]>; dispose?: () => void },
  ): Tensor<T>;
  readonly type: T;
  readonly dims: readonly number[];
  /** Elements: the product of dims. */
  readonly size: number;
  /** Where the data lies; 'none' after dispose(), and of a 'cpu-pinned' output after its session's next call. */
  readonly location: 'cpu' | 'cpu-pinned' | 'gpu-buffer' | 'none';
  /** The buffer of a tensor on the GPU; throws TENSOR_LOCATION for others. */
  readonly gpuBuffer: GPUBuffer;
  /** Throws TENSOR_DISPOSED after dispose(), TENSOR_LOCATION for a tensor on the GPU: await getData(). */
  readonly data: TensorDataMap[T];
  getData(releaseData?: boolean): Promise<TensorDataMap[T]>;
  dispose(): void;
  reshape(dims: readonly number[]): Tensor<T>;
}

/** A tensor; a sequence as an array; an absent optional as null; in results, labels with their scores as a Map. */
export type Value = Tensor | Value[] | ReadonlyMap<string | number, number> | null;

/** A tensor of another library of the same form, such as onnxruntime-common's. */
export interface TensorLike {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: unknown;
}

export type Feeds = Record<string, Value | TensorLike>;
export type Results = Record<string, any>;

/** Stages of create(), in order: 'runtime' (bytes, then steps), 'model' (bytes), 'parse', 'compile' (kernels), 'load' (bytes). */
export type Progress = (stage: 'runtime' | 'model' | 'parse' | 'compile' | 'load' | (string & {}), done: number, total: number) => void;

export type BytesLike = string | URL | Request | ArrayBuffer | ArrayBufferView | Blob;

export type OutputLocation = 'cpu' | 'cpu-pinned' | 'gpu-buffer';

export interface SessionOptions {
  /**
   * First that can run here wins: 'webgpu', 'wasm' (the default), or 'reference' (onnx.reference, for debugging). Where
   * there is no adapter the next one runs ('wasm' if none is named), and session.backendReason says why. With both
   * 'webgpu' and 'wasm' it begins on wasm and moves to the GPU where runs are faster there.
   */
  executionProviders?: readonly (string | { name: string })[];
  /**
   * Where outputs go; default 'cpu', an array of their own. 'gpu-buffer' on 'webgpu': types that are wider in a buffer
   * (bool, int8, …) go to 'cpu' in any case. 'cpu-pinned': nothing is copied, and the tensor's data holds until the
   * session's next call: on 'wasm' a view of shared memory where the kernels left it, on 'webgpu' of the buffer it was
   * mapped in. Elsewhere each is 'cpu'.
   */
  preferredOutputLocation?: OutputLocation | Record<string, OutputLocation>;
  /** Threads of this session; 0 = all of the engine's pool. */
  numThreads?: number;
  /** Sizes for symbolic dimensions. When they make every shape known, create() compiles. */
  freeDimensionOverrides?: Record<string, number>;
  externalData?: readonly (string | { path: string; data: BytesLike })[];
  progress?: Progress;
  signal?: AbortSignal | null;
  /** How 3x3 and 5x5 convolutions of stride 1 or 2 are computed: 'auto' (default), 'direct' or 'winograd'. docs/convolution.md. */
  convolution?: 'auto' | 'direct' | 'winograd';
  /** On 'webgpu' products of one input with constant matrices become one step, as Q, K and V of an attention; default true. */
  mergeProducts?: boolean;
  /** What matrix units of a GPU sum products of float16 up in: 'f32' (default), or short stretches also in 'f16'. docs/wgsl.md. */
  matrixSums?: 'f32' | 'f16';
  /** 'auto' (default): a plan of a few ms at most runs on the thread that calls run(); 'worker': none does. docs/engine.md. */
  runOn?: 'auto' | 'worker';
  /** Makes kernels faster while the session is used: docs/tuning.md. */
  tune?: TuneOptions | 'off' | 'idle' | 'now';
  logLevel?: LogLevel;
  /** onnxruntime's form of logLevel: 0 verbose … 4 fatal. */
  logSeverityLevel?: 0 | 1 | 2 | 3 | 4;
  /** Plans kept, one for each set of input shapes; the one used longest ago goes first. Default 8. */
  maxPlans?: number;
  /** Inputs whose lengths change from run to run get plans that serve many lengths; default true. False: one for each shape. */
  room?: boolean;
  /** Most memory the engine may use for this session. */
  maxMemoryBytes?: number;
  /** A fault of the compiler is thrown instead of running the model on the reference with a warning. */
  strict?: boolean;
  /** What messages call the model; default the file's name. */
  name?: string;
  /** Options of onnxruntime-web that change nothing here. */
  graphOptimizationLevel?: string;
  enableCpuMemArena?: boolean;
  enableMemPattern?: boolean;
  executionMode?: string;
  enableProfiling?: boolean;
  enableGraphCapture?: boolean;
  intraOpNumThreads?: number;
  interOpNumThreads?: number;
  logId?: string;
  logVerbosityLevel?: number;
  profileFilePrefix?: string;
  optimizedModelFilePath?: string;
  extra?: Record<string, unknown>;
}

export interface RunOptions {
  signal?: AbortSignal | null;
  /** Reports 'compile' and 'load' when the shapes are new. */
  progress?: Progress;
  logSeverityLevel?: number;
  tag?: string;
  extra?: Record<string, unknown>;
}

export interface ValueMetadata {
  readonly name: string;
  readonly isTensor: boolean;
  readonly kind: 'tensor' | 'sequence' | 'optional' | 'map' | 'sparse_tensor';
  readonly type: TensorType | (string & {});
  /** Symbols are strings; '?' has no name. */
  readonly shape: readonly (number | string)[];
  /** An initializer gives its default, so that no feed is needed. */
  readonly optional: boolean;
}

export interface PlacedNode {
  node: string;
  op: string;
  /** 'folded': computed while compiling; 'none': nothing to do at run time (a view, a value that is there already, or one that nothing needs). */
  backend: 'webgpu' | 'wasm' | 'reference' | 'folded' | 'none';
  kernel?: string;
  step?: number;
  /** Runs once when the plan is loaded. */
  once?: boolean;
  /** The compiler made this node; the model has none of the name. */
  made?: boolean;
  /** Why the reference. */
  reason?: string;
}

export interface Suggestion {
  shapes: Record<string, number[]>;
  /** By input whose elements are rows of a table: the last row. */
  highest: Record<string, number>;
  /** Why shapes are others than those asked about; '' where they are not. */
  reason: string;
}

export interface ProfiledStep {
  step: number;
  name: string;
  kernel: string;
  /** All that it computes, as in placement(): those that passes merged into others too. */
  nodes: string[];
  /** Median milliseconds of the slowest thread. */
  ms: number;
  /** Their mean: over many runs right also where a step is shorter than the clock's grain. */
  mean: number;
  perThread: number[];
  share: number;
  gflops: number | null;
  gbytes: number | null;
}

export interface Profile {
  runMs: number;
  steps: ProfiledStep[];
  segments: { kind: string; ms: number }[];
  repeats: number;
}

/** Opens in chrome://tracing and in Perfetto. */
export interface ChromeTrace {
  traceEvents: Record<string, unknown>[];
  displayTimeUnit: 'ms';
}

export interface Difference {
  name: string;
  type: string;
  equal: boolean;
  /** Null where no number says it: `note` tells. */
  maxAbs: number | null;
  maxRel: number | null;
  /** Index of the largest absolute difference. */
  at: number[] | null;
  note: string;
}

export interface TuneOptions {
  /** 'idle': in pauses, a little under load; 'now': in every pause. Default 'off'. */
  mode?: 'off' | 'idle' | 'now';
  /** Stop after so much time of tuning; 0 (default): when nothing is left to gain. */
  budgetMs?: number;
  /** A record server (see docs/records.md): its records of this class of devices are tried first. */
  cacheUrl?: string;
  /** Report what was found to cacheUrl. Default false. */
  share?: boolean;
}

/** One kernel of the plan, as the tuner sees it. Times are ms of one call. */
export interface TunedKernel {
  key: string;
  name: string;
  /** Its extents: "112×112×32 over 3×3×3" has 27 terms to an element. */
  sizes: string;
  /** A step that runs it, for session.kernel(). */
  step: number;
  /** Steps that run it. */
  count: number;
  /** Schedules before rules and after; 0 and 1 while it was not looked at. */
  raw: number;
  listed: number;
  /** No kernel takes less, by the device's facts. */
  boundMs: number;
  /** 0 while it was not timed. */
  ms: number;
  firstMs: number;
  share: number;
  tried: number;
  left: number;
  dropped: number;
  /** Why nothing more is tried, or ''. */
  closed: string;
  serving: string;
}

/** Another way to compute some nodes (Winograd or direct, attention as one kernel or three), as the tuner sees it. */
export interface TriedForm {
  key: string;
  name: string;
  /** The first step that it would replace, and how many such places there are. */
  step: number;
  count: number;
  nodes: string[];
  /** As in 'direct instead of winograd'. */
  text: string;
  /** ms that an inference spends there; 0 where it is not known. */
  shareMs: number;
  /** As of a trial; '' while it was not tried. */
  verdict: string;
  reason: string;
  /** ms of one place as it is served, and the other form's time over it. */
  ms: number;
  ratio: number;
  /** The other form is better here. */
  kept: boolean;
}

export interface TuningStatus {
  mode: 'off' | 'idle' | 'now';
  state: 'off' | 'waiting' | 'running' | 'paused' | 'resting' | 'done' | 'failed';
  running: boolean;
  /** Why it rests, ended or failed. */
  reason: string;
  candidates: number;
  timed: number;
  kept: number;
  /** Trapped, wrong, refused by the browser. */
  dropped: number;
  /** Since it began; of that, inside the engine; of that, what inferences waited for. */
  spentMs: number;
  testedMs: number;
  delayedMs: number;
  budgetMs: number;
  /** Of all kernels together, over those the plan came with. */
  speedup: number;
  /** Where the session runs, and what was measured where it may run on two. */
  backend: string;
  backendReason: string;
  /** What an inference could still gain, at most; and what its kernels take. */
  leftMs: number;
  modelMs: number;
  /** The class of devices that records are kept under. */
  device: string;
  kernels: TunedKernel[];
  forms: TriedForm[];
  /** What is under way: forms, change (the plan, to other forms), kernels, unite (all that won in one module), end. */
  phase: string;
  /** Why a plan could not be replaced. */
  notes: string[];
}

export interface TuningEvent {
  /** ms of tuning. */
  at: number;
  /** trial: a schedule; form: another way to compute a node; swap: a kernel took over; plan: a whole plan did, or did not. */
  kind: 'trial' | 'swap' | 'kernel' | 'form' | 'plan' | 'backend' | 'state';
  name: string;
  step: number;
  text: string;
  /** timed, slow, wrong, trap, refused, illegal. */
  verdict: string;
  /** Of a trial: its time over the serving kernel's. */
  ratio: number;
  gained: number;
  detail: Record<string, any>;
}

/** Measured once a browser, kept in IndexedDB. Rates of one thread. */
export interface DeviceFacts {
  measured: boolean;
  fma_gflops: number;
  muladd_gflops: number;
  registers: number;
  l1_bytes: number;
  l2_bytes: number;
  /** [bytes of the working set, GB/s] */
  bandwidth: [number, number][];
  threads: number;
  scaling: number;
  barrier_us: number;
  exp_ns: number;
  relaxed: string[];
  version: number;
  tookMs?: number;
}

export interface Tuning {
  status(): TuningStatus;
  /** Begins or goes on; mode 'now' unless told otherwise. Before anything is compiled it waits for the first plan. */
  start(options?: TuneOptions): Promise<void>;
  pause(): Promise<void>;
  /** Back to the first kernels; this device's records are forgotten. */
  reset(): Promise<void>;
  /** Whether records come from and go to a server, from now on; what was found already is reported at once. */
  share(options: { cacheUrl?: string; share?: boolean }): Promise<void>;
  /** Records, a line each. */
  export(): Promise<string>;
  import(records: string): Promise<{ taken: number; refused: number }>;
  /** When it came to an end by itself, or was paused. */
  finished(): Promise<TuningStatus>;
  readonly events: readonly TuningEvent[];
  readonly facts: DeviceFacts | null;
  subscribe(listener: (event: TuningEvent) => void): () => void;
  /** What the search was given, to replay it from. */
  dump(): Promise<Record<string, any>>;
}

export interface SessionStats {
  plans: number;
  key?: string;
  seconds?: Record<string, number>;
  load?: { compileMs: number; initMs: number; bytes: number } | null;
  compile?: Record<string, unknown>;
  /** The lengths that the latest plan serves; null: only those it was made for. */
  room: { least: number; most: number } | null;
  /** Why it has no room, though lengths had moved; '' if they had not. */
  noRoom: string;
  /**
   * 'served': the first plan is one that an earlier session left; 'checked': and the compiler has made the same one since;
   * 'saved': it was compiled here, and later sessions have it; '' otherwise.
   */
  kept: '' | 'served' | 'checked' | 'saved';
  lastRun: { ms: number; engineMs: number; compileMs: number; cold: boolean; thread: 'caller' | 'worker'; segments: { kind: string; ms: number }[] } | null;
}

export class InferenceSession {
  private constructor();
  static create(model: BytesLike, options?: SessionOptions): Promise<InferenceSession>;
  static create(buffer: ArrayBufferLike, byteOffset: number, byteLength?: number, options?: SessionOptions): Promise<InferenceSession>;
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly inputMetadata: readonly ValueMetadata[];
  readonly outputMetadata: readonly ValueMetadata[];
  readonly backend: 'webgpu' | 'wasm' | 'reference';
  /** Why it runs there: what was measured where it may run on two, or why not on the first asked for; '' if there is nothing to say. */
  readonly backendReason: string;
  readonly state: 'ready' | 'compiler-died' | 'engine-died' | 'released';
  readonly model: { name: string; nodes: number; parameterBytes: number; opset: Record<string, number>; files: string[] };
  readonly tuning: Tuning;
  readonly lastRun: SessionStats['lastRun'];
  run(feeds: Feeds, options?: RunOptions): Promise<Results>;
  run(feeds: Feeds, fetches: readonly string[] | Record<string, Tensor | null>, options?: RunOptions): Promise<Results>;
  /** Compiles before the first run. An input whose values decide shapes is given as a Tensor. */
  prepare(shapes: Record<string, readonly number[] | Tensor>, options?: { progress?: Progress; signal?: AbortSignal | null }): Promise<void>;
  placement(): PlacedNode[];
  stats(): SessionStats;
  profile(options?: { feeds?: Feeds; repeats?: number; format?: 'table'; signal?: AbortSignal | null }): Promise<Profile>;
  profile(options: { feeds?: Feeds; repeats?: number; format: 'chrome'; signal?: AbortSignal | null }): Promise<ChromeTrace>;
  kernel(step: number): Promise<KernelInfo>;
  /** Against onnx.reference, which is slow on large models. */
  /** Shapes near these that the graph takes, for inputs that are made up; `made`: the highest integer of each, null where it counts. */
  suggest(shapes: Record<string, readonly number[]>, made?: Record<string, number | null>): Promise<Suggestion>;
  check(feeds: Feeds, options?: { signal?: AbortSignal | null }): Promise<Difference[]>;
  release(): Promise<void>;
}

export interface KernelInfo {
  step: number;
  name: string;
  kernel: string;
  nodes: string[];
  tiles: number;
  parallel: boolean;
  flops?: number;
  bytes?: number;
  spec: string;
  schedule: string;
  loops: string;
  listing: string;
}

export class NnjitError extends Error {
  readonly code: string;
  readonly hint: string;
  /** What the failure is about: input, expected, got, url, … */
  readonly fields: Record<string, unknown>;
  readonly node: string | undefined;
  readonly op: string | undefined;
  readonly dtype: string | undefined;
  readonly file: string | undefined;
  toJSON(): Record<string, unknown>;
}

export type LogLevel = 'verbose' | 'info' | 'warning' | 'error' | 'fatal';

export const env: {
  logLevel: LogLevel;
  wasm: {
    /** Threads of the engine's pool, read when the first session is made; 0 = one a core. */
    numThreads: number;
    relaxedSimd: boolean;
  };
  webgpu: {
    /** Give your own before the first session on 'webgpu', or find here the one that sessions use. */
    device: GPUDevice | undefined;
  };
  /**
   * Whether Python's memory (some 85 MB) is kept in the browser's storage for the next visit, which starts the sooner: 'auto'
   * (default) in Chromium, unless memory or storage is short or a program drives the browser; true, always; false, never, and
   * one that is there is deleted. Set it right after the import, at every visit.
   */
  snapshot: 'auto' | boolean;
  /**
   * Whether the first plan of a model is kept in the browser's storage, so that later sessions with it need not compile: 'auto'
   * (default) unless a program drives the browser; true, always; false, never, and those that are there are deleted with the
   * next session. docs/api.md.
   */
  plans: 'auto' | boolean;
  readonly versions: { nnjit: string; pyodide: string };
};

export interface CompilerInfo {
  nnjit: string;
  pyodide: string;
  python: string;
  onnx: string;
  bootMs: Record<string, number>;
  /** Modules that could not be had and are stood in for. */
  standIns: string[];
  /** Modules whose bytecode was served, or kept from an earlier visit, and those compiled anew. */
  bytecode: { taken: number; compiled: number };
  /** Python came out of a snapshot that an earlier visit left. */
  restored: boolean;
}

export interface Device {
  isolated: boolean;
  sharedMemory: boolean;
  threads: number;
  hardwareConcurrency: number;
  simd: boolean;
  relaxedSimd: boolean;
  fp16: boolean;
  webgpu: boolean;
  /** GiB, as the browser rounds it; 0 where it does not say. */
  deviceMemory: number;
  clockGrainMs: number;
  /** What was measured of it, or null before the first tuning. */
  tuning: DeviceFacts | null;
  /** The reason, and what would change it, for each feature that is missing. */
  why: Record<string, string>;
  compiler: CompilerInfo | null;
  memory: { total: number; sessions: { id: string; bytes: number }[] };
}

/** Resolves when Python and the compiler are up. */
export let ready: Promise<CompilerInfo>;
export function device(): Promise<Device>;
/** Prints a short manual to the console and returns it. */
export function help(): string;
/** Runs Python in the compiler worker; the last expression's value comes back (an array as a Tensor). */
export function python(code: string): Promise<any>;
/** Starts workers that died anew; `all`: both, whatever their state. */
export function restart(options?: { all?: boolean }): Promise<void>;
export function onDeath(listener: (which: 'compiler' | 'engine', error: NnjitError) => void): () => void;

declare const nnjit: {
  InferenceSession: typeof InferenceSession;
  Tensor: typeof Tensor;
  NnjitError: typeof NnjitError;
  env: typeof env;
  readonly ready: Promise<CompilerInfo>;
  device: typeof device;
  help: typeof help;
  python: typeof python;
  restart: typeof restart;
  onDeath: typeof onDeath;
};
export default nnjit;

declare global {
  interface Window {
    nnjit: typeof nnjit;
  }
}
