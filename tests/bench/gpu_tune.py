"""The tuner on a GPU: models tuned through the public API, and the list of schedules against the whole space.

    python3 serve.py tune resnet-50 --backend webgpu --gap -1      one model, as without --backend
    python3 serve.py tune --backend webgpu --sample 150            listed schedules and 150 others of each kernel below
    python3 serve.py tune f16 rows --backend webgpu --sample 20    the same of some families

The browser and the adapter that is expected come from NNJIT_DEVICE_* (tests/device/conftest.py).
"""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from nnjit.tune.space_gpu import gpu_space
from tests.bench.gpu import attention, product_spec
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
            data = attention(heads, length, depth, "f32")
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


def sample(lab: Lab, count: int, seconds: float, out: Path, families: Sequence[str] = ()) -> str:
    """A row a kernel: the default, the best listed schedule and the best of all that were timed. Families take turns,
    and no kernel begins after so many seconds; what was measured is in out/gpu-spaces.json."""
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
        others = space.drawn(draw, count, set(listed))
        start = time.monotonic()
        mine = timed(page, spec, target, listed, listed[0])
        took = time.monotonic() - start
        theirs = timed(page, spec, target, others, listed[0])
        finite = [r for r in theirs if r < float("inf")]
        best = min(*mine, *theirs)
        whole = [*mine, *theirs].index(best)
        rows.append(
            {"family": family, "kernel": name, "kind": space.kind, "raw": space.raw, "listed": len(listed),
             "others": len(finite), "default": best, "best": best / min(mine), "at": mine.index(min(mine)),
             "seconds": took, "schedule": describe([*listed, *others][whole]),
             "ratios": [round(r, 4) for r in mine if r < 99]}
        )  # fmt: skip
        out.mkdir(parents=True, exist_ok=True)
        (out / "gpu-spaces.json").write_text(json.dumps(rows, indent=1))
    head = (
        "family",
        "kernel",
        "raw",
        "listed",
        "others",
        "best over the rules' own",
        "best listed over best",
        "its place",
        "listed, s",
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [
        f"| {r['family']} | {r['kernel']} | {r['raw']:,} | {r['listed']} | {r['others']} | {r['default']:.1%} "
        f"| {r['best']:.1%} | {r['at'] + 1} | {r['seconds']:.1f} |"
        for r in rows
    ]
    page.context.close()
    return "\n".join(lines)
