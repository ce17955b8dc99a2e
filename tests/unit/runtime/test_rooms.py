"""Plans with room in a session: when they are made, what they serve, and that their kernels are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnjit.codegen import expr
from nnjit.codegen.expr import Index
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from nnjit.codegen.wasm.cache import emitted
from nnjit.codegen.wasm.target import Target
from nnjit.errors import OutOfMemory
from nnjit.frontend import BytesSource, load
from nnjit.graph.room.extent import Work
from nnjit.lower.lowered import Kernel
from nnjit.lower.tensors import Buffer
from nnjit.runtime import rooms, session
from nnjit.runtime.compile import Linker
from nnjit.runtime.local import LocalSession
from nnjit.runtime.plan import Plan
from nnjit.runtime.prepared import Options
from nnjit.runtime.session import CompilerSession
from tests.fuzz.families import FAMILIES
from tests.support import decoder_models, genai_models
from tests.support.rooms import longer, together

F = TensorProto.FLOAT
TINY = decoder_models.Size(layers=2, hidden=24, heads=2, vocabulary=41, positions=96)


def compiler(nodes: list[Any], dims: list[Any], room: bool = True, **weights: Any) -> CompilerSession:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", F, dims)],
        [helper.make_tensor_value_info("y", F, None)],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return CompilerSession(load(BytesSource(proto.SerializeToString())), Options(strict=True, room=room))


def rows(room: bool = True) -> CompilerSession:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Softmax", ["a"], ["y"], axis=0)]
    return compiler(nodes, ["n", 4], room, w=np.ones((4, 3), np.float32))


def test_a_decoder_compiles_once_for_many_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 tokens behind a prompt of 9: the prompt's plan and two with room; the tokens of the exact way."""
    monkeypatch.setattr(rooms, "FARTHEST", 2)
    data = decoder_models.decoder(TINY)
    exact, roomy = LocalSession(data), LocalSession(data, room=True)
    past, ids = None, np.arange(9)[None]
    for token in range(40):
        feeds = decoder_models.feeds(TINY, ids, past)
        found = roomy.run(feeds)
        if token % 8 == 0 or token > 37:
            for name, value in exact.run(feeds).items():
                np.testing.assert_allclose(
                    found[name], value, rtol=1e-4, atol=1e-5, err_msg=f"{name}, {token}"
                )
        past, ids = found, found["logits"][:, -1:].argmax(-1)
    assert len(roomy.plans) == 3 and roomy.last is not None and exact.last is not None
    assert not roomy.last.host_calls and len(roomy.last.steps) <= len(exact.last.steps) + 6


def test_sequences_beside_each_other_share_a_plan() -> None:
    """One for both prompts, one for all tokens behind them."""
    data = decoder_models.decoder(TINY)
    exact, session = LocalSession(data), LocalSession(data, room=True)
    pasts: list[Any] = [None, None]
    tokens = [np.arange(5)[None], np.arange(8)[None]]
    for _ in range(3):
        for i, (past, ids) in enumerate(zip(pasts, tokens, strict=True)):
            feeds = decoder_models.feeds(TINY, ids, past)
            pasts[i] = session.run(feeds)
            np.testing.assert_allclose(pasts[i]["logits"], exact.run(feeds)["logits"], rtol=1e-4, atol=1e-5)
            tokens[i] = pasts[i]["logits"][:, -1:].argmax(-1)
    with_room = [key for key in session.plans if "n<=" in key]
    assert len(with_room) == 2 and len(session.plans) == 3


def test_a_cache_goes_on_in_its_own_place() -> None:
    """Where the past was fed lies the present when a run has ended: what was fed, the new rows, zeros behind."""
    roomy, past, ids = LocalSession(decoder_models.decoder(TINY), room=True), None, np.arange(9)[None]
    for _ in range(5):
        fed, past = past, roomy.run(decoder_models.feeds(TINY, ids, past))
        ids = past["logits"][:, -1:].argmax(-1)
    plan = roomy.last
    assert plan is not None and fed is not None
    assert plan.extends == {
        f"present.{i}.{part}": f"past_key_values.{i}.{part}" for i in range(2) for part in ("key", "value")
    }
    inputs = {ref.name: ref.to_js() for ref in plan.inputs}
    for name, of in plan.extends.items():
        there = roomy._get(inputs[of], {})
        rows = past[name].shape[2]
        np.testing.assert_array_equal(there[:, :, :rows], past[name])
        np.testing.assert_array_equal(there[:, :, : rows - 1], fed[name])
        assert not there[:, :, rows:].any() and there.shape[2] > rows


@pytest.mark.parametrize("read", ["before", "after", "both"])
def test_a_past_that_is_read_once_more_stays_apart(read: str) -> None:
    """An output is made in an input's place only where no later step reads that input."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["row"]),
        helper.make_node("Concat", ["past", "row"], ["present"], axis=1),
        helper.make_node("Softmax", ["present"], ["mixed"], axis=1),
        helper.make_node("ReduceMax", ["past", "axes"], ["most"]),
        helper.make_node("Add", ["mixed", "most"], ["y"]),
    ]
    if read == "before":
        nodes = [nodes[3], *nodes[:3], nodes[4]]
    outputs = ["present", "y"] if read != "both" else ["present", "past_too", "y"]
    if read == "both":
        nodes.append(helper.make_node("Neg", ["past"], ["past_too"]))
    infos = [helper.make_tensor_value_info(n, F, d) for n, d in (("x", [1, 1, 4]), ("past", [1, "n", 4]))]
    given = [helper.make_tensor_value_info(n, F, None) for n in outputs]
    weights = {"w": np.eye(4, dtype=np.float32), "axes": np.array([1])}
    graph = helper.make_graph(
        nodes, "g", infos, given, [numpy_helper.from_array(v, n) for n, v in weights.items()]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    data, rng = proto.SerializeToString(), np.random.default_rng(1)
    exact, roomy = LocalSession(data), LocalSession(data, room=True)
    for n in (5, 6, 7):
        feeds = {k: rng.standard_normal((1, m, 4)).astype(np.float32) for k, m in (("x", 1), ("past", n))}
        want, found = exact.run(feeds), roomy.run(feeds)
        for name in outputs:
            np.testing.assert_allclose(found[name], want[name], rtol=1e-6, err_msg=name)
    assert roomy.last is not None and roomy.last.lowered is not None
    assert roomy.last.lowered.graph.extends == {"present": "past"}
    assert (roomy.last.extends == {"present": "past"}) == (read == "before")


@pytest.mark.parametrize("size", [genai_models.SMALL, genai_models.PACKED], ids=["three", "packed"])
def test_a_decoder_of_other_domains(size: genai_models.Size) -> None:
    """GroupQueryAttention and MatMulNBits: their definitions have room too, and hardly more steps."""
    data = genai_models.decoder(size)
    exact, roomy = LocalSession(data), LocalSession(data, room=True)
    past, ids = None, np.arange(7)[None]
    for _ in range(4):
        feeds = genai_models.feeds(size, ids, past)
        want, found = exact.run(feeds), roomy.run(feeds)
        for name, value in want.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
        past, ids = want, want["logits"][:, -1:].argmax(-1)
    assert len(roomy.plans) == 2 and exact.last is not None and roomy.last is not None
    assert len(roomy.last.steps) <= len(exact.last.steps) + 4


@pytest.mark.parametrize(("name", "more"), [("minilm", 6), ("t5-encoder", 11), ("bloom", 8)])
def test_sentences_on_kernels(name: str, more: int) -> None:
    """Masks are made once and cleaning ends the kernels that made a value: no step a layer is added."""
    net = FAMILIES[name]()
    axes, data = together(net.dims, ["sequence"]), net.model().SerializeToString()
    exact, roomy = LocalSession(data), LocalSession(data, room=True)
    for by in (0, 2, -1, 5):
        feeds = longer(net.feeds, axes, by)
        want, found = exact.run(feeds), roomy.run(feeds)
        for output, value in want.items():
            np.testing.assert_allclose(
                found[output], value, rtol=1e-3, atol=2e-5, err_msg=f"{output} at {by}"
            )
    assert len(roomy.plans) == 2 and roomy.last is not None and exact.last is not None
    assert len(roomy.last.steps) <= len(exact.last.steps) + more and not roomy.last.host_calls


def test_the_second_length_gets_room_and_those_in_it_need_no_plan() -> None:
    session = rows()
    first, _ = session.prepare({"x": (5, 4)}, {})
    second, _ = session.prepare({"x": (7, 4)}, {})
    assert first.room is None and second.room is not None and second.key.startswith("x:nx4;n<=")
    whole = {"offset": 0, "terms": [[1, 0, []]]}
    assert second.room.to_js()["inputs"] == {"x": [[0, whole]]} == second.room.to_js()["inputs"]
    assert second.room.to_js()["outputs"] == {"y": [[0, whole]]}
    assert isinstance(second.plan, Plan)
    names = [ref.name for ref in second.plan.inputs]
    assert names == ["x", *second.room.lengths]
    assert session.prepare({"x": (6, 4)}, {})[0] is second
    assert session.prepare({"x": (5, 4)}, {})[0] is first
    beyond, _ = session.prepare({"x": (second.room.most[0] + 1, 4)}, {})
    assert beyond.room is not None and beyond.room.most > second.room.most


def test_an_exact_plan_may_be_asked_for() -> None:
    session = rows()
    session.prepare({"x": (5, 4)}, {})
    session.prepare({"x": (7, 4)}, {})
    assert session.prepare({"x": (6, 4)}, {}, exact=True)[0].room is None
    assert rows(room=False).rooms.refused == {}


def test_without_the_option_every_shape_has_its_plan() -> None:
    session = rows(room=False)
    assert [session.prepare({"x": (n, 4)}, {})[0].room for n in (5, 7, 9)] == [None] * 3


def test_a_refusal_is_remembered_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], auto_pad="SAME_LOWER", strides=[2])
    session = compiler([node], [1, 2, "n"], w=np.ones((2, 3, 3), np.float32))
    session.prepare({"x": (1, 2, 8)}, {})
    prepared, _ = session.prepare({"x": (1, 2, 9)}, {})
    assert prepared.room is None and "shape is fixed" in prepared.no_room and prepared.plan is not None

    def never(*args: Any) -> None:
        raise AssertionError("it was tried again")

    monkeypatch.setattr(rooms, "make_room", never)
    assert "shape is fixed" in session.prepare({"x": (1, 2, 10)}, {})[0].no_room


def heavy(dims: list[Any], reach: bool = False) -> CompilerSession:
    """Eight products of 64 rows for each n. reach: kernels leave out what a request has not."""
    nodes = [helper.make_node("MatMul", ["x", "w"], [f"a{i}"]) for i in range(8)]
    nodes.append(helper.make_node("Sum", [f"a{i}" for i in range(8)], ["y"]))
    session = compiler(nodes, dims, w=np.zeros((2048, 2048), np.float32))
    session.rooms = rooms.Rooms(reach)
    return session


def test_work_that_grows_with_n_bounds_what_a_plan_serves() -> None:
    session = heavy([64, "n", 2048])
    session.prepare({"x": (64, 1, 2048)}, {})
    prepared, _ = session.prepare({"x": (64, 6, 2048)}, {})
    assert prepared.room is not None
    assert prepared.room.most[0] <= 6 * rooms.WASTE and prepared.room.least[0] > 1


def test_a_length_that_is_its_own_capacity_has_room_for_shorter_ones() -> None:
    session = heavy([64, "n", 2048])
    session.prepare({"x": (64, 41, 2048)}, {})
    prepared, _ = session.prepare({"x": (64, 48, 2048)}, {})
    assert prepared.room is not None and prepared.room.least[0] < 48 == prepared.room.most[0]


def test_a_batch_of_much_work_has_its_own_plan() -> None:
    session = heavy(["n", 64, 2048])
    session.prepare({"x": (1, 64, 2048)}, {})
    prepared, _ = session.prepare({"x": (6, 64, 2048)}, {})
    assert prepared.room is None and "work grows" in prepared.no_room


@pytest.mark.parametrize("dims", [[64, "n", 2048], ["n", 64, 2048]])
def test_where_kernels_end_with_the_request_a_plan_is_far_larger(dims: list[Any]) -> None:
    session = heavy(dims, reach=True)
    shape = [6 if d == "n" else d for d in dims]
    session.prepare({"x": (*(5 if d == "n" else d for d in dims),)}, {})
    room = session.prepare({"x": (*shape,)}, {})[0].room
    assert room is not None and room.least == (1,) and room.most[0] > 3 * 6
    for n in range(1, room.most[0] + 1):
        exact = room.work.exact((n,))
        assert exact <= room.run.exact((n,)) <= exact + rooms.SMALL


@pytest.mark.parametrize(
    ("error", "strict"), [(RuntimeError("not this one"), False), (OutOfMemory("4 GiB do not hold it"), True)]
)
def test_a_plan_that_faults_or_does_not_fit_leaves_the_exact_way(
    monkeypatch: pytest.MonkeyPatch, error: Exception, strict: bool
) -> None:
    made = rows()
    made.options = Options(room=True, strict=strict)
    made.prepare({"x": (5, 4)}, {})
    compiled = session.compile_plan

    def faulty(graph: Any, *rest: Any) -> Any:
        if any("length" in v.name for v in graph.inputs):
            raise error
        return compiled(graph, *rest)

    monkeypatch.setattr(session, "compile_plan", faulty)
    prepared, _ = made.prepare({"x": (7, 4)}, {})
    assert prepared.room is None and prepared.plan is not None and str(error) in prepared.no_room


@pytest.mark.parametrize("reach", [False, True])
def test_few_plans_for_two_lengths_that_move_by_themselves(reach: bool) -> None:
    """Small requests are not served by the plans of large ones; there are fewer plans the longer it goes on."""
    session = compiler([helper.make_node("MatMul", ["x", "w"], ["y"])], ["b", "n", 2048],
                       w=np.zeros((2048, 2048), np.float32))  # fmt: skip
    session.rooms = rooms.Rooms(reach)
    rng = np.random.default_rng(4)
    served: list[int] = []
    for _ in range(60):
        batch, n = (int(v) for v in rng.integers([1, 5], [9, 121]))
        before = list(session.rooms._made.values())
        prepared, _ = session.prepare({"x": (batch, n, 2048)}, {})
        served.append(int(before != list(session.rooms._made.values())))
        if prepared.room is not None:
            room = prepared.room
            done, exact = room.run.exact((batch, n)), room.work.exact((batch, n))
            assert done <= max(rooms.LEAST * exact, exact + rooms.SMALL * rooms.MOST)
            least = room.n_of({"x": (1, 1, 2048)})
            assert "more<=" in room.text() and (least is None) == (not room.pays((1, 1)))
            assert room.n_of({"x": (*room.most, 2048)}) == room.most
    most = (6, 2) if reach else (20, 8)
    assert sum(served[30:]) < sum(served[:30]) < most[0] and sum(served[30:]) < most[1]


def test_values_that_decide_shapes_belong_to_a_plan_with_room() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "to"], ["a"]),
        helper.make_node("Softmax", ["a"], ["y"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", F, [1, "n", 6]),
            helper.make_tensor_value_info("to", TensorProto.INT64, [3]),
        ],
        [helper.make_tensor_value_info("y", F, None)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    made = CompilerSession(load(BytesSource(proto.SerializeToString())), Options(strict=True, room=True))

    def ask(n: int, *to: int) -> Any:
        return made.prepare({"x": (1, n, 6), "to": (3,)}, {"to": np.array(to)})[0]

    assert ask(4, 1, -1, 3).room is None
    roomy = ask(7, 1, -1, 3)
    assert roomy.room is not None and roomy.room.to_js()["outputs"] == {
        "y": [[1, {"offset": 0, "terms": [[2, 0, []]]}]]
    }
    assert ask(6, 1, -1, 3) is roomy
    other = ask(6, 1, -1, 2)
    assert other is not roomy and other.room is None


def cut_apart(nodes: list[Any], x: Any, **weights: Any) -> tuple[Any, Any]:
    """What nodes make of x [n, 3] with room, made for other lengths before, and without."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), ["n", 1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )
    graph.output[0].ClearField("type")
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    data = proto.SerializeToString()
    exact, roomy = LocalSession(data), LocalSession(data, room=True)
    for n in (len(x) + 2, len(x) + 1):
        roomy.run({"x": np.ones((n, 1, 3), x.dtype)})
    found = roomy.run({"x": x})["y"]
    assert len(roomy.plans) == 2
    return found, exact.run({"x": x})["y"]


def test_a_mean_of_many_halves_has_a_sum_that_halves_can_not_hold() -> None:
    mean = helper.make_node("ReduceMean", ["x", "axis"], ["m"], keepdims=0)
    nodes = [mean, helper.make_node("Neg", ["m"], ["y"])]
    found, want = cut_apart(nodes, np.full((1000, 1, 3), 100, np.float16), axis=np.array([0]))
    np.testing.assert_array_equal(found, want)
    np.testing.assert_array_equal(found, np.full((1, 3), -100, np.float16))


@pytest.mark.parametrize("to", [TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8])
def test_what_infinities_become_as_integers_is_not_relied_on(to: int) -> None:
    """1 / 0 beyond n, as a kernel casts it."""
    nodes = [
        helper.make_node("Reciprocal", ["x"], ["r"]),
        helper.make_node("Cast", ["r"], ["c"], to=to),
        helper.make_node("ReduceMax", ["c", "axis"], ["y"]),
    ]
    found, want = cut_apart(nodes, np.full((5, 1, 3), 0.25, np.float32), axis=np.array([0]))
    np.testing.assert_array_equal(found, want)


def test_what_can_be_chosen_among_does_not_grow_with_n(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million samples of sound: few capacities and few lengths are looked at."""
    made = compiler([helper.make_node("Tanh", ["x"], ["y"])], [1, "n"])
    made.prepare({"x": (1, 1_000_000)}, {})
    asked: list[int] = []

    def counted(once: Any) -> Any:
        def ask(work: Work, n: int) -> Any:
            asked.append(n)
            return once(work, n)

        return ask

    for name in ("full", "exact"):
        monkeypatch.setattr(Work, name, counted(getattr(Work, name)))
    room = made.prepare({"x": (1, 1_000_700)}, {})[0].room
    assert room is not None and room.most[0] >= 1_250_000 and len(asked) < 100


def test_refusals_of_many_kinds_are_not_all_remembered() -> None:
    asked = rooms.Rooms()
    for wide in range(3 * rooms.REFUSED):
        asked.saw({"x": (5, wide + 1)}, "")
        asked.refuse({"x": (6, wide + 1)}, "", "for a test")
    assert len(asked.refused) == rooms.REFUSED


def test_a_pass_that_faults_leaves_the_exact_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(graph: Any) -> None:
        raise RuntimeError("not this one")

    monkeypatch.setattr(rooms, "PASSES", [faulty])
    made = rows()
    made.options = Options(room=True)
    made.prepare({"x": (5, 4)}, {})
    prepared, _ = made.prepare({"x": (7, 4)}, {})
    assert prepared.room is None and prepared.plan is not None and "not this one" in prepared.no_room


def test_only_a_step_that_reads_where_it_writes_is_done_in_place() -> None:
    """A tensor of two steps has an operand's place by the first: the second may read it elsewhere, or not."""
    at = Index(0, {"i": 4, "j": 1})
    new, old_value = expr.const(1.0, "f32"), expr.load(1, at, "f32")
    value = expr.select(expr.load(0, Index.of("i"), "bool"), new, old_value)
    operands = Operand("bool", 8, "in"), Operand("f32", 32, "in"), Operand("f32", 32, "out")
    spec = KernelSpec("w", (Axis("i", 8), Axis("j", 4)), (Stage((), (), "", None, value, 2, at),), operands)
    target = Target()
    schedule = default_schedule(spec, target)
    code, tiles, _ = emitted(spec, schedule, target)
    mask, old, out, other = (Buffer(name, 256) for name in ("mask", "old", "out", "other"))
    linker = object.__new__(Linker)
    linker.target = target
    for source, place in (((old, 0), 1), ((old, 4), -1), ((other, 0), -1)):
        step = Kernel(spec, schedule, [(mask, 0), source, (out, 0)], [], False, code, tiles, 0.0)
        assert linker._in_place(step, {out: old}).place == place
