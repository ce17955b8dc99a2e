"""A stand that times many schedules of one kernel in Chromium, one thread, code as V8's optimising compiler makes it.

Takes a spec, gives for each schedule its time over that of the default, and what it cost to write and to compile. The
browser runs without V8's first compiler, so nothing has to be warmed up: a fresh module is as fast as it will be.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.steps import Schedule, ScheduleError
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.target import Target
from nnjit.tune.bench import Bench
from tests.bench.spaces import plain
from tests.support.browser import Lab, started

FLAGS = ("--js-flags=--no-liftoff --no-wasm-tier-up --no-wasm-lazy-compilation",)
TARGET = Target()


@dataclass(slots=True)
class Made:
    """A candidate's code: the same bytes have the same `key`. emit_ms: what writing it took here."""

    schedule: Schedule
    kernel: dict[str, Any]
    key: str
    emit_ms: float


class Stand:
    """`stand = Stand(page, spec, default)`, then `stand.make(schedule)` and `stand.times(made, ...)`."""

    def __init__(self, page: Any, spec: KernelSpec, default: Schedule) -> None:
        self.page, self.spec = page, spec
        self.bench = Bench(spec, TARGET, apply(spec, default).tiles, False)
        setup = self.bench.setup(default)
        self.default_ms: float = page.evaluate("(setup) => stand.open(setup)", plain(setup))

    def make(self, schedule: Schedule, keep: bool = False) -> Made | None:
        """None where the schedule does not fit the spec. keep: its panels are not the next one's too."""
        start = time.perf_counter()
        try:
            kernel, _ = self.bench.candidate(schedule)
        except ScheduleError:
            return None
        ms = 1e3 * (time.perf_counter() - start)
        if keep:
            self.bench.keep()
        digest = hashlib.sha256(kernel["module"])
        for pack in kernel["packs"]:
            digest.update(pack["module"])
        return Made(schedule, kernel, digest.hexdigest(), ms)

    def times(self, made: Sequence[Made], how: dict[str, float]) -> list[dict[str, Any]]:
        """For each candidate, in turn with the default, {ok, compileMs, testMs, base, mine}: ms a call, `rounds` pairs
        of samples of at least sampleMs; fewer for one beyond `hopeless` times the default's."""
        kernels = [plain(m.kernel) for m in made]
        found: list[dict[str, Any]] = self.page.evaluate("(given) => stand.times(...given)", [kernels, how])
        return found

    def final(self, made: Sequence[Made], how: dict[str, float]) -> list[list[float]]:
        """All candidates in turn, `rounds` samples of each, the order changing from round to round: ms a call."""
        kernels = [plain(m.kernel) for m in made]
        found: list[list[float]] = self.page.evaluate("(given) => stand.final(...given)", [kernels, how])
        return found


@contextmanager
def stands() -> Iterator[tuple[Lab, Any]]:
    """A browser and its page with the stand's code."""
    with started(FLAGS) as lab:
        page = lab.page()
        page.evaluate("async () => { window.stand = await import('/t/bench/claims/stand.js'); }")
        yield lab, page
