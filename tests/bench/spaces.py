"""What the rules leave out: the best of a kernel's listed schedules against the best of many from its raw space.

    python3 serve.py tune --sample 120 mobilenet-v2      the heaviest kernels of a model, 120 raw schedules each

Takes specs from a model's plan; times every listed schedule and `sample` others, drawn from all that fit, in the
engine's lab in Chromium, each against the default. Prints for each kernel the counts and best listed over best.
"""

from __future__ import annotations

import base64
import json
import random
from math import exp, log
from statistics import median
from typing import Any

from nnjit.codegen.schedule.steps import ScheduleError, describe
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.target import Target
from nnjit.runtime.local import LocalSession
from nnjit.tune.bench import Bench
from nnjit.tune.device import flops
from nnjit.tune.space import Space
from nnjit.tune.space_wasm import space_of
from tests.models import catalogue
from tests.support.browser import Lab


def kernels_of(name: str, shape: int, most: int, target: Target) -> list[tuple[KernelSpec, Space]]:
    """The distinct kernels of a model's plan with the most arithmetic, and their spaces."""
    model = catalogue.MODELS[name]
    session = LocalSession(model.path().read_bytes())
    session.run(model.feeds(shape))
    assert session.last is not None
    specs = {k.spec.key: k.spec for k in session.last.kernels}.values()
    heavy = sorted((s for s in specs if flops(s) and s.scratch < 0), key=flops, reverse=True)
    return [(s, space_of(s, target)) for s in heavy[:most]]


def plain(value: Any) -> Any:
    """Bytes as base64, for JSON."""
    if isinstance(value, bytes):
        return {"$base64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def run(lab: Lab, name: str, shape: int, sample: int, most: int, threads: int) -> list[dict[str, Any]]:
    """A row a kernel: raw and listed counts, and time of the best listed schedule over that of the best of all."""
    target = Target(threads=threads, shared=True)
    draw = random.Random(0)
    jobs, rows = [], []
    for spec, space in kernels_of(name, shape, most, target):
        listed = space.lite()
        others = space.drawn(draw, sample, set(listed))
        bench = Bench(spec, target, 256, True)
        setup = bench.setup(space.default)
        kernels, kept = [], []
        for schedule in [*listed[1:], *others]:
            try:
                kernel, _ = bench.candidate(schedule)
            except ScheduleError:
                continue
            kernels.append(kernel)
            kept.append((schedule in listed, describe(schedule)))
        jobs.append({"setup": setup, "kernels": kernels})
        rows.append(
            {
                "name": spec.name,
                "raw": space.raw,
                "listed": len(listed),
                "kept": kept,
            }
        )
    url = lab.site.put("bench/spaces.json", json.dumps(plain({"threads": threads, "jobs": jobs})).encode())
    page = lab.page("t/bench/bench.html")
    found = page.evaluate("async (u) => (await import('/t/bench/spaces.js')).time(u)", url)
    page.context.close()
    for row, result in zip(rows, found, strict=True):
        ratios = [(1.0, True, "the default")]
        for (inside, text), report in zip(row.pop("kept"), result["reports"], strict=True):
            again = report["again"]
            if again and again["mine"]:
                duels = [median(d["mine"]) / median(d["base"]) for d in (report, again)]
                ratios.append((max(duels), inside, text))
        best, best_listed = min(ratios), min(r for r in ratios if r[1])
        row |= {"ms": result["ms"], "timed": len(result["reports"]) + 1, "reached": best[0] / best_listed[0]}
        row |= {"best": best[0], "bestHow": best[2], "bestListed": best_listed[0], "how": best_listed[2]}
    return rows


def table(name: str, rows: list[dict[str, Any]]) -> str:
    lines = [name]
    for r in rows:
        counts = f"raw {r['raw']:6d} listed {r['listed']:3d} timed {r['timed']:4d}"
        best = f"best listed x{r['bestListed']:.3f}  reached {100 * r['reached']:.1f}%"
        lines.append(f"{r['name']:36.36s} {counts}  default {r['ms']:.3f} ms  {best}  {r['how']}")
        if r["reached"] < 0.97:
            lines.append(f"{'':36s} not listed: {r['bestHow']}")
    mean = exp(sum(log(r["reached"]) for r in rows) / len(rows))
    return "\n".join([*lines, f"geometric mean of best over best listed: {100 * mean:.1f}%"])
