// Garbage that weighs much and looks light: a WebAssembly.Memory is freed when no thread holds it any more, and its
// size does not move a thread to collect. A thread that sleeps in Atomics.wait never collects by itself at all.

/** Two of these bring V8's external memory accounting to a full collection; the pages are never touched. */
const NUDGE_BYTES = 64 << 20;

/** Makes this thread collect, once it has dropped its references. */
export function collect() {
  try {
    for (let i = 0; i < 2; i++) new ArrayBuffer(NUDGE_BYTES);
  } catch {
    // no room for it: the failed allocation has collected already
  }
}
