"""The tuner on a GPU: models tuned through the public API, and the list of schedules against the whole space.

    python3 serve.py tune resnet-50 --backend webgpu --gap -1      one model, as without --backend
    python3 serve.py tune --backend webgpu --sample 150            listed schedules and 150 others of each kernel below
    python3 serve.py tune f16 rows --backend webgpu --sample 20    the same of some families
    python3 serve.py tune f32 --backend webgpu --sample 400 --near 1.7   others that the cost model thinks well of

The browser and the adapter that is expected come from NNJIT_DEVICE_* (tests/device/conftest.py).
"""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from statistics import median

from onnx import TensorProto, helper
from playwright.sync_api import Page, sync_playwright

from nnjit import frontend
from nnjit.codegen.expr import UnsupportedExpr
from nnjit.codegen.schedule.steps import Schedule, ScheduleError, describe
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.runtime.gpu_bench import GpuBench
from nnjit.runtime.gpu_compile import compile_gpu
from nnjit.runtime.gpu_memory import GpuMemory
from nnjit.tune.space import Space
from nnjit.tune.space_gpu import gpu_space
from tests.bench.gpu.rows import spaces_table
from tests.bench.gpu.specs import attention_model, product_spec
from tests.device.conftest import ADAPTER, executable, flags, vendor
from tests.support.browser import Lab

PRODUCTS = (
    (128, 768, 3072), (384, 768, 768), (640, 3072, 768), (1024, 1024, 1024), (49, 960, 160), (127, 511, 1023),
)  # fmt: skip
VECTORS = (
    (2048, 2048, "kn"), (4096, 4096, "kn"), (768, 3072, "kn"),
    (2048, 2048, "nk"), (4096, 4096, "nk"), (3072, 768, "nk"),
)  # fmt: skip
ATTENTIONS = ((12, 384, 64), (12, 1024, 64), (8, 256, 64), (32, 512, 128), (12, 197, 64), (16, 77, 64))
ROWS = (
    ("Softmax", (384, 384)), ("Softmax", (12, 50257)), ("LayerNormalization", (384, 768)), ("Erf", (384, 3072)),
    ("ReduceMean", (1280, 49)), ("ReduceMax", (64, 100000)),
)  # fmt: skip
ROUNDS = 5
FAMILIES = ("f32", "f16", "i8", "row", "attention", "rows")

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
# pipelines are compiled side by side beforehand: the browser gives a living one to who asks for the same
TRIALS = """async (trials) => {
  const { ShaderKernel } = await import('/engine/webgpu/shader.js');
  const shaders = trials.flatMap(({ kernel }) => [kernel.shader, ...kernel.packs.map((p) => p.shader)]);
  window.kept = await Promise.allSettled(shaders.map((s) => ShaderKernel.create(client.gpu.device, s)));
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


FINALISTS = 6
"""Of all that were timed, the best are timed again: the least of many noisy times is too small."""


@dataclass(slots=True)
class Trials:
    """A kernel in the browser's lab, and what schedules of it take there, over what its first one takes."""

    page: Page
    bench: GpuBench

    @staticmethod
    def of(page: Page, spec: KernelSpec, target: WgslTarget, first: Schedule) -> Trials:
        bench = GpuBench(spec, target)
        setup = bench.setup(first)
        operands = [
            {**o, "pattern": base64.b64encode(o["pattern"]).decode()} if "pattern" in o else o
            for o in setup["operands"]
        ]
        page.evaluate(SETUP, {**setup, "operands": operands})
        return Trials(page, bench)

    def fits(self, schedule: Schedule) -> bool:
        """Whether there is a shader of it that the device can have."""
        try:
            self.bench.candidate(schedule)
        except (ScheduleError, UnsupportedExpr):
            return False
        return True

    def timed(self, schedules: Sequence[Schedule]) -> dict[Schedule, float]:
        """Medians of rounds in turn with the first one; nothing of one that does not fit or is refused. One that is
        hopeless is left after fewer rounds."""
        found: dict[Schedule, float] = {}
        fitting = [s for s in schedules if self.fits(s)]
        for at in range(0, len(fitting), 16):
            part = fitting[at : at + 16]
            trials = [{"kernel": self.bench.candidate(s)[0], "rounds": ROUNDS} for s in part]
            for schedule, r in zip(part, self.page.evaluate(TRIALS, trials), strict=True):
                if r["verdict"] in ("timed", "slow"):
                    found[schedule] = median(b / a for a, b in zip(r["base"], r["mine"], strict=False))
        return found


def others(
    space: Space,
    fits: Callable[[Schedule], bool],
    draw: random.Random,
    count: int,
    listed: Sequence[Schedule],
    near: float = 0.0,
) -> tuple[list[Schedule], int]:
    """Up to `count` schedules of the raw space that are not listed and fit the device, drawn at random, and how many
    choices were looked at to find them: all of them if there are no more. near: only those that the cost model expects
    to take so many times what it expects of the best."""
    choices = list(space.choices())
    if near:
        costs = [space.cost(c) for c in choices]
        most = near * min((c for c in costs if c is not None), default=0.0)
        choices = [c for c, cost in zip(choices, costs, strict=True) if cost is not None and cost <= most]
    draw.shuffle(choices)
    seen, found = set(listed), []
    for n, choice in enumerate(choices):
        if len(found) == count:
            return found, n
        schedule = space.build(choice)
        if schedule not in seen:
            seen.add(schedule)
            if fits(schedule):
                found.append(schedule)
    return found, len(choices)


def kernels(family: str, target: WgslTarget) -> Iterator[tuple[str, KernelSpec]]:
    """What a family is tried on, each with its name."""
    if family in ("f32", "i8") or (family == "f16" and target.half):
        for m, k, n in PRODUCTS:
            yield f"{m} {k} {n}", product_spec(m, k, n, family, "nk" if family == "i8" else "kn")
    elif family == "row":
        for k, n, right in VECTORS:
            yield f"1 {k} {n} {right}", product_spec(1, k, n, "f32", right, constant=True)
    elif family == "attention":
        for heads, length, depth in ATTENTIONS:
            data = attention_model(heads, length, depth, "f32")
            shapes = dict.fromkeys("qkv", (1, heads, length, depth))
            yield f"{heads} {length} {depth}", first_kernel(data, shapes, target)
    elif family == "rows":
        for op, shape in ROWS:
            yield f"{op} {shape[0]} {shape[1]}", first_kernel(one_node(op, shape), {"x": shape}, target)


def first_kernel(data: bytes, shapes: dict[str, tuple[int, ...]], target: WgslTarget) -> KernelSpec:
    graph = frontend.load(frontend.BytesSource(data, "m.onnx"), {}).bind(shapes)
    return compile_gpu(graph, target, GpuMemory()).kernel_of(0).spec


def one_node(op: str, shape: tuple[int, ...]) -> bytes:
    """y = op(x) along the last axis."""
    f, scale = TensorProto.FLOAT, op == "LayerNormalization"
    attributes: dict[str, object] = {} if op == "Erf" else {"axis": -1}
    inputs = ["x", "s"] if scale else ["x"]
    initializers = [helper.make_tensor("s", f, shape[-1:], [1.5] * shape[-1])] if scale else []
    if op.startswith("Reduce"):
        attributes = {"keepdims": 0}
        inputs.append("axes")
        initializers.append(helper.make_tensor("axes", TensorProto.INT64, [1], [1]))
    node = helper.make_node(op, inputs, ["y"], **attributes)
    info = [helper.make_tensor_value_info("x", f, shape), helper.make_tensor_value_info("y", f, None)]
    graph = helper.make_graph([node], "one", info[:1], info[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    made: bytes = model.SerializeToString()
    return made


def sample(
    lab: Lab, count: int, seconds: float, out: Path, families: Sequence[str] = (), near: float = 0.0
) -> str:
    """A row a kernel: the default, the best listed schedule and the best of all that were timed, those of the list and
    up to `count` others, which are all there are in a small space. Families take turns, and no kernel begins after so
    many seconds; what was measured is in out/gpu-spaces.json."""
    page = lab.page()
    page.set_default_timeout(0)
    target = WgslTarget.read(page.evaluate(OPEN))
    draw, rows, begun = random.Random(1), [], time.monotonic()
    turns = zip_longest(*([(f, *made) for made in kernels(f, target)] for f in families or FAMILIES))
    for family, name, spec in (one for turn in turns for one in turn if one):
        if time.monotonic() - begun > seconds:
            break
        space = gpu_space(spec, target)
        listed = space.lite()
        lab_of = Trials.of(page, spec, target, listed[0])
        start = time.monotonic()
        mine = lab_of.timed(listed)
        took = time.monotonic() - start
        drawn, looked = others(space, lab_of.fits, draw, count, listed, near)
        both = mine | lab_of.timed(drawn)
        rows.append(_row(family, name, space, listed, mine, both, took, lab_of))
        rows[-1] |= {"looked": looked, "whole": looked == space.raw}
        if near:
            rows[-1] |= {"near": near, "timed": [describe(s) for s in both]}
        out.mkdir(parents=True, exist_ok=True)
        (out / "gpu-spaces.json").write_text(json.dumps(rows, indent=1))
        print(spaces_table(rows[-1:]).splitlines()[-1], flush=True)
    page.context.close()
    return spaces_table(rows)


def _row(
    family: str, name: str, space: Space, listed: list[Schedule], mine: dict[Schedule, float],
    both: dict[Schedule, float], took: float, trials: Trials,
) -> dict[str, object]:  # fmt: skip
    """What was found of a kernel. The best of the list, the best of all and the rules' own are timed once more, with
    the runners-up of both."""
    some = [sorted(d, key=lambda s: d[s])[:FINALISTS] for d in (mine, both)]
    finals = trials.timed(list(dict.fromkeys((*some[0], *some[1]))))
    again = {listed[0]: 1.0} | finals
    best = min(again, key=lambda s: again[s])
    chosen = min((s for s in again if s in mine or s == listed[0]), key=lambda s: again[s])
    return {
        "family": family, "kernel": name, "kind": space.kind, "raw": space.raw, "listed": len(listed),
        "others": len(both) - len(mine), "slow": sum(1 for s, r in both.items() if s not in mine and r > 1.5),
        "default": 1 / again[best], "best": again[chosen] / again[best], "at": listed.index(chosen),
        "seconds": took, "schedule": describe(best), "ratios": [round(r, 4) for r in both.values()],
    }  # fmt: skip
