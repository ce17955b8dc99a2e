"""Whether wrong numbers of a `half-sums` record are those of matrices that are never begun anew.

    python -m tests.bench.gpu.kept_sums tests/bench/results/gpu-20261123-184752-half-sums.json

A sum of k elements in stretches of s adds what the matrices hold after each stretch. Matrices that keep what they held
make that the sum of all prefixes, sum over r of sum over j < min(k, (r + 1) s) of a[j] b[j]. This prints the largest
error of the bench's 64 places (numbers.js: operands, places, relative to the root of k) for that beside what was found
on the device, and needs none itself.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

PLACES = 64


def numbers(count: int, stream: int) -> Any:
    """The bench's operand number `stream`, as it is stored: f64 of f16."""
    hashed = ((np.arange(count, dtype=np.uint64) + np.uint64(stream * 7919)) * np.uint64(2654435761)) % 2**32
    return (
        ((((hashed >> np.uint64(8)) & np.uint64(0xFFFF)) / 65536) - 0.5).astype(np.float16).astype(np.float64)
    )


def kept(m: int, k: int, n: int, stretch: int) -> float:
    """The error that such matrices have in an m x k x n product with sums of f16 over `stretch` elements."""
    at = np.array([int((i * 2654435761 % 2**32) / 2**32 * m * n) for i in range(PLACES)])
    a, b = numbers(m * k, 0).reshape(m, k), numbers(k * n, 1).reshape(k, n)
    prefixes = np.cumsum(a[at // n] * b[:, at % n].T, axis=1)
    ends = [min(k, end) - 1 for end in range(stretch, k + stretch, stretch)]
    wrong = prefixes[:, ends].sum(1).astype(np.float16)
    return float(np.abs(wrong - prefixes[:, -1]).max() / k**0.5)


def main(path: Path) -> None:
    for row in json.loads(path.read_text())["results"]["half sums"]:
        m, k, n = row["shape"]
        for one in row["sums of f16"]:
            found = re.search(r"sums of f16 over (\d+)", one["schedule"])
            if found and "error" in one:
                stretch = int(found[1])
                print(
                    f"{m}x{k}x{n} over {stretch:3}: found {one['error']:.4f}, kept sums {kept(m, k, n, stretch):.4f}"
                )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
