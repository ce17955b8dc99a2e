// The shapes that cross the engine's edges: the Plan that Python makes, and what a caller gets back.
// Addresses and lengths are bytes in the session's memory; times are milliseconds.

export interface TensorRef {
  name: string;
  /** onnxruntime-web's name of the element type: 'float32', 'int64', ... The engine only passes it on. */
  type: string;
  dims: number[];
  address: number;
  nbytes: number;
  host?: false;
}

/** A value that never enters linear memory: strings, sequences, shapes known only while running. */
export interface HostRef {
  name: string;
  type: string;
  host: true;
}

export type ValueRef = TensorRef | HostRef;

/** What a host call makes or takes; structured-cloneable, opaque to the engine. */
export interface HostValue {
  type: string;
  dims?: number[];
  data: unknown;
}

export type Output = Uint8Array | HostValue;
export type Feed = ArrayBuffer | ArrayBufferView | HostValue | Windowed;

/** A feed that is smaller than the plan's input: it goes where the window is, with zeros beside it. */
export interface Windowed { bytes: Uint8Array; window: import('./windows.js').Window }

export interface Step {
  /** Absolute index into the session's table. */
  slot: number;
  /** Address of the block of operand pointers. */
  args: number;
  tiles: number;
  parallel: boolean;
  barrier: boolean;
  /** Bytes from one thread's operand pointers to the next one's. */
  stride?: number;
  /** Long enough to wake sleeping threads for; default true. */
  wake?: boolean;
  /** Neighbours with the same number, not 0, are the body of a loop: all of them `times` times, default 1. */
  loop?: number;
  times?: number;
  /** Bytes from one turn's operand pointers to the next one's. */
  advance?: number;
  name: string;
  kernel: string;
  nodes: string[];
  flops?: number;
  bytes?: number;
}

export interface WasmSegment { kind: 'wasm'; first: number; last: number }
export interface HostCall { kind: 'host'; call: string; inputs: ValueRef[]; outputs: ValueRef[] }
export type Segment = WasmSegment | HostCall;

export type InitItem =
  | { kind: 'bytes'; address: number; data: Uint8Array }
  | { kind: 'range'; address: number; source: number; start: number; length: number }
  | { kind: 'fill'; address: number; length: number; value: number }
  | { kind: 'step'; slot: number; args: number; tiles: number; parallel?: boolean }
  | HostCall;

export interface Plan {
  version: 1;
  key: string;
  /** Compiled for a shared memory (atomics and barriers inside). */
  threads: boolean;
  pages: number;
  module: Uint8Array;
  tableBase: number;
  slots: number;
  steps: Step[];
  segments: Segment[];
  init: InitItem[];
  inputs: ValueRef[];
  outputs: ValueRef[];
  /** The caller's own thread may run it if that takes at most so many ms; 0 or left out: it never does. */
  callerMs?: number;
  /** No run is judged for so long after the first one there; so many in a row must then be too long (default 0, 1). */
  callerFreshMs?: number;
  callerTries?: number;
  /** How long the threads may take to leave a run that trapped there, before the engine is given up; left out: no limit. */
  callerPatienceMs?: number;
  /** How long runs may follow each other there before the page gets a turn (default 0). */
  callerStreakMs?: number;
  spares?: SparePolicy;
  rehearsal?: Rehearsal;
  /** By output that is made in an input's own place: that input. It begins with what the input holds, before, during and after
   *  the run, and behind it are zeros if they are behind the input. */
  extends?: Record<string, string>;
  stats?: Record<string, unknown>;
}

/** Memory kept ready for outputs, bytes and ms: see SPARES in py/nnjit/runtime/outputs.py. */
export interface SparePolicy { leastBytes: number; mostBytes: number; share: number; ahead: number; threads: number; idleMs: number }

/** Kernels called on no tiles while constants come in, in this order: so often, for at most so long each. See py/nnjit/runtime/rehearsal.py. */
export interface Rehearsal { slots: number[]; calls: number; mostMs: number }

export interface EngineInfo {
  isolated: boolean;
  sharedMemory: boolean;
  threads: number;
  simd: boolean;
  relaxed: boolean;
  /** What the relaxed dot product of bytes is here, see features.js. */
  dot: '' | 'u8' | 's8';
  wasmThreads: boolean;
  fp16: boolean;
  hardwareConcurrency: number;
  /** GiB, rounded by the browser; 0 where it does not tell. */
  deviceMemory: number;
  clockGrainMs: number;
}

export interface SessionOptions {
  shared?: boolean;
  threads?: number;
  maxPages?: number;
  /** 'auto': short plans run on the caller's thread; 'worker': all run in the engine's. */
  runOn?: 'auto' | 'worker';
}
export interface SessionInfo { shared: boolean; threads: number; maxPages: number }
/** early: bytes of constants that had come before the plan did. */
export interface LoadResult { compileMs: number; initMs: number; bytes: number; early?: number }
export interface SegmentTime { kind: 'wasm' | 'host'; ms: number }
/** caller: the caller's own thread did it. */
export interface RunResult { outputs: Output[]; ms: number; segments: SegmentTime[]; caller?: boolean }
/** Between engine and client: null where the client reads the output out of the shared memory. */
export interface RawResult { outputs: (Output | null)[]; ms: number; segments: SegmentTime[] }
export interface RunOptions {
  /** Names of the outputs wanted, in that order; default all. */
  fetch?: string[];
  /** Where outputs go, in the order of `fetch`; null or left out: into a new buffer. */
  into?: (ArrayBufferView | null)[];
  /** Outputs that may be views of a shared memory, in the order of `fetch`: they hold until the session's next call. */
  stay?: boolean[];
  /** Once it is over, outputs that were to stay are copied. */
  lease?: { readonly over: boolean };
  /** The parts of outputs that are wanted, in the order of `fetch`; null: all of it. A part may stay where it is in one piece. */
  windows?: (import('./windows.js').Window | null)[];
  signal?: AbortSignal;
  /** The feeds' buffers may move and be gone for the caller. */
  transfer?: boolean;
}
export interface StepMs { step: number; ms: number }
export interface StepTime { step: number; ms: number[]; mean: number[] }
export interface ProfileResult { steps: StepTime[]; segments: SegmentTime[]; runMs: number }
export interface TimingOptions { reps?: number; warmupMs?: number; moduleBytes?: Uint8Array }
export interface TimingResult {
  median: number;
  min: number;
  max: number;
  samples: number[];
  /** Kernel calls a sample; a sample is their mean. */
  inner: number;
  grainMs: number;
  threads: number;
}
/** A kernel laid out in a lab: its operands' pointers are written to `args` before it is called. */
export interface LabKernel {
  module: Uint8Array;
  args: number;
  pointers: number[];
  tiles: number;
  parallel: boolean;
  /** Tiles that hold at least one of the kernel's own, where its schedule made others; 1 if left out. */
  grain?: number;
  /** Thread t has pointers of its own at args + t * stride. */
  stride?: number;
  /** Memory that it needs, where that is more than the setup's. */
  pages?: number;
  name?: string;
  /** Kernels that fill its panels, run once before. */
  packs: LabPack[];
}
/** The numbers that judge candidates (py/nnjit/tune/policy.py says what each means). */
export interface LabPolicy {
  tierMs: number;
  grains: number;
  sampleMs: number;
  hopeless: number;
  stuck: number;
  stuckMs: number;
  behind: number;
  late: number;
  lookMs: number;
  sliceMs: number;
  again: number;
  pace: PacePolicy;
}
/** When a lab may use the engine, and for how long: see py/nnjit/tune/policy.py. Shares are parts of an inference. */
export interface PacePolicy {
  nowMs: number;
  nowShare: number;
  nowMostMs: number;
  longMs: number;
  idleLongMs: number;
  lingerMs: number;
  quietMs: number;
  idleMs: number;
  idlePart: number;
  idleLeastMs: number;
  longQuietMs: number;
  patienceMs: number;
  share: number;
  part: number;
  unitMs: number;
  mostMs: number;
  savedSlices: number;
  rareRuns: number;
  rareMs: number;
  allowanceMs: number;
  streamMs: number;
  warmEachMs: number;
  warmPasses: number;
  warmPauseMs: number;
  reserveMs: number;
  reserveTimes: number;
}
/** A part of a model as a plan in a lab's memory; `pattern` is repeated over a constant. */
export interface LabPlan {
  module: Uint8Array;
  tableBase: number;
  slots: number;
  steps: Step[];
  init: (InitItem | ({ kind: 'pattern' } & LabFill))[];
}
/** Two ways to do the same: the serving one, another. */
export interface LabPair {
  pages: number;
  plans: [LabPlan, LabPlan];
  fills: LabFill[];
  outputs: LabOutput[];
  rounds: number;
  policy: LabPolicy;
}
/** How near an output of a plan must be to that of the plan in whose place it comes. */
export interface Agreement { name: string; kind: string; tolerance: { absolute: number; relative: number } }
export type LabPack = Omit<LabKernel, 'packs'>;
/** Kernels to time by themselves; `fill`: a region to write once before. */
export interface LabWork {
  pages: number;
  fill: [number, number];
  kernels: LabKernel[];
  /** A plan of nothing else, on all threads; null where there is one thread. */
  barriers?: LabPlan | null;
  reads: { address: number; length: number }[];
  policy: LabPolicy;
}
/** ms of a round of each kernel by name, of a run of the barriers; the bytes that were asked for. */
export interface LabTimes { times: Record<string, number>; barriersMs: number; values: number[][] }
export interface LabConfirmation {
  ok: boolean;
  checked: number;
  worst: number;
  reason: string;
  base: number[];
  mine: number[];
  waits?: PaceReport;
}
export interface LabFill { address: number; nbytes: number; pattern: Uint8Array }
/** The serving kernel writes to `address`, candidates to `other`. */
export interface LabOutput {
  address: number;
  other: number;
  nbytes: number;
  kind: string;
  tolerance: { absolute: number; relative: number };
}
export interface LabSetup {
  pages: number;
  fills: LabFill[];
  kernel: LabKernel;
  outputs: LabOutput[];
  /** Places whose bytes come back, to compare with the definition. */
  probes: { address: number; length: number }[];
  policy: LabPolicy;
}
export interface LabTrial { kernel: LabKernel; rounds: number }
export interface LabReport {
  verdict: 'timed' | 'slow' | 'wrong' | 'trap' | 'refused';
  reason: string;
  compileMs: number;
  checked: number;
  /** Largest error in units of the tolerance. */
  worst: number;
  /** ms of a whole call, a round each. */
  base: number[];
  mine: number[];
  busyMs: number;
  /** Up to now, as from pace(). */
  waits?: PaceReport;
}
/** Panels to make over when a kernel with other tiles takes a slot: kernels of a source and a target, in order, then
 *  the words that point to the panels are changed to `place`. */
export interface Repack {
  kernels: { module: Uint8Array; args: number; pointers: number[]; tiles: number }[];
  source: number;
  place: number;
  words: number[];
}
export interface Adoption { lab: string; slot: number; pages: number; repacks: Repack[] }
/** leftMs: what inferences may still wait for the lab, or for the one of several that has the least. */
/** starved: nothing is done until there is a pause. */
export interface PaceReport { delayedMs: number; delayed: number; leftMs: number; starved?: boolean }

export interface SessionMemory { id: string; bytes: number; shared: boolean; threads: number; plans: string[] }
export interface MemoryReport { sessions: SessionMemory[]; total: number }

export type Progress = (stage: string, done: number, total: number) => void;

/** What every thread is told about sessions and modules; see replica.js. */
export type Mail =
  | { op: 'session'; session: number; memory: WebAssembly.Memory }
  | { op: 'own'; session: number }
  | { op: 'copy'; session: number; bytes: ArrayBuffer }
  | { op: 'plan'; session: number; plan: number; module: WebAssembly.Module; tableBase: number; slots: number }
  | { op: 'swap'; session: number; plan: number; slot: number; module: WebAssembly.Module | null }
  | { op: 'candidate'; session: number; plan: number; module: WebAssembly.Module | null }
  | { op: 'lab'; session: number; modules: [number, WebAssembly.Module | null][] }
  | { op: 'dropPlan'; session: number; plan: number }
  | { op: 'dropSession'; session: number };

/** One dispatch to the pool; see pool.js. */
export interface Job {
  kind: number;
  session: number;
  plan: number;
  threads: number;
  first?: number;
  last?: number;
  slot?: number;
  args?: number;
  tiles?: number;
  repeat?: number;
  serial?: boolean;
  stride?: number;
}

export interface Trap { thread: number; step: number; message: string; functionIndex: number }

/** Page to engine: a call, or the abort of an earlier one. */
export interface Request {
  id: number;
  method: string;
  args: unknown[];
  abort?: boolean;
  cancellable?: boolean;
  /** When it was sent: performance.timeOrigin + performance.now(). */
  at: number;
}

/** Engine to page: the answer to a call, or progress on the way. */
export interface Reply {
  id: number;
  value?: unknown;
  error?: Record<string, unknown>;
  progress?: [string, number, number];
  /** What the caller's thread must do before its next run; it has no answer. */
  mail?: Mail;
}
