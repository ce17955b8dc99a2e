// The shapes that cross the edges of the WebGPU engine: the plan that Python makes (py/nnjit/runtime/gpu_plan.py).
// Sizes and offsets are bytes of GPU buffers; times are milliseconds.

import type { Window } from '../windows.js';
import type { HostRef, HostValue, SparePolicy } from '../types.d.ts';
import type { Shader } from './shader.js';

/** A row-major tensor at the start of a buffer. */
export interface GpuRef {
  name: string;
  type: string;
  dims: number[];
  buffer: number;
  /** Of the tensor as ONNX has it; in the buffer its elements may be wider. */
  nbytes: number;
  /** WGSL's type of an element: f32, i32, u32, vec2i or f16. */
  stored: string;
  host?: false;
}

export type GpuValueRef = GpuRef | HostRef;

/** buffer, offset, size */
export type GpuBinding = [number, number, number];

export interface GpuStep {
  shader: number;
  bindings: GpuBinding[];
  name: string;
  kernel: string;
  nodes: string[];
  flops?: number;
  bytes?: number;
}

export interface GpuSegment { kind: 'gpu'; first: number; last: number }
export interface GpuHostCall { kind: 'host'; call: string; inputs: GpuValueRef[]; outputs: GpuValueRef[] }

/** Where a constant goes: `type` is its element type as the model has it. at: the byte of the buffer where it begins, of one
 * that several constants fill. */
interface Filling { buffer: number; type: string; stored: string; at?: number }

export type GpuInitItem =
  | ({ kind: 'bytes'; data: Uint8Array } & Filling)
  | ({ kind: 'range'; source: number; start: number; length: number } & Filling)
  | ({ kind: 'pattern'; nbytes: number; pattern: Uint8Array } & Filling)
  | { kind: 'step'; shader: number; bindings: GpuBinding[] }
  | { kind: 'free'; buffer: number }
  | GpuHostCall;

export interface GpuPlan {
  version: 1;
  backend: 'webgpu';
  key: string;
  shaders: Shader[];
  /** constant: its id in the session, -1 for one of the plan's own; staged: only init steps use it; early: the number it was
   * told by while the plan was being made (see GpuEarly). */
  buffers: { nbytes: number; constant: number; staged: boolean; early?: number }[];
  steps: GpuStep[];
  segments: (GpuSegment | GpuHostCall)[];
  init: GpuInitItem[];
  inputs: GpuValueRef[];
  outputs: GpuValueRef[];
  wait: WaitPolicy;
  submit: SubmitPolicy;
  spares?: SparePolicy;
  stats?: Record<string, unknown>;
}

/** Constants of a plan that is being made, told a few at a time: buffers, and items of an init list that fill them, whose
 * shaders are numbers of those told before. making: which compilation; another number, and those before are not wanted. */
export interface GpuEarly { making: number; buffers: [at: number, nbytes: number][]; init: GpuInitItem[] }

/** How the end of a run is waited for: see WAIT in py/nnjit/runtime/gpu_plan.py. */
export interface WaitPolicy { tries: number; again: number; everyMs: number; mostMs: number; earlyMs: number }

/** How much is submitted at a time: see SUBMIT there. */
export interface SubmitPolicy { flops: number; softwareFlops: number; runs: number }

/** What a feed may be: bytes, a value for the reference, or a tensor that lies on this device already. */
export type GpuFeed = Uint8Array | HostValue | { gpuBuffer: GPUBuffer; window?: Window | null } | { bytes: Uint8Array; window: Window };
/** pinned: a view of memory that the plan's next run takes back. */
export type GpuOutput = Uint8Array | HostValue | { gpuBuffer: GPUBuffer } | { pinned: Uint8Array };

export interface GpuFacts {
  vendor: string;
  architecture: string;
  description: string;
  software: boolean;
  features: string[];
  limits: Record<string, number>;
  /** Invocations that run in lockstep, 0 where the adapter does not tell. */
  subgroup: number;
  subgroupMax: number;
  /** Subgroup matrices: component, result, m, n, k. */
  matrices: [string, string, number, number, number][];
  timestamps: boolean;
}

/** A kernel's operands in the lab. pattern, type, stored: what fills an input; kind, tolerance, used: how an output is compared. */
export interface GpuLabOperand {
  role: 'in' | 'out' | string;
  nbytes: number;
  type: string;
  stored: string;
  pattern?: Uint8Array;
  kind?: string;
  tolerance?: { absolute: number; relative: number };
  used?: number;
}

/** A shader, and those that fill the panels it reads. */
export interface GpuLabKernel { shader: Shader; packs: { operand: number; nbytes: number; shader: Shader }[] }

/** The numbers that judge: py/nnjit/tune/policy.py, GPU_LAB. */
export interface GpuLabPolicy {
  sampleMs: number;
  wallMs: number;
  most: number;
  hopeless: number;
  behind: number;
  lookBytes: number;
  grainMs: number;
  again: number;
  pace: GpuPacePolicy;
}

/** When readings may come between inferences: see py/nnjit/tune/policy.py. */
export interface GpuPacePolicy {
  quietMs: number;
  medianOf: number;
  recentMs: number;
  part: number;
  nowPart: number;
  share: number;
  nowShare: number;
  unitMs: number;
  rareRuns: number;
  patienceMs: number;
  allowanceMs: number;
  giveUpMs: number;
}

/** Two ways of a part of a model. fills: of each plan's activations; outputs: buffers of the first plan and the second. */
export interface GpuLabPair {
  plans: [GpuPlan, GpuPlan];
  fills: ({ nbytes: number; pattern: Uint8Array } & Filling)[][];
  outputs: ({ name: string; other: number; used: number; kind: string; tolerance: { absolute: number; relative: number } } & Filling)[];
  rounds: number;
  policy: GpuLabPolicy;
}

export interface GpuLabSetup {
  operands: GpuLabOperand[];
  kernel: GpuLabKernel;
  probes: { operand: number; at: number }[];
  policy: GpuLabPolicy;
  /** What the serving kernel should about take. */
  expectedMs?: number;
}

/** What makes a winner serve: new buffers (after the plan's own), shaders that fill them, each step's new shader, and
 * buffers that nothing reads any more. */
export interface GpuAdoption {
  steps: { step: number; shader: Shader; bindings: GpuBinding[] }[];
  buffers: GpuPlan['buffers'];
  work: { shader: Shader; bindings: GpuBinding[] }[];
  free: number[];
  /** The lab whose candidate it is; '' for none. */
  lab: string;
}
