// What TypeScript's library leaves out: the names of an AudioWorkletGlobalScope that tap.worklet.js uses.
declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, processor: new () => AudioWorkletProcessor): void;
declare const sampleRate: number;
