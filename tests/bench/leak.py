"""Does memory come back? Rounds of create, run, release of one model; bytes in the engine and the page."""

from __future__ import annotations

from typing import Any

from tests.models.catalogue import Model
from tests.support.browser import Lab
from tests.support.codec import Packer, bundle

# After ten rounds caches are warm; from there on no reading may grow by more than its share. What is not collected yet,
# or code that is thrown away when it has not run for long, makes one sample larger than another, only ever larger: so
# the least of ten rounds is held against the least of the last ten. What each round leaves behind is in both, more by
# the rounds between them: of 50 rounds these are 30, and 5 % of a page's 1.8 MB are found from 3 kB a round on.
# Pyodide's heap grows in steps of a fifth and never shrinks, so one step is no leak: a leak of objects shows in their
# number, one of buffers in many steps.
SETTLED, WINDOW = 10, 10
SLACK = {"objects": 0.02, "python": 0.25, "heap": 0.05, "engine": 0.0}


def measure(lab: Lab, model: Model, rounds: int) -> list[dict[str, float]]:
    """After each round: bytes of all sessions, the compiler's objects and heap bytes, bytes of the page's own heap."""
    path, packer = model.path(), Packer()
    inputs = {name: packer.add(value) for name, value in model.feeds(1).items()}
    url = lab.site.mount(f"m/{model.name}", path.parent) + path.name
    feeds = lab.site.put("leak.bin", bundle({"inputs": inputs}, packer.blob))
    page = lab.page()
    tools = page.context.new_cdp_session(page)
    page.evaluate("async () => { window.leak = await import('/t/bench/leak.js'); await leak.start(); }")
    samples = []
    for _ in range(rounds):
        sample = page.evaluate("([model, feeds]) => leak.round(model, feeds)", [url, feeds])
        tools.send("HeapProfiler.collectGarbage")
        samples.append({**sample, "heap": tools.send("Runtime.getHeapUsage")["usedSize"]})
    page.context.close()
    return samples


def grown(samples: list[dict[str, float]]) -> dict[str, Any]:
    """By how much each reading's least grew between two windows of rounds, as a share; and those that grew too much."""
    settled = samples[min(SETTLED, len(samples) - 1) :]
    window = max(1, min(WINDOW, len(settled) // 2))
    first, last = (
        {k: min(each[k] for each in some) for k in samples[0]}
        for some in (settled[:window], settled[-window:])
    )
    shares = {k: (last[k] - first[k]) / max(first[k], 1) for k in first}
    return {"growth": shares, "leaks": [k for k, share in shares.items() if share > SLACK[k]]}


def main(lab: Lab, model: Model, rounds: int) -> int:
    samples = measure(lab, model, rounds)
    names = list(samples[0])
    print(
        f"{model.name}: MB after a round (objects in millions)\nround  " + "".join(f"{n:>12s}" for n in names)
    )
    for k in sorted({0, 1, 2, 5, SETTLED, *range(0, rounds, 10), rounds - 1}):
        if k < rounds:
            print(f"{k + 1:5d}  " + "".join(f"{samples[k][n] / 1e6:12.2f}" for n in names))
    result = grown(samples)
    print(
        "growth of the least of ten rounds, from round",
        SETTLED + 1,
        {k: f"{100 * v:.2f}%" for k, v in result["growth"].items()},
    )
    return 1 if result["leaks"] else 0
