"""Bad input gets a typed error that says what to do, and nothing else is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from .api_page import Api, model, tiny, two_outputs

F = TensorProto.FLOAT


def broken_models() -> dict[str, tuple[bytes, str]]:
    """name → (bytes, code)."""
    good = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": (F, [1, 64])},
        {"y": (F, [1, 64])},
        {"w": np.ones((64, 64), np.float32)},
    )
    unknown_op = model(
        [helper.make_node("Wobble", ["x"], ["y"], "strange")], {"x": (F, [1])}, {"y": (F, [1])}
    )
    opset = model([helper.make_node("Relu", ["x"], ["y"])], {"x": (F, [1])}, {"y": (F, [1])}, opset=999)
    dangling = model([helper.make_node("Relu", ["nowhere"], ["y"])], {"x": (F, [1])}, {"y": (F, [1])})
    external = model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": (F, [4])}, {"y": (F, [4])})
    tensor = external.graph.initializer.add(
        name="w", data_type=F, dims=[4], data_location=TensorProto.EXTERNAL
    )
    tensor.external_data.add(key="location", value="weights.bin")
    return {
        "truncated": (good.SerializeToString()[:-5000], "MODEL_FORMAT"),
        "empty": (b"", "MODEL_FORMAT"),
        "html": (b"<!doctype html><title>404</title>" * 20, "MODEL_FORMAT"),
        "noise": (bytes(np.random.default_rng(1).integers(0, 256, 5000, np.uint8)), "MODEL_FORMAT"),
        "unknown-op": (unknown_op.SerializeToString(), "UNKNOWN_OPERATOR"),
        "opset": (opset.SerializeToString(), "UNSUPPORTED_OPSET"),
        "dangling": (dangling.SerializeToString(), "INVALID_GRAPH"),
        "external": (external.SerializeToString(), "MISSING_EXTERNAL_DATA"),
    }


@pytest.fixture(scope="module")
def broken() -> dict[str, tuple[bytes, str]]:
    return broken_models()


@pytest.mark.parametrize("name", list(broken_models()))
def test_a_bad_model_is_refused_and_others_go_on(
    api: Api, broken: dict[str, tuple[bytes, str]], name: str
) -> None:
    data, code = broken[name]
    got = api.run(
        """async ({ good, path }) => {
          const session = await create(good);
          const before = await there();
          const error = await failure(async () => create(await bytes(path), { name: 'bad.onnx' }));
          const left = await more(before);
          const { z } = await session.run({ x: T('float32', [1, 1, 1, 1], [1, 4]) });
          await session.release();
          return { error, z: [...z.data], left };
        }""",
        {"good": api.put("tiny.onnx", tiny()), "path": api.put(f"bad-{name}.onnx", data)},
    )
    error = got["error"]
    assert (error["typed"], error["code"]) == (True, code)
    assert error["hint"], "an error says what to try"
    if name == "unknown-op":
        assert error["fields"]["node"] == "strange" and error["fields"]["op"] == "Wobble"
    if name == "external":
        assert error["fields"]["file"] == "weights.bin"
    assert len(got["z"]) == 3 and got["left"] == []


def test_external_data_is_given_or_found_beside_the_url(
    api: Api, broken: dict[str, tuple[bytes, str]]
) -> None:
    weights = np.float32([1, 2, 3, 4]).tobytes()
    path = api.put("folder/external.onnx", broken["external"][0])
    api.put("folder/weights.bin", weights)
    got = api.run(
        """async ({ path, weights }) => {
          const x = T('float32', [10, 10, 10, 10]);
          const beside = await create(path);
          const data = Uint8Array.from(weights);
          const given = await create(await bytes(path), { externalData: [{ path: './weights.bin', data }] });
          const runs = [await beside.run({ x }), await given.run({ x })];
          await Promise.all([beside.release(), given.release()]);
          return runs.map(({ y }) => [...y.data]);
        }""",
        {"path": path, "weights": list(weights)},
    )
    assert got == [[11, 12, 13, 14]] * 2


FEEDS = {
    "missing": ("{ a: T('float32', [1, 2]) }", "missing", "inputNames"),
    "misspelt": ("{ a: T('float32', [1, 2]), B: T('float32', [1, 2]) }", "unknown", "'b'"),
    "unexpected": (
        "{ a: T('float32', [1, 2]), b: T('float32', [1, 2]), zebra: T('float32', [1]) }",
        "unknown",
        "a, b",
    ),
    "type": ("{ a: T('int32', [1, 2]), b: T('float32', [1, 2]) }", "type", "float32"),
    "rank": ("{ a: T('float32', [1, 2], [1, 2]), b: T('float32', [1, 2]) }", "rank", ""),
    "size": ("{ a: T('float32', [1, 2, 3]), b: T('float32', [1, 2]) }", "shape", ""),
    "no tensor": ("{ a: [1, 2], b: T('float32', [1, 2]) }", "type", "Tensor"),
    "null": ("{ a: null, b: T('float32', [1, 2]) }", "type", "Tensor"),
    "not an object": ("[T('float32', [1, 2])]", "type", "session.run"),
    "disposed": (
        "(() => { const a = T('float32', [1, 2]); a.dispose(); return { a, b: a }; })()",
        "disposed",
        "",
    ),
}


@pytest.mark.parametrize("name", FEEDS)
def test_a_bad_feed_is_named(api: Api, name: str) -> None:
    feeds, reason, hint = FEEDS[name]
    got = api.run(
        f"""async (path) => {{
          const session = await create(path);
          const error = await failure(async () => session.run({feeds}));
          const good = await session.run({{ a: T('float32', [1, 2]), b: T('float32', [3, 4]) }});
          await session.release();
          return {{ error, sum: [...good.sum.data] }};
        }}""",
        api.put("two.onnx", two_outputs()),
    )
    error = got["error"]
    assert error["typed"] and (error["code"], error["fields"]["reason"]) == ("FEED", reason), error
    assert hint in error["hint"]
    assert got["sum"] == [4, 6]


def test_shapes_that_do_not_fit_each_other_are_named(api: Api) -> None:
    made = model(
        [helper.make_node("MatMul", ["a", "b"], ["y"], "mm")],
        {"a": (F, ["n", "k"]), "b": (F, ["k", "m"])},
        {"y": (F, ["n", "m"])},
    )
    got = api.run(
        """async (path) => {
          const session = await create(path);
          const ones = (...dims) => T('float32', new Float32Array(dims[0] * dims[1]).fill(1), dims);
          const feeds = (k) => ({ a: ones(2, k), b: ones(3, 2) });
          const first = await session.run(feeds(3));
          const error = await failure(session.run(feeds(4)));
          const again = await session.run(feeds(3));
          await session.release();
          return { error, ys: [first, again].map(({ y }) => [...y.data]) };
        }""",
        api.put("matmul.onnx", made),
    )
    assert got["error"]["typed"] and got["error"]["code"] == "SHAPE"
    assert "'k'" in got["error"]["hint"]
    assert got["ys"] == [[3, 3, 3, 3]] * 2


def test_fetches_options_and_forms_are_checked(api: Api) -> None:
    path = api.put("two.onnx", two_outputs())
    run = """const s = await create(arg), a = T('float32', [1, 2]);
             try { await s.run({ a, b: a }, %s); } finally { await s.release(); }"""
    calls = "const s = await create(arg); try { await s.%s; } finally { await s.release(); }"
    cases: list[tuple[str, str, str]] = [
        (run % "['produt']", "FETCH", "'product'"),
        (run % "[]", "FETCH", "sum, product"),
        (run % "{ sum: T('float32', [1, 2, 3]) }", "FETCH", ""),
        ("await create(arg, { numThread: 2 })", "BAD_OPTION", "numThreads"),
        ("await create(arg, { numThreads: -1 })", "BAD_OPTION", ""),
        ("await create(arg, { executionProviders: ['cuda'] })", "BAD_OPTION", "wasm"),
        ("await create(arg, { freeDimensionOverrides: { n: 1.5 } })", "BAD_OPTION", ""),
        ("await create(arg, { preferredOutputLocation: { zz: 'cpu' } })", "BAD_OPTION", "sum"),
        ("await create(arg, { preferredOutputLocation: 5 })", "BAD_OPTION", ""),
        ("await create(arg, { preferredOutputLocation: ['cpu'] })", "BAD_OPTION", ""),
        ("await create(arg, { signal: 5 })", "BAD_OPTION", ""),
        ("await create(arg, { matrixSums: 'f64' })", "BAD_OPTION", ""),
        ("await create(arg, { matrixSum: 'f16' })", "BAD_OPTION", "matrixSums"),
        ("await create('http://[')", "BAD_ARGUMENT", "create"),
        ("await create(42)", "BAD_ARGUMENT", "create"),
        ("await create(null)", "BAD_ARGUMENT", "create"),
        ("const s = await create(arg); await s.release(); await s.run({})", "SESSION", "create"),
        (
            "const s = await create(arg, { executionProviders: ['reference'] });"
            " try { await s.tuning.start(); } finally { await s.release(); }",
            "NOT_AVAILABLE",
            "asked for",
        ),
        (
            "const s = await create(arg);"
            " try { await s.tuning.start({ mode: 'fast' }); } finally { await s.release(); }",
            "BAD_OPTION",
            "",
        ),
        ("await nnjit.python('1/0')", "PYTHON", ""),
        ("await nnjit.python()", "BAD_ARGUMENT", "python("),
        ("await create(arg, { freeDimensionOverrides: 'n' })", "BAD_OPTION", "batch"),
        (calls % "prepare()", "FEED", "session.prepare({ a:"),
        (calls % "prepare({ a: 'b' })", "FEED", ""),
        (calls % "prepare({ c: [1] })", "FEED", "'a'"),
        (calls % "suggest()", "FEED", "session.suggest({ a:"),
        (calls % "suggest({ a: [2, 'x'] })", "FEED", ""),
        (calls % "suggest({ a: [2], b: [2] }, { a: 0.5 })", "BAD_ARGUMENT", ""),
        (calls % "suggest({ a: [2], b: [2] }, null)", "BAD_ARGUMENT", "suggest("),
        (calls % "prepare({ a: [2n] })", "FEED", ""),
        (calls % "profile({ repeats: 0 })", "BAD_ARGUMENT", "repeats"),
    ]
    for body, code, hint in cases:
        error = api.failure(body, path)
        assert error["code"] == code and hint in error["hint"], (body, error)


def test_a_size_for_a_dimension_that_no_input_has_names_it_and_those_there_are(api: Api) -> None:
    for dims, hint in ((["batch", 4], "did you mean 'batch'? this model has batch"), ([2, 4], "names none")):
        relu = helper.make_node("Relu", ["x"], ["y"])
        path = api.put(f"open-{len(hint)}.onnx", model([relu], {"x": (F, dims)}, {"y": (F, dims)}))
        error = api.failure("await create(arg, { freeDimensionOverrides: { bacth: 1 } })", path)
        assert (error["code"], error["fields"]["dimension"]) == ("BAD_OPTION", "bacth")
        assert "'bacth'" in error["message"] and hint in error["hint"]
        assert error["fields"]["expected"] == [d for d in dims if isinstance(d, str)]


def test_what_was_released_is_named(api: Api) -> None:
    path = api.put("named.onnx", two_outputs())
    for call in ("run({ a, b: a })", "prepare({ a: [2], b: [2] })", "check({ a, b: a })", "kernel(0)"):
        body = "const s = await create(arg), a = T('float32', [1, 2]); await s.release(); await s."
        error = api.failure(body + call, path)
        assert error["code"] == "SESSION" and "named.onnx" in error["message"], error
        assert error["fields"]["model"] == "named.onnx" and error["fields"]["session"].startswith("session-")
    told = api.run(
        """(path) => nnjit.python(`
from nnjit.errors import SessionError
s = await nnjit.InferenceSession.create('${path}')
await s.release()
try:
    await s.placement()
    answer = 'no error'
except SessionError as e:
    answer = [e.message, e.fields['model']]
answer`)""",
        path,
    )
    assert told == ["The session of named.onnx was released", "named.onnx"]


def test_pythons_own_session_errors_say_whose_they_are(api: Api) -> None:
    got = api.run(
        """async (path) => {
          const s = await create(path);
          const answer = await nnjit.python(`
import json
from types import SimpleNamespace
from nnjit.runtime import bridge
name = list(bridge.SESSIONS)[-1]
ask = lambda **args: json.loads(bridge.dispatch('kernel', SimpleNamespace(**args)).json)['error']
[name, ask(session=name, key='none', step=0), ask(session='session-0', key='none', step=0)]`);
          await s.release();
          return answer;
        }""",
        api.put("named.onnx", two_outputs()),
    )
    name, here, nowhere = got
    assert here["message"].startswith("named.onnx: ") and here["fields"]["session"] == name
    assert here["fields"]["model"] == "named.onnx"
    assert "session-0" in nowhere["message"] and nowhere["fields"]["session"] == "session-0"


def test_a_path_that_is_not_there_is_named_by_python(api: Api) -> None:
    got = api.run("""() => nnjit.python(`
from pathlib import Path
from nnjit.errors import NnjitError
found = []
for model in (Path('/nowhere.onnx'), 3):
    try:
        await nnjit.InferenceSession.create(model)
    except NnjitError as e:
        found.append([e.code, e.message])
found`)""")
    assert [code for code, _ in got] == ["MODEL_FILE", "BAD_ARGUMENT"]
    assert "/nowhere.onnx" in got[0][1] and "int" in got[1][1]


def test_a_name_with_a_percent_sign_is_a_name(api: Api) -> None:
    path = api.put("100%.onnx", two_outputs())
    body = "async (arg) => { const s = await create(arg); await s.release(); return s.inputNames; }"
    assert api.run(body, path) == ["a", "b"]


def test_python_errors_carry_their_traceback_and_types(api: Api) -> None:
    error = api.failure("await nnjit.python('def f():\\n  return {}[\"key\"]\\nf()')")
    assert "KeyError" in error["message"] and "in f" in error["fields"]["traceback"]
    caught: Any = api.run(
        """(path) => nnjit.python(`
from nnjit.errors import FeedError
s = await nnjit.InferenceSession.create('${path}')
try:
    await s.run(None, {'a': np.ones(2, np.float32)})
    answer = 'no error'
except FeedError as e:
    answer = [e.code, e.message]
await s.release()
answer`)""",
        api.put("two.onnx", two_outputs()),
    )
    assert caught == ["FEED", "No feed for input 'b'"]


def test_cancelled_creation_leaves_nothing(api: Api) -> None:
    got = api.run(
        """async (path) => {
          const before = await there();
          const early = await failure(create(path, { signal: AbortSignal.abort() }));
          const abort = new AbortController();
          // In the middle: as soon as the compiler reports that it reads the model.
          const progress = (stage) => stage === 'parse' && abort.abort();
          const late = await failure(create(path, { signal: abort.signal, progress }));
          const session = await create(path);
          await session.release();
          return { codes: [early.code, late.code], left: await more(before) };
        }""",
        api.put("tiny.onnx", tiny()),
    )
    assert got == {"codes": ["ABORTED", "ABORTED"], "left": []}
