"""Where a model's time goes: every step of its plan timed in Chromium, the slowest kernels first.

    python3 serve.py bench --steps resnet-50 --threads 1
    python3 serve.py bench --steps 'gemm 640x768x2304'      an operator of the side-by-side run

A row is a distinct kernel: its time over all steps that run it, its share, how many steps, GFLOP/s and GB/s at
least, the schedule. Times are medians of `repeats` runs inside the engine, the slowest thread of each step. Below,
kernels of one name together, and what each would save of all steps if it ran at the peak.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from tests.support.browser import Lab


def table(found: dict[str, Any], peak: float) -> str:
    """The report of one profile; `peak` in GFLOP/s."""
    profile, groups = found["profile"], {}
    for s in profile["steps"]:
        g = groups.setdefault(s["kernel"], {"n": 0, "ms": 0.0, "gflop": 0.0, "gbyte": 0.0})
        g["n"] += 1
        g["ms"] += s["ms"]
        g["gflop"] += (s["gflops"] or 0.0) * s["ms"] / 1e3
        g["gbyte"] += (s["gbytes"] or 0.0) * s["ms"] / 1e3
    total = sum(g["ms"] for g in groups.values()) or 1.0
    times = found["times"]
    lines = [
        f"run() {median(times):.2f} ms ({min(times):.2f}-{max(times):.2f}), first {times[0]:.2f}; with outputs given "
        f"again {median(found['again']):.2f}; in the engine "
        f"{profile['runMs']:.2f} ms; {len(profile['steps'])} steps {total:.2f} ms; FMA peak {peak:.1f} GFLOP/s"
    ]
    for name, g in sorted(groups.items(), key=lambda item: -item[1]["ms"]):
        seconds = max(g["ms"], 1e-6) / 1e3
        rate = g["gflop"] / seconds
        lines.append(
            f"{g['ms']:9.3f} ms {100 * g['ms'] / total:5.1f}% x{g['n']:<3d} "
            f"{rate:6.1f} GFLOP/s {100 * rate / peak:3.0f}% "
            f"{g['gbyte'] / seconds:6.1f} GB/s  {name:44.44s} {found['schedules'].get(name, '')}"
        )
    return "\n".join([*lines, *summary(groups, total, peak)])


def summary(groups: dict[str, dict[str, float]], total: float, peak: float) -> list[str]:
    """Kernels of one name (keys left out): time, share, part of the peak, and the share beyond the peak's time."""
    kinds: dict[str, dict[str, float]] = {}
    for name, g in groups.items():
        kind = kinds.setdefault(name.rpartition("_")[0], {"ms": 0.0, "gflop": 0.0})
        kind["ms"] += g["ms"]
        kind["gflop"] += g["gflop"]
    lines = []
    for name, k in sorted(kinds.items(), key=lambda item: -item[1]["ms"]):
        least = 1e3 * k["gflop"] / peak
        lines.append(
            f"{k['ms']:9.3f} ms {100 * k['ms'] / total:5.1f}%  {100 * least / max(k['ms'], 1e-6):3.0f}% of the peak, "
            f"beyond it {100 * (k['ms'] - least) / total:5.1f}%  {name}"
        )
    return lines


def profile(lab: Lab, url: str, threads: int, repeats: int, every: bool = False) -> dict[str, Any]:
    """The job at `url` in a page of its own: steps, run() with new outputs and with given ones, schedules of
    the slowest steps; `every`: each kernel's spec, too."""
    page = lab.page("t/bench/bench.html")
    found: dict[str, Any] = page.evaluate(
        "async (how) => (await import('/t/bench/steps.js')).profile(...how)", [url, threads, repeats, every]
    )
    page.context.close()
    return found


def main(lab: Lab, url: str, threads: int, repeats: int, peak: float) -> int:
    """Prints the table of the job at `url`."""
    found = profile(lab, url, threads, repeats)
    print(table(found, peak))
    print({k: v for k, v in found["stats"].items() if k in ("compile", "load", "seconds")})
    return 0
