// One session's dealings with plans that are kept: it is given its first plan by an earlier session, or leaves its own to later
// ones. The compiler does not know of a session that was given its plan until something is asked of it, or nothing else is to
// be done: then it reads the model and makes the same plan, so that it knows what lies where in the session's memory. If that
// is not the same plan byte for byte, what is kept is thrown away, and the session starts over at its next run.
import { log } from './env.js';
import { quiet } from './held.js';
import { filesKey, keepPlan, keepable, keeps, keptAnswer, lasting, recallPlans, requestText } from './kept-plans.js';
import { answered, compile, smallOf } from './making.js';
import { drop, pack } from './plan-store.js';
import { allRuns } from './snapshot-making.js';
import { pause } from './tuning-calm.js';
import { getCompiler } from './workers.js';

/**
 * @typedef {import('./making.js').Made} Made
 * @typedef {import('./shelf.js').Request} Request
 * @typedef {{id: string, files: import('./sources.js').Bytes[]}} About
 */

/** So long nothing else is to be done: the compiler takes a core for as long as it takes to compile. */
const CALM_MS = 1000;

export class Kept {
  /** @type {import('./kept-plans.js').Place | null} */
  #place = null;
  /** What tells the compiler of the session; null where it knows. @type {((signal: AbortSignal) => Promise<any>) | null} */
  tell = null;
  /** What the session was given. @type {Made | null} */
  #given = null;
  /** @type {Promise<void> | null} */
  #telling = null;
  #leaving = new AbortController();
  /** Plans that were asked for. Only the first is given or kept: later ones depend on it, also where it came to nothing. */
  #asked = 0;
  /** What the compiler has made is not what the session was given. */
  outdated = false;
  /**
   * 'served': the plan is an earlier session's; 'checked': and the compiler has made the same one since; 'saved': it was made here
   * and is kept; '' otherwise. @type {'' | 'served' | 'checked' | 'saved'}
   */
  state = '';

  /**
   * @param {unknown} told @param {import('./sources.js').Source[]} sources @param {AbortSignal | null} signal
   * @param {boolean} anew what is kept was of no use to this session, and is still there where nothing can be deleted
   */
  async recall(told, sources, signal, anew) {
    const { ready } = getCompiler();
    const filesOf = () => Promise.any([filesKey(), ready.then(({ files }) => files)]); // the server may not answer any more
    this.#place = await recallPlans(told, sources, signal, filesOf);
    if (anew) this.#forget();
    if (this.description) this.#alone();
  }

  /** The cores are for the engine now: the compiler tries itself out later. */
  #alone() {
    void getCompiler().rpc.call('rest', { ms: CALM_MS }).catch(() => undefined);
  }

  /** Of the model, where it is known without asking the compiler. */
  get description() {
    return this.#place?.entry?.description;
  }

  /**
   * The plan for a session's first request; null where it must be made.
   * @param {Request} request @returns {Made | null}
   */
  find(request) {
    const answer = this.#asked++ ? null : keptAnswer(this.#place, request, smallOf(request));
    if (!answer) return null;
    this.#forget();
    this.#alone();
    this.state = 'served';
    return (this.#given = answered(answer, request));
  }

  /** The plans of the model are not needed any more. */
  #forget() {
    if (this.#place) this.#place = { ...this.#place, entry: null };
  }

  /**
   * A plan was made and loaded: the first of a session is kept, soon.
   * @param {Made} made @param {{description: any, sources: import('./sources.js').Source[], ask: (method: string, args: {}) => Promise<any>}} home
   */
  async made(made, home) {
    const place = this.#place;
    this.#forget();
    if (this.#asked !== 1 || !place || !keepable(made.answer)) return;
    const { answer, prepared, small } = made;
    const wanted = () => !this.#leaving.signal.aborted && keeps();
    try {
      const kept = { request: requestText(prepared.request, small, answer.valueInputs), answer };
      await quiet(0, wanted);
      await Promise.all(home.sources.map(({ arrived }) => arrived));
      const { files } = await getCompiler().ready;
      if (!wanted() || files !== place.files) return; // the server has another compiler by now
      const reads = await home.ask('reads', {});
      if (wanted() && await keepPlan(place, kept, home.description, reads, home.sources)) this.state ||= 'saved';
    } catch (error) {
      if (wanted()) log('info', `a plan is not kept: ${error}`);
    }
  }

  /** @param {About} about @returns {Promise<void>} resolves when the compiler knows the session */
  async introduced(about) {
    while (this.#untold) { // a plan may be given while the compiler hears of the model
      this.#telling ??= this.#introduce(about).finally(() => {
        this.#telling = null;
      });
      await this.#telling;
    }
  }

  /** Something is not known to the compiler. */
  get #untold() {
    return Boolean(this.tell ?? this.#given);
  }

  /** @param {About} about */
  async #introduce({ id, files }) {
    const { signal } = this.#leaving;
    await this.tell?.(signal);
    this.tell = null;
    const given = this.#given;
    if (!given) return;
    const about = { id, files, loaded: [], onGpu: false };
    const { answer } = await compile(about, given.prepared.request, () => undefined, signal);
    const [was, is] = await Promise.all([given.answer, answer].map(async (each) => (await pack(lasting(each))).digest));
    if (was === is) this.state = 'checked';
    else {
      log('warning', `${id}: its plan, left by an earlier session, is not the one that the compiler makes now; the next run has another`);
      this.refuse();
    }
    this.#given = null;
  }

  /** Tells the compiler of the session when nothing else is to be done. @param {() => About} about */
  async introducedSoon(about) {
    const { signal } = this.#leaving;
    const wanted = () => this.#untold && !this.#telling && !signal.aborted;
    await quiet(CALM_MS, wanted);
    while (wanted() && allRuns.idleMs < CALM_MS) await pause(CALM_MS / 4);
    if (wanted()) await this.introduced(about()).catch((error) => signal.aborted || log('info', `${error}`));
  }

  /** What is kept of the model is of no use: it is thrown away, and the session is to start over. */
  refuse() {
    if (this.#place) void drop(this.#place.key);
    this.outdated = true;
  }

  /** The session goes; resolves when nothing more is told of it. @returns {Promise<boolean>} whether the compiler may know of it */
  async leave() {
    this.#leaving.abort();
    const told = !this.tell || Boolean(this.#telling);
    await this.#telling?.catch(() => undefined); // ends soon: it was aborted
    this.tell = this.#given = null;
    return told;
  }
}
