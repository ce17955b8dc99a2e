"""Outputs on their way from the GPU to the page: views that hold until the next call, arrays that are kept."""

from __future__ import annotations

from onnx import TensorProto, helper

from tests.browser.api_page import Api, two_outputs

PINNED = """async (path) => {
  const on = { executionProviders: ['webgpu'], room: false }; // each shape has a plan of its own
  const pinned = await create(path, { ...on, preferredOutputLocation: 'cpu-pinned' });
  const plainly = await create(path, on);
  const either = await create(path, { ...on, preferredOutputLocation: { sum: 'cpu-pinned' } });
  const turns = (n) => Float32Array.from({ length: n }, (_, i) => i % 3);
  const feeds = (n) => ({ a: T('float32', turns(n)), b: T('float32', new Float32Array(n).fill(0.5)) });
  const wrong = [];
  const first = feeds(3001);
  let mine = await pinned.run(first), theirs = await plainly.run(first);
  const held = mine.sum.data;
  const kept = [...held];
  const found = { all: Object.values(mine).map((t) => t.location), own: held.buffer instanceof ArrayBuffer,
    one: Object.values(await either.run(first)).map((t) => t.location),
    fetched: (await pinned.run(first, { sum: T('float32', kept) })).sum.location };
  found.stale = [(await failure(async () => mine.sum.data)).code, mine.sum.location];
  mine = await pinned.run(first);
  found.unmapped = held.length;
  for (let i = 0; i < 6; i++) {          // results in, by turns in either place
    const turn = ({ sum, product }) => (i % 2 ? { a: sum, b: product } : { a: product, b: sum });
    [mine, theirs] = [await pinned.run(turn(mine)), await plainly.run(turn(theirs))];
    for (const name of ['sum', 'product'])
      if (String(mine[name].data) !== String(theirs[name].data)) wrong.push([i, name]);
  }
  found.wrong = wrong;
  const grown = (await pinned.run(feeds(70000))).sum;     // another plan
  found.grown = [grown.location, grown.data.length, grown.data[1]];
  found.again = String((await pinned.run(first)).sum.data) === String((await plainly.run(first)).sum.data);
  const last = (await pinned.run(first)).sum;
  await pinned.profile({ repeats: 1 });
  found.profiled = last.location;
  for (const session of [pinned, plainly, either]) await session.release();
  return found;
}"""


def test_pinned_outputs_are_views_until_the_next_call(gpu: Api) -> None:
    """They may be fed to that call, each also in the other's place."""
    assert gpu.run(PINNED, gpu.put("pair.onnx", two_outputs(["n"]))) == {
        "all": ["cpu-pinned", "cpu-pinned"],
        "own": True,
        "one": ["cpu-pinned", "cpu"],
        "fetched": "cpu",
        "stale": ["TENSOR_DISPOSED", "none"],
        "unmapped": 0,
        "wrong": [],
        "grown": ["cpu-pinned", 70000, 1.5],
        "again": True,
        "profiled": "none",
    }


def test_a_view_is_gone_with_its_device(undisturbed: Api) -> None:
    """A run that was fed one is not repeated on another device: it would compute something else."""
    found = undisturbed.run(
        """async (path) => {
          const nnjit = (await import('/nnjit.js')).default;
          const pinned = { executionProviders: ['webgpu'], preferredOutputLocation: 'cpu-pinned' };
          const session = await create(path, pinned);
          const all = (n) => T('float32', new Float32Array(64).fill(n));
          const feeds = { a: all(2), b: all(3) };
          const { sum, product } = await session.run(feeds);
          const { device: lost } = nnjit.env.webgpu;
          const { queue } = lost;
          const submit = queue.submit.bind(queue);
          queue.submit = (commands) => {       // the feeds have been taken when the device goes
            submit(commands);
            lost.destroy();
          };
          const { code } = await failure(session.run({ a: sum, b: product }));
          const after = await session.run(feeds);
          const device = nnjit.env.webgpu.device;
          const shown = after.sum.data[0];
          device.destroy();
          await device.lost;
          const stale = [after.sum.location, (await failure(async () => after.sum.data)).code];
          const next = await session.run(feeds);
          const again = next.product.data[63];
          await session.release();
          return { code, shown, stale, again };
        }""",
        undisturbed.put("pair.onnx", two_outputs(["n"])),
    )
    assert found == {"code": "DEVICE_LOST", "shown": 5, "stale": ["none", "TENSOR_DISPOSED"], "again": 6}


def test_elements_that_are_wider_on_the_device_are_copied(gpu: Api) -> None:
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3]) for n in "ab"]
    result = helper.make_tensor_value_info("y", TensorProto.BOOL, [3])
    graph = helper.make_graph([helper.make_node("Greater", ["a", "b"], ["y"])], "greater", info, [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = gpu.run(
        """async (path) => {
          const pinned = { executionProviders: ['webgpu'], preferredOutputLocation: 'cpu-pinned' };
          const session = await create(path, pinned);
          const { y } = await session.run({ a: T('float32', [1, 5, 2]), b: T('float32', [3, 4, 2]) });
          await session.run({ a: T('float32', [9, 0, 0]), b: T('float32', [3, 4, 2]) });
          const found = [y.type, y.location, ...y.data];
          await session.release();
          return found;
        }""",
        gpu.put("greater.onnx", model),
    )
    assert found == ["bool", "cpu", 0, 1, 0]


def test_memory_made_ready_is_written_whole(gpu: Api) -> None:
    """Whatever lies in it: every byte of an output in it is the run's, and none of another output's."""
    found = gpu.run(
        """async (path) => {
          const { spares } = await import('/engine/spares.js');
          const session = await create(path, { executionProviders: ['webgpu'] });
          const n = 300001;
          const counted = Float32Array.from({ length: n }, (_, i) => i);
          const feeds = { a: T('float32', counted), b: T('float32', new Float32Array(n).fill(3)) };
          const given = [];
          const take = spares.take;
          spares.take = (nbytes, policy) => {
            if (nbytes < policy.leastBytes) return null;
            given.push(new Uint8Array(nbytes).fill(255));
            return given.at(-1);
          };
          try {
            const { sum, product } = await session.run(feeds);
            const into = T('float32', new Float32Array(n));
            await session.run(feeds, { sum: into });          // the caller's own: none is taken
            return [given.length, sum.data.buffer === given[0].buffer, product.data.buffer === given[1].buffer,
              sum.data.every((value, i) => value === i + 3), product.data.every((value, i) => value === 3 * i),
              into.data.every((value, i) => value === i + 3)];
          } finally {
            spares.take = take;
            await session.release();
          }
        }""",
        gpu.put("pair.onnx", two_outputs(["n"])),
    )
    assert found == [2, True, True, True, True, True]
