"""Tables of what the studies found, from results/claims/: printed, and put into docs/tuning-measured.md.

python3 serve.py bench --claims tables            print them
python3 serve.py bench --claims tables docs       and write them between the marks there
python3 serve.py bench --claims tables webgpu     those of uses on the GPU
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from nnjit.tune.space import LIMIT
from tests.bench.claims import race
from tests.bench.claims.handicap import STARTS
from tests.bench.claims.live import MODELS, number
from tests.bench.claims.quality import FIRST, FOLDER, QUALITY, geomean
from tests.bench.claims.use import SECONDS, USUAL
from tests.bench.tables.report import write_section

DOCS = Path(__file__).parents[3] / "docs" / "tuning-measured.md"
ORDER = tuple(reversed(MODELS))
KINDS = ("dense", "scores", "conv", "depthwise")


def latest(study: str, key: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
    """The last line of each key, in the order of their first appearance."""
    path = FOLDER / f"{study}.jsonl"
    rows = map(lines, path.read_text().splitlines()) if path.exists() else ()
    return list({key(r): r for r in rows}.values())


def lines(text: str) -> dict[str, Any]:
    """A line of results; those that were made before there were starts began as the rules say."""
    row: dict[str, Any] = json.loads(text)
    row["how"] = {**USUAL, **row["how"]}
    row["figures"] = {"atMs": {}, "driftMs": 0.0, **row["figures"]}
    return row


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [list(map(str, row)) for row in (head, ["---"] * len(head), *rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def groups(rows: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Rows by kind, then the odd ones, those of one row, and all."""
    found = [(kind, [r for r in rows if r["spec"].startswith(kind)]) for kind in KINDS]
    found.append(("odd extents", [r for r in rows if r["spec"].endswith("odd")]))
    found.append(("one row", [r for r in rows if r["spec"].startswith("dense 1x")]))
    found.append(("all", list(rows)))
    return [(name, some) for name, some in found if some]


def quality() -> str:
    rows = json.loads(QUALITY.read_text()) if QUALITY.exists() else []
    if not rows:
        return ""

    def percent(some: Sequence[dict[str, Any]], key: str) -> str:
        return f"{100 * geomean(r[key] for r in some):.1f}%"

    body = [
        (name, len(some), f"{min(r['raw'] for r in some):,} to {max(r['raw'] for r in some):,}",
         max(r["listed"] for r in some), percent(some, "reached"), f"{100 * min(r['reached'] for r in some):.1f}%",
         percent(some, "default"))
        for name, some in groups(rows)
    ]  # fmt: skip
    head = ("kernels", "how many", "raw choices", "listed at most", "best listed over best of all", "worst kernel",
            "default over best of all")  # fmt: skip
    firsts = [(n, geomean(r["firsts"].get(str(n), r["reached"]) for r in rows)) for n in FIRST]
    curve = table(("first N of the list", *(n for n, _ in firsts)),
                  [("their best over best of all", *(f"{100 * v:.1f}%" for _, v in firsts))])  # fmt: skip
    return table(head, body) + "\n\n" + curve


def racing() -> str:
    rows = race.rows()
    if not rows:
        return ""
    body = []
    for name, some in groups(rows):
        mine = [race.seconds(r) for r in some]
        body.append(
            (name, len(some), sum(r["listWithin"] is None for r in some),
             f"{1e3 * geomean(mine):.0f}", f"{geomean(r['searchWithin'][0] for r in some):.2f}",
             f"{geomean(r['searchSeconds'] for r in some):.1f}",
             f"{geomean(r['searchWithin'][0] / t for r, t in zip(some, mine, strict=True)):.0f}",
             f"{geomean(r['searchSeconds'] / t for r, t in zip(some, mine, strict=True)):.0f}")
        )  # fmt: skip
    head = ("kernels", "how many", "list never within 5%", "list within 5% after, ms", "search within 5% after, s",
            "1,000 trials, s", "times as long to within 5%", "times as long in all")  # fmt: skip
    return table(head, body)


def seconds(ms: float | None, none: str) -> str:
    return none if ms is None else f"{ms / 1e3:.1f}"


def lives() -> list[dict[str, Any]]:
    return sorted(
        latest("live", live_key),
        key=lambda r: (STARTS.index(r["how"]["start"]), r["how"]["mode"] == "idle", r["how"]["gapMs"],
                       ORDER.index(r["model"])),
    )  # fmt: skip


def live_key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["model"], row["how"]["start"], row["how"]["mode"], row["how"]["gapMs"]


def manner(row: dict[str, Any]) -> tuple[Any, ...]:
    """How it was used: start, mode, ms between runs."""
    return row["how"]["start"], row["how"]["mode"], row["how"]["gapMs"]


def living() -> str:
    rows = lives()
    ruled = {
        (r["model"], r.get("machine"), r["how"]["mode"]): r["figures"]["finalMs"]
        for r in rows
        if r["how"]["start"] == "rules"
    }
    body = []
    for r in rows:
        f, rules = r["figures"], ruled.get((r["model"], r.get("machine"), r["how"]["mode"]))
        body.append((*manner(r), r["model"], f"{f['firstMs'] / 1e3:.1f}",
                     seconds(f["reachedMs"], "never"), seconds(f["lastSwapMs"], "none"), f["tried"], f["kept"],
                     f"{f['tuneMs'] / 1e3:.1f}", f"{f['delayedMs']:.0f}", f"{f['startMs']:.1f}",
                     f"{f['finalMs']:.1f}", f"{100 * rules / f['finalMs']:.0f}%" if rules else ""))  # fmt: skip
    head = ("start", "mode", "ms between runs", "model", "first run, s", "95% of final speed after, s",
            "last swap after, s", "tried", "kept", "tuned for, s", "waited, ms", "start, ms a run",
            "final", "of the rules' speed")  # fmt: skip
    return table(head, body) if body else ""


def curve(f: dict[str, Any]) -> list[str]:
    """The part of the final speed that runs had by each of SECONDS."""
    return [f"{100 * f['finalMs'] / ms:.0f}%" if (ms := f["atMs"].get(str(s))) else "" for s in SECONDS]


def budgets() -> str:
    rows = [r for r in lives() if r["how"]["start"] != "rules"]
    body = [
        (
            *manner(r),
            r["model"],
            f"{r['figures']['finalMs']:.1f}",
            *curve(r["figures"]),
        )
        for r in rows
    ]
    head = ("start", "mode", "ms between runs", "model", "final, ms a run", *(f"{s} s" for s in SECONDS))
    return table(head, body) if body else ""


def overhead_key(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["model"], row["how"]["mode"], row["how"]["gapMs"]


def costing() -> str:
    """A row a use with the tuner, beside what the same use without one gave."""
    controls = {
        overhead_key(r): r["figures"] for r in latest("overhead", overhead_both) if r["how"]["control"]
    }
    body = []
    for r in latest("overhead", overhead_both):
        if r["how"]["control"]:
            continue
        f, how = r["figures"], r["how"]
        control = controls.get(overhead_key(r))
        use = f"{how['gapMs']} ms between" if how["gapMs"] else "no pause"
        body.append((r["model"], use, f["runs"], f["tried"], f"{f['delayedMs']:.0f}", f"{f['addedMs']:+.0f}",
                     f"{control['addedMs'] * f['runs'] / control['runs']:+.0f}" if control else "",
                     f"{f['quietP50']:.2f}, {f['duringP50']:.2f}", f"{f['quietP99']:.2f}, {f['duringP99']:.2f}",
                     f"{f['duringP99'] / f['quietP99']:.2f}",
                     f"{control['duringP99'] / control['quietP99']:.2f}" if control else ""))  # fmt: skip
    head = ("model", "use", "runs", "tried", "waited, ms", "longer in all, ms", "the same without a tuner, ms",
            "p50 without, with", "p99 without, with", "p99 ratio", "without a tuner")  # fmt: skip
    return table(head, body) if body else ""


def tails() -> str:
    """How much longer the longest runs are while candidates are tried."""
    rows = latest("p99", lambda r: (r["model"], r["how"]["backend"], r["how"]["gapMs"]))
    return longest(sorted(rows, key=lambda r: (r["how"]["gapMs"], ORDER.index(r["model"]))))


def longest(rows: Iterable[dict[str, Any]]) -> str:
    body = []
    for r in rows:
        f, gap = r["figures"], r["how"]["gapMs"]
        low, high = f["ratioWithin"]
        least, most = f["controlWithin"]
        use = f"{gap} ms between" if gap else "no pause"
        if r["how"]["backend"] == "webgpu":
            slices = "" if r["how"].get("slices", True) else ", whole readings"
            use += f", stretches of {r['how']['blockMs'] / 1e3:g} s{slices}"
        body.append((r["model"], use, f["blocks"]["work"], f["runs"]["work"],
                     f["runs"]["rest"] + f["runs"]["again"], f["tried"], f"p{100 * f['q']:.0f}",
                     f"{f['ratio']:.2f} ({low:.2f} to {high:.2f})", f"{f['control']:.2f} ({least:.2f} to {most:.2f})",
                     f"{f['p50']['rest']:.2f}, {f['p50']['work']:.2f}"))  # fmt: skip
    head = ("model", "use", "stretches", "runs with the tuner", "without", "tried", "of",
            "with over without (95% interval)", "without over without", "p50 without, with, ms")  # fmt: skip
    return table(head, body) if body else ""


def overhead_both(row: dict[str, Any]) -> tuple[Any, ...]:
    return *overhead_key(row), row["how"]["control"]


def second_key(row: dict[str, Any]) -> tuple[str, ...]:
    return row["model"], row["how"]["start"], row["how"]["use"]


def sharing() -> str:
    rows = {second_key(r): r["figures"] for r in latest("second", second_key)}
    body = []
    for model, start, use in rows:
        uses = [rows.get((model, start, u)) for u in ("first", "again", "other", "alone")]
        if use != "first" or None in uses:
            continue
        first, again, other, alone = (f for f in uses if f)
        tuned = first["finalMs"]

        def of(ms: float, tuned: float = tuned) -> str:
            return f"{100 * tuned / ms:.0f}%"

        body.append((start, model, first["tried"], first["kept"], f"{first['startMs']:.1f}, {tuned:.1f}",
                     of(again["startMs"]), of(other["startMs"]), f"{other['tried']} in {other['tuneMs'] / 1e3:.1f} s",
                     of(other["finalMs"]), of(alone["finalMs"])))  # fmt: skip
    head = ("start", "model", "first profile: tried", "kept", "start, end, ms", "its next visit starts at",
            "second profile starts at", "tests, one a kernel at most", "then", "the same without records")  # fmt: skip
    return table(head, body) if body else ""


USES = {"sustained": "run after run", "bursts": "ten runs, a second's pause", "rare": "a run every 15 s",
        "sessions": "two sessions in turn", "batches": "batch 1, 2, 3, each 8 s"}  # fmt: skip


def using() -> str:
    rows = latest("patterns", lambda r: (r["model"], r["how"]["start"], r["how"]["pattern"]))
    body = [
        (r["model"], r["how"]["start"], USES[r["how"]["pattern"]], f["runs"], f["tried"], f["kept"],
         f"{f['tuneMs'] / 1e3:.0f}", f["state"], f"{f['delayedMs']:.0f}", f"{f['startMs']:.1f}",
         number(f["duringP50"]), number(f["duringP99"]), f"{f['finalMs']:.1f}")
        for r in rows for f in [r["figures"]]
    ]  # fmt: skip
    head = ("model", "start", "use", "runs", "tried", "kept", "for, s", "then", "waited, ms", "start, ms a run",
            "p50", "p99", "after")  # fmt: skip
    return table(head, body) if body else ""


def lengths() -> str:
    """What comes of lists of at most so many schedules."""
    rows = latest("sizes", lambda r: (r["model"], r["how"]["start"], r["how"]["limit"]))
    body = [
        (r["model"], r["how"]["start"], r["how"]["limit"] or LIMIT, f["tried"], f["kept"],
         f"{f['tuneMs'] / 1e3:.1f}", f["reason"] or f["state"], f"{f['startMs']:.1f}",
         f"{f['finalMs']:.1f}", *curve(f)[:-1])
        for r in sorted(rows, key=lambda r: (r["model"], r["how"]["start"], r["how"]["limit"] or LIMIT))
        for f in [r["figures"]]
    ]  # fmt: skip
    head = ("model", "start", "listed at most", "tried", "kept", "tuned for, s", "then", "start, ms a run", "final",
            *(f"{s} s" for s in SECONDS[:-1]))  # fmt: skip
    return table(head, body) if body else ""


TABLES = {
    "quality": quality,
    "race": racing,
    "live": living,
    "overhead": costing,
    "p99": tails,
    "second": sharing,
    "patterns": using,
    "budgets": budgets,
    "sizes": lengths,
}


def lived(rows: Sequence[dict[str, Any]]) -> str:
    """Uses on a GPU from the first run on."""
    body = [
        (r["model"], *manner(r), f["tried"], f["kept"], seconds(f["reachedMs"], "never"), f"{f['tuneMs'] / 1e3:.1f}",
         f["reason"] or f["state"], f"{f['delayedMs']:.0f}", f"{f['startMs']:.2f}", f"{f['finalMs']:.2f}")
        for r in rows for f in [r["figures"]]
    ]  # fmt: skip
    head = ("model", "start", "mode", "ms between runs", "tried", "kept", "95% of final speed after, s", "tuned for, s",
            "then", "waited, ms", "start, ms a run", "final")  # fmt: skip
    return table(head, body) if body else ""


def costs(rows: Sequence[dict[str, Any]]) -> str:
    """What the tuner costs a use on a GPU, beside the same use without one."""
    body = [
        (r["model"], "without a tuner" if r["how"]["control"] else "with", f["runs"], f["tried"],
         f"{f['delayedMs']:.0f}", f"{f['quietP50']:.2f}, {number(f['duringP50'])}",
         f"{f['quietP99']:.2f}, {number(f['duringP99'])}")
        for r in rows for f in [r["figures"]]
    ]  # fmt: skip
    head = ("model", "tuner", "runs", "tried", "waited, ms", "p50 before and after, during", "p99")
    return table(head, body) if body else ""


def on_gpu() -> str:
    """Uses with backend=webgpu."""
    found = (lived(latest("live-webgpu", live_key)), costs(latest("overhead-webgpu", overhead_both)))
    return "\n\n".join(filter(None, found))


def tables(where: str = "") -> int:
    if where == "webgpu":
        print(on_gpu())
        return 0
    for name, make in TABLES.items():
        text = make()
        if text:
            print(f"\n{name}\n{text}")
            if where == "docs":
                write_section(name, text, DOCS)
    return 0
