"""nnjit's API in Firefox (and WebKit, where it is asked for): what the browser gives, models on one thread and on two,
with and without fused multiply-adds, errors, cancelling, a worker that dies, memory that is given back."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from nnjit.devtools.httpd import Server
from tests.browser.api_page import Api, tiny, tiny_weight
from tests.models.catalogue import MODELS
from tests.models.judge import judge, on_reference
from tests.support.browser import TESTS
from tests.support.codec import Packer, bundle, unpack

X = np.array([[1, 2, 3, 4]], np.float32)


def z() -> list[float]:
    answer: list[float] = np.maximum(X @ tiny_weight(), 0).reshape(-1).tolist()
    return answer


def test_what_the_browser_gives(api: Api, name: str) -> None:
    device = api.run("nnjit.device()")
    assert device["simd"] and device["isolated"] and device["clockGrainMs"] <= 0.1
    assert device["sharedMemory"] == (name != "webkit-unshared")
    assert (device["threads"] > 1) == (device["sharedMemory"] and device["hardwareConcurrency"] > 1)
    # each thing that is missing has its reason
    missing = {key for key in ("sharedMemory", "simd", "relaxedSimd", "webgpu") if not device[key]}
    missing |= {"threads"} if device["threads"] == 1 else set()
    assert set(device["why"]) == missing


def test_a_second_session_is_given_the_plan_of_the_first(api: Api) -> None:
    """Before another test runs code in Python: no plan is kept from then on."""
    got = api.run(
        """async (path) => {
          const { env } = (await import('/nnjit.js')).default;
          env.plans = true;
          const found = [];
          for (let visit = 0; visit < 2; visit++) {
            const session = await create(path);
            const { z } = await session.run({ x: T('float32', [1, 2, 3, 4], [1, 4]) });
            found.push([...z.data], session.stats().kept === 'served');
            const until = performance.now() + 20000;
            const pause = () => new Promise((later) => setTimeout(later, 10));
            while (!session.stats().kept && performance.now() < until) await pause();
            await session.kernel(0);
            found.push(session.stats().kept);
            await session.release();
          }
          env.plans = 'auto';
          return found;
        }""",
        api.put("kept.onnx", tiny()),
    )
    assert got == [z(), False, "saved", z(), True, "checked"]


@pytest.mark.parametrize(
    ("model", "threads", "relaxed"),
    [("magika", 2, True), ("silero-vad", 1, True), ("ppocr-cls", 2, False)],
)
def test_models_answer_as_onnxruntime(
    api: Api, server: Server, model: str, threads: int, relaxed: bool
) -> None:
    given = MODELS[model]
    packer = Packer()
    heads = {key: packer.add(value) for key, value in given.feeds(0).items()}
    feeds = server.site.put(f"feeds/{model}.bin", bundle({"inputs": heads}, packer.blob))
    server.site.mount("t", TESTS)
    path = server.site.mount(f"m/{model}", given.path().parent) + given.path().name
    result = api.run(
        """async ([path, feeds, numThreads, relaxed]) => {
          const { Encoder, decode, readBundle } = await import('/t/support/values.js');
          const { head, blob } = readBundle(await (await fetch(feeds)).arrayBuffer());
          const inputs = Object.entries(head.inputs).map(([key, one]) => [key, decode(one, blob, nnjit.Tensor)]);
          nnjit.env.wasm.relaxedSimd = relaxed;
          try {
            const session = await create(path, { numThreads });
            const outputs = await session.run(Object.fromEntries(inputs));
            const encoder = new Encoder();
            const heads = Object.fromEntries(session.outputNames.map((key) => [key, encoder.add(outputs[key])]));
            const placement = session.placement();
            await session.release();
            return { heads, data: await encoder.text(), placement };
          } finally {
            nnjit.env.wasm.relaxedSimd = true;
          }
        }""",
        [path, feeds, threads, relaxed],
    )
    data = base64.b64decode(result["data"])
    outputs = {key: unpack(head, data) for key, head in result["heads"].items()}
    print("\n".join(judge(model, given.expected(0), outputs)))
    assert not on_reference(model, result["placement"])


def test_runs_python_profile_and_release(api: Api) -> None:
    found = api.run(
        """async ([path, x]) => {
          const session = await create(path);
          const run = (data) => session.run({ x: T('float32', data, [data.length / 4, 4]) });
          const results = [];
          for (let i = 0; i < 3; i++) results.push([...(await run(x)).z.data]);
          const many = await Promise.all([1, 2, 3].map((n) => run(new Float32Array(4 * n))));
          const steps = (await session.profile()).steps.length;
          const { listing } = await session.kernel(0);
          const held = (await nnjit.device()).memory.sessions.length;
          await session.release();
          const python = await nnjit.python('import numpy as np; float(np.arange(5).sum())');
          return { results, rows: many.map(({ z }) => z.dims[0]), steps, wasm: listing.includes('(func'), python,
            released: held - (await nnjit.device()).memory.sessions.length };
        }""",
        [api.put("tiny.onnx", tiny()), X.reshape(-1).tolist()],
    )
    assert found["results"] == [z()] * 3
    assert found["rows"] == [1, 2, 3] and found["steps"] >= 1 and found["wasm"]
    assert found["python"] == 10 and found["released"] == 1


def test_errors_are_typed_and_a_call_can_be_cancelled(api: Api) -> None:
    path = api.put("tiny.onnx", tiny())
    wrong = api.failure(
        "const s = await create(arg); try { await s.run({ y: 1 }); } finally { await s.release(); }", path
    )
    assert wrong["code"] == "FEED" and wrong["fields"]["input"] == "y"
    assert api.failure("await create(new Uint8Array([1, 2, 3]))")["code"] == "MODEL_FORMAT"
    assert api.failure("await create('/nowhere.onnx')")["code"] == "NETWORK"
    cancelled = """const stop = new AbortController();
      const made = create(arg, { signal: stop.signal, freeDimensionOverrides: { n: 3 } });
      stop.abort();
      await made;"""
    assert api.failure(cancelled, path)["code"] == "ABORTED"
    taken = api.run(
        """async (path) => {
          const buffer = await (await fetch(path)).arrayBuffer();
          const session = await create(buffer, 0, buffer.byteLength);
          await session.release();
          return (await failure(create(new Uint8Array(buffer), 0, 3))).code;
        }""",
        path,
    )
    assert taken == "BAD_OPTION"


def test_without_a_gpu_the_next_backend_runs(api: Api) -> None:
    if api.run("async () => Boolean(await navigator.gpu?.requestAdapter())"):
        pytest.skip("there is a GPU")
    got = api.run(
        """async ([path, x]) => {
          const { warn } = console;
          const warnings = [];
          console.warn = (...all) => warnings.push(all.join(' '));
          const made = create(path, { executionProviders: ['webgpu', 'wasm'] });
          const session = await made.finally(() => (console.warn = warn));
          const { z } = await session.run({ x: T('float32', x, [1, 4]) });
          const reason = session.backendReason;
          await session.release();
          return { z: [...z.data], reason, warnings };
        }""",
        [api.put("tiny.onnx", tiny()), X.reshape(-1).tolist()],
    )
    assert got["z"] == z() and got["reason"]


def test_a_worker_that_ends_is_noticed_and_started_again(api: Api) -> None:
    """The engine's worker is ended from outside, as a browser short of memory does."""
    got: dict[str, Any] = api.run(
        """async ([path, x]) => {
          const session = await create(path);
          const run = async () => [...(await session.run({ x: T('float32', x, [1, 4]) })).z.data];
          const first = await run();
          const { onDeath } = await import('/api/workers.js');
          const dead = new Promise((told) => onDeath((which, error) => told([which, error.code])));
          workers.findLast(({ url }) => url.endsWith('engine.worker.js')).worker.terminate();
          const death = await dead;
          const then = (await failure(session.run({ x: T('float32', x, [1, 4]) }))).code;
          await nnjit.restart();
          const again = await run();
          await session.release();
          return { first, death, then, again };
        }""",
        [api.put("tiny.onnx", tiny()), X.reshape(-1).tolist()],
    )
    assert got == {"first": z(), "death": ["engine", "ENGINE_DIED"], "then": "ENGINE_DIED", "again": z()}
