"""What a run() costs beside its kernels: y = -x from 4 bytes to 50 MB, nnjit and onnxruntime-web in turn.

    python3 serve.py bench --overhead
    python3 serve.py bench --overhead --threads 2 --repeats 40

A row is a size: median and quartiles of run() in milliseconds for each library, the same with an output tensor
that the caller gives, and how much of nnjit's time the engine had the call (the plan itself). *ready* and *not ready*:
runs without a pause between them, with and without memory made ready for outputs by other threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from tests.bench.operators.op import build
from tests.support.browser import Lab
from tests.support.codec import Packer, bundle

# f32 values: 4 B, 64 KB, gelu's 384 x 3072 (4.7 MB), 50 MB.
SIZES = {"4 B": 1, "64 KB": 16_384, "4.7 MB": 384 * 3072, "50 MB": 12_500_000}
LIBRARIES = ["nnjit", "onnxruntime-web"]


def job(lab: Lab, count: int) -> str:
    """URL of a bundle with a model of `count` values and its input."""
    x = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    model = build([helper.make_node("Neg", ["x"], ["y"])], x, {})
    packer = Packer()
    head = {"url": lab.site.put(f"overhead/{count}.onnx", model), "x": packer.add(x)}
    return lab.site.put(f"overhead/{count}.bin", bundle(head, packer.blob))


def line(size: str, found: dict[str, Any]) -> str:
    cells = [f"{t['median']:9.3f} ({t['q1']:.3f}-{t['q3']:.3f})" for t in found["times"].values()]
    rest = [found["inside"], *found["streams"].values()]
    return f"{size:>8s}" + "".join(f"{cell:>30s}" for cell in cells) + "".join(f"{ms:10.3f}" for ms in rest)


def main(lab: Lab, threads: int, repeats: int) -> int:
    """Prints the table at one thread count; ms."""
    page = lab.page()
    page.evaluate(
        """async ([names, threads]) => {
          window.overhead = await import('/t/bench/overhead.js');
          await overhead.start(names, threads);
        }""",
        [LIBRARIES, threads],
    )
    print(f"\n{threads} thread(s), ms")
    for number, (size, count) in enumerate(SIZES.items()):
        how = {"repeats": repeats, "warmMs": 700}
        found = page.evaluate("([url, how]) => overhead.measure(url, how)", [job(lab, count), how])
        if number == 0:
            print(
                " " * 8
                + "".join(f"{name:>30s}" for name in found["times"])
                + f"{'engine':>10s}{'ready':>10s}{'not ready':>10s}"
            )
        print(line(size, found), flush=True)
    page.context.close()
    return 0
