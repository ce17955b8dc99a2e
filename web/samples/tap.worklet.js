// Hands microphone samples to the page in windows of 512 at 16 kHz. Takes audio on the audio thread, at the rate of its
// context; posts Float32Arrays.

const RATE = 16_000;

registerProcessor(
  'tap',
  class extends AudioWorkletProcessor {
    constructor() {
      super();
      this.window = new Float32Array(512);
      this.filled = 0;
      /** Samples that come for each one that goes: 1 where the browser converts the rate itself. */
      this.step = sampleRate / RATE;
      /** Where the next one lies, counted from the first sample of the quantum that comes; -1 is the last one before. */
      this.at = 0;
      this.last = 0;
    }

    /** @param {Float32Array[][]} inputs */
    process(inputs) {
      const channel = inputs[0]?.[0];
      if (!channel) return true;
      const end = channel.length - 1;
      for (; this.at <= end; this.at += this.step) {
        const before = Math.floor(this.at);
        const from = before < 0 ? this.last : channel[before];
        const to = before < end ? channel[before + 1] : from;
        this.take(from + (this.at - before) * (to - from));
      }
      this.at -= channel.length;
      this.last = channel[end];
      return true;
    }

    /** @param {number} sample */
    take(sample) {
      this.window[this.filled++] = sample;
      if (this.filled < this.window.length) return;
      this.port.postMessage(this.window.slice());
      this.filled = 0;
    }
  },
);
