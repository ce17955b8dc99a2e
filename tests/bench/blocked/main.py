"""Channels last or in blocks (NCHWc): the kernels of the image models' layers under both, without a conversion.

    python3 serve.py bench --blocked             all layers, one and two threads; some two minutes each
    python3 serve.py bench --blocked ' dw|3x3'   those whose name holds one of a|b

For each layer and each order of its channels the same sum (layer_spec), scheduled by the rules as any kernel; in the
second part also by the other register tiles and loop orders that the tuner would list, where the rules' choice came
near. All orders of a layer take turns in one page on one memory. Printed is time with channels last over time in
blocks: above 1 blocks are faster, before anything was spent on a conversion.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from math import exp, log
from pathlib import Path
from statistics import median
from typing import Any

from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.steps import Schedule, describe
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.emit import emit_module
from nnjit.codegen.wasm.target import Target
from nnjit.tune.device import flops
from nnjit.tune.space_wasm import space_of
from tests.bench.blocked.specs import BLOCKS, POOLS, block_of, kind_of, layer_spec
from tests.bench.operators.layers import LAYERS, Layer
from tests.support.browser import Lab

RESULTS = Path(__file__).parents[1] / "results"
FIRST = 65536
"""Below lie the operand pointers."""
HOW = {"warmMs": 40, "rounds": 9}
AGAIN = {"warmMs": 40, "rounds": 15}
SAMPLE_MS = 2.0
GFLOPS = 40.0
"""A guess of a kernel's speed, for how often one sample repeats it."""
NEAR, LISTED = 1.0, 4
"""From which ratio on a layer is timed again, with so many schedules each."""


def studied(text: str) -> dict[str, Layer]:
    """Layers by name: of one group or depthwise, of more than one place, and pools."""
    pools = {f"pool 1x{p.channels}x{p.height}x{p.width} {p.window[0]}x{p.window[1]} s2": p for p in POOLS}
    every = {n: x for n, x in LAYERS.items() if x.groups in (1, x.channels)} | pools
    return {n: x for n, x in every.items() if any(t in n for t in text.split("|"))}


def orders(layer: Layer) -> list[int]:
    """Sizes of blocks that this layer's channels can have, 0 (channels last) first."""
    kind, found = kind_of(layer), [0]
    for b in BLOCKS:
        whole = layer.out % b == 0 and (kind in ("1x1", "windows") or layer.channels % b == 0)
        if whole and block_of(layer.out, b) == b < layer.out:
            found.append(b)
    return found


def job(candidates: Sequence[tuple[KernelSpec, Schedule]], threads: int) -> dict[str, Any]:
    """What the page runs: a kernel for each, operands at the same places."""
    kernels, top = [], FIRST
    for spec, schedule in candidates:
        nest = apply(spec, schedule)
        at, pointers = FIRST, []
        for o in nest.operands:
            pointers.append(at)
            at += -(-(4 * o.size + 256) // 64) * 64
        top = max(top, at)
        module = emit_module(nest, Target(threads=threads, shared=True))
        times = max(
            1, round(SAMPLE_MS * 1e6 * GFLOPS * threads / max(flops(spec), spec.operands[-1].size * 8))
        )
        kernels.append(
            {
                "module": base64.b64encode(module).decode(),
                "pointers": pointers,
                "tiles": nest.tiles,
                "times": times,
            }
        )
    return {"bytes": top, "kernels": kernels}


def timed(lab: Lab, jobs: list[dict[str, Any]], threads: int, how: dict[str, int]) -> list[list[float]]:
    """ms of each job's kernels: the median of their samples."""
    url = lab.site.put("bench/blocked.json", json.dumps({"jobs": jobs, "how": how}).encode())
    page = lab.page("t/bench/bench.html")
    found = page.evaluate(
        "async ([u, n]) => (await import('/t/bench/blocked/main.js')).time(u, n)", [url, threads]
    )
    page.context.close()
    return [[median(samples) for samples in kernels] for kernels in found]


def measure(lab: Lab, text: str, threads: int) -> list[dict[str, Any]]:
    """A row a layer: ms by block with the rules' schedules; near ones again, and with the best of several each."""
    target = Target(threads=threads, shared=True)
    layers = studied(text)
    spaces = {
        n: {b: space_of(canonical(layer_spec(x, b)), target) for b in orders(x)} for n, x in layers.items()
    }
    jobs = [job([(s.spec, s.default) for s in spaces[n].values()], threads) for n in layers]
    rows: list[dict[str, Any]] = []
    for (name, layer), ms in zip(layers.items(), timed(lab, jobs, threads, HOW), strict=True):
        rows.append({"name": name, "kind": kind_of(layer), "ms": dict(zip(spaces[name], ms, strict=True))})
    near = [r for r in rows if any(r["ms"][0] > NEAR * t for b, t in r["ms"].items() if b)]
    chosen = {r["name"]: {b: s.lite()[:LISTED] for b, s in spaces[r["name"]].items()} for r in near}
    jobs = [
        job([(spaces[n][b].spec, x) for b, listed in each.items() for x in listed], threads)
        for n, each in chosen.items()
    ]
    for r, ms in zip(near, timed(lab, jobs, threads, AGAIN), strict=True) if near else ():
        at, r["ms"], r["best"], r["how"] = 0, {}, {}, {}
        for b, listed in chosen[r["name"]].items():
            own = ms[at : at + len(listed)]
            at += len(listed)
            r["ms"][b], r["best"][b] = own[0], min(own)
            r["how"][b] = describe(listed[own.index(min(own))])
    return rows


def best(row: dict[str, Any], key: str = "ms") -> tuple[float, int]:
    """(time with channels last over the least in blocks, that block); (1, 0) where no block divides the channels."""
    ms = row.get(key) or row["ms"]
    return max(((ms[0] / t, b) for b, t in ms.items() if b), default=(1.0, 0))


def mean(values: Sequence[float]) -> float:
    return exp(sum(map(log, values)) / len(values)) if values else 1.0


def table(runs: dict[int, list[dict[str, Any]]]) -> str:
    """Rows: kinds of layers; the rules' schedules by block, then the best order of each layer."""
    lines = []
    for threads, rows in runs.items():
        lines += [
            f"{threads} thread{'s' if threads > 1 else ''}",
            "",
            "| layers | "
            + " | ".join(f"blocks of {b}" for b in BLOCKS)
            + " | best block of each | best schedules too |",
            "|---" * (len(BLOCKS) + 3) + "|",
        ]
        for kind in ("1x1", "windows", "depthwise", "pools", ""):
            own = [r for r in rows if r["kind"] == kind or not kind]
            if not own:
                continue
            cells = []
            for b in BLOCKS:
                ratios = [r["ms"][0] / r["ms"][b] for r in own if b in r["ms"]]
                cells.append(f"{mean(ratios):.2f} ({len(ratios)})" if ratios else "")
            for key in ("ms", "best"):
                ratios = [best(r, key)[0] for r in own]
                cells.append(f"{mean(ratios):.2f}, {sum(x >= 1.05 for x in ratios)} by 5%")
            lines.append(f"| {len(own)} {kind or 'all'} | " + " | ".join(cells) + " |")
        # what a network would get: long layers count more, what a block does not divide stays as it is
        total = sum(r["ms"][0] for r in rows)
        cells = [f"{total / sum(r['ms'].get(b, r['ms'][0]) for r in rows):.3f}" for b in BLOCKS]
        for key in ("ms", "best"):
            cells.append(f"{total / sum(r['ms'][0] / max(1.0, best(r, key)[0]) for r in rows):.3f}")
        lines += ["| time of all; last: each in its best order | " + " | ".join(cells) + " |", ""]
    return "\n".join(lines)


def main(lab: Lab, text: str, threads: Sequence[int]) -> int:
    runs: dict[int, list[dict[str, Any]]] = {}
    for n in threads:
        runs[n] = measure(lab, text, n)
        for r in runs[n]:
            ratios = "  ".join(f"{b}: {r['ms'][0] / t:4.2f}" for b, t in r["ms"].items() if b)
            again = f"  best schedules {best(r, 'best')[0]:4.2f}" if "best" in r else ""
            print(f"{n} thread(s) {r['name']:36s} {r['ms'][0]:7.3f} ms  {ratios}{again}", flush=True)
        data = {"date": time.strftime("%Y-%m-%d %H:%M"), "browser": lab.browser.version, "rows": runs[n]}
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"blocked-{n}.json").write_text(json.dumps(data, indent=1) + "\n")
    print("\n" + table(runs))
    return 0
