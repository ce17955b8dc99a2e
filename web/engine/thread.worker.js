// Threads 1 and up: sleeps in Atomics.wait, does its share of jobs, goes to the event loop only for mail.

import { Control, JOB } from './control.js';
import { asError } from './errors.js';
import { holdLock } from './alive.js';
import { Replica } from './replica.js';

const port = /** @type {Worker} */ (/** @type {unknown} */ (self));

/** @type {Replica} */
let replica;
/** @type {Control} */
let control;
let seen = 0;

/** Does jobs until mail is announced; the message that follows calls this again. */
function serve() {
  for (;;) {
    const next = control.await(replica.thread, seen);
    seen = next.seen;
    if (next.command !== JOB) return;
    const job = control.job();
    let ms = 0;
    let trapped = false;
    try {
      ms = replica.execute(job);
    } catch (cause) {
      trapped = true;
      port.postMessage({ trap: replica.explain(job, cause) });
    }
    control.finish(replica.thread, ms, trapped);
  }
}

/** @param {MessageEvent} event */
port.onmessage = async ({ data }) => {
  if (data.start) {
    const { thread, threads, buffer, lock } = data.start;
    replica = new Replica(thread);
    control = new Control(threads, buffer);
    await holdLock(lock);
    port.postMessage({ ready: true });
  } else {
    try {
      replica.apply(data.mail);
      port.postMessage({ done: true });
    } catch (cause) {
      port.postMessage({ failed: asError(cause, 'COMPILE_FAILED').toJSON() });
    }
  }
  serve();
};
