"""Is the best of a few dozen as good as the best of all? Thirty kernels, every schedule of their raw spaces timed.

    python3 serve.py bench --claims screen [TEXT]    every distinct code once, a kernel a line: minutes each, resumable
    python3 serve.py bench --claims quality [TEXT]   all listed and the fastest others again, then the best in turn;
                                                     without TEXT those that are missing

Takes specs.py; `screen` appends to results/claims/screen.jsonl what it cost and each choice's time over the default's,
`quality` writes results/claims/quality.json: best of the list over best of all, and the best of the list's first N.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from math import exp, log
from pathlib import Path
from statistics import median
from typing import Any

from nnjit.codegen.schedule.steps import Schedule, describe
from nnjit.tune.space import Space
from nnjit.tune.space_wasm import space_of
from tests.bench.claims.specs import SPECS
from tests.bench.claims.stand import TARGET, Made, Stand, stands

FOLDER = Path(os.environ.get("NNJIT_CLAIMS", Path(__file__).parents[1] / "results" / "claims"))
"""Where studies write what they find."""
SCREEN = FOLDER / "screen.jsonl"
QUALITY = FOLDER / "quality.json"
BATCH = 40
SCREENING = {"rounds": 3, "sampleMs": 0.3, "hopeless": 1.3}
AGAIN = {"rounds": 5, "sampleMs": 0.3, "hopeless": 1.15}
FINAL = {"rounds": 21, "sampleMs": 0.6}
OTHERS = 120
"""So many of those that are not listed are timed again, with the listed ones: who was unlucky once is not left out."""
FINALISTS = 20
"""So many of the listed and so many of the others come into the last round."""
FIRST = (1, 2, 3, 5, 8, 12, 20, 30, 45, 60)


def raw(space: Space) -> list[Schedule]:
    """The schedule of each choice, as `choices()` gives them."""
    return [space.build(choice) for choice in space.choices()]


def screened() -> dict[str, dict[str, Any]]:
    """What was screened so far, by the kernel's name; a later line replaces an earlier one, and those of another raw
    space do not count."""
    if not SCREEN.exists():
        return {}
    found = {row["spec"]: row for row in map(json.loads, SCREEN.read_text().splitlines())}
    return {
        n: r
        for n, r in found.items()
        if n in SPECS and r.get("knobs") == knobs_of(space_of(SPECS[n], TARGET))
    }


def knobs_of(space: Space) -> str:
    """What numbers of choices refer to: changes with the knobs, their values, or their order."""
    text = json.dumps([[k.name, [repr(v) for v in k.values]] for k in space.knobs])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def screen(text: str = "") -> int:
    """Every kernel whose name holds `text` and that was not screened yet."""
    done = screened()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with stands() as (lab, page):
        for name in (n for n in SPECS if text in n and n not in done):
            row = screen_one(page, name) | {"browser": lab.browser.version}
            with SCREEN.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(line(row), flush=True)
    return 0


def screen_one(page: Any, name: str) -> dict[str, Any]:
    """times[i]: thousandths of the default's time that choice i takes; 0: it does not fit. Codes that are the same
    byte for byte are timed once."""
    spec = SPECS[name]
    space = space_of(spec, TARGET)
    stand = Stand(page, spec, space.default)
    schedules = raw(space)
    keys: list[str] = [""] * len(schedules)
    ratios: dict[str, float] = {}
    cost = {"emitMs": 0.0, "compileMs": 0.0, "testMs": 0.0}
    waiting: list[Made] = []
    wrong = 0

    def flush() -> None:
        nonlocal wrong
        for made, report in zip(waiting, stand.times(waiting, SCREENING), strict=True):
            wrong += not report["ok"]
            ratio = min(report["mine"]) / min(report["base"])
            ratios[made.key] = ratio if report["ok"] else float("inf")
            cost["emitMs"] += made.emit_ms
            cost["compileMs"] += report["compileMs"]
            cost["testMs"] += report["testMs"]
        waiting.clear()

    for i, schedule in enumerate(schedules):
        made = stand.make(schedule)
        if made is None:
            continue
        keys[i] = made.key
        if made.key not in ratios:
            ratios[made.key] = float("nan")
            waiting.append(made)
            if len(waiting) == BATCH:
                flush()
    flush()
    listed = space.lite()
    times = [round(1000 * min(ratios[k], 99.0)) if k else 0 for k in keys]
    return {
        "spec": name,
        "kind": space.kind,
        "knobs": knobs_of(space),
        "raw": space.raw,
        "fitting": sum(map(bool, keys)),
        "codes": len(ratios),
        "wrong": wrong,
        "listed": len(listed),
        "defaultMs": stand.default_ms,
        **{k: v / len(ratios) for k, v in cost.items()},
        "best": min(t for t in times if t) / 1000,
        "times": times,
    }


def line(row: dict[str, Any]) -> str:
    counts = f"raw {row['raw']:5d} codes {row['codes']:5d} listed {row['listed']:3d} wrong {row['wrong']}"
    cost = f"{row['emitMs']:.1f} + {row['compileMs']:.1f} + {row['testMs']:.1f} ms each"
    return f"{row['spec']:28s} {counts}  default {row['defaultMs']:.3f} ms  best x{row['best']:.3f}  {cost}"


def again(space: Space, times: list[int]) -> tuple[list[Schedule], list[Schedule]]:
    """(the listed schedules, the fastest others as screened)."""
    listed = space.lite()
    members = set(listed)
    others: dict[Schedule, None] = {}
    for _, i in sorted((t, i) for i, t in enumerate(times) if t):
        schedule = space.build(choice_at(space, i))
        if schedule not in members:
            others[schedule] = None
        if len(others) == OTHERS:
            break
    return listed, list(others)


def choice_at(space: Space, number: int) -> dict[str, Any]:
    """Choice `number` of `choices()`: the last knob turns fastest."""
    found = {}
    for knob in reversed(space.knobs):
        number, at = divmod(number, len(knob.values))
        found[knob.name] = knob.values[at]
    return found


def quality(text: str = "") -> int:
    """The finals of kernels whose name holds `text`; without it, of those that had none yet. Prints a line a kernel
    and the geometric means."""
    rows = json.loads(QUALITY.read_text()) if QUALITY.exists() else []
    if text:
        rows = [r for r in rows if text not in r["spec"]]
    done = {r["spec"] for r in rows}
    with stands() as (_, page):
        for name, row in screened().items():
            if text in name and name not in done:
                rows.append(final_one(page, name, row["times"]))
                print(final_line(rows[-1]), flush=True)
                QUALITY.write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")
    print(summary(rows))
    return 0


def final_one(page: Any, name: str, times: list[int]) -> dict[str, Any]:
    """reached: time of the best of all over that of the best listed; firsts: over that of the best of the list's
    first N."""
    spec = SPECS[name]
    space = space_of(spec, TARGET)
    stand = Stand(page, spec, space.default)
    made: dict[str, Made] = {}
    where: dict[str, list[Schedule]] = {}
    for some in again(space, times):
        for schedule in fastest(stand, some):
            code = stand.make(schedule, keep=True)
            if code is not None:
                made.setdefault(code.key, code)
                where.setdefault(code.key, []).append(schedule)
    samples = dict(zip(made, stand.final(list(made.values()), FINAL), strict=True))
    ms = {schedule: median(samples[key]) for key, schedules in where.items() for schedule in schedules}
    order = space.lite()
    best_of = {n: min(ms[s] for s in order[:n] if s in ms) for n in FIRST if n <= len(order)}
    best = min(ms, key=lambda s: ms[s])
    best_listed = min((s for s in order if s in ms), key=lambda s: ms[s])
    return {
        "spec": name,
        "kind": space.kind,
        "raw": space.raw,
        "listed": len(order),
        "finalists": len(ms),
        "defaultMs": ms[space.default],
        "bestMs": ms[best],
        "reached": ms[best] / ms[best_listed],
        "default": ms[best] / ms[space.default],
        "firsts": {str(n): ms[best] / t for n, t in best_of.items()},
        "best": describe(best),
        "bestListed": describe(best_listed),
        "place": order.index(best_listed),
    }


def fastest(stand: Stand, schedules: list[Schedule]) -> list[Schedule]:
    """The first, which may be the default, and the FINALISTS fastest."""
    made = [m for m in map(stand.make, schedules) if m is not None]
    reports: list[dict[str, Any]] = []
    for at in range(0, len(made), BATCH):
        reports += stand.times(made[at : at + BATCH], AGAIN)
    ratios = [(median(r["mine"]) / median(r["base"]), n) for n, r in enumerate(reports) if r["ok"]]
    return list(dict.fromkeys([made[0].schedule, *(made[n].schedule for _, n in sorted(ratios)[:FINALISTS])]))


def final_line(r: dict[str, Any]) -> str:
    head = f"{r['spec']:28s} best listed reaches {100 * r['reached']:5.1f}% (place {r['place']:2d})"
    tail = f"  default {100 * r['default']:5.1f}%  {r['bestListed']}"
    missed = f"\n{'':28s} not listed: {r['best']}" if r["reached"] < 0.97 else ""
    return head + tail + missed


def geomean(values: Iterable[float]) -> float:
    logs = [log(v) for v in values]
    return exp(sum(logs) / len(logs))


def summary(rows: list[dict[str, Any]]) -> str:
    lines = [f"{len(rows)} kernels, at most {max(r['listed'] for r in rows)} listed for one"]
    for kind in ("dense", "scores", "conv", "depthwise", "odd", " 1x", ""):
        some = [r for r in rows if kind in r["spec"] and not (kind == " 1x" and "dense" not in r["spec"])]
        if some:
            reached, default = (100 * geomean(r[k] for r in some) for k in ("reached", "default"))
            least = 100 * min(r["reached"] for r in some)
            label = {"": "all", " 1x": "one row"}.get(kind, kind)
            lines.append(
                f"{label:10s} best listed {reached:5.1f}% of all's best (least {least:.1f}), default {default:.1f}%"
            )
    firsts = {n: geomean(r["firsts"].get(str(n), r["reached"]) for r in rows) for n in FIRST}
    lines.append("best of the first N: " + "  ".join(f"{n}: {100 * v:.1f}%" for n, v in firsts.items()))
    return "\n".join(lines)
