"""A norm in one kernel with what adds up the parts of a product, on a device: what a thread stored it reads again."""

from __future__ import annotations

import numpy as np
import pytest

from tests.browser.api_page import Api
from tests.device.running import on_device
from tests.support.row_blocks import Block
from tests.support.single import native

BLOCKS = [Block(deep=2048), Block((2, 3), other="reader", deep=2048), Block((2, 3), flat=True, deep=2048)]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("merge", [True, False])
def test_right(gpu: Api, block: Block, merge: bool) -> None:
    data, feeds = block.model()
    ran = on_device(gpu, data, feeds, mergeProducts=merge)
    assert ran.backend == "webgpu" and ran.reason == "" and not ran.elsewhere, ran
    for name, wanted in native(data, feeds).items():
        np.testing.assert_allclose(ran.outputs[name], wanted, rtol=5e-5, atol=5e-5, err_msg=name)
    where = {row["node"]: row for row in ran.placement}
    assert (where["product"]["step"] == where["norm"]["step"]) == merge
    assert ("of_sums" in where["norm"]["kernel"]) == merge
