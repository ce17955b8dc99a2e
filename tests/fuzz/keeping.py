"""Random uses of a decoder's caches in a page, each compared with native onnxruntime.

python -m tests.fuzz.keeping 100:160      the walks of these seeds, of 60 runs each
"""

from __future__ import annotations

import sys

import numpy as np

from tests.browser.api_page import Api
from tests.browser.room_page import set_up
from tests.browser.test_keeping import follow, walk
from tests.support.browser import started

WAYS = ({"runOn": "auto"}, {"runOn": "worker"}, {"runOn": "auto", "numThreads": 1})


def main(arguments: list[str]) -> int:
    first, _, end = (arguments or ["100:120"])[0].partition(":")
    failed = 0
    with started() as lab:
        page = Api(lab.page(), lab.server)
        set_up(page)
        for seed in range(int(first), int(end or int(first) + 1)):
            moves = walk(np.random.default_rng(seed), 60, False)
            try:
                follow(page, moves, dict(WAYS[seed % len(WAYS)]))
            except Exception as error:
                failed += 1
                print(f"seed {seed}: {error}", flush=True)
    print(f"{failed} walks failed")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
