"""Drivers that do not do what WGSL says: a shader that is rejected, numbers that are wrong. The page plays them: its
`createShaderModule` changes some shaders on their way to the real one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.browser.api_page import Api
from tests.device.test_tuning import net

FAULTY = """async ([path, x, { label, shared, change }]) => {
  const nnjit = (await import('/nnjit.js')).default;
  const python = `import nnjit.runtime.bridge_proof as b; b.PROVEN.clear(); b.GPU_PROOF['quietMs'] = `;
  const { saveFacts } = await import('/api/tuning-store.js');
  const { adapterKey } = await import('/api/gpu-facts.js');
  const { getGpu } = await import('/api/workers.js');
  const { client } = await getGpu();
  const forget = async (quietMs) => {
    await saveFacts(`${adapterKey(client)}|proven`, { shaders: [] }); // the driver is another one now
    await nnjit.python(python + quietMs);
  };
  await forget(30);
  const { createShaderModule } = GPUDevice.prototype;
  let changed = 0;
  GPUDevice.prototype.createShaderModule = function (how) {
    const theirs = new RegExp(label).test(how.label) && (!shared || how.code.includes('var<workgroup>'));
    if (theirs) changed++;
    return createShaderModule.call(this, theirs ? { ...how, code: how.code.replaceAll(...change) } : how);
  };
  const session = await create(path, { executionProviders: ['webgpu'] });
  try {
    const run = async () => Array.from((await session.run({ x: T('float32', new Float32Array(x), [33, 36]) })).y.data);
    const first = await run();
    const until = async (what) => {
      for (const end = performance.now() + 20000; !what() && performance.now() < end;) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    };
    let known = -1;
    let last = first;
    while (session.stats().proof.wrong.length > known) {
      known = session.stats().proof.wrong.length;
      await until(() => session.stats().proof.settled);
      last = await run();
    }
    const { proof } = session.stats();
    return { first, last, changed, proof, placement: session.placement(), backend: session.backend };
  } finally {
    GPUDevice.prototype.createShaderModule = createShaderModule;
    await session.release();
    await forget(300);
  }
}"""


def faulty(gpu: Api, label: str, shared: bool, change: tuple[str, str]) -> tuple[dict[str, Any], Any]:
    data, feeds, wanted = net()
    how = {"label": label, "shared": shared, "change": change}
    return gpu.run(FAULTY, [gpu.put("faulty.onnx", data), feeds["x"].reshape(-1).tolist(), how]), wanted


def near(values: Any, wanted: Any) -> bool:
    return bool(np.allclose(np.reshape(values, wanted.shape), wanted, rtol=2e-5, atol=2e-5))


def test_a_kernel_whose_shader_is_rejected_is_made_otherwise(gpu: Api) -> None:
    found, wanted = faulty(gpu, "gemm|matmul", True, ("@compute", "nonsense @compute"))
    assert found["changed"] >= 3 and near(found["first"], wanted) and near(found["last"], wanted)
    assert found["backend"] == "webgpu" and not found["proof"]["wrong"]
    assert "reference" not in {row["backend"] for row in found["placement"]}


def test_kernels_that_are_right_are_looked_at_after_the_first_run(gpu: Api) -> None:
    found, wanted = faulty(gpu, "none", False, ("", ""))
    assert found["proof"] == {"checked": 4, "unchecked": 0, "wrong": [], "done": True, "settled": True}
    assert found["changed"] == 0 and near(found["last"], wanted)


@pytest.mark.parametrize("shared", [True, False])
def test_wrong_numbers_are_found_and_another_kernel_takes_over(gpu: Api, shared: bool) -> None:
    """The kernels that the rules chose are wrong, or all that do such a product: the reference has its nodes then."""
    found, wanted = faulty(gpu, "gemm|matmul", shared, ("fma(", "0.5f * fma("))
    assert not near(found["first"], wanted), "the page did not play its part"
    assert near(found["last"], wanted)
    assert found["proof"]["wrong"] and all("definition gives" in line for line in found["proof"]["wrong"])
    placed = {
        row["op"]: row["backend"] for row in found["placement"] if row["backend"] in ("webgpu", "reference")
    }
    assert placed["Softmax"] == "webgpu"
    assert placed["MatMul"] == placed["Gemm"] == ("webgpu" if shared else "reference"), found["placement"]
