"""Kinds of steps, by which the bench says where a model's time goes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nnjit.codegen.expr import Index, acc, load, op
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from tests.bench.where import KINDS, Part, Run, kind_of
from tests.support import specs

RNG = np.random.default_rng(0)


def square_sum() -> KernelSpec:
    """Not a product, although it sums products."""
    x = load(0, Index.of("k"), "f32")
    stage = Stage((), (Axis("k", 4),), "sum", op("mul", x, x), acc("f32"), 1)
    return KernelSpec("squares", (), (stage,), (Operand("f32", 4, "in"), Operand("f32", 1, "out")))


def copy() -> KernelSpec:
    stage = Stage((), (), "sum", None, load(0, Index(0, {"i": 2}), "f32"), 1, Index.of("i"))
    return KernelSpec("copy", (Axis("i", 4),), (stage,), (Operand("f32", 8, "in"), Operand("f32", 4, "out")))


def negated() -> KernelSpec:
    spec = copy()
    return replace(spec, stages=(replace(spec.stages[0], result=op("neg", spec.stages[0].result)),))


@pytest.mark.parametrize(
    "spec, kind",
    [
        (specs.matmul(RNG, 2, 3, 4, bias=True)[0], "products"),
        (specs.byte_product(RNG, 2, 8, 4, "u8", "i8")[0], "products"),
        (specs.attention(RNG, 1, 1, 2, 5, 4, 4)[0], "attention"),
        (specs.softmax(RNG, 2, 5)[0], "norms"),
        (specs.layer_norm(RNG, 2, 5)[0], "norms"),
        (specs.reduction(RNG, 1, 4, 4, "max", "f32", "bc")[0], "rest"),
        (square_sum(), "rest"),
        (copy(), "copies"),
        (negated(), "rest"),
    ],
)
def test_kinds(spec: KernelSpec, kind: str) -> None:
    assert kind_of(spec.describe()) == kind and kind in KINDS


def test_a_row() -> None:
    """Shares of run(), products with their share of the peak."""
    parts = {k: Part() for k in KINDS} | {"products": Part(8.0, 0.4), "norms": Part(1.0)}
    row = Run("m", 1, 100.0, 10.0, 11.0, parts).row()
    assert row == "| m, 1 | 11.0, 10.0 | 9.0 | **40%** | 80.0% at 50% | – | 10.0% | – | – | 10.0% |"
