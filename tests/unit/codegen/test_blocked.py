"""Channels in blocks are strides like any other: the same layer in each order gives the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.wasm.target import Target
from tests.bench.blocked.specs import BLOCKS, POOLS, block_of, extents, layer_spec
from tests.bench.operators.layers import Layer, parse
from tests.support.kernels import run_spec
from tests.support.schedules import packed

SMALL = [
    parse("48x7x5-24", "1x1"), parse("16x9x7-48", "1x1/2"), parse("24x6x5-16", "3x3+1"), parse("3x9x9-24", "3x3/2+1"),
    parse("48x7x9-dw", "3x3+1"), parse("24x9x8-dw", "5x5/2+2"), Layer(48, 8, 6, 48, (2, 2), 2, groups=0),
]  # fmt: skip


def test_layers_of_the_study_have_blocks() -> None:
    assert {block_of(p.channels, b) for p in POOLS for b in BLOCKS} <= {*BLOCKS}


def blocked(x: np.ndarray, block: int) -> np.ndarray:
    """[y, x, c] with channels last to [c // block, y, x, c % block]."""
    h, w, c = x.shape
    return np.ascontiguousarray(x.reshape(h, w, c // block, block).transpose(2, 0, 1, 3))


@pytest.mark.parametrize("layer", SMALL, ids=lambda layer: layer.name)
def test_blocks_give_what_channels_last_gives(layer: Layer) -> None:
    rng = np.random.default_rng(7)
    h, w, oh, ow = extents(layer)
    image = rng.standard_normal((h, w, layer.channels), np.float32)
    last = layer_spec(layer, 0)
    rest = [rng.standard_normal(o.size, np.float32) for o in last.operands[1:-1]]

    def run(block: int) -> np.ndarray:
        spec = canonical(layer_spec(layer, block))
        schedule = default_schedule(spec, Target())
        x = blocked(image, block_of(layer.channels, block) if block else layer.channels)
        inputs = packed(spec, schedule, [x.reshape(-1), *rest])
        return np.asarray(run_spec(spec, schedule, Target(), inputs)[-1])

    whole = run(0).reshape(oh, ow, layer.out)
    assert whole.any()
    for block in BLOCKS:
        expected = blocked(whole, block_of(layer.out, block)).reshape(-1)
        np.testing.assert_allclose(run(block), expected, rtol=1e-4, atol=1e-4)
