"""The tuner without a browser: candidates under wasmtime, winners swapped into a LocalSession, times made up."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnjit.codegen.loops import Nest
from nnjit.codegen.schedule.steps import Pack, Tile
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.emit import emit_module
from nnjit.graph.room import make_room, moved
from nnjit.runtime.compile import compile_plan
from nnjit.runtime.local import LocalSession
from nnjit.runtime.repack import Refused
from nnjit.runtime.tuning import Tuning, panels_of
from nnjit.tune import oracle
from nnjit.tune.bench import Bench
from nnjit.tune.device import DeviceFacts
from nnjit.tune.fills import patterns
from nnjit.tune.records import decode, encode
from tests.support import decoder_models
from tests.support.tuning_lab import WasmLab, adopt, drive
from tests.unit.graph.test_room import as_bytes, node
from tests.unit.runtime.test_rooms import TINY

FACTS = DeviceFacts(fma_gflops=5e4, muladd_gflops=5e4, bandwidth=((1 << 30, 5e4),))
"""A device so fast that no kernel is near its bound: everything is worth trying."""


def model(seed: int = 0) -> bytes:
    """Two products with the same weights' shape, softmax, and a product of two activations."""
    rng = np.random.default_rng(seed)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["c"]),
        helper.make_node("Softmax", ["c"], ["d"]),
        helper.make_node("Transpose", ["c"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["d", "t"], ["e"]),
        helper.make_node("Exp", ["e"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(rng.standard_normal((40, 52)).astype(np.float32) / 8, "w1"),
        numpy_helper.from_array(rng.standard_normal((52, 44)).astype(np.float32) / 8, "w2"),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [29, 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]).SerializeToString()


@pytest.fixture
def session() -> LocalSession:
    made = LocalSession(model())
    made.run(feeds())
    return made


def feeds() -> dict[str, Any]:
    return {"x": np.random.default_rng(3).standard_normal((29, 40)).astype(np.float32)}


def test_kernels_of_one_spec_that_end_at_different_lengths_are_one_job() -> None:
    """What is known of a kernel goes by its spec: a second slot under the same name would never be tried."""
    w = np.random.default_rng(1).standard_normal((6, 6)).astype(np.float32)
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("MatMul", ["y", "w"], ["b"])]
    here, next_ = ({"x": (n, 6), "y": (m, 6)} for n, m in ((6, 4), (9, 8)))
    feeds = {name: np.zeros(shape, np.float32) for name, shape in here.items()}
    session = LocalSession(as_bytes(nodes, feeds, {"w": w}, ["a", "b"]))
    growing = moved(next_, here)
    assert growing is not None
    room = make_room(session.model, here, growing, [24, 24])
    plan = compile_plan(room.graph, session.target, session.memory_map)
    products = [k for k in plan.kernels if k.reach]
    assert (
        len(products) == 2 and products[0].spec == products[1].spec and products[0].reach != products[1].reach
    )
    tuning = Tuning(plan, lambda: session.memory_map, session.target, FACTS)
    assert [s.job.key for s in tuning.slots].count(products[0].spec.key) == 1
    assert all(tuning.by_key[s.job.key] is s for s in tuning.slots)


def test_what_is_done_in_place_is_not_tried_by_itself() -> None:
    """The lab would time all of it, and a winner write all."""
    session, past, ids = LocalSession(decoder_models.decoder(TINY), room=True), None, np.arange(9)[None]
    for _ in range(3):
        past = session.run(decoder_models.feeds(TINY, ids, past))
        ids = past["logits"][:, -1:].argmax(-1)
    assert session.last is not None
    there = [k.spec.key for k in session.last.kernels if k.place >= 0]
    assert there and not {s.job.key for s in tuner(session).slots} & set(there)


def faster() -> Any:
    """A clock by which every candidate wins: each kernel changes its panels many times."""
    now = [1.0]

    def clock(text: str) -> float:
        now[0] *= 0.95
        return now[0]

    return clock


def tuner(session: LocalSession, **options: Any) -> Tuning:
    assert session.last is not None
    return Tuning(session.last, lambda: session.memory_map, session.target, FACTS, **options)


def test_every_swap_leaves_the_results_right(session: LocalSession) -> None:
    """Whatever wins, panels made over or not, the model computes the same."""
    wanted = session.run(feeds())["y"]
    tuning = tuner(session)
    log: list[dict[str, Any]] = []
    reason = drive(session, tuning, faster(), log=log)
    assert reason == "nothing more is worth a try"
    swapped = [line for line in log if line["won"]]
    assert len(swapped) > 4 and {line["verdict"] for line in log} <= {"timed", "illegal"}
    np.testing.assert_allclose(session.run(feeds())["y"], wanted, rtol=1e-5)
    changed = [s for s in tuning.slots if panels_of(s.job.serving) != panels_of(s.job.first)]
    assert changed, "no kernel changed its panels: the test tested nothing"


def test_reset_brings_back_the_first_kernels(session: LocalSession) -> None:
    wanted = session.run(feeds())["y"]
    tuning = tuner(session)
    drive(session, tuning, faster())
    assert any(s.job.serving != s.job.first for s in tuning.slots)
    for _ in tuning.slots:
        for adoption in tuning.reset():
            from nnjit.codegen.schedule.apply import apply
            from nnjit.codegen.wasm.emit import emit_module

            slot = next(s for s in tuning.slots if s.number == adoption["slot"])
            module = emit_module(apply(slot.spec, slot.job.first), session.target)
            adopt(session, tuning, adoption, module)
    assert all(s.job.serving == s.job.first for s in tuning.slots)
    np.testing.assert_array_equal(session.run(feeds())["y"], wanted)


@pytest.mark.parametrize("told", [False, True])
def test_an_interrupted_candidate_is_tried_again(session: LocalSession, told: bool) -> None:
    """Whether the lab was interrupted in its trial or between the trial and the swap."""
    session.run(feeds())
    tuning = tuner(session)

    def trial() -> dict[str, Any]:
        while (todo := tuning.next())["do"] == "setup":
            tuning.measured(1.0, [])
        assert todo["do"] == "trial"
        return todo

    tuning.pending_probes = []
    first = trial()
    if told:
        assert tuning.report({"verdict": "timed", "base": [1.0] * 7, "mine": [0.5] * 7})["won"]
    tuning.relay()
    again = trial()
    assert (again["job"]["key"], again["schedule"]) == (first["job"]["key"], first["schedule"])
    tuning.report({"verdict": "timed", "base": [1.0] * 7, "mine": [2.0] * 7})
    assert trial()["schedule"] != first["schedule"]


def test_a_winner_without_room_for_its_panels_is_not_tried_again(
    session: LocalSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after an interruption either, which is for those whose swap was not told of."""
    session.run(feeds())
    tuning = tuner(session)

    def no_room(*args: Any) -> None:
        raise Refused("there is no memory for its panels")

    monkeypatch.setattr(tuning, "_swap", no_room)
    while tuning.next()["do"] == "setup":
        tuning.pending_probes = []
        tuning.measured(1.0, [])
    assert tuning.now is not None
    job, half = tuning.now[0].job, {"base": [1.0] * 7, "mine": [0.5] * 7}
    assert tuning.report({"verdict": "timed", **half})["won"]
    assert tuning.adoption({"ok": True, **half}) is None
    left = job.left()
    tuning.relay()
    assert job.left() == left


def test_a_candidate_with_wrong_numbers_never_serves(
    session: LocalSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler is made to emit another kernel for every candidate: each is found out, none is tried twice."""
    wanted = session.run(feeds())["y"]
    real = Bench._kernel

    def broken(self: Bench, schedule: Any, other: bool) -> dict[str, Any]:
        kernel = real(self, schedule, other)
        if other:  # half of the work is left undone
            kernel["pointers"] = [*kernel["pointers"][:-1], kernel["pointers"][-1] + 4]
        return kernel

    monkeypatch.setattr(Bench, "_kernel", broken)
    log: list[dict[str, Any]] = []
    tuning = tuner(session)
    drive(session, tuning, lambda text: 0.5, log=log)
    assert log and all(line["verdict"] == "wrong" for line in log)
    assert len({(line["key"], line["text"]) for line in log}) == len(log)
    assert not tuning.adopted
    # the records say what failed, and who knows them leaves it alone
    made = [decode(encode(r)) for r in tuning.records("wasm.v8-150.x86.fused.2c.2t.1m")]
    bad = {(r.key, r.schedule) for r in made if r.verdict == "wrong"}
    assert len(bad) == len(log)
    known = {s for _, s in bad}
    again = tuner(session, failed=lambda spec: known)
    more: list[dict[str, Any]] = []
    drive(session, again, lambda text: 0.5, most=40, log=more)
    assert not {line["text"] for line in more} & {line["text"] for line in log}
    np.testing.assert_array_equal(session.run(feeds())["y"], wanted)


def test_a_serving_kernel_that_its_definition_contradicts_is_left_alone(
    session: LocalSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oracle, "expected", lambda spec, probe, patterns: 1e9)
    tuning = tuner(session)
    slot = next(s for s in tuning.slots if oracle.probes(s.spec))
    answer = tuning.measured(1.0, WasmLab().setup(tuning._lay(slot)))
    assert not answer["ok"] and "definition" in answer["reason"]
    assert slot.job.closed


def test_panels_of_an_activation_keep_their_tiles(session: LocalSession) -> None:
    """A step before makes them: a candidate that wants others is not tried."""
    tuning = tuner(session)
    log: list[dict[str, Any]] = []
    drive(session, tuning, lambda text: 2.0, log=log)
    for slot in tuning.slots:
        held = [s for s in slot.job.first if isinstance(s, Pack) and not slot.spec.operands[s.operand].const]
        for step in held:
            tiles = {
                s.factor
                for t in slot.job.trials
                for s in t.schedule
                if isinstance(s, Tile) and s.axis == step.axis
            }
            assert len(tiles) <= 1


def test_a_second_session_starts_from_the_records(session: LocalSession) -> None:
    """Records are read back strictly, the plan is compiled with them, and each kernel gets one test."""
    draw = random.Random(2)
    tuning = tuner(session)
    drive(session, tuning, lambda text: draw.choice([0.7, 1.5]))
    device = "wasm.v8-150.x86.fused.2c.2t.1m"
    kept = {r.key: decode(encode(r)) for r in tuning.records(device)}
    assert kept

    from nnjit.runtime.compile import compile_plan
    from nnjit.runtime.memory import SessionMemory
    from nnjit.tune.records import spec_key, spec_text

    def chosen(spec: KernelSpec) -> Any:
        found = kept.get(spec_key(spec_text(spec)))
        return found.schedule if found else None

    memory = SessionMemory()
    graph = session.model.bind(shapes={"x": (29, 40)})
    plan = compile_plan(graph, session.target, memory, chosen=chosen)
    tuned = {k.spec.key: k.schedule for k in plan.kernels}
    for slot in tuning.slots:
        if chosen(slot.spec) is not None:
            assert tuned[slot.spec.key] == slot.job.serving
    second = LocalSession(model())
    wanted = session.run(feeds())["y"]
    second_run = second.run(feeds())["y"]
    np.testing.assert_allclose(second_run, wanted, rtol=1e-5)
    again = Tuning(plan, lambda: memory, session.target, FACTS, own=chosen)
    trials: dict[str, int] = {}
    for _ in range(200):
        todo = again.next()
        if todo["do"] == "done":
            break
        if todo["do"] == "setup":
            again.pending_probes = []
            again.measured(1.0, [])
            continue
        trials[todo["job"]["key"]] = trials.get(todo["job"]["key"], 0) + 1
        again.report({"verdict": "timed", "base": [1.0] * 5, "mine": [1.2] * 5})
    known = {s.job.key for s in again.slots if s.known}
    assert known and all(trials.get(key, 0) <= 1 for key in known)


def test_the_oracle_is_the_spec(session: LocalSession) -> None:
    """Probes against the serving kernels under wasmtime, every kernel of the model."""
    tuning = tuner(session)
    seen = 0
    for slot in tuning.slots:
        step = tuning.plan.steps[slot.steps[0]]
        bench = Bench(slot.spec, session.target, step.tiles, step.parallel)
        found = oracle.probes(slot.spec)
        samples = WasmLab().setup(bench.setup(slot.job.serving, [(p.operand, p.at) for p in found]))
        for probe, sample in zip(found, samples, strict=True):
            dtype = slot.spec.operands[probe.operand].dtype
            wanted = oracle.expected(slot.spec, probe, patterns(slot.spec))
            assert oracle.agrees(oracle.decoded(bytes(sample), dtype), wanted, slot.spec, dtype)
            assert not oracle.agrees(wanted * 1.5 + 1, wanted, slot.spec, dtype)
            seen += 1
    assert seen > 8


def test_onnx_model_is_valid() -> None:
    onnx.shape_inference.infer_shapes(onnx.load_from_string(model()), check_type=True, strict_mode=True)


def test_the_serving_kernel_is_not_emitted_again(
    session: LocalSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Laid out in the lab it is what the plan was made of, byte for byte what emission gives."""
    tuning = tuner(session)
    made = []
    anew: list[str] = []

    def counted(nest: Nest, *how: Any) -> bytes:
        anew.append(nest.name)
        return emit_module(nest, *how)

    monkeypatch.setattr("nnjit.tune.bench.emit_module", counted)
    for slot in tuning.slots:
        step = tuning.plan.steps[slot.steps[0]]
        made.append(
            Bench(slot.spec, tuning.target, step.tiles, step.parallel).setup(slot.job.serving)["kernel"]
        )
    assert not [name for name in anew if not name.startswith("pack")]
    monkeypatch.setattr("nnjit.codegen.wasm.cache._made", {})
    for slot, kernel in zip(tuning.slots, made, strict=True):
        step = tuning.plan.steps[slot.steps[0]]
        again = Bench(slot.spec, tuning.target, step.tiles, step.parallel).setup(slot.job.serving)["kernel"]
        assert again == kernel
