// Hands microphone samples to the page in windows of 512. Takes audio on the audio thread; posts
// Float32Arrays.

registerProcessor(
  'tap',
  class extends AudioWorkletProcessor {
    constructor() {
      super();
      this.window = new Float32Array(512);
      this.filled = 0;
    }

    /** @param {Float32Array[][]} inputs */
    process(inputs) {
      const channel = inputs[0]?.[0];
      // A render quantum is 128 samples, so four of them fill a window exactly.
      if (channel) {
        this.window.set(channel, this.filled);
        this.filled += channel.length;
        if (this.filled >= this.window.length) {
          this.port.postMessage(this.window.slice());
          this.filled = 0;
        }
      }
      return true;
    }
  },
);
