// Typed errors: takes a code, a sentence and the facts; returns an Error that survives postMessage
// as a plain object and comes out on the other side as the same type.

/** Any failure that has a name. `code` is stable and for programs, `message` and `hint` are for people. */
export class NnjitError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {Record<string, unknown>} [fields] facts such as node, dtype, bytes asked
   * @param {string} [hint] what to try
   */
  constructor(code, message, fields = {}, hint = '') {
    super(message);
    this.name = 'NnjitError';
    this.code = code;
    this.fields = fields;
    this.hint = hint;
  }

  /** The node it happened at, where it has one. */
  get node() {
    return /** @type {string | undefined} */ (this.fields.node);
  }

  /** That node's operator. */
  get op() {
    return /** @type {string | undefined} */ (this.fields.op);
  }

  /** The element type in question. */
  get dtype() {
    return /** @type {string | undefined} */ (this.fields.dtype);
  }

  /** The file in question. */
  get file() {
    return /** @type {string | undefined} */ (this.fields.file);
  }

  /** @returns {Record<string, unknown>} */
  toJSON() {
    return { code: this.code, message: this.message, fields: this.fields, hint: this.hint };
  }

  /**
   * @param {Record<string, unknown>} data what toJSON made, here or in Python
   * @returns {NnjitError}
   */
  static from(data) {
    const { code, message, fields, hint } = data;
    return new NnjitError(
      typeof code === 'string' ? code : 'INTERNAL',
      typeof message === 'string' ? message : String(message),
      typeof fields === 'object' && fields !== null ? /** @type {Record<string, unknown>} */ (fields) : {},
      typeof hint === 'string' ? hint : '',
    );
  }
}

/**
 * The same error if it is typed already, else one that wraps it.
 * @param {unknown} cause
 * @param {string} [code]
 * @returns {NnjitError}
 */
export function asError(cause, code = 'INTERNAL') {
  if (cause instanceof NnjitError) return cause;
  const text = cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause);
  const error = new NnjitError(code, text);
  if (cause instanceof Error && cause.stack) error.stack = cause.stack;
  return error;
}

/**
 * @param {boolean} condition
 * @param {string} code
 * @param {string} message
 * @param {Record<string, unknown>} [fields]
 * @param {string} [hint]
 * @returns {asserts condition}
 */
export function check(condition, code, message, fields, hint) {
  if (!condition) throw new NnjitError(code, message, fields, hint);
}

/** @param {AbortSignal | undefined} signal */
export function throwIfAborted(signal) {
  if (signal?.aborted) throw new NnjitError('ABORTED', 'The call was cancelled.');
}
