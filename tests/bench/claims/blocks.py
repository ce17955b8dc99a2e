"""How much longer the longest runs are while the tuner works: stretches with and without it, in turn in one session.

    python3 serve.py bench --claims p99 [MODEL ...] [key=value ...]

Takes models and what USUAL has; each use appends a line to results/claims/p99.jsonl (on a GPU p99-webgpu.jsonl) and
prints it. Candidates are
tried without end (what inferences may wait has no limit here, no candidate may win, and none is given up for want of
hope), so that what is seen in the first seconds of a session lasts. A third kind of stretch, in which the tuner rests
as well, says what the same comparison gives where there is nothing to find. Intervals: stretches are drawn again, with
repetition.
"""

from __future__ import annotations

import inspect
import json
import random
import time
from collections.abc import Sequence
from typing import Any

from tests.bench.claims import handicap
from tests.bench.claims.quality import FOLDER
from tests.bench.claims.use import job, machine, quantile, vendor
from tests.device.conftest import flags
from tests.support.browser import Lab, started

USUAL: dict[str, Any] = {
    "backend": "wasm", "threads": 2, "mode": "idle", "gapMs": 0, "blockMs": 3000, "blocks": 8, "runs": 120,
    "mostMs": 200_000, "slices": True,
}  # fmt: skip
"""blocks.js says what they are. slices: false has readings on a GPU last as long as where nobody waits for them, one
every 80 ms."""
ENDLESS = """
import nnjit.tune.policy as policy
import nnjit.tune.search as search
for pace in (policy.PACE, policy.GPU_PACE):
    pace["allowanceMs"] = 1e9
policy.PACE["streamMs"] = 1e9
search.NEAR = search.WORTH = 0.0
search.PATIENCE = 10**9
"""
WHOLE = """
policy.GPU_PACE |= {"recentMs": -1.0, "rareRuns": 1e12, "patienceMs": 80.0}
"""
KINDS = ("work", "rest", "again")
ENOUGH = 100
"""Runs of a kind for which a 99th percentile says anything; with fewer it is the 95th."""
DRAWS = 2000

Block = dict[str, Any]


def measured(lab: Lab, name: str, how: dict[str, Any]) -> dict[str, Any]:
    """What blocks.js gives of a fresh profile."""
    page = lab.page("t/bench/bench.html")
    page.set_default_timeout(0)
    whole = {**USUAL, **how, "url": job(lab, name)}
    whole["python"] = [
        inspect.getsource(handicap),
        "begin('rules')",
        ENDLESS + ("" if whole["slices"] else WHOLE),
    ]
    whole["adapter"] = vendor() if whole["backend"] == "webgpu" else ""
    try:
        found: dict[str, Any] = page.evaluate(
            "async (how) => (await import('/t/bench/claims/blocks.js')).blocks(how)", whole
        )
    finally:
        page.context.close()
    return found


def pooled(blocks: Sequence[Block]) -> list[float]:
    return [ms for b in blocks for ms in b["ms"]]


def judge(blocks: Sequence[Block], seed: int = 1) -> dict[str, Any]:
    """q: the quantile that is meant. ratio: its value while the tuner works over that while it rests, with the 95%
    interval; control: the same of two kinds of stretches that do not differ; p50, tail: of each kind, ms."""
    kinds = {k: [b for b in blocks if b["kind"] == k and b["ms"]] for k in KINDS}
    counts = {k: len(pooled(v)) for k, v in kinds.items()}
    q = 0.99 if min(counts.values()) >= ENOUGH else 0.95
    dice = random.Random(seed)

    def ratio(mine: Sequence[Block], base: Sequence[Block]) -> float:
        return quantile(pooled(mine), q) / quantile(pooled(base), q)

    def interval(mine: Sequence[Block], base: Sequence[Block]) -> tuple[float, float]:
        drawn = sorted(
            ratio(dice.choices(mine, k=len(mine)), dice.choices(base, k=len(base))) for _ in range(DRAWS)
        )
        return drawn[int(0.025 * DRAWS)], drawn[int(0.975 * DRAWS) - 1]

    work, rest, again = (kinds[k] for k in KINDS)
    return {
        "q": q,
        "runs": counts,
        "blocks": {k: len(v) for k, v in kinds.items()},
        "tried": sum(b["tried"] for b in work),
        "delayedMs": sum(b["delayedMs"] for b in work),
        "p50": {k: quantile(pooled(v), 0.5) for k, v in kinds.items()},
        "tail": {k: quantile(pooled(v), q) for k, v in kinds.items()},
        "ratio": ratio(work, rest + again),
        "ratioWithin": interval(work, rest + again),
        "control": ratio(again, rest),
        "controlWithin": interval(again, rest),
    }


def line(name: str, f: dict[str, Any]) -> str:
    low, high = f["ratioWithin"]
    base, top = f["controlWithin"]
    return (
        f"{name:14s} p{100 * f['q']:.0f} x{f['ratio']:.2f} ({low:.2f} to {high:.2f}), control x{f['control']:.2f} "
        f"({base:.2f} to {top:.2f}); {f['runs']['work']} and {f['runs']['rest'] + f['runs']['again']} runs, "
        f"{f['tried']} tried, waited {f['delayedMs']:.0f} ms; p50 {f['p50']['rest']:.2f} -> {f['p50']['work']:.2f} ms"
    )


def asked(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """(models, how they are used) of a command's arguments. ValueError for a key that USUAL does not have."""
    given = {k: v for k, _, v in (a.partition("=") for a in arguments if "=" in a)}
    if wrong := set(given) - set(USUAL):
        raise ValueError(f"no key {min(wrong)!r}: {', '.join(USUAL)}")
    how = {k: v if isinstance(USUAL[k], str) else json.loads(v) for k, v in given.items()}
    return [a for a in arguments if "=" not in a], how


def p99(*arguments: str) -> int:
    from tests.bench.claims.live import MODELS

    names, how = asked(arguments)
    gpu = {**USUAL, **how}["backend"] == "webgpu"
    with started(flags() if gpu else ()) as lab:
        for name in names or MODELS:
            found = measured(lab, name, how)
            figures = judge(found["blocks"])
            rounded = [{**b, "ms": [round(ms, 2) for ms in b["ms"]]} for b in found["blocks"]]
            row = {
                "model": name,
                "how": {**USUAL, **how},
                "date": time.strftime("%Y-%m-%d %H:%M"),
                "browser": lab.browser.version,
                "machine": machine(),
                "figures": figures,
                "blocks": rounded,
            }
            FOLDER.mkdir(parents=True, exist_ok=True)
            with (FOLDER / f"p99{'-webgpu' if gpu else ''}.jsonl").open("ab", buffering=0) as file:
                file.write((json.dumps(row) + "\n").encode())
            print(line(name, figures), found["state"], found["reason"], flush=True)
    return 0
