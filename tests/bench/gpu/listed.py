"""What the tuner's list of today holds of the schedules that a survey has timed; no device.

    python -m tests.bench.gpu.listed RECORD ...

Takes records of `serve.py tune FAMILY --backend webgpu --sample N --near F`, which have every schedule that was
timed. A row a kernel: what the rules' own schedule takes of the best of all that were timed, if it was, and the best of
those that are on the list; and what half of all times lie within of the cost model's, up to a common factor. So a list
that is made otherwise needs no device to be held against what is known.
"""

from __future__ import annotations

import json
import sys
from math import exp, log
from pathlib import Path
from statistics import median
from typing import Any

from nnjit.codegen.schedule.steps import describe
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.tune.space import Space
from nnjit.tune.space_gpu import gpu_space
from tests.bench.gpu.tune import kernels

DEVICE = WgslTarget(
    features=frozenset({"subgroups", "shader-f16"}), max_workgroup=1024, max_bindings=16, max_shared_bytes=49152,
    matrices=(("f16", "f32", 16, 16, 16), ("i8", "i32", 16, 16, 32)),
)  # fmt: skip
"""An H200 as Chromium describes it, as far as schedules depend on it."""


def row(record: dict[str, Any]) -> str:
    """A line of the table."""
    times = dict(zip(record["timed"], record["ratios"], strict=True))
    spec = dict(kernels(record["family"], DEVICE))[record["kernel"]]
    space = gpu_space(spec, DEVICE)
    names = [describe(s) for s in space.lite()]
    best, near = min(times.values()), f"{off(space, times):.0%}"
    places = [n for n, name in enumerate(names) if name in times]
    if not places:
        return f"| {record['kernel']} | {len(times)} | – | – | – | {near} |"
    at = min(places, key=lambda n: times[names[n]])
    own = f"{times[names[0]] / best:.1%}" if names[0] in times else "–"
    return (
        f"| {record['kernel']} | {len(times)} | {own} | {times[names[at]] / best:.1%} | {at + 1} | {near} |"
    )


def off(space: Space, times: dict[str, float]) -> float:
    """What half of the times lie within of the cost model's, which may all be off by one factor."""
    costs: dict[str, float] = {}
    for choice in space.choices():
        cost = space.cost(choice)
        if cost is not None:
            costs.setdefault(describe(space.build(choice)), cost)
    ratios = [log(costs[name] / time) for name, time in times.items() if name in costs]
    middle = median(ratios)
    return exp(median(abs(r - middle) for r in ratios)) - 1


def main(arguments: list[str]) -> None:
    print(
        "| kernel | timed | the rules' own over the best | best listed over the best | its place | half within |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for path in map(Path, arguments):
        for record in json.loads(path.read_text()):
            if "timed" in record:
                print(row(record))


if __name__ == "__main__":
    main(sys.argv[1:])
