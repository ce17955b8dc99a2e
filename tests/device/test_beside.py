"""Constants on the device while plans come and go beside each other: each is there as long as somebody counts on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.frontend import BytesSource, load
from nnjit.runtime.gpu_plan import GpuPlan
from nnjit.runtime.session import CompilerSession, Options
from tests.browser.api_page import Api, model
from tests.browser.engine_plans import packed

TARGET = WgslTarget(invocations=64, max_shared_bytes=16384)
WIDTH = 48
X = np.random.default_rng(1).standard_normal((6, WIDTH), np.float32)

BEGIN = """
  const { GpuClient } = await import('/engine/webgpu/client.js');
  const { announce, arriving } = await import('/engine/arrival.js');
  const revive = (value) => {
    if (Array.isArray(value)) return value.map(revive);
    if (value === null || typeof value !== 'object') return value;
    if ('$base64' in value) return Uint8Array.from(atob(value.$base64), (c) => c.charCodeAt(0));
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, revive(v)]));
  };
  const client = await GpuClient.start();
  client.createSession('s');
  const run = async (key) => {
    const [output] = (await client.run('s', key, [new Uint8Array(Float32Array.from(x).buffer)])).outputs;
    return [...new Float32Array(output.slice().buffer)];
  };
  const constants = () => client.memory().sessions[0].bytes;
"""


def plain(value: Any) -> Any:
    """A plan as JSON takes it."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return packed(bytes(value)) if isinstance(value, (bytes, bytearray, memoryview)) else value


class Weighed:
    """y = x @ w with weights of its own, for a GPU; its constants' numbers begin at `first`."""

    def __init__(self, seed: int, first: int) -> None:
        self.w = np.random.default_rng(seed).standard_normal((WIDTH, WIDTH), np.float32)
        x, y = {"x": (TensorProto.FLOAT, ["n", WIDTH])}, {"y": (TensorProto.FLOAT, ["n", WIDTH])}
        made = model([helper.make_node("MatMul", ["x", "w"], ["y"])], x, y, {"w": self.w})
        self.file = made.SerializeToString()
        self.session = CompilerSession(
            load(BytesSource(self.file, "m.onnx"), {}), Options("webgpu", gpu=TARGET, room=False)
        )
        self.first = first

    def plan(self, rows: int, key: str) -> dict[str, Any]:
        found, _ = self.session.prepare({"x": (rows, WIDTH)}, {})
        assert isinstance(found.plan, GpuPlan)
        self.session.settle([found.key])
        made: dict[str, Any] = plain({**found.plan.to_js(), "key": key})
        for buffer in made["buffers"]:
            if buffer["constant"] >= 0:
                buffer["constant"] += self.first
        assert any(buffer["constant"] >= 0 for buffer in made["buffers"])
        return made


def right(values: list[float], of: Weighed, rows: int = 6) -> bool:
    return bool(np.allclose(np.reshape(values, (rows, WIDTH)), X[:rows] @ of.w, rtol=1e-4, atol=1e-4))


def test_what_a_plan_still_reads_is_not_freed(gpu: Api) -> None:
    """The compiler gave it up while that plan was on its way."""
    one = Weighed(2, 0)
    first = one.plan(6, "p")
    second = one.plan(5, "q")  # reads what the first one brought
    found = gpu.run(
        f"""async ([plans, file, x]) => {{
          {BEGIN}
          for (const plan of plans) await client.loadPlan('s', revive(plan), [revive(file)]);
          const buffers = plans.flatMap((plan) => plan.buffers);
          const ids = buffers.map(({{ constant }}) => constant).filter((id) => id >= 0);
          await client.dropPlan('s', 'p');
          await client.freeConstants('s', ids);
          x.length = 5 * {WIDTH};
          const after = await run('q');
          await client.dropPlan('s', 'q');
          const before = constants();
          await client.freeConstants('s', ids);
          const left = [before > 0, constants()];
          client.terminate();
          return {{ after, left }};
        }}""",
        [[first, second], packed(one.file), X.reshape(-1).tolist()],
    )
    assert right(found["after"], one, 5) and found["left"] == [True, 0]


@pytest.mark.parametrize("ends", ["refused", "released"])
def test_what_came_meanwhile_is_not_counted_to_a_plan_beside(gpu: Api, ends: str) -> None:
    """While one is loaded beside the serving one, a plan for other shapes comes and goes. Its constants stay, for the
    next plan that reads them; those of the one beside go with it."""
    serving, beside, other = Weighed(2, 0), Weighed(3, 1000), Weighed(4, 2000)
    plans = [serving.plan(6, "p"), beside.plan(6, "p~1"), other.plan(6, "o")]
    assert any(item["kind"] == "range" for item in plans[1]["init"]), "it is not waited for"
    found = gpu.run(
        f"""async ([plans, files, x, ends]) => {{
          {BEGIN}
          const [serving, beside, other] = revive(plans);
          const [its, late, theirs] = revive(files);
          await client.loadPlan('s', serving, [its]);
          const file = arriving(new Uint8Array(new SharedArrayBuffer(late.length)));
          file.view.set(late);
          const loading = client.loadBeside('s', beside, [file], 'lab');
          await client.loadPlan('s', other, [theirs]);
          await client.dropPlan('s', 'o');
          const without = constants();
          announce(file, late.length);
          await loading;
          const more = constants() > without;
          if (ends === 'released') {{
            const {{ freed }} = await client.releaseSession('s');
            client.createSession('s');
            await client.loadPlan('s', beside, [late]);
            await client.dropPlan('s', 'p~1'); // it is no plan beside another here: what it brought stays
            const known = {{ ...beside, init: [] }};
            await client.loadPlan('s', known, [late]);
            const again = await run('p~1');
            client.terminate();
            return {{ more, freed, again }};
          }}
          await client.dropPlan('s', 'p~1');
          const back = constants() === without;
          const known = {{ ...other, init: [] }}; // the compiler knows that they are there
          await client.loadPlan('s', known, []);
          const [again, still] = [await run('o'), await run('p')];
          client.terminate();
          return {{ more, back, again, still }};
        }}""",
        [plans, [packed(each.file) for each in (serving, beside, other)], X.reshape(-1).tolist(), ends],
    )
    assert found["more"]
    if ends == "released":
        assert found["freed"] > 0 and right(found["again"], beside)
    else:
        assert found["back"] and right(found["again"], other) and right(found["still"], serving)
