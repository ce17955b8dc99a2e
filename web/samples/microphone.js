// A microphone as an audio node. Takes its stream and the rate that is wanted; gives a node that has it, or has the
// microphone's own where the browser does not convert, and then nothing in it that the wanted rate cannot hold.

/**
 * @param {MediaStream} stream @param {number} rate in Hz
 * @returns {{context: AudioContext, source: AudioNode}}
 */
export function microphone(stream, rate) {
  const context = new AudioContext({ sampleRate: rate });
  try {
    return { context, source: context.createMediaStreamSource(stream) };
  } catch {
    void context.close(); // NotSupportedError: a stream of another rate is not converted, as in earlier versions of Firefox
  }
  const native = new AudioContext();
  const source = new BiquadFilterNode(native, { type: 'lowpass', frequency: 0.45 * rate });
  native.createMediaStreamSource(stream).connect(source);
  return { context: native, source };
}
