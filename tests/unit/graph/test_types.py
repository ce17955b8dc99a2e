"""Operand types against the schema, and damaged models: what cannot be right is said in typed errors."""

from __future__ import annotations

import random
from pathlib import Path

import onnx
import pytest

from nnjit.errors import DTypeError, InvalidGraph, NnjitError
from nnjit.frontend import BytesSource, load
from tests.unit.graph.tools import loaded, model_of


@pytest.mark.parametrize(
    ("inputs", "body", "word"),
    [
        ("float[2] a, int64[2] b", "y = Add(a, b)", "input 1 .'b'. is i64, expected is f32"),
        ("float[2] a, int64[2] b", "y = Concat<axis = 0>(a, b)", "input 1"),
        ("string[2] a, float[2] b", "y = Exp(a)", "is string"),
        ("float[2] a, float[2] b", "y = Gather(a, b)", "expected is i32 or i64"),
        ("float[2] a, float[2] b", "y = Where(a, b, b)", "expected is bool"),
        ("float[2] a, int64[2] b", "t = Neg(a) u = Neg(b) y = Mul(t, u)", "is i64"),  # inferred ones, too
    ],
)
def test_types_that_do_not_fit(inputs: str, body: str, word: str) -> None:
    with pytest.raises(DTypeError, match=word) as caught:
        loaded(f"g ({inputs}) => (float[2] y) {{ {body} }}")
    assert caught.value.fields["op"] in body and caught.value.fields["got"]


@pytest.mark.parametrize(
    "body",
    [
        "y = Where(c, a, a)",
        "k = Constant<value_ints = [0]>() y = Gather(a, k)",
        "s = Shape(a) z = ConstantOfShape(s) y = Add(a, z)",
        "t = CastLike(b, a) y = Pow(t, b)",  # an exponent may be of another type
        "l = SequenceConstruct(a, a) k = Constant<value_int = 0>() y = SequenceAt(l, k)",
    ],
)
def test_types_that_may_differ(body: str) -> None:
    loaded(f"g (float[2] a, int64[2] b, bool[2] c) => (float[2] y) {{ {body} }}")


def test_attribute_of_another_type() -> None:
    model = model_of("g (float[2,2] x) => (float[2,2] y) { y = Softmax<axis = 1>(x) }")
    model.graph.node[0].attribute[0].CopyFrom(onnx.helper.make_attribute("axis", 1.0))
    with pytest.raises(InvalidGraph, match="'axis' is of type FLOAT, not INT"):
        load(BytesSource(model.SerializeToString()))


SAMPLES = Path(onnx.__file__).parent / "backend" / "test" / "data"


@pytest.mark.parametrize("seed", range(8))
def test_damaged_models_give_typed_errors(seed: int) -> None:
    """A few bytes changed, taken out or put in: it loads or it is an NnjitError, nothing else."""
    chance = random.Random(seed)
    paths = sorted(SAMPLES.glob("*/*/model.onnx"))
    refused = 0
    for _ in range(250):
        data = bytearray(chance.choice(paths).read_bytes()[:20_000])
        for _ in range(chance.randint(1, 4)):
            at, way = chance.randrange(len(data)), chance.random()
            if way < 0.7:
                data[at] = chance.randrange(256)
            elif way < 0.85:
                del data[at : at + chance.randint(1, 4)]
            else:
                data[at:at] = chance.randbytes(chance.randint(1, 4))
        try:
            model = load(BytesSource(bytes(data)))
            model.bind(dims=dict.fromkeys(model.signature.symbols(), 2))
        except NnjitError as error:
            refused += 1
            assert error.hint and error.to_dict()["message"]
    assert refused > 100
