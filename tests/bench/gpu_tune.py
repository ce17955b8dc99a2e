"""The tuner on a GPU: models tuned through the public API, and the list of schedules against the whole space.

    python3 serve.py tune resnet-50 --backend webgpu --gap -1      one model, as without --backend
    python3 serve.py tune --backend webgpu --sample 150            listed schedules and 150 others of five products

The browser and the adapter that is expected come from NNJIT_DEVICE_* (tests/device/conftest.py).
"""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from playwright.sync_api import Page, sync_playwright

from nnjit.codegen.expr import UnsupportedExpr
from nnjit.codegen.schedule.steps import Schedule, ScheduleError, describe
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.runtime.gpu_bench import GpuBench
from nnjit.tune.space_gpu import gpu_space
from tests.bench.gpu import product_spec
from tests.device.conftest import ADAPTER, executable, flags, vendor
from tests.support.browser import Lab

SHAPES = (
    (128, 768, 3072),
    (384, 768, 768),
    (640, 3072, 768),
    (1024, 1024, 1024),
    (49, 960, 160),
    (1, 2048, 2048),
)
ROUNDS = 5

OPEN = """async () => {
  const { GpuClient } = await import('/engine/webgpu/client.js');
  window.client = await GpuClient.start();
  await client.pace({ mode: 'now' });
  await client.openLab('lab');
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  window.revive = (operands) => operands.map((o) => (o.pattern ? { ...o, pattern: bytes(o.pattern) } : o));
  return client.facts;
}"""
SETUP = "async (setup) => (await client.labSetup('lab', { ...setup, operands: revive(setup.operands) })).ms"
TRIALS = """async (trials) => {
  const found = [];
  for (const trial of trials) found.push(await client.labTrial('lab', trial));
  return found;
}"""


@contextmanager
def on_device() -> Iterator[Lab]:
    """A server and the browser whose adapter is meant; SystemExit on another one."""
    from nnjit.devtools.cli import Project
    from nnjit.devtools.httpd import Server

    project = Project()
    project.vendor.ensure("runtime")
    project.dist.refresh()
    server = Server(project.site())
    server.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable(), args=flags())
            lab = Lab(server, browser)
            page = lab.page()
            adapter = page.evaluate(ADAPTER)
            page.context.close()
            if vendor() not in adapter.lower():
                raise SystemExit(f"the adapter is {adapter!r}; {vendor()!r} is expected")
            yield lab
            browser.close()
    finally:
        server.shutdown()
        server.server_close()


def timed(
    page: Page, spec: KernelSpec, target: WgslTarget, schedules: list[Schedule], first: Schedule
) -> list[float]:
    """Each schedule's time over the first one's, medians of rounds in turn; infinite where it does not fit the device,
    is wrong, or takes far longer."""
    bench = GpuBench(spec, target)
    setup = bench.setup(first)
    operands = [
        {**o, "pattern": base64.b64encode(o["pattern"]).decode()} if "pattern" in o else o
        for o in setup["operands"]
    ]
    page.evaluate(SETUP, {**setup, "operands": operands})
    ratios, kernels = [float("inf")] * len(schedules), []
    for i, schedule in enumerate(schedules):
        try:
            kernels.append((i, bench.candidate(schedule)[0]))
        except (ScheduleError, UnsupportedExpr):
            continue
    for at in range(0, len(kernels), 16):
        part = kernels[at : at + 16]
        reports = page.evaluate(TRIALS, [{"kernel": k, "rounds": ROUNDS} for _, k in part])
        for (i, _), r in zip(part, reports, strict=True):
            if r["verdict"] == "timed":
                ratios[i] = median(b / a for a, b in zip(r["base"], r["mine"], strict=True))
    return ratios


def sample(lab: Lab, count: int, seconds: float, out: Path) -> str:
    """A row a product: the default, the best listed schedule and the best of all that were timed. Takes at most so many
    seconds; what was measured is in out/gpu-spaces.json."""
    page = lab.page()
    page.set_default_timeout(0)
    target = WgslTarget.read(page.evaluate(OPEN))
    draw, rows, begun = random.Random(1), [], time.monotonic()
    for m, k, n in SHAPES:
        if time.monotonic() - begun > seconds:
            break
        spec = product_spec(m, k, n)
        space = gpu_space(spec, target)
        listed = space.lite()
        others = space.drawn(draw, count, set(listed))
        start = time.monotonic()
        mine = timed(page, spec, target, listed, listed[0])
        took = time.monotonic() - start
        theirs = timed(page, spec, target, others, listed[0])
        finite = [r for r in theirs if r < float("inf")]
        best = min(*mine, *theirs)
        whole = [*mine, *theirs].index(best)
        rows.append(
            {"shape": [m, k, n], "kind": space.kind, "raw": space.raw, "listed": len(listed), "others": len(finite),
             "default": best, "best": best / min(mine), "at": mine.index(min(mine)), "seconds": took,
             "schedule": describe([*listed, *others][whole]), "ratios": [round(r, 4) for r in mine if r < 99]}
        )  # fmt: skip
        out.mkdir(parents=True, exist_ok=True)
        (out / "gpu-spaces.json").write_text(json.dumps(rows, indent=1))
    head = (
        "m k n",
        "raw",
        "listed",
        "others",
        "default over best",
        "best listed over best",
        "its place",
        "listed, s",
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [
        f"| {' '.join(map(str, r['shape']))} | {r['raw']:,} | {r['listed']} | {r['others']} | {r['default']:.1%} "
        f"| {r['best']:.1%} | {r['at'] + 1} | {r['seconds']:.1f} |"
        for r in rows
    ]
    page.context.close()
    return "\n".join(lines)
