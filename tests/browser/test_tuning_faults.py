"""What the engine's lab makes of candidates and forms that trap, write nothing, write wrong things or are too slow."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import wasmtime

from nnjit.codegen.expr import Index, const, load, op
from nnjit.codegen.schedule.steps import Parallel, Tile, Vectorize
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from nnjit.codegen.wasm.target import Target
from nnjit.frontend import BytesSource
from nnjit.frontend import load as load_model
from nnjit.lower.build import lower
from nnjit.lower.forms import LOWERED, Forms
from nnjit.runtime.compile import primitive
from nnjit.runtime.groups import differences, sharing
from nnjit.runtime.pair_bench import PairBench
from nnjit.tune.bench import Bench
from nnjit.tune.policy import LAB
from tests.support.small_models import several_forms

if TYPE_CHECKING:
    from playwright.sync_api import Page

N = 4096
TARGET = Target(relaxed=False, shared=True, threads=2)


def doubled() -> KernelSpec:
    """y[i] = 2 * x[i] + 1"""
    value = op("add", op("mul", load(0, Index.of("i"), "f32"), const(2.0, "f32")), const(1.0, "f32"))
    stage = Stage((), (), "", None, value, 1, Index.of("i"))
    return KernelSpec(
        "doubled", (Axis("i", N),), (stage,), (Operand("f32", N, "in"), Operand("f32", N, "out"))
    )


def revivable(value: Any) -> Any:
    """Bytes as the page's revive() reads them."""
    if isinstance(value, bytes):
        return {"$base64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {k: revivable(v) for k, v in value.items()}
    return [revivable(v) for v in value] if isinstance(value, (list, tuple)) else value


def handmade(body: str) -> bytes:
    return bytes(
        wasmtime.wat2wasm(f"""(module (import "env" "memory" (memory 0 65536 shared))
        (func (export "kernel") (param $args i32) (param $begin i32) (param $end i32) {body}))""")
    )


FAULTS = {
    "trap": handmade("unreachable"),
    # past the end of any memory
    "wild": handmade("(i32.store (i32.const -4) (i32.const 1))"),
    # nothing is written
    "idle": handmade(""),
    # the first element of every call is off
    "wrong": handmade("(f32.store (i32.load offset=4 (local.get $args)) (f32.const 3))"),
    # bounded, but hundreds of times too long
    "slow": handmade("""(local $i i32) (loop $again (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (i32.const 60000000))))"""),
    "no module": b"\0asm\1\0\0\0\xff",
}


def test_a_faulty_candidate_gets_its_verdict_and_nothing_else(engine: Page) -> None:
    """Each fault is found in the lab; the lab goes on, and a good candidate is timed and may serve."""
    spec = doubled()
    bench = Bench(spec, TARGET, 64, True)
    setup = bench.setup((Parallel(("i",)),), [(1, 5)])
    good, _ = bench.candidate((Tile("i", 16), Vectorize("i", 4), Parallel(("i",))))
    trials = [
        [name, revivable({"kernel": {**good, "module": code}, "rounds": 5})] for name, code in FAULTS.items()
    ]
    got = engine.evaluate(
        """async ([setup, good, trials]) => {
          const engine = await EngineClient.start({ threads: 2 });
          await engine.openLab('lab', { shared: true, threads: 2 });
          await engine.pace({ mode: 'now' });
          const { samples } = await engine.labSetup('lab', revive(setup));
          const verdicts = [];
          const tried = async (trial, slow = false) => {
            for (let turns = 0;; turns++) { // a machine that is busy may hold up what is not slow
              const report = await engine.labTrial('lab', revive(trial));
              if (slow || report.verdict !== 'slow' || turns > 20) return report;
            }
          };
          for (const [name, trial] of trials) {
            verdicts.push(await tried(trial, name === 'slow'));
            verdicts.push((await engine.labConfirm('lab')).ok); // what failed must not be confirmed
          }
          const report = await tried(good);
          const confirmed = await engine.labConfirm('lab');
          await engine.closeLab('lab');
          engine.terminate();
          return { samples, verdicts, report, confirmed };
        }""",
        [revivable(setup), revivable({"kernel": good, "rounds": 5}), trials],
    )
    found = dict(zip(FAULTS, [v["verdict"] for v in got["verdicts"][::2]], strict=True))
    assert found.pop("slow") in ("slow", "wrong")
    assert found == {
        "trap": "trap",
        "wild": "trap",
        "idle": "wrong",
        "wrong": "wrong",
        "no module": "refused",
    } or (
        # a kernel that writes nothing shows only when its whole output is asked for
        found == {"trap": "trap", "wild": "trap", "idle": "timed", "wrong": "wrong", "no module": "refused"}
    )
    assert not any(got["verdicts"][1::2])
    assert got["report"]["verdict"] == "timed" and got["report"]["checked"] > 0
    assert got["report"]["mine"] and got["confirmed"]["ok"] and got["confirmed"]["checked"] == N
    x = np.frombuffer(setup["fills"][0]["pattern"], np.float32)[5]
    assert np.frombuffer(bytes(got["samples"][0]), np.float32)[0] == pytest.approx(2 * x + 1)


BREAKS = {
    "trap": """(module (import "env" "memory" (memory 0 65536 shared)) (import "env" "table" (table 0 funcref))
        (func (export "run") (param i32 i32 i32 i32) unreachable))""",
    "idle": """(module (import "env" "memory" (memory 0 65536 shared)) (import "env" "table" (table 0 funcref))
        (func (export "run") (param i32 i32 i32 i32)))""",
}


def pairs() -> list[dict[str, Any]]:
    """Both ways of each node of a model that has several, for the engine's lab."""
    code, feeds = several_forms()
    graph = primitive(
        load_model(BytesSource(code, "m.onnx"), {}).bind(shapes={n: a.shape for n, a in feeds.items()})
    )
    base = lower(graph, TARGET)
    found = [(group, base) for group in sharing(base, TARGET)[:2]]
    for matter in LOWERED:
        graph.outputs[:] = base.outputs
        mine = lower(graph, TARGET, forms=Forms(other=matter))
        found += [(group, mine) for group in differences(base, mine)]
    return [
        {**PairBench(group, base, mine, base.outputs, TARGET).setup(), "rounds": 3, "policy": LAB}
        for group, mine in reversed(found)
    ]


def test_a_faulty_form_gets_its_verdict_and_nothing_else(engine: Page) -> None:
    """What traps, or leaves its outputs unwritten, is found in the lab; the lab goes on with the next."""
    made = pairs()
    broken = []
    for text in BREAKS.values():
        base, mine = made[0]["plans"]
        # no kernel is to be called: what makes its constants would be called by slot
        other = {**mine, "module": bytes(wasmtime.wat2wasm(text)), "init": []}
        broken.append(revivable({**made[0], "plans": [base, other]}))
    broken.append(revivable({**made[0], "plans": [base, {**mine, "module": b"\0asm\1\0\0\0\xff"}]}))
    got = engine.evaluate(
        """async ([good, bad]) => {
          const engine = await EngineClient.start({ threads: 2 });
          await engine.openLab('lab', { shared: true, threads: 2 });
          await engine.pace({ mode: 'now' });
          const verdicts = [];
          for (const pair of bad) verdicts.push((await engine.labPair('lab', revive(pair))).verdict);
          const reports = [];
          for (const pair of good) reports.push(await engine.labPair('lab', revive(pair)));
          await engine.closeLab('lab');
          engine.terminate();
          return { verdicts, reports };
        }""",
        [[revivable(pair) for pair in made], broken],
    )
    assert got["verdicts"] == ["trap", "wrong", "refused"]
    assert len(got["reports"]) >= 8
    for report in got["reports"]:
        assert report["verdict"] in ("timed", "slow"), report["reason"]
        assert report["checked"] > 0 and report["worst"] <= 1
        assert all(ms > 0 for ms in report["base"] + report["mine"])
