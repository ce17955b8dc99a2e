"""What goes wrong in the engine has a name, and nothing else is lost by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from .engine_page import engine_page, serve
from .engine_plans import Toy, packed, rotate_add, scale_plan, spin, trap_at, trap_plan

TRAP = """async ({ plan, threads, shared }) => {
  const client = await EngineClient.start({ threads });
  await client.createSession('s', { shared });
  await client.loadPlan('s', revive(plan));
  const x = i32(Array.from({ length: 8 }, (_, i) => i));
  const run = (flag) => client.run('s', 'trap', [i32([flag]), x]);
  const before = ints((await run(0)).outputs[0]);
  const traps = [];
  for (let i = 0; i < 3; i++) traps.push(await failure(run(1)));
  const after = ints((await run(0)).outputs[0]);
  client.terminate();
  return { before, traps, after };
}"""


@pytest.mark.parametrize("how", ["unreachable", "bounds"])
@pytest.mark.parametrize(("threads", "shared"), [(1, False), (1, True), (2, True), (3, True)])
@pytest.mark.parametrize("tile", [0, 7])
def test_a_trap_names_its_step_and_leaves_the_session_usable(
    engine: Page, threads: int, shared: bool, tile: int, how: Any
) -> None:
    plan = trap_plan("trap", shared, tile, 8, how)
    result = engine.evaluate(TRAP, {"plan": plan, "threads": threads, "shared": shared})
    expected = np.roll(np.arange(8), -2) + 2
    np.testing.assert_array_equal(result["before"], expected)
    np.testing.assert_array_equal(result["after"], expected)
    for error in result["traps"]:
        assert error["code"] == "KERNEL_TRAP" and error["typed"]
        assert error["fields"]["kernel"] == "trap_at"
        assert 0 <= error["fields"]["thread"] < threads  # whoever took the tile
        assert how in error["fields"]["reason"]
        assert error["fields"]["name"] == "harmful" and error["fields"]["nodes"] == ["node_harmful"]


def test_sources_are_read_in_ranges_and_progress_is_told(engine: Page) -> None:
    count = (20 << 20) // 4
    toy = Toy("p", True)
    big = toy.tensor("big", "int32", count)
    out = toy.tensor("out", "int32", 8)
    tail = toy.tensor("tail", "int32", 8)
    toy.init += [
        {"kind": "range", "address": big["address"], "source": 1, "start": 12, "length": 4 * count},
        {"kind": "range", "address": tail["address"], "source": 0, "start": 4, "length": 32},
    ]
    slot = toy.kernel(rotate_add("rotate", 8, 5))
    toy.init.append(
        {"kind": "step", "slot": slot, "args": toy.args(tail["address"], out["address"]), "tiles": 8}
    )
    # the arguments must lie in memory before the step that uses them
    toy.init.insert(0, toy.init.pop(-2))
    toy.outputs += [big, out]
    result = engine.evaluate(
        """async ({ plan, count }) => {
          const client = await EngineClient.start({ threads: 2 });
          await client.createSession('s');
          const numbers = Int32Array.from({ length: count + 3 }, (_, i) => i * 7);
          const progress = [];
          const sources = [new Blob([i32([...Array(9).keys()])]), new Blob([numbers])];
          await client.loadPlan('s', revive(plan), sources, {
            onProgress: (stage, done, total) => progress.push([stage, done, total]),
          });
          const { outputs } = await client.run('s', 'p', []);
          const big = new Int32Array(outputs[0].buffer);
          const wrong = big.findIndex((v, i) => v !== (i + 3) * 7);
          client.terminate();
          return { wrong, out: ints(outputs[1]), progress };
        }""",
        {"plan": toy.plan(), "count": count},
    )
    assert result["wrong"] == -1
    np.testing.assert_array_equal(result["out"], np.roll(np.arange(1, 9), -1) + 5)
    loads = [
        done for stage, done, total in result["progress"] if stage == "load" and total == (20 << 20) + 32
    ]
    assert len(loads) >= 2 and loads == sorted(loads) and loads[-1] == (20 << 20) + 32
    assert ["init", 1, 1] in result["progress"] and ["compile", 1, 1] in result["progress"]


# The second chunk of a file waits until the engine has heard from the page once more. It listens as soon as the first
# is there: what the page answers to that one may come before the second is asked for.
HELD = """
const readOn = ReadableStreamBYOBReader.prototype.read;
let reads = 0;
let heard;
ReadableStreamBYOBReader.prototype.read = async function (into) {
  reads += 1;
  if (reads === 2) await heard;
  const found = await readOn.call(this, into);
  heard ??= new Promise((come) => addEventListener('message', come, { once: true }));
  return found;
};
"""


def test_a_cancelled_load_leaves_the_earlier_plan(browser: Browser) -> None:
    length = 4 << 20
    toy = Toy("big", True, base=65536, table_base=1)
    big = toy.tensor("big", "int32", length // 4)
    toy.init.append({"kind": "range", "address": big["address"], "source": 0, "start": 0, "length": length})
    toy.step(toy.kernel(rotate_add("rotate", 8, 1)), toy.args(big["address"], big["address"]), 8)
    script = """async ({ small, plan, length }) => {
          const client = await EngineClient.start({ threads: 2 });
          await client.createSession('s');
          await client.loadPlan('s', revive(small));
          const blob = new Blob([new Uint8Array(length)]);
          const controller = new AbortController();
          let told = 0;
          const cancelled = await failure(client.loadPlan('s', revive(plan), [blob], {
            signal: controller.signal,
            onProgress: (stage, done) => { if (stage === 'load') { told = done; controller.abort(); } },
          }));
          const aborted = { signal: AbortSignal.abort() };
          const before = await failure(client.loadPlan('s', revive(plan), [blob], aborted));
          const plans = (await client.memory()).sessions[0].plans;
          const kept = floats((await client.run('s', 'p', [new Float32Array(256).fill(1)])).outputs[0]);
          await client.loadPlan('s', revive(plan), [blob]);
          const again = (await client.memory()).sessions[0].plans;
          client.terminate();
          return { cancelled, before, told, plans, kept, again };
        }"""
    with (
        serve(isolated=True, additions={"/engine/engine.worker.js": HELD}) as origin,
        engine_page(browser, origin) as page,
    ):
        plans = {"small": scale_plan("p", True, [3.0]), "plan": toy.plan(), "length": length}
        result = page.evaluate(script, plans)
    assert result["cancelled"]["code"] == result["before"]["code"] == "ABORTED"
    assert 0 < result["told"] <= length // 4  # what was read when it heard of it, and no more
    assert result["plans"] == ["p"] and set(result["kept"]) == {3.0} and result["again"] == ["p", "big"]


def test_a_cancelled_run_stops_before_it_starts(engine: Page) -> None:
    toy = Toy("slow", True)
    out = toy.tensor("out", "int32", 1)
    toy.step(toy.kernel(spin("spin", 30_000_000)), toy.args(out["address"]), 8)
    toy.outputs.append(out)
    result = engine.evaluate(
        """async (plan) => {
          const client = await EngineClient.start({ threads: 2 });
          await client.createSession('s');
          await client.loadPlan('s', revive(plan));
          const controller = new AbortController();
          const first = client.run('s', 'slow', []);
          const second = failure(client.run('s', 'slow', [], { signal: controller.signal }));
          controller.abort();
          const result = [ints((await first).outputs[0]), await second];
          const third = ints((await client.run('s', 'slow', [])).outputs[0]);
          client.terminate();
          return [...result, third];
        }""",
        toy.plan(),
    )
    assert result[0] == result[2] == [30_000_000] and result[1]["code"] == "ABORTED"


def test_a_model_too_large_says_how_much_it_asked_for(engine: Page) -> None:
    large = scale_plan("large", True, [2.0], base=65536, table_base=1)
    large["pages"] = 101
    result = engine.evaluate(
        """async ({ small, large }) => {
          const client = await EngineClient.start({ threads: 2 });
          await client.createSession('s', { maxPages: 100 });
          await client.loadPlan('s', revive(small));
          const limited = await failure(client.loadPlan('s', revive(large)));
          const kept = floats((await client.run('s', 'p', [new Float32Array(256).fill(1)])).outputs[0]);
          await client.createSession('t');
          const beyond = await failure(client.loadPlan('t', { ...revive(large), pages: 65537 }));
          client.terminate();
          return { limited, kept, beyond };
        }""",
        {"small": scale_plan("p", True, [3.0]), "large": large},
    )
    assert result["limited"]["code"] == result["beyond"]["code"] == "MODEL_TOO_LARGE"
    fields = result["limited"]["fields"]
    assert fields["asked"] == 101 * 65536 and fields["limit"] == 100 * 65536 and result["limited"]["hint"]
    assert set(result["kept"]) == {3.0}


def test_a_browser_that_will_not_grow_the_memory(browser: Browser) -> None:
    stingy = "\nWebAssembly.Memory.prototype.grow = () => { throw new RangeError('no'); };\n"
    plan = scale_plan("p", True, [2.0])
    with (
        serve(isolated=True, additions={"/engine/memory.js": stingy}) as origin,
        engine_page(browser, origin) as page,
    ):
        error = page.evaluate(
            """async (plan) => {
              const client = await EngineClient.start({ threads: 2 });
              await client.createSession('s');
              return failure(client.loadPlan('s', { ...revive(plan), pages: 40000 }));
            }""",
            plan,
        )
    assert error["code"] == "MODEL_TOO_LARGE" and error["hint"]
    assert error["fields"]["asked"] == 40000 * 65536 and error["fields"]["current"] == 65536


def test_a_trap_at_load_is_named_by_its_slot(engine: Page) -> None:
    toy = Toy("p", True)
    flag = toy.tensor("flag", "int32", 1)
    args = toy.args(flag["address"])
    slot = toy.kernel(trap_at("trap_at", 3, "unreachable"))
    toy.init.append({"kind": "fill", "address": flag["address"], "length": 1, "value": 1})
    toy.init.append({"kind": "step", "slot": slot, "args": args, "tiles": 4})
    error, plans = engine.evaluate(
        """async (plan) => {
          const client = await EngineClient.start({ threads: 2 });
          await client.createSession('s');
          const error = await failure(client.loadPlan('s', revive(plan)));
          const { sessions } = await client.memory();
          client.terminate();
          return [error, sessions[0].plans];
        }""",
        toy.plan(),
    )
    assert error["code"] == "KERNEL_TRAP" and "slot 0" in error["message"] and plans == []


def test_bad_plans_and_sources_are_refused_by_name(engine: Page) -> None:
    good = scale_plan("p", True, [2.0])
    ranged = {"kind": "range", "address": 16384, "source": 0, "start": 10, "length": 100}
    plans = [
        ({**good, "version": 2}, "BAD_PLAN", "version"),
        ({**good, "threads": False}, "BAD_PLAN", "memory"),
        ({**good, "module": packed(b"\0asm\1\0\0\0\1")}, "COMPILE_FAILED", ""),
        ({**good, "module": packed(b"\0asm\1\0\0\0")}, "BAD_PLAN", "run"),
        ({**good, "segments": [{"kind": "wasm", "first": 0, "last": 9}]}, "BAD_PLAN", "segment"),
        ({**good, "tableBase": 5}, "BAD_PLAN", "slot"),
        ({**good, "outputs": [{**good["outputs"][0], "address": 1 << 20}]}, "BAD_PLAN", '"y"'),
        ({**good, "init": [ranged]}, "SOURCE_READ", "109"),
        ({**good, "init": [{**ranged, "source": 1}]}, "SOURCE_READ", "file 1"),
        (
            {**good, "init": [{"kind": "fill", "address": 65530, "length": 7, "value": 0}]},
            "BAD_PLAN",
            "outside",
        ),
    ]
    errors = engine.evaluate(
        """async ([plans, good]) => {
          const client = await EngineClient.start({ threads: 2 });
          await client.createSession('s');
          const errors = [];
          const source = new Blob(['x'.repeat(109)]);
          for (const plan of plans) errors.push(await failure(client.loadPlan('s', revive(plan), [source])));
          await client.loadPlan('s', revive(good));
          client.terminate();
          return errors;
        }""",
        [[plan for plan, _, _ in plans], good],
    )
    for error, (_, code, word) in zip(errors, plans, strict=True):
        assert error["code"] == code and word in error["message"], error


def test_a_source_that_cannot_be_read_any_more(engine: Page, tmp_path: Any) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(bytes(4096))
    engine.evaluate("document.body.append(Object.assign(document.createElement('input'), { type: 'file' }))")
    engine.set_input_files("input", str(file))
    file.write_bytes(bytes(100))
    plan = scale_plan("p", True, [2.0])
    plan["init"].append({"kind": "range", "address": 16384, "source": 0, "start": 0, "length": 1024})
    error = engine.evaluate(
        """async (plan) => {
          const client = await EngineClient.start({ threads: 1 });
          await client.createSession('s');
          const { files } = document.querySelector('input');
          const error = await failure(client.loadPlan('s', revive(plan), [files[0]]));
          client.terminate();
          return error;
        }""",
        plan,
    )
    assert error["code"] == "SOURCE_READ" and error["hint"]
