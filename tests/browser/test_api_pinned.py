"""Outputs that stay where the kernels left them: read there, fed again, and gone with the next call."""

from __future__ import annotations

from .api_page import Api, two_outputs


def test_pinned_outputs_are_read_where_the_kernels_left_them(api: Api) -> None:
    """Until the session's next call; as feeds of that call they still count, also where each lies in the other's
    place."""
    got = api.run(
        """async (path) => {
          const pinned = await create(path, { preferredOutputLocation: 'cpu-pinned', room: false });
          const plainly = await create(path);
          const either = await create(path, { preferredOutputLocation: { sum: 'cpu-pinned' } });
          const slow = { executionProviders: ['reference'], preferredOutputLocation: 'cpu-pinned' };
          const reference = await create(path, slow);
          const turns = (n) => Float32Array.from({ length: n }, (_, i) => i % 3);
          const feeds = (n) => ({ a: T('float32', turns(n)), b: T('float32', new Float32Array(n).fill(0.5)) });
          const wrong = [];
          let first = feeds(3000);
          let mine = await pinned.run(first), theirs = await plainly.run(first);
          const kept = [...mine.sum.data];
          const places = { all: mine.sum.location, shared: mine.product.data.buffer instanceof SharedArrayBuffer,
            one: Object.values(await either.run(first)).map((t) => t.location),
            reference: (await reference.run(first)).sum.location,
            view: mine.sum.reshape([1, 3000]).location,
            fetched: (await pinned.run(first, { sum: T('float32', kept) })).sum.location };
          const stale = await failure(async () => mine.sum.data);
          mine = await pinned.run(first);
          for (let i = 0; i < 6; i++) {          // results in, by turns in either place
            const turn = ({ sum, product }) => (i % 2 ? { a: sum, b: product } : { a: product, b: sum });
            [mine, theirs] = [await pinned.run(turn(mine)), await plainly.run(turn(theirs))];
            for (const name of ['sum', 'product'])
              if (String(mine[name].data) !== String(theirs[name].data)) wrong.push([i, name]);
          }
          const { sum } = mine;
          const grown = await pinned.run({ a: sum, b: theirs.sum.reshape([3000]) });
          const fed = sum.location;
          await pinned.run(feeds(70000));          // another plan's memory, then the first plan again
          first = feeds(3000);
          const again = String((await pinned.run(first)).sum.data) === String((await plainly.run(first)).sum.data);
          const last = (await pinned.run(first)).sum;
          const before = last.location;
          await pinned.prepare({ a: [5], b: [5] });
          const after = last.location;
          const shown = await pinned.run(feeds(5));
          await pinned.profile({ repeats: 1 });
          const profiled = shown.sum.location;
          const small = await pinned.run(feeds(5));
          await pinned.tuning.start();
          const tuned = [small.sum.location];
          const during = await pinned.run(feeds(5));
          tuned.push(during.sum.location);
          await pinned.tuning.pause();
          tuned.push((await pinned.run(feeds(5))).sum.location);
          const disposed = await pinned.run(feeds(5));
          disposed.sum.dispose();
          for (const session of [pinned, plainly, either, reference]) await session.release();
          return { kept: kept.length, places, stale: [stale.code, stale.hint.includes('copy')],
            wrong, fed, again, before, after, profiled, tuned,
            disposed: [disposed.sum.location, disposed.product.location], grown: grown.sum.location };
        }""",
        api.put("any.onnx", two_outputs(["n"])),
    )
    assert got == {
        "kept": 3000,
        "places": {
            "all": "cpu-pinned",
            "shared": True,
            "one": ["cpu-pinned", "cpu"],
            "reference": "cpu",
            "view": "cpu-pinned",
            "fetched": "cpu",
        },
        "stale": ["TENSOR_DISPOSED", True],
        "wrong": [],
        "fed": "none",
        "again": True,
        "before": "cpu-pinned",
        "after": "none",
        "profiled": "none",
        "tuned": ["none", "cpu", "cpu-pinned"],
        "disposed": ["none", "none"],
        "grown": "none",
    }


def test_a_pinned_output_can_be_fed_to_whatever_runs_the_model(api: Api) -> None:
    got = api.run(
        """async (path) => {
          const session = await create(path, { preferredOutputLocation: 'cpu-pinned' });
          const some = (n) => T('float32', new Float32Array(64).fill(n));
          const feeds = () => ({ a: some(2), b: some(3) });
          const pair = ({ sum, product }) => ({ a: product, b: sum });
          const { steps } = await session.profile({ feeds: pair(await session.run(feeds())), repeats: 1 });
          const checked = await session.check(pair(await session.run(feeds())));
          await session.release();
          return { steps: steps.length, checked };
        }""",
        api.put("any.onnx", two_outputs(["n"])),
    )
    assert got["steps"] > 0
    assert [output["maxAbs"] for output in got["checked"]] == [0, 0]


def test_a_pinned_output_fed_to_a_new_plan_is_there_when_that_is_loaded(api: Api) -> None:
    got = api.run(
        """async (path) => {
          const session = await create(path, { preferredOutputLocation: 'cpu-pinned' });
          const ones = (n) => T('float32', new Float32Array(n).fill(1));
          const { sum } = await session.run({ a: ones(4000), b: ones(4000) });
          const pair = sum.reshape([2000, 2]);
          const { sum: more } = await session.run({ a: pair, b: pair });   // shapes it has no plan for
          const found = [more.dims, more.data.every((v) => v === 4), sum.location];
          await session.release();
          return found;
        }""",
        api.put("any rank.onnx", two_outputs(None)),
    )
    assert got == [[2000, 2], True, "none"]
