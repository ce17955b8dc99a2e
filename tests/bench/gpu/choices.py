"""What the rules choose for the products of a model beside the other schedules that they list.

    python3 serve.py bench --gpu choices --models resnet-50,roberta-base --batch 8 --candidates 8

Each distinct product or convolution of the model is timed alone by timestamp queries on a GPU at its full clock: as the
rules would do it (in parts with the kernel that adds them up, where they split it), by the first schedules on their
list, and in other numbers of parts. The sums over a model, each kernel as often as it is there, say what better rules
could save.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from math import prod
from typing import Any

from nnjit import frontend
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.gpu_parts import split_of, splits
from nnjit.codegen.schedule.gpu_products import products
from nnjit.codegen.schedule.gpu_roles import FEW_ROWS, roles
from nnjit.codegen.schedule.gpu_rules import gpu_schedule
from nnjit.codegen.schedule.split import PART, Split, halves
from nnjit.codegen.schedule.steps import Schedule, ScheduleError, describe
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wgsl.emit import emit
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.runtime.gpu_compile import compile_gpu
from nnjit.runtime.gpu_memory import GpuMemory
from tests.bench.gpu.page import Bench
from tests.models import catalogue

Time = Callable[[dict[str, Any]], float]
"""ms of a shader."""


def product_kernels(data: bytes, feeds: dict[str, Any], target: WgslTarget) -> dict[KernelSpec, int]:
    """The products of a model before any is split, and how often each is there."""
    seen: dict[KernelSpec, int] = {}

    def ask(spec: KernelSpec) -> Schedule | None:
        p = roles(spec)
        parts = any(a.name == PART for s in spec.stages for a in (*spec.axes, *s.reduce))
        if p is not None and p.m > FEW_ROWS and not parts:
            seen[spec] = seen.get(spec, 0) + 1
        return None

    shapes = {n: tuple(v.shape) for n, v in feeds.items()}
    compile_gpu(
        frontend.load(frontend.BytesSource(data, "m.onnx"), {}).bind(shapes), target, GpuMemory(), chosen=ask
    )
    # asked once whether something is chosen, and again for the schedule unless the product is split
    return {s: n if split_of(s, target) is not None else n // 2 for s, n in seen.items()}


def ways(
    spec: KernelSpec, target: WgslTarget, most: int
) -> Iterator[tuple[str, list[tuple[KernelSpec, Schedule]]]]:
    """The rules' way first, then others: what each is called, and its kernels."""
    own = split_of(spec, target)
    first = gpu_schedule(spec, target)
    if own is not None:
        yield _in_parts(spec, own, target)
    yield describe(first), [(spec, first)]
    for schedule in islice(products(spec, target), most):
        if schedule != first:
            yield describe(schedule), [(spec, schedule)]
    ranked = sorted(splits(spec, target), key=lambda x: x[1])
    for split, _, _ in ranked[: most // 2]:
        if split != own:
            yield _in_parts(spec, split, target)


def _in_parts(
    spec: KernelSpec, split: Split, target: WgslTarget
) -> tuple[str, list[tuple[KernelSpec, Schedule]]]:
    two = halves(spec, split)
    kernels = [(half, gpu_schedule(half, target)) for half in map(canonical, (two.partial, two.total))]
    return f"{split.parts} parts of {split.axis} · {describe(kernels[0][1])}", kernels


def measure(
    data: bytes, feeds: dict[str, Any], target: WgslTarget, most: int, ms: Time, done: Callable[[], None]
) -> list[dict[str, Any]]:
    """A row for each product of the model: its size, how often it is there, ms of each way. `done` is called when the
    buffers of a product can go."""
    rows = []
    for spec, count in product_kernels(data, feeds, target).items():
        p = roles(spec)
        assert p is not None
        flops = 2 * p.m * p.k * p.column.extent * prod(a.extent for a in p.batch)
        row: dict[str, Any] = {"kernel": spec.name, "m k n": [p.m, p.k, p.column.extent], "batch": p.batches,
                               "count": count, "ways": []}  # fmt: skip
        for name, kernels in ways(spec, target, most):
            one: dict[str, Any] = {"schedule": name}
            try:
                one["ms"] = sum(ms(emit(apply(s, how), target).to_js()) for s, how in kernels)
                one["tflops"] = flops / one["ms"] / 1e9
            except (ScheduleError, RuntimeError) as error:
                one["failed"] = str(error)[:200]
            row["ways"].append(one)
        done()
        rows.append(row)
    return rows


def table(name: str, rows: list[dict[str, Any]]) -> str:
    """What the rules take for all of a model, what the best timed ways would, and where most is lost."""
    own = best = 0.0
    lines = []
    for row in rows:
        timed = [w for w in row["ways"] if "ms" in w]
        if not timed or "ms" not in row["ways"][0]:
            continue
        mine, other = row["ways"][0], min(timed, key=lambda w: float(w["ms"]))
        own, best = own + row["count"] * mine["ms"], best + row["count"] * other["ms"]
        size = "x".join(map(str, row["m k n"])) + (f" x{row['batch']}" if row["batch"] > 1 else "")
        lost = row["count"] * (mine["ms"] - other["ms"])
        lines.append((lost, f"    {row['count']:3d} of {size:18s} {mine['tflops']:5.1f} TFLOP/s, best "
                            f"{other['tflops']:5.1f}: {mine['schedule']} | {other['schedule']}"))  # fmt: skip
    lines.sort(key=lambda x: -x[0])
    return "\n".join(
        [f"{name}: products {own:.3f} ms by the rules, {best:.3f} by the best timed", *(t for _, t in lines)]
    )


def choices(bench: Bench) -> None:
    """The products of whole models as the rules do them, beside other ways."""
    found = bench.result["choices"] = {}
    for name, batch in (
        (n, int(b)) for n in bench.options.models.split(",") for b in bench.options.batch.split(",")
    ):
        entry = catalogue.MODELS[name]
        feeds = entry.make(batch, *entry.shapes[0][1:], seed=1000)
        data, most = entry.path().read_bytes(), bench.options.candidates
        rows = measure(data, feeds, bench.target, most, bench.ms, bench.forget)
        found[f"{name} x{batch}"] = rows
        bench.say(table(f"{name} x{batch}", rows))
        bench.save()
