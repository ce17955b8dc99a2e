"""The public API on the page: create, run, fetches, several sessions, new shapes, release."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .api_page import BACKENDS, Api, reshaped, tiny, tiny_weight, two_outputs

ROWS = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]


def expected(rows: Any) -> np.ndarray:
    return np.maximum(np.float32(rows) @ tiny_weight(), 0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_from_a_url_runs(api: Api, backend: str) -> None:
    got = api.run(
        """async ({ path, backend, rows }) => {
          const session = await create(path, { executionProviders: [backend] });
          const { z } = await session.run({ x: T('float32', rows.flat(), [2, 4]) });
          const { inputNames, outputNames, inputMetadata: inputs, outputMetadata: outputs, state } = session;
          const names = [inputNames, outputNames];
          const placement = session.placement();
          const facts = { names, inputs, outputs, placement, backend: session.backend, state };
          await session.release();
          return { z: plain(z), isTensor: z instanceof nnjit.Tensor, released: session.state, ...facts };
        }""",
        {"path": api.put("tiny.onnx", tiny()), "backend": backend, "rows": ROWS},
    )
    assert got["isTensor"] and got["z"]["type"] == "float32" and got["z"]["dims"] == [2, 3]
    np.testing.assert_allclose(got["z"]["data"], expected(ROWS).reshape(-1), rtol=1e-6)
    assert got["names"] == [["x"], ["z"]]
    assert got["inputs"] == [
        {
            "name": "x",
            "isTensor": True,
            "kind": "tensor",
            "type": "float32",
            "shape": ["n", 4],
            "optional": False,
        }
    ]
    assert got["outputs"][0]["shape"] == ["n", 3]
    assert (got["backend"], got["state"], got["released"]) == (backend, "ready", "released")
    assert {(n["node"], n["op"], n["backend"]) for n in got["placement"]} == {
        ("mm", "MatMul", backend),
        ("act", "Relu", backend),
    }


def test_every_form_of_bytes_is_a_model(api: Api) -> None:
    got = api.run(
        """async (path) => {
          const data = await bytes(path);
          const padded = new Uint8Array(data.length + 20);
          padded.set(data, 10);
          const shared = new Uint8Array(new SharedArrayBuffer(data.length));
          shared.set(data);
          const reference = { executionProviders: ['reference'] };
          const forms = [[data], [data.buffer], [new Blob([data])], [new File([data], 'm.onnx')], [shared],
            [new URL(path, location.href)], [new Request(path)], [padded.subarray(10, 10 + data.length)],
            [padded.buffer, 10, data.length], [padded.buffer, 10, data.length, reference]];
          const outcome = [];
          for (const form of forms) {
            const session = await create(...form, ...(form.length === 4 ? [] : [reference]));
            outcome.push([...(await session.run({ x: T('float32', [1, 2, 3, 4], [1, 4]) })).z.data]);
            await session.release();
          }
          return outcome;
        }""",
        api.put("tiny.onnx", tiny()),
    )
    assert got == [expected([[1, 2, 3, 4]])[0].tolist()] * 10


def test_where_a_small_model_runs(api: Api) -> None:
    got = api.run(
        """async ({ path }) => {
          const where = [];
          for (const options of [{}, { runOn: 'worker' }]) {
            const session = await create(path, options);
            const threads = [];
            for (let i = 0; i < 4; i++) {
              const { z } = await session.run({ x: T('float32', [i, 2, 3, 4], [1, 4]) });
              threads.push([session.lastRun.thread, [...z.data]]);
            }
            await session.release();
            where.push(threads);
          }
          const wrong = await create(path, { runOn: 'page' }).catch((error) => error.code);
          return { where, wrong };
        }""",
        {"path": api.put("tiny.onnx", tiny())},
    )
    values = [expected([[i, 2, 3, 4]])[0].tolist() for i in range(4)]
    auto, worker = got["where"]
    assert auto == [["caller" if i else "worker", v] for i, v in enumerate(values)]
    assert worker == [["worker", v] for v in values]
    assert got["wrong"] == "BAD_OPTION"


@pytest.mark.parametrize("backend", BACKENDS)
def test_fetches_choose_and_fill(api: Api, backend: str) -> None:
    got = api.run(
        """async ({ path, backend }) => {
          const session = await create(path, { executionProviders: [backend] });
          const feeds = { a: T('float32', [1, 2]), b: T('float32', [3, 4]) };
          const mine = T('float32', [0, 0]);
          const result = {
            all: Object.keys(await session.run(feeds)),
            one: plainAll(await session.run(feeds, ['product'])),
            swapped: Object.keys(await session.run(feeds, ['product', 'sum'])),
            filled: (await session.run(feeds, { sum: mine, product: null })).sum === mine && [...mine.data],
            options: Object.keys(await session.run(feeds, { tag: 'x' })),
          };
          await session.release();
          return result;
        }""",
        {"path": api.put("two.onnx", two_outputs()), "backend": backend},
    )
    assert got == {
        "all": ["sum", "product"],
        "one": {"product": {"type": "float32", "dims": [2], "data": [3, 8]}},
        "swapped": ["product", "sum"],
        "filled": [4, 6],
        "options": ["sum", "product"],
    }


@pytest.mark.parametrize("backend", BACKENDS)
def test_new_shapes_get_plans_and_old_ones_are_kept_up_to_a_limit(api: Api, backend: str) -> None:
    got = api.run(
        """async ({ path, backend }) => {
          const session = await create(path, { executionProviders: [backend], maxPlans: 2, room: false });
          const sums = [], plans = [], cold = [];
          // Asked for all at once: runs of one session queue, whatever they have to compile.
          const runs = [1, 2, 1, 3, 1, 2].map(async (n) => {
            const { z } = await session.run({ x: T('float32', new Float32Array(4 * n).fill(1), [n, 4]) });
            sums.push([z.dims[0], z.data.reduce((a, b) => a + b)]);
            plans.push(session.stats().plans);
            cold.push(session.lastRun.cold);
          });
          await Promise.all(runs);
          await session.release();
          return { sums, plans, cold };
        }""",
        {"path": api.put("tiny.onnx", tiny()), "backend": backend},
    )
    row = float(expected([[1, 1, 1, 1]]).sum())
    assert got["sums"] == [[n, row * n] for n in (1, 2, 1, 3, 1, 2)]
    assert got["plans"] == [1, 2, 2, 2, 2, 2]
    assert got["cold"] == [True, True, False, True, False, True]  # 2 was used longest ago when 3 came


def test_sessions_run_side_by_side(api: Api) -> None:
    got = api.run(
        """async ({ tiny, two }) => {
          const reference = { executionProviders: ['reference'] };
          const [a, b, c] = await Promise.all([create(tiny), create(two), create(tiny, reference)]);
          const x = T('float32', [1, 1, 1, 1], [1, 4]);
          const pair = { a: T('float32', [1, 2]), b: T('float32', [1, 1]) };
          const runs = await Promise.all([a.run({ x }), b.run(pair), c.run({ x }), a.run({ x })]);
          await b.release();
          const after = await a.run({ x });
          await Promise.all([a.release(), c.release()]);
          return [...runs, after].map(plainAll);
        }""",
        {"tiny": api.put("tiny.onnx", tiny()), "two": api.put("two.onnx", two_outputs())},
    )
    row = expected([[1, 1, 1, 1]])[0].tolist()
    assert [r.get("z", r.get("sum"))["data"] for r in got] == [row, [2, 3], row, row, row]


@pytest.mark.parametrize("backend", BACKENDS)
def test_values_that_decide_shapes_are_part_of_the_plan(api: Api, backend: str) -> None:
    got = api.run(
        """async ({ path, backend }) => {
          const session = await create(path, { executionProviders: [backend], strict: true });
          const x = T('float32', [1, -2, 3, -4, 5, -6]);
          const dims = [];
          for (const shape of [[2, 3], [3, 2], [2, 3], [-1, 1]]) {
            const { y } = await session.run({ x, shape: T('int64', shape) });
            dims.push([...y.dims, y.data[2]]);
          }
          const placement = new Set(session.placement().map((n) => n.backend));
          await session.release();
          return { dims, placement: [...placement] };
        }""",
        {"path": api.put("reshaped.onnx", reshaped()), "backend": backend},
    )
    assert got["dims"] == [[2, 3, 3], [3, 2, 3], [2, 3, 3], [6, 1, 3]]
    assert "reference" not in got["placement"] or backend == "reference"


def test_overrides_make_the_shapes_known_and_create_compiles(api: Api) -> None:
    got = api.run(
        """async (path) => {
          const stages = [];
          const progress = (stage) => stages.at(-1) === stage || stages.push(stage);
          const session = await create(path, { freeDimensionOverrides: { n: 2 }, progress });
          const plans = session.stats().plans;
          const shape = session.inputMetadata[0].shape;
          const z = await session.run({ x: T('float32', new Float32Array(8), [2, 4]) });
          const cold = session.lastRun.cold;
          const wrong = await failure(session.run({ x: T('float32', new Float32Array(4), [1, 4]) }));
          await session.release();
          return { stages, plans, shape, cold, wrong };
        }""",
        api.put("tiny.onnx", tiny()),
    )
    assert (got["plans"], got["shape"], got["cold"]) == (1, [2, 4], False)
    assert {"model", "parse", "compile", "load"} <= set(got["stages"])
    assert got["wrong"]["code"] == "FEED" and got["wrong"]["fields"]["reason"] == "shape"


def test_prepare_compiles_before_the_first_run(api: Api) -> None:
    cold = api.run(
        """async ({ tiny, reshaped }) => {
          const a = await create(tiny);
          await a.prepare({ x: [5, 4] });
          await a.run({ x: T('float32', new Float32Array(20), [5, 4]) });
          const b = await create(reshaped);
          const shape = T('int64', [3, 2]);
          await b.prepare({ x: [6], shape });
          await b.run({ x: T('float32', new Float32Array(6)), shape });
          const cold = [a.lastRun.cold, b.lastRun.cold];
          await Promise.all([a.release(), b.release()]);
          return cold;
        }""",
        {"tiny": api.put("tiny.onnx", tiny()), "reshaped": api.put("reshaped.onnx", reshaped())},
    )
    assert cold == [False, False]


def test_fifty_rounds_end_where_they_began(api: Api) -> None:
    got = api.run(
        """async (path) => {
          const round = async () => {
            const session = await create(path);
            await session.run({ x: T('float32', new Float32Array(4), [1, 4]) });
            await session.release();
          };
          await round();
          const before = await there();
          for (let i = 0; i < 50; i++) await round();
          return more(before);
        }""",
        api.put("tiny.onnx", tiny()),
    )
    assert got == []


def test_shapes_that_no_longer_fit_start_over_in_an_empty_memory(api: Api) -> None:
    got = api.run(
        """async (path) => {
          const maxMemoryBytes = 64 * 65536;
          const session = await create(path, { maxMemoryBytes, strict: true });
          const sums = [];
          const ones = (rows) => ({ x: T('float32', new Float32Array(4 * rows).fill(1), [rows, 4]) });
          // Together their activations exceed the memory, those of the largest alone do not.
          for (const rows of [20000, 40000, 60000, 80000]) {
            const { z } = await session.run(ones(rows));
            sums.push(z.data.reduce((a, b) => a + b) / rows);
          }
          const { bytes } = (await nnjit.device()).memory.sessions.at(-1);
          const error = await failure(session.run(ones(400000)));
          const { z } = await session.run(ones(1));
          await session.release();
          return { sums, fits: bytes <= maxMemoryBytes, error, last: z.data.reduce((a, b) => a + b) };
        }""",
        api.put("tiny.onnx", tiny()),
    )
    row = float(expected([[1, 1, 1, 1]]).sum())
    assert got["sums"] == [row] * 4 and got["fits"] and got["last"] == row
    assert got["error"]["typed"] and got["error"]["code"] in ("OUT_OF_MEMORY", "MODEL_TOO_LARGE")
