"""Runs cases on CPython: the compiler as it is, its kernels under wasmtime. The developers' quick oracle.

`run_local(cases)` yields an Outcome a case. Cases run in a child process, so that a hang or a crash
costs that case only.
"""

from __future__ import annotations

import multiprocessing as mp
import time
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from tests.conformance.cases import Case
from tests.conformance.outcome import Outcome, judge, placed, summary


def run_case(case: Case, debug: bool = False) -> Outcome:
    """One case through nnjit.runtime.local.LocalSession."""
    from nnjit.runtime.local import LocalSession

    start = time.perf_counter()
    known: dict[str, Any] = {}
    try:
        session = LocalSession(case.model_bytes())
        outputs = []
        for data in case.data_sets():
            result = session.run(data.inputs)
            outputs.append(
                [result[name] for name in data.outputs] if isinstance(result, dict) else list(result)
            )
        known = placed(session.placement() if hasattr(session, "placement") else [])
    except Exception as error:
        if debug:
            traceback.print_exc()
        elapsed = 1000 * (time.perf_counter() - start)
        code = getattr(error, "code", type(error).__name__)
        return Outcome(case.id, "error", summary(error), code, elapsed)
    return judge(case, outputs, ms=1000 * (time.perf_counter() - start), **known)


def work(cases: Sequence[Case], pipe: Connection) -> None:
    while (index := pipe.recv()) is not None:
        pipe.send(run_case(cases[index]))


class Worker:
    """A forked child that runs one case at a time; forked so that the cases need not be loaded again."""

    def __init__(self, cases: Sequence[Case]) -> None:
        context = mp.get_context("fork")
        self.pipe, child = context.Pipe()
        self.process = context.Process(target=work, args=(cases, child), daemon=True)
        self.process.start()
        child.close()
        self.index = -1
        self.since = 0.0

    def give(self, index: int) -> None:
        self.index, self.since = index, time.monotonic()
        self.pipe.send(index)

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def run_local(cases: Sequence[Case], jobs: int = 1, timeout: float = 60.0) -> Iterator[Outcome]:
    """Outcomes as they come (in order when jobs is 1). Seconds of `timeout` are for one case."""
    waiting = list(range(len(cases)))[::-1]
    workers = [Worker(cases) for _ in range(max(1, min(jobs, len(cases))))]
    try:
        for worker in workers:
            if waiting:
                worker.give(waiting.pop())
        while any(w.index >= 0 for w in workers):
            mp.connection.wait([w.pipe for w in workers if w.index >= 0], timeout=0.2)
            for place, worker in enumerate(workers):
                outcome = collect(worker, cases, timeout) if worker.index >= 0 else None
                if outcome is None:
                    continue
                yield outcome
                if outcome.status in ("crash", "timeout"):
                    worker.stop()
                    worker = workers[place] = Worker(cases)
                worker.index = -1
                if waiting:
                    worker.give(waiting.pop())
    finally:
        for worker in workers:
            worker.stop()


def collect(worker: Worker, cases: Sequence[Case], timeout: float) -> Outcome | None:
    """The outcome of the case a worker is at, None while it runs."""
    case = cases[worker.index]
    try:
        if worker.pipe.poll():
            result: Outcome = worker.pipe.recv()
            return result
    except EOFError:
        worker.process.join()
        return Outcome(case.id, "crash", f"the process ended with {worker.process.exitcode}")
    if time.monotonic() - worker.since > timeout:
        return Outcome(case.id, "timeout", f"no answer within {timeout:g} s")
    return None
