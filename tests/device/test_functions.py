"""Functions of one f32 on the device, over all exponents: what is a polynomial here to its bound, what is WGSL's own to
what the specification asks of it. NNJIT_FUNCTIONS=step takes every so many bit patterns and prints a table."""

from __future__ import annotations

import os

import numpy as np

from tests.browser.api_page import Api
from tests.device.running import on_device
from tests.fuzz import functions

STEP = int(os.environ.get("NNJIT_FUNCTIONS", "0"))
BOUNDS = {"Tanh": 8, "Erf": 1.5, "Atan": 6, "Sin": 4, "Cos": 4}
"""Units of the last place: those of tests/unit/codegen/test_math.py, and 2 more where there is a division, which WGSL
lets be 2.5 of them off."""


def test_functions(gpu: Api) -> None:
    x = functions.patterns(STEP or 262_147)
    x = x[
        np.isfinite(x) & (np.abs(x) >= functions.SMALLEST)
    ]  # denormals and infinities are left to the device
    far = np.array([1.6367173e7 * 2.0**72, -1e5, 2.0**17, 123456789.0], np.float32)
    x = np.concatenate([x, far, -far])
    names = list(functions.FUNCTIONS) if STEP else [*BOUNDS, "Tan", "Softplus", "Acosh"]
    ran = on_device(gpu, functions.model(names, len(x)), {"x": x})
    assert ran.backend == "webgpu" and not ran.elsewhere
    if STEP:
        print(*functions.table(x, {"WebGPU": ran.outputs}), sep="\n")
    for name, bound in BOUNDS.items():
        # near a multiple of pi what counts is the error itself; beyond 1e5 the reduction is exact
        some = np.abs(x) > 1e5 if name in ("Sin", "Cos") else np.full(len(x), True)
        off = functions.ulps(ran.outputs[name], functions.wanted(name, x))
        worst = int(np.argmax(np.where(some, off, 0)))
        assert off[worst] <= bound, f"{name}({x[worst]!r}) is {off[worst]} ulp off"
        if name in ("Sin", "Cos"):
            assert functions.absolute(ran.outputs[name], functions.wanted(name, x)) <= 2e-7, name
    # sums of a tiny number and 1: WGSL's exp is 3 + 2 |x| ulp off
    off = functions.ulps(ran.outputs["Softplus"], functions.wanted("Softplus", x))
    assert off[x > -80].max() <= 170
    off = functions.ulps(ran.outputs["Acosh"], functions.wanted("Acosh", x))
    assert off[x >= 1].max() <= 8
    with np.errstate(all="ignore"):
        off = functions.ulps(ran.outputs["Tan"], functions.wanted("Tan", x))
    assert off[np.abs(x) > 1e5].max() <= 8
