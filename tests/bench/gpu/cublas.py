"""What cuBLAS does on the same card: times PyTorch's products, prints JSON.

    python3 tests/bench/gpu/cublas.py '{"products": [["f32", 128, 768, 3072]], "vectors": [["f16", 4096, 4096]]}'

Takes products as type, rows, sum, columns, and vectors as type, sum, columns; gives ms of each by the card's own clock:
launches are recorded in a graph, so that none of them waits for Python. A vector's matrices are as many as are
larger than any cache together, taken in turn. f32 is f32: TF32 is off. main.py runs it in a process of its own.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
from collections.abc import Callable
from typing import Any

CACHES = 512 << 20
"""Bytes that no cache of a card holds."""


def main() -> None:
    torch = importlib.import_module("torch")  # no dependency: a machine with CUDA has it or has not

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    types = {"f32": torch.float32, "f16": torch.float16}
    asked = json.loads(sys.argv[1])

    def timed(work: Callable[[], Any], count: int) -> float:
        """ms of one of the `count` things that `work` does: the median of seven replays."""
        for _ in range(3):
            work()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        samples = []
        for _ in range(8):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            graph.replay()
            end.record()
            torch.cuda.synchronize()
            samples.append(begin.elapsed_time(end) / count)
        return float(statistics.median(samples[1:]))

    def product(dtype: str, m: int, k: int, n: int) -> float:
        a, b = (torch.randn(s, device="cuda", dtype=types[dtype]) for s in ((m, k), (k, n)))
        out = torch.empty(m, n, device="cuda", dtype=types[dtype])
        turns = max(2, min(400, int(4e11 / (2 * m * k * n))))

        def work() -> None:
            for _ in range(turns):
                torch.mm(a, b, out=out)

        return timed(work, turns)

    def vector(dtype: str, k: int, n: int, along: bool) -> float:
        """`along`: the weights lie along the sum, as a Linear layer has them."""
        size = k * n * types[dtype].itemsize
        weights = [
            torch.randn((n, k) if along else (k, n), device="cuda", dtype=types[dtype])
            for _ in range(-(-2 * CACHES // size))
        ]
        a = torch.randn(1, k, device="cuda", dtype=types[dtype])
        outs = [torch.empty(1, n, device="cuda", dtype=types[dtype]) for _ in weights]

        def work() -> None:
            for w, out in zip(weights, outs, strict=True):
                torch.mm(a, w.t() if along else w, out=out)

        return timed(work, len(weights))

    def copied() -> float:
        source = torch.randn(CACHES // 4, device="cuda")
        to = torch.empty_like(source)

        def work() -> None:
            for _ in range(4):
                to.copy_(source)

        return 2 * CACHES / timed(work, 4) / 1e6

    print(json.dumps({
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "products": [[*p, product(*p)] for p in asked.get("products", ())],
        "vectors": [
            [d, k, n, along, vector(d, k, n, along)]
            for d, k, n in asked.get("vectors", ())
            for along in (False, True)
        ],
        "copy GB/s": copied(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
