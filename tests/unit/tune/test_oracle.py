"""Probes of a spec against the whole spec evaluated at once."""

from __future__ import annotations

import numpy as np
import pytest

from nnjit.codegen.dtypes import NUMPY
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.spec import KernelSpec
from nnjit.tune import fills, oracle
from tests.support import specs

RNG = np.random.default_rng(0)
SPECS = {
    "softmax": specs.softmax(RNG, 5, 37)[0],
    "norm": specs.layer_norm(RNG, 4, 33)[0],
    "matmul": specs.matmul(RNG, 5, 7, 9, bias=True)[0],
    "conv": specs.conv(RNG, 6, 6, 5, 8, 3, 1, 1, 1, "f32")[0],
    "bytes": specs.matmul(RNG, 3, 5, 8, "i8")[0],
    "max": specs.reduction(RNG, 4, 5, 9, "max", "f32", "ac")[0],
    "attention": specs.attention(RNG, 2, 2, 7, 11, 5, 6)[0],
    "causal": specs.attention(RNG, 1, 2, 9, 9, 4, 3, causal=True)[0],
}


@pytest.mark.parametrize("name", SPECS)
def test_a_probe_is_an_element_of_the_whole(name: str) -> None:
    spec: KernelSpec = canonical(SPECS[name])
    patterns = {
        i: fills.fill_pattern(o.dtype, i, False) for i, o in enumerate(spec.operands) if o.role == "in"
    }
    inputs = [np.resize(np.frombuffer(p, NUMPY[spec.operands[i].dtype]), spec.operands[i].size)
              for i, p in patterns.items()]  # fmt: skip
    whole = specs.evaluate(spec, inputs)[0]
    found = oracle.probes(spec, 5)
    assert len(found) == 5 and len({p.at for p in found}) > 1
    for probe in found:
        value = oracle.expected(spec, probe, patterns)
        assert oracle.agrees(float(whole[probe.at]), value, spec, spec.operands[probe.operand].dtype)
        assert oracle.agrees(float("nan"), value, spec, "f32") is False


def test_repeated_patterns_are_arrays() -> None:
    buffer = fills.Repeated(np.arange(5, dtype=np.float32), 12)
    np.testing.assert_array_equal(buffer[np.arange(12)], np.resize(np.arange(5), 12))
    buffer.written[7] = 99.0
    assert list(buffer[np.array([6, 7, 8])]) == [1, 99, 3]


def test_an_infinity_is_matched_by_itself_alone() -> None:
    spec, inf = canonical(SPECS["matmul"]), float("inf")
    assert oracle.agrees(inf, inf, spec, "f32") and oracle.agrees(-inf, -inf, spec, "f16")
    for got, wanted in ((1.0, inf), (-inf, inf), (3e38, inf), (inf, 1.0), (0.0, -inf)):
        assert not oracle.agrees(got, wanted, spec, "f32")
