"""What the tuner's list of a GPU holds beside the rules' own schedule."""

from __future__ import annotations

import numpy as np
import pytest

from nnjit.codegen.schedule.along import shared_bytes
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.gpu_rules import gpu_schedule
from nnjit.codegen.schedule.group_steps import Along, Digits
from nnjit.codegen.wgsl.emit import emit
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.tune.space import LIMIT
from nnjit.tune.space_gpu import gpu_space
from tests.bench.gpu.specs import bits_spec
from tests.support.few_bits import packed

SMALL = WgslTarget()
LARGE = WgslTarget(features=frozenset({"subgroups"}), max_workgroup=1024, max_shared_bytes=49152)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("k", "n"), [(4096, 4096), (4096, 11008), (11008, 4096)])
def test_digits_are_on_the_list_of_weights_in_words_but_not_the_rules_own(bits: int, k: int, n: int) -> None:
    spec = bits_spec(k, n, bits)
    listed = gpu_space(spec, LARGE).lite()
    with_digits = [s for s in listed if isinstance(s[-1], Digits)]
    assert listed[0] == gpu_schedule(spec, LARGE) and listed[0] not in with_digits
    assert len(listed) <= LIMIT and 10 <= len(with_digits) <= 2 * LIMIT // 3
    assert with_digits[0] in listed[:8], "one of the first that are tried"
    for schedule in with_digits[:6]:
        emit(apply(spec, schedule), LARGE)


@pytest.mark.parametrize(("rows", "bits", "block"), [(1, 8, 32), (2, 4, 128), (4, 8, 128)])
def test_rows_that_are_listed_fit_the_shared_memory(rows: int, bits: int, block: int) -> None:
    """Their sums meet there, and they may be staged there: with many threads that is more than 16 KiB."""
    spec = packed(np.random.default_rng(0), rows, 4096, 4096 // block, block * bits // 32, bits, "u8")[0]
    space = gpu_space(spec, SMALL)
    listed = space.lite(checked=False)
    assert space.kind == "along" and any(isinstance(s[-1], Digits) for s in listed)
    for schedule in listed:
        nest = apply(spec, schedule)
        emit(nest, SMALL)
        assert isinstance(schedule[0], Along)
        assert shared_bytes(schedule[0], rows) == 4 * sum(o.size for o in nest.shared)
