// WordPiece, the tokenizer of BERT-like models. Takes a vocabulary (one token a line, the line number is
// the id) and text; returns token ids. The rules are those of BERT's uncased tokenizer: clean, split off
// CJK characters and punctuation, lower-case without accents, then take the longest piece the vocabulary
// knows, again and again.

const MAX_WORD = 100;
const CONTROL = /[\p{Cc}\p{Cf}\p{Co}\u{0}\u{fffd}]/gu;
const SPACE = /[\s\p{Z}]+/gu;
const ACCENT = /\p{Mn}/gu;
// The blocks which BERT calls Chinese characters: ideographs only, no kana and no hangul.
const IDEOGRAPH =
  /[\u{4e00}-\u{9fff}\u{3400}-\u{4dbf}\u{f900}-\u{faff}\u{20000}-\u{2a6df}\u{2a700}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu;
// ASCII symbols count as punctuation although Unicode files some of them ($ + < = > ^ ` | ~) under symbols.
const PUNCTUATION = /[!-/:-@[-`{-~\p{P}]/gu;

export class WordPiece {
  /** @param {string} vocabulary the text of a vocab.txt */
  constructor(vocabulary) {
    const lines = vocabulary.split('\n');
    if (lines.at(-1) === '') lines.pop();
    /** @type {string[]} */
    this.tokens = lines.map((line) => line.replace(/\r$/, ''));
    this.ids = new Map(this.tokens.map((token, id) => [token, id]));
    this.unknown = this.id('[UNK]');
    this.start = this.id('[CLS]');
    this.end = this.id('[SEP]');
    this.pad = this.id('[PAD]');
  }

  /** @param {string} token */
  id(token) {
    const id = this.ids.get(token);
    if (id === undefined) throw new Error(`The vocabulary has no ${token}.`);
    return id;
  }

  /**
   * Words and punctuation marks, normalised.
   * @param {string} text
   * @returns {string[]}
   */
  words(text) {
    return (
      text
        .replace(/[\t\n\r]/g, ' ')
        .replace(CONTROL, '')
        .replace(SPACE, ' ')
        .replace(IDEOGRAPH, ' $& ')
        .normalize('NFD')
        .replace(ACCENT, '')
        // Letter by letter: of a whole word, JavaScript would turn a final Σ into ς, which the vocabulary was
        // not made with.
        .replace(/\p{L}/gu, (letter) => letter.toLowerCase())
        .replace(PUNCTUATION, ' $& ')
        .split(' ')
        .filter(Boolean)
    );
  }

  /**
   * @param {string} word
   * @returns {number[]} the ids of its pieces, or the id of [UNK] where no cover exists
   */
  pieces(word) {
    const letters = [...word];
    if (letters.length > MAX_WORD) return [this.unknown];
    const out = [];
    let from = 0;
    while (from < letters.length) {
      let to = letters.length;
      let id;
      for (; to > from; to--) {
        id = this.ids.get((from ? '##' : '') + letters.slice(from, to).join(''));
        if (id !== undefined) break;
      }
      if (id === undefined) return [this.unknown];
      out.push(id);
      from = to;
    }
    return out;
  }

  /**
   * Ids between [CLS] and [SEP], cut to `limit` in all.
   * @param {string} text
   * @param {number} [limit]
   */
  encode(text, limit = 128) {
    const ids = this.words(text).flatMap((word) => this.pieces(word));
    return [this.start, ...ids.slice(0, limit - 2), this.end];
  }
}
