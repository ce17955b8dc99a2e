"""Looking inside: profile, kernels, check against the reference, device, help, and Python in the page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from .api_page import Api, model, reshaped, tiny, tiny_weight, two_outputs
from .engine_plans import one_kernel, trap_at

F = TensorProto.FLOAT


def layers(width: int = 96) -> Any:
    """Two matmuls with a softmax between: enough work for two threads."""
    rng = np.random.default_rng(0)
    weights = {n: rng.standard_normal((width, width)).astype(np.float32) for n in ("v", "w")}
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["a"], "first"),
        helper.make_node("Softmax", ["a"], ["b"], "soft"),
        helper.make_node("MatMul", ["b", "w"], ["y"], "second"),
    ]
    return model(nodes, {"x": (F, ["n", width])}, {"y": (F, ["n", width])}, weights)


def test_every_step_is_timed_and_explained(api: Api) -> None:
    got = api.run(
        """async (path) => {
          const session = await create(path);
          const early = await failure(session.profile());
          const x = T('float32', Float32Array.from({ length: 96 * 64 }, (_, i) => Math.sin(i)), [64, 96]);
          await session.run({ x });
          const table = await session.profile({ repeats: 3 });
          const trace = await session.profile({ feeds: { x }, repeats: 2, format: 'chrome' });
          const kernels = [];
          for (const { step } of table.steps) kernels.push(await session.kernel(step));
          const none = await failure(session.kernel(99));
          const checked = await session.check({ x });
          const { y } = await session.run({ x });
          const stats = session.stats();
          await session.release();
          return { early, table, trace, kernels, none, checked, sum: y.data.reduce((a, b) => a + b), stats };
        }""",
        api.put("layers.onnx", layers()),
    )
    assert got["early"]["code"] == "NO_PLAN" and got["none"]["code"] == "BAD_ARGUMENT"
    steps = got["table"]["steps"]
    timed = {n for s in steps for n in s["nodes"]}
    assert {"first", "second"} <= timed
    assert (
        all(s["ms"] >= 0 and s["mean"] > 0 and len(s["perThread"]) >= 1 for s in steps)
        and got["table"]["runMs"] > 0
    )
    assert sum(s["share"] for s in steps) == pytest.approx(1)
    assert any(s["gflops"] for s in steps)
    events = got["trace"]["traceEvents"]
    assert {e["ph"] for e in events} == {"X"} and {e["args"]["step"] for e in events} == {
        s["step"] for s in steps
    }
    for kernel in got["kernels"]:
        assert kernel["spec"] and kernel["loops"].startswith("kernel ") and "(func" in kernel["listing"]
        assert kernel["tiles"] >= 1 and kernel["codeBytes"] > 0
    assert any("x4" in k["schedule"] for k in got["kernels"]), "something is vectorised"
    (checked,) = got["checked"]
    assert checked["name"] == "y" and checked["note"] == "" and checked["maxAbs"] < 1e-4
    assert got["stats"]["load"]["bytes"] > 0 and got["stats"]["compile"]["kernels"] >= 1


def merged() -> Any:
    """A normalisation takes a convolution into itself: a step is both."""
    rng = np.random.default_rng(0)
    norm = {name: rng.uniform(0.5, 1, 8).astype(np.float32) for name in ("scale", "bias", "mean", "var")}
    weights = {"w": rng.standard_normal((8, 4, 3, 3)).astype(np.float32), **norm}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv"),
        helper.make_node("BatchNormalization", ["a", *norm], ["b"], "norm"),
        helper.make_node("Relu", ["b"], ["y"], "act"),
    ]
    return model(nodes, {"x": (F, [1, 4, 12, 12])}, {"y": (F, [1, 8, 10, 10])}, weights)


def test_a_kernel_that_stops_names_the_nodes_that_were_merged_into_others(api: Api) -> None:
    trap = one_kernel(trap_at("trap", 0, "unreachable"), True)
    got = api.run(
        """async ([path, trap]) => {
          const session = await create(path, { runOn: 'worker' });
          // bits of an odd number: what the kernel put in its place looks at
          const feeds = { x: T('float32', new Float32Array(576).fill(1.1), [1, 4, 12, 12]) };
          await session.run(feeds);
          const { client } = await (await import('/api/workers.js')).getEngine();
          const { id } = (await client.memory()).sessions.at(-1);
          const module = Uint8Array.from(atob(trap.$base64), (c) => c.charCodeAt(0));
          const { key } = session.stats();
          for (let slot = 0; slot < 4; slot++) await client.swapSlot(id, key, slot, module).catch(() => undefined);
          const stopped = await failure(session.run(feeds));
          await session.release();
          return stopped;
        }""",
        [api.put("merged.onnx", merged()), trap],
    )
    assert got["code"] == "KERNEL_TRAP"
    assert {"conv", "norm", "act"} <= set(got["fields"]["nodes"]), got


def test_a_step_names_the_nodes_that_were_merged_into_others(api: Api) -> None:
    got = api.run(
        """async (path) => {
          const session = await create(path);
          const { steps } = await session.profile({ repeats: 1 });
          const kernels = [];
          for (const { step } of steps) kernels.push((await session.kernel(step)).nodes);
          const placed = session.placement();
          await session.release();
          return { steps: steps.map(({ nodes }) => nodes), kernels, placed };
        }""",
        api.put("merged.onnx", merged()),
    )
    assert got["steps"] == got["kernels"]
    at = {p["node"]: p.get("step") for p in got["placed"] if not p.get("made")}
    assert set(at) == {"conv", "norm", "act"} and None not in at.values()
    for node, step in at.items():
        assert got["steps"][step].count(node) == 1
    (whole,) = [names for names in got["steps"] if "conv" in names]
    assert [n for n in whole if n in at] == ["conv", "norm", "act"], "in the model's order"


def test_shapes_that_the_graph_takes_are_suggested(api: Api) -> None:
    """A position for each token, of a table of 77 rows: tokens past it would have none."""
    nodes = [
        helper.make_node("Shape", ["ids"], ["s"], start=1, end=2),
        helper.make_node("Squeeze", ["s"], ["n"]),
        helper.make_node("Range", ["zero", "n", "one"], ["p"]),
        helper.make_node("Gather", ["rows", "p"], ["e"], "positions"),
        helper.make_node("Gather", ["words", "ids"], ["x"], "tokens"),
        helper.make_node("Add", ["x", "e"], ["y"], "both"),
    ]
    table = np.random.default_rng(0).standard_normal((77, 8)).astype(np.float32)
    weights = {"rows": table, "words": table[:50], "zero": np.int64(0), "one": np.int64(1)}
    dims = ["batch", "sequence"]
    graph = model(nodes, {"ids": (TensorProto.INT64, dims)}, {"y": (F, [*dims, 8])}, weights)
    got = api.run(
        """async (path) => {
          const session = await create(path);
          const long = await session.suggest({ ids: [1, 128] }, { ids: 99 });
          const short = await session.suggest({ ids: [1, 16] }, { ids: 99 });
          const counted = await session.suggest({ ids: [1, 60] }, { ids: null });
          const wrong = await failure(session.suggest({ idz: [1, 16] }));
          await session.prepare(long.shapes);
          await session.release();
          const python = await nnjit.python(`
s = await nnjit.InferenceSession.create('${path}')
found = await s.suggest({'ids': (1, 128)})
await s.release()
found`);
          return { long, short, counted, wrong, python, after: await failure(session.suggest({ ids: [1, 16] })) };
        }""",
        api.put("positions.onnx", graph),
    )
    assert got["long"]["shapes"] == {"ids": [1, 77]} and got["long"]["highest"] == {"ids": 49}
    assert "'positions'" in got["long"]["reason"] and got["python"]["shapes"] == {"ids": [1, 77]}
    assert got["short"] == {"shapes": {"ids": [1, 16]}, "highest": {"ids": 49}, "reason": ""}
    assert got["counted"]["shapes"] == {"ids": [1, 50]}, "of 50 rows"
    assert got["wrong"]["code"] == "FEED" and "'ids'" in got["wrong"]["hint"]
    assert got["after"]["code"] == "SESSION"


def test_one_thread_gives_the_same_numbers(api: Api) -> None:
    got = api.run(
        """async (path) => {
          const x = T('float32', Float32Array.from({ length: 96 * 64 }, (_, i) => Math.cos(i)), [64, 96]);
          const results = [];
          for (const numThreads of [1, 0]) {
            const session = await create(path, { numThreads });
            results.push(Array.from((await session.run({ x })).y.data));
            const { sessions } = (await nnjit.device()).memory;
            results.push(sessions.at(-1).threads);
            await session.release();
          }
          return results;
        }""",
        api.put("layers.onnx", layers()),
    )
    one, threads_one, all_, threads = got
    assert threads_one == 1 and threads >= 1
    np.testing.assert_allclose(one, all_, rtol=1e-5, atol=1e-5)


def test_a_sum_of_everything_is_shared(api: Api) -> None:
    """One result: on several threads each has a part of the terms, and a second step adds up what they found."""
    graph = model(
        [helper.make_node("ReduceSum", ["x"], ["y"], "all", keepdims=0)],
        {"x": (F, ["n", 8192])},
        {"y": (F, [])},
    )
    got = api.run(
        """async (path) => {
          const x = T('float32', Float32Array.from({ length: 96 * 8192 }, (_, i) => i % 5 - 2), [96, 8192]);
          const results = [];
          for (const numThreads of [1, 0]) {
            const session = await create(path, { numThreads });
            const sums = [];
            for (let i = 0; i < 20; i++) sums.push((await session.run({ x })).y.data[0]);
            const { steps } = await session.profile({ feeds: { x }, repeats: 2 });
            const { sessions } = (await nnjit.device()).memory;
            results.push([sums, steps.length, sessions.at(-1).threads]);
            await session.release();
          }
          return results;
        }""",
        api.put("all.onnx", graph),
    )
    total = sum(i % 5 - 2 for i in range(96 * 8192))
    assert [sums for sums, _, _ in got] == [[total] * 20] * 2, "whole numbers, exact in any order"
    assert [steps for _, steps, _ in got] == [1 if threads == 1 else 2 for _, _, threads in got]


def test_device_tells_features_and_reasons(api: Api) -> None:
    device = api.run("async () => nnjit.device()")
    assert device["isolated"] and device["sharedMemory"] and device["simd"]
    assert device["threads"] >= 1 and device["compiler"]["pyodide"].startswith("314")
    assert set(device["why"]) <= {"isolated", "threads", "simd", "relaxedSimd", "webgpu"}
    assert bool(device["why"].get("webgpu")) != device["webgpu"]
    assert api.run("() => nnjit.env.versions.nnjit")


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"isolated": False, "sharedMemory": False, "threads": 1}, "an isolated page"),
        ({"sharedMemory": False, "threads": 1}, "shared memory"),  # an isolated page of WebKitGTK
        ({"threads": 1}, "asks for one"),
        ({"threads": 1, "hardwareConcurrency": 1}, "one core"),
        ({"threads": 2}, ""),
    ],
)
def test_one_thread_has_its_reason(api: Api, facts: dict[str, object], why: str) -> None:
    all_there = {"isolated": True, "sharedMemory": True, "hardwareConcurrency": 4}
    got = api.run("async (facts) => (await import('/api/about.js')).reasons(facts)", all_there | facts)
    assert why in got.get("threads", "") and bool(why) == ("threads" in got)
    assert ("sharedMemory" in got) == (facts == {"sharedMemory": False, "threads": 1})


def test_made_up_feeds_are_for_the_plan_used_last(api: Api) -> None:
    """Neither an input whose values decide shapes nor one that nothing reads makes a second plan."""
    unused = tiny()
    unused.graph.input.append(helper.make_tensor_value_info("rate", TensorProto.INT64, []))
    got = api.run(
        """async ([first, second]) => {
          const shaped = await create(first);
          const shape = new BigInt64Array([2n, 3n]);
          await shaped.run({ x: T('float32', new Float32Array(6), [6]), shape: T('int64', shape, [2]) });
          shape.fill(1n); // the caller's own again
          const idle = await create(second);
          await idle.run({ x: T('float32', new Float32Array(8), [2, 4]), rate: T('int64', new BigInt64Array(1), []) });
          const found = [];
          for (const session of [shaped, idle]) {
            const { steps } = await session.profile();
            found.push([steps.length > 0, session.stats().plans]);
            await session.release();
          }
          return found;
        }""",
        [api.put("reshaped.onnx", reshaped()), api.put("unused.onnx", unused)],
    )
    assert got == [[True, 1], [True, 1]]


def test_help_names_what_there_is(api: Api) -> None:
    text = api.run("() => nnjit.help()")
    for name in ("InferenceSession.create", "placement()", "profile()", "python(", "restart()"):
        assert name in text


def test_a_session_that_is_not_tuned_says_so(api: Api) -> None:
    got = api.run(
        """async (path) => {
          const session = await create(path, { tune: { mode: 'off' } });
          const status = session.tuning.status();
          await session.tuning.pause();
          const text = await session.tuning.export();
          const odd = await failure(session.tuning.import({}));
          await session.release();
          return { status, codes: [text, odd.code] };
        }""",
        api.put("tiny.onnx", tiny()),
    )
    assert got["status"]["mode"] == "off" and got["status"]["candidates"] == got["status"]["kept"] == 0
    assert got["codes"] == ["", "BAD_ARGUMENT"]


@pytest.mark.parametrize("backend", ["wasm", "reference"])
def test_python_in_the_page_runs_models(api: Api, backend: str) -> None:
    x = np.float32([[1, 2, 3, 4]])
    got = api.run(
        """([path, backend]) => nnjit.python(`
import onnx
session = await nnjit.InferenceSession.create('${path}', executionProviders=['${backend}'])
[y] = await session.run(None, {'x': np.arange(1, 5, dtype=np.float32)[None]})
named = await session.run(['z'], {'x': y @ np.zeros((3, 4), np.float32)})
placed = {n['backend'] for n in await session.placement()}
check = await session.check({'x': np.ones((2, 4), np.float32)})
stats = await session.stats()
await session.release()
[session.input_names, session.output_names, y.tolist(), str(y.dtype), named[0].tolist(), sorted(placed),
 check[0]['maxAbs'], stats['plans']]`)""",
        [api.put("tiny.onnx", tiny()), backend],
    )
    names, outputs, y, dtype, zeros, placed, error, plans = got
    assert (names, outputs, dtype) == (["x"], ["z"], "float32")
    np.testing.assert_allclose(y, np.maximum(x @ tiny_weight(), 0), rtol=1e-6)
    assert zeros == [[0, 0, 0]] and placed == [backend] and error < 1e-4 and plans >= 1


def test_python_takes_a_model_it_made(api: Api) -> None:
    got = api.run("""() => nnjit.python(`
from onnx import helper as h, TensorProto as T
graph = h.make_graph([h.make_node('Mul', ['x', 'x'], ['y'])], 'square',
    [h.make_tensor_value_info('x', T.INT64, ['n'])], [h.make_tensor_value_info('y', T.INT64, ['n'])])
made = h.make_model(graph, opset_imports=[h.make_opsetid('', 21)], ir_version=10)
session = await nnjit.InferenceSession.create(made)
results = await session.run(None, {'x': np.array([2, 3], np.int64)})
await session.release()
results[0]`).then(plain)""")
    assert got == {"type": "int64", "dims": [2], "data": ["4", "9"]}


def test_values_of_python(api: Api) -> None:
    cases: list[tuple[str, Any]] = [
        ("1 + 1", 2),
        ("'text'", "text"),
        ("None", None),
        ("{'a': [1, 2.5, (True,)]}", {"a": [1, 2.5, [True]]}),
        ("np.float32(0.5)", 0.5),
        ("object", "<class 'object'>"),
        ("x = 41", None),
        ("x + 1", 42),
    ]
    for code, value in cases:
        assert api.run("(code) => nnjit.python(code).then((v) => v ?? null)", code) == value, code


def test_the_reference_needs_no_engine_and_says_why(api: Api) -> None:
    got = api.run(
        """async (path) => {
          const session = await create(path, { executionProviders: ['reference'] });
          const feeds = { a: T('float32', [1, 2]), b: T('float32', [3, 4]) };
          await session.run(feeds);
          const reasons = [...new Set(session.placement().map((n) => n.reason))];
          const error = await failure(session.profile({ feeds }));
          const kernel = await failure(session.kernel(0));
          await session.release();
          return { reasons, codes: [error.code, kernel.code] };
        }""",
        api.put("two.onnx", two_outputs()),
    )
    assert got["reasons"] == ["asked for by executionProviders"] and got["codes"] == [
        "NOT_AVAILABLE",
        "NO_PLAN",
    ]


def without_bytecode(route: Any) -> None:
    """The manifest of a server that has not compiled the page's Python beforehand."""
    answer = route.fetch()
    manifest = answer.json()
    manifest["pyodide"].pop("stdlib", None)
    for record in (manifest["nnjit"], *manifest["packages"]):
        record.pop("bytecode", None)
    route.fulfill(response=answer, json=manifest)


def test_a_second_visit_takes_the_bytecode_of_the_first(new_page: Any, server: Any) -> None:
    with new_page() as page:
        page.context.route("**/manifest.json", without_bytecode)
        first = page.evaluate("async () => (await (await import('/nnjit.js')).ready).bytecode")
        page.evaluate("""async () => {
          const store = await caches.open('nnjit-bytecode');
          await until(async () => (await store.keys()).length);
        }""")
        page.reload()
        api = Api(page, server)
        second = api.run("async () => (await nnjit.ready).bytecode")
        z = api.run(
            """async (path) => {
              const session = await create(path);
              const { z } = await session.run({ x: T('float32', [1, 1, 1, 1], [1, 4]) });
              return [...z.data];
            }""",
            api.put("tiny.onnx", tiny()),
        )
    assert first["taken"] == 0 and first["compiled"] > 100
    assert second["taken"] == first["compiled"] and second["compiled"] == 0
    np.testing.assert_allclose(z, np.maximum(np.ones((1, 4), np.float32) @ tiny_weight(), 0)[0])
