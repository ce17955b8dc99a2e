"""Tables of what the studies found, from results/claims/: printed, and put into docs/tuning.md.

python3 serve.py bench --claims tables            print them
python3 serve.py bench --claims tables docs       and write them between the marks in docs/tuning.md
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.bench.claims import race
from tests.bench.claims.quality import FIRST, FOLDER, QUALITY, geomean
from tests.bench.report import write_section

DOCS = Path(__file__).parents[3] / "docs" / "tuning.md"
KINDS = ("dense", "scores", "conv", "depthwise")


def latest(study: str, key: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
    """The last line of each key, in the order of their first appearance."""
    path = FOLDER / f"{study}.jsonl"
    rows = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return list({key(r): r for r in rows}.values())


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


def living() -> str:
    rows = latest("live", lambda r: r["model"])
    body = []
    for r in rows:
        f = r["figures"]
        at = "never" if f["reachedMs"] is None else f"{f['reachedMs'] / 1e3:.1f}"
        swap = "none" if f["lastSwapMs"] is None else f"{f['lastSwapMs'] / 1e3:.1f}"
        body.append((r["model"], f"{f['firstMs'] / 1e3:.1f}", at, swap, f["tried"], f["kept"],
                     f"{f['tuneMs'] / 1e3:.1f}", f"{f['finalMs']:.1f}"))  # fmt: skip
    head = ("model", "first run, s", "95% of final speed after, s", "last swap after, s", "tried", "kept",
            "tuned for, s", "final, ms a run")  # fmt: skip
    return table(head, body) if body else ""


def costing() -> str:
    rows = latest("overhead", lambda r: (r["model"], r["how"]["mode"], r["how"]["gapMs"]))
    body = []
    for r in rows:
        f, how = r["figures"], r["how"]
        use = f"{how['mode']}, {how['gapMs']} ms between" if how["gapMs"] else f"{how['mode']}, no pause"
        body.append((r["model"], use, f["runs"], f["tried"], f"{f['delayedMs']:.0f}", f"{f['addedMs']:+.0f}",
                     f"{f['quietP50']:.2f}, {f['duringP50']:.2f}", f"{f['quietP99']:.2f}, {f['duringP99']:.2f}",
                     f"{f['duringP99'] / f['quietP99']:.2f}"))  # fmt: skip
    head = ("model", "use", "runs", "tried", "waited, ms", "longer in all, ms", "p50 without, with",
            "p99 without, with",
            "p99 ratio")  # fmt: skip
    return table(head, body) if body else ""


def sharing() -> str:
    rows = latest("second", lambda r: (r["model"], r["how"]["profile"]))
    pairs = [
        (one, two)
        for one in rows
        for two in rows
        if one["model"] == two["model"] and one["how"]["profile"] == 1 and two["how"]["profile"] == 2
    ]
    body = []
    for one, two in pairs:
        a, b = one["figures"], two["figures"]
        body.append((one["model"], a["tried"], a["kept"], f"{a['startMs']:.2f}, {a['finalMs']:.2f}", b["tried"],
                     b["kept"], max(two["tests"].values(), default=0), f"{b['startMs']:.2f}, {b['finalMs']:.2f}",
                     f"{100 * b['finalMs'] / b['startMs']:.1f}%"))  # fmt: skip
    head = ("model", "first: tried", "kept", "start, end, ms", "second: tried", "kept", "tests until a swap, most",
            "start, end, ms", "starts at")  # fmt: skip
    return table(head, body) if body else ""


def using() -> str:
    rows = latest("patterns", lambda r: (r["model"], r["how"]["label"]))
    body = [
        (r["model"], r["how"]["label"], f["runs"], f["tried"], f["kept"], f"{f['tuneMs'] / 1e3:.1f}",
         f"{f['delayedMs']:.0f}", f"{f['duringP50']:.2f}", f"{f['duringP99']:.2f}", f"{f['finalMs']:.2f}")
        for r in rows for f in [r["figures"]]
    ]  # fmt: skip
    head = (
        "model",
        "use",
        "runs",
        "tried",
        "kept",
        "tuned for, s",
        "waited, ms",
        "p50, ms",
        "p99, ms",
        "after, ms",
    )
    return table(head, body) if body else ""


BUDGETS = (0.5, 1, 2, 3, 4, 5)
"""Seconds of tuning."""


def budgets() -> str:
    """Of the recorded logs of `serve.py tune MODEL --gap -1`: the factor that the kernels had won by then."""
    body = []
    for path in sorted(FOLDER.parent.glob("tune-*.jsonl")):
        lines = [json.loads(x) for x in path.read_text().splitlines()]
        head, swaps = lines[0], [x for x in lines if x["kind"] == "swap"]
        if head["gapMs"] >= 0 or not swaps:
            continue
        won = [max([1.0, *(s["gained"] for s in swaps if s["at"] <= 1000 * b)]) for b in BUDGETS]
        body.append((head["model"], *(f"{w:.3f}" for w in won)))
    return table(("model", *(f"{b:g} s" for b in BUDGETS)), body) if body else ""


TABLES = {
    "quality": quality,
    "race": racing,
    "live": living,
    "overhead": costing,
    "second": sharing,
    "patterns": using,
    "budgets": budgets,
}


def tables(where: str = "") -> int:
    for name, make in TABLES.items():
        text = make()
        if text:
            print(f"\n{name}\n{text}")
            if where == "docs":
                write_section(name, text, DOCS)
    return 0
