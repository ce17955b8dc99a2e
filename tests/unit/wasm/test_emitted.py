"""The bytes of a fixed set of kernels: a change of the emitter that is meant to change nothing shows here.

golden/emitted.txt has a line a kernel: the hash of its module, the spec, the schedule. Where other bytes are meant,
`pytest tests/unit/wasm/test_emitted.py --update-golden` writes the hashes anew; the schedules stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.steps import (
    Order,
    Pack,
    Parallel,
    Schedule,
    Tile,
    Unroll,
    Vectorize,
    describe,
)
from nnjit.codegen.wasm.emit import emit_module
from nnjit.codegen.wasm.target import Target
from tests.bench.llvm.specs import convolution, depthwise, product

PRODUCT = product(37, 51, 29)
CONVOLUTION = convolution(11, 13, 5, 24, 3, 2)
DEPTHWISE = depthwise(9, 10, 19, 3, 1)
ALL = ("product", "convolution", "depthwise")

KERNELS: list[tuple[str, Schedule]] = [
    ("product", (Parallel(("m",)),)),
    (
        "product",
        (Tile("n", 8), Vectorize("n", 4), Tile("m", 6), Unroll("k", 2), Order(("n", "m")), Parallel(("n",))),
    ),
    (
        "product",
        (
            Tile("n", 16),
            Vectorize("n", 4),
            Tile("m", 3),
            Unroll("k", 4),
            Pack(1, "n"),
            Order(("m", "n")),
            Parallel(("m",)),
        ),
    ),
    ("convolution", (Parallel(("p", "q")),)),
    (
        "convolution",
        (
            Tile("o", 8),
            Vectorize("o", 4),
            Tile("q", 4),
            Unroll("i", 2),
            Pack(1, "o"),
            Order(("o", "p", "q")),
            Parallel(("o", "p")),
        ),
    ),
    (
        "convolution",
        (
            Tile("o", 16),
            Vectorize("o", 4),
            Unroll("i", 5),
            Unroll("kx", 3),
            Order(("p", "q", "o")),
            Parallel(("p",)),
        ),
    ),
    ("depthwise", (Parallel(("c",)),)),
    (
        "depthwise",
        (
            Tile("c", 8),
            Vectorize("c", 4),
            Tile("q", 3),
            Unroll("kx", 3),
            Unroll("ky", 3),
            Order(("p", "q", "c")),
            Parallel(("p",)),
        ),
    ),
    (
        "depthwise",
        (
            Tile("c", 4),
            Vectorize("c", 4),
            Tile("p", 5),
            Unroll("kx", 3),
            Pack(1, "c"),
            Order(("c", "q", "p")),
            Parallel(("c",)),
        ),
    ),
]


def test_the_bytes_of_kernels_are_what_they_were(golden: Callable[[str, str], None]) -> None:
    specs = dict(zip(ALL, (PRODUCT, CONVOLUTION, DEPTHWISE), strict=True))
    lines = []
    for relaxed in (True, False):
        target = Target(relaxed=relaxed)
        for name, schedule in KERNELS:
            made = hashlib.sha256(emit_module(apply(specs[name], schedule), target)).hexdigest()[:24]
            lines.append(f"{made} {name} {'relaxed' if relaxed else 'plain'}: {describe(schedule)}\n")
    golden("emitted.txt", "".join(lines))
