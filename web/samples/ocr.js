// Sample: read text from pixels. Mounts a field whose text is drawn in a typeface and read back from the
// picture, and takes images (dropped, pasted, chosen), in which a second model finds the lines first.
import { announce, el, fill, freshId } from '../ui/dom.js';
import { pickButton } from '../ui/drop.js';
import { count, percent } from '../ui/format.js';
import { alphabet, boxes, detectorSize, LINE_HEIGHT, lineWidth, planes, readLine } from './ocr.lines.js';
import { metadata } from './onnx.metadata.js';
import { bytes, PP_OCR } from './vendored.js';

/** @typedef {import('./index.js').Sample} Sample */
/** @typedef {import('./ocr.lines.js').Box} Box */

/** @type {[string, string][]} */
const FACES = [
  ['italic 40px Georgia, "DejaVu Serif", serif', 'a book'],
  ['40px "Courier New", "DejaVu Sans Mono", monospace', 'a typewriter'],
  ['700 40px Arial, "DejaVu Sans", sans-serif', 'a poster'],
  ['44px "Comic Sans MS", "Segoe Print", "Bradley Hand", cursive', 'a hand'],
];

/** @type {Sample} */
export const ocr = {
  id: 'ocr',
  title: 'Read this picture',
  say: 'Type something or drop a photo or a screenshot: two models find the lines and read them.',
  icon: 'M3 8V4h4M17 4h4v4M21 16v4h-4M7 20H3v-4M8 15l4-8 4 8M9.4 12.4h5.2',
  about: 'PP-OCRv4 by Baidu, 11\u00a0+\u00a05\u00a0MB',
  model: `${PP_OCR}ch_PP-OCRv4_rec_infer.onnx`,

  async mount(host, bench) {
    const notes = metadata(await bytes(ocr.model));
    const characters = alphabet(notes.get('character') ?? '');
    const picture = el('canvas', { class: 'picture', role: 'img', 'aria-label': 'The picture that is read' });
    const ink = pen(picture);
    const verdict = el('div', { class: 'verdict', role: 'status' });
    const [textId, faceId] = [freshId('text'), freshId('face')];
    const field = el('input', {
      id: textId,
      type: 'text',
      value: 'Nothing leaves this page.',
      maxLength: 80,
    });
    const face = el(
      'select',
      { id: faceId },
      ...FACES.map(([font, label]) => el('option', { value: font }, label)),
    );
    field.addEventListener('input', typed);
    face.addEventListener('change', typed);
    let asked = 0;

    async function typed() {
      asked += 1;
      const mine = asked;
      if (!field.value.trim()) return void fill(verdict);
      ink.font = face.value;
      const width = Math.ceil(ink.measureText(field.value).width) + 32;
      picture.width = width;
      picture.height = 72;
      ink.fillStyle = '#fbf8f0';
      ink.fillRect(0, 0, width, 72);
      ink.fillStyle = '#222';
      ink.font = face.value;
      ink.textBaseline = 'middle';
      ink.fillText(field.value, 16, 38);
      try {
        const line = await read(picture, { left: 0, top: 0, right: width, bottom: 72 });
        if (mine === asked) show([{ row: 0, ...line }]);
      } catch (error) {
        bench.fail(error, 'read the picture');
      }
    }

    /**
     * @param {CanvasImageSource} source
     * @param {Box} box
     */
    async function read(source, box) {
      const [w, h] = [box.right - box.left, box.bottom - box.top];
      const width = Math.max(8, Math.min(2400, Math.round((w * LINE_HEIGHT) / h)));
      const pixels = scaled(source, box, width, LINE_HEIGHT);
      const out = Object.values(
        await bench.runner.run({ x: planes(pixels, width, LINE_HEIGHT, lineWidth(width)) }),
      )[0];
      return readLine(/** @type {Float32Array} */ (out.data), out.dims, characters);
    }

    /** @param {File} file */
    async function image(file) {
      asked += 1;
      const mine = asked;
      fill(verdict, el('p', { class: 'soft' }, 'Looking for lines of text…'));
      try {
        const bitmap = await createImageBitmap(file);
        const detector = await bench.second(`${PP_OCR}ch_PP-OCRv4_det_infer.onnx`);
        const size = detectorSize(bitmap.width, bitmap.height);
        const whole = { left: 0, top: 0, right: bitmap.width, bottom: bitmap.height };
        const found = Object.values(
          await detector.run({
            x: planes(scaled(bitmap, whole, size.width, size.height), size.width, size.height),
          }),
        )[0];
        const [sx, sy] = [bitmap.width / size.width, bitmap.height / size.height];
        const list = boxes(/** @type {Float32Array} */ (found.data), size.width, size.height).map((b) => ({
          row: b.row,
          left: b.left * sx,
          right: b.right * sx,
          top: b.top * sy,
          bottom: b.bottom * sy,
        }));
        draw(bitmap, list);
        const lines = [];
        for (const box of list) {
          if (mine !== asked) return;
          lines.push({ row: box.row, ...(await read(bitmap, box)) });
          show(
            lines.filter((line) => line.text),
            list.length - lines.length,
          );
        }
        if (!lines.length) fill(verdict, el('p', {}, 'No text found in this picture.'));
      } catch (error) {
        const odd = error instanceof DOMException && error.name === 'InvalidStateError';
        bench.fail(
          odd
            ? Object.assign(new Error(`${file.name} is not an image this browser can show.`), {
                code: 'NOT_AN_IMAGE',
              })
            : error,
          `read ${file.name}`,
        );
      }
    }

    /** @param {ImageBitmap} bitmap @param {Box[]} list */
    function draw(bitmap, list) {
      const scale = Math.min(1, 1280 / bitmap.width);
      picture.width = Math.round(bitmap.width * scale);
      picture.height = Math.round(bitmap.height * scale);
      ink.drawImage(bitmap, 0, 0, picture.width, picture.height);
      ink.strokeStyle = '#0a8f83';
      ink.lineWidth = 2;
      for (const b of list)
        ink.strokeRect(b.left * scale, b.top * scale, (b.right - b.left) * scale, (b.bottom - b.top) * scale);
    }

    /** @param {{text: string, sure: number, row: number}[]} lines @param {number} [left] lines still to be read */
    function show(lines, left = 0) {
      const text = lines
        .map((line, i) => (i === 0 ? '' : line.row === lines[i - 1].row ? '   ' : '\n') + line.text)
        .join('');
      const sure = lines.reduce((sum, line) => sum + line.sure, 0) / (lines.length || 1);
      fill(
        verdict,
        el(
          'p',
          { class: 'soft' },
          left ? `It reads, ${count(left, 'line')} to go` : `It reads, ${percent(sure)} sure`,
        ),
        el('p', { class: lines.length > 1 ? 'read mono' : 'answer' }, text || '(nothing)'),
      );
      if (!left) announce(`It reads: ${text}`);
    }

    const [input, pick] = pickButton('Choose an image', 'image/*', image);
    fill(
      host,
      el(
        'div',
        { class: 'ask two' },
        el('div', { class: 'field' }, el('label', { for: textId }, 'Write something'), field),
        el('div', { class: 'field' }, el('label', { for: faceId }, 'as in'), face),
      ),
      el('p', {}, 'Or drop or paste an image anywhere, or ', pick, input),
      el('div', { class: 'frame' }, picture),
      verdict,
    );
    await typed();
    return { takes: (file) => file.type.startsWith('image/'), drop: image };
  },
};

/** @param {HTMLCanvasElement} canvas */
function pen(canvas) {
  const context = canvas.getContext('2d', { willReadFrequently: true });
  if (!context) throw new Error('This browser gives no 2D canvas.');
  return context;
}

/**
 * A part of an image at another size, as RGBA pixels.
 * @param {CanvasImageSource} source
 * @param {Box} box
 * @param {number} width
 * @param {number} height
 */
function scaled(source, box, width, height) {
  const canvas = el('canvas', { width, height });
  const ink = pen(canvas);
  ink.imageSmoothingQuality = 'high';
  ink.fillStyle = '#fff';
  ink.fillRect(0, 0, width, height);
  ink.drawImage(source, box.left, box.top, box.right - box.left, box.bottom - box.top, 0, 0, width, height);
  return ink.getImageData(0, 0, width, height).data;
}
