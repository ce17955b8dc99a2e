"""Memory kept ready for outputs: it comes after a size was asked for twice, is bounded, and goes when nobody asks."""

from __future__ import annotations

from onnx import TensorProto, helper
from playwright.sync_api import Page

from nnjit.runtime.outputs import SPARES
from tests.browser.api_page import Api, model

ASKED = """async () => {
  const { Spares } = await import('/engine/spares.js');
  const policy = { leastBytes: 1000, mostBytes: 100000, share: 1, ahead: 3, threads: 2, idleMs: 150 };
  const spares = new Spares();
  const until = async (there) => {
    for (let i = 0; i < 4000 && !there(); i++) await new Promise((done) => setTimeout(done, 5));
    return there();
  };
  const take = (nbytes) => spares.take(nbytes, policy, 0)?.length ?? null;
  const found = { small: [take(999), take(999), spares.held], large: [take(100001), take(100001), spares.held] };
  found.first = [take(9000), spares.held];
  found.second = [take(9000), spares.held];
  let got = null;
  found.third = await until(() => (got ??= spares.take(9000, policy, 0)) !== null);
  found.array = [got.length, got.buffer.byteLength, got.buffer instanceof ArrayBuffer, got.every((byte) => byte === 0)];
  let most = 0;
  for (let i = 0; i < 60; i++) {            // sizes that do not fit all at once, asked for faster than they are made
    take(20000 + 1000 * (i % 4));
    most = Math.max(most, spares.held);
    if (i % 10 === 0) await new Promise((done) => setTimeout(done, 2));
  }
  found.bounded = most <= policy.mostBytes && most > 40000;
  found.idle = await until(() => spares.held === 0);
  take(9000);
  found.share = [spares.take(9000, { ...policy, share: 1e-9 }, 0), spares.held];   // less than 9,000 of some gigabytes
  spares.clear();
  found.afterwards = [take(9000), spares.held, spares.take(9000, undefined, 0), spares.take(9000, policy, 1000)];
  const none = new Spares();
  none.take(1e12, { ...policy, mostBytes: 1e13, share: 1e6 }, 0);
  none.take(1e12, { ...policy, mostBytes: 1e13, share: 1e6 }, 0);   // more than any browser gives
  found.refused = await until(() => none.held === 0);
  none.clear();
  spares.clear();
  return found;
}"""


def test_arrays_come_ahead_within_bounds(page: Page) -> None:
    assert page.evaluate(ASKED) == {
        "small": [None, None, 0],
        "large": [None, None, 0],
        "first": [None, 0],
        "second": [None, 9000],
        "third": True,
        "array": [9000, 9000, True, True],
        "bounded": True,
        "idle": True,
        "share": [None, 0],
        "afterwards": [None, 0, None, None],
        "refused": True,
    }


def test_threads_that_do_not_start_are_not_asked_again(page: Page) -> None:
    """Their script fails, or the page may start none: runs go on without."""
    assert page.evaluate(
        """async () => {
          const { Spares } = await import('/engine/spares.js');
          const policy = { leastBytes: 1000, mostBytes: 100000, share: 1, ahead: 3, threads: 1, idleMs: 60000 };
          const { Worker } = globalThis;
          const found = [];
          try {
            for (const made of [
              () => new Worker(URL.createObjectURL(new Blob(['throw new Error("no")'])), { type: 'module' }),
              () => { throw new DOMException('no', 'SecurityError'); },
            ]) {
              let started = 0;
              globalThis.Worker = function () {
                started++;
                return made();
              };
              const spares = new Spares();
              const taken = [spares.take(9000, policy, 0), spares.take(9000, policy, 0)];
              for (let i = 0; i < 4000 && spares.held; i++) await new Promise((done) => setTimeout(done, 5));
              for (let i = 0; i < 4; i++) taken.push(spares.take(9000, policy, 0));
              found.push([started, spares.held, taken.every((each) => each === null)]);
            }
          } finally {
            globalThis.Worker = Worker;
          }
          return found;
        }"""
    ) == [[1, 0, True], [1, 0, True]]


def test_many_runs_hold_no_more_memory_than_a_few(api: Api) -> None:
    """Outputs are right and each is its own, whoever made their memory."""
    shape = [1024, 512]  # 2 MB
    nodes = [helper.make_node("Neg", ["x"], ["y"])]
    path = api.put(
        "large.onnx", model(nodes, {"x": (TensorProto.FLOAT, shape)}, {"y": (TensorProto.FLOAT, shape)})
    )
    api.run(
        """async ([path, dims]) => {
          window.session = await create(path, { numThreads: 1 });
          window.turn = async (runs) => {
            const { spares } = await import('/engine/spares.js');
            let [most, wrong, before] = [0, 0, null];
            for (let i = 0; i < runs; i++) {
              const { y } = await session.run({ x: T('float32', new Float32Array(dims[0] * dims[1]).fill(i), dims) });
              if (y.data.some((value) => value !== -i) || before?.data.some((value) => value !== 1 - i)) wrong++;
              if (y.data.buffer === before?.data.buffer || y.data.buffer.byteLength !== y.data.byteLength) wrong++;
              before = y;
              most = Math.max(most, spares.held);
            }
            spares.clear();
            return { most, wrong };
          };
        }""",
        [path, shape],
    )
    tools = api.page.context.new_cdp_session(api.page)
    held = []
    for runs in (20, 60):
        found = api.run("(runs) => turn(runs)", runs)
        assert found["wrong"] == 0
        assert found["most"] <= SPARES["ahead"] * (2 << 20)
        tools.send("HeapProfiler.collectGarbage")
        held.append(tools.send("Runtime.getHeapUsage")["backingStorageSize"])
    api.run("() => session.release()")
    assert held[1] - held[0] < 2 << 20  # not one array more
