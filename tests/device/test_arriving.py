"""On WebGPU too a session is there before its model's weights, which go to the device as they come."""

from __future__ import annotations

import numpy as np

from tests.browser.api_page import Api
from tests.browser.gated import WIDTH, gated, layers


def test_weights_come_after_the_kernels(gpu: Api) -> None:
    model, weights = layers()
    x = np.random.default_rng(5).normal(0, 1, (2, WIDTH)).astype(np.float32)
    with gated(model.SerializeToString()) as (url, seen):
        found = gpu.run(
            """async ([url, x]) => {
              const session = await create(url, { executionProviders: ['webgpu'] });
              let over = false;
              const feeds = { x: T('float32', new Float32Array(x), [2, x.length / 2]) };
              const running = session.run(feeds).finally(() => (over = true));
              await new Promise((later) => setTimeout(later, 300));
              const before = over;
              await fetch(`${url}/go`);
              const { y } = await running;
              const { backend } = session;
              await session.release();
              return { backend, before, y: [...y.data] };
            }""",
            [f"{url}/ranges", x.reshape(-1).tolist()],
        )
    assert found["backend"] == "webgpu" and not found["before"]
    expected = x @ weights[0] @ weights[1] @ weights[2]
    np.testing.assert_allclose(np.reshape(found["y"], expected.shape), expected, rtol=1e-4, atol=1e-4)
    assert any(asked for _, asked in seen.asked)


def test_a_released_session_ends_runs_that_wait(gpu: Api) -> None:
    """The rest never comes."""
    model, _ = layers()
    with gated(model.SerializeToString()) as (url, _):
        found = gpu.run(
            """async ([url, width]) => {
              const session = await create(url, { executionProviders: ['webgpu'] });
              const run = failure(session.run({ x: T('float32', new Float32Array(width), [1, width]) }));
              await session.release();
              return (await run).code;
            }""",
            [f"{url}/stalls", WIDTH],
        )
    assert found == "SESSION"
