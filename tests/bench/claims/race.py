"""How long until a kernel is within 5% of the best that a search of 1,000 trials finds? The list against that search.

    python3 serve.py bench --claims race [TEXT]      some 30 s a kernel; resumable

Both try schedules in the same stand and pay for each what it takes: writing it, compiling it, timing it beside the
default. The search draws from a space without rules (wide.py): first at random, then children of its best (two parents,
one mutation); what does not fit costs it only the attempt to write it.
The list is tried in its order; its first entry serves from the start and pays for no comparison. In the end whatever
either thought the best at any time is timed again in turn (the least
of many samples: other work only adds). Appends a line a kernel to results/claims/race.jsonl.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from typing import Any

from nnjit.codegen.schedule.steps import Schedule
from nnjit.tune.space import Space
from nnjit.tune.space_wasm import space_of
from tests.bench.claims.quality import FOLDER, geomean
from tests.bench.claims.specs import SPECS
from tests.bench.claims.stand import TARGET, Made, Stand, stands
from tests.bench.claims.wide import wide

FILE = FOLDER / "race.jsonl"
RACED = tuple(SPECS)[1::2]
"""Every second kernel: a thousand trials take some 20 s."""
TRIALS = 1000
RANDOM = 128
"""The first trials of the search; then GENERATION children at a time of its POOL best."""
GENERATION = 32
POOL = 32
STRAY = 0.1
"""This part of the children is drawn at random."""
TRIAL = {"rounds": 3, "sampleMs": 0.3, "hopeless": 1.3}
FINAL = {"rounds": 21, "sampleMs": 0.6}
NEAR = 1.05

Choice = tuple[int, ...]
"""Places in the knobs' values."""


class Evolution:
    """`ask()` gives the next choice, None once nothing is left; `tell(choice, time)`: how it did."""

    def __init__(self, sizes: Sequence[int], seed: int) -> None:
        self.sizes = list(sizes)
        self.draw = random.Random(seed)
        self.seen: set[Choice] = set()
        self.known: list[tuple[float, Choice]] = []

    def ask(self) -> Choice | None:
        for _ in range(200):
            choice = self._propose()
            if choice not in self.seen:
                self.seen.add(choice)
                return choice
        return None

    def tell(self, choice: Choice, took: float) -> None:
        self.known.append((took, choice))

    def _propose(self) -> Choice:
        draw = self.draw
        if len(self.known) < RANDOM or draw.random() < STRAY:
            return tuple(draw.randrange(n) for n in self.sizes)
        pool = sorted(self.known)[:POOL]
        mother, father = draw.choice(pool)[1], draw.choice(pool)[1]
        child = [draw.choice(pair) for pair in zip(mother, father, strict=True)]
        at = draw.randrange(len(child))
        child[at] = draw.randrange(self.sizes[at])
        return tuple(child)


class Run:
    """What one side has tried: its clock, and which schedule it thought the best since when."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.seconds = 0.0
        self.tried = 0
        self.best = float("inf")
        self.leaders: list[tuple[float, int, Schedule]] = []
        """(seconds, trials, schedule): leads from then on."""

    def attempt(self, schedules: Sequence[Schedule]) -> list[float]:
        """Times over the default's; infinite for what does not fit, traps or is wrong."""
        start = time.perf_counter()
        made = [self.stand.make(s) for s in schedules]
        codes: list[Made] = [m for m in made if m is not None]
        reports = iter(self.stand.times(codes, TRIAL))
        each = (time.perf_counter() - start) / max(1, len(schedules))
        ratios = []
        for schedule, code in zip(schedules, made, strict=True):
            self.seconds += each
            self.tried += 1
            ratio = float("inf")
            if code is not None:
                report = next(reports)
                if report["ok"]:
                    ratio = min(report["mine"]) / min(report["base"])
            ratios.append(ratio)
            if ratio < self.best:
                self.best = ratio
                self.leaders.append((self.seconds, self.tried, schedule))
        return ratios


def searched(stand: Stand, space: Space, seed: int) -> Run:
    evolution = Evolution([len(k.values) for k in space.knobs], seed)
    run = Run(stand)
    while run.tried < TRIALS:
        asked: list[Choice] = []
        while len(asked) < GENERATION and (choice := evolution.ask()) is not None:
            asked.append(choice)
        if not asked:
            break
        knobs = space.knobs
        built = [space.build({k.name: k.values[i] for k, i in zip(knobs, c, strict=True)}) for c in asked]
        for choice, ratio in zip(asked, run.attempt(built), strict=True):
            evolution.tell(choice, ratio)
    return run


def listed(stand: Stand, spec: Any) -> tuple[Run, float]:
    """The list's run, and the seconds to write and compile its first entry, which then serves."""
    start = time.perf_counter()
    schedules = space_of(spec, TARGET).lite(checked=False)
    made = stand.make(schedules[0])
    assert made is not None
    first = time.perf_counter() - start
    run = Run(stand)
    run.seconds = first + stand.times([made], {**TRIAL, "rounds": 0})[0]["compileMs"] / 1e3
    run.best, run.tried = 1.0, 1
    serving = run.seconds
    run.leaders.append((serving, 1, schedules[0]))
    for schedule in schedules[1:]:
        run.attempt([schedule])
    return run, serving


def race_one(page: Any, name: str, seed: int = 1) -> dict[str, Any]:
    spec = SPECS[name]
    space = wide(spec, TARGET)
    stand = Stand(page, spec, space.default)
    ours, serving = listed(stand, spec)
    theirs = searched(stand, space, seed)
    codes: dict[str, Made] = {}
    key_of: dict[Schedule, str] = {}
    for _, _, schedule in (*ours.leaders, *theirs.leaders):
        code = stand.make(schedule, keep=True)
        assert code is not None
        key_of[schedule] = code.key
        codes.setdefault(code.key, code)
    samples = stand.final(list(codes.values()), FINAL)
    ms = dict(zip(codes, map(min, samples), strict=True))
    target = NEAR * min(ms[key_of[s]] for _, _, s in theirs.leaders)

    def within(run: Run) -> tuple[float, int] | None:
        return next(((at, n) for at, n, s in run.leaders if ms[key_of[s]] <= target), None)

    mine, search = within(ours), within(theirs)
    assert search is not None
    return {
        "spec": name,
        "raw": space.raw,
        "searchTrials": theirs.tried,
        "searchSeconds": theirs.seconds,
        "searchWithin": search,
        "servingSeconds": serving,
        "listTrials": ours.tried,
        "listSeconds": ours.seconds,
        "listWithin": mine,
        "listBest": target / NEAR / min(ms[key_of[s]] for _, _, s in ours.leaders),
        "default": target / NEAR / ms[key_of[ours.leaders[0][2]]],
    }


def race(text: str = "") -> int:
    done = {r["spec"] for r in rows()}
    FOLDER.mkdir(parents=True, exist_ok=True)
    with stands() as (_, page):
        for name in (n for n in RACED if text in n and n not in done):
            row = race_one(page, name)
            with FILE.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(line(row), flush=True)
    print(summary(rows()))
    return 0


def rows() -> list[dict[str, Any]]:
    return [json.loads(x) for x in FILE.read_text().splitlines()] if FILE.exists() else []


def line(r: dict[str, Any]) -> str:
    at = r["listWithin"]
    ours = f"{1e3 * at[0]:7.1f} ms ({at[1]} tried)" if at else "never"
    return (
        f"{r['spec']:28s} search {r['searchSeconds']:5.1f} s, within 5% after {r['searchWithin'][0]:6.2f} s "
        f"({r['searchWithin'][1]} tried); list {ours}; best listed {100 * r['listBest']:.1f}% of the search's"
    )


def seconds(r: dict[str, Any]) -> float:
    """Until the list's best is within 5%; all of its time where that never comes."""
    return float(r["listWithin"][0] if r["listWithin"] else r["listSeconds"])


def summary(found: list[dict[str, Any]]) -> str:
    """Geometric means of the quotients."""
    missed = sum(r["listWithin"] is None for r in found)
    whole = geomean(r["searchSeconds"] / seconds(r) for r in found)
    within = geomean(r["searchWithin"][0] / seconds(r) for r in found)
    trials = geomean(r["searchWithin"][1] / (r["listWithin"] or (0, r["listTrials"]))[1] for r in found)
    return (
        f"{len(found)} kernels, {missed} of them never within 5%: the search takes {whole:.0f} times as long in all, "
        f"{within:.1f} times as long until it is within 5% itself ({trials:.1f} times as many trials)"
    )
