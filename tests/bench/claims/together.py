"""Several uses of one study at the same time, each with a browser, a server and processor cores of its own.

    python3 serve.py bench --claims together 3 live resnet-50 gpt2 start=drawn      two browsers of three cores
    python3 serve.py bench --claims together all live                               all at once, cores dealt out evenly

Takes the cores a browser, the study, models and ways to use them; those that find no cores wait. For a machine with
cores to spare: memory and the larger caches they share.
"""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import accumulate, product
from queue import SimpleQueue
from threading import Thread

from tests.bench.claims.live import MODELS


def commands(study: str, arguments: tuple[str, ...]) -> list[list[str]]:
    """The arguments of each use, one model and one value a key."""
    names = [a for a in arguments if "=" not in a] or list(MODELS)
    keys = [
        [f"{k}={v}" for v in vs.split(",")] for k, _, vs in (a.partition("=") for a in arguments if "=" in a)
    ]
    return [[study, name, *way] for name in names for way in product(*keys)]


def seats(cores: list[int], count: str, uses: int) -> list[set[int]]:
    """Sets of `count` cores each, or for "all" one for each use. ValueError if there are not enough."""
    if count == "all":
        each, more = divmod(len(cores), uses)
        sizes = [each + (i < more) for i in range(uses)]
    else:
        sizes = [int(count)] * (len(cores) // int(count))
    if not sizes or not all(sizes):
        raise ValueError(f"{len(cores)} cores are too few")
    ends = list(accumulate(sizes))
    return [set(cores[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def together(count: str, study: str, *arguments: str) -> int:
    uses = commands(study, arguments)
    free: SimpleQueue[set[int]] = SimpleQueue()
    for seat in seats(sorted(os.sched_getaffinity(0)), count, len(uses)):
        free.put(seat)
    codes = []

    def one(command: list[str], seat: set[int]) -> None:
        os.sched_setaffinity(0, seat)  # of this thread, and so of what it starts
        whole = [sys.executable, "-m", "tests.bench.claims.main", *command]
        codes.append(subprocess.run(whole, check=False).returncode)
        free.put(seat)

    threads = []
    for command in uses:
        threads.append(Thread(target=one, args=(command, free.get())))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return max(codes, default=0)
