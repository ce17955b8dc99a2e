"""Decoding on WebGPU: a prompt, then one token a run that is fed the keys and values of the runs before, nnjit and
onnxruntime-web, with these caches in the page's memory and in buffers of the GPU that are handed on.

Takes the Bench, fills "decode" of its result: ms of each run, plans, and steps of the plan that served last.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from statistics import median
from typing import Any

import numpy as np

from tests.bench.decode import model_file
from tests.bench.gpu.page import Bench
from tests.support import decoder_models

FIRST = 3
"""Runs that the median leaves out: the prompt, and the two that show how lengths change."""


def decode(bench: Bench) -> None:
    options = bench.options
    size = replace(decoder_models.GPT2, layers=options.layers, vocabulary=options.vocabulary)
    path = model_file(size)
    url = bench.lab.site.mount("decode", path.parent) + path.name
    shape = {"layers": size.layers, "heads": size.heads, "depth": size.depth}
    count = options.prompt + options.tokens
    ids = np.random.default_rng(3).integers(0, size.vocabulary, count).tolist()
    found: dict[str, Any] = {
        "size": asdict(size),
        "prompt": options.prompt,
        "tokens": options.tokens,
        "rows": [],
    }
    bench.result["decode"] = found
    for stays in (False, True):
        for library in bench.libraries:
            row: dict[str, Any] = {"library": library, "stays": stays}
            try:
                row |= bench.page.evaluate(
                    "(a) => bench.decoded(...a)", [library, url, shape, ids, options.prompt, stays]
                )
                bench.say(line(row))
            except Exception as error:  # what cannot run is a line in the record
                row["failed"] = str(error)[:600]
                bench.say(f"{library}: {row['failed'][:200]}")
            found["rows"].append(row)
            bench.save()
    heads = [row["heads"] for row in found["rows"] if "heads" in row]
    found["apart"] = max((float(np.abs(np.subtract(h, heads[0])).max()) for h in heads[1:]), default=0.0)
    bench.say(f"logits differ by {found['apart']:.1e} at most")
    if heads and not found["apart"] < 1e-2:
        raise RuntimeError(f"logits of the same tokens differ by {found['apart']:.3g}")


def line(row: dict[str, Any]) -> str:
    where = "caches stay" if row["stays"] else "caches come back"
    later = row["ms"][FIRST:]
    steps = f", {row['steps']} steps, {row['plans']} plans" if "steps" in row else ""
    token = f", a token {median(later):.2f} (worst {max(later):.1f})" if later else ""
    return f"{row['library']}, {where}: prompt {row['ms'][0]:.1f} ms{token}{steps}"
