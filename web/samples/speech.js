// Sample: is somebody speaking? Mounts a microphone button and a file picker; draws the sound, coloured
// where the model hears speech, and says when.
import { announce, el, fill } from '../ui/dom.js';
import { pickButton } from '../ui/drop.js';
import { count } from '../ui/format.js';
import { microphone } from './microphone.js';
import { bell, inTurn, rain, voice } from './sounds.js';
import { SILERO } from './vendored.js';
import { Listener, RATE, stretches, WINDOW } from './vad.js';

/** @typedef {import('./index.js').Sample} Sample */

/** Longest recording taken from a file. */
const MOST_SECONDS = 120;

/** @type {Sample} */
export const speech = {
  id: 'speech',
  title: 'Is somebody speaking?',
  say: 'Talk, clap, hum, or open a recording: the model marks every moment with speech in it.',
  icon: 'M12 3a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3zM6 11a6 6 0 0 0 12 0M12 17v4M8.5 21h7',
  about: 'Silero VAD, 3\u00a0MB',
  model: `${SILERO}silero_vad_op18_ifless.onnx`,

  async mount(host, bench) {
    const verdict = el('div', { class: 'verdict', role: 'status' });
    const canvas = el('canvas', {
      class: 'wave',
      width: 1200,
      height: 180,
      role: 'img',
      'aria-label': 'The sound, coloured where speech was heard',
    });
    const mic = el(
      'button',
      { type: 'button', class: 'primary', onclick: () => (live ? stop() : start()) },
      'Listen to the microphone',
    );
    const play = el('button', { type: 'button', hidden: true, onclick: listen }, 'Play the sound');
    const listener = new Listener(bench.runner);
    /** @type {{stream: MediaStream, context: AudioContext} | null} */
    let live = null;
    let turn = 0;
    let heard = new Float32Array(1);
    /** @type {number[]} */
    let levels = [];
    /** @type {number[]} */
    let probabilities = [];

    /** @param {Float32Array} window */
    const loudness = (window) => window.reduce((high, x) => Math.max(high, Math.abs(x)), 0);

    function restart() {
      turn += 1;
      listener.reset();
      levels = [];
      probabilities = [];
      return turn;
    }

    async function start() {
      const mine = restart();
      play.hidden = true;
      try {
        const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
        const { context, source } = microphone(stream, RATE);
        live = { stream, context };
        await context.audioWorklet.addModule(new URL('./tap.worklet.js', import.meta.url));
        const tap = new AudioWorkletNode(context, 'tap', { numberOfOutputs: 0 });
        source.connect(tap);
        mic.textContent = 'Stop listening';
        /** Windows wait for each other: the model's state goes from one to the next. */
        let queue = Promise.resolve();
        tap.port.onmessage = ({ data }) => {
          queue = queue
            .then(async () => {
              if (mine !== turn) return;
              const p = await listener.hear(data);
              levels.push(loudness(data));
              probabilities.push(p);
              draw(Math.max(0, levels.length - (10 * RATE) / WINDOW));
              fill(
                verdict,
                el(
                  'p',
                  { class: `answer ${p >= 0.5 ? 'yes' : ''}` },
                  p >= 0.5 ? 'Somebody is speaking' : 'No speech',
                ),
              );
            })
            .catch(failed);
        };
      } catch (error) {
        const denied =
          error instanceof DOMException &&
          (error.name === 'NotAllowedError' || error.name === 'NotFoundError');
        failed(
          denied
            ? Object.assign(new Error('The browser gave no microphone.'), {
                code: 'NO_MICROPHONE',
                hint: 'Allow the microphone for this page (the icon left of the address), or open a recording instead.',
              })
            : error,
        );
      }
    }

    /** @param {unknown} error */
    function failed(error) {
      stop();
      bench.fail(error, 'listen');
    }

    function stop() {
      turn += 1;
      live?.stream.getTracks().forEach((track) => track.stop());
      live?.context.close();
      live = null;
      mic.textContent = 'Listen to the microphone';
    }

    /** @param {File} file */
    async function recording(file) {
      try {
        const sound = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await file.arrayBuffer());
        const name = sound.duration > MOST_SECONDS ? `The first ${MOST_SECONDS} s of ${file.name}` : file.name;
        await hear(sound.getChannelData(0).subarray(0, MOST_SECONDS * RATE), name);
      } catch (error) {
        const odd = error instanceof DOMException && error.name === 'EncodingError';
        failed(
          odd
            ? Object.assign(new Error(`${file.name} is not a sound this browser can play.`), {
                code: 'NOT_A_SOUND',
                hint: 'Open a recording that plays here: WAV, MP3, FLAC and Ogg do in most browsers.',
              })
            : error,
        );
      }
    }

    /**
     * @param {Float32Array<ArrayBuffer>} samples
     * @param {string} name
     */
    async function hear(samples, name) {
      stop();
      const mine = restart();
      heard = samples;
      play.hidden = false;
      try {
        const windows = Math.floor(samples.length / WINDOW);
        for (let i = 0; i < windows; i++) {
          const window = samples.slice(i * WINDOW, (i + 1) * WINDOW);
          probabilities.push(await listener.hear(window));
          levels.push(loudness(window));
          if (mine !== turn) return;
          if (i % 16 === 0) draw(0, windows);
        }
        conclude(name);
      } catch (error) {
        failed(error);
      }
    }

    /** Plays what was heard last, so that ears can judge the judge. */
    function listen() {
      const context = new AudioContext({ sampleRate: RATE });
      const buffer = context.createBuffer(1, heard.length, RATE);
      buffer.copyToChannel(heard, 0);
      const source = new AudioBufferSourceNode(context, { buffer });
      source.connect(context.destination);
      source.onended = () => context.close();
      source.start();
    }

    /** @param {string} name */
    function conclude(name) {
      const parts = stretches(probabilities);
      // The picture says what the words below it say: a single loud window is no speech.
      draw(0, levels.length, (i) => parts.some(({ from, to }) => i * WINDOW >= from * RATE && i * WINDOW < to * RATE));
      const total = parts.reduce((sum, part) => sum + part.to - part.from, 0);
      const saying = parts.length
        ? `${total.toFixed(1)} s of speech in ${count(parts.length, 'stretch', 'stretches')}`
        : 'No speech in it';
      fill(
        verdict,
        el('p', { class: 'soft' }, `${name}, ${((probabilities.length * WINDOW) / RATE).toFixed(1)} s`),
        el('p', { class: 'answer' }, saying),
        el(
          'ul',
          { class: 'row spans' },
          ...parts
            .slice(0, 40)
            .map(({ from, to }) => el('li', { class: 'num' }, `${from.toFixed(1)}–${to.toFixed(1)} s`)),
        ),
      );
      announce(`${name}: ${saying}`);
    }

    /**
     * @param {number} first window at the left edge
     * @param {number} [windows] that fill the width
     * @param {(i: number) => boolean} [spoken] whether a window is speech
     */
    function draw(first, windows = Math.max(levels.length - first, 150), spoken = (i) => probabilities[i] >= 0.5) {
      const ink = canvas.getContext('2d');
      if (!ink) return;
      const style = getComputedStyle(canvas);
      ink.clearRect(0, 0, canvas.width, canvas.height);
      const step = canvas.width / windows;
      for (let i = first; i < levels.length; i++) {
        const tall = Math.max(2, Math.min(1, levels[i] * 1.4) * canvas.height);
        ink.fillStyle = spoken(i) ? style.color : style.caretColor;
        ink.fillRect((i - first) * step, (canvas.height - tall) / 2, Math.max(1, step * 0.8), tall);
      }
    }

    const [input, pick] = pickButton('open a recording', 'audio/*,video/*', recording);
    fill(
      host,
      el(
        'div',
        { class: 'row' },
        mic,
        ' or ',
        pick,
        input,
        play,
        el('span', { class: 'soft' }, 'The sound stays in this tab.'),
      ),
      canvas,
      verdict,
    );
    await hear(
      inTurn([rain(1.5, RATE), voice(2, RATE), bell(1.5, RATE)], RATE),
      'Rain, a made-up voice, a bell',
    );
    return { takes: (file) => /^(audio|video)\//.test(file.type), drop: recording, close: stop };
  },
};
