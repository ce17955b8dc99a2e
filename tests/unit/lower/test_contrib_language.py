"""Operators of com.microsoft for language models: single nodes at random and whole models, against native
onnxruntime, on kernels alone; schemas against those onnxruntime has."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

from nnjit.errors import DTypeError, NnjitError, ShapeError, UnsupportedOperator
from nnjit.frontend import BytesSource, load
from nnjit.graph.extensions import DOMAINS, NAMELESS, expansions, schemas
from nnjit.graph.reference import run_graph
from nnjit.runtime.local import LocalSession
from tests.fuzz.contrib import CASES, draw
from tests.fuzz.contrib.drawn import Drawn, fault, normal
from tests.fuzz.families import language
from tests.support import fused_models, genai_models
from tests.support.genai_models import HALF, PACKED, SMALL, Size
from tests.support.single import native

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("name", CASES)
def test_a_node_as_onnxruntime(name: str) -> None:
    """`python -m tests.fuzz.contrib` runs more of them."""
    for seed in range(6):
        case = draw(name, seed)
        session = LocalSession(case.model())
        why = fault(case, session.run(case.feeds), native(case.model(), case.feeds))
        assert why is None, (seed, why, case.attrs)
        assert not on_the_reference(session), (seed, on_the_reference(session))


@pytest.mark.parametrize("name", CASES)
def test_a_node_on_the_reference(name: str) -> None:
    """What runs where a shape is known only at run time."""
    case = draw(name, 3)
    model = load(BytesSource(case.model(), "m"))
    for value in model.graph.inputs:
        value.shape = None
    found = run_graph(model.graph, case.feeds)
    assert fault(case, found, native(case.model(), case.feeds)) is None


def on_the_reference(session: LocalSession) -> list[str]:
    return [r["op"] for r in session.placement() if r["backend"] == "reference"]


def test_families_are_asked_about_what_they_declare() -> None:
    """Models without such operators do not import the families, so that their names stand apart from them."""
    known = {*schemas(), *expansions()}
    assert {op for domain, op in known if not domain} == NAMELESS
    assert {domain for domain, _ in known if domain} == set(DOMAINS)
    code = "import sys, nnjit.runtime.session; print([m for m in sys.modules if 'graph.extensions.' in m])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['nnjit.graph.extensions.declare']"


def test_schemas_are_those_of_onnxruntime() -> None:
    """Names, kinds and order of inputs and outputs, and attributes. onnxruntime may be older and have fewer."""
    theirs = {s.name: s for s in get_all_operator_schema() if s.domain == "com.microsoft"}
    compared = 0
    for (domain, name), ours in schemas().items():
        if domain != "com.microsoft" or name not in theirs:
            continue
        compared += 1
        other = theirs[name]
        for formals, known in ((ours.inputs, other.inputs), (ours.outputs, other.outputs)):
            assert len(formals) >= len(known), name
            for a, b in zip(formals, known, strict=False):
                # what it demands may be left out here, as its kernels allow, but nothing is called otherwise
                optional = str(b.option).endswith("Optional")
                assert a.name == b.name and (not optional or a.option.name == "Optional"), (name, a.name)
        assert set(other.attributes) <= set(ours.attributes), name
        for attribute, a in ours.attributes.items():
            if attribute in other.attributes:
                assert a.required == other.attributes[attribute].required, (name, attribute)
    assert compared > 20


# -- whole models


@pytest.mark.parametrize("size", [SMALL, PACKED, HALF], ids=["apart", "packed", "f16"])
def test_a_decoder_of_4_bits_and_grouped_queries(size: Size) -> None:
    model = genai_models.decoder(size)
    session, past = LocalSession(model), None
    for ids in ([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]], [[5], [8]], [[9], [7]]):
        feeds = genai_models.feeds(size, np.array(ids), past)
        past = native(model, feeds)
        found = session.run(feeds)
        for name, wanted in past.items():
            # f16 has steps of 0.004 where logits are, and rounds after each node, in whatever order they sum
            near = {"rtol": 1e-4, "atol": 2e-5} if size is not HALF else {"rtol": 1e-2, "atol": 2e-2}
            np.testing.assert_allclose(found[name], wanted, **near, err_msg=name)
        assert not on_the_reference(session)
    # one attention and one writing of each cache a layer, rotations one kernel each, sums inside products
    assert session.last is not None
    kernels = [step.kernel for step in session.last.steps]
    assert sum("attention" in k for k in kernels) == size.layers
    assert sum("where" in k and "pad" in k for k in kernels) == 2 * size.layers
    assert not any("concat" in k or "copy" in k for k in kernels), kernels
    widened = 4 * size.layers + 1 if size is HALF else 0  # rows that products read, once each
    assert len(kernels) <= 13 * size.layers + 14 + widened, kernels


def test_a_cache_that_does_not_grow() -> None:
    """The mask tells how much of the cache is used; what lies behind is not looked at, and comes out as zeros."""
    model, length = genai_models.decoder(SMALL), 12
    session, exact = LocalSession(model), LocalSession(model)
    past: dict[str, Any] | None = None
    cache = {
        f"past_key_values.{n}.{part}": np.full((1, SMALL.groups, length, SMALL.depth), np.nan, np.float32)
        for n in range(SMALL.layers)
        for part in ("key", "value")
    }
    for used, token in enumerate([3, 1, 4, 1, 5], start=1):
        wanted = exact.run(genai_models.feeds(SMALL, np.array([[token]]), past))
        mask = (np.arange(length) < used).astype(np.int64)[None]
        found = session.run({"input_ids": np.array([[token]]), "attention_mask": mask, **cache})
        np.testing.assert_allclose(found["logits"], wanted["logits"], rtol=1e-4, atol=2e-5)
        cache = {
            name.replace("present", "past_key_values"): found[name] for name in found if "present" in name
        }
        assert all(not np.any(array[:, :, used:]) for array in cache.values())
        past = wanted
    assert len(session.plans) == 1


@pytest.mark.parametrize("mask", ["ones", "lengths"])
def test_bert_as_the_optimizer_leaves_it(mask: str) -> None:
    model = fused_models.bert(mask=mask)
    session = LocalSession(model)
    for lengths, words in (([7, 3], 7), ([5], 9)):
        feeds = fused_models.feeds(lengths, words)
        wanted, found = native(model, feeds)["hidden"], session.run(feeds)["hidden"]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5)
        assert not on_the_reference(session)
        assert session.last is not None
        assert sum("attention" in step.kernel for step in session.last.steps) == 2


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_what_the_optimizer_makes_of_models(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime.transformers.optimizer itself, on models as exporters write them. It fuses less without sympy, and
    leaves no opset import of its domain behind."""
    optimizer = pytest.importorskip("onnxruntime.transformers.optimizer")
    of = next(c for c in optimizer.BertOnnxModel.__mro__ if "infer_runtime_shape" in vars(c))
    monkeypatch.setattr(of, "infer_runtime_shape", lambda *_, **__: None)
    net = getattr(language, name)()
    model = net.model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = optimizer.optimize_model(
            model, model_type=name, num_heads=4, hidden_size=32, opt_level=0
        ).model
    assert any(n.domain == "com.microsoft" for n in made.graph.node)
    feeds = {i.name: net.feeds[i.name] for i in made.graph.input}
    data = made.SerializeToString()
    session = LocalSession(data)
    found = session.run(feeds)
    for output, wanted in native(data, feeds).items():
        np.testing.assert_allclose(found[output], wanted, rtol=1e-4, atol=5e-5, err_msg=output)
    assert not on_the_reference(session)


# -- forms onnxruntime's CPU kernels lack, against those they have


def test_packed_queries_keys_and_values() -> None:
    parts = [normal(RNG, 2, 5, 3, 1, 8) for _ in range(3)]
    flat = [p.reshape(2, 5, 24) for p in parts]
    apart = Drawn("MultiHeadAttention", dict(zip("qkv", flat, strict=True)), ["y"], {"num_heads": 3})
    whole = Drawn("MultiHeadAttention", {"q": np.concatenate(parts, 3)}, ["y"], {"num_heads": 3})
    pair = np.concatenate(parts[1:], 3)
    keys = Drawn("MultiHeadAttention", {"q": flat[0], "kv": pair}, ["y"], {"num_heads": 3})
    wanted = native(apart.model(), apart.feeds)
    for case in (whole, keys):
        assert fault(case, LocalSession(case.model()).run(case.feeds), wanted) is None


def test_norms_of_heads_before_their_rotation() -> None:
    """q_norm_weight and k_norm_weight: RMS norms of each head."""
    heads, groups, depth = 4, 2, 16
    q, k, v = (
        normal(RNG, 2, 3, heads * depth),
        normal(RNG, 2, 3, groups * depth),
        normal(RNG, 2, 3, groups * depth),
    )
    scale = {"qn": normal(RNG, depth), "kn": normal(RNG, depth)}
    angles = normal(RNG, 8, depth // 2)
    rest = {"pk": None, "pv": None, "ends": np.full(2, 2, np.int32), "total": np.array([3], np.int32),
            "cos": np.cos(angles), "sin": np.sin(angles)}  # fmt: skip
    attrs = {"num_heads": heads, "kv_num_heads": groups, "do_rotary": 1, "qk_norm_epsilon": 1e-5}

    def normed(x: Any, weight: Any) -> Any:
        cut = x.reshape(2, 3, -1, depth)
        return (cut / np.sqrt((cut**2).mean(-1, keepdims=True) + 1e-5) * weight).reshape(x.shape)

    inside = {
        "q": q,
        "k": k,
        "v": v,
        **rest,
        "at": None,
        "add": None,
        "sink": None,
        "ks": None,
        "vs": None,
        **scale,
    }
    outputs = ["y", "present_k", "present_v"]
    constants = frozenset({"total"})
    case = Drawn("GroupQueryAttention", inside, outputs, attrs, constants)
    outside = {"q": normed(q, scale["qn"]), "k": normed(k, scale["kn"]), "v": v, **rest}
    attrs = {name: value for name, value in attrs.items() if name != "qk_norm_epsilon"}
    same = Drawn("GroupQueryAttention", outside, outputs, attrs, constants)
    wanted = native(same.model(), same.feeds)
    assert fault(case, LocalSession(case.model()).run(case.feeds), wanted) is None


# -- errors


def grouped(**changes: Any) -> Drawn:
    operands: dict[str, Any] = {
        "q": normal(RNG, 1, 1, 32),
        "k": normal(RNG, 1, 1, 16),
        "v": normal(RNG, 1, 1, 16),
    }
    operands |= {n: normal(RNG, 1, 1, 4, 16) for n in ("pk", "pv")}
    operands |= {"ends": np.array([4], np.int32), "total": np.array(5, np.int32)}
    attrs: dict[str, Any] = {"num_heads": 2, "kv_num_heads": 1}
    for name, value in changes.items():
        (operands if name in operands else attrs)[name] = value
    return Drawn("GroupQueryAttention", operands, ["y", "pk2", "pv2"], attrs)


@pytest.mark.parametrize(
    ("case", "error", "words"),
    [
        (grouped(sliding_window_cache=1, local_window_size=4), UnsupportedOperator, "sliding_window_cache"),
        (grouped(k_quant_type="PER_TENSOR"), UnsupportedOperator, "quantised cache"),
        (grouped(k=normal(RNG, 1, 2, 16)), ShapeError, "does not go with the query"),
        (grouped(total=np.array(0, np.int32)), ShapeError, "total_sequence_length"),
        (grouped(do_rotary=1), ShapeError, "cos_cache"),
        (grouped(ends=np.array([4], np.int64)), DTypeError, "expected is i32"),
        (
            Drawn("RotaryEmbedding", {"x": normal(RNG, 1, 2, 32), "at": np.array([0]), "c": normal(RNG, 9, 5),
                                      "s": normal(RNG, 9, 5)}, ["y"], {"num_heads": 2}),
            ShapeError, "half as many columns",
        ),
        (
            Drawn("SkipLayerNormalization", {"x": normal(RNG, 1, 2, 8), "s": normal(RNG, 1, 3, 8),
                                             "g": normal(RNG, 8)}, ["y"]),
            ShapeError, "skip",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(case: Drawn, error: type[NnjitError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        LocalSession(case.model()).run(case.feeds)
    assert "node" in caught.value.fields
    assert caught.value.hint


def test_a_domain_without_an_import() -> None:
    """onnxruntime takes such models, and its own optimizer writes them."""
    node = helper.make_node("QuickGelu", ["x"], ["y"], domain="com.microsoft")
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node], "g", [info("x", onnx.TensorProto.FLOAT, [3])], [info("y", onnx.TensorProto.FLOAT, [3])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    x = np.array([-1, 0, 2], np.float32)
    found = LocalSession(model.SerializeToString()).run({"x": x})["y"]
    np.testing.assert_allclose(found, x / (1 + np.exp(-1.702 * x)), rtol=1e-5)
