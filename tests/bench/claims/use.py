"""One page, used as a study says while its sessions are tuned, and the figures of that use.

Takes a model's name and how it is used (USUAL's keys); gives what live.js saw, and `judge` its figures. `keep` appends
both to results/claims/STUDY.jsonl.
"""

from __future__ import annotations

import inspect
import json
import os
import time
from collections.abc import Sequence
from statistics import mean, median
from typing import Any

from tests.bench.claims import handicap
from tests.bench.claims.quality import FOLDER
from tests.device.conftest import vendor
from tests.models import catalogue
from tests.support.browser import Lab
from tests.support.codec import Packer, bundle

USUAL: dict[str, Any] = {
    "backend": "wasm", "start": "rules", "limit": 0, "threads": 2, "mode": "now", "hold": False, "control": False,
    "beforeMs": 0, "quietMs": 0, "tuneMs": 30000, "leastMs": 0, "afterMs": 4000, "gapMs": 0, "bare": False, "burst": 0,
    "pauseMs": 0, "sessions": 1, "changeMs": 0, "records": "",
}  # fmt: skip
"""live.js says what they are; start and limit are those of handicap.begin. backend: "webgpu" for the adapter that
NNJIT_DEVICE_* name (tests/device/conftest.py)."""
SHARE = 0.95
"""Of the final speed: what must be reached."""
WINDOW = 5
"""Runs whose median is a speed."""
WARM_MS = 300
"""After the first run: until then V8 still replaces the code that it made in haste."""
SECONDS = (1, 2, 3, 5, 10, 20, 30)
"""After the first run began: when the speed is looked at."""


def job(lab: Lab, name: str, shapes: int = 1) -> str:
    """The bundle of a model with its first `shapes` feeds; its URL."""
    model = catalogue.MODELS[name]
    path = model.path()
    folder = lab.site.mount(f"m/{name}", path.parent)
    packer = Packer()
    feeds = [{n: packer.add(v) for n, v in model.feeds(i).items()} for i in range(shapes)]
    head = {"job": {"url": folder + path.name}, "shapes": feeds}
    return lab.site.put(f"claims/{name}-{shapes}.bin", bundle(head, packer.blob))


def used(lab: Lab, name: str, visits: Sequence[dict[str, Any]], shapes: int = 1) -> list[dict[str, Any]]:
    """What a page of a fresh profile gives that is used like this, and so for each further visit."""
    url = job(lab, name, shapes)
    page = lab.page("t/bench/bench.html")
    found: list[dict[str, Any]] = []
    try:
        for visit in visits:
            if found:
                page.reload()
            how = {**USUAL, **visit, "url": url}
            how["adapter"] = vendor() if how["backend"] == "webgpu" else ""
            how["python"] = [inspect.getsource(handicap), f"begin({how['start']!r}, {how['limit']})"]
            found.append(
                page.evaluate("async (how) => (await import('/t/bench/claims/live.js')).live(how)", how)
            )
    finally:
        page.context.close()
    return found


def times(runs: Sequence[dict[str, Any]]) -> list[float]:
    return [r["ms"] for r in runs]


def quantile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")


def reached(runs: Sequence[dict[str, Any]], final_ms: float) -> float | None:
    """ms after the first run began from which on WINDOW runs in a row take, in the median, what `SHARE` of the
    final speed allows; None if that never comes."""
    for i in range(len(runs) - WINDOW + 1):
        if median(times(runs[i : i + WINDOW])) <= final_ms / SHARE:
            return float(runs[i]["at"])
    return None


def speed_at(runs: Sequence[dict[str, Any]], seconds: float) -> float | None:
    """ms a run by then: the median of the last WINDOW runs that had ended; None before the first of them."""
    ended = [r["ms"] for r in runs if r["at"] + r["ms"] <= 1e3 * seconds]
    return median(ended[-WINDOW:]) if ended else None


def start_ms(found: dict[str, Any]) -> float:
    """ms a run of the first WINDOW runs with warm code; those after tuning where there are no such runs."""
    warm = found["first"]["at"] + found["first"]["ms"] + WARM_MS
    runs = [r for r in (*found["before"], *found["during"], *found["after"]) if r["at"] >= warm]
    return median(times(runs[:WINDOW]))


def judge(found: dict[str, Any]) -> dict[str, Any]:
    """The figures of one use. addedMs: what runs took longer in all while tuning than as many before and after;
    driftMs: by how much the same sum differs if it is taken from the runs before, or from those after."""
    during, after = found["during"], found["after"]
    quiet = times(found["before"]) + times(after)
    swaps = [e for e in found["events"] if e["kind"] == "swap"]
    plans = [e for e in found["events"] if e["kind"] == "plan" and e["name"] == "replaced"]
    trials = [e for e in found["events"] if e["kind"] == "trial" and e["emitMs"]]
    final = median(times(after))
    status = found["status"]
    drift = mean(times(after)) - mean(times(found["before"])) if found["before"] else 0.0
    return {
        "firstMs": found["first"]["ms"],
        "runs": len(during),
        "tuneMs": found["tunedMs"],
        "tried": sum(s["candidates"] for s in status),
        "kept": sum(s["kept"] for s in status),
        "dropped": sum(s["dropped"] for s in status),
        "plans": len(plans),
        "state": status[0]["state"],
        "reason": status[0]["reason"],
        "speedup": status[0]["speedup"],
        "delayedMs": max(s["delayedMs"] for s in status),
        "testedMs": sum(s["testedMs"] for s in status),
        "startMs": start_ms(found),
        "finalMs": final,
        "reachedMs": reached([*during, *after], final),
        "atMs": {str(s): speed_at([*during, *after], s) for s in SECONDS},
        "lastSwapMs": max((e["at"] for e in (*swaps, *plans)), default=None),
        "candidateMs": median([e["emitMs"] + (e["compileMs"] or 0) for e in trials]) if trials else None,
        "quietP50": median(quiet),
        "quietP99": quantile(quiet, 0.99),
        "duringP50": median(times(during)) if during else None,
        "duringP99": quantile(times(during), 0.99) if during else None,
        "addedMs": sum(times(during)) - len(during) * mean(quiet),
        "driftMs": len(during) * drift,
    }


def keep(study: str, lab: Lab, name: str, how: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Appends the line of one use, runs in hundredths of a ms; gives its figures."""
    figures = judge(found)
    row = {
        "model": name,
        "how": {k: v for k, v in ({**USUAL, **how}).items() if k != "records"},
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "browser": lab.browser.version,
        "machine": machine(),
        "adapter": found["adapter"],
        "figures": figures,
        "tests": trials_until_swap(found["events"]),
        "facts": found["facts"],
        "runs": {p: [[round(r["at"]), round(r["ms"], 2), r["shape"]] for r in found[p]][:4000]
                 for p in ("before", "during", "after")},
        "events": [slim(e) for e in found["events"]],
    }  # fmt: skip
    FOLDER.mkdir(parents=True, exist_ok=True)
    name = study if row["how"]["backend"] == "wasm" else f"{study}-{row['how']['backend']}"
    # one write a line: other processes may append to the same file
    with (FOLDER / f"{name}.jsonl").open("ab", buffering=0) as file:
        file.write((json.dumps(row) + "\n").encode())
    return figures


def machine() -> str:
    """The processor's model and how many cores this process may use."""
    cores = len(os.sched_getaffinity(0))
    with open("/proc/cpuinfo") as file:
        names = {line.partition(":")[2].strip() for line in file if line.startswith("model name")}
    return f"{', '.join(sorted(names))}; {cores} cores"


def slim(event: dict[str, Any]) -> dict[str, Any]:
    """An event without what takes much room."""
    kept = {k: v for k, v in event.items() if v is not None and k != "text"}
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in kept.items()}


def trials_until_swap(events: Sequence[dict[str, Any]]) -> dict[str, int]:
    """For each kernel that was swapped: how many candidates were tried until its last swap."""
    tried: dict[str, int] = {}
    found: dict[str, int] = {}
    for e in events:
        if e["kind"] == "trial":
            tried[e["name"]] = tried.get(e["name"], 0) + 1
        if e["kind"] == "swap":
            # the swap is told before its trial
            found[e["name"]] = tried.get(e["name"], 0) + 1
    return found
