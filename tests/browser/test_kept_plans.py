"""Plans that a session leaves to later ones with the same model: who is given one, who is not, and what becomes of one
that is damaged, wrong or of another compiler."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import ModelProto, TensorProto

from tests.support.kept_plans import X, fixed, images, sentences, weights_of

from .api_page import Api, tiny

if TYPE_CHECKING:
    from playwright.sync_api import Page


MODELS = {
    "fixed": (fixed(), f"{{ x: {X} }}"),
    "images": (images(), "{ x: T('float32', Array.from({ length: 288 }, (_, i) => i % 7), [1, 2, 12, 12]) }"),
    "sentences": (
        sentences(),
        "{ x: T('float32', Array.from({ length: 48 }, (_, i) => i % 5), [6, 8]),"
        "  shape: T('int64', [2n, 3n, 8n], [3]) }",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_second_session_is_given_the_plan_and_it_is_the_one_the_compiler_makes(
    name: str, kept: Api
) -> None:
    """The compiler is asked for nothing until the first result, then makes the same plan byte for byte."""
    made, feeds = MODELS[name]
    first, state, second = kept.run(
        f"""async (path) => {{
          const feeds = () => ({feeds});
          const [first, state] = await left(path, feeds());
          const {{ session, ...second }} = await visit(path, feeds());
          const {{ listing }} = await session.kernel(0);
          second.after = session.stats().kept;
          second.listing = listing.length;
          second.again = plainAll(await session.run(feeds()));
          await session.release();
          return [first, state, second];
        }}""",
        kept.put(f"kept-{name}.onnx", made),
    )
    assert state == "saved" and second["kept"] == "served" and second["asked"] == []
    assert second["after"] == "checked" and second["listing"] > 0
    assert first == second["outputs"] == second["again"]


def test_other_shapes_and_other_options_are_compiled(kept: Api) -> None:
    """Other shapes in a session that was given a plan, too: the compiler hears of the session first."""
    got = kept.run(
        """async (path) => {
          const x = (n) => ({ x: T('float32', Array.from({ length: 4 * n }, (_, i) => i), [n, 4]) });
          await left(path, x(2));
          const found = [];
          for (const [n, options] of [[3, {}], [2, { numThreads: 1 }], [2, { convolution: 'direct' }]]) {
            const { session, kept, asked } = await visit(path, x(n), options);
            found.push([kept === 'served', asked.includes('prepare')]);
            await session.release();
          }
          const { session, asked: before } = await visit(path, x(2));
          const more = plainAll(await session.run(x(5)));
          found.push([before, session.stats().kept, session.stats().plans, more.z.data.slice(-3)]);
          await session.release();
          return found;
        }""",
        kept.put("kept-open.onnx", tiny()),
    )
    assert got[:3] == [[False, True]] * 3
    row = np.maximum(np.arange(16, 20) @ (np.arange(12).reshape(4, 3) - 5), 0)
    assert got[3] == [[], "checked", 2, row.tolist()]


def test_a_plan_is_for_the_bytes_that_the_compiler_has_read(kept: Api) -> None:
    """Small constants are among them: the same file with others is another model. Large ones are not: their bytes come
    from the file whose plan it is."""
    few = [kept.put(f"{n}/few.onnx", fixed(n)) for n in (1, 2)]
    many = [kept.put(f"{n}/many.onnx", fixed(n, 30_000)) for n in (1, 2)]
    got = kept.run(
        f"""async (pairs) => {{
          const found = [];
          for (const [one, other] of pairs) {{
            await left(one, {{ x: {X} }});
            const {{ session, outputs, kept }} = await visit(other, {{ x: {X} }});
            found.push([kept === 'served', outputs.z.data]);
            await session.release();
          }}
          return found;
        }}""",
        [few, many],
    )
    x = np.arange(1, 9, dtype=np.float32).reshape(2, 4)
    for (served, z), wide, expected in zip(got, (3, 30_000), (False, True), strict=True):
        weights = weights_of(2, wide)
        assert served is expected
        np.testing.assert_array_equal(z, (np.maximum(x @ weights["w"], 0) + weights["b"]).ravel())


def beside(made: ModelProto) -> tuple[ModelProto, bytes]:
    """The model with its weights in a file of their own."""
    data = b""
    for tensor in made.graph.initializer:
        tensor.external_data.add(key="location", value="weights.bin")
        tensor.external_data.add(key="offset", value=str(len(data)))
        tensor.external_data.add(key="length", value=str(len(tensor.raw_data)))
        data += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
    return made, data


def test_external_data_are_part_of_the_model(kept: Api) -> None:
    """The same model with another file of weights, given, or found beside it: the compiler has read none of them,
    and the plan says where they lie."""
    files = []
    for seed in (1, 2):
        made, data = beside(fixed(seed))
        path = kept.put(f"beside-{seed}/kept.onnx", made)
        files.append([path, kept.put(f"beside-{seed}/weights.bin", data)])
    got = kept.run(
        f"""async ([one, other]) => {{
          const found = [];
          const given = ([, data]) => ({{ externalData: [{{ path: 'weights.bin', data }}] }});
          await left(one[0], {{ x: {X} }}, given(one));
          for (const options of [given(other), {{}}]) {{
            const {{ session, outputs, kept }} = await visit(other[0], {{ x: {X} }}, options);
            await session.kernel(0);
            found.push([kept, session.stats().kept, outputs.z.data]);
            await session.release();
          }}
          return found;
        }}""",
        files,
    )
    x, weights = np.arange(1, 9, dtype=np.float32).reshape(2, 4), weights_of(2, 3)
    for served, state, z in got:
        assert (served, state) == ("served", "checked")
        np.testing.assert_array_equal(z, (np.maximum(x @ weights["w"], 0) + weights["b"]).ravel())


DAMAGES = {
    "a byte of a buffer": "await entry((e) => { e.buffers[0][0] ^= 1; return e; });",
    "a letter of the text": "await entry((e) => ({ ...e, text: e.text.replace('float32', 'float33') }));",
    "no buffers": "await entry((e) => ({ ...e, buffers: [] }));",
    "something else": "await entry(() => 'nonsense');",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_plan_is_thrown_away(damage: str, kept: Api) -> None:
    got = kept.run(
        f"""async (path) => {{
          const [first] = await left(path, {{ x: {X} }});
          {DAMAGES[damage]}
          const {{ session, ...second }} = await visit(path, {{ x: {X} }});
          await until(() => session.stats().kept);
          await session.release();
          const third = await visit(path, {{ x: {X} }});
          await third.session.release();
          return [first, second.outputs, third.outputs, second.asked.includes('prepare'), third.kept];
        }}""",
        kept.put("kept-fixed.onnx", fixed()),
    )
    first, second, third, compiled, served = got
    assert compiled and served == "served" and first == second == third


def test_a_plan_that_the_compiler_does_not_make_is_given_up(kept: Api) -> None:
    """With right digests, as of a compiler that had done something at random: what is asked about it says so, and the
    next run starts over."""
    got = kept.run(
        f"""async (path) => {{
          const [first] = await left(path, {{ x: {X} }});
          await rewritten((e) => {{ e.plans[0].answer.plan.steps[0].nodes.push('another'); }});
          const {{ session, kept }} = await visit(path, {{ x: {X} }});
          const error = await failure(session.kernel(0));
          const entries = await entry();
          const second = plainAll(await session.run({{ x: {X} }}));
          const nodes = (await session.kernel(0)).nodes;
          await session.release();
          return [first, second, kept, error.code, entries, nodes.includes('another')];
        }}""",
        kept.put("kept-fixed.onnx", fixed()),
    )
    assert got[0] == got[1] and got[2:] == ["served", "SESSION", 0, False]


def test_a_plan_that_the_engine_does_not_take_is_made_anew(kept: Api) -> None:
    got = kept.run(
        f"""async (path) => {{
          const [first] = await left(path, {{ x: {X} }});
          await rewritten((e) => {{ e.plans[0].answer.plan.module.fill(0, 8); }});
          const {{ session, outputs, asked }} = await visit(path, {{ x: {X} }});
          await until(() => session.stats().kept);
          await session.release();
          return [first, outputs, asked.includes('prepare'), await entry()];
        }}""",
        kept.put("kept-fixed.onnx", fixed()),
    )
    assert got[0] == got[1] and got[2:] == [True, 1]


def test_a_session_may_go_before_the_compiler_has_heard_of_it(kept: Api) -> None:
    """Or while it hears of it: it keeps nothing of the session then."""
    got = kept.run(
        f"""async (path) => {{
          const {{ getCompiler }} = await import('/api/workers.js');
          await left(path, {{ x: {X} }});
          const before = (await getCompiler().call('stats', {{}})).sessions;
          const one = await visit(path, {{ x: {X} }});
          await one.session.release();
          const unheard = asked.length;
          const other = await visit(path, {{ x: {X} }});
          const suggested = other.session.kernel(0).then(() => 'answered', ({{ code }}) => code);
          await other.session.release();
          return [unheard, await suggested, (await getCompiler().call('stats', {{}})).sessions - before];
        }}""",
        kept.put("kept-fixed.onnx", fixed()),
    )
    assert got == [0, "answered", 0]


def test_a_session_that_was_asked_about_its_model_is_given_its_plan_all_the_same(kept: Api) -> None:
    got = kept.run(
        """async (path) => {
          const x = T('float32', [1, 2, 3, 4], [1, 4]);
          const [first] = await left(path, { x });
          asked.length = 0;
          const session = await create(path);
          const { shapes } = await session.suggest({ x: [1, 4] });
          const outputs = plainAll(await session.run({ x }));
          const before = [session.stats().kept, ...asked];
          await session.kernel(0);
          const after = [session.stats().kept, ...asked.slice(before.length - 1)];
          await session.release();
          return [JSON.stringify(first) === JSON.stringify(outputs), shapes.x, before, after];
        }""",
        kept.put("kept-open.onnx", tiny()),
    )
    assert got == [True, [1, 4], ["served", "create", "suggest"], ["checked", "prepare", "kernel"]]


def test_the_compiler_hears_of_a_session_when_nothing_else_is_to_be_done(kept: Api) -> None:
    got = kept.run(
        f"""async (path) => {{
          await left(path, {{ x: {X} }});
          const {{ session, asked: before }} = await visit(path, {{ x: {X} }});
          await until(() => session.stats().kept === 'checked');
          await session.release();
          return before;
        }}""",
        kept.put("kept-fixed.onnx", fixed()),
    )
    assert got == []


def test_a_later_page_is_given_the_plan_before_its_python_is_up(kept: Api) -> None:
    path = kept.put("kept-fixed.onnx", fixed())
    first, _ = kept.run(f"(path) => left(path, {{ x: {X} }})", path)
    page: Page = kept.page.context.new_page()
    try:
        page.goto(kept.page.url)
        outputs, state, up = page.evaluate(
            """async (path) => {
              const nnjit = (await import('/nnjit.js')).default;
              nnjit.env.plans = true;
              let up = false;
              void nnjit.ready.then(() => { up = true; }, () => undefined);
              const session = await nnjit.InferenceSession.create(path);
              const { z } = await session.run({ x: new nnjit.Tensor('float32', [1, 2, 3, 4, 5, 6, 7, 8], [2, 4]) });
              return [[...z.data], session.stats().kept, up];
            }""",
            path,
        )
    finally:
        page.close()
    assert outputs == first["z"]["data"] and state == "served" and not up


def test_another_compiler_and_another_device_have_other_plans(kept: Api) -> None:
    """And where page's code has run in Python, nothing is looked for."""
    found = kept.run("""async () => {
      const fetched = window.fetch;
      const blob = new Blob(['model']);
      const sources = [{ name: 'm.onnx', bytes: blob }];
      const keys = [];
      const longer = new Blob(['model2']);
      const all = [['a', 1, blob], ['b', 1, blob], ['a', 2, blob], ['a', 1, longer], ['a', 1, blob]];
      for (const [n, [sha256, given, bytes]] of all.entries()) {
        const manifest = { nnjit: { sha256 }, packages: [], pyodide: { version: '1' } };
        window.fetch = async () => new Response(JSON.stringify(manifest));
        try {
          const { recallPlans } = await import(`/api/kept-plans.js?${n}`);   // one that has not read the manifest yet
          keys.push((await recallPlans(given, [{ name: 'm.onnx', bytes }], null)).key);
        } finally { window.fetch = fetched; }
      }
      const { distrust, recallPlans } = await import('/api/kept-plans.js?0');
      distrust();
      return [keys, await recallPlans(1, sources, null)];
    }""")
    keys, untrusted = found
    assert len(set(keys)) == 4 and keys[0] == keys[4] and untrusted is None


def test_values_that_were_not_told_do_not_tell_requests_apart(kept: Api) -> None:
    same, other = kept.run("""async () => {
      const { requestText } = await import('/api/kept-plans.js');
      const fed = (n) => new Map([['s', T('int64', Array(200).fill(n), [200])]]);
      const of = (n, small) => requestText({ shapes: { s: [200] }, values: fed(n) }, small, ['s']);
      return [of(1n, []) === of(2n, []), of(1n, ['s']) === of(2n, ['s'])];
    }""")
    assert same and not other


def test_facts_that_another_page_has_measured_meanwhile_are_not_this_ones(kept: Api) -> None:
    """The compiler was not told of them: plans that it makes are kept under what it was told."""
    before, after = kept.run("""async () => {
      const { storedFacts } = await import('/api/device-facts.js?another');
      const { loadFacts, saveFacts } = await import('/api/tuning-store.js');
      const { get } = IDBObjectStore.prototype;
      let device;
      IDBObjectStore.prototype.get = function (key) { device = key; return get.call(this, key); };
      let before;
      try { before = await storedFacts(); } finally { IDBObjectStore.prototype.get = get; }
      await saveFacts(device, { measured: true });
      try {
        return [before, (await loadFacts(device)).measured && await storedFacts()];
      } finally { await saveFacts(device, undefined); }
    }""")
    assert before is None and after is None


def test_a_plan_after_one_that_failed_is_not_kept(kept: Api) -> None:
    """It is not what the compiler would make of that request first."""
    feeds = MODELS["sentences"][1]
    code, state, entries = kept.run(
        f"""async (path) => {{
          const session = await create(path);
          const feeds = {feeds};
          const {{ code }} = await failure(session.run({{ ...feeds, shape: T('int64', [5n, 3n, 8n], [3]) }}));
          await session.run(feeds);
          await left(path.replace('sentences', 'fixed'), {{ x: {X} }});
          const found = [code, session.stats().kept, await entry()];
          await session.release();
          return found;
        }}""",
        kept.put("kept-sentences.onnx", sentences()),
    )
    assert code and state == "" and entries == 1
