"""bf16, fp8, fp6, fp4 and small integers by hand: bit for bit what ml_dtypes does, and usable without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnjit.graph import small_types
from nnjit.graph.dtypes import BITS, NUMPY

FLOATS = [
    "float8e4m3fn",
    "float8e4m3fnuz",
    "float8e5m2",
    "float8e5m2fnuz",
    "float6e2m3",
    "float6e3m2",
    "float4e2m1",
]
INTS = ["int4", "uint4", "int2", "uint2"]
WIDTH = {"float6e2m3": 6, "float6e3m2": 6}


def every_code(dtype: str) -> np.ndarray:
    return np.arange(1 << WIDTH.get(dtype, BITS[dtype]))


def numbers() -> np.ndarray:
    rng = np.random.default_rng(5)
    wide = rng.standard_normal(20000) * np.exp2(rng.integers(-20, 20, 20000))
    edges = [
        0.0,
        -0.0,
        1.0,
        448.0,
        464.0,
        465.0,
        480.0,
        57344.0,
        61440.0,
        61441.0,
        240.0,
        248.0,
        6.0,
        7.0,
        2.5,
        1e-9,
    ]
    return np.concatenate([wide, edges, np.negative(edges)]).astype(np.float32)


def same_bits(a: np.ndarray, b: np.ndarray, dtype: str) -> None:
    mask = (1 << WIDTH.get(dtype, BITS[dtype])) - 1
    np.testing.assert_array_equal(small_types.bits(a, dtype) & mask, small_types.bits(b, dtype) & mask)


@pytest.mark.parametrize("dtype", [*FLOATS, "bf16", "float8e8m0"])
def test_decode_every_code(dtype: str) -> None:
    array = small_types.from_bits(every_code(dtype), dtype)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(small_types.decode(array, dtype), array.astype(np.float32))


@pytest.mark.parametrize("dtype", [*FLOATS, "bf16"])
def test_encode_rounds_to_nearest_even(dtype: str) -> None:
    x = numbers()
    with np.errstate(all="ignore"):
        same_bits(small_types.encode(x, dtype, saturate=False), x.astype(NUMPY[dtype]), dtype)


@pytest.mark.parametrize("dtype", FLOATS[:4])
def test_encode_saturates(dtype: str) -> None:
    top = float(np.nanmax(np.where(np.isfinite(table := small_types._table(dtype)), table, np.nan)))
    x = np.concatenate([numbers(), np.array([np.inf, -np.inf, 1e30], np.float32)])
    same_bits(small_types.encode(x, dtype), np.clip(x, -top, top).astype(NUMPY[dtype]), dtype)
    assert np.isnan(small_types.decode(small_types.encode(np.array([np.nan]), dtype), dtype)).all()


@pytest.mark.parametrize("mode", ["up", "down", "nearest"])
def test_powers_of_two(mode: str) -> None:
    from onnx.numpy_helper import to_float8e8m0

    x = np.abs(numbers())
    same_bits(small_types.encode(x, "float8e8m0", True, mode), to_float8e8m0(x, True, mode), "float8e8m0")


@pytest.mark.parametrize("dtype", INTS)
def test_integers(dtype: str) -> None:
    low, high = (
        (-(1 << BITS[dtype] - 1), (1 << BITS[dtype] - 1) - 1)
        if dtype[0] == "i"
        else (0, (1 << BITS[dtype]) - 1)
    )
    whole = np.arange(low, high + 1)
    array = whole.astype(NUMPY[dtype])
    np.testing.assert_array_equal(small_types.decode(array, dtype), whole)
    np.testing.assert_array_equal(
        small_types.encode(whole + 0.7 * np.sign(whole), dtype).astype(np.int8), whole
    )


SCRIPT = """
import sys, types
import numpy as np
from nnjit.runtime.bridge_install import _ml_dtypes
sys.modules["ml_dtypes"] = _ml_dtypes()
from onnx import parser
from nnjit.frontend import BytesSource, load
from nnjit.graph.dtypes import NUMPY
from nnjit.graph.reference import run_graph
from nnjit.graph.small_types import bits_only, decode, encode

def check(kind, dtype, body, wanted, out="float"):
    assert bits_only(dtype)
    text = f'<ir_version: 10, opset_import: ["" : 23]> g ({kind}[4] x) => ({out}[4] y) {{ {body} }}'
    graph = load(BytesSource(parser.parse_model(text).SerializeToString())).bind()
    found = run_graph(graph, {"x": encode(np.array([0, 1, 2, 3], np.float32), dtype)})["y"]
    found = decode(found, dtype) if bits_only(dtype) and found.dtype == NUMPY[dtype] else found
    assert found.tolist() == wanted, (dtype, body, found)

check("bfloat16", "bf16", "y = Add(x, x)", [0, 2, 4, 6], "bfloat16")
check("bfloat16", "bf16", "a = Exp(x) b = Log(a) y = Cast<to = 1>(x)", [0, 1, 2, 3])
check("float8e4m3fn", "float8e4m3fn", "y = Cast<to = 1>(x)", [0, 1, 2, 3])
check("uint4", "uint4", "s = Constant<value_float = 0.5>() y = DequantizeLinear(x, s)", [0, 0.5, 1, 1.5])
turn = "a = Constant<value_ints = [2, 2]>() b = Constant<value_ints = [4]>()"
turn += " r = Reshape(x, a) t = Transpose<perm = [1, 0]>(r) u = Reshape(t, b)"
check("int4", "int4", turn + " y = Cast<to = 1>(u)", [0, 2, 1, 3])
c = "c = Constant<value_ints = [4]>() k = ConstantOfShape<value = bfloat16[1] {16384}>(c)"  # the bits of 2.0
check("bfloat16", "bf16", c + " y = Mul(x, k)", [0, 2, 4, 6], "bfloat16")
print("ok")
"""


def test_reference_without_ml_dtypes() -> None:
    """In a process of its own: there the module is the stand-in that a page without the wheel gets."""
    root = Path(__file__).parents[3]
    env = {**os.environ, "PYTHONPATH": str(root / "py")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=env, check=False
    )
    assert done.stdout.strip() == "ok", done.stderr[-2000:]
