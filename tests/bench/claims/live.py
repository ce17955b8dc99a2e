"""The tuner at work in a page: when the final speed is reached, what it costs runs, what a second profile starts with.

    python3 serve.py bench --claims live [MODEL ...]       tuned from the first run on, used without a pause
    python3 serve.py bench --claims overhead [MODEL ...]   nothing may win: what tuning alone adds to the runs
    python3 serve.py bench --claims second [MODEL ...]     records of one profile taken to another
    python3 serve.py bench --claims patterns [MODEL ...]   bursts, rare runs, two sessions, changing shapes, batches

Each appends a line a model to results/claims/NAME.jsonl (runs, events, and what `judge` makes of them) and prints it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from statistics import mean, median
from typing import Any

from tests.bench.claims.quality import FOLDER
from tests.models import catalogue
from tests.support.browser import Lab, started
from tests.support.codec import Packer, bundle

MODELS = ("roberta-base", "bart-base", "gpt2", "t5-small", "resnet-50", "mobilenet-v2")
SMALL = ("mobilenet-v2",)
USUAL: dict[str, Any] = {
    "threads": 2, "mode": "now", "hold": False, "beforeMs": 0, "tuneMs": 30000, "leastMs": 0, "afterMs": 4000,
    "gapMs": 0, "burst": 0, "pauseMs": 0, "sessions": 1, "changeMs": 0, "records": "",
}  # fmt: skip
SHARE = 0.95
"""Of the final speed: what must be reached."""
WINDOW = 5
"""Runs whose median is a speed."""


def job(lab: Lab, name: str, shapes: int = 1) -> str:
    """The bundle of a model with its first `shapes` feeds; its URL."""
    model = catalogue.MODELS[name]
    path = model.path()
    folder = lab.site.mount(f"m/{name}", path.parent)
    packer = Packer()
    feeds = [{n: packer.add(v) for n, v in model.feeds(i).items()} for i in range(shapes)]
    head = {"job": {"url": folder + path.name}, "shapes": feeds}
    return lab.site.put(f"claims/{name}-{shapes}.bin", bundle(head, packer.blob))


def used(lab: Lab, name: str, shapes: int = 1, **how: Any) -> dict[str, Any]:
    """What a page of its own profile gives, used like this."""
    page = lab.page("t/bench/bench.html")
    try:
        found: dict[str, Any] = page.evaluate(
            "async (how) => (await import('/t/bench/claims/live.js')).live(how)",
            {**USUAL, **how, "url": job(lab, name, shapes)},
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


def judge(found: dict[str, Any]) -> dict[str, Any]:
    """The figures of one use. added: ms that runs took longer in all while tuning than as many before and after."""
    during, after = found["during"], found["after"]
    quiet = times(found["before"]) + times(after)
    swaps = [e for e in found["events"] if e["kind"] == "swap"]
    trials = [e for e in found["events"] if e["kind"] == "trial" and e["emitMs"]]
    final = median(times(after))
    status = found["status"]
    return {
        "firstMs": found["first"]["ms"],
        "runs": len(during),
        "tuneMs": found["tunedMs"],
        "tried": sum(s["candidates"] for s in status),
        "kept": sum(s["kept"] for s in status),
        "state": status[0]["state"],
        "reason": status[0]["reason"],
        "speedup": status[0]["speedup"],
        "delayedMs": max(s["delayedMs"] for s in status),
        "testedMs": sum(s["testedMs"] for s in status),
        "startMs": median(times(during[: 2 * WINDOW])) if during else final,
        "finalMs": final,
        "reachedMs": reached([*during, *after], final),
        "lastSwapMs": swaps[-1]["at"] if swaps else None,
        "candidateMs": median([e["emitMs"] + (e["compileMs"] or 0) for e in trials]) if trials else None,
        "quietP50": median(quiet),
        "quietP99": quantile(quiet, 0.99),
        "duringP50": median(times(during)) if during else None,
        "duringP99": quantile(times(during), 0.99) if during else None,
        "addedMs": sum(times(during)) - len(during) * mean(quiet),
    }


def keep(study: str, lab: Lab, name: str, how: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Appends the line of one use, runs in tenths of a ms; gives its figures."""
    figures = judge(found)
    row = {
        "model": name,
        "how": {k: v for k, v in how.items() if k != "records"},
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "browser": lab.browser.version,
        "figures": figures,
        "tests": trials_until_swap(found["events"]),
        "runs": {p: [[round(r["at"]), round(r["ms"], 2), r["shape"]] for r in found[p]][:4000]
                 for p in ("before", "during", "after")},
        "events": [slim(e) for e in found["events"]],
    }  # fmt: skip
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{study}.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    return figures


def slim(event: dict[str, Any]) -> dict[str, Any]:
    """An event without what takes much room."""
    kept = {k: v for k, v in event.items() if v is not None and k != "text"}
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in kept.items()}


def each(names: Sequence[str], usual: Sequence[str], work: Callable[[Lab, str], None]) -> int:
    with started() as lab:
        for name in names or usual:
            work(lab, name)
    return 0


def live(*names: str) -> int:
    def one(lab: Lab, name: str) -> None:
        how = {"tuneMs": 30000}
        f = keep("live", lab, name, how, used(lab, name, **how))
        print(live_line(name, f), flush=True)

    return each(names, MODELS, one)


def live_line(name: str, f: dict[str, Any]) -> str:
    at = "never" if f["reachedMs"] is None else f"{f['reachedMs'] / 1e3:.1f} s"
    last = "no swap" if f["lastSwapMs"] is None else f"last swap {f['lastSwapMs'] / 1e3:.1f} s"
    return (
        f"{name:14s} first run {f['firstMs'] / 1e3:.1f} s, 95% of the final speed from {at} on, {last}; "
        f"{f['tried']} tried, {f['kept']} kept in {f['tuneMs'] / 1e3:.1f} s ({f['reason'] or f['state']}); "
        f"{f['startMs']:.1f} -> {f['finalMs']:.1f} ms"
    )


WAYS: dict[str, dict[str, Any]] = {
    "idle, no pause": {"mode": "idle", "gapMs": 0},
    "idle, 100 ms between": {"mode": "idle", "gapMs": 100},
}


def overhead(*names: str) -> int:
    def one(lab: Lab, name: str) -> None:
        for label, way in WAYS.items():
            how = {"hold": True, "beforeMs": 5000, "tuneMs": 10000, "afterMs": 5000, **way}
            f = keep("overhead", lab, name, how, used(lab, name, **how))
            print(overhead_line(name, label, f), flush=True)

    return each(names, MODELS, one)


def overhead_line(name: str, label: str, f: dict[str, Any]) -> str:
    return (
        f"{name:14s} {label:22s} {f['runs']:5d} runs, {f['tried']:3d} tried in {f['tuneMs'] / 1e3:.1f} s: waited "
        f"{f['delayedMs']:.0f} ms, {f['addedMs']:+.0f} ms in all; p50 {f['quietP50']:.2f} -> {f['duringP50']:.2f}, "
        f"p99 {f['quietP99']:.2f} -> {f['duringP99']:.2f} (x{f['duringP99'] / f['quietP99']:.2f})"
    )


def second(*names: str) -> int:
    def one(lab: Lab, name: str) -> None:
        first = used(lab, name, gapMs=20)
        keep("second", lab, name, {"profile": 1}, first)
        other = used(lab, name, gapMs=20, records=first["records"])
        f = keep("second", lab, name, {"profile": 2}, other)
        print(second_line(name, judge(first), f, other["events"]), flush=True)

    return each(names, MODELS, one)


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


def second_line(name: str, one: dict[str, Any], two: dict[str, Any], events: Sequence[dict[str, Any]]) -> str:
    needed = trials_until_swap(events)
    last = "no swap" if two["lastSwapMs"] is None else f"last swap {two['lastSwapMs'] / 1e3:.1f} s"
    return (
        f"{name:14s} first profile {one['tried']} tried, {one['kept']} kept, {one['startMs']:.2f} -> "
        f"{one['finalMs']:.2f} ms; second {two['tried']} tried, {two['kept']} kept, at most "
        f"{max(needed.values(), default=0)} tests for a kernel that changed, {last}; starts at "
        f"{100 * two['finalMs'] / two['startMs']:.1f}% of {two['finalMs']:.2f} ms"
    )


PATTERNS: dict[str, dict[str, Any]] = {
    "sustained": {"gapMs": 0},
    "bursts of ten, then 1 s": {"burst": 10, "pauseMs": 1000},
    "a run every 5 s": {"gapMs": 5000, "tuneMs": 20000, "afterMs": 11000},
    "two sessions in turn": {"sessions": 2, "gapMs": 20},
    "shapes change every 4 s": {"changeMs": 4000, "gapMs": 20, "tuneMs": 24000, "leastMs": 24000},
}


def patterns(*names: str) -> int:
    def one(lab: Lab, name: str) -> None:
        for label, pattern in PATTERNS.items():
            how = {"mode": "idle", "tuneMs": 15000, **pattern}
            shapes = len(catalogue.MODELS[name].shapes) if how.get("changeMs") else 1
            f = keep("patterns", lab, name, {"label": label, **how}, used(lab, name, shapes, **how))
            print(pattern_line(name, label, f), flush=True)

    return each(names, SMALL, one)


def pattern_line(name: str, label: str, f: dict[str, Any]) -> str:
    return (
        f"{name:14s} {label:24s} {f['runs']:5d} runs, {f['tried']:3d} tried, {f['kept']} kept in "
        f"{f['tuneMs'] / 1e3:.1f} s ({f['reason'] or f['state']}), waited {f['delayedMs']:.0f} ms; p50 "
        f"{f['duringP50']:.2f}, p99 {f['duringP99']:.2f}, after {f['finalMs']:.2f} ms"
    )
