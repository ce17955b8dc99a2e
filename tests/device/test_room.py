"""Plans with room on WebGPU: what a decoder's past becomes, on the processor and in buffers that stay on the device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.browser.api_page import Api
from tests.browser.room_page import agree, expected, set_up, size_of, with_room
from tests.support.decoder_models import SMALL, decoder

SIZE = replace(SMALL, layers=2)
MODEL = decoder(SIZE)
PROMPT = [int(v) for v in np.random.default_rng(5).integers(0, SIZE.vocabulary, 9)]


@pytest.mark.parametrize("location", ["cpu", "gpu-buffer", "cpu-pinned"])
def test_a_decoder_goes_on(gpu: Api, location: str) -> None:
    set_up(gpu)
    tokens, rows = expected(MODEL, SIZE, PROMPT, 8)
    found = gpu.run(
        """async ([path, size, prompt, location]) => {
          const options = { executionProviders: ['webgpu'], preferredOutputLocation: location, strict: true };
          const session = await create(path, options);
          const sequence = new Sequence(session, size, prompt);
          for (let i = 0; i < 8; i++) {
            const old = sequence.before;
            await sequence.token();
            if (location === 'gpu-buffer') for (const tensor of Object.values(old ?? {})) tensor.dispose();
          }
          const { location: place, dims } = sequence.before['present.1.key'];
          await session.release();
          return { ...sequence.found, place, dims };
        }""",
        [gpu.put("decoder.onnx", MODEL), size_of(SIZE), PROMPT, location],
    )
    agree(found, tokens, rows)
    assert with_room(found["keys"])
    assert found["place"] == ("gpu-buffer" if location == "gpu-buffer" else "cpu")
    assert found["dims"] == [1, SIZE.heads, 16, SIZE.depth]
