"""What the way home from a GPU is made of, by the wall clock in the page: ms for outputs of some sizes.

`none`: pieces are mapped one after another and nobody reads them: the device's copies and the browser's GPU process;
`kept`: they are copied into an array that is there; `new`: into a new one, as an output needs it. Beside that, the
pages of a new array by themselves, touched by this thread and by several others at once.

    python3 serve.py bench --gpu readback --outputs 9,77 --repeats 5
    python3 -m tests.bench.gpu.readback RESULT.json     the table of docs/webgpu-measured.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Page

from nnjit.runtime.gpu_plan import WAIT
from tests.bench.gpu.page import Bench

SIZES = (9, 33, 77, 264, 617)
"""MB: logits of RoBERTa at batch 8, of T5-small and GPT-2 at 1, of both at 8."""
WAYS = (
    (4, 16, 16),
    (4, 16, 2),
    (1, 16, 16),
    (1, 64, 4),
    (4, 64, 64),
    (4, 64, 4),
    (16, 4, 4),
    (16, 16, 2),
    (1024, 1, 1),
)
"""MiB of a piece, buffers, and how many of them are mapped at a time."""
WORKERS = (1, 2, 4)


def measure(page: Page, sizes: Sequence[int], rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Rows of ms, medians of some rounds; needs a page in which main.js has started."""
    page.evaluate("(n) => bench.openReadback(n)", max(sizes) * 10**6 // 16 * 16)
    found: dict[str, Any] = {"ways": [], "touched": [], "workers": []}
    for mb in sizes:
        nbytes = mb * 10**6 // 16 * 16
        times = max(2, min(rounds, 1200 // mb))
        row = page.evaluate("([n, r]) => bench.touch(n, r)", [nbytes, times])
        row = {name: median(ms) for name, ms in row.items()}
        found["touched"].append({"mb": mb, **row})
        say(f"{mb} MB, pages here: " + "  ".join(f"{name} {ms:.1f}" for name, ms in row.items()))
        row = {n: median(page.evaluate("(a) => bench.touchApart(...a)", [nbytes, n, times])) for n in WORKERS}
        found["workers"].append({"mb": mb, **row})
        say(
            f"{mb} MB, pages of one array in each of several workers: "
            + "  ".join(f"{n}: {ms:.1f}" for n, ms in row.items())
        )
        for piece, most, maps in WAYS:
            if piece << 20 > nbytes and (piece, most, maps) != WAYS[-1]:
                continue
            size = min(piece << 20, -(-nbytes // 16) * 16)
            one: dict[str, Any] = {"mb": mb, "piece": piece, "most": most, "maps": maps}
            for memory in ("none", "kept", "new"):
                how = {"nbytes": nbytes, "piece": size, "most": most, "maps": maps, "memory": memory,
                       "rounds": times, "everyMs": WAIT["everyMs"]}  # fmt: skip
                try:
                    timed = page.evaluate("(how) => bench.bring(how)", how)
                except Exception as error:  # a buffer that the device has no room for
                    one[f"{memory} failed"] = str(error)[:200]
                    continue
                one[memory] = median(timed["ms"])
                one[f"{memory} copy"] = median(timed["copyMs"])
                if memory == "none":
                    one["arrivals"] = timed["arrivals"][:40]
            found["ways"].append(one)
            times_ = "  ".join(f"{m} {one[m]:.1f}" for m in ("none", "kept", "new") if m in one)
            copies = "  ".join(f"{one[f'{m} copy']:.1f}" for m in ("kept", "new") if m in one)
            first = "  ".join(f"{ms:.1f}" for ms in one.get("arrivals", [])[:8])
            say(
                f"{mb} MB by {piece} MiB, {most} buffers, {maps} mapped: {times_} ms (copying {copies}; arrive {first})"
            )
    return found


def table(found: dict[str, Any]) -> str:
    """Markdown: a line a size, with 4 MiB pieces and with 16 MiB pieces."""
    lines = [
        "| MB | mapped, nobody reads | into memory that is there | into new memory | pages of new memory, "
        "read and written | written | written in 4 threads, an array each |",
        "|---|---|---|---|---|---|---|",
    ]
    touched = {row["mb"]: row for row in found["touched"]}
    apart = {row["mb"]: row for row in found["workers"]}
    for mb in sorted(touched):
        ways = {(w["piece"], w["most"], w["maps"]): w for w in found["ways"] if w["mb"] == mb}
        pair = [ways[way] for way in ((4, 16, 16), (16, 4, 4)) if way in ways]
        cells = ["; ".join(f"{way[memory]:.1f}" for way in pair) for memory in ("none", "kept", "new")]
        cells += [f"{touched[mb][how]:.1f}" for how in ("read and write", "write")]
        lines.append("| " + " | ".join([str(mb), *cells, f"{apart[mb][str(max(WORKERS))]:.1f}"]) + " |")
    return "\n".join(lines)


def readback(bench: Bench) -> None:
    """Where the time of outputs on their way goes."""
    sizes = [int(mb) for mb in bench.options.outputs.split(",")]
    bench.result["readback"] = measure(bench.page, sizes, bench.options.repeats, bench.say)


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())["results"]["readback"]))
