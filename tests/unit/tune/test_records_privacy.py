"""docs/records.md says what a report holds; here the wire format is held to it, and models are looked for in it."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnjit.frontend import BytesSource, load
from nnjit.lower.build import lower
from nnjit.lower.lowered import Kernel
from nnjit.runtime.plan import Target
from nnjit.tune.device_class import wasm_device
from nnjit.tune.records import MAX_BYTES, TARGETS, VERDICTS, Record, Timing, encode, spec_text

DOCS = (Path(__file__).parents[3] / "docs" / "records.md").read_text()
DEVICE = wasm_device("v8", 156, "x86", "fused", 2, 2, 1 << 20).name
SECRETS = [0.7341982, 3.1415927, -2.7182817, 1234.5678]
"""Weights of one element, and short vectors of equal ones: the compiler makes literals of them."""


def documented() -> dict[str, str]:
    """field -> what, from the table of the section."""
    section = DOCS.split("## What a record holds")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \| ", section, re.MULTILINE))


def secret_model() -> bytes:
    """A small network all of whose names are words to look for and whose scalars are SECRETS."""
    weights = {
        "alices_weights": np.full((8, 8), 0.5, np.float32) * np.arange(8, dtype=np.float32),
        "bobs_scale": np.float32(SECRETS[0]).reshape(()),
        "carols_bias": np.full(8, SECRETS[1], np.float32),
        "daves_low": np.float32(SECRETS[2]).reshape(()),
        "erins_high": np.float32(SECRETS[3]).reshape(()),
    }
    nodes = [
        helper.make_node("MatMul", ["victors_input", "alices_weights"], ["peggys_product"], "mallorys_matmul"),
        helper.make_node("Mul", ["peggys_product", "bobs_scale"], ["scaled_secret"], "mallorys_mul"),
        helper.make_node("Add", ["scaled_secret", "carols_bias"], ["shifted_secret"], "mallorys_add"),
        helper.make_node("Clip", ["shifted_secret", "daves_low", "erins_high"], ["clipped_secret"], "mallorys_clip"),
        helper.make_node("Softmax", ["clipped_secret"], ["softened_secret"], "mallorys_softmax"),
        helper.make_node("ReduceMean", ["softened_secret"], ["walters_output"], "mallorys_mean", keepdims=0),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "trents_graph",
        [helper.make_tensor_value_info("victors_input", TensorProto.FLOAT, [5, 8])],
        [helper.make_tensor_value_info("walters_output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """A report's record of every kernel of that network."""
    graph = load(BytesSource(secret_model(), "oscars_file.onnx"), {}).bind(
        shapes={"victors_input": (5, 8)}, dims={}
    )
    steps = [s for s in lower(graph, Target()).steps if isinstance(s, Kernel)]
    assert any(repr(SECRETS[0])[:5] in s.spec.describe() for s in steps), (
        "no literal to hide: the test is blind"
    )
    assert any("clip" in s.spec.name or "mul" in s.spec.name for s in steps), (
        "no name to hide: the test is blind"
    )
    times = Timing.of([12.345]), Timing.of([23.456])
    return [encode(Record("wasm", DEVICE, spec_text(s.spec), s.schedule, "timed", *times)) for s in steps]


def test_the_fields_are_those_of_the_docs(lines: list[str]) -> None:
    assert lines
    for line in lines:
        value = json.loads(line)
        assert set(value) == set(documented())
        for timing in (value["time"], value["default"]):
            assert set(timing) == {"median", "spread", "samples"}
    for name in (*TARGETS, *VERDICTS):
        assert f"`{name}`" in documented()["target"] + documented()["verdict"], name
    assert f"at most {MAX_BYTES // 1024} KiB" in DOCS
    assert f"`{DEVICE}`".replace("`", '"') in DOCS


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [x for k, v in value.items() for x in (k, *leaves(v))]
    return [x for v in value for x in leaves(v)] if isinstance(value, list) else [value]


def test_no_name_is_in_a_report(lines: list[str]) -> None:
    words = {
        w for w in re.findall(r"[a-z]+", secret_model().decode("latin1")) if w.endswith("s") and len(w) > 3
    }
    words |= {
        "secret",
        "product",
        "output",
        "scale",
        "graph",
        "oscar",
        "mallory",
        "alice",
        "clip",
        "softmax",
        "matmul",
    }
    for line in lines:
        assert not [w for w in words - {"timed", "axis", "axes"} if w in line.lower()]


def test_no_weight_is_in_a_report(lines: list[str]) -> None:
    """Neither a scalar's digits nor its bits; numbers with a point are times alone."""
    for line in lines:
        value = json.loads(line)
        for secret in SECRETS:
            bits = int(np.float32(secret).view(np.uint32))
            for text in (f"{abs(secret):.3f}"[:-1], str(bits), f"{bits:x}"):
                assert text not in line
        assert {x for x in leaves(value) if isinstance(x, float)} <= {12.3, 23.5, 0.0}
        assert not re.search(r"\d\.\d|\de[+-]?\d", value["spec"])


def test_every_word_of_a_spec_is_the_compilers(lines: list[str]) -> None:
    """Operations, types, axes of a letter and a digit, locals: what the text may be made of."""
    for line in lines:
        value = json.loads(line)
        assert set(value["spec"]) <= set(string.ascii_letters + string.digits + " \n$%_[](),:*+-=<.")
        for axis in re.findall(r"(\w+):\d+", value["spec"]):
            assert len(axis) <= 3
