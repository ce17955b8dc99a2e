"""The tuner at work in a page: when the final speed is reached, what it costs runs, what a second profile starts with.

    python3 serve.py bench --claims live [MODEL ...]       tuned from the first run on, used without a pause
    python3 serve.py bench --claims overhead [MODEL ...]   nothing may win: what tuning alone adds to the runs
    python3 serve.py bench --claims second [MODEL ...]     a profile, its next visit, its records in another profile
    python3 serve.py bench --claims patterns [MODEL ...]   bursts, rare runs, two sessions, growing batches
    python3 serve.py bench --claims sizes [MODEL ...]      tuned without a pause by lists of different lengths

    python3 serve.py bench --claims live mobilenet-v2 backend=webgpu       any of these on the GPU

After the models, `key=value` changes how they are used (use.USUAL; start=drawn is a start that the rules would not
make, see handicap.py), several values with commas between them give a use each. Each use appends a line to
results/claims/NAME.jsonl (runs, events, and what `judge` makes of them) and prints it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from tests.bench.claims.use import USUAL, judge, keep, used
from tests.device.conftest import flags
from tests.models import catalogue
from tests.support.browser import Lab, started

How = dict[str, Any]
MODELS = ("roberta-base", "bart-base", "gpt2", "t5-small", "resnet-50", "mobilenet-v2")
SMALL = ("mobilenet-v2",)


def asked(arguments: Sequence[str], more: Sequence[str] = ()) -> tuple[list[str], list[How]]:
    """(models, ways to use them) of a command's arguments. more: keys besides USUAL's. ValueError for any other."""
    names = [a for a in arguments if "=" not in a]
    keys: dict[str, list[Any]] = {}
    for key, _, values in (a.partition("=") for a in arguments if "=" in a):
        if key not in USUAL and key not in more:
            raise ValueError(f"no key {key!r}: {', '.join((*USUAL, *more))}")
        text = isinstance(USUAL.get(key, ""), str)
        keys[key] = [v if text else json.loads(v) for v in values.split(",")]
    return names, [dict(zip(keys, values, strict=True)) for values in product(*keys.values())]


def each(
    arguments: Sequence[str],
    usual: Sequence[str],
    work: Callable[[Lab, str, How], None],
    more: Sequence[str] = (),
) -> int:
    names, ways = asked(arguments, more)
    onto = {how.get("backend", USUAL["backend"]) for how in ways}
    with started(flags() if "webgpu" in onto else ()) as lab:
        for name in names or usual:
            for how in ways:
                work(lab, name, how)
    return 0


def live(*arguments: str) -> int:
    def one(lab: Lab, name: str, how: How) -> None:
        f = keep("live", lab, name, how, used(lab, name, [how])[0])
        print(live_line(name, how, f), flush=True)

    return each(arguments, MODELS, one)


def live_line(name: str, how: How, f: How) -> str:
    at = "never" if f["reachedMs"] is None else f"{f['reachedMs'] / 1e3:.1f} s"
    last = "no swap" if f["lastSwapMs"] is None else f"last swap {f['lastSwapMs'] / 1e3:.1f} s"
    curve = " ".join(f"{s}s:{ms:.1f}" for s, ms in f["atMs"].items() if ms)
    return (
        f"{name:14s} {how} first run {f['firstMs'] / 1e3:.1f} s, 95% of the final speed from {at} on, {last}; "
        f"{f['tried']} tried, {f['kept']} kept in {f['tuneMs'] / 1e3:.1f} s ({f['reason'] or f['state']}); "
        f"{f['startMs']:.1f} -> {f['finalMs']:.1f} ms; {curve}"
    )


WAYS: dict[str, How] = {
    "stream": {"mode": "idle", "gapMs": 0},
    "pauses": {"mode": "idle", "gapMs": 100},
}
"""Run after run; 100 ms between two runs."""


def overhead(*arguments: str) -> int:
    """Each way of use twice, the first time without a tuner: how far two halves of such a use differ by themselves.
    way=stream|pauses: only this one."""

    def one(lab: Lab, name: str, given: How) -> None:
        wanted = given.get("way")
        for label in [wanted] if wanted else WAYS:
            for control in (True, False):
                way = {**WAYS[label], **given, "control": control}
                how = {"hold": True, "beforeMs": 5000, "tuneMs": 10000, "afterMs": 5000, **way}
                f = keep("overhead", lab, name, how, used(lab, name, [how])[0])
                print(overhead_line(name, f"{label}{', control' if control else ''}", f), flush=True)

    return each(arguments, MODELS, one, ["way"])


def overhead_line(name: str, label: str, f: How) -> str:
    return (
        f"{name:14s} {label:22s} {f['runs']:5d} runs, {f['tried']:3d} tried in {f['tuneMs'] / 1e3:.1f} s: waited "
        f"{f['delayedMs']:.0f} ms, {f['addedMs']:+.0f} ms in all (drift {f['driftMs']:+.0f}); "
        f"p50 {f['quietP50']:.2f} -> {f['duringP50']:.2f}, "
        f"p99 {f['quietP99']:.2f} -> {f['duringP99']:.2f} (x{f['duringP99'] / f['quietP99']:.2f})"
    )


def second(*arguments: str) -> int:
    """A profile; its next visit; another profile with the first one's records and at most one test a kernel; the same
    without records, to compare with."""

    def one(lab: Lab, name: str, given: How) -> None:
        how = {"gapMs": 20, "bare": True, "quietMs": 2000, **given}
        later = {**how, "tuneMs": how.get("tuneMs", USUAL["tuneMs"]) / 2}
        fresh = {**later, "limit": 2}  # the one that serves and the one to try
        tuned = 0.0

        def told(use: str, found: How) -> None:
            f = keep("second", lab, name, {**how, "use": use}, found)
            print(second_line(name, use, f, tuned or f["finalMs"]), flush=True)

        first, again = used(lab, name, [how, later])
        told("first", first)
        tuned = judge(first)["finalMs"]
        told("again", again)
        told("other", used(lab, name, [{**fresh, "records": first["records"]}])[0])
        told("alone", used(lab, name, [fresh])[0])

    return each(arguments, MODELS, one)


def second_line(name: str, use: str, f: How, tuned: float) -> str:
    last = "no swap" if f["lastSwapMs"] is None else f"last swap {f['lastSwapMs'] / 1e3:.1f} s"
    return (
        f"{name:14s} {use:6s} {f['tried']} tried, {f['kept']} kept, {last}; "
        f"{f['startMs']:.2f} -> {f['finalMs']:.2f} ms, that is {100 * tuned / f['startMs']:.1f}% -> "
        f"{100 * tuned / f['finalMs']:.1f}% of the tuned speed"
    )


PATTERNS: dict[str, How] = {
    "sustained": {"gapMs": 0},
    "bursts": {"burst": 10, "pauseMs": 1000},
    "rare": {"gapMs": 15000, "tuneMs": 40000},
    "sessions": {"sessions": 2, "gapMs": 20},
    "batches": {"changeMs": 8000, "gapMs": 20, "tuneMs": 24000, "leastMs": 24000},
}
"""Run after run; ten runs and a second's pause; a run every 15 s; two sessions in turn; batches of 1, 2 and 3."""


def patterns(*arguments: str) -> int:
    """In mode idle. pattern=NAME: only this one."""

    def one(lab: Lab, name: str, given: How) -> None:
        wanted = given.get("pattern")
        for pattern in [wanted] if wanted else PATTERNS:
            how = {"mode": "idle", "tuneMs": 20000, **PATTERNS[pattern], **given, "pattern": pattern}
            shapes = len(catalogue.MODELS[name].shapes) if how.get("changeMs") else 1
            f = keep("patterns", lab, name, how, used(lab, name, [how], shapes)[0])
            print(pattern_line(name, pattern, f), flush=True)

    return each(arguments, SMALL, one, ["pattern"])


def pattern_line(name: str, pattern: str, f: How) -> str:
    return (
        f"{name:14s} {pattern:10s} {f['runs']:5d} runs, {f['tried']:3d} tried, {f['kept']} kept in "
        f"{f['tuneMs'] / 1e3:.1f} s ({f['reason'] or f['state']}), waited {f['delayedMs']:.0f} ms; p50 "
        f"{number(f['duringP50'])}, p99 {number(f['duringP99'])}; {f['startMs']:.2f} -> {f['finalMs']:.2f} ms"
    )


def number(ms: float | None) -> str:
    return "none" if ms is None else f"{ms:.2f}"  # it ended before the second run


def sizes(*arguments: str) -> int:
    """What a list's length buys: as `live`, a run every 50 ms, from a start that the rules would not make."""

    def one(lab: Lab, name: str, given: How) -> None:
        how = {"gapMs": 50, "afterMs": 3000, "start": "blind", **given}
        f = keep("sizes", lab, name, how, used(lab, name, [how])[0])
        print(live_line(name, how, f), flush=True)

    return each(arguments, SMALL, one)
